//! *Lives here:* the check whether gateways and other services stay up.
//!
//! *Does not live here:* what their states mean (`gatevisor-client`, `crate::inspect`).

use gatevisor_client::status_view::StateName;

use super::facts::{Facts, ServiceFact};
use super::finding::{Check, Finding, Severity};
use super::mend::quote;
use super::slots::called;
use crate::inspect::State;
use crate::live::{LiveReport, LiveState};

/// Deaths after which a service counts as one that keeps dying.
const MANY: usize = 3;
/// Milliseconds within which they happen, where the supervisor does not count them in a row itself.
const WITHIN_MS: i64 = 60_000;

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    if !facts.supervision.is_supervised() {
        return;
    }
    for service in &facts.services {
        found.extend(state(facts, service));
    }
}

fn state(facts: &Facts, service: &ServiceFact) -> Option<Finding> {
    let name = called(service);
    let reason = service.report.reason.clone().unwrap_or_else(|| "nobody says why".to_owned());
    let deaths = in_a_row(facts, service);
    let cannot_start = || {
        let what = format!("{name} cannot be started");
        (Severity::Error, what, format!("{reason}; mend that first"), start(facts, service))
    };
    if let Some(held) = &service.report.port_held {
        return Some(taken(service, &name, held));
    }
    let (severity, what, why, mend) = match &service.observed.state {
        StateName::NotSupervised => return None,
        _ if service.report.state == State::Served => return None,
        StateName::Starting if service.observed.not_ready.is_some() => {
            (Severity::Warning, format!("{name} is not ready"), reason, look(facts, service))
        }
        _ if service.report.state == State::Failed => (
            Severity::Error,
            format!("{name} failed for good, and is not started again"),
            format!("{reason}; mend that first{}", log_hint(facts, service)),
            start(facts, service),
        ),
        StateName::FailedToStart { .. } => cannot_start(),
        _ if deaths >= MANY => (
            Severity::Error,
            format!("{name} keeps dying: {deaths} times in a row"),
            format!("{}; it is started again with growing pauses", last(service, &reason)),
            look(facts, service),
        ),
        _ if service.report.state == State::FailedToStart => cannot_start(),
        StateName::BackingOff { .. } => (
            Severity::Warning,
            format!("{name} has died and is started again shortly"),
            last(service, &reason),
            look(facts, service),
        ),
        StateName::Paused => (
            Severity::Warning,
            format!("{name} is paused"),
            "somebody sent it SIGSTOP through its supervisor".to_owned(),
            tool(facts, service, "-c"),
        ),
        _ if service.report.live.as_ref().is_some_and(LiveReport::is_trouble) => not_live(facts, service)?,
        StateName::Down if is_missed(facts, service) => (
            Severity::Warning,
            format!("{name} is down although it is wished running"),
            "its supervisor was told otherwise, by another program or with s6-svc".to_owned(),
            start(facts, service),
        ),
        _ => return None,
    };
    let mut finding = Finding::new(Check::Crash, severity, &what, &why).at(&service.path).mend(mend);
    finding.profile.clone_from(&service.observed.profile);
    Some(finding)
}

/// Returns what to do about a gateway whose port somebody else has: to start it again would help nothing.
fn taken(service: &ServiceFact, name: &str, held: &str) -> Finding {
    let what = format!("{name} cannot work: {held}");
    let why =
        "end that process if it should not run, or give one of the two another port, then start the gateway";
    let mend = match service.report.port_holder {
        Some(pid) => format!("ps -o pid,ppid,user,lstart,args -p {pid}"),
        None => "ss -ltnp".to_owned(),
    };
    let finding = Finding::new(Check::Crash, Severity::Error, &what, why).at(&service.path).mend(mend);
    match &service.observed.profile {
        Some(profile) => finding.of(profile),
        None => finding,
    }
}

/// What follows when a gateway does not respond, as its policy says.
const ENDED: &str = "it is ended and started again, unless the reason says otherwise";
const LEFT: &str = "nobody ends it, because its definition says `warn`";

/// Returns what is wrong with one that runs, and of which it is not known that it works.
fn not_live(facts: &Facts, service: &ServiceFact) -> Option<(Severity, String, String, String)> {
    let live = service.report.live.as_ref()?;
    let (name, why) = (called(service), live.reason.clone().unwrap_or_else(|| "nobody says why".to_owned()));
    Some(match live.state {
        LiveState::Unknown => (
            Severity::Warning,
            format!("{name} runs, and nobody knows whether it works"),
            why,
            look(facts, service),
        ),
        LiveState::Said(_) => (
            Severity::Error,
            format!("{name} runs, and does not respond"),
            format!("{why}; {}", if live.policy == "restart" { ENDED } else { LEFT }),
            restart(facts, service),
        ),
    })
}

/// Returns how often the service died in a row, or within a minute where the supervisor does not count.
fn in_a_row(facts: &Facts, service: &ServiceFact) -> usize {
    // The supervisor forgets them at the next death, and not before.
    if service.report.up && service.report.updownfor >= facts.stable_s {
        return 0;
    }
    if let Some(policy) = &service.observed.policy {
        return usize::try_from(policy.failures).unwrap_or(usize::MAX);
    }
    if facts.supervision.is_ours() {
        return 0;
    }
    let now = facts.now.to_unix_ms();
    let is_recent = |ms: i64| (0..=WITHIN_MS).contains(&now.saturating_sub(ms));
    let is_failure = |code: u8| !service.observed.restart_codes.contains(&code);
    let deaths = service.observed.deaths.iter();
    deaths.filter(|death| is_recent(death.at.to_unix_ms()) && is_failure(death.exit_code)).count()
}

/// Returns how it died last.
fn last(service: &ServiceFact, reason: &str) -> String {
    match service.report.deaths.first() {
        Some(death) => match &death.meaning {
            Some(meaning) => format!("the last time {}: {meaning}", death.how("with ", "by ")),
            None => format!("the last time {}", death.how("with ", "by ")),
        },
        None => reason.to_owned(),
    }
}

fn is_missed(facts: &Facts, service: &ServiceFact) -> bool {
    let name = service.observed.profile.as_ref();
    // Wishes are kept where the gateways run.
    let is_here = !facts.supervision.elsewhere && !facts.supervision.without_gateways;
    is_here
        && !service.report.wantedup
        && facts.profiles.iter().any(|p| Some(&p.name) == name && p.is_wished())
}

fn start(facts: &Facts, service: &ServiceFact) -> String {
    match &service.observed.profile {
        Some(name) => facts.caller.about(&["gateway", "start"], name),
        None => tool(facts, service, "-u"),
    }
}

fn restart(facts: &Facts, service: &ServiceFact) -> String {
    match &service.observed.profile {
        Some(name) => facts.caller.about(&["gateway", "restart"], name),
        None => tool(facts, service, "-r"),
    }
}

/// Returns what shows why it died, which is the only thing that leads on.
fn look(facts: &Facts, service: &ServiceFact) -> String {
    match &service.observed.profile {
        Some(name) => facts.caller.about(&["logs", "-n", "50"], name),
        None => format!("{} s6 s6-svdt {}", facts.caller.program(), quote(&service.path)),
    }
}

fn log_hint(facts: &Facts, service: &ServiceFact) -> String {
    let name = service.observed.profile.as_ref();
    name.map_or_else(String::new, |name| {
        format!(" (`{}` shows its last words)", facts.caller.about(&["logs"], name))
    })
}

fn tool(facts: &Facts, service: &ServiceFact, option: &str) -> String {
    format!("{} s6 s6-svc {option} {}", facts.caller.program(), quote(&service.path))
}
