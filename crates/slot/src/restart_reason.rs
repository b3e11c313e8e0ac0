//! Passing the reason of a restart to the started process.
//!
//! *Lives here:* leaving the reason before a restart, and taking it at the next start. *Does not
//! live here:* restarting a service, and the words of a reason.
//!
//! *May depend on it:* whoever restarts services, to leave a reason.
//!
//! A command that restarts a service first leaves the reason in `data/`. The next start takes it
//! away, so only one process receives it. If there is no reason, the last death tells whether the
//! service itself asked.

use std::ffi::OsString;
use std::path::Path;

use gatevisor_paths::by_path;
use gatevisor_sys::{environment, file};
use gatevisor_wire::files::{DEATH_TALLY, POLICY};
use gatevisor_wire::policy::PublishedPolicy;
use gatevisor_wire::tally;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, unlinkat};
use rustix::io::Errno;

use crate::failure::one_line;
use crate::os;

/// The variable in which a process finds why it was started again.
pub const VARIABLE: &str = "GATEVISOR_RESTART_REASON";
/// The name in `data/` of the file in which the reason is left.
const LEFT: &str = "restart-reason";
/// The most bytes of the files that are read here.
const MAX_BYTES: usize = 4 << 10;
const MAX_TALLY: u64 = 1 << 20;
/// What follows an exit code in `data/restart-codes` after which the service is asked.
const ASKED_MARK: u8 = b'?';

/// Leaves the reason for the restart of a service that is about to follow.
///
/// # Errors
/// It cannot be written. The restart is as good without.
pub fn leave(service: &Path, reason: &str) -> Result<(), Errno> {
    let data = data(service)?;
    // Several commands may restart one service at a time.
    let temporary = format!(".{LEFT}.{}", std::process::id());
    let line = one_line(reason);
    file::publish(&data, LEFT, &temporary, line.as_bytes(), Mode::from_raw_mode(0o644))
}

/// Removes a reason after which no restart followed.
pub fn withdraw(service: &Path) {
    if let Ok(data) = data(service) {
        let _ = unlinkat(data, LEFT, AtFlags::empty());
    }
}

fn data(service: &Path) -> Result<std::os::fd::OwnedFd, Errno> {
    file::open_directory(by_path::open(service, OFlags::RDONLY | OFlags::DIRECTORY)?, "data")
}

/// Takes the reason for the start that is under way; the working directory is the service
/// directory.
pub(crate) fn take() -> Option<OsString> {
    let left = file::open_directory(CWD, "data").ok().and_then(|data| {
        let mut buffer = [0; MAX_BYTES];
        let bytes = file::read_small(&data, LEFT, &mut buffer).ok()?.to_vec();
        unlinkat(&data, LEFT, AtFlags::empty()).ok()?;
        Some(one_line(&String::from_utf8_lossy(&bytes)))
    });
    left.or_else(asked_by_its_end).map(OsString::from)
}

/// Puts the reason into a command's environment, if there is one.
pub(crate) fn tell(variables: &mut Vec<(OsString, OsString)>, reason: Option<&OsString>) {
    // The variable may be inherited from a gateway in which the supervisor was started, and then
    // says nothing about this service.
    variables.retain(|(name, _)| name != VARIABLE);
    if let Some(reason) = reason {
        environment::set(variables, VARIABLE, reason);
    }
}

/// Returns that the last process asked for this start by the way in which it ended, if it did.
fn asked_by_its_end() -> Option<String> {
    let tally = os::read_file(Path::new(DEATH_TALLY), MAX_TALLY).ok()?.bytes;
    let code = tally::decode_all(&tally).ok()?.last()?.how().exit_code()?;
    let policy = os::read_file(Path::new(POLICY), MAX_TALLY).ok();
    let policy = policy.and_then(|read| PublishedPolicy::decode(&read.bytes).ok());
    let mut buffer = [0; MAX_BYTES];
    let data = file::open_directory(CWD, "data").ok()?;
    let codes = file::read_small(&data, "restart-codes", &mut buffer).ok()?;
    words_of(code, codes, policy.map_or(0, |policy| policy.failures))
}

fn words_of(code: u8, codes: &[u8], failures: u32) -> Option<String> {
    let digits = code.to_string();
    let mut words = codes.split(u8::is_ascii_whitespace);
    words.find_map(|word| match word.strip_prefix(digits.as_bytes())? {
        [] => Some(format!("it ended with exit code {code}, with which it asks for a restart")),
        // If the question failed, the end counts as a failure.
        [ASKED_MARK] if failures == 0 => {
            Some(format!("it ended with exit code {code}, and said that it wants to be started again"))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_exit_code_that_asks_for_a_restart_is_the_reason_and_a_failure_is_none() {
        assert!(words_of(75, b"75\n", 0).unwrap().contains("exit code 75"));
        assert!(words_of(0, b"75 0?\n", 0).unwrap().contains("wants to be started again"));
        for (code, codes, failures) in [(0, "0?", 1), (7, "75", 0), (75, "750", 0), (1, "", 0)] {
            assert_eq!(words_of(code, codes.as_bytes(), failures), None, "{code} {codes}");
        }
    }

    #[test]
    fn a_reason_is_left_on_one_line_and_can_be_withdrawn() {
        let service = tempfile::tempdir().unwrap();
        assert_eq!(leave(service.path(), "why"), Err(Errno::NOENT));
        let data = service.path().join("data");
        fs::create_dir(&data).unwrap();
        leave(service.path(), "new\nskills").unwrap();
        assert_eq!(fs::read_to_string(data.join(LEFT)).unwrap(), "new\\nskills");
        leave(service.path(), "another").unwrap();
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
        withdraw(service.path());
        withdraw(service.path());
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
    }
}
