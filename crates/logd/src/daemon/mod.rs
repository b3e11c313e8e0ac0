//! The log daemon: one process that reads the pipes of all services of one owner.
//!
//! *Lives here:* the beginning and the end of the process, its loop (`event_loop`), and the logger
//! of a single service under a genuine s6-svscan ([`standalone`]).
//! *Does not live here:* the processing of a batch (`pipeline`), and the bytes of the packets
//! (`gatevisor-wire`). *May use it:* the binary; it uses every other layer but `script`.
//!
//! Signals that a terminal sends to a whole process group are not meant for us.

mod event_loop;
pub mod standalone;

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use gatevisor_sys::signal::{SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGTTOU, SignalFd};
use gatevisor_sys::user;
use gatevisor_term::stream::{self, say};
use gatevisor_wire::exit::{Exit, error_chain};
use gatevisor_wire::log_protocol::{JOURNAL_FD, SOCKET_FD, STAGE_FD};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use self::event_loop::EventLoop;
use crate::console::Console;
use crate::handover::journal::{Journal, STREAMS};
use crate::pipeline::settings::OutputOwner;
use crate::pipeline::stream::DaemonContext;

/// The memory files in which a daemon finds the state of the one before it.
#[derive(Debug)]
pub struct HandoverState {
    /// Bytes that are not in a log file yet.
    pub stage: OwnedFd,
    /// A record of the stream to which the bytes belong, and how many of them are written.
    pub journal: OwnedFd,
}

impl HandoverState {
    /// Returns the files that the supervisor passes, if it does.
    fn passed() -> Option<Self> {
        let adopt = |number| {
            gatevisor_sys::process::adopt_fd(number).ok().filter(|fd| gatevisor_sys::memory::is_file(fd))
        };
        Some(Self { stage: adopt(STAGE_FD)?, journal: adopt(JOURNAL_FD)? })
    }
}

/// Runs the log daemon as the supervisor starts it: the socket is descriptor 3, the handover state
/// 4 and 5.
///
/// The first of `arguments` is the number of the user to become, if that is another one. If a
/// process changes its user and executes nothing afterwards, that user cannot look into it: neither
/// into its memory nor at its open files.
#[expect(clippy::disallowed_methods, reason = "the console escapes what it shows")]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // This comes before any file is opened, because that file could get one of these numbers.
    let (socket, handover) = (gatevisor_sys::process::adopt_fd(SOCKET_FD), HandoverState::passed());
    let other = arguments.into_iter().next();
    if let Some(uid) = &other
        && let Err(why) = become_user(uid)
    {
        say(format!("gatevisor: logd: cannot become uid {}: {why}", uid.display()));
        return Exit::System.into();
    }
    let output = if other.is_some() { OutputOwner::Foreign } else { OutputOwner::Own };
    let stdout = stream::own_stdout();
    match (socket, stdout) {
        (Ok(socket), Ok(stdout)) => run(socket, stdout, handover, output),
        (Err(error), _) => {
            say(format!(
                "gatevisor: logd: no socket on descriptor {SOCKET_FD}: {error}; the supervisor starts this"
            ));
            Exit::System.into()
        }
        (_, Err(error)) => {
            say(format!("gatevisor: logd: no standard output: {error}"));
            Exit::System.into()
        }
    }
}

fn become_user(uid: &OsStr) -> Result<(), String> {
    let user = user::lookup(uid.as_bytes()).map_err(|error| error_chain(&error))?;
    user::assume(&user).map_err(|errno| error_chain(&errno))
}

/// Runs the log daemon on a socket to its supervisor until the supervisor sends `Q` or is gone.
///
/// Lines are shown on `stdout`, whose owner is `output`; warnings go to standard error. Without
/// handover state, everything that this process has taken is lost with it. Call it before the
/// process has a second thread: `SIGTERM`, `SIGINT`, `SIGHUP`, `SIGQUIT`, `SIGPIPE`, `SIGTTOU` and
/// `SIGXFSZ` are blocked for good.
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
            Exit::System.into()
        }
    }
}

/// Does the same as [`run`], with warnings on `stderr`.
pub fn run_with(
    socket: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    handover: Option<HandoverState>,
    output: OutputOwner,
) -> ExitCode {
    raise_limits();
    // They are blocked, not handled: they stay pending, and nobody reads them.
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
            say(format!("gatevisor: logd: cannot go on: {}", error_chain(&errno)));
            Exit::System.into()
        }
    }
}

fn journal(handover: Option<HandoverState>) -> Result<Journal, Errno> {
    let Some(HandoverState { stage, journal }) = handover else { return Journal::private(STREAMS) };
    Journal::kept(stage, journal).or_else(|errno| {
        let why = error_chain(&errno);
        say(format!("gatevisor: logd: what the last log daemon left cannot be used, and may be lost: {why}"));
        Journal::private(STREAMS)
    })
}

/// Raises the limits of open files and of file sizes as far as permitted.
///
/// A service needs four files, and the usual limit is 1024. The journal is large, though mostly
/// empty.
fn raise_limits() {
    for resource in [Resource::Nofile, Resource::Fsize] {
        let limit = getrlimit(resource);
        let _ = setrlimit(resource, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}
