//! The logger of one service under a genuine s6-svscan: the interpreter of `log/run`.
//!
//! *Lives here:* the loop over standard input.
//! *Does not live here:* anything that the daemon does, too.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use gatevisor_slot::{RunAs, decide_identity};
use gatevisor_sys::clock::monotonic_ms;
use gatevisor_sys::signal::{SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGTTOU, SignalFd};
use gatevisor_term::stream;
use gatevisor_wire::name::ServiceName;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::console::Console;
use crate::handover::journal::Journal;
use crate::handover::stage::Intake;
use crate::pipeline::service::{LoggedService, ServicePipe};
use crate::pipeline::settings::{LogSettings, OutputOwner, label_of, read_file};
use crate::pipeline::stream::DaemonContext;
use crate::time::until;
use gatevisor_term::stream::say;
use gatevisor_wire::exit::{Exit, error_chain};

/// Milliseconds that the last lines may take while the file cannot be written.
const GIVE_UP_MS: u64 = 5_000;
/// How long the console may take to show the last lines.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What the supervisor appends to a service's name for its logger.
const LOG_SUFFIX: &[u8] = b"/log";

/// Runs the logger that a `log/run` file describes: it copies standard input to its directory and
/// to standard output.
///
/// `args` are the path of the file, which the kernel gives, and the logger's name, which the
/// supervisor gives (`gateway-coder/log`). It ends when standard input ends, or after `SIGTERM` or
/// `SIGHUP` once the pipe has been read. If it runs as root, it first becomes the owner of the
/// file.
///
/// The exit code is 0, or 100 if the file is bad, or 111 if the system refused something.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match prepare(args.into_iter()) {
        Ok((service, context, signals)) => match serve(service, context, &signals) {
            Ok(()) => ExitCode::SUCCESS,
            Err(errno) => failed("cannot go on", &std::io::Error::from(errno), Exit::System),
        },
        Err(code) => code,
    }
}

#[expect(clippy::disallowed_methods, reason = "the console escapes what it shows")]
fn prepare(
    mut args: impl Iterator<Item = OsString>,
) -> Result<(LoggedService, DaemonContext, SignalFd), ExitCode> {
    let script = args.next().unwrap_or_else(|| "./run".into());
    let label = service_label(args.next());
    let (file, owner) =
        read_file(Path::new(&script)).map_err(|error| failed("cannot start", &error, Exit::Usage))?;
    let output = give_up_root(owner)?;
    let settings = LogSettings::new(&file, &label, None, output)
        .map_err(|error| failed("cannot start", &error, Exit::Usage))?;
    let system = |error: std::io::Error| failed("cannot start", &error, Exit::System);
    // This comes before the console's thread starts, so that signals are blocked in the thread,
    // too.
    let signals = SignalFd::new(&[SIGTERM, SIGHUP, SIGINT, SIGPIPE, SIGTTOU, Signal::XFSZ.as_raw()])
        .map_err(|e| system(e.into()))?;
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().map_err(system)?;
    let stdout: OwnedFd = stream::own_stdout().map_err(system)?;
    let stderr = stream::own_stderr().map_err(system)?;
    let mut journal = Journal::private(1).map_err(|errno| system(errno.into()))?;
    let record = journal.adopt(0).ok_or_else(|| system(Errno::NOMEM.into()))?;
    let console = Console::start(stdout, stderr, journal.tally()).map_err(system)?;
    let mut context = DaemonContext::new(console, journal);
    let service = LoggedService::new(ServicePipe { pipe: stdin, record }, None, settings, &mut context);
    Ok((service, context, signals))
}

fn serve(mut service: LoggedService, mut context: DaemonContext, signals: &SignalFd) -> Result<(), Errno> {
    // How many bytes are still to be read, once that is known.
    let mut left: Option<u64> = None;
    let mut give_up_at_ms: Option<u64> = None;
    loop {
        if left == Some(0) && service.retry_at_ms().is_none() {
            break;
        }
        if left.is_some() && give_up_at_ms.is_none() {
            give_up_at_ms = Some(monotonic_ms().saturating_add(GIVE_UP_MS));
        }
        let readable = service.has_room(0) && left != Some(0);
        let due = [service.retry_at_ms(), give_up_at_ms].into_iter().flatten().min();
        let (input, signal) = wait(&service, signals, readable, due)?;
        if signal && matches!(signals.next()?, Some(SIGTERM | SIGHUP)) && left.is_none() {
            left = Some(service.waiting(0));
        }
        let now = monotonic_ms();
        if service.retry_at_ms().is_some_and(|at| at <= now) {
            service.retry(&mut context);
        }
        if input && readable {
            let limit = usize::try_from(left.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
            match (service.pump(0, limit, &mut context), &mut left) {
                (Intake::Some(n), Some(left)) => {
                    *left = left.saturating_sub(u64::try_from(n).unwrap_or(u64::MAX));
                }
                (Intake::Some(_) | Intake::Empty, None) => {}
                (Intake::Empty, Some(_)) if !service.has_room(0) => {}
                (Intake::Empty | Intake::End, left) => *left = Some(0),
            }
        }
        if give_up_at_ms.is_some_and(|at| at <= now) {
            service.abandon(left.unwrap_or(0), &context);
            break;
        }
    }
    service.close(&mut context);
    let _ = context.console.flush(LAST_WORDS);
    Ok(())
}

/// Waits for input, a signal or a time; returns whether there is input, and whether there is a
/// signal.
fn wait(
    service: &LoggedService,
    signals: &SignalFd,
    readable: bool,
    due_ms: Option<u64>,
) -> Result<(bool, bool), Errno> {
    let Some(pipe) = service.pipes().next() else { return Ok((false, false)) };
    let mut fds = [
        PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(pipe, PollFlags::IN),
    ];
    // Input that must wait is not polled at all, because its end would wake us again and again.
    let waited = if readable { fds.len() } else { 1 };
    let timeout = due_ms.map(until);
    match poll(fds.get_mut(..waited).unwrap_or_default(), timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno),
    }
    let [signal, input] = &fds;
    Ok((readable && !input.revents().is_empty(), !signal.revents().is_empty()))
}

/// Returns the label of the logger's service.
fn service_label(arg: Option<OsString>) -> String {
    let from_arg = arg.and_then(|name| {
        let name = name.as_bytes();
        ServiceName::new(name.strip_suffix(LOG_SUFFIX).unwrap_or(name)).ok()
    });
    // Supervisors that give no name run us in `<service>/log`.
    let from_directory = || {
        let here = std::env::current_dir().ok()?;
        ServiceName::new(here.parent()?.file_name()?.as_bytes()).ok()
    };
    from_arg.or_else(from_directory).map_or_else(|| "log".to_owned(), |name| label_of(&name))
}

fn give_up_root(owner: u32) -> Result<OutputOwner, ExitCode> {
    let current = rustix::process::geteuid().as_raw();
    match decide_identity(current, owner, None) {
        Ok(RunAs::BecomeOwner) => {
            let user = gatevisor_sys::user::lookup_uid(owner)
                .map_err(|error| failed("setting user", &error, Exit::System))?;
            gatevisor_sys::user::assume(&user)
                .map_err(|errno| failed("setting user", &std::io::Error::from(errno), Exit::System))?;
            Ok(OutputOwner::Foreign)
        }
        Ok(_) => Ok(OutputOwner::Own),
        Err(error) => Err(failed("setting user", &error, Exit::System)),
    }
}

fn failed(what: &str, error: &dyn std::error::Error, code: Exit) -> ExitCode {
    say(format!("gatevisor: log: {what}: {}", error_chain(error)));
    code.into()
}
