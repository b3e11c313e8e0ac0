//! *Lives here:* the rules that the values of an agent definition keep.
//!
//! *Does not live here:* reading the definition; rules that several parts of it share (`fault`).

use std::collections::BTreeSet;

use gatevisor_slot::live::Live;
use gatevisor_slot::start_permits;

use super::fault::{Fault, below, expandable, fault, file_name, variable};
use super::{AgentDefinition, GatewayDefinition, Placeholders, SeedFile};
use crate::profile::ProfileName;

/// The longest timeout that a definition may set, in milliseconds: a day.
const MAX_TIMEOUT_MS: u64 = 86_400_000;

/// Returns the values that are wrong: of each part of the definition the first.
pub(super) fn faults(agent: &AgentDefinition) -> Vec<Fault> {
    let gateway = &agent.gateway;
    let parts = [
        name(agent),
        agent.home_variable.as_ref().map_or(Ok(()), |name| variable("home-variable", name)),
        profile(agent),
        commands(gateway),
        ready(gateway),
        times(gateway),
        restart_at(gateway),
        restart_signal(gateway),
        exit_codes(gateway),
        files(gateway),
        below("gateway.boot-log", &gateway.boot_log),
        log_and_live(gateway),
        older_words(gateway),
        super::container::check(&agent.container),
        super::doctor::check(&agent.doctor),
        super::topology::check(agent),
        templates(agent),
    ];
    parts.into_iter().filter_map(Result::err).collect()
}

fn name(agent: &AgentDefinition) -> Result<(), Fault> {
    let is_plain = agent.name.starts_with(|c: char| c.is_ascii_lowercase())
        && agent.name.len() <= 32
        && agent.name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if is_plain {
        return Ok(());
    }
    fault("name", "use a-z, 0-9 and `-`, begin with a letter, 32 characters at the most")
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
    own_variables(agent)?;
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

/// Checks that own ports and secrets have a variable and a file.
fn own_variables(agent: &AgentDefinition) -> Result<(), Fault> {
    let profile = &agent.profile;
    profile.secrets.iter().try_for_each(|name| variable("profile.secrets", name))?;
    if profile.own_port && agent.doctor.ports.is_empty() {
        return fault("profile.own-port", "nothing in `doctor.ports` says which variable holds the port");
    }
    let allots = profile.own_port || !profile.secrets.is_empty();
    if allots && agent.own_variables_file().is_none() {
        let key = if profile.own_port { "profile.own-port" } else { "profile.secrets" };
        return fault(key, "`gateway.environment-files` names no file `{profile-home}/NAME` to write it to");
    }
    Ok(())
}

fn commands(gateway: &GatewayDefinition) -> Result<(), Fault> {
    for (field, command) in [
        ("gateway.command-default", &gateway.command_default),
        ("gateway.command-named", &gateway.command_named),
    ] {
        if command.first().is_none_or(String::is_empty) {
            return fault(field, "a command has at least one word");
        }
    }
    gateway.environment.keys().try_for_each(|name| variable("gateway.environment", name))
}

fn ready(gateway: &GatewayDefinition) -> Result<(), Fault> {
    let Some(ready) = &gateway.ready else { return Ok(()) };
    if !ready.http.starts_with("http://") {
        return fault("gateway.ready.http", "it begins with `http://`");
    }
    [ready.interval_ms, ready.timeout_ms]
        .into_iter()
        .flatten()
        .try_for_each(|ms| timeout("gateway.ready", ms))
}

fn times(gateway: &GatewayDefinition) -> Result<(), Fault> {
    timeout("gateway.stop-timeout-ms", gateway.stop_timeout_ms)?;
    if gateway.start_window_ms > 0 {
        timeout("gateway.start-window-ms", gateway.start_window_ms)?;
    }
    start_permits::check(&gateway.start_parallel).or_else(|why| fault("gateway.start-parallel", why))?;
    after(gateway)
}

fn after(gateway: &GatewayDefinition) -> Result<(), Fault> {
    if gateway.after.len() > start_permits::MOST_AFTER {
        return fault("gateway.after", format!("names more than {} profiles", start_permits::MOST_AFTER));
    }
    let mut seen = BTreeSet::new();
    for name in &gateway.after {
        let Ok(profile) = ProfileName::new(name.as_bytes()) else {
            return fault("gateway.after", format!("`{name}` is not the name of a profile"));
        };
        if !seen.insert(profile) {
            return fault("gateway.after", format!("names `{name}` twice"));
        }
    }
    Ok(())
}

fn restart_at(gateway: &GatewayDefinition) -> Result<(), Fault> {
    match &gateway.restart_at {
        Some(at) if crate::ticket::time_of_day(at).is_none() => {
            fault("gateway.restart-at", format!("`{at}` is not a time of the day such as `04:30`"))
        }
        _ => Ok(()),
    }
}

fn restart_signal(gateway: &GatewayDefinition) -> Result<(), Fault> {
    match &gateway.restart_signal {
        Some(signal) if crate::manager::restart_control(signal).is_none() => {
            fault("gateway.restart-signal", format!("a supervisor cannot be asked to send `{signal}`"))
        }
        _ => Ok(()),
    }
}

fn exit_codes(gateway: &GatewayDefinition) -> Result<(), Fault> {
    if let Some(code) = gateway.exit_meanings.keys().find(|code| code.parse::<u8>().is_err()) {
        return fault("gateway.exit-meanings", format!("`{code}` is not an exit code"));
    }
    match &gateway.handoff {
        Some(handoff) => handoff.check(&gateway.restart_codes, &gateway.fail_codes),
        None => Ok(()),
    }
}

fn files(gateway: &GatewayDefinition) -> Result<(), Fault> {
    file_name("gateway.state-file", &gateway.state_file)?;
    if let Some(planned) = &gateway.planned_stop {
        file_name("gateway.planned-stop.file", &planned.file)?;
    }
    gateway.stale_files.iter().try_for_each(|file| file_name("gateway.stale-files", file))
}

fn log_and_live(gateway: &GatewayDefinition) -> Result<(), Fault> {
    if let Err(error) = gateway.log.in_directory("log".to_owned()).check() {
        return fault("gateway.log", error.to_string());
    }
    match gateway.live.as_ref().map(Live::check) {
        Some(Err(error)) => fault("gateway.live", error.to_string()),
        _ => Ok(()),
    }
}

fn older_words(gateway: &GatewayDefinition) -> Result<(), Fault> {
    let name = gateway.multiplex_variable.as_ref();
    name.map_or(Ok(()), |name| variable("gateway.multiplex-variable", name))
}

/// Fills in every text once, so that a mistake shows when the definition is read, and not only when
/// a slot is made.
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
        expandable(field, text, &placeholders)?;
    }
    if let Some(live) = &gateway.live {
        let filled = |key, text: &str| {
            expandable("gateway.live", text, &placeholders)
                .map_err(|fault| Fault { why: format!("`{key}`: {}", fault.why), ..fault })
        };
        live.with_texts(&filled)?;
    }
    for word in gateway.handoff.iter().flat_map(|handoff| &handoff.command) {
        expandable("gateway.handoff.command", word, &placeholders)?;
    }
    gateway.drain.as_ref().map_or(Ok(()), |drain| super::drain::check(drain, &placeholders))?;
    let filled = |text: &String| expandable("gateway.confine.landlock", text, &placeholders);
    super::confine::check(&gateway.confine, &filled)
}

fn timeout(field: &'static str, ms: u64) -> Result<(), Fault> {
    match ms {
        1..=MAX_TIMEOUT_MS => Ok(()),
        _ => fault(field, format!("{ms} ms is not between 1 and {MAX_TIMEOUT_MS}")),
    }
}
