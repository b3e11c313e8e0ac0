//! *Lives here:* the one or two commands to run next for a cause. None of them ends a process that
//! is not known to be this gateway's.
//!
//! *Does not live here:* the remedies of other findings (`crate::doctor`).

use super::cause::Cause;
use super::kind::CauseKind;
use super::subject::Subject;
use crate::commands::{TAKE_OVER, quote};
use crate::facts::Presence;
use crate::{Check, Finding};

/// The most commands, so that the page stays short.
const MOST: usize = 2;

/// Returns the commands in order.
pub(super) fn commands(subject: &Subject, causes: &[Cause], findings: &[Finding]) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for cause in causes {
        for command in of(subject, cause.cause, findings) {
            if commands.len() < MOST && !commands.contains(&command) {
                commands.push(command);
            }
        }
    }
    commands
}

/// Returns the remedy if another profile's gateway serves the profile, or should.
fn of_served(subject: &Subject) -> Vec<String> {
    let caller = &subject.facts.caller;
    let (verb, name) = subject.served_by.as_ref().map_or(("start", &subject.name), |by| ("status", by));
    vec![caller.about(&["gateway", verb], name)]
}

/// Returns the commands that give the home a supervisor. A supervisor that has lost its scandir
/// must end first.
fn supervised_again(subject: &Subject) -> Vec<String> {
    let caller = &subject.facts.caller;
    if subject.facts.supervision.presence == Presence::Booting {
        return Vec::new();
    }
    if subject.facts.units_that_run().next().is_some() {
        return vec![caller.command(TAKE_OVER)];
    }
    let is_lost = subject.facts.supervision.lost.is_some();
    let verbs = if is_lost { &["down", "up"][..] } else { &["up"] };
    verbs.iter().map(|verb| caller.command([*verb])).collect()
}

fn of(subject: &Subject, kind: CauseKind, findings: &[Finding]) -> Vec<String> {
    let caller = &subject.facts.caller;
    let about = |verbs: &[&str]| caller.about(verbs, &subject.name);
    let (start, logs) = (|| about(&["gateway", "start"]), || about(&["logs", "-n", "50"]));
    // The remedy of a finding is defined in one place.
    let fix = |check: Check| {
        findings.iter().filter(|found| found.check == check).filter_map(|found| found.fix.clone()).collect()
    };
    let tool = |option: &str| {
        let path = subject.service().map(|service| quote(&service.path)).unwrap_or_default();
        format!("{} s6 s6-svc {option} {path}", caller.program())
    };
    match kind {
        CauseKind::Draining => vec![about(&["gateway", "drain", "--cancel"])],
        CauseKind::Well
        | CauseKind::NotAllowedToLook
        | CauseKind::RunsElsewhere
        | CauseKind::NoGatewaysHere
        | CauseKind::BackOff
        | CauseKind::EndingLeftovers
        | CauseKind::Queued
        | CauseKind::AskedForHandoff
        | CauseKind::Commanded
        | CauseKind::Stopping
        | CauseKind::FinishRuns => Vec::new(),
        CauseKind::ServedByAnother => of_served(subject),
        CauseKind::Orphan | CauseKind::NoSupervisor => supervised_again(subject),
        CauseKind::StoppedOnPurpose
        | CauseKind::StoppedByAnother
        | CauseKind::StoppedByUnknown
        | CauseKind::NeverAsked
        | CauseKind::DownFile
        | CauseKind::ToldDown
        | CauseKind::CommandMissing
        | CauseKind::PermissionDenied
        | CauseKind::WindowsText
        | CauseKind::EnvironmentBad
        | CauseKind::CannotStart => vec![start()],
        CauseKind::LockLost | CauseKind::SupervisorStopped => fix(Check::Supervisor),
        CauseKind::DesiredUnreadable | CauseKind::Drift => kind.check().map(fix).unwrap_or_default(),
        CauseKind::RunsThoughStopped => vec![start(), about(&["gateway", "stop"])],
        CauseKind::NotRegistered if subject.is_wanted() => vec![start()],
        CauseKind::NotRegistered => vec![about(&["gateway", "register"])],
        CauseKind::ProfileGone | CauseKind::Refused | CauseKind::NotTaken => fix(Check::Slot),
        CauseKind::Paused | CauseKind::PortNotOwn => fix(Check::Crash),
        CauseKind::PortTaken if subject.report().is_some_and(|report| report.port_held.is_some()) => {
            fix(Check::Crash)
        }
        // Its supervisor knows the process, even if the number has changed meanwhile.
        CauseKind::Frozen => vec![tool("-c"), about(&["gateway", "restart"])],
        CauseKind::Unresponsive => vec![about(&["incidents", "--collect"]), about(&["gateway", "restart"])],
        CauseKind::EndedAsUnresponsive => vec![about(&["incidents"])],
        CauseKind::Traced | CauseKind::Degraded | CauseKind::NotReadyYet => vec![logs()],
        CauseKind::NotWatched => vec![caller.command(["doctor"])],
        CauseKind::DiskFull => fix(Check::Disk),
        CauseKind::NotLogged => fix(Check::Log),
        CauseKind::OlderThanDefinition => {
            vec![caller.command(["reload", "--restart", subject.name.as_str()])]
        }
        CauseKind::Killed | CauseKind::OutOfMemory if subject.is_up() => vec![logs()],
        CauseKind::Killed
        | CauseKind::OutOfMemory
        | CauseKind::Crashed
        | CauseKind::PortTaken
        | CauseKind::KeyRefused
        | CauseKind::FailedForGood
        | CauseKind::KeepsDying
        | CauseKind::EndedAtOnce
        | CauseKind::Died => vec![logs(), start()],
    }
}
