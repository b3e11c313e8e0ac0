//! *Lives here:* the check whether gateways and other services stay up.
//!
//! *Does not live here:* deciding what the problem is (`problem`).

use super::slots::called;
use crate::commands::quote;
use crate::facts::{Facts, ServiceFact};
use crate::finding::{Check, Finding, Severity};
use crate::problem::{self, ServiceProblem};
use gatevisor_gateways::live::{LiveReport, LiveState};

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    if !facts.supervision.is_supervised() {
        return;
    }
    for service in &facts.services {
        found.extend(state(facts, service));
    }
}

fn state(facts: &Facts, service: &ServiceFact) -> Option<Finding> {
    let problem = problem::of(facts, service)?;
    let mut finding = match problem {
        ServiceProblem::PortTaken => return Some(taken(service, &called(service))),
        ServiceProblem::Unserved => return Some(unserved(facts, service)),
        _ => {
            let told = if problem.is_of_the_past() { of_the_past } else { of_the_present };
            let (severity, what, why, fix) = told(facts, service, problem)?;
            Finding::new(Check::Crash, severity, &what, &why).at(&service.path).fix(fix)
        }
    };
    let lines = service.report.lines;
    finding.lines = if problem.is_of_the_past() { lines.since_ended() } else { lines.latest() };
    finding.profile.clone_from(&service.observed.profile);
    Some(finding)
}

/// What is told of a problem: how bad it is, what is wrong, why, and the command that fixes it.
type DeathTexts = (Severity, String, String, String);

/// Returns what is told of a problem with runs that have ended.
fn of_the_past(facts: &Facts, service: &ServiceFact, problem: ServiceProblem) -> Option<DeathTexts> {
    let name = called(service);
    let reason = reason(service);
    Some(match problem {
        ServiceProblem::Failed => (
            Severity::Error,
            format!("{name} failed for good, and is not started again"),
            format!("{reason}; fix that first{}", log_hint(facts, service)),
            start(facts, service),
        ),
        ServiceProblem::CannotStart => (
            Severity::Error,
            format!("{name} cannot be started"),
            format!("{reason}; fix that first"),
            start(facts, service),
        ),
        ServiceProblem::KeepsDying(times) => (
            Severity::Error,
            format!("{name} keeps dying: {times} times in a row"),
            format!("{}; it is started again with growing pauses", last(service, &reason)),
            look(facts, service),
        ),
        ServiceProblem::HasDied => (
            Severity::Warning,
            format!("{name} has died and is started again shortly"),
            last(service, &reason),
            look(facts, service),
        ),
        ServiceProblem::AsksTooOften => (
            Severity::Warning,
            format!("{name} asks for a restart again and again"),
            "it is started again with growing pauses, until it has run for longer".to_owned(),
            look(facts, service),
        ),
        ServiceProblem::Missed => (
            Severity::Warning,
            format!("{name} is down although it is desired running"),
            if problem::is_kept_by_down_file(service) {
                problem::DOWN_FILE.to_owned()
            } else {
                "its supervisor was told otherwise, and nothing records by whom".to_owned()
            },
            start(facts, service),
        ),
        _ => return None,
    })
}

/// Returns what is told of a problem with the present run.
fn of_the_present(facts: &Facts, service: &ServiceFact, problem: ServiceProblem) -> Option<DeathTexts> {
    let (name, report) = (called(service), &service.report);
    Some(match problem {
        ServiceProblem::NotReady => {
            (Severity::Warning, format!("{name} is not ready"), reason(service), look(facts, service))
        }
        ServiceProblem::Paused => (
            Severity::Warning,
            format!("{name} is paused"),
            "somebody sent it SIGSTOP through its supervisor".to_owned(),
            tool(facts, service, "-c"),
        ),
        ServiceProblem::NotLive => return not_live(facts, service),
        ServiceProblem::Stopped => (
            Severity::Error,
            format!("{name} does nothing: {}", report.reason.as_deref().unwrap_or("nobody says why")),
            "its supervisor did not send the signal, and does not know of it".to_owned(),
            tool(facts, service, "-c"),
        ),
        ServiceProblem::Degraded => (
            Severity::Warning,
            format!("{name} works, and says itself that something is wrong"),
            reason(service),
            look(facts, service),
        ),
        ServiceProblem::NeverReady => (
            Severity::Warning,
            format!("{name} has not said in {} s that it is ready", report.updownfor.unwrap_or(0)),
            "its command runs, and nothing has said that it is ready".to_owned(),
            look(facts, service),
        ),
        ServiceProblem::MayNotWork => (
            Severity::Note,
            format!("{name} may not work"),
            report.live.as_ref().and_then(LiveReport::missed)?,
            look(facts, service),
        ),
        _ => return None,
    })
}

/// Returns the reason for its state, or how it last ended.
fn reason(service: &ServiceFact) -> String {
    service.report.reason.clone().unwrap_or_else(|| last(service, "nobody says why"))
}

/// Returns the finding about a profile that shall run and that no gateway serves.
fn unserved(facts: &Facts, service: &ServiceFact) -> Finding {
    let profile = service.observed.profile.as_ref();
    let name = profile.map_or_else(|| service.observed.service.clone(), ToString::to_string);
    let what = format!("nobody serves {name} although it is desired running");
    let why = service.report.reason.clone().unwrap_or_else(|| "nobody says why".to_owned());
    let mut finding = Finding::new(Check::Topology, Severity::Error, &what, &why);
    finding.profile = profile.cloned();
    finding.at(&service.path).fix(start(facts, service))
}

/// Returns the remedy for a gateway whose port another process has. Starting the gateway again
/// would not help.
fn taken(service: &ServiceFact, name: &str) -> Finding {
    let held = service.report.port_held.as_deref().unwrap_or("its port is held by another process");
    let how = if service.report.is_up() { "runs without its port" } else { "cannot work" };
    let what = format!("{name} {how}: {held}");
    let why =
        "end that process if it should not run, or give one of the two another port, then start the gateway";
    let fix = match service.report.port_holder {
        Some(pid) => format!("ps -o pid,ppid,user,lstart,args -p {pid}"),
        None => "ss -ltnp".to_owned(),
    };
    let finding = Finding::new(Check::Crash, Severity::Error, &what, why).at(&service.path).fix(fix);
    let finding = finding.said(service.report.lines.latest());
    match &service.observed.profile {
        Some(profile) => finding.of(profile),
        None => finding,
    }
}

/// What happens if a gateway does not respond, according to its policy.
const ENDED: &str = "it is ended and started again, unless the reason says otherwise";
const LEFT: &str = "nobody ends it, because its definition says `warn`";

/// Returns the problem of a gateway that runs but is not known to work.
fn not_live(facts: &Facts, service: &ServiceFact) -> Option<DeathTexts> {
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

/// Returns how its last process ended.
fn last(service: &ServiceFact, reason: &str) -> String {
    match service.report.deaths().first() {
        Some(death) => match &death.meaning {
            Some(meaning) => format!("the last time {}: {meaning}", death.how("with ", "by ")),
            None => format!("the last time {}", death.how("with ", "by ")),
        },
        None => reason.to_owned(),
    }
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

/// Returns the command that shows why it died, which is the only useful next step.
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
