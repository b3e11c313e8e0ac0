//! Becoming another program, forking a helper, adopting inherited descriptors.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::raw;

/// Replaces this process by the program at `path`; returns only the reason why it could not.
///
/// **Source:** execve(2).
pub fn exec(path: &CStr, argv: &[CString], envp: &[CString]) -> Errno {
    raw::execve(path, argv, envp)
}

/// Replaces this process by `argv[0]`, looked up in the directories of `path_var` when it holds no
/// slash; returns only the reason why it could not.
///
/// A name found but not executable is remembered, as shells do: the answer is then `EACCES`, not `ENOENT`.
pub fn exec_search(argv: &[CString], envp: &[CString], path_var: &[u8]) -> Errno {
    let Some(name) = argv.first() else { return Errno::INVAL };
    if name.as_bytes().contains(&b'/') {
        return raw::execve(name, argv, envp);
    }
    let mut refused = Errno::NOENT;
    for directory in path_var.split(|&b| b == b':') {
        let directory = if directory.is_empty() { b"." } else { directory };
        let mut candidate = directory.to_vec();
        candidate.push(b'/');
        candidate.extend_from_slice(name.as_bytes());
        let Ok(candidate) = CString::new(candidate) else { continue };
        match raw::execve(&candidate, argv, envp) {
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => refused = Errno::ACCESS,
            other => return other,
        }
    }
    refused
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

/// Makes every descriptor beyond the three standard ones end at exec, so that what this process inherited by
/// accident does not reach its children.
pub fn forget_inherited_fds() {
    raw::close_on_exec_from(3);
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
