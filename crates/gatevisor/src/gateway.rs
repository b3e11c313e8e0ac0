//! `gatevisor gateway …`

use std::ffi::OsStr;
use std::time::{Duration, SystemTime};

use gatevisor_gateways::manager::{
    ControlError, Done, GatewayRequest, GatewayVerb, Registered, RestartOutcome, ServiceManager, StopOutcome,
    Unregistered, WaitFor,
};
use gatevisor_gateways::profile::{self, ProfileName};
use serde_json::json;

use crate::args::{self, ControlOptions};
use crate::choice::{self, chosen};
use crate::context::CommandContext;
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::outcome_words::{pid_words, registered_words, started_words};
use crate::{interrupt, last_lines, out};

/// Runs one of the verbs.
pub fn run(context: &CommandContext, verb: args::GatewayCommand) -> Outcome {
    let manager = &context.manager;
    match verb {
        args::GatewayCommand::Start(target) => control(
            context,
            &target,
            GatewayVerb::Start,
            |names, order| manager.start_all(names, order),
            started_words,
        ),
        args::GatewayCommand::Stop(target) => control(
            context,
            &target,
            GatewayVerb::Stop,
            |names, order| manager.stop_all(names, order),
            stopped,
        ),
        args::GatewayCommand::Restart(target) => control(
            context,
            &target,
            GatewayVerb::Restart,
            |names, order| manager.restart_all(names, order),
            restarted,
        ),
        args::GatewayCommand::Status(choice) => crate::status::details(context, &chosen(context, &choice)?),
        args::GatewayCommand::Register { name, start, all } => register(context, name.as_deref(), start, all),
        args::GatewayCommand::Unregister(choice) => unregister(context, &choice),
    }
}

const fn verb_words(verb: GatewayVerb) -> &'static str {
    match verb {
        GatewayVerb::Start => "gateway start",
        GatewayVerb::Stop => "gateway stop",
        GatewayVerb::Restart => "gateway restart",
    }
}

fn control<T>(
    context: &CommandContext,
    target: &ControlOptions,
    verb: GatewayVerb,
    act: impl FnOnce(&[ProfileName], &GatewayRequest) -> Vec<Result<Done<T>, ControlError>>,
    words: fn(T) -> String,
) -> Outcome {
    let names = chosen(context, &target.choice)?;
    let command = choice::command(verb_words(verb), &target.choice);
    let wait = match (target.no_wait, target.ready) {
        (true, _) => WaitFor::Nothing,
        (false, true) => WaitFor::Ready,
        (false, false) => WaitFor::Started,
    };
    let timeout = target.timeout.map(|seconds| Duration::from_secs(u64::from(seconds)));
    let (reason, window) = (target.reason.clone(), target.window);
    let order = GatewayRequest { reason, wait, timeout, window, ..GatewayRequest::here(&command) };
    let began = SystemTime::now();
    interrupt::say_how_far(&context.manager, verb, &names, context.json);
    let results = act(&names, &order);
    if verb != GatewayVerb::Stop {
        let done = names.iter().zip(&results).filter(|(_, result)| result.is_ok());
        crate::reload::warn_of_old(context, done.map(|(name, _)| name));
    }
    tell(
        context,
        &names,
        names.iter().zip(results).map(|(name, result)| {
            result.map(|done| (words(done.outcome), done.warnings)).map_err(|error| {
                let (is_explained, is_of_gateway) = (error.is_explained(), error.is_of_gateway());
                let mut failure = CommandError::from(error);
                if is_explained {
                    failure = failure.with_hint(format!("`gatevisor explain {name}` says what led there"));
                }
                if is_of_gateway {
                    failure.with_lines(last_lines::coming(context, name, began))
                } else {
                    failure
                }
            })
        }),
    )
}

/// Prints one result a profile and returns the code of the first failure.
fn tell(
    context: &CommandContext,
    names: &[ProfileName],
    results: impl Iterator<Item = Result<(String, Vec<String>), CommandError>>,
) -> Outcome {
    let mut code = Exit::Done.code();
    let mut printed = Ok(());
    // Each is done and said, whether the results before it were read or not.
    for (name, result) in names.iter().zip(results) {
        let line = match result {
            Ok((words, warnings)) => {
                out::warn_all(&warnings);
                if context.json {
                    out::json(&json!({ "profile": name.as_str(), "ok": true, "result": words }))
                } else {
                    out::line(format_args!("{name}: {words}"))
                }
            }
            Err(failure) => {
                let object = json!({
                    "profile": name.as_str(), "ok": false, "error": failure.message, "exit": failure.code,
                    "last_lines": failure.lines,
                });
                let line = if context.json { out::json(&object) } else { Ok(()) };
                out::fail(&failure);
                if code == Exit::Done.code() {
                    code = failure.code;
                }
                line
            }
        };
        printed = printed.and(line);
    }
    if code == Exit::Done.code() { printed.and(DONE) } else { Ok(code) }
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
        RestartOutcome::Ready(pid) => format!("restarted, ready{}", pid_words(pid)),
        RestartOutcome::WasDown(how) => format!("was down, so it was started: {}", started_words(how)),
    }
}

fn register(context: &CommandContext, name: Option<&OsStr>, start: bool, all: bool) -> Outcome {
    let manager = &context.manager;
    // Registering ends when the command is executed; `gateway start` waits for evidence that it works.
    let order = GatewayRequest { wait: WaitFor::Up, ..GatewayRequest::here("gateway register") };
    let names = if all {
        let profiles = profile::list(manager.home(), manager.agent())?;
        let known = manager.list()?;
        profiles.into_iter().map(|found| found.name).filter(|name| !known.contains(name)).collect()
    } else {
        vec![context.named(name)?]
    };
    if names.is_empty() && !context.json {
        out::line(format_args!("every profile has its slot already"))?;
        return DONE;
    }
    let results = names.iter().map(|name| {
        manager
            .register(name, start, &order)
            .map(|done: Done<Registered>| (registered_words(done.outcome), done.warnings))
            .map_err(CommandError::from)
    });
    tell(context, &names, results)
}

fn unregister(context: &CommandContext, choice: &args::Choice) -> Outcome {
    let names = chosen(context, choice)?;
    let manager = &context.manager;
    let results = names.iter().map(|name| {
        manager
            .unregister(name)
            .map(|done: Done<Unregistered>| {
                let words = match done.outcome {
                    Unregistered::Gone => "gone",
                    Unregistered::WasAbsent => "had no slot",
                };
                (words.to_owned(), done.warnings)
            })
            .map_err(CommandError::from)
    });
    tell(context, &names, results)
}
