//! `gatevisor wait`: waits for the requested state of gateways.

use std::time::{Duration, Instant};

use gatevisor_client::status_view::StateName;
use gatevisor_doctor::container_boots;
use gatevisor_gateways::inspect::{ServiceReport, ServiceState};
use gatevisor_gateways::live::LiveState;
use gatevisor_gateways::manager::{GatewayWaitError, ServiceManager, WaitOutcome, WaitUntil};
use gatevisor_gateways::profile::ProfileName;
use gatevisor_liveness::Liveness;

use crate::args;
use crate::choice::{NameScope, Unnamed, chosen};
use crate::context::CommandContext;
use crate::each::{self, Told};
use crate::event_subscriber::EventSubscriber;
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::out::{self, Text};
use crate::{home_claim, status};

/// Waits for one gateway, or for each of several at the same time; the exit code is the answer.
pub fn run(context: &CommandContext, options: &args::Wait) -> Outcome {
    let names = chosen(context, &options.choice, NameScope::Slots, Unnamed::Selected)?;
    // There is one deadline for all gateways, however many are waited for at once.
    let deadline = options.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    if let [name] = names.as_slice() {
        return wait_for(context, options, name, deadline);
    }
    let results = each::at_once(context, &names, |name| {
        wait_for(context, options, name, deadline).map(|_| Told::new(word(options), Vec::new()))
    });
    each::tell(context, &names, results)
}

const fn word(options: &args::Wait) -> &'static str {
    match (options.down, options.live, options.ready) {
        (true, _, _) => "down",
        (_, true, _) => "live",
        (_, _, true) => "ready",
        _ => "up",
    }
}

fn wait_for(
    context: &CommandContext,
    options: &args::Wait,
    name: &ProfileName,
    deadline: Option<Instant>,
) -> Outcome {
    let condition = if options.down {
        WaitUntil::Down
    } else if options.ready {
        WaitUntil::Ready
    } else {
        WaitUntil::Up
    };
    let outcome = match waited(context, name, condition, deadline) {
        Ok(outcome) => outcome,
        // Without a supervisor, it does not matter whether there is a slot.
        Err(GatewayWaitError::NotRegistered { .. }) if !context.supervisor_running()? => {
            return Err(home_claim::not_supervised(context));
        }
        Err(GatewayWaitError::NotSupervised { .. }) if container_boots() => {
            return Err(home_claim::not_supervised(context));
        }
        Err(error) => {
            if matches!(error, GatewayWaitError::NotRegistered { .. }) {
                // It would be bad advice to start a profile that does not exist.
                status::row(context, name)?;
            }
            return Err(CommandError::from(error));
        }
    };
    match outcome {
        WaitOutcome::Reached if options.live => until_live(context, name, deadline),
        WaitOutcome::Reached => DONE,
        WaitOutcome::Failed { reason: Some(reason) } => {
            Err(CommandError::new(Exit::No, format!("the gateway of {name} does not come up: {reason}")))
        }
        WaitOutcome::Failed { reason: None } => Err(CommandError::new(
            Exit::No,
            format!("the gateway of {name} failed; `gatevisor gateway status {name}` says why"),
        )),
        WaitOutcome::NeverReady { is_up } => Err(CommandError::new(
            Exit::No,
            format!(
                "the gateway of {name} is {}, and nothing tells whether it is ready: nobody probes it; wait with --up, or \
                 give it a probe, `[gateway.ready]` in the agent definition",
                if is_up { "up" } else { "down" }
            ),
        )),
        WaitOutcome::TimedOut => Err(CommandError::new(
            Exit::TimedOut,
            format!("the gateway of {name} did not get there in time{}", state_so_far(context, name)),
        )),
    }
}

/// How long a gateway is down before people are told that nobody starts it. Whoever starts gateways
/// and waits for them need not be told.
const SOON: Duration = Duration::from_secs(1);

/// Waits for a gateway. If it is down and nobody starts it, says so once and goes on waiting:
/// whoever waits may have forgotten to start it, or somebody else starts it later.
fn waited(
    context: &CommandContext,
    name: &ProfileName,
    condition: WaitUntil,
    deadline: Option<Instant>,
) -> Result<WaitOutcome, GatewayWaitError> {
    let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let is_down = || {
        let observed = context.manager.observe(name).ok().flatten();
        observed.is_some_and(|observed| observed.state == StateName::Down)
    };
    if condition != WaitUntil::Down && left().is_none_or(|left| left > SOON) && is_down() {
        let outcome = context.manager.wait(name, condition, Some(SOON))?;
        if outcome != WaitOutcome::TimedOut {
            return Ok(outcome);
        }
        let report = status::row(context, name).ok();
        if let Some(words) = report.as_ref().and_then(why_down) {
            out::say(Text::from("the gateway of ").and(name).and(format_args!(" is {words}; waiting")));
        }
    }
    context.manager.wait(name, condition, left())
}

/// Returns that a gateway is down, and why, as far as it concerns whoever waits for it; `None` if
/// it is not down.
fn why_down(report: &ServiceReport) -> Option<&'static str> {
    let words = match report.desired_state.as_deref() {
        Some("running") => "down, although its desired state is running",
        Some("stopped") => "down, and its desired state is stopped",
        None => "down, and nobody has started it",
        Some(_) => "down",
    };
    (report.state == ServiceState::Down).then_some(words)
}

/// Returns the state of a gateway that did not reach another one in time, as the end of a sentence.
fn state_so_far(context: &CommandContext, name: &ProfileName) -> String {
    let Ok(report) = status::row(context, name) else { return String::new() };
    let reason = report.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    format!("; it is {}{reason}", why_down(&report).unwrap_or(report.state.words()))
}

/// How often to check that the watcher still reports: no event tells that it stopped.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Waits until a gateway that is up has shown that it works. One that ends meanwhile and is started
/// again is waited for, however often that happens.
fn until_live(context: &CommandContext, name: &ProfileName, deadline: Option<Instant>) -> Outcome {
    // The subscription comes before the first look, so that no change between them is missed.
    let mut subscriber = EventSubscriber::open(context.manager.scandir(), vec![name.clone()])?;
    let (mut followed, mut untold_of) = (None, None);
    loop {
        let report = status::row(context, name)?;
        // What a killed supervisor has left is followed by nobody.
        if report.up == Some(false) || report.state == ServiceState::NotSupervised {
            if !comes_again(&report, followed) {
                return Err(is_over(name, &report));
            }
        } else {
            followed = report.pid.or(followed);
            match (report.is_live(), report.live.as_ref().map(|live| live.state)) {
                (Some(true), _) => return DONE,
                // The process may have been replaced between the two looks.
                (None, None | Some(LiveState::Said(Liveness::Up))) if untold_of != report.pid => {
                    untold_of = report.pid;
                    continue;
                }
                (None, None | Some(LiveState::Said(Liveness::Up))) => return Err(untold(name)),
                (Some(false), _) | (None, Some(_)) => {}
            }
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(CommandError::new(
                Exit::TimedOut,
                format!("the gateway of {name} has not shown in time that it works{}", found_so_far(&report)),
            ));
        }
        subscriber.receive(Some(left.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)), |_, _| Ok(()))?;
    }
}

/// Returns whether a gateway that is not up is started again; `followed` is the process that was up
/// last.
fn comes_again(report: &ServiceReport, followed: Option<i32>) -> bool {
    let ended = report.live_restart.as_ref().map(|ended| ended.pid);
    match report.state {
        ServiceState::NotSupervised | ServiceState::Served => false,
        // Its supervisor takes an exit code of 0 as an end on purpose. If the watcher has ended the
        // gateway, the watcher starts it again.
        ServiceState::Down | ServiceState::Failed => {
            let is_ended_by_watcher = ended.is_some() && ended == followed;
            is_ended_by_watcher && report.exitcode == Some(0) && report.is_wanted() == Some(true)
        }
        _ => report.is_wanted() != Some(false),
    }
}

fn is_over(name: &ProfileName, report: &ServiceReport) -> CommandError {
    let reason = report.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    let state = report.state.words();
    CommandError::new(Exit::No, format!("the gateway of {name} is not up any more: it is {state}{reason}"))
}

/// Returns what is known of a gateway that has not shown that it works, as the end of a sentence.
fn found_so_far(report: &ServiceReport) -> String {
    let (word, reason) = match &report.live {
        // The watcher may not have noticed yet.
        Some(live) if report.state != ServiceState::Unresponsive => (live.state.word(), &live.reason),
        _ => (report.state.words(), &report.reason),
    };
    let reason = reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    format!("; it is {word}{reason}")
}

fn untold(name: &ProfileName) -> CommandError {
    CommandError::new(
        Exit::No,
        format!(
            "the gateway of {name} is up, and nothing tells whether it works; wait with --up or --ready, or say in \
             `[gateway.live]` of the agent definition what shows it"
        ),
    )
}
