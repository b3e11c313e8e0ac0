//! `gatevisor profile env`, and the variables that a new profile gets.
//!
//! *Lives here:* the variables that an operator's words set.
//! *Does not live here:* the file (`gatevisor_gateways::variables`), and its syntax.
//!
//! Values are secrets. None is printed unless somebody asks for it, and each can be given on
//! standard input, where no list of processes shows it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use gatevisor_gateways::profile::{self, Assignments, OwnVariables, PortChoice, ProfileName};
use gatevisor_gateways::read_bounded;
use gatevisor_gateways::variables::{self, VariableChange};
use gatevisor_slot::dotenv;
use serde_json::json;

use crate::args::{EnvCommand, NewVariables};
use crate::context::{CommandContext, profile_name};
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::out;
use crate::standard_input::{self, StandardInputError};

/// The most bytes of standard input or of a file that are read.
const MAX_BYTES: usize = 1 << 20;

/// The value that stands for standard input.
const STDIN: &[u8] = b"-";

/// Shows or changes the variables of a profile.
pub fn run(context: &CommandContext, name: &OsStr, verb: EnvCommand) -> Outcome {
    let name = profile_name(name)?;
    let manager = &context.manager;
    profile::show(manager.home(), manager.agent(), &name)?;
    match verb {
        EnvCommand::Get { variable } => get(context, &name, &variable),
        EnvCommand::List { values } => list(context, &name, values),
        EnvCommand::Set { assignments } => {
            let assignments =
                assignments.iter().map(|word| assignment(word)).collect::<Result<Vec<_>, _>>()?;
            let changes = assignments.into_iter().map(|(name, value)| VariableChange::Set(name, value));
            change(context, &name, &changes.collect::<Vec<_>>())
        }
        EnvCommand::Unset { variables } => {
            let changes: Vec<_> = variables.into_iter().map(VariableChange::Unset).collect();
            change(context, &name, &changes)
        }
    }
}

fn get(context: &CommandContext, name: &ProfileName, variable: &str) -> Outcome {
    let all = variables::list(&context.manager, name)?;
    let Some((_, value)) = all.iter().find(|(known, _)| known == variable) else {
        return Err(CommandError::new(
            Exit::No,
            format!("{name} has no variable `{variable}` in its own file"),
        ));
    };
    let shown = value.to_string_lossy();
    if context.json {
        out::json(&json!({ "profile": name.as_str(), "name": variable, "value": shown }))?;
    } else {
        out::line(&*shown)?;
    }
    DONE
}

fn list(context: &CommandContext, name: &ProfileName, with_values: bool) -> Outcome {
    for (variable, value) in variables::list(&context.manager, name)? {
        let value = with_values.then(|| value.to_string_lossy());
        match (context.json, value) {
            (true, None) => out::json(&json!({ "profile": name.as_str(), "name": variable }))?,
            (true, Some(value)) => {
                out::json(&json!({ "profile": name.as_str(), "name": variable, "value": value }))?;
            }
            (false, None) => out::line(variable)?,
            (false, Some(value)) => out::line(format_args!("{variable}={value}"))?,
        }
    }
    DONE
}

fn change(context: &CommandContext, name: &ProfileName, changes: &[VariableChange]) -> Outcome {
    let manager = &context.manager;
    variables::change(manager, name, changes)?;
    let is_up = manager.slot(name).status().is_ok_and(|status| status.is_up());
    if is_up {
        out::say(format_args!("it counts from the next start; `gatevisor restart {name}` makes one"));
    }
    let count = changes.len();
    if context.json {
        out::json(&json!({ "profile": name.as_str(), "ok": true, "changed": count }))?;
    } else {
        let noun = if count == 1 { "variable" } else { "variables" };
        out::line(format_args!("{name}: {count} {noun} changed"))?;
    }
    DONE
}

/// Returns the variables that the words set for a new profile.
pub fn of_new(context: &CommandContext, words: &NewVariables) -> Result<OwnVariables, CommandError> {
    let mut given = Vec::new();
    if let Some(file) = &words.env_file {
        given.extend(of_file(file)?);
    }
    for word in &words.env {
        given.push(assignment(word)?);
    }
    let port = words.port.as_deref().map_or(Ok(PortChoice::AsDefined), port)?;
    if !given.is_empty() || port != PortChoice::AsDefined {
        // If the agent reads no such file, that is reported before anything is made.
        variables::file_of(&context.manager, &ProfileName::root())?;
    }
    Ok(OwnVariables { given, port })
}

/// Returns the variables that a file sets.
fn of_file(file: &Path) -> Result<Assignments, CommandError> {
    if file.as_os_str().as_bytes() == STDIN {
        return Ok(dotenv::parse(&stdin()?));
    }
    let failed = |why: String| {
        CommandError::new(Exit::System, format!("cannot read the variables in `{}`: {why}", file.display()))
    };
    let bytes = read_bounded(file, MAX_BYTES).map_err(|error| failed(error.to_string()))?;
    let bytes = bytes.ok_or_else(|| failed("there is no such file".to_owned()))?;
    Ok(dotenv::parse(&bytes))
}

/// Returns the variable that one word sets. For `NAME=-`, the value is read from standard input.
fn assignment(word: &OsStr) -> Result<(String, OsString), CommandError> {
    let bytes = word.as_bytes();
    let wrong = |why: &str| CommandError::new(Exit::Usage, format!("NAME=VALUE is expected: {why}"));
    let at = bytes.iter().position(|&byte| byte == b'=').ok_or_else(|| wrong("there is no `=`"))?;
    let (name, value) = (bytes.get(..at).unwrap_or_default(), bytes.get(at.saturating_add(1)..));
    let name = str::from_utf8(name).ok().filter(|name| dotenv::is_name(name));
    let name = name.ok_or_else(|| wrong("a name has A-Z, a-z, 0-9 and `_`, and begins with no digit"))?;
    let value = match value.unwrap_or_default() {
        STDIN => {
            let mut value = stdin()?;
            if value.last() == Some(&b'\n') {
                value.pop();
            }
            value
        }
        value => value.to_vec(),
    };
    Ok((name.to_owned(), OsString::from_vec(value)))
}

fn stdin() -> Result<Vec<u8>, CommandError> {
    standard_input::all(MAX_BYTES).map_err(|error| {
        let code = if matches!(error, StandardInputError::ReadTwice) { Exit::Usage } else { Exit::System };
        CommandError::new(code, format!("cannot read standard input: {error}"))
    })
}

/// Returns the port that a word means.
fn port(word: &str) -> Result<PortChoice, CommandError> {
    if word == "auto" {
        return Ok(PortChoice::Free);
    }
    let number = word.parse::<u16>().ok().filter(|port| *port != 0);
    number.map(PortChoice::Number).ok_or_else(|| {
        CommandError::new(
            Exit::Usage,
            format!("--port takes a number from 1 to 65535 or `auto`, not `{word}`"),
        )
    })
}
