//! Whose logs, and where they are.
//!
//! *Lives here:* choosing profiles and finding their log directories. *Does not live here:* reading them.

use std::path::PathBuf;

use gatevisor_gateways::agent::{Placeholders, fill};
use gatevisor_gateways::manager::{ScandirManager, ServiceManager};
use gatevisor_gateways::profile::{self, ProfileName};
use gatevisor_logreader::{Clock, Directory};
use gatevisor_paths::by_path;
use gatevisor_slot::Timestamp;
use gatevisor_wire::log_script::{LogScript, LogStamp};

use crate::args;
use crate::container_scandir::variable;
use crate::context::CommandContext;
use crate::exit::{CommandError, Exit};

/// Most bytes of a `log/run` that are read.
const LOG_RUN: u64 = 64 << 10;

/// Returns the log directory of a profile's gateway.
///
/// A slot says it in its `log/run`; without one, it is where the agent definition would have a slot say it is.
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

/// Returns where a slot's `log/run` keeps lines and by which clock it stamps them, if the log daemon can read it.
fn said_by_slot(log: &std::path::Path) -> Option<(String, Clock)> {
    let clock = |is_local| if is_local { Clock::Local } else { Clock::Utc };
    let read = gatevisor_slot::read_file(&log.join("run"), LOG_RUN).ok()?;
    // Has no `$`, so nothing in it is expanded.
    if let Some(script) = LogScript::from_file(&read.bytes) {
        return Some((script.directory.to_owned(), clock(script.stamp == LogStamp::IsoLocal)));
    }
    let file = gatevisor_slot::parse_log(&read.bytes).ok()?;
    Some((file.directory, clock(file.timestamp == Timestamp::IsoLocal)))
}

/// Refuses a profile that there is not; the log of one that was deleted stays, and may be read.
pub fn exists(
    context: &CommandContext,
    name: &ProfileName,
    directory: &Directory,
) -> Result<(), CommandError> {
    let manager = &context.manager;
    if by_path::look(&directory.path).is_ok() || manager.slot(name).is_there() {
        return Ok(());
    }
    profile::show(manager.home(), manager.agent(), name).map(drop).map_err(CommandError::from)
}

/// Returns the clock of all these logs; that of UTC where they differ.
pub fn common_clock(directories: &[Directory]) -> Clock {
    let all_local = directories.iter().all(|directory| directory.clock == Clock::Local);
    if all_local && !directories.is_empty() { Clock::Local } else { Clock::Utc }
}

/// Returns the named profiles, else the selected one, else all that have a slot or a log.
pub fn chosen(context: &CommandContext, options: &args::Logs) -> Result<Vec<ProfileName>, CommandError> {
    if !options.names.is_empty() {
        let mut names = Vec::new();
        for name in &options.names {
            let name = context.named(Some(name))?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        return Ok(names);
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
        names.retain(|name| {
            directory(&context.manager, name).is_ok_and(|directory| by_path::look(directory.path).is_ok())
        });
    }
    if names.is_empty() {
        return Err(CommandError::new(Exit::No, "no gateway has written anything yet"));
    }
    Ok(names)
}
