//! *Lives here:* the words for the liveness of a gateway.
//!
//! *Does not live here:* finding it out (`gatevisor_gateways::live`).

use gatevisor_gateways::drain::DrainReport;
use gatevisor_gateways::inspect::ServiceReport;
use gatevisor_gateways::live::LiveReport;
use gatevisor_gateways::ticket::TicketReport;
use jiff::Timestamp;

use crate::units::{span, turns_words};

/// Returns how long a gateway has been in its state, as words after the state's.
pub fn since(report: &ServiceReport) -> String {
    // The watcher may not know yet what is seen here.
    let live = report.live.as_ref().filter(|live| live.state.word() == report.state.words());
    let since = live.and_then(|live| live.since.as_ref()?.parse::<Timestamp>().ok());
    since.map_or_else(String::new, |since| {
        let seconds = Timestamp::now().duration_since(since).as_secs();
        format!(" for {}", span(u64::try_from(seconds).unwrap_or(0)))
    })
}

/// Returns how far the drain in progress has come.
pub fn draining(report: &ServiceReport) -> String {
    let word = report.state.words();
    let Some(drain) = &report.drain else { return word.to_owned() };
    let Some(left) = drain.left_ms.map(|ms| span(ms.div_ceil(1000))) else { return word.to_owned() };
    match (&*drain.stage, drain.turns) {
        ("asked", _) => format!("{word}, asked to, {left}"),
        ("idle", _) => format!("{word}, idle, {left}"),
        (_, Some(turns)) => format!("{word}, {} left, {left}", turns_words(turns)),
        (_, None) => format!("{word}, {left}"),
    }
}

/// Returns what is known of a gateway while it runs, each with its name.
pub fn details(report: &ServiceReport) -> impl Iterator<Item = (&'static str, String)> {
    let all = [
        ("live", report.live.as_ref().map(words)),
        ("port", report.port_held.clone().filter(|_| report.is_up())),
        ("drain", report.drain.as_ref().map(drained_by)),
        (asked_name(report), report.asked_restart.as_ref().map(asked_restart)),
        ("ended", ended(report)),
    ];
    all.into_iter().filter_map(|(name, words)| Some((name, words?)))
}

fn asked_name(report: &ServiceReport) -> &'static str {
    let is_daily = report.asked_restart.as_ref().is_some_and(|ticket| ticket.scheduled.is_some());
    if is_daily { "scheduled" } else { "asked" }
}

/// Returns who drains it, until when and for what.
fn drained_by(drain: &DrainReport) -> String {
    match &drain.until {
        Some(until) => format!("{}, until {until} at the most, then {}", drain.by, drain.then),
        None => format!("{}, until somebody ends that", drain.by),
    }
}

/// Returns what a gateway last asked for, if that was its own restart.
fn asked_restart(ticket: &TicketReport) -> String {
    let outcome = ticket.outcome.as_ref().map_or_else(String::new, |outcome| format!("; {outcome}"));
    format!("{} {}{outcome}", ticket.asked_at, ticket.words())
}

/// Returns why it is unknown whether a followed gateway works.
pub fn unknown(report: &ServiceReport) -> Option<&str> {
    let live = report.live.as_ref().filter(|live| live.is_unknown())?;
    live.reason.as_deref()
}

/// Returns the words for whether a gateway works.
fn words(live: &LiveReport) -> String {
    let evidence = match &live.evidence {
        Some(evidence) if live.is_by_evidence() => format!(", by {evidence}"),
        Some(evidence) => format!(", without evidence by {evidence}"),
        None => String::new(),
    };
    let since = live.since.as_ref().map_or_else(String::new, |since| format!(", since {since}"));
    let reason = live.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    let status = live.status.as_ref().map_or_else(String::new, |status| format!("; it says: {status}"));
    format!("{}{evidence}{since}{reason}{status}", live.state.word())
}

/// Returns why the watcher of gateways last ended a process of a gateway.
fn ended(report: &ServiceReport) -> Option<String> {
    let ended = report.live_restart.as_ref()?;
    let place = ended.incident.as_ref().map_or_else(String::new, |place| format!("; see `{place}`"));
    Some(format!("{} because it did not respond: {}{place}", ended.at, ended.reason))
}
