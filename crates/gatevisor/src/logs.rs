//! `gatevisor logs`: what gateways wrote.

use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anstyle::AnsiColor;
use gatevisor_gateways::agent::{Blanks, fill};
use gatevisor_gateways::manager::ServiceManager;
use gatevisor_gateways::profile::{self, ProfileName};
use gatevisor_logd::reader::{self, Options};
use serde_json::json;

use crate::args;
use crate::context::{Context, variable};
use crate::exit::{DONE, Exit, Failure, Outcome};
use crate::out::{self, Paint};

/// One after the other for the labels of gateways; red is for errors.
const COLOURS: [AnsiColor; 5] =
    [AnsiColor::Cyan, AnsiColor::Green, AnsiColor::Magenta, AnsiColor::Blue, AnsiColor::Yellow];

/// Prints the last lines, and with `-f` those to come.
pub fn run(context: &Context, options: &args::Logs) -> Outcome {
    let lines = match options.lines.as_str() {
        "all" => None,
        number => Some(number.parse().map_err(|_| {
            Failure::new(Exit::Usage, format!("-n takes a number of lines or `all`, not `{number}`"))
        })?),
    };
    let names = chosen(context, options)?;
    let several = names.len() > 1;
    let dirs: Vec<(String, PathBuf)> = names
        .iter()
        .map(|name| Ok((name.as_str().to_owned(), directory(context, name)?)))
        .collect::<Result<_, Failure>>()?;
    if !options.follow
        && let [(name, dir)] = dirs.as_slice()
        && !dir.exists()
    {
        return Err(Failure::new(
            Exit::No,
            format!("{name} has no log yet; it would be in `{}`", dir.display()),
        ));
    }
    let paint = Paint::stdout();
    let width = names.iter().map(|name| name.as_str().len()).max().unwrap_or(0);
    let labels: Vec<(String, String)> = names
        .iter()
        .zip(COLOURS.iter().cycle())
        .map(|(name, colour)| (name.as_str().to_owned(), paint.colour(*colour, &format!("{name:width$}"))))
        .collect();
    let mut failure = None;
    let stdout = std::io::stdout();
    let reading = Options { dirs, lines, follow: options.follow };
    let result = reader::run_until(&reading, Some(stdout.as_fd()), &mut |label, line| {
        let printed = if context.json {
            out::json(&json!({ "profile": label, "line": String::from_utf8_lossy(line) }))
        } else {
            let mut bytes = Vec::with_capacity(line.len().saturating_add(width).saturating_add(16));
            if several && let Some((_, shown)) = labels.iter().find(|(name, _)| name == label) {
                bytes.extend_from_slice(shown.as_bytes());
                bytes.extend_from_slice(b" | ");
            }
            bytes.extend_from_slice(line);
            bytes.push(b'\n');
            out::write(&bytes)
        };
        match printed {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    match (failure, result) {
        (Some(failure), _) => Err(failure),
        (None, Err(error)) => Err(Failure::of(Exit::System as u8, &error)),
        (None, Ok(())) => DONE,
    }
}

/// Returns the log directory of a profile's gateway, as its slot names it when it starts.
fn directory(context: &Context, name: &ProfileName) -> Result<PathBuf, Failure> {
    let manager = &context.manager;
    let variable_of_home = manager.agent().home_variable();
    let lookup = |wanted: &str| {
        if wanted == variable_of_home { Some(manager.home().root().into()) } else { variable(wanted) }
    };
    let template = fill(&manager.agent().gateway.log_directory, &Blanks::new(name, &variable_of_home))
        .map_err(|error| Failure::of(Exit::Usage as u8, &error))?;
    let path =
        gatevisor_slot::expand(&template, &lookup).map_err(|error| Failure::of(Exit::Usage as u8, &error))?;
    Ok(PathBuf::from(path))
}

/// Returns the named profiles, else the selected one, else all that have a slot or a log.
fn chosen(context: &Context, options: &args::Logs) -> Result<Vec<ProfileName>, Failure> {
    if !options.names.is_empty() {
        return options.names.iter().map(|name| context.named(Some(name))).collect();
    }
    if context.is_selected {
        return Ok(vec![context.selected.clone()]);
    }
    let manager = &context.manager;
    let mut names = manager.list().unwrap_or_default();
    for found in profile::list(manager.home(), manager.agent()).unwrap_or_default() {
        if !names.contains(&found.name) {
            names.push(found.name);
        }
    }
    if !options.follow {
        names.retain(|name| directory(context, name).is_ok_and(|path| path.exists()));
    }
    if names.is_empty() {
        return Err(Failure::new(Exit::No, "no gateway has written anything yet"));
    }
    Ok(names)
}
