//! Becoming another program, forking a helper, adopting inherited descriptors.
//!
//! *Lives here:* the only ways to become a program, besides [`crate::spawn`]; each gives it clean
//! signals.

use std::ffi::{CStr, CString, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, getppid, set_parent_process_death_signal, waitpid};

use crate::environment::ProgramEnvironment;
use crate::raw;

/// What a child ends with that has nobody to work for.
const ABANDONED: i32 = 111;

/// Replaces this process by the program at `path`; returns only the reason why it could not.
///
/// The program finds `SIGPIPE` at its default and no signal blocked, as with every other function
/// here that becomes a program.
///
/// **Source:** execve(2).
pub fn exec(path: &CStr, argv: &[CString], envp: &[CString]) -> Errno {
    with_signals_of_a_new_program(false, || raw::execve(path, argv, envp))
}

/// Does what [`exec`] does and leaves blocked what is blocked, for a program that reads its signals
/// one by one from the beginning: one that comes meanwhile is not lost and ends nobody.
pub fn exec_with_blocked_signals(path: &CStr, argv: &[CString], envp: &[CString]) -> Errno {
    with_signals_of_a_new_program(true, || raw::execve(path, argv, envp))
}

/// Calls `exec` with the signals that a program expects; they are as before if it returns.
fn with_signals_of_a_new_program(keeps_mask: bool, exec: impl FnOnce() -> Errno) -> Errno {
    let before = raw::signals_of_a_new_program(keeps_mask);
    let errno = exec();
    raw::put_signals_back(&before);
    errno
}

/// Replaces this process by `argv[0]`, looked up in the directories of the environment's `PATH`
/// when it holds no slash; returns only the reason why it could not.
///
/// A name found but not executable is remembered, as shells do: the answer is then `EACCES`, not
/// `ENOENT`. What another user may change is not executable to root.
pub fn exec_search(argv: &[CString], environment: &ProgramEnvironment) -> Errno {
    with_signals_of_a_new_program(false, || search(argv, environment))
}

fn search(argv: &[CString], environment: &ProgramEnvironment) -> Errno {
    let Some(name) = argv.first() else { return Errno::INVAL };
    if name.as_bytes().contains(&b'/') {
        return raw::execve(name, argv, environment.block());
    }
    let mut refused = Errno::NOENT;
    for directory in environment.path().split(|&b| b == b':') {
        let directory = if directory.is_empty() { b"." } else { directory };
        let mut candidate = directory.to_vec();
        candidate.push(b'/');
        candidate.extend_from_slice(name.as_bytes());
        if !environment.may_execute(&candidate) {
            refused = Errno::ACCESS;
            continue;
        }
        let Ok(candidate) = CString::new(candidate) else { continue };
        match raw::execve(&candidate, argv, environment.block()) {
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => refused = Errno::ACCESS,
            other => return other,
        }
    }
    refused
}

/// Returns the absolute path of the file that this process executes.
///
/// Without a `/proc` it is the path that it was executed with, which must not have been a script's.
pub fn own_program() -> io::Result<PathBuf> {
    let by_path = |error| {
        let path = raw::executed_path().map(|path| PathBuf::from(OsString::from_vec(path.into_bytes())));
        path.and_then(|path| std::path::absolute(path).ok()).filter(|path| path.is_file()).ok_or(error)
    };
    #[expect(clippy::disallowed_methods, reason = "here is what to do where it fails")]
    let by_proc = std::env::current_exe();
    by_proc.or_else(by_path)
}

/// Runs `job` in a grandchild that nobody here has to wait for.
///
/// The direct child is reaped before this returns; the grandchild belongs to the next reaper up the
/// tree and ends with status 0 when `job` returns. Call it only while the process has one thread.
pub fn fork_detached(job: impl FnOnce()) -> Result<(), Errno> {
    match raw::fork()? {
        0 => {
            if raw::fork() == Ok(0) {
                job();
            }
            raw::exit_now(0)
        }
        child => {
            if let Some(pid) = Pid::from_raw(child) {
                while let Err(Errno::INTR) = waitpid(Some(pid), WaitOptions::empty()) {}
            }
            Ok(())
        }
    }
}

/// Runs `job` in a child process and returns the child's pid.
///
/// The child ends with the code that `job` returns. Call it only while the process has one thread.
pub fn fork_child(job: impl FnOnce() -> i32) -> Result<Pid, Errno> {
    match raw::fork()? {
        0 => raw::exit_now(job()),
        child => Pid::from_raw(child).ok_or(Errno::INVAL),
    }
}

/// Runs `job` in a child process that is killed when this process ends, whatever program this has
/// become by then.
///
/// A child that begins when this process has ended already does nothing. Call it only while the
/// process has one thread.
pub fn fork_beside(job: impl FnOnce() -> i32) -> Result<Pid, Errno> {
    let parent = getpid();
    fork_child(|| {
        // The signal is asked for first: a parent that ends after this is noticed by the kernel,
        // and one that has ended before it is no longer the parent.
        let asked = set_parent_process_death_signal(Some(Signal::KILL));
        if asked.is_err() || getppid() != Some(parent) {
            return ABANDONED;
        }
        job()
    })
}

/// Which of two processes this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forked {
    /// The new one.
    Child,
    /// The one that was there, and the other's pid.
    Parent(Pid),
}

/// Forks. Call it only while the process has one thread.
pub fn fork() -> Result<Forked, Errno> {
    match raw::fork()? {
        0 => Ok(Forked::Child),
        child => Pid::from_raw(child).map(Forked::Parent).ok_or(Errno::INVAL),
    }
}

/// Ends this process at once: what another process with the same memory would do at its end is left
/// to that one.
pub fn exit_now(code: i32) -> ! {
    raw::exit_now(code)
}

/// Makes every descriptor beyond the three standard ones end at exec, so that what this process
/// inherited by accident does not reach its children.
pub fn forget_inherited_fds() {
    raw::close_on_exec_from(3);
}

/// Returns whether the process leads its session.
///
/// A session whose leader is in no namespace of ours has no number here, and is led by nobody whom
/// we can see.
#[must_use]
pub fn leads_session(pid: Pid) -> bool {
    raw::session(pid.as_raw_nonzero().get()) == Ok(pid.as_raw_nonzero().get())
}

/// Returns the group of this process, where its leader is in a namespace of ours.
#[must_use]
pub fn own_group() -> Option<Pid> {
    Pid::from_raw(raw::own_group())
}

/// Gives up the controlling terminal of this process, if it has one.
///
/// Where it leads the session, the kernel hangs up on the foreground processes; none is refused.
pub fn give_up_terminal() {
    raw::give_up_terminal();
}

/// Takes the ownership of the inherited descriptor `number` and makes it close-on-exec.
///
/// # Errors
/// `EBADF` when it is not open.
pub fn adopt_fd(number: i32) -> io::Result<OwnedFd> {
    raw::adopt(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::read;
    use rustix::pipe::pipe;

    #[test]
    fn a_process_beside_another_ends_with_it_however_soon_that_is() {
        for _ in 0..200 {
            let (reader, writer) = pipe().unwrap();
            let parent = fork_child(|| {
                // Its descriptor is open as long as it is there.
                let beside = fork_beside(|| {
                    loop {
                        let _ = rustix::event::poll(&mut [], None);
                    }
                });
                i32::from(beside.is_err())
            });
            drop(writer);
            let ended = waitpid(Some(parent.unwrap()), WaitOptions::empty()).unwrap().unwrap();
            assert_eq!(ended.1.exit_status(), Some(0));
            assert_eq!(read(&reader, &mut [0; 1]), Ok(0), "nobody holds the pipe any more");
        }
    }
}
