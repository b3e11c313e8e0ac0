//! Runs a processor.
//!
//! *Lives here:* its process: the files on its descriptors, its working directory.
//! *Does not live here:* when it runs, and the meaning of its end.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use gatevisor_sys::environment::{ProgramEnvironment, S6_PATH};
use gatevisor_sys::process::{adopt_fd, exec_search, fork_child};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, FdFlags, dup2, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::Pid;

use super::parser::Processor;
use gatevisor_term::stream::say;
use gatevisor_wire::exit::{Exit, error_chain};

/// Our own descriptors are kept above those of the processor.
const OUT_OF_THE_WAY: i32 = 10;

/// Starts a processor: `previous` on 0, `processed` on 1, `state` on 4, `newstate` on 5, in the log
/// directory.
///
/// The process must have one thread.
pub(super) fn start(processor: &Processor, directory: BorrowedFd<'_>) -> Result<Pid, Errno> {
    let (program, flag, line): (&[u8], &[u8], &[u8]) = match processor {
        Processor::Execline(line) => (b"execlineb", b"-Pc", line),
        Processor::Shell(line) => (b"/bin/sh", b"-c", line),
    };
    let argv: Result<Vec<CString>, _> = [program, flag, line].into_iter().map(CString::new).collect();
    let argv = argv.map_err(|_| Errno::INVAL)?;
    let environment = ProgramEnvironment::new(std::env::vars_os().collect(), S6_PATH)?;
    fork_child(|| {
        let (what, errno) = if let Err((what, errno)) = prepare(directory) {
            (what.to_owned(), errno)
        } else {
            let errno = exec_search(&argv, &environment);
            (format!("exec {}", OsStr::from_bytes(program).display()), errno)
        };
        let why = std::io::Error::from(errno);
        say(format!("s6-log (processor child): fatal: unable to {what}: {}", error_chain(&why)));
        Exit::System.status()
    })
}

fn prepare(directory: BorrowedFd<'_>) -> Result<(), (&'static str, Errno)> {
    rustix::process::fchdir(directory).map_err(|errno| ("chdir to the logdir", errno))?;
    let write = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    for (what, name, flags, number) in [
        ("open previous", "previous", OFlags::RDONLY, 0),
        ("open processed", "processed", write, 1),
        ("open state", "state", OFlags::RDONLY | OFlags::CREATE, 4),
        ("open newstate", "newstate", write, 5),
    ] {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file =
            openat(directory, name, flags, Mode::from_raw_mode(0o644)).map_err(|errno| (what, errno))?;
        give(file, number).map_err(|errno| (what, errno))?;
    }
    Ok(())
}

/// Makes `file` the descriptor with this number, and keeps it open at exec.
fn give(file: impl AsFd, number: i32) -> Result<(), Errno> {
    let file = fcntl_dupfd_cloexec(file, OUT_OF_THE_WAY)?;
    let taken: OwnedFd = match adopt_fd(number) {
        Ok(mut taken) => {
            dup2(&file, &mut taken)?;
            taken
        }
        // The number is free, so it is the lowest free one.
        Err(_) => fcntl_dupfd_cloexec(&file, number)?,
    };
    fcntl_setfd(&taken, FdFlags::empty())?;
    // It belongs to the program now.
    let _ = taken.into_raw_fd();
    Ok(())
}
