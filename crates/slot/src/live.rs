//! How a service is followed while it runs: the `[live]` table of `run`, and what it came to at one start.
//!
//! *Lives here:* the types, their defaults and checks, and the file `data/live`.
//! *Does not live here:* following (`gatevisor-gateways`), and what is decided on it (`gatevisor-liveness`).
//!
//! The texts are expanded at each start, by the interpreter, with the variables that count for that start. Whoever follows the
//! service reads what they came to, and cannot be wrong about it.

use gatevisor_liveness::{LivePolicy, LiveSettings};
use serde::{Deserialize, Serialize};

use crate::http;
use crate::parse_error::{ParseError, invalid, is_default};

/// Milliseconds of age at which a heartbeat is too old, unless the file says otherwise.
const MAX_AGE_MS: u64 = 45_000;
/// Milliseconds that any time here may have: a day.
const LONGEST_MS: u64 = 86_400_000;
/// Milliseconds that a command may take, unless the file says otherwise, and at the most.
const COMMAND_MS: u64 = 5_000;
const LONGEST_COMMAND_MS: u64 = 60_000;
/// Looks in a row that may have to find nothing, at the most.
const MOST_MISSES: u64 = 1_000_000;
/// The keys of numbers.
const START_DEADLINE: &str = "live.start-deadline-ms";
const INTERVAL: &str = "live.interval-ms";
const MISSES: &str = "live.misses";
const GRACE: &str = "live.grace-ms";
const HEARTBEAT_AGE: &str = "live.heartbeat.max-age-ms";
const COMMAND_TIMEOUT: &str = "live.command.timeout-ms";
/// Bytes of `data/live` at the most.
pub const MAX_BYTES: usize = 16 << 10;

/// How a service is followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Live {
    /// What follows when it does not respond: expands to `off`, `warn` or `restart`.
    #[serde(default = "default_policy", skip_serializing_if = "is_default_policy")]
    pub policy: String,
    /// Milliseconds in which a service that starts shows nothing and is not blamed for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_deadline_ms: Option<Number>,
    /// Milliseconds between two looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<Number>,
    /// Looks in a row that must find nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misses: Option<Number>,
    /// Milliseconds between the request to end and the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<Number>,
    /// Whether the service sends `sd_notify`'s `WATCHDOG=1`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub notify: bool,
    /// A command that prints what is worth keeping of a service that does not respond.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// A command that says by its exit code whether the service works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Command>,
    /// A file in which the service says what it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateFile>,
    /// A file that the service rewrites by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Heartbeat>,
    /// A control socket that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<ControlSocket>,
    /// An address that answers 200 to 299.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Address>,
    /// A port that accepts a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Address>,
}

/// A number, or a text that expands to one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Number {
    /// As it counts.
    Plain(u64),
    /// As it is to be expanded at each start.
    Text(String),
}

impl Number {
    /// Returns the number, where it is one.
    fn value(&self) -> Option<u64> {
        match self {
            Self::Plain(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

/// A command that says by its exit code whether a service works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Milliseconds that it may take.
    #[serde(default = "default_command_ms", skip_serializing_if = "is_default_command_ms")]
    pub timeout_ms: u64,
}

/// A file with a JSON object, in which a service says what it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StateFile {
    /// Its absolute path. Where the object has `pid`, that must be the service's or a descendant's.
    pub file: String,
    /// The key whose value counts.
    pub key: String,
    /// Values that mean that the service takes no new work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub draining: Vec<String>,
    /// Values that mean that not all is well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
}

/// A file that a service rewrites by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Heartbeat {
    /// Its absolute path. Where it holds an object with `pid`, that must be the service's or a descendant's.
    pub file: String,
    /// Milliseconds after which it should have been rewritten.
    #[serde(default = "default_age", skip_serializing_if = "is_default_age")]
    pub max_age_ms: u64,
}

/// A control socket that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ControlSocket {
    /// Its absolute path.
    pub path: String,
    /// What is sent; any byte back is an answer. Without it, to accept the connection is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
}

/// An address on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Address {
    /// As a URL, `http://…`; of `tcp`, only what is before the path counts.
    pub url: String,
    /// It is asked only when this expands to `1`, `true`, `yes` or `on`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}

impl Live {
    /// Returns the same with each of its texts replaced by what `text` makes of it; the first argument is its key.
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
        let addresses = [
            (&mut live.http, ["live.http.url", "live.http.when"]),
            (&mut live.tcp, ["live.tcp.url", "live.tcp.when"]),
        ];
        for (address, keys) in addresses {
            let Some(address) = address else { continue };
            address.url = text(keys[0], &address.url)?;
            address.when = address.when.as_ref().map(|when| text(keys[1], when)).transpose()?;
        }
        Ok(live)
    }

    /// Returns the settings that it comes to, where its policy and its numbers mean something.
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

    /// Returns an error where a value means nothing, before anything is expanded.
    ///
    /// # Errors
    /// Says which, and what would be right.
    pub fn check(&self) -> Result<(), ParseError> {
        let is_text = |number: &&Number| matches!(number, Number::Text(_));
        self.check_numbers(|number| is_text(&number)).map_err(|(key, why)| invalid(key, why))?;
        if self.command.as_ref().is_some_and(|command| command.argv.is_empty()) {
            return Err(invalid("live.command.argv", "must name a program"));
        }
        Ok(())
    }

    /// Returns an error where a number is out of range; those that `skip` says are left alone.
    fn check_numbers(&self, skip: impl Fn(&Number) -> bool) -> Result<(), (&'static str, String)> {
        // A look takes a moment, and many of them must not be all that is done.
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

    /// Returns an error where a text that was expanded means nothing.
    pub(crate) fn check_expanded(&self) -> Result<(), (&'static str, String)> {
        if LivePolicy::of_word(&self.policy).is_none() {
            return Err(("live.policy", format!("`{}` is none of off, warn and restart", self.policy)));
        }
        self.check_numbers(|_| false)?;
        for (key, address) in [("live.http.url", &self.http), ("live.tcp.url", &self.tcp)] {
            if let Some(Err(error)) = address.as_ref().map(|address| http::parse_url(&address.url)) {
                return Err((key, error.to_string()));
            }
        }
        Ok(())
    }

    /// Returns what `data/live` holds for a service with this process number.
    pub(crate) fn encode(&self, pid: i32) -> Option<String> {
        Some(format!("# pid {pid}\n{}", toml::to_string(self).ok()?))
    }

    /// Returns the process number that `data/live` was written for, and how the service is followed.
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
        for letter in ["mm", "gg", "cc", "pp", "ee", "ff", "ss", "tt", "uu", "vv", "ww", "xx"] {
            assert!(text.contains(&format!("\"{letter}\"")), "{letter} in {text}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
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
