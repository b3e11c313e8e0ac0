//! Starts, stops and restarts the chosen gateways, and reports the results.
//!
//! *Lives here:* the common part of these verbs.
//! *Does not live here:* the verbs (`gateway`), and the steps before them (`drain`).

use std::time::SystemTime;

use gatevisor_gateways::earlier;
use gatevisor_gateways::manager::{
    ControlError, Done, GatewayRequest, GatewayVerb, RestartOutcome, ServiceManager, StopOutcome, WaitFor,
};
use gatevisor_gateways::profile::ProfileName;

use crate::args::ControlOptions;
use crate::choice;
use crate::context::CommandContext;
use crate::each::{self, Told};
use crate::exit::{CommandError, Outcome};
use crate::outcome_words::{pid_words, started_words};
use crate::{interrupt, last_lines};

/// Carries out a verb on these gateways with these options, and reports the results.
pub fn run(
    context: &CommandContext,
    target: &ControlOptions,
    verb: GatewayVerb,
    names: &[ProfileName],
) -> Outcome {
    let _held = context.held();
    each::tell(context, names, results(context, target, verb, names))
}

/// Carries out a verb on these gateways with these options, and returns the results.
pub fn results(
    context: &CommandContext,
    target: &ControlOptions,
    verb: GatewayVerb,
    names: &[ProfileName],
) -> Vec<each::Result> {
    let (manager, command) = (&context.manager, Commanded { context, target, verb, names });
    match verb {
        GatewayVerb::Start => {
            command.results(|names, request| manager.start_all(names, request), started_words)
        }
        GatewayVerb::Stop => command.results(|names, request| manager.stop_all(names, request), stopped),
        GatewayVerb::Restart => {
            command.results(|names, request| manager.restart_all(names, request), restarted)
        }
    }
}

/// Returns the words of a verb.
pub const fn verb_words(verb: GatewayVerb) -> &'static str {
    match verb {
        GatewayVerb::Start => "gateway start",
        GatewayVerb::Stop => "gateway stop",
        GatewayVerb::Restart => "gateway restart",
    }
}

/// A verb, and the gateways that it is for.
struct Commanded<'a> {
    context: &'a CommandContext,
    target: &'a ControlOptions,
    verb: GatewayVerb,
    names: &'a [ProfileName],
}

impl Commanded<'_> {
    fn results<T>(
        self,
        act: impl FnOnce(&[ProfileName], &GatewayRequest) -> Vec<Result<Done<T>, ControlError>>,
        words: fn(T) -> String,
    ) -> Vec<each::Result> {
        let Self { context, target, verb, names } = self;
        let command = choice::command(verb_words(verb), &target.choice);
        let wait = match (target.no_wait, target.ready) {
            (true, _) => WaitFor::Nothing,
            (false, true) => WaitFor::Ready,
            (false, false) => WaitFor::Started,
        };
        let (reason, timeout, window) = (target.reason.clone(), target.timeout, target.window);
        let request = GatewayRequest { reason, wait, timeout, window, ..GatewayRequest::here(&command) };
        let began = SystemTime::now();
        interrupt::say_how_far(&context.manager, verb, names, context.json);
        let results = act(names, &request);
        if verb != GatewayVerb::Stop {
            let done = names.iter().zip(&results).filter(|(_, result)| result.is_ok());
            crate::reload::warn_of_old(context, done.map(|(name, _)| name));
        }
        let told = names.iter().zip(results).map(|(name, result)| {
            let failed = |error| control_failure(context, name, error, began);
            result.map(|done| Told::new(words(done.outcome), done.warnings)).map_err(failed)
        });
        told.collect()
    }
}

/// Returns the error for a failed request, with help for understanding it.
fn control_failure(
    context: &CommandContext,
    name: &ProfileName,
    error: ControlError,
    began: SystemTime,
) -> CommandError {
    let (is_explained, is_of_gateway) = (error.is_explained(), error.is_of_gateway());
    let is_unsupervised = matches!(error, ControlError::NoSupervisor { .. });
    let mut failure = CommandError::from(error);
    if is_unsupervised {
        failure.message.push_str(&orphan(context, name));
    }
    if is_explained {
        failure = failure.with_hint(format!("`gatevisor explain {name}` says what led there"));
    }
    if is_of_gateway { failure.with_lines(last_lines::coming(context, name, began)) } else { failure }
}

/// Returns what runs of a gateway without a supervisor, as the end of a sentence; empty if nothing
/// does.
fn orphan(context: &CommandContext, name: &ProfileName) -> String {
    let manager = &context.manager;
    let Some(orphans) = earlier::orphans(manager.scandir(), manager.home().root()) else {
        return "; whether a killed supervisor has left a process of it could not be found out within 5 s"
            .to_owned();
    };
    orphans.into_iter().find(|(left, _)| left == name).map_or_else(String::new, |(_, pid)| {
        format!(
            "; until then, process {pid} of it goes on running, left by a supervisor that was killed: `kill {pid}` ends \
             only that"
        )
    })
}

fn stopped(outcome: StopOutcome) -> String {
    match outcome {
        StopOutcome::WasDown => "was down already",
        StopOutcome::Told => "stopping",
        StopOutcome::Down => "down",
    }
    .to_owned()
}

fn restarted(outcome: RestartOutcome) -> String {
    match outcome {
        RestartOutcome::Told => "restarting".to_owned(),
        RestartOutcome::Up(pid) => format!("restarted, up{}", pid_words(pid)),
        RestartOutcome::Live(pid) => format!("restarted, live{}", pid_words(pid)),
        RestartOutcome::Ready(pid) => format!("restarted, ready{}", pid_words(pid)),
        RestartOutcome::Served(pid) => format!("served anew by the gateway of default{}", pid_words(pid)),
        RestartOutcome::WasDown(how) => format!("was down, so it was started: {}", started_words(how)),
    }
}
