//! `gatevisor down`: ends the supervisor of a home, and all its gateways, in order.
//!
//! *Lives here:* telling the supervisor, and waiting for its end. *Does not live here:* the order
//! in which a supervisor ends its services (`gatevisor_core`). No desired state is changed.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use gatevisor_client::ScanDir;
use gatevisor_gateways::inspect;
use gatevisor_gateways::manager::ScandirManager;
use gatevisor_wire::Pid;
use gatevisor_wire::scan::ScanCommand;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, pidfd_open};
use serde_json::json;

use crate::args;
use crate::container_scandir::container_scandir;
use crate::context::CommandContext;
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::{interrupt, out};

/// How often a message tells for which gateways the supervisor still waits.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Ends the supervisor. It is no error if there is none.
pub fn run(context: &CommandContext, options: &args::Down) -> Outcome {
    let scandir = ScanDir::new(context.manager.scandir());
    if !context.supervisor_running()? {
        return tell(context, None, "no supervisor was running");
    }
    if container_scandir().as_deref() == Some(scandir.path()) {
        return Err(CommandError::new(
            Exit::No,
            "the supervisor is the first process of this container, and ends with it; stop the container \
             (`docker stop`), or all gateways (`gatevisor stop --all`)",
        ));
    }
    let pid = scandir.holder();
    // The process is opened before the command, so that its end cannot be missed.
    let held =
        pid.and_then(|pid| pidfd_open(rustix::process::Pid::from_raw(pid.get())?, PidfdFlags::empty()).ok());
    if !options.no_wait {
        let manager = context.manager.clone();
        interrupt::on_signal(move || {
            out::say(format_args!("interrupted; the supervisor goes on stopping{}", still_up(&manager)));
            true
        });
    }
    scandir.send(&[ScanCommand::Terminate]).map_err(|error| CommandError::of(Exit::System, &error))?;
    if options.no_wait {
        return tell(context, pid, "the supervisor is stopping everything in order");
    }
    let Some(held) = held else {
        out::warn(
            "the supervisor was told, and its process cannot be seen; `gatevisor status` says when it has ended",
        );
        return DONE;
    };
    if !ends(&context.manager, &held, options.timeout)? {
        let left = still_up(&context.manager);
        return Err(CommandError::new(
            Exit::TimedOut,
            format!("the supervisor has not ended in time; it goes on stopping{left}"),
        ));
    }
    tell(context, pid, "the supervisor has ended, and every gateway before it")
}

/// Returns whether a process ends in time; tells meanwhile for which gateways it waits.
fn ends(manager: &ScandirManager, held: &OwnedFd, timeout: Option<Duration>) -> Result<bool, CommandError> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let wait = left.unwrap_or(SAY_EVERY).min(SAY_EVERY);
        match poll(&mut [PollFd::new(held, PollFlags::IN)], Timespec::try_from(wait).ok().as_ref()) {
            Ok(0) if left.is_some_and(|left| left <= wait) => return Ok(false),
            Ok(0) => out::say(format_args!("waiting for the supervisor{}", still_up(manager))),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(errno) => {
                return Err(CommandError::new(
                    Exit::System,
                    format!("cannot wait for the supervisor: {errno}"),
                ));
            }
        }
    }
}

/// Returns the words for the gateways that have a process.
fn still_up(manager: &ScandirManager) -> String {
    let reports = inspect::survey(manager).unwrap_or_default();
    let up = reports.iter().filter(|report| report.pid.is_some());
    let names: Vec<String> =
        up.map(|report| format!("{} ({})", report.name(), report.state.words())).collect();
    if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) }
}

fn tell(context: &CommandContext, pid: Option<Pid>, words: &str) -> Outcome {
    if context.json {
        out::json(&json!({ "supervisor": pid.map(Pid::get), "ok": true, "result": words }))?;
    } else {
        let pid = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
        out::line(format_args!("{words}{pid}"))?;
    }
    DONE
}
