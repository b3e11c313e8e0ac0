//! The owner of a home, and looking at the home with the owner's rights.
//!
//! *Lives here:* the process that looks, and how long it may take. *Does not live here:* what is
//! looked at.

use std::io::{self, PipeReader, Read, Write};
use std::time::{Duration, Instant};

use gatevisor_gateways::profile::Home;
use gatevisor_paths::OpenHome;
use gatevisor_sys::clock::remaining;
use gatevisor_sys::process;
use gatevisor_sys::user::{self, User};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Signal, WaitOptions, kill_process, waitpid};

use crate::context::other_owner;
use crate::exit::{CommandError, Exit};

/// How long looking at a home may take. The owner may pause the process that looks.
const LIMIT: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("{0}")]
    System(#[from] io::Error),
    #[error("it had not answered after {} s; its owner may have paused the process that looks", .0.as_secs())]
    TooLong(Duration),
    #[error("the process that looks ended without an answer")]
    Ended,
}

/// Returns the user whom the gateways of a home run as. For the system's service manager, that is
/// the owner of the home.
pub(super) fn owner(home: &Home) -> Result<User, CommandError> {
    let root = home.root();
    match OpenHome::open(root) {
        Ok(_) => {}
        Err(error) if error.is_missing() => {
            let root = root.display();
            return Err(CommandError::new(
                Exit::No,
                format!(
                    "there is no home `{root}`; check the path, or make it as its user: mkdir -p -m 700 '{root}'"
                ),
            ));
        }
        Err(error) if error.is_link_of_another() => {
            let root = root.display();
            return Err(CommandError::new(
                Exit::System,
                format!(
                    "{error}, which may lead elsewhere tomorrow; name the directory itself: readlink -f '{root}'"
                ),
            ));
        }
        Err(error) => return Err(CommandError::of(Exit::System, &error)),
    }
    let own = rustix::process::geteuid();
    let other = if own.is_root() { other_owner(root)? } else { None };
    user::lookup_uid(other.unwrap_or(own.as_raw())).map_err(|error| CommandError::of(Exit::System, &error))
}

/// Returns the answer of `job`, which runs with the rights of the home's owner, so that root
/// follows no link of another user.
///
/// # Errors
/// There is no answer within 30 seconds, or the owner has ended the process.
pub(super) fn as_owner(owner: &User, job: impl FnOnce() -> bool) -> Result<bool, CommandError> {
    if !rustix::process::geteuid().is_root() || owner.uid == 0 {
        return Ok(job());
    }
    let asked = answer(LIMIT, || user::assume(owner).is_ok().then(job));
    asked.map_err(|why| {
        let whose = String::from_utf8_lossy(&owner.name);
        let what = format!("cannot look at the home as its owner `{whose}`: {why}");
        CommandError::new(Exit::System, what)
    })
}

/// Returns the answer of `job`, which runs in a process of its own. That process is killed if it
/// takes longer than `limit`.
fn answer(limit: Duration, job: impl FnOnce() -> Option<bool>) -> Result<bool, NoAnswer> {
    let (mut reader, mut writer) = io::pipe()?;
    let child = process::fork_child(move || {
        let told = job().map(|answer| writer.write_all(&[u8::from(answer)]));
        i32::from(!matches!(told, Some(Ok(()))))
    })
    .map_err(io::Error::from)?;
    let is_told = is_readable(&reader, limit);
    // It has answered, or never will. Its owner may keep it from ending by itself.
    let _ = kill_process(child, Signal::KILL);
    // Not waited for: it may hang in a file system of its owner's.
    let _ = waitpid(Some(child), WaitOptions::NOHANG);
    if !is_told? {
        return Err(NoAnswer::TooLong(limit));
    }
    let mut told = [0];
    match reader.read(&mut told)? {
        0 => Err(NoAnswer::Ended),
        _ => Ok(told == [1]),
    }
}

/// Returns whether something can be read, or nobody writes any more, before the time is over.
fn is_readable(reader: &PipeReader, limit: Duration) -> io::Result<bool> {
    let until = Instant::now().checked_add(limit);
    loop {
        match poll(&mut [PollFd::new(reader, PollFlags::IN)], remaining(until).as_ref()) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::getpid;

    #[test]
    fn a_process_that_is_paused_or_ended_gives_no_answer() {
        let signalled = |signal: Signal, limit: Duration| {
            answer(limit, || {
                let _ = kill_process(getpid(), signal);
                Some(true)
            })
        };
        let (short, long) = (Duration::from_millis(50), Duration::from_mins(1));
        assert!(matches!(signalled(Signal::STOP, short), Err(NoAnswer::TooLong(limit)) if limit == short));
        assert!(matches!(signalled(Signal::KILL, long), Err(NoAnswer::Ended)));
        assert!(matches!(answer(long, || None), Err(NoAnswer::Ended)), "it could not become the owner");
        let answers = [true, false].map(|told| answer(long, || Some(told)).unwrap());
        assert_eq!(answers, [true, false]);
    }
}
