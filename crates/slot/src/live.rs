//! How a service is followed while it runs: the `[live]` table of `run`, and its values at one
//! start.
//!
//! *Lives here:* the types, their defaults and checks, and the file `data/live`.
//! *Does not live here:* following (`gatevisor-gateways`), and the decisions about it
//! (`gatevisor-liveness`).
//!
//! The interpreter expands the texts at each start, with the variables of that start. The watcher
//! reads the results, so it cannot get them wrong.

use gatevisor_liveness::{LivePolicy, LiveSettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::expand::is_truthy;
use crate::http;
use crate::parse_error::{ParseError, invalid, is_default};

/// Default age in milliseconds at which a heartbeat is too old.
const MAX_AGE_MS: u64 = 45_000;
/// The longest time of any setting here, in milliseconds: a day.
const LONGEST_MS: u64 = 86_400_000;
/// The default and the most milliseconds that a command may take.
const COMMAND_MS: u64 = 5_000;
const LONGEST_COMMAND_MS: u64 = 60_000;
/// The highest number of looks in a row that must find nothing.
const MOST_MISSES: u64 = 1_000_000;
/// The keys of numbers.
const START_DEADLINE: &str = "live.start-deadline-ms";
const INTERVAL: &str = "live.interval-ms";
const MISSES: &str = "live.misses";
const GRACE: &str = "live.grace-ms";
const HEARTBEAT_AGE: &str = "live.heartbeat.max-age-ms";
const COMMAND_TIMEOUT: &str = "live.command.timeout-ms";
/// The most bytes of `data/live`.
pub const MAX_BYTES: usize = 16 << 10;

/// How a service is followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Live {
    /// What to do if it does not respond: expands to `off`, `warn` or `restart`.
    #[serde(default = "default_policy", skip_serializing_if = "is_default_policy")]
    pub policy: String,
    /// Milliseconds during which a starting service may show no evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_deadline_ms: Option<Number>,
    /// Milliseconds between two looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<Number>,
    /// The number of looks in a row that must find no evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misses: Option<Number>,
    /// Milliseconds between asking it to end and killing it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<Number>,
    /// Whether the service sends `sd_notify`'s `WATCHDOG=1`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub notify: bool,
    /// A command that prints what is worth keeping of an unresponsive service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// A command whose exit code tells whether the service works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Command>,
    /// A file in which the service reports its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateFile>,
    /// A file that the service rewrites by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Heartbeat>,
    /// A socket that the service answers on while it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<ControlSocket>,
    /// An address that answers with success as soon as the service has started; until then nothing
    /// else shows that it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<Address>,
    /// An address that answers over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Address>,
    /// An address at which a service that works says what of it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthAddress>,
    /// A port that accepts a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Address>,
}

/// A number, or a text that expands to one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Number {
    /// A plain number.
    Plain(u64),
    /// A text that is expanded at each start.
    Text(String),
}

impl Number {
    /// Returns the number, unless it is a text.
    fn value(&self) -> Option<u64> {
        match self {
            Self::Plain(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

/// A command whose exit code tells whether a service works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Milliseconds that it may take.
    #[serde(default = "default_command_ms", skip_serializing_if = "is_default_command_ms")]
    pub timeout_ms: u64,
}

/// A file with a JSON object in which a service reports its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StateFile {
    /// Its absolute path. If the object has `pid`, that must be the service's or a descendant's.
    pub file: String,
    /// The key with the state.
    pub key: String,
    /// States that mean that the service accepts no new work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub draining: Vec<String>,
    /// States that mean that the service has a problem.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
}

/// A file that a service rewrites by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Heartbeat {
    /// Its absolute path. If it holds an object with `pid`, that must be the service's or a
    /// descendant's.
    pub file: String,
    /// Milliseconds after which it should have been rewritten.
    #[serde(default = "default_age", skip_serializing_if = "is_default_age")]
    pub max_age_ms: u64,
}

/// A socket that the service answers on while it works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ControlSocket {
    /// Its absolute path.
    pub path: String,
    /// The bytes to send; any byte in return is an answer. Without it, an accepted connection is an
    /// answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
}

/// An address on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Address {
    /// A URL, `http://…`. For `tcp`, only the part before the path counts.
    pub url: String,
    /// It is asked only if this expands to `1`, `true`, `yes` or `on`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}

/// An address at which a service that works says what of it does not: with an answer of 500 and
/// above, and names in the answer's JSON object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HealthAddress {
    /// As a URL, `http://…`.
    pub url: String,
    /// It is asked only when this expands to `1`, `true`, `yes` or `on`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// The key of a list of the names of what does not work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<String>,
}

impl Live {
    /// Returns the settings with each text replaced by the result of `text`, whose first argument
    /// is the text's key.
    pub fn with_texts<E>(&self, text: &dyn Fn(&'static str, &str) -> Result<String, E>) -> Result<Self, E> {
        let mut live = self.clone();
        live.policy = text("live.policy", &live.policy)?;
        let numbers = [
            (&mut live.start_deadline_ms, START_DEADLINE),
            (&mut live.interval_ms, INTERVAL),
            (&mut live.misses, MISSES),
            (&mut live.grace_ms, GRACE),
        ];
        for (number, key) in numbers {
            if let Some(Number::Text(template)) = number {
                *template = text(key, template)?;
            }
        }
        for word in &mut live.evidence {
            *word = text("live.evidence", word)?;
        }
        for word in live.command.iter_mut().flat_map(|command| &mut command.argv) {
            *word = text("live.command.argv", word)?;
        }
        if let Some(state) = &mut live.state {
            state.file = text("live.state.file", &state.file)?;
        }
        if let Some(heartbeat) = &mut live.heartbeat {
            heartbeat.file = text("live.heartbeat.file", &heartbeat.file)?;
        }
        if let Some(socket) = &mut live.socket {
            socket.path = text("live.socket.path", &socket.path)?;
            socket.send = socket.send.as_ref().map(|sent| text("live.socket.send", sent)).transpose()?;
        }
        for ([url_key, when_key], url, when) in live.addresses() {
            *url = text(url_key, url)?;
            *when = when.as_ref().map(|when| text(when_key, when)).transpose()?;
        }
        Ok(live)
    }

    /// Returns every address, with its keys: its URL, and what decides whether it is asked.
    fn addresses(&mut self) -> impl Iterator<Item = ([&'static str; 2], &mut String, &mut Option<String>)> {
        let plain = [
            (["live.startup.url", "live.startup.when"], &mut self.startup),
            (["live.http.url", "live.http.when"], &mut self.http),
            (["live.tcp.url", "live.tcp.when"], &mut self.tcp),
        ];
        let plain = plain.into_iter().filter_map(|(keys, address)| {
            let Address { url, when } = address.as_mut()?;
            Some((keys, url, when))
        });
        let health = self.health.iter_mut();
        let health = health.map(|it| (["live.health.url", "live.health.when"], &mut it.url, &mut it.when));
        plain.chain(health)
    }

    /// Removes the addresses that are not asked, after everything was expanded.
    pub(crate) fn retain_asked(&mut self) {
        let is_asked = |when: Option<&String>| when.is_none_or(|when| is_truthy(when.as_ref()));
        for address in [&mut self.startup, &mut self.http, &mut self.tcp] {
            address.take_if(|address| !is_asked(address.when.as_ref()));
        }
        self.health.take_if(|health| !is_asked(health.when.as_ref()));
    }

    /// Returns whether the service is looked at, and has evidence to show.
    pub fn looks(&self) -> bool {
        let shows = self.notify
            || self.command.is_some()
            || self.heartbeat.is_some()
            || self.socket.is_some()
            || self.startup.is_some()
            || self.http.is_some()
            || self.tcp.is_some();
        shows && self.settings().is_some_and(|settings| settings.policy != LivePolicy::Off)
    }

    /// Returns the resulting settings, if its policy and its numbers make sense.
    pub fn settings(&self) -> Option<LiveSettings> {
        let plain = LiveSettings::default();
        let number = |number: &Option<Number>, otherwise: u64| match number {
            Some(number) => number.value(),
            None => Some(otherwise),
        };
        Some(LiveSettings {
            policy: LivePolicy::of_word(&self.policy)?,
            start_deadline_ms: number(&self.start_deadline_ms, plain.start_deadline_ms)?,
            interval_ms: number(&self.interval_ms, plain.interval_ms)?,
            misses: u32::try_from(number(&self.misses, plain.misses.into())?).ok()?,
            grace_ms: number(&self.grace_ms, plain.grace_ms)?,
        })
    }

    /// Returns an error if a value makes no sense before expansion.
    ///
    /// # Errors
    /// Names the value, and tells what would be right.
    pub fn check(&self) -> Result<(), ParseError> {
        let is_text = |number: &&Number| matches!(number, Number::Text(_));
        self.check_numbers(|number| is_text(&number)).map_err(|(key, why)| invalid(key, why))?;
        if self.command.as_ref().is_some_and(|command| command.argv.is_empty()) {
            return Err(invalid("live.command.argv", "must name a program"));
        }
        Ok(())
    }

    /// Returns an error if a number is out of range; those for which `skip` is true are left out.
    fn check_numbers(&self, skip: impl Fn(&Number) -> bool) -> Result<(), (&'static str, String)> {
        // A look takes a moment, and the watcher must not be busy with looks alone.
        let numbers = [
            (START_DEADLINE, self.start_deadline_ms.clone(), 1..=LONGEST_MS),
            (INTERVAL, self.interval_ms.clone(), 100..=LONGEST_MS),
            (GRACE, self.grace_ms.clone(), 1..=LONGEST_MS),
            (MISSES, self.misses.clone(), 1..=MOST_MISSES),
            (
                HEARTBEAT_AGE,
                self.heartbeat.as_ref().map(|beat| Number::Plain(beat.max_age_ms)),
                1..=LONGEST_MS,
            ),
            (
                COMMAND_TIMEOUT,
                self.command.as_ref().map(|it| Number::Plain(it.timeout_ms)),
                1..=LONGEST_COMMAND_MS,
            ),
        ];
        for (key, number, range) in numbers {
            let Some(number) = number.filter(|number| !skip(number)) else { continue };
            if number.value().is_none_or(|value| !range.contains(&value)) {
                let is = if let Number::Text(text) = number { format!("`{text}`: ") } else { String::new() };
                return Err((key, format!("{is}must be a number from {} to {}", range.start(), range.end())));
            }
        }
        Ok(())
    }

    /// Returns an error if an expanded text makes no sense.
    pub(crate) fn check_expanded(&self) -> Result<(), (&'static str, String)> {
        if LivePolicy::of_word(&self.policy).is_none() {
            return Err(("live.policy", format!("`{}` is none of off, warn and restart", self.policy)));
        }
        self.check_numbers(|_| false)?;
        let mut live = self.clone();
        for ([key, _], url, _) in live.addresses() {
            http::parse_url(url).map_err(|error| (key, error.to_string()))?;
        }
        Ok(())
    }

    /// Returns the content of `data/live` for a service with this process number.
    pub(crate) fn encode(&self, pid: i32) -> Option<String> {
        Some(format!("# pid {pid}\n{}", toml::to_string(self).ok()?))
    }

    /// Returns the process number in `data/live`, and how the service is followed.
    pub fn decode(text: &str) -> Option<(i32, Self)> {
        let (first, rest) = text.split_once('\n')?;
        Some((first.strip_prefix("# pid ")?.parse().ok()?, toml::from_str(rest).ok()?))
    }
}

fn default_policy() -> String {
    LivePolicy::default().word().to_owned()
}

fn is_default_policy(policy: &String) -> bool {
    *policy == default_policy()
}

const fn default_command_ms() -> u64 {
    COMMAND_MS
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
const fn is_default_command_ms(ms: &u64) -> bool {
    *ms == COMMAND_MS
}

const fn default_age() -> u64 {
    MAX_AGE_MS
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
const fn is_default_age(ms: &u64) -> bool {
    *ms == MAX_AGE_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_service;

    fn live(table: &str) -> Live {
        let text = format!("command = [\"a\"]\n[live]\n{table}");
        parse_service(text.as_bytes()).unwrap().live.unwrap()
    }

    #[test]
    fn an_empty_table_warns_with_the_usual_times() {
        let live = live("");
        assert_eq!(live.settings(), Some(LiveSettings::default()));
    }

    #[test]
    fn what_a_start_came_to_is_read_as_it_was_written() {
        let live = live(
            "policy = \"restart\"\nmisses = 2\nnotify = true\nevidence = [\"a\", \"b c\"]\n\
             heartbeat = { file = \"/h/beat\", max-age-ms = 5 }\nsocket = { path = \"/s\", send = \"x\\n\" }\n\
             command = { argv = [\"a\"], timeout-ms = 7 }\nstate = { file = \"/f\", key = \"k\", draining = [\"d\"] }\n\
             startup = { url = \"http://127.0.0.1:1/started\" }\nhealth = { url = \"http://127.0.0.1:1/ready\", failing = \"bad\" }\n\
             http = { url = \"http://127.0.0.1:1/health\" }\ntcp = { url = \"http://127.0.0.1:1\", when = \"yes\" }\n",
        );
        assert_eq!(Live::decode(&live.encode(42).unwrap()), Some((42, live)));
        assert_eq!(Live::decode(""), None);
        assert_eq!(Live::decode("# pid x\n"), None);
    }

    #[test]
    fn each_text_is_expanded() {
        let live = live(
            "policy = \"p\"\nmisses = \"m\"\nstate = { file = \"g\", key = \"k\" }\ncommand = { argv = [\"c\"] }\nevidence = [\"e\"]\nheartbeat = { file = \"f\" }\nsocket = { path = \"s\", send = \"t\" }\n\
             http = { url = \"u\", when = \"v\" }\ntcp = { url = \"w\", when = \"x\" }\n",
        );
        let doubled = live.with_texts::<()>(&|_, text| Ok(text.repeat(2))).unwrap();
        let text = toml::to_string(&doubled).unwrap();
        for part in ["mm", "gg", "cc", "pp", "ee", "ff", "ss", "tt", "uu", "vv", "ww", "xx"] {
            assert!(text.contains(&format!("\"{part}\"")), "{part} in {text}");
        }
    }

    #[test]
    fn settings_of_live_that_make_no_sense_are_refused() {
        for (table, key) in [
            ("misses = 0", "live.misses"),
            ("command = { argv = [] }", "live.command.argv"),
            ("command = { argv = [\"a\"], timeout-ms = 100000 }", "live.command.timeout-ms"),
            ("interval-ms = 0", "live.interval-ms"),
            ("grace-ms = 100_000_000", "live.grace-ms"),
            ("heartbeat = { file = \"f\", max-age-ms = 0 }", "live.heartbeat.max-age-ms"),
        ] {
            let text = format!("command = [\"a\"]\n[live]\n{table}\n");
            let error = parse_service(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{key}`: ")), "{error}");
        }
        assert_eq!(live("policy = \"never\"").check_expanded().unwrap_err().0, "live.policy");
        let (key, why) = live("misses = \"many\"").check_expanded().unwrap_err();
        assert_eq!((key, why.as_str()), ("live.misses", "`many`: must be a number from 1 to 1000000"));
        assert_eq!(live("interval-ms = \"5\"").check_expanded().unwrap_err().0, "live.interval-ms");
        assert_eq!(live("interval-ms = \"700\"").settings().unwrap().interval_ms, 700);
        assert_eq!(
            live("http = { url = \"http://example.org/\" }").check_expanded().unwrap_err().0,
            "live.http.url"
        );
    }
}
