//! *Lives here:* how the words of the command line say a time.
//!
//! *Does not live here:* the options that take one (`super`).

use std::time::Duration;

use clap::builder::TypedValueParser;

/// Returns what reads a time of whole seconds.
pub(super) fn seconds() -> impl TypedValueParser<Value = Duration> {
    clap::value_parser!(u32).map(|seconds| Duration::from_secs(seconds.into()))
}

/// Returns a time of seconds, which may have a fraction.
pub(super) fn window(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|_| "a number of seconds is expected".to_owned())?;
    let longest = Duration::from_hours(1);
    let window = Duration::try_from_secs_f64(seconds).ok().filter(|window| *window <= longest);
    window.ok_or_else(|| "0 to 3600 seconds are possible".to_owned())
}

/// Returns a time of at most a day, with a unit or in seconds.
pub(super) fn limit(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<u32>().ok().map(|seconds| Duration::from_secs(seconds.into()));
    let with_unit =
        || text.parse::<jiff::SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    let limit =
        seconds.or_else(with_unit).ok_or_else(|| "a time such as `90s` or `10m` is expected".to_owned())?;
    let is_possible = (Duration::from_secs(1)..=Duration::from_hours(24)).contains(&limit);
    if is_possible { Ok(limit) } else { Err("`1s` to `24h` are possible".to_owned()) }
}
