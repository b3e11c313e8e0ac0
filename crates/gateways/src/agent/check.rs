//! *Lives here:* the rules that the values of an agent definition keep.
//!
//! *Does not live here:* reading the definition; rules that several parts of it share (`fault`).

use gatevisor_slot::live::Live;

use super::fault::{Fault, below, fault, file_name, variable};
use super::{AgentDefinition, Placeholders, SeedFile, fill};
use crate::profile::ProfileName;

/// Milliseconds that any timeout may have: a day.
const MAX_TIMEOUT_MS: u64 = 86_400_000;
/// Returns the first value that makes no sense.
pub(super) fn check(agent: &AgentDefinition) -> Result<(), Fault> {
    let name_ok = agent.name.starts_with(|c: char| c.is_ascii_lowercase())
        && agent.name.len() <= 32
        && agent.name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if !name_ok {
        return fault("name", "use a-z, 0-9 and `-`, begin with a letter, 32 characters at the most");
    }
    variable("home-variable", &agent.home_variable())?;
    profile(agent)?;
    gateway(agent)?;
    super::container::check(&agent.container)?;
    super::doctor::check(&agent.doctor)?;
    templates(agent)
}

fn profile(agent: &AgentDefinition) -> Result<(), Fault> {
    file_name("profile.marker", &agent.profile.marker)?;
    for directory in &agent.profile.directories {
        below("profile.directories", directory)?;
    }
    for file in &agent.profile.files {
        below("profile.files.path", &file.path)?;
        if SeedFile::mode_bits(file).is_none() {
            return fault("profile.files.mode", format!("`{}` is not an octal mode up to 0777", file.mode));
        }
    }
    match agent.profile.files.iter().any(|file| file.path == agent.profile.marker)
        || agent.profile.directories.contains(&agent.profile.marker)
    {
        true => Ok(()),
        false if agent.profile.files.is_empty() && agent.profile.directories.is_empty() => Ok(()),
        false => fault(
            "profile.files",
            format!(
                "the marker `{}` is not among them, so a new profile would be none",
                agent.profile.marker
            ),
        ),
    }
}

fn gateway(agent: &AgentDefinition) -> Result<(), Fault> {
    let gateway = &agent.gateway;
    for (field, command) in [
        ("gateway.command-default", &gateway.command_default),
        ("gateway.command-named", &gateway.command_named),
    ] {
        if command.first().is_none_or(String::is_empty) {
            return fault(field, "a command has at least one word");
        }
    }
    for name in gateway.environment.keys() {
        variable("gateway.environment", name)?;
    }
    if let Some(ready) = &gateway.ready {
        if !ready.http.starts_with("http://") {
            return fault("gateway.ready.http", "it begins with `http://`");
        }
        for ms in [ready.interval_ms, ready.timeout_ms].into_iter().flatten() {
            timeout("gateway.ready", ms)?;
        }
    }
    timeout("gateway.stop-timeout-ms", gateway.stop_timeout_ms)?;
    if gateway.start_window_ms > 0 {
        timeout("gateway.start-window-ms", gateway.start_window_ms)?;
    }
    if let Some(signal) = &gateway.restart_signal
        && crate::manager::restart_control(signal).is_none()
    {
        return fault("gateway.restart-signal", format!("a supervisor cannot be asked to send `{signal}`"));
    }
    for code in gateway.exit_meanings.keys() {
        if code.parse::<u8>().is_err() {
            return fault("gateway.exit-meanings", format!("`{code}` is not an exit code"));
        }
    }
    file_name("gateway.state-file", &gateway.state_file)?;
    if let Some(planned) = &gateway.planned_stop {
        file_name("gateway.planned-stop.file", &planned.file)?;
    }
    for file in &gateway.stale_files {
        file_name("gateway.stale-files", file)?;
    }
    below("gateway.boot-log", &gateway.boot_log)?;
    if let Err(error) = gateway.log.in_directory("log".to_owned()).check() {
        return fault("gateway.log", error.to_string());
    }
    if let Some(Err(error)) = gateway.live.as_ref().map(Live::check) {
        return fault("gateway.live", error.to_string());
    }
    let variables = [&gateway.multiplex_variable, &agent.container.decline_variable];
    variables.into_iter().flatten().try_for_each(|name| variable("…-variable", name))
}

/// Fills in every text once, so that a mistake shows when the definition is read and not when a slot is made.
fn templates(agent: &AgentDefinition) -> Result<(), Fault> {
    let gateway = &agent.gateway;
    let placeholders = Placeholders::new(&ProfileName::root(), &agent.home_variable());
    let ready = gateway.ready.iter();
    let texts = [("gateway.log-directory", &gateway.log_directory)]
        .into_iter()
        .chain(gateway.command_default.iter().map(|text| ("gateway.command-default", text)))
        .chain(gateway.command_named.iter().map(|text| ("gateway.command-named", text)))
        .chain(gateway.directory.iter().map(|text| ("gateway.directory", text)))
        .chain(gateway.environment.values().map(|text| ("gateway.environment", text)))
        .chain(gateway.environment_files.iter().map(|text| ("gateway.environment-files", text)))
        .chain(ready.clone().map(|ready| ("gateway.ready.http", &ready.http)))
        .chain(ready.filter_map(|ready| Some(("gateway.ready.when", ready.when.as_ref()?))));
    for (field, text) in texts {
        if let Err(error) = fill(text, &placeholders) {
            return fault(field, error.to_string());
        }
    }
    if let Some(live) = &gateway.live {
        live.with_texts(&|_, text| fill(text, &placeholders))
            .map_err(|error| Fault { field: "gateway.live", why: error.to_string() })?;
    }
    let filled = |text: &String| {
        fill(text, &placeholders)
            .map_err(|error| Fault { field: "gateway.confine.landlock", why: error.to_string() })
    };
    super::confine::check(&gateway.confine, &filled)
}

fn timeout(field: &'static str, ms: u64) -> Result<(), Fault> {
    match ms {
        1..=MAX_TIMEOUT_MS => Ok(()),
        _ => fault(field, format!("{ms} ms is not between 1 and {MAX_TIMEOUT_MS}")),
    }
}
