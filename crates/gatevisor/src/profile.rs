//! `gatevisor profile …`

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal};
use std::time::SystemTime;

use gatevisor_gateways::drain::{DrainThen, HeldDrain};
use gatevisor_gateways::lifecycle::{self, NewGateway};
use gatevisor_gateways::manager::GatewayRequest;
use gatevisor_gateways::profile::{self, Profile, ProfileName};
use gatevisor_term::stream;
use serde_json::json;

use crate::args::{self, Choice};
use crate::choice::{NameScope, Unnamed, chosen};
use crate::context::{CommandContext, profile_name};
use crate::each::{self, Told};
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::outcome_words::{registered_words, started_words};
use crate::{drain_wait, last_lines, out, profile_env, withdrawal};

/// Runs one of the verbs.
pub fn run(context: &CommandContext, verb: args::ProfileCommand) -> Outcome {
    let _held = context.held();
    match verb {
        args::ProfileCommand::Create { name, start, reason, timeout, variables, create: _ } => {
            let request = GatewayRequest { reason, timeout, ..GatewayRequest::here("profile create") };
            create(context, &name, start, &request, &variables)
        }
        args::ProfileCommand::Env { existing, verb } => profile_env::run(context, &existing, verb),
        args::ProfileCommand::Delete { choice, yes } => delete(context, &choice, yes),
        args::ProfileCommand::List => list(context),
        args::ProfileCommand::Show { choice } => {
            let names = chosen(context, &choice, NameScope::Known, Unnamed::Selected)?;
            each::shown(&names, |name| show(context, name))
        }
    }
}

fn create(
    context: &CommandContext,
    name: &OsString,
    start: bool,
    request: &GatewayRequest,
    variables: &args::NewVariables,
) -> Outcome {
    let name = profile_name(name)?;
    let manager = &context.manager;
    let variables = profile_env::of_new(context, variables)?;
    let began = SystemTime::now();
    let made = lifecycle::create_profile(
        manager,
        manager.home(),
        manager.agent(),
        &name,
        &variables,
        start,
        request,
    )?;
    out::warn_all(&made.warnings);
    let (slot, words) = match &made.gateway {
        Ok(NewGateway::Registered(outcome)) => {
            ("registered", format!("its gateway is {}", registered_words(*outcome)))
        }
        Ok(NewGateway::Started(outcome)) => ("started", format!("its gateway: {}", started_words(*outcome))),
        Ok(NewGateway::HadSlot) => ("kept", "its gateway had a slot already".to_owned()),
        Ok(NewGateway::NextTime) => ("none", "its gateway gets a slot at the next `gatevisor up`".to_owned()),
        Ok(NewGateway::NextTimeRunning) => {
            ("desired", "its gateway is wanted and starts with the next `gatevisor up`".to_owned())
        }
        Err(_) => ("failed", "its gateway did not start".to_owned()),
    };
    let path = &made.created.profile.path;
    let printed = if context.json {
        out::json(&json!({ "profile": name.as_str(), "path": path.to_string_lossy(), "slot": slot }))
    } else {
        out::line(format_args!("created profile {name} in {}; {words}", path.display()))
    };
    match made.gateway {
        Ok(_) => printed.and(DONE),
        Err(error) => {
            let lines = error.is_of_gateway().then(|| last_lines::coming(context, &name, began));
            Err(CommandError::from(error).with_lines(lines.unwrap_or_default()))
        }
    }
}

fn delete(context: &CommandContext, choice: &Choice, yes: bool) -> Outcome {
    if choice.is_empty() {
        let message = "which profiles are to be deleted? Name them, such as `gatevisor profile delete coder`";
        return Err(CommandError::new(Exit::Usage, message));
    }
    let names = chosen(context, choice, NameScope::Removable, Unnamed::Selected)?;
    let manager = &context.manager;
    // Nothing is deleted if one of the names is wrong.
    let found = names.iter().map(|name| profile::show(manager.home(), manager.agent(), name));
    let found: Vec<Profile> = found.collect::<Result<_, _>>()?;
    if !yes && !confirmed(&found)? {
        let what = names.iter().map(ProfileName::as_str).collect::<Vec<_>>().join(", ");
        let profiles = if names.len() == 1 { "profile" } else { "profiles" };
        return Err(CommandError::new(
            Exit::No,
            format!("nothing was deleted; say yes, or use --yes to delete {profiles} {what}"),
        ));
    }
    let held = drain_wait::before(context, &names, "profile delete", DrainThen::Delete)?;
    let outcome = delete_all(context, &names);
    out::warn_all(&held.into_iter().flat_map(HeldDrain::finish).collect::<Vec<_>>());
    outcome
}

fn delete_all(context: &CommandContext, names: &[ProfileName]) -> Outcome {
    let manager = &context.manager;
    let mut results = withdrawal::each(context, names, |name| {
        let warnings = lifecycle::remove_profile(manager, manager.home(), name)?;
        let told = Told::new("deleted; its logs stay", warnings);
        Ok(Told { fields: vec![("deleted", json!(true))], ..told })
    });
    match names {
        [name] if results.len() == 1 => tell_deleted(context, name, results.remove(0)),
        _ => each::tell(context, names, results),
    }
}

fn tell_deleted(context: &CommandContext, name: &ProfileName, result: each::Result) -> Outcome {
    out::warn_all(&result?.warnings);
    if context.json {
        out::json(&json!({ "profile": name.as_str(), "deleted": true }))?;
    } else {
        out::line(format_args!("deleted profile {name} and its gateway; its logs stay"))?;
    }
    DONE
}

/// Asks on a terminal. Without a terminal the answer is no, because scripts are never asked.
fn confirmed(found: &[Profile]) -> Result<bool, CommandError> {
    if !io::stdin().is_terminal() || !stream::stderr_is_terminal() {
        return Ok(false);
    }
    let failed = |error: io::Error| CommandError::new(Exit::System, format!("cannot ask: {error}"));
    if let [one] = found {
        out::ask(format_args!(
            "Delete profile {} with everything in {}? [y/N] ",
            one.name,
            one.path.display()
        ));
    } else {
        for one in found {
            out::say(format_args!("{}: everything in {}", one.name, one.path.display()));
        }
        out::ask(format_args!("Delete these {} profiles? [y/N] ", found.len()));
    }
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn list(context: &CommandContext) -> Outcome {
    let manager = &context.manager;
    let candidates = profile::scan(manager.home(), manager.agent())?;
    for candidate in candidates {
        match candidate {
            profile::Candidate::Profile(found) if context.json => {
                out::json(&json!({ "profile": found.name.as_str(), "path": found.path.to_string_lossy() }))?;
            }
            profile::Candidate::Profile(found) => out::line(format_args!("{}", found.name))?,
            profile::Candidate::Misnamed { shown, reason } => {
                out::warn(&format!("{shown} is no profile: {reason}"));
            }
        }
    }
    DONE
}

fn show(context: &CommandContext, name: &ProfileName) -> Outcome {
    let manager = &context.manager;
    let found = profile::show(manager.home(), manager.agent(), name)?;
    let row = crate::status::row(context, name)?;
    if context.json {
        let mut value = serde_json::to_value(&row)
            .map_err(|error| CommandError::new(Exit::System, format!("cannot write JSON: {error}")))?;
        if let Some(object) = value.as_object_mut() {
            object.insert("path".to_owned(), json!(found.path.to_string_lossy()));
        }
        out::json(&value)?;
    } else {
        out::line(format_args!("profile {name}"))?;
        out::line(format_args!("path    {}", found.path.display()))?;
        crate::status::print_details(context, &row)?;
    }
    DONE
}
