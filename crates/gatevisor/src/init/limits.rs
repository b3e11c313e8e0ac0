//! Numbers that the container's environment may set.
//!
//! *Lives here:* reading them, and the defaults if one is missing or makes no sense, which is
//! reported.
//! *Does not live here:* their use.

use std::time::Duration;

use gatevisor_boot::environment::{self, Variable};
use gatevisor_init::ServiceLimits;

use crate::out;

/// The variable for the seconds from the request to stop until everything is killed.
const GRACE_VARIABLE: &str = "GATEVISOR_GRACE";
/// An engine kills the container ten seconds after its request, and the last steps need some of
/// these.
const GRACE_MS: u64 = 8000;
/// The variable for the seconds that each of the agent's steps of the boot may take; 0 means no
/// limit.
pub(super) const STEP_VARIABLE: &str = "GATEVISOR_STEP_TIMEOUT";
/// Bringing a home up to date after an upgrade takes minutes on a slow disk.
const STEP_MS: u64 = 300_000;
/// The variable for the number of services that a user may have.
const SERVICES_VARIABLE: &str = "GATEVISOR_MAX_SERVICES";

pub(super) fn max_services(variables: &[Variable]) -> usize {
    let default = ServiceLimits::default().of_one_owner;
    asked(variables, SERVICES_VARIABLE, default, &format!("number, so it is {default}"), |value| {
        value.parse().ok()
    })
}

pub(super) fn grace_ms(variables: &[Variable]) -> u64 {
    let otherwise = format!("number of seconds, so it is {GRACE_MS} ms");
    asked(variables, GRACE_VARIABLE, GRACE_MS, &otherwise, milliseconds)
}

/// Returns how long a step of the agent's may take, because the agent must not hold up the boot for
/// ever.
pub(super) fn of_a_step(variables: &[Variable]) -> Option<Duration> {
    let default = Duration::from_millis(STEP_MS);
    let otherwise = format!("number of seconds, so it is {} s", default.as_secs());
    asked(variables, STEP_VARIABLE, Some(default), &otherwise, |value| match value {
        "0" => Some(None),
        seconds => milliseconds(seconds).map(|ms| Some(Duration::from_millis(ms))),
    })
}

/// Returns the value of a variable, or the default if it is not set or is not valid.
fn asked<T>(
    variables: &[Variable],
    name: &str,
    default: T,
    no: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> T {
    let Some(value) = environment::get(variables, name).filter(|value| !value.is_empty()) else {
        return default;
    };
    value.to_str().and_then(parse).unwrap_or_else(|| {
        out::warn(&format!("{name} is no {no}"));
        default
    })
}

/// Returns a number of seconds, with up to three digits after a point, in milliseconds.
fn milliseconds(seconds: &str) -> Option<u64> {
    let (whole, part) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 3 {
        return None;
    }
    let part: u64 = format!("{part:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(part).filter(|ms| *ms > 0)
}

#[cfg(test)]
mod tests {
    use super::milliseconds;

    #[test]
    fn a_grace_is_a_number_of_seconds() {
        for (text, expected) in
            [("8", Some(8000)), ("7.5", Some(7500)), ("0.05", Some(50)), ("60", Some(60_000))]
        {
            assert_eq!(milliseconds(text), expected, "{text}");
        }
        for wrong in ["", "0", "0.0", "-1", "1.", ".5", "1.2345", "8s", "1e3", "99999999999999999999"] {
            assert_eq!(milliseconds(wrong), None, "{wrong}");
        }
    }
}
