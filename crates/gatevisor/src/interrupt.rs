//! Ctrl-C while a command waits for gateways: reports what was done so far, and what was not.
//!
//! *Lives here:* receiving the signal on a second thread, and the report.
//! *Does not live here:* the command itself, of which nothing is undone.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use gatevisor_gateways::inspect::{self, ServiceReport};
use gatevisor_gateways::manager::{GatewayVerb, ScandirManager};
use gatevisor_gateways::profile::ProfileName;
use gatevisor_sys::signal::{SIGINT, SIGTERM, SignalFd};
use gatevisor_term::stream;
use gatevisor_wire::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use crate::out;

/// The exit code of a death by signal, less the signal's number.
pub const BY_SIGNAL: i32 = 128;

/// The time between two messages that say for which gateways a command waits.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// A command in progress.
#[derive(Clone)]
struct InterruptedCommand {
    manager: ScandirManager,
    verb: GatewayVerb,
    names: Vec<ProfileName>,
    /// The process of each gateway before the command.
    before: Vec<Option<i32>>,
    json: bool,
}

/// From now to the end of this process, makes Ctrl-C report how far the command has come.
pub fn say_how_far(manager: &ScandirManager, verb: GatewayVerb, names: &[ProfileName], json: bool) {
    let pid = |name: &ProfileName| Some(manager.slot(name).status().ok()?.pid?.get());
    let before = if verb == GatewayVerb::Restart { names.iter().map(pid).collect() } else { Vec::new() };
    let work = InterruptedCommand { manager: manager.clone(), verb, names: names.to_vec(), before, json };
    let waiting = work.clone();
    let say = move || {
        work.say();
        true
    };
    beside(say, move || waiting.say_waiting());
}

/// From now on, Ctrl-C calls `say`, and ends this process if `say` returns true.
///
/// If the signals cannot be received, Ctrl-C ends the command without a report, as it ends other
/// programs. Call it before any other thread begins, because threads inherit the signal mask.
pub fn on_signal(say: impl Fn() -> bool + Send + 'static) {
    beside(say, || {});
}

/// Makes Ctrl-C call `say`, and end this process if `say` returns true. Until then, calls
/// `say_waiting` repeatedly.
fn beside(say: impl Fn() -> bool + Send + 'static, say_waiting: impl Fn() + Send + 'static) {
    let signals = heeded(&[SIGINT, SIGTERM]);
    let Ok(signal_fd) = SignalFd::new(&signals) else { return };
    let beside = std::thread::Builder::new().name("interrupt".to_owned());
    let spawned = beside.spawn(move || {
        let signal = loop {
            let signal = next(&signal_fd, &say_waiting);
            if say() {
                break signal;
            }
        };
        #[expect(clippy::disallowed_methods, reason = "the other thread waits for gateways")]
        std::process::exit(BY_SIGNAL.saturating_add(signal));
    });
    if spawned.is_err() {
        let _ = gatevisor_sys::signal::unblock(&signals);
    }
}

/// Returns those of the signals that are not to be ignored.
pub fn heeded(signals: &[i32]) -> Vec<i32> {
    signals.iter().copied().filter(|&signal| !is_ignored(signal)).collect()
}

fn next(signal_fd: &SignalFd, say_waiting: &dyn Fn()) -> i32 {
    let every = Timespec::try_from(SAY_EVERY).ok();
    loop {
        let mut fds = [PollFd::from_borrowed_fd(signal_fd.as_fd(), PollFlags::IN)];
        if poll(&mut fds, every.as_ref()) == Ok(0) {
            say_waiting();
        }
        if let Ok(Some(signal)) = signal_fd.next() {
            return signal;
        }
    }
}

/// Returns whether the parent made a signal ignored, as a shell does for background jobs.
fn is_ignored(signal: i32) -> bool {
    let bit = |mask: u64| {
        signal.checked_sub(1).is_some_and(|n| mask.checked_shr(n.unsigned_abs()).unwrap_or(0) & 1 == 1)
    };
    ignored().is_ok_and(bit)
}

fn ignored() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

impl InterruptedCommand {
    /// Tells a person at a terminal for which gateways it waits. A program that reads the output
    /// only waits for the end.
    fn say_waiting(&self) {
        if !stream::stderr_is_terminal() {
            return;
        }
        let reports = inspect::inspect_each(&self.manager, &self.names);
        let waits = |(index, report): (usize, Result<ServiceReport, _>)| {
            let report = report.ok()?;
            let before = self.before.get(index).copied().flatten();
            let waits = !is_there(self.verb, before, &report);
            waits.then(|| format!("{} ({})", report.name(), report.state.words()))
        };
        let waiting: Vec<String> = reports.into_iter().enumerate().filter_map(waits).collect();
        if !waiting.is_empty() {
            out::say(format_args!("waiting for {}", waiting.join(", ")));
        }
    }

    fn say(&self) {
        let reports = inspect::inspect_each(&self.manager, &self.names);
        let stands = reports.iter().flatten().all(|report| is_told(self.verb, report));
        out::say(match self.manager.stopped_supervisor() {
            Some(pid) => format!("interrupted; {}", stopped_words(pid)),
            None if stands => "interrupted; the request stands, and the supervisor carries it out".to_owned(),
            None => "interrupted".to_owned(),
        });
        for (index, (name, report)) in self.names.iter().zip(reports).enumerate() {
            let so_far = match report {
                Ok(report) => so_far(self.verb, self.before.get(index).copied().flatten(), &report),
                Err(error) => error.to_string(),
            };
            out::say(format_args!("{name}: {so_far}"));
            if self.json {
                let error = format!("interrupted; {so_far}");
                let _ = out::json(&json!({ "profile": name.as_str(), "ok": false, "error": error }));
            }
        }
    }
}

/// Returns whether a gateway is in the state that the command asks for.
fn is_there(verb: GatewayVerb, before: Option<i32>, report: &ServiceReport) -> bool {
    match verb {
        GatewayVerb::Start => shows(report),
        GatewayVerb::Stop => report.pid.is_none(),
        GatewayVerb::Restart => shows(report) && report.pid != before,
    }
}

/// Returns whether a gateway shows that it works.
fn shows(report: &ServiceReport) -> bool {
    report.ready == Some(true) || report.is_live() == Some(true)
}

/// Returns what is to be done about a supervisor that a signal has stopped.
pub fn stopped_words(pid: Pid) -> String {
    format!(
        "a signal has stopped the supervisor (process {pid}), which carries this out when it goes on; `kill -CONT \
         {pid}` continues it"
    )
}

/// Returns whether the supervisor has the same intention for a gateway as the command.
fn is_told(verb: GatewayVerb, report: &ServiceReport) -> bool {
    // No supervisor carries anything out with what a killed one has left.
    report.orphan_pid.is_none() && report.wantedup != Some(verb == GatewayVerb::Stop)
}

/// Returns how far the command has come with one gateway.
fn so_far(verb: GatewayVerb, before: Option<i32>, report: &ServiceReport) -> String {
    let state = ShownState(report);
    match verb {
        GatewayVerb::Start | GatewayVerb::Restart if !is_told(verb, report) => {
            format!("its supervisor wants it down now; it is {state}")
        }
        GatewayVerb::Stop if !is_told(verb, report) => {
            format!("its supervisor wants it up now; it is {state}")
        }
        GatewayVerb::Restart if report.pid.is_some() && report.pid == before => {
            format!("not restarted yet; it is {state}")
        }
        _ => state.to_string(),
    }
}

struct ShownState<'a>(&'a ServiceReport);

impl fmt::Display for ShownState<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.state.words())?;
        match &self.0.reason {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}
