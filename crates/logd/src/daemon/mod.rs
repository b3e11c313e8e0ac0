//! The log daemon: one process that reads the pipes of all services of one owner.
//!
//! *Lives here:* how the process begins and ends, its loop (`event_loop`), and the logger of a single service under a
//! genuine s6-svscan ([`standalone`]). *Does not live here:* what becomes of a batch (`pipeline`), and the bytes of
//! the packets (`gatevisor-wire`). *May use it:* the binary; it uses every other room but `script`.
//!
//! Signals that a terminal sends to everybody are not for us.

mod event_loop;
pub mod standalone;

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use gatevisor_sys::signal::{SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGTTOU, SignalFd};
use gatevisor_sys::user;
use gatevisor_term::error_chain::chain;
use gatevisor_term::stream::{self, say};
use gatevisor_wire::log_protocol::{JOURNAL_FD, SOCKET_FD, STAGE_FD};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use self::event_loop::EventLoop;
use crate::console::Console;
use crate::handover::journal::{Journal, STREAMS};
use crate::pipeline::settings::OutputOwner;
use crate::pipeline::stream::DaemonContext;

/// Exit code when the system refused something without which nothing can be done.
const EXIT_SYSTEM: u8 = 111;

/// The files of memory in which one daemon finds what another one has left.
#[derive(Debug)]
pub struct HandoverState {
    /// Bytes that are not in a log file yet.
    pub stage: OwnedFd,
    /// Which stream the bytes belong to, and how many of them are written.
    pub journal: OwnedFd,
}

impl HandoverState {
    /// Returns those that the supervisor passes, if it does.
    fn passed() -> Option<Self> {
        let adopt = |number| {
            gatevisor_sys::process::adopt_fd(number).ok().filter(|fd| gatevisor_sys::memory::is_file(fd))
        };
        Some(Self { stage: adopt(STAGE_FD)?, journal: adopt(JOURNAL_FD)? })
    }
}

/// Runs the log daemon as the supervisor starts it: the socket is descriptor 3, the handover state 4 and 5.
///
/// The first of `arguments` is the number of the user to become, where that is another one. A process that becomes somebody
/// without executing anything afterwards cannot be looked into by that user: neither its memory nor what it has open.
#[expect(clippy::disallowed_methods, reason = "the console escapes what it shows")]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Before anything is opened, which would take their numbers.
    let (socket, handover) = (gatevisor_sys::process::adopt_fd(SOCKET_FD), HandoverState::passed());
    let other = arguments.into_iter().next();
    if let Some(uid) = &other
        && let Err(why) = become_user(uid)
    {
        say(format!("gatevisor: logd: cannot become uid {}: {why}", uid.display()));
        return ExitCode::from(EXIT_SYSTEM);
    }
    let output = if other.is_some() { OutputOwner::Foreign } else { OutputOwner::Own };
    let stdout = stream::own_stdout();
    match (socket, stdout) {
        (Ok(socket), Ok(stdout)) => run(socket, stdout, handover, output),
        (Err(error), _) => {
            say(format!(
                "gatevisor: logd: no socket on descriptor {SOCKET_FD}: {error}; the supervisor starts this"
            ));
            ExitCode::from(EXIT_SYSTEM)
        }
        (_, Err(error)) => {
            say(format!("gatevisor: logd: no standard output: {error}"));
            ExitCode::from(EXIT_SYSTEM)
        }
    }
}

fn become_user(uid: &OsStr) -> Result<(), String> {
    let user = user::lookup(uid.as_bytes()).map_err(|error| chain(&error))?;
    user::assume(&user).map_err(|errno| chain(&errno))
}

/// Runs the log daemon on a socket to its supervisor until that says `Q` or is gone.
///
/// Lines are shown on `stdout`, which is whose `output` says; warnings go to standard error. Without handover state, what this process has taken ends with
/// it. Call it before the process has a second thread:
/// `SIGTERM`, `SIGINT`, `SIGHUP`, `SIGQUIT`, `SIGPIPE`, `SIGTTOU` and `SIGXFSZ` are blocked for good.
#[expect(clippy::disallowed_methods, reason = "warnings are escaped by their thread")]
pub fn run(
    socket: OwnedFd,
    stdout: OwnedFd,
    handover: Option<HandoverState>,
    output: OutputOwner,
) -> ExitCode {
    match stream::own_stderr() {
        Ok(stderr) => run_with(socket, stdout, stderr, handover, output),
        Err(error) => {
            say(format!("gatevisor: logd: no standard error: {error}"));
            ExitCode::from(EXIT_SYSTEM)
        }
    }
}

/// Runs the log daemon as [`run`] does, with warnings on `stderr`.
pub fn run_with(
    socket: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    handover: Option<HandoverState>,
    output: OutputOwner,
) -> ExitCode {
    raise_limits();
    // Blocked, not handled: they stay pending and are nobody's business.
    let blocked = SignalFd::new(&[SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE, SIGTTOU, Signal::XFSZ.as_raw()]);
    let result = blocked.and_then(|signals| {
        let journal = journal(handover)?;
        let console = Console::start(stdout, stderr, journal.tally())
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))?;
        let result =
            EventLoop::new(socket, DaemonContext::new(console, journal), output).and_then(EventLoop::run);
        drop(signals);
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(errno) => {
            say(format!("gatevisor: logd: cannot go on: {}", chain(&errno)));
            ExitCode::from(EXIT_SYSTEM)
        }
    }
}

fn journal(handover: Option<HandoverState>) -> Result<Journal, Errno> {
    let Some(HandoverState { stage, journal }) = handover else { return Journal::private(STREAMS) };
    Journal::kept(stage, journal).or_else(|errno| {
        let why = chain(&errno);
        say(format!("gatevisor: logd: what the last log daemon left cannot be used, and may be lost: {why}"));
        Journal::private(STREAMS)
    })
}

/// Raises the limits of open files and of their size as far as they go.
///
/// A service takes four files, and the usual limit is 1024; the journal is large, though mostly empty.
fn raise_limits() {
    for resource in [Resource::Nofile, Resource::Fsize] {
        let limit = getrlimit(resource);
        let _ = setrlimit(resource, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}
