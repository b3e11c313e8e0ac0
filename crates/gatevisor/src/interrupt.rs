//! Ctrl-C while a command waits for gateways: what has been done by then is said, and what has not.
//!
//! *Lives here:* taking the signal on a second thread, and saying what was done. *Does not live here:* the command itself;
//! nothing of it is undone.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsFd;

use gatevisor_gateways::inspect::{self, ServiceReport};
use gatevisor_gateways::manager::{GatewayVerb, ScandirManager};
use gatevisor_gateways::profile::ProfileName;
use gatevisor_sys::signal::{SIGINT, SIGTERM, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::json;

use crate::out;

/// What is added to the number of a signal, in an exit code.
const BY_SIGNAL: i32 = 128;

/// A command that is being carried out.
struct InterruptedCommand {
    manager: ScandirManager,
    verb: GatewayVerb,
    names: Vec<ProfileName>,
    /// The process of each before it.
    before: Vec<Option<i32>>,
    json: bool,
}

/// Has Ctrl-C say how far this has come, from now to the end of this process.
///
/// Where the signals cannot be taken, Ctrl-C ends the command without a word, as it ends others.
pub fn say_how_far(manager: &ScandirManager, verb: GatewayVerb, names: &[ProfileName], json: bool) {
    let signals: Vec<i32> = [SIGINT, SIGTERM].into_iter().filter(|&signal| !is_ignored(signal)).collect();
    let Ok(signal_fd) = SignalFd::new(&signals) else { return };
    let pid = |name: &ProfileName| inspect::inspect(manager, name).ok().and_then(|report| report.pid);
    let before = if verb == GatewayVerb::Restart { names.iter().map(pid).collect() } else { Vec::new() };
    let work = InterruptedCommand { manager: manager.clone(), verb, names: names.to_vec(), before, json };
    let beside = std::thread::Builder::new().name("interrupt".to_owned());
    let spawned = beside.spawn(move || {
        let signal = next(&signal_fd);
        work.say();
        #[expect(clippy::disallowed_methods, reason = "the other thread waits for gateways")]
        std::process::exit(BY_SIGNAL.saturating_add(signal));
    });
    if spawned.is_err() {
        let _ = gatevisor_sys::signal::unblock(&signals);
    }
}

fn next(signal_fd: &SignalFd) -> i32 {
    loop {
        let _ = poll(&mut [PollFd::from_borrowed_fd(signal_fd.as_fd(), PollFlags::IN)], None);
        if let Ok(Some(signal)) = signal_fd.next() {
            return signal;
        }
    }
}

/// Returns whether whoever started this wants a signal ignored, as a shell does for what runs in the background.
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
    fn say(&self) {
        out::say("interrupted; the request stands, and the supervisor carries it out");
        for (index, name) in self.names.iter().enumerate() {
            let so_far = match inspect::inspect(&self.manager, name) {
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

/// Returns how far a command has come with one gateway.
fn so_far(verb: GatewayVerb, before: Option<i32>, report: &ServiceReport) -> String {
    let state = ShownState(report);
    match verb {
        GatewayVerb::Start if !report.wantedup => format!("not told to start; it is {state}"),
        GatewayVerb::Stop if report.wantedup => format!("not told to stop; it is {state}"),
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
