//! *Lives here:* the one or two commands that lead on from a cause. None of them ends what is not known to be this gateway's.
//!
//! *Does not live here:* what fixes other findings (`crate::doctor`).

use super::causes::Cause;
use super::kind::Kind;
use super::subject::Subject;
use crate::doctor::fix::quote;
use crate::doctor::{Check, Finding};

/// Commands at the most: a page is not a manual.
const MOST: usize = 2;

/// Returns what to do, in this order.
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

fn of(subject: &Subject, kind: Kind, findings: &[Finding]) -> Vec<String> {
    let caller = &subject.facts.caller;
    let about = |verbs: &[&str]| caller.about(verbs, &subject.name);
    // What fixes a finding is said in one place.
    let fix = |check: Check| {
        findings.iter().filter(|found| found.check == check).filter_map(|found| found.fix.clone()).collect()
    };
    let tool = |option: &str| {
        let path = subject.service().map(|service| quote(&service.path)).unwrap_or_default();
        format!("{} s6 s6-svc {option} {path}", caller.program())
    };
    match kind {
        Kind::Well | Kind::NotAllowedToLook | Kind::RunsElsewhere | Kind::NoGatewaysHere => Vec::new(),
        Kind::BackOff | Kind::EndingLeftovers | Kind::Commanded | Kind::Stopping | Kind::FinishRuns => {
            Vec::new()
        }
        Kind::ServedByAnother => {
            let server = subject.served_by.as_ref();
            server.map(|server| caller.about(&["gateway", "status"], server)).into_iter().collect()
        }
        Kind::Orphan | Kind::NoSupervisor => vec![caller.command(["up"])],
        Kind::StoppedOnPurpose
        | Kind::StoppedByAnother
        | Kind::NeverAsked
        | Kind::DownFile
        | Kind::ToldDown => {
            vec![about(&["gateway", "start"])]
        }
        Kind::LockLost => fix(Check::Supervisor),
        Kind::DesiredUnreadable => fix(Check::DesiredState),
        Kind::RunsThoughStopped => vec![about(&["gateway", "start"]), about(&["gateway", "stop"])],
        Kind::NotRegistered if subject.is_wanted() => vec![about(&["gateway", "start"])],
        Kind::NotRegistered => vec![about(&["gateway", "register"])],
        Kind::ProfileGone | Kind::Refused | Kind::NotTaken => fix(Check::Slot),
        Kind::Paused => fix(Check::Crash),
        Kind::PortTaken if subject.report().is_some_and(|report| report.port_held.is_some()) => {
            fix(Check::Crash)
        }
        // Its supervisor knows which process is meant, whatever number it has by then.
        Kind::Frozen => vec![tool("-c"), about(&["gateway", "restart"])],
        Kind::Unresponsive => vec![about(&["incidents", "--collect"]), about(&["gateway", "restart"])],
        Kind::EndedAsUnresponsive => vec![about(&["incidents"])],
        Kind::Traced | Kind::NotReadyYet => vec![about(&["logs", "-n", "50"])],
        Kind::DiskFull => fix(Check::Disk),
        Kind::NotLogged => fix(Check::Log),
        Kind::OlderThanDefinition => vec![caller.command(["reload", "--restart", subject.name.as_str()])],
        Kind::Killed | Kind::OutOfMemory if subject.is_up() => vec![about(&["logs", "-n", "50"])],
        Kind::Killed
        | Kind::OutOfMemory
        | Kind::Crashed
        | Kind::PortTaken
        | Kind::KeyRefused
        | Kind::FailedForGood
        | Kind::KeepsDying
        | Kind::EndedAtOnce
        | Kind::Died => {
            vec![about(&["logs", "-n", "50"]), about(&["gateway", "start"])]
        }
        Kind::CommandMissing
        | Kind::PermissionDenied
        | Kind::WindowsText
        | Kind::EnvironmentBad
        | Kind::CannotStart => vec![about(&["gateway", "start"])],
    }
}
