//! *Lives here:* why a command was never executed, according to the line that the interpreter of
//! `run` leaves.
//!
//! *Does not live here:* that line itself (`gatevisor-slot`).

use gatevisor_wire::exit::{COMMAND_NOT_REACHED, Exit};

use crate::explain::cause::Cause;
use crate::explain::kind::CauseKind;
use crate::explain::subject::Subject;

/// Exit codes of the interpreter.
///
/// **Source:** POSIX `sh`.
const NOT_FOUND: u8 = Exit::NotFound.code();
const CANNOT_EXECUTE: u8 = Exit::NotExecutable.code();

/// Returns the cause if the last start failed before the command.
pub(super) fn cause(subject: &Subject) -> Option<Cause> {
    let service = subject.service()?;
    let last = service.observed.deaths.last()?;
    let code = last.how().exit_code().filter(|code| COMMAND_NOT_REACHED.contains(code));
    let refused = service.observed.policy.as_ref().and_then(|policy| policy.reason.as_deref());
    match (code, &service.observed.start_error) {
        (Some(code), Some(line)) => Some(of_line(code, line)),
        // Without that line, it is unknown whether the interpreter ended with this code or the
        // command did.
        (Some(NOT_FOUND | CANNOT_EXECUTE), None) | (None, Some(_) | None) => None,
        (Some(_), None) => refused.map(|reason| of_line(0, reason)),
    }
}

/// Returns the cause if `run` itself could not be executed. `reason` is the supervisor's.
pub(super) fn of_run(reason: &str) -> Cause {
    of_line(0, reason)
}

fn of_line(code: u8, line: &str) -> Cause {
    let small = line.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| small.contains(word));
    let (kind, what) = if has(&["line ends of windows", "byte-order mark", "bad interpreter"]) {
        (CauseKind::WindowsText, "a file of its service directory was spoiled by an editor")
    } else if has(&["nul byte", "is not set; set it"]) {
        (
            CauseKind::EnvironmentBad,
            "its environment lacks or holds something that its command cannot do with",
        )
    } else if code == NOT_FOUND {
        (CauseKind::CommandMissing, "its command does not exist, or the interpreter in its first line")
    } else if code == CANNOT_EXECUTE || has(&["permission denied", "errno 13"]) {
        (CauseKind::PermissionDenied, "it may not be executed by the user whom it runs as")
    } else {
        (CauseKind::CannotStart, "a step before its command failed")
    };
    Cause::new(kind, what, line)
}
