//! `gatevisor down`: ends the supervisor of a home, and all its gateways, in order.
//!
//! *Lives here:* telling the supervisor to end, waiting for that, and reporting processes that run
//! without a supervisor.
//! *Does not live here:* the order in which a supervisor ends its services (`gatevisor_core`). No
//! desired state is changed.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use gatevisor_client::ScanDir;
use gatevisor_gateways::agent::Survivors;
use gatevisor_gateways::drain::{DrainThen, HeldDrain};
use gatevisor_gateways::earlier;
use gatevisor_gateways::inspect;
use gatevisor_gateways::manager::{STOPPED_FOR, ScandirManager, ServiceManager};
use gatevisor_liveness::DrainEnd;
use gatevisor_wire::Pid;
use gatevisor_wire::scan::ScanCommand;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal, test_kill_process};
use serde_json::json;

use crate::args;
use crate::container_scandir::container_scandir;
use crate::context::CommandContext;
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::home_claim::{self, OtherSupervisor};
use crate::{drain_wait, interrupt, out, supervise};

/// The time between two messages that say for which gateways the supervisor still waits.
const SAY_EVERY: Duration = Duration::from_secs(5);
const ENDED: &str = "the supervisor has ended, and every gateway before it";

/// Ends the supervisor. It is no error if there is none.
pub fn run(context: &CommandContext, options: &args::Down) -> Outcome {
    let scandir = ScanDir::new(context.manager.scandir());
    scandir.outlive(supervise::outlived_by());
    if !context.supervisor_running()? {
        return match home_claim::other_supervisor(context) {
            Some(other) if other.is_lost || other.scandir == scandir.path() => {
                end_by_signal(context, options, other.pid)
            }
            Some(other) => Err(elsewhere(context, &other)),
            None => nobody(context),
        };
    }
    let is_container = container_scandir().as_deref() == Some(scandir.path());
    let pid = scandir.holder();
    let process = pid.and_then(|pid| rustix::process::Pid::from_raw(pid.get()));
    // The process is opened before the command, so that its end cannot be missed.
    let held = process.and_then(|process| pidfd_open(process, PidfdFlags::empty()).ok());
    if is_container {
        let may = held.is_some() && process.is_some_and(|process| test_kill_process(process).is_ok());
        in_a_container(options, may)?;
    }
    let drained = drained(context, options)?;
    say_when_interrupted(context, options);
    match &held {
        // The supervisor of a container obeys no command to end, because the agent may be able to
        // write commands. So it gets a signal.
        Some(held) if is_container => pidfd_send_signal(held, Signal::TERM).map_err(|errno| {
            CommandError::new(Exit::System, format!("cannot end the supervisor: {errno}"))
        })?,
        _ => {
            scandir
                .send(&[ScanCommand::Terminate])
                .map_err(|error| CommandError::of(Exit::System, &error))?;
        }
    }
    // A gateway that ends shall take no new work, whatever becomes of this command.
    let drained: Vec<HeldDrain> = drained.into_iter().filter_map(HeldDrain::leave_to_process).collect();
    if options.no_wait {
        drop(drained);
        return match context.manager.stopped_supervisor() {
            Some(pid) => tell(context, Some(pid), &interrupt::stopped_words(pid)),
            None => tell(context, pid, "the supervisor is stopping everything in order"),
        };
    }
    let Some(held) = held else {
        out::warn(
            "the supervisor was told, and its process cannot be seen; `gatevisor status` says when it has ended",
        );
        return DONE;
    };
    until_ended(context, options, &held)?;
    tell(context, pid, ENDED)
}

/// Refuses to end the supervisor of a container without a drain, or as a user who may not signal
/// it.
///
/// With a drain, it is meant for the command that an engine runs before it ends the container.
fn in_a_container(options: &args::Down, may: bool) -> Result<(), CommandError> {
    if options.drain.is_none() {
        return Err(CommandError::new(
            Exit::No,
            "the supervisor is the first process of this container, and ends with it; stop the container \
             (`docker stop`; `gatevisor down --drain` ends it once its gateways are idle), or all gateways \
             (`gatevisor stop --all`)",
        ));
    }
    if may {
        return Ok(());
    }
    Err(CommandError::new(
        Exit::No,
        "the supervisor of this container is another user's, and obeys only that user and the engine, so no gateway \
         was drained; `gatevisor gateway drain --all` has them drained while the container is stopped (`docker stop`)",
    ))
}

/// Drains the gateways that are up, if an option asks for that. They take no new work as long as
/// the result lives.
fn drained(context: &CommandContext, options: &args::Down) -> Result<Vec<HeldDrain>, CommandError> {
    let Some(limit) = options.drain else { return Ok(Vec::new()) };
    let names = context.manager.list()?;
    let held = drain_wait::within(context, &names, &drain_wait::order("down", limit, DrainThen::Stop))?;
    if held.iter().any(|drain| matches!(drain.end(), Some(DrainEnd::Limit(..)))) {
        out::warn("what is still under way has the grace of the supervisor to end, and is cut off then");
    }
    Ok(held)
}

/// Ends a supervisor that has lost its scandir by a signal, because no command reaches it.
fn end_by_signal(context: &CommandContext, options: &args::Down, pid: i32) -> Outcome {
    let failed = |errno: Errno| {
        CommandError::new(
            Exit::System,
            format!("cannot end the supervisor (process {pid}): {errno}; end it as its user or as root"),
        )
    };
    let process = rustix::process::Pid::from_raw(pid).ok_or_else(|| failed(Errno::SRCH))?;
    let held = match pidfd_open(process, PidfdFlags::empty()) {
        Ok(held) => held,
        Err(Errno::SRCH) => return nobody(context),
        Err(errno) => return Err(failed(errno)),
    };
    // The descriptor is for the right process only if that process is still there now.
    match home_claim::other_supervisor(context) {
        Some(other) if other.pid == pid => {}
        Some(other) => return Err(elsewhere(context, &other)),
        None => return nobody(context),
    }
    say_when_interrupted(context, options);
    pidfd_send_signal(&held, Signal::TERM).map_err(failed)?;
    if options.no_wait {
        return tell(context, Pid::new(pid), "the supervisor is stopping everything in order");
    }
    until_ended(context, options, &held)?;
    tell(context, Pid::new(pid), ENDED)
}

/// Returns the error for a supervisor on another scandir.
fn elsewhere(context: &CommandContext, other: &OtherSupervisor) -> CommandError {
    let (scandir, words) = (context.manager.scandir().display(), other.words(context));
    CommandError::new(Exit::No, format!("no supervisor was running on `{scandir}`, but {words}"))
}

/// Reports that there was no supervisor. It is an error if a killed supervisor has left processes.
fn nobody(context: &CommandContext) -> Outcome {
    let manager = &context.manager;
    let Some(leaders) = earlier::orphans(manager.scandir(), manager.home().root()) else {
        return Err(CommandError::new(
            Exit::System,
            "no supervisor was running; whether a killed one has left a gateway could not be found out within 5 s",
        ));
    };
    if leaders.is_empty() {
        return tell(context, None, "no supervisor was running");
    }
    let named: Vec<String> = leaders.iter().map(|(name, pid)| format!("{name} (process {pid})")).collect();
    let pids: Vec<String> = leaders.iter().map(|(_, pid)| pid.to_string()).collect();
    Err(CommandError::new(
        Exit::No,
        format!(
            "no supervisor was running, but one that was killed left what still runs: {}; `gatevisor up` ends \
             {} and starts the gateways again, and `kill {}` only ends it",
            named.join(", "),
            what_up_ends(manager.agent().gateway.survivors),
            pids.join(" ")
        ),
    ))
}

/// Returns which processes of a killed supervisor the next one ends, as text.
const fn what_up_ends(survivors: Survivors) -> &'static str {
    match survivors {
        Survivors::Kill => "that",
        Survivors::Keep => "the gateways' own processes (with `survivors = \"keep\"`, not what they started)",
    }
}

/// Makes Ctrl-C report that the supervisor goes on stopping.
fn say_when_interrupted(context: &CommandContext, options: &args::Down) {
    if options.no_wait {
        return;
    }
    let manager = context.manager.clone();
    interrupt::on_signal(move || {
        out::say(match manager.stopped_supervisor() {
            Some(pid) => format!("interrupted; {}", interrupt::stopped_words(pid)),
            None => format!("interrupted; the supervisor goes on stopping{}", still_up(&manager)),
        });
        true
    });
}

/// Waits for the end of the supervisor, for as long as the options say.
fn until_ended(context: &CommandContext, options: &args::Down, held: &OwnedFd) -> Result<(), CommandError> {
    if ends(&context.manager, held, options.timeout)? {
        return Ok(());
    }
    if let Some(pid) = context.manager.stopped_supervisor() {
        return Err(CommandError::new(Exit::TimedOut, interrupt::stopped_words(pid)));
    }
    let left = still_up(&context.manager);
    Err(CommandError::new(
        Exit::TimedOut,
        format!("the supervisor has not ended in time; it goes on stopping{left}"),
    ))
}

/// Returns whether a process ends in time. Meanwhile, prints for which gateways it waits. A process
/// that a signal has stopped does not end in time.
fn ends(manager: &ScandirManager, held: &OwnedFd, timeout: Option<Duration>) -> Result<bool, CommandError> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut longest = STOPPED_FOR;
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let wait = left.unwrap_or(longest).min(longest);
        match poll(&mut [PollFd::new(held, PollFlags::IN)], Timespec::try_from(wait).ok().as_ref()) {
            Ok(0) if left.is_some_and(|left| left <= wait) => return Ok(false),
            Ok(0) if manager.stopped_supervisor().is_some() => return Ok(false),
            Ok(0) if longest < SAY_EVERY => longest = SAY_EVERY,
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
