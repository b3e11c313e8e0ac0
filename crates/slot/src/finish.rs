//! The `finish` interpreter: tells the supervisor whether a death is final.
//!
//! *Lives here:* the exit codes that mean "do not try again".
//! *Does not live here:* the supervisor's reaction.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use gatevisor_wire::exit::{Exit, FINISH_PERMANENT};
use gatevisor_wire::fail_code::FailCode;
use rustix::fs::CWD;
use rustix::io::Errno;

use crate::os;

/// The exit codes of a permanent failure without a `data/fail-codes`: `EX_CONFIG`.
const DEFAULT_FAIL_CODES: &[u8] = b"78";
/// The most bytes of `data/fail-codes` that are read.
const MAX_BYTES: usize = 1024;

/// Runs `finish` for the service directory that is the working directory, and returns its exit
/// code.
///
/// `args` are the script's path and the supervisor's arguments: the exit code of `run` (256 if it
/// was killed), the signal, and more. The code is 125 if `data/fail-codes` (exit codes separated by
/// blanks; `78` without the file) lists it, and 0 otherwise. A code that is final only after
/// several failures, such as `78*10`, is not final here: nothing tells this process how often the
/// service has failed.
pub fn run_finish(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Some(code) = args.into_iter().nth(1) else {
        os::say("gatevisor: finish: usage: gatevisor finish SCRIPT EXIT-CODE …; a supervisor calls this");
        return Exit::Usage.into();
    };
    let mut buffer = [0; MAX_BYTES];
    let listed = match gatevisor_sys::file::read_small(CWD, c"data/fail-codes", &mut buffer) {
        Ok(bytes) => is_listed(code.as_bytes(), bytes),
        Err(Errno::NOENT) => is_listed(code.as_bytes(), DEFAULT_FAIL_CODES),
        Err(errno) => {
            os::say(&format!(
                "gatevisor: finish: cannot read data/fail-codes: {}; taking 78 for permanent",
                os::words(errno)
            ));
            is_listed(code.as_bytes(), DEFAULT_FAIL_CODES)
        }
    };
    ExitCode::from(if listed { FINISH_PERMANENT } else { 0 })
}

/// Returns whether `list` says that the first death with this code is the last. Words that are not
/// exit codes match nothing.
fn is_listed(code: &[u8], list: &[u8]) -> bool {
    let code = gatevisor_wire::number::parse(code).and_then(|code| u8::try_from(code).ok());
    let mut listed = list.split(u8::is_ascii_whitespace).filter_map(FailCode::parse);
    let first = code.and_then(|code| listed.find(|one| one.code == code));
    first.is_some_and(FailCode::is_at_once)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_permanent_if_it_is_listed() {
        for (code, list, listed) in [
            ("78", "78", true),
            ("78", " 1  78\n", true),
            ("0", "78", false),
            ("7", "78", false),
            ("256", "78", false),
            ("256", "256", false),
            ("78", "78*1", true),
            ("78", "0 78*10", false),
            ("0", "0 78*10", true),
            ("1", "", false),
            ("1", "x 1", true),
            ("x", "x", false),
            ("", "", false),
        ] {
            assert_eq!(is_listed(code.as_bytes(), list.as_bytes()), listed, "{code:?} in {list:?}");
        }
    }
}
