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
    pub start_deadline_ms: Option<u64>,
    /// Milliseconds between two looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// Looks in a row that must find nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misses: Option<u32>,
    /// Milliseconds between the request to end and the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
    /// Whether the service sends `sd_notify`'s `WATCHDOG=1`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub notify: bool,
    /// A command that prints what is worth keeping of a service that does not respond.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
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
        for word in &mut live.evidence {
            *word = text("live.evidence", word)?;
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

    /// Returns the settings that it comes to, where its policy means something.
    pub fn settings(&self) -> Option<LiveSettings> {
        let plain = LiveSettings::default();
        Some(LiveSettings {
            policy: LivePolicy::of_word(&self.policy)?,
            start_deadline_ms: self.start_deadline_ms.unwrap_or(plain.start_deadline_ms),
            interval_ms: self.interval_ms.unwrap_or(plain.interval_ms),
            misses: self.misses.unwrap_or(plain.misses),
            grace_ms: self.grace_ms.unwrap_or(plain.grace_ms),
        })
    }

    /// Returns an error where a value means nothing, before anything is expanded.
    ///
    /// # Errors
    /// Says which, and what would be right.
    pub fn check(&self) -> Result<(), ParseError> {
        let times = [
            ("live.start-deadline-ms", self.start_deadline_ms),
            ("live.interval-ms", self.interval_ms),
            ("live.grace-ms", self.grace_ms),
            ("live.heartbeat.max-age-ms", self.heartbeat.as_ref().map(|heartbeat| heartbeat.max_age_ms)),
        ];
        for (key, ms) in times {
            // A look takes a moment, and many of them must not be all that is done.
            let least = if key == "live.interval-ms" { 100 } else { 1 };
            if ms.is_some_and(|ms| !(least..=LONGEST_MS).contains(&ms)) {
                return Err(invalid(key, format!("must be from {least} to {LONGEST_MS}")));
            }
        }
        if self.misses == Some(0) {
            return Err(invalid("live.misses", "must be at least 1"));
        }
        Ok(())
    }

    /// Returns an error where a text that was expanded means nothing.
    pub(crate) fn check_expanded(&self) -> Result<(), (&'static str, String)> {
        if LivePolicy::of_word(&self.policy).is_none() {
            return Err(("live.policy", format!("`{}` is none of off, warn and restart", self.policy)));
        }
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
             http = { url = \"http://127.0.0.1:1/health\" }\ntcp = { url = \"http://127.0.0.1:1\", when = \"yes\" }\n",
        );
        assert_eq!(Live::decode(&live.encode(42).unwrap()), Some((42, live)));
        assert_eq!(Live::decode(""), None);
        assert_eq!(Live::decode("# pid x\n"), None);
    }

    #[test]
    fn each_text_is_expanded() {
        let live = live(
            "policy = \"p\"\nevidence = [\"e\"]\nheartbeat = { file = \"f\" }\nsocket = { path = \"s\", send = \"t\" }\n\
             http = { url = \"u\", when = \"v\" }\ntcp = { url = \"w\", when = \"x\" }\n",
        );
        let doubled = live.with_texts::<()>(&|_, text| Ok(text.repeat(2))).unwrap();
        let text = toml::to_string(&doubled).unwrap();
        for letter in ["pp", "ee", "ff", "ss", "tt", "uu", "vv", "ww", "xx"] {
            assert!(text.contains(&format!("\"{letter}\"")), "{letter} in {text}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (table, key) in [
            ("misses = 0", "live.misses"),
            ("interval-ms = 0", "live.interval-ms"),
            ("grace-ms = 100_000_000", "live.grace-ms"),
            ("heartbeat = { file = \"f\", max-age-ms = 0 }", "live.heartbeat.max-age-ms"),
        ] {
            let text = format!("command = [\"a\"]\n[live]\n{table}\n");
            let error = parse_service(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{key}`: ")), "{error}");
        }
        assert_eq!(live("policy = \"never\"").check_expanded().unwrap_err().0, "live.policy");
        assert_eq!(
            live("http = { url = \"http://example.org/\" }").check_expanded().unwrap_err().0,
            "live.http.url"
        );
    }
}
