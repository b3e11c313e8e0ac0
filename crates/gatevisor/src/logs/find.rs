//! Finds the logs of profiles.
//!
//! *Lives here:* choosing profiles and finding their log directories. *Does not live here:* reading
//! them.

use std::path::{Path, PathBuf};

use gatevisor_client::look;
use gatevisor_gateways::agent::{Placeholders, fill};
use gatevisor_gateways::files::read_bounded;
use gatevisor_gateways::manager::{LookError, ScandirManager};
use gatevisor_gateways::profile::{self, ProfileName};
use gatevisor_logreader::{Clock, Directory};
use gatevisor_paths::by_path;
use gatevisor_slot::Timestamp;
use gatevisor_sys::refused::is_refusal;
use gatevisor_wire::log_script::{LogScript, LogStamp};
use rustix::fs::OFlags;

use crate::args;
use crate::choice::{self, NameScope, Unnamed};
use crate::container_scandir::variable;
use crate::context::CommandContext;
use crate::exit::{CommandError, Exit};
use crate::out;

/// Most bytes of a `log/run` that are read.
const LOG_RUN: usize = 64 << 10;

/// Returns the log directory of a profile's gateway.
///
/// A slot names it in its `log/run`. Without a slot, it is the directory that the agent definition
/// would name.
pub fn directory(manager: &ScandirManager, name: &ProfileName) -> Result<Directory, CommandError> {
    let variable_of_home = manager.agent().home_variable();
    let lookup = |wanted: &str| {
        if wanted == variable_of_home { Some(manager.home().root().into()) } else { variable(wanted) }
    };
    let label = name.as_str().to_owned();
    let log = manager.scandir().join(name.service_entry()).join("log");
    if let Some((directory, clock)) = said_by_slot(&log)
        && let Ok(path) = gatevisor_slot::expand(&directory, &lookup)
    {
        return Ok(Directory { label, path: log.join(path), clock });
    }
    let usage = |error: &dyn std::error::Error| CommandError::of(Exit::Usage, error);
    let template = fill(&manager.agent().gateway.log_directory, &Placeholders::new(name, &variable_of_home))
        .map_err(|error| usage(&error))?;
    let path = gatevisor_slot::expand(&template, &lookup).map_err(|error| usage(&error))?;
    Ok(Directory { label, path: PathBuf::from(path), clock: Clock::Utc })
}

/// Returns the directory and the clock of a slot's log according to its `log/run`, if the log
/// daemon can read that.
fn said_by_slot(log: &Path) -> Option<(String, Clock)> {
    let clock = |is_local| if is_local { Clock::Local } else { Clock::Utc };
    let bytes = read_bounded(&log.join("run"), LOG_RUN).ok()??;
    // It contains no `$`, so nothing in it is expanded.
    if let Some(script) = LogScript::from_file(&bytes) {
        return Some((script.directory.to_owned(), clock(script.stamp == LogStamp::IsoLocal)));
    }
    let file = gatevisor_slot::parse_log(&bytes).ok()?;
    Some((file.directory, clock(file.timestamp == Timestamp::IsoLocal)))
}

/// A profile and its log directory.
pub type FoundLog = (ProfileName, Directory);

/// Returns the logs that may be read, and the exit code. Logs that may not be read are reported,
/// and do not keep the others from being read.
pub fn readable(context: &CommandContext, found: Vec<FoundLog>) -> Result<(Vec<FoundLog>, u8), CommandError> {
    let (mut readable, mut failures) = (Vec::new(), Vec::new());
    for (name, directory) in found {
        match look_into(context, &name, &directory) {
            Ok(()) => readable.push((name, directory)),
            Err(failure) if failure.code == Exit::System.code() => failures.push(failure),
            Err(failure) => return Err(failure),
        }
    }
    if readable.is_empty() && !failures.is_empty() {
        return Err(failures.swap_remove(0));
    }
    let code = failures.iter().map(out::fail).max().unwrap_or(Exit::Done.code());
    Ok((readable, code))
}

/// Refuses a log that may not be read, and a profile that does not exist. The log of a deleted
/// profile stays, and may be read.
fn look_into(
    context: &CommandContext,
    name: &ProfileName,
    directory: &Directory,
) -> Result<(), CommandError> {
    let manager = &context.manager;
    match by_path::open(&directory.path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(errno) if is_refusal(errno) => Err(LookError::at(&directory.path, errno).into()),
        Err(_) if !manager.slot(name).is_there() => {
            profile::show(manager.home(), manager.agent(), name).map(drop).map_err(CommandError::from)
        }
        // The reader reports every other problem.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Returns the clock of all these logs; UTC if they differ.
pub fn common_clock(directories: &[Directory]) -> Clock {
    let all_local = directories.iter().all(|directory| directory.clock == Clock::Local);
    if all_local && !directories.is_empty() { Clock::Local } else { Clock::Utc }
}

/// Returns the chosen profiles, or else the selected one, or else all that have a slot or a log.
pub fn chosen(context: &CommandContext, options: &args::Logs) -> Result<Vec<ProfileName>, CommandError> {
    let choice = &options.choice;
    if !choice.is_of_everybody(context) {
        return choice::chosen(context, choice, NameScope::Known, Unnamed::Selected);
    }
    let mut names = choice::members(context, NameScope::Known)?;
    if !options.follow {
        // A log that may not be looked at is reported later.
        let may_be_there = |path: &Path| look::exists(path).unwrap_or(true);
        names.retain(|name| {
            directory(&context.manager, name).is_ok_and(|directory| may_be_there(&directory.path))
        });
    }
    if names.is_empty() {
        return Err(context.absent("no gateway has written anything yet"));
    }
    Ok(names)
}
