//! *Lives here:* the cause that the last lines of a gateway name, by phrases that many programs
//! use.
//!
//! *Does not live here:* reading logs; the meaning of exit codes.
//!
//! A line shows only what the program reported, so such a cause always quotes the line.

use crate::explain::cause::Cause;
use crate::explain::kind::CauseKind;
use crate::explain::subject::Subject;

/// Phrases of programs in lower case, and their meanings. The first matching row counts.
const SAID: [(CauseKind, &[&str]); 4] = [
    (
        CauseKind::PortTaken,
        &[
            "address already in use",
            "address in use",
            "eaddrinuse",
            "port is already in use",
            "already listening on",
            "errno 98",
        ],
    ),
    (CauseKind::DiskFull, &["no space left on device", "enospc", "disk quota exceeded", "errno 28"]),
    (CauseKind::ServedByAnother, &["does not get a gateway of its own"]),
    (
        CauseKind::KeyRefused,
        &[
            "401 unauthorized",
            "unauthorized",
            "invalid api key",
            "invalid_api_key",
            "incorrect api key",
            "invalid token",
            "invalid bot token",
            "token is invalid",
            "authentication failed",
            "authentication_error",
            "api key is missing",
            "missing api key",
        ],
    ),
];

/// Returns the cause that the last lines name, if they name one.
pub(super) fn cause(subject: &Subject) -> Option<Cause> {
    let (kind, line) =
        SAID.iter().find_map(|(kind, phrases)| Some((*kind, said(&subject.printed, phrases)?)))?;
    let what = match kind {
        CauseKind::PortTaken => "a port that it needs was another process's".to_owned(),
        CauseKind::DiskFull => "it found no room on a disk".to_owned(),
        CauseKind::ServedByAnother => "it ended because another profile's gateway serves it".to_owned(),
        _ => "it says that a key or token was not accepted".to_owned(),
    };
    Some(Cause::new(kind, what, format!("it printed: {line}")))
}

/// Returns the last line that contains one of these phrases.
fn said<'a>(lines: &'a [String], phrases: &[&str]) -> Option<&'a str> {
    let holds = |line: &&String| {
        let line = line.to_ascii_lowercase();
        phrases.iter().any(|phrase| line.contains(phrase))
    };
    lines.iter().rev().find(holds).map(String::as_str)
}
