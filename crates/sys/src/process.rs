//! Becoming another program, forking a helper, adopting inherited descriptors.
//!
//! *Lives here:* the only ways to become a program, besides [`crate::spawn`]; each gives the
//! program clean signals.

use std::ffi::{CStr, CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use gatevisor_wire::exit::Exit;
use rustix::io::{Errno, read};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, getpid, getppid, set_parent_process_death_signal, waitpid};

use crate::environment::ProgramEnvironment;
use crate::raw;

/// The exit code of a child whose parent has already ended.
const ABANDONED: i32 = Exit::System.status();

/// Replaces this process by the program at `path`; returns only if that fails, with the reason.
///
/// The program finds `SIGPIPE` at its default and no signal blocked, as with every other function
/// here that becomes a program.
///
/// **Source:** execve(2).
pub fn exec(path: &CStr, argv: &[CString], envp: &[CString]) -> Errno {
    with_signals_of_a_new_program(false, || raw::execve(path, argv, envp))
}

/// Does the same as [`exec`] and keeps the blocked signals blocked. This is for a program that
/// reads its signals one by one from the beginning: a signal that comes meanwhile is not lost and
/// ends nobody.
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

/// Replaces this process by `argv[0]`, looked up in the directories of the environment's `PATH` if
/// it holds no slash. Returns only if that fails, with the reason.
///
/// As in shells, a name that is found but cannot be executed makes the answer `EACCES` instead of
/// `ENOENT`. For root, a file that another user may change cannot be executed.
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

/// The name of this program in a container, where the file itself is `/init`. Under the name
/// `/init` it boots, whatever its arguments are, so nobody may be told to execute it by that name.
const IN_CONTAINER: &str = "/usr/local/bin/gatevisor";

/// Returns an absolute path of this process's program. If the file has several names, it is the one
/// under which the program obeys its arguments.
///
/// Without `/proc` it is the path with which the program was executed, which must not have been
/// that of a script.
pub fn own_program() -> io::Result<PathBuf> {
    let program = executed_file()?;
    let is_known = || std::fs::canonicalize(IN_CONTAINER).is_ok_and(|path| path == program);
    let has_other_role = program.file_name().is_some_and(|name| name == "init");
    Ok(if has_other_role && is_known() { IN_CONTAINER.into() } else { program })
}

fn executed_file() -> io::Result<PathBuf> {
    let by_path = |error| {
        let path = raw::executed_path().map(|path| PathBuf::from(OsString::from_vec(path.into_bytes())));
        path.and_then(|path| std::path::absolute(path).ok()).filter(|path| path.is_file()).ok_or(error)
    };
    #[expect(clippy::disallowed_methods, reason = "here is what to do where it fails")]
    let by_proc = std::env::current_exe();
    by_proc.map(without_mark).or_else(by_path)
}

/// Returns the path of a program that was replaced while it ran, without the mark that the kernel
/// puts after it.
fn without_mark(path: PathBuf) -> PathBuf {
    match path.as_os_str().as_encoded_bytes().strip_suffix(b" (deleted)") {
        Some(was) if !path.exists() => PathBuf::from(OsString::from_vec(was.to_vec())),
        _ => path,
    }
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

/// Leaves descriptors to a child that has nothing else and ends then, so that it is the child that
/// waits for whatever their end takes. This returns when the child has closed all others: no lock
/// and no pipe of this process lasts longer because of it.
///
/// The child runs nothing but these system calls, so this process may have several threads.
///
/// # Errors
/// There can be no child. The descriptors are closed here.
pub(crate) fn leave_to_child(descriptors: Vec<OwnedFd>) -> Result<(), Errno> {
    let (only_those, has_others) = pipe_with(PipeFlags::CLOEXEC)?;
    let (is_last, has_those) = pipe_with(PipeFlags::CLOEXEC)?;
    let until_closed = |pipe: &OwnedFd| while read(pipe, &mut [0; 1]) == Err(Errno::INTR) {};
    let number = |fd: &OwnedFd| fd.as_raw_fd().unsigned_abs();
    let mut kept: Vec<u32> =
        descriptors.iter().chain([&has_others, &has_those, &is_last]).map(number).collect();
    kept.sort_unstable();
    if raw::fork()? == 0 {
        let mut first = 0;
        for number in &kept {
            if *number > first {
                raw::close_from_to(first, number.saturating_sub(1));
            }
            first = number.saturating_add(1);
        }
        raw::close_from_to(first, u32::MAX);
        drop(has_others);
        // This process must be no writer of the pipe that it reads to its end.
        drop(has_those);
        // If this process ended first, the parent would be the last one.
        until_closed(&is_last);
        raw::exit_now(0)
    }
    drop((has_others, is_last));
    until_closed(&only_those);
    drop(descriptors);
    drop(has_those);
    Ok(())
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

/// Runs `job` in a child process that is killed when this process ends, even if this process has
/// become another program.
///
/// A child that begins after this process has ended does nothing. Call it only while the process
/// has one thread.
pub fn fork_beside(job: impl FnOnce() -> i32) -> Result<Pid, Errno> {
    let parent = getpid();
    fork_child(|| if end_with(parent) { job() } else { ABANDONED })
}

/// Has this process killed when its parent ends, even if that has become another program. Returns
/// false if that cannot be had, or if this process is no child of `parent` any more.
pub fn end_with(parent: Pid) -> bool {
    // The signal is requested first. So the kernel notices a parent that ends later, and a parent
    // that ended earlier is no longer the parent.
    set_parent_process_death_signal(Some(Signal::KILL)).is_ok() && getppid() == Some(parent)
}

/// Which of two processes this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forked {
    /// The new process.
    Child,
    /// The old process, with the pid of the new one.
    Parent(Pid),
}

/// Forks. Call it only while the process has one thread.
pub fn fork() -> Result<Forked, Errno> {
    match raw::fork()? {
        0 => Ok(Forked::Child),
        child => Pid::from_raw(child).map(Forked::Parent).ok_or(Errno::INVAL),
    }
}

/// Ends this process at once, without the work that another process with the same memory does at
/// its own end.
pub fn exit_now(code: i32) -> ! {
    raw::exit_now(code)
}

/// Makes every descriptor beyond the three standard ones close at exec, so that descriptors which
/// this process inherited by accident do not reach its children.
pub fn forget_inherited_fds() {
    raw::close_on_exec_from(3);
}

/// Returns whether the process leads its session.
///
/// If the leader is outside our PID namespace, the session has no number here, and no visible
/// process leads it.
#[must_use]
pub fn leads_session(pid: Pid) -> bool {
    raw::session(pid.as_raw_nonzero().get()) == Ok(pid.as_raw_nonzero().get())
}

/// Returns this process's group, if the group's leader is in our PID namespace.
#[must_use]
pub fn own_group() -> Option<Pid> {
    Pid::from_raw(raw::own_group())
}

/// Gives up the controlling terminal of this process, if it has one.
///
/// If this process leads the session, the kernel sends SIGHUP to the foreground processes. Without
/// a terminal nothing happens.
pub fn give_up_terminal() {
    raw::give_up_terminal();
}

/// Takes ownership of the inherited descriptor `number` and makes it close-on-exec.
///
/// # Errors
/// `EBADF` if it is not open.
pub fn adopt_fd(number: i32) -> io::Result<OwnedFd> {
    raw::adopt(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::read;
    use rustix::pipe::pipe;

    #[test]
    fn a_program_that_was_replaced_while_it_ran_is_where_it_was() {
        for (path, expected) in [("/x/gatevisor (deleted)", "/x/gatevisor"), ("/x/gatevisor", "/x/gatevisor")]
        {
            assert_eq!(without_mark(path.into()), PathBuf::from(expected));
        }
        let place = tempfile::tempdir().unwrap();
        let odd = place.path().join("gatevisor (deleted)");
        std::fs::write(&odd, "").unwrap();
        assert_eq!(without_mark(odd.clone()), odd, "that is its name");
    }

    #[test]
    fn a_process_beside_another_ends_with_it_however_soon_that_is() {
        for _ in 0..200 {
            let (reader, writer) = pipe().unwrap();
            let parent = fork_child(|| {
                // The pipe's end stays open as long as the child exists.
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
