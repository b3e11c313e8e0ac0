//! *Lives here:* how a gateway is asked to take no new work, and how it shows what it still does,
//! as an agent definition says it.
//!
//! *Does not live here:* asking and looking (`crate::drain`).
//!
//! **Source:** docs/guides/drain.md.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Placeholders;
use super::fault::{Fault, expandable, fault, file_name};

/// Milliseconds that a command may take, unless the definition says otherwise, and at the most.
const COMMAND_MS: u64 = 10_000;
const LONGEST_COMMAND_MS: u64 = 60_000;
/// Milliseconds between two looks, unless the definition says otherwise, and its bounds.
const INTERVAL_MS: u64 = 1_000;
const LOOK_INTERVALS_MS: std::ops::RangeInclusive<u64> = 100..=60_000;
/// Keys on the way to a value, at the most.
const DEEPEST: usize = 8;

/// How a gateway drains.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DrainDefinition {
    /// A file in the profile's home that asks for it as long as it is there.
    pub marker: Option<DrainMarker>,
    /// Commands that ask for it and take that back.
    pub command: Option<DrainCommands>,
    /// Signals that ask for it and take that back.
    pub signal: Option<DrainSignals>,
    /// Whether the gateway ends what is under way by itself when it is stopped or restarted.
    #[serde(default)]
    pub when_stopped: bool,
    /// How the gateway shows what it still does.
    pub idle: IdleDefinition,
}

/// A file that asks for a drain as long as it is there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DrainMarker {
    /// Its name in the profile's home.
    pub file: String,
    /// What it holds: `{epoch}`, `{now}` and `{principal}` are replaced.
    #[serde(default)]
    pub content: String,
}

/// Commands that ask for a drain and take that back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DrainCommands {
    /// Asks for it.
    pub begin: Vec<String>,
    /// Takes that back.
    pub end: Vec<String>,
    /// Milliseconds that each may take.
    #[serde(default = "default_command_ms")]
    pub timeout_ms: u64,
    /// Whether the request ends with the process that was asked, which heeds no restart meanwhile.
    #[serde(default)]
    pub ends_with_process: bool,
}

/// Signals that ask for a drain and take that back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DrainSignals {
    /// Asks for it.
    pub begin: String,
    /// Takes that back; without it, only an end of the gateway does.
    pub end: Option<String>,
}

/// How a gateway shows what it still does: where a JSON object comes from, and what in it counts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct IdleDefinition {
    /// A file in the profile's home.
    pub file: Option<String>,
    /// An address on this machine.
    pub http: Option<String>,
    /// What is sent as `Authorization: Bearer` to that address.
    pub bearer: Option<String>,
    /// A command that prints it.
    pub command: Option<Vec<String>>,
    /// Milliseconds that the command may take.
    #[serde(default = "default_command_ms")]
    pub timeout_ms: u64,
    /// Milliseconds between two looks.
    #[serde(default = "default_interval_ms")]
    pub interval_ms: u64,
    /// The value that counts turns under way; its keys from the outside, with dots between, where
    /// `list[key=text]` is the entry of a list whose key has that text.
    pub turns: Option<String>,
    /// The value that is true, or more than 0, while there is work.
    pub busy: Option<String>,
    /// The value that says that no new work is taken.
    pub state: Option<String>,
    /// The texts of that value that say so; without any, `true` does.
    #[serde(default)]
    pub draining: Vec<String>,
}

const fn default_command_ms() -> u64 {
    COMMAND_MS
}

const fn default_interval_ms() -> u64 {
    INTERVAL_MS
}

/// One step on the way to a value: the key of an object, and which entry of the list there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathKey<'a> {
    /// That of the object.
    pub key: &'a str,
    /// Which entry of the list there: a key of it, and the text that it has.
    pub entry: Option<(&'a str, &'a str)>,
}

impl<'a> PathKey<'a> {
    /// Returns what `key` or `key[other=text]` means; `None` for anything else.
    pub fn parse(step: &'a str) -> Option<Self> {
        let Some((key, rest)) = step.split_once('[') else {
            return (!step.is_empty()).then_some(Self { key: step, entry: None });
        };
        let entry = rest.strip_suffix(']')?.split_once('=')?;
        (!key.is_empty() && !entry.0.is_empty()).then_some(Self { key, entry: Some(entry) })
    }
}

/// Where the object that shows the work comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleSource<'a> {
    /// A file in the profile's home.
    File(&'a str),
    /// An address, and what is sent as the key.
    Http(&'a str, Option<&'a str>),
    /// A command, and the milliseconds that it may take.
    Command(&'a [String], u64),
}

impl DrainDefinition {
    /// Returns whether the request ends with the process that was asked.
    pub fn ends_with_process(&self) -> bool {
        self.command.as_ref().is_some_and(|commands| commands.ends_with_process)
    }
}

impl IdleDefinition {
    /// Returns where the object comes from; definitions that were checked have one source.
    pub fn source(&self) -> Option<IdleSource<'_>> {
        let file = self.file.as_deref().map(IdleSource::File);
        let http = || self.http.as_deref().map(|url| IdleSource::Http(url, self.bearer.as_deref()));
        let command = || self.command.as_deref().map(|argv| IdleSource::Command(argv, self.timeout_ms));
        file.or_else(http).or_else(command)
    }
}

/// Returns the first value that makes no sense.
pub(super) fn check(drain: &DrainDefinition, placeholders: &Placeholders) -> Result<(), Fault> {
    let asked = [drain.marker.is_some(), drain.command.is_some(), drain.signal.is_some()];
    if asked.iter().filter(|is| **is).count() != 1 {
        return fault("gateway.drain", "say one of `marker`, `command` and `signal`");
    }
    if let Some(marker) = &drain.marker {
        file_name("gateway.drain.marker.file", &marker.file)?;
    }
    if let Some(commands) = &drain.command {
        command("gateway.drain.command", &commands.begin, commands.timeout_ms, placeholders)?;
        command("gateway.drain.command", &commands.end, commands.timeout_ms, placeholders)?;
    }
    for name in drain.signal.iter().flat_map(|signals| [Some(&signals.begin), signals.end.as_ref()]).flatten()
    {
        if crate::manager::restart_control(name).is_none() {
            return fault("gateway.drain.signal", format!("a supervisor cannot be asked to send `{name}`"));
        }
    }
    idle(&drain.idle, placeholders)
}

fn idle(idle: &IdleDefinition, placeholders: &Placeholders) -> Result<(), Fault> {
    const FIELD: &str = "gateway.drain.idle";
    let sources = [idle.file.is_some(), idle.http.is_some(), idle.command.is_some()];
    if sources.iter().filter(|is| **is).count() != 1 {
        return fault(FIELD, "say one of `file`, `http` and `command`");
    }
    if idle.turns.is_none() && idle.busy.is_none() {
        return fault(FIELD, "say `turns`, `busy` or both; else nothing tells when a gateway is idle");
    }
    for path in [&idle.turns, &idle.busy, &idle.state].into_iter().flatten() {
        let keys = path.split('.').map(PathKey::parse);
        if keys.clone().any(|key| key.is_none()) || keys.count() > DEEPEST {
            return fault(FIELD, format!("`{path}` is not up to {DEEPEST} keys with dots between"));
        }
    }
    if !LOOK_INTERVALS_MS.contains(&idle.interval_ms) {
        let (least, most) = (LOOK_INTERVALS_MS.start(), LOOK_INTERVALS_MS.end());
        return fault(
            FIELD,
            format!("an `interval-ms` of {} is not between {least} and {most}", idle.interval_ms),
        );
    }
    match idle.source() {
        Some(IdleSource::File(name)) => file_name("gateway.drain.idle.file", name),
        Some(IdleSource::Http(url, bearer)) => {
            if !url.starts_with("http://") {
                return fault("gateway.drain.idle.http", "it begins with `http://`");
            }
            [Some(url), bearer].into_iter().flatten().try_for_each(|text| filled(FIELD, text, placeholders))
        }
        Some(IdleSource::Command(argv, ms)) => command("gateway.drain.idle.command", argv, ms, placeholders),
        None => Ok(()),
    }
}

fn command(field: &'static str, argv: &[String], ms: u64, placeholders: &Placeholders) -> Result<(), Fault> {
    if argv.first().is_none_or(String::is_empty) {
        return fault(field, "a command has at least one word");
    }
    if ms == 0 || ms > LONGEST_COMMAND_MS {
        return fault(field, format!("a `timeout-ms` of {ms} is not between 1 and {LONGEST_COMMAND_MS}"));
    }
    argv.iter().try_for_each(|text| filled(field, text, placeholders))
}

fn filled(field: &'static str, text: &str, placeholders: &Placeholders) -> Result<(), Fault> {
    expandable(field, text, placeholders).map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::{AgentDefinition, SMALL};

    fn with(text: &str) -> Result<AgentDefinition, super::super::AgentError> {
        AgentDefinition::parse(&format!("{SMALL}[gateway.drain]\n{text}"), "my-agent.toml")
    }

    #[test]
    fn a_drain_is_asked_for_in_one_way_and_seen_in_one_way() {
        let idle = "idle = { file = \"state.json\", turns = \"a.b\" }";
        for right in [
            format!("marker = {{ file = \"drain\" }}\n{idle}"),
            format!("signal = {{ begin = \"SIGUSR1\", end = \"SIGUSR2\" }}\n{idle}"),
            format!("command = {{ begin = [\"a\", \"{{profile}}\"], end = [\"b\"] }}\n{idle}"),
            "marker = { file = \"d\" }\nidle = { http = \"http://127.0.0.1:1/\", busy = \"b\" }".to_owned(),
            "marker = { file = \"d\" }\nidle = { command = [\"a\"], busy = \"b\" }".to_owned(),
            "marker = { file = \"d\" }\nidle = { file = \"s\", turns = \"a.b[c=d].e\", interval-ms = 4000 }"
                .to_owned(),
        ] {
            with(&right).unwrap();
        }
        for wrong in [
            idle.to_owned(),
            "marker = { file = \"drain\" }".to_owned(),
            format!("marker = {{ file = \"a/b\" }}\n{idle}"),
            format!("marker = {{ file = \"d\" }}\nsignal = {{ begin = \"SIGUSR1\" }}\n{idle}"),
            format!("signal = {{ begin = \"SIGFOO\" }}\n{idle}"),
            format!("command = {{ begin = [], end = [\"b\"] }}\n{idle}"),
            format!("command = {{ begin = [\"{{profil}}\"], end = [\"b\"] }}\n{idle}"),
            format!("command = {{ begin = [\"a\"], end = [\"b\"], timeout-ms = 0 }}\n{idle}"),
            "marker = { file = \"d\" }\nidle = { file = \"s\" }".to_owned(),
            "marker = { file = \"d\" }\nidle = { file = \"s\", turns = \"a..b\" }".to_owned(),
            "marker = { file = \"d\" }\nidle = { file = \"s\", turns = \"a[b\" }".to_owned(),
            "marker = { file = \"d\" }\nidle = { file = \"s\", turns = \"a[=b].c\" }".to_owned(),
            "marker = { file = \"d\" }\nidle = { file = \"s\", busy = \"b\", interval-ms = 9 }".to_owned(),
            "marker = { file = \"d\" }\nidle = { http = \"https://x/\", busy = \"b\" }".to_owned(),
            "marker = { file = \"d\" }\nidle = { file = \"s\", command = [\"a\"], busy = \"b\" }".to_owned(),
        ] {
            assert!(with(&wrong).is_err(), "{wrong}");
        }
    }
}
