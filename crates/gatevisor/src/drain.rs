//! `gatevisor gateway drain`, and `--drain` of a stop and a restart: gateways finish their work
//! before something is done to them.
//!
//! *Lives here:* which gateways, and the order of the steps.
//! *Does not live here:* the wait (`drain_wait`).

use std::collections::BTreeMap;

use gatevisor_gateways::drain::{self, CancelledDrain, DrainError, DrainThen, HeldDrain};
use gatevisor_gateways::manager::GatewayVerb;
use gatevisor_gateways::profile::ProfileName;
use gatevisor_liveness::DrainEnd;

use crate::args::{Choice, ControlOptions, DrainOptions, DrainedControl, ThenOption};
use crate::choice::{self, NameScope, Unnamed, chosen};
use crate::context::CommandContext;
use crate::drain_wait::{DrainedGateways, by_signal, fields, order, say, wait_for, words};
use crate::each::{self, Told};
use crate::exit::{CommandError, Exit, Outcome};
use crate::{control, out};

/// Stops or restarts gateways, with `--drain` once they are idle.
pub fn stop_or_restart(context: &CommandContext, options: &DrainedControl, verb: GatewayVerb) -> Outcome {
    let target = &options.control;
    let names = chosen(context, &target.choice, NameScope::Slots, Unnamed::Selected)?;
    let Some(limit) = options.drain else { return control::run(context, target, verb, &names) };
    let command = choice::command(control::verb_words(verb), &target.choice);
    let mut drained = wait_for(context, &names, &order(&command, limit, then_of(verb)));
    let not_up = std::mem::take(&mut drained.not_up);
    let (outcome, _) = follow(context, target, Some(verb), &names, drained, not_up);
    outcome
}

/// Drains gateways, and then does what the options say.
pub fn run(context: &CommandContext, options: &DrainOptions) -> Outcome {
    let names = chosen(context, &options.choice, NameScope::Slots, Unnamed::Selected)?;
    if options.cancel {
        return cancel(context, &names);
    }
    let (verb, then) = match options.then {
        ThenOption::Stop => (Some(GatewayVerb::Stop), DrainThen::Stop),
        ThenOption::Restart => (Some(GatewayVerb::Restart), DrainThen::Restart),
        ThenOption::Nothing => (None, DrainThen::Nothing),
    };
    let command = choice::command("gateway drain", &options.choice);
    let drained = wait_for(context, &names, &order(&command, options.limit, then));
    let target = ControlOptions {
        choice: Choice { names: options.choice.names.clone(), ..options.choice },
        reason: options.reason.clone(),
        no_wait: false,
        ready: false,
        window: None,
        timeout: None,
    };
    let (outcome, is_cut) = follow(context, &target, verb, &names, drained, Vec::new());
    let code = outcome?;
    Ok(if code == Exit::Done.code() && is_cut { Exit::TimedOut.code() } else { code })
}

const fn then_of(verb: GatewayVerb) -> DrainThen {
    match verb {
        GatewayVerb::Stop => DrainThen::Stop,
        GatewayVerb::Start | GatewayVerb::Restart => DrainThen::Restart,
    }
}

/// Does the next step to the drained gateways and to `others`, takes the requests to drain back,
/// and prints the result of each. Also returns whether any work was cut off.
fn follow(
    context: &CommandContext,
    target: &ControlOptions,
    verb: Option<GatewayVerb>,
    names: &[ProfileName],
    drained: DrainedGateways,
    others: Vec<ProfileName>,
) -> (Outcome, bool) {
    let DrainedGateways { held, not_up, served, refused, cancelled_by, since } = drained;
    let mut results: BTreeMap<ProfileName, each::Result> = BTreeMap::new();
    let not_up = not_up.into_iter().map(|name| (name.clone(), DrainError::NotUp { name }));
    results.extend(refused.into_iter().chain(not_up).map(|(name, error)| (name, Err(error.into()))));
    let mut next = others;
    for drain in &held {
        let name = drain.name();
        // Nothing was recorded about the next step, so a command that came meanwhile counts.
        let overruled = || context.manager.overruled(name, verb?, since).map(|error| Err(error.into()));
        let result = overruled().or_else(|| {
            say(context, drain, verb.is_none());
            without_sequel(drain, verb, cancelled_by)
        });
        match result {
            Some(result) => drop(results.insert(name.clone(), result)),
            None => next.push(name.clone()),
        }
    }
    for (name, by) in served {
        match results.get(&by) {
            Some(result) => drop(results.insert(name, as_its_server(&by, result))),
            None => next.push(name),
        }
    }
    if let Some(verb) = verb.filter(|_| !next.is_empty()) {
        held.iter().for_each(HeldDrain::take_back_at_its_end);
        results.extend(next.iter().cloned().zip(control::results(context, target, verb, &next)));
    }
    for drain in &held {
        if let Some(Ok(told)) = results.get_mut(drain.name()) {
            told.fields.extend(fields(drain, verb.is_none()));
        }
    }
    let is_cut = held.iter().any(|drain| matches!(drain.end(), Some(DrainEnd::Limit(..))));
    out::warn_all(&held.into_iter().flat_map(HeldDrain::finish).collect::<Vec<_>>());
    let undone = |name: &ProfileName| results.remove(name).unwrap_or_else(|| Err(nothing_followed(name)));
    (each::tell(context, names, names.iter().map(undone)), is_cut)
}

/// Returns the result of a drain without a next step; `None` if there is a next step.
fn without_sequel(
    drain: &HeldDrain,
    verb: Option<GatewayVerb>,
    cancelled_by: Option<i32>,
) -> Option<each::Result> {
    let message = || format!("{}: {}", drain.name(), words(drain, verb.is_none()));
    match drain.end()? {
        DrainEnd::Failed(_) => Some(Err(CommandError::new(Exit::System, message()))),
        // If there are several gateways, some may have been idle by then.
        _ if cancelled_by.is_some() => {
            let code = by_signal(cancelled_by.unwrap_or_default());
            Some(Err(CommandError { code, ..CommandError::new(Exit::No, message()) }))
        }
        // A gateway whose process has ended by itself was already restarted by its supervisor.
        DrainEnd::Ended if verb == Some(GatewayVerb::Restart) => {
            Some(Ok(Told::new("restarted, because its process ended by itself", Vec::new())))
        }
        _ if verb.is_none() => Some(Ok(Told::new(words(drain, true), Vec::new()))),
        _ => None,
    }
}

/// Returns the result for a profile whose gateway is that of another profile, for a drain without a
/// next step.
fn as_its_server(by: &ProfileName, result: &each::Result) -> each::Result {
    let words = |what: &str| format!("the gateway of {by} serves it: {what}");
    match result {
        Ok(told) => Ok(Told { fields: told.fields.clone(), ..Told::new(words(&told.words), Vec::new()) }),
        Err(error) => {
            Err(CommandError { code: error.code, ..CommandError::new(Exit::No, words(&error.message)) })
        }
    }
}

fn nothing_followed(name: &ProfileName) -> CommandError {
    CommandError::new(Exit::Bug, format!("nothing was done to {name}"))
}

fn cancel(context: &CommandContext, names: &[ProfileName]) -> Outcome {
    let results = names.iter().map(|name| {
        let words = |done| match done {
            CancelledDrain::Owner(by) => format!("takes work again; told to end: {by}"),
            CancelledDrain::Undone(by) => format!("takes work again; it was drained by {by}"),
            CancelledDrain::AskedByAnother => "takes work again; another program had it drained".to_owned(),
        };
        let told = |done| Told::new(words(done), Vec::new());
        drain::cancel(&context.manager, name).map(told).map_err(CommandError::from)
    });
    each::tell(context, names, results)
}
