//! *Lives here:* the words for what is known of a gateway that is followed while it runs.
//!
//! *Does not live here:* finding it out (`gatevisor_gateways::live`).

use gatevisor_gateways::inspect::ServiceReport;
use gatevisor_gateways::live::{LiveReport, LiveState};
use jiff::Timestamp;

use crate::units::span;

/// Returns for how long a gateway has been as it is, as words that follow the state's.
pub fn since(report: &ServiceReport) -> String {
    let since = report.live.as_ref().and_then(|live| live.since.as_ref()?.parse::<Timestamp>().ok());
    since.map_or_else(String::new, |since| {
        let seconds = Timestamp::now().duration_since(since).as_secs();
        format!(" for {}", span(u64::try_from(seconds).unwrap_or(0)))
    })
}

/// Returns why it is not known whether a gateway works that is to be followed.
pub fn unknown(report: &ServiceReport) -> Option<&str> {
    let live = report.live.as_ref().filter(|live| live.state == LiveState::Unknown)?;
    live.reason.as_deref()
}

/// Returns what is known of whether a gateway works.
pub fn words(live: &LiveReport) -> String {
    let evidence = live.evidence.as_ref().map_or_else(String::new, |evidence| format!(", by {evidence}"));
    let since = live.since.as_ref().map_or_else(String::new, |since| format!(", since {since}"));
    let reason = live.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    let status = live.status.as_ref().map_or_else(String::new, |status| format!("; it says: {status}"));
    format!("{}{evidence}{since}{reason}{status}", live.state.word())
}

/// Returns why the watcher of gateways ended a process of a gateway last.
pub fn ended(report: &ServiceReport) -> Option<String> {
    let ended = report.live_restart.as_ref()?;
    let place = ended.incident.as_ref().map_or_else(String::new, |place| format!("; see `{place}`"));
    Some(format!("{} because it did not respond: {}{place}", ended.at, ended.reason))
}
