//! `gatevisor profile …`

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal};
use std::time::SystemTime;

use gatevisor_gateways::lifecycle::{self, NewGateway};
use gatevisor_gateways::manager::GatewayRequest;
use gatevisor_gateways::profile::{self, ProfileName};
use gatevisor_term::stream;
use serde_json::json;

use crate::args;
use crate::context::{CommandContext, profile_name};
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::outcome_words::{registered_words, started_words};
use crate::{last_lines, out};

/// Runs one of the verbs.
pub fn run(context: &CommandContext, verb: args::ProfileCommand) -> Outcome {
    match verb {
        args::ProfileCommand::Create { name, start, reason, create: _ } => {
            create(context, &name, start, reason)
        }
        args::ProfileCommand::Delete { name, yes } => delete(context, &name, yes),
        args::ProfileCommand::List => list(context),
        args::ProfileCommand::Show { name } => show(context, &name),
    }
}

fn create(context: &CommandContext, name: &OsString, start: bool, reason: Option<String>) -> Outcome {
    let name = profile_name(name)?;
    let manager = &context.manager;
    let order = GatewayRequest { reason, ..GatewayRequest::here("profile create") };
    let began = SystemTime::now();
    let made = lifecycle::create_profile(manager, manager.home(), manager.agent(), &name, start, &order)?;
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

fn delete(context: &CommandContext, name: &OsString, yes: bool) -> Outcome {
    let name = profile_name(name)?;
    let manager = &context.manager;
    let found = profile::show(manager.home(), manager.agent(), &name)?;
    if !yes && !confirmed(&name, &found.path)? {
        return Err(CommandError::new(
            Exit::No,
            format!("nothing was deleted; say yes, or use --yes to delete profile {name}"),
        ));
    }
    let warnings = lifecycle::remove_profile(manager, manager.home(), &name)?;
    out::warn_all(&warnings);
    if context.json {
        out::json(&json!({ "profile": name.as_str(), "deleted": true }))?;
    } else {
        out::line(format_args!("deleted profile {name} and its gateway; its logs stay"))?;
    }
    DONE
}

/// Asks on a terminal; without one the answer is no, since no question is ever asked of a script.
fn confirmed(name: &ProfileName, path: &std::path::Path) -> Result<bool, CommandError> {
    if !io::stdin().is_terminal() || !stream::stderr_is_terminal() {
        return Ok(false);
    }
    let failed = |error: io::Error| CommandError::new(Exit::System, format!("cannot ask: {error}"));
    out::ask(format_args!("Delete profile {name} with everything in {}? [y/N] ", path.display()));
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

fn show(context: &CommandContext, name: &OsString) -> Outcome {
    let name = profile_name(name)?;
    let manager = &context.manager;
    let found = profile::show(manager.home(), manager.agent(), &name)?;
    let row = crate::status::row(context, &name)?;
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
