//! The settings in `run`, and the strict reader of `run` and `log/run`.
//!
//! *Lives here:* the types, their defaults, and the checks that need no environment.
//! *Does not live here:* the settings in `log/run` (`log`); expansion of `${VAR}`, which happens at
//! every start and not when a file is read.

use std::collections::BTreeMap;

use gatevisor_wire::script::Flaw;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::confine::settings::{Landlock, LimitName, MAX_ENTRIES, ResourceLimit, capability};
use crate::handoff::Handoff;
use crate::live::{Live, Number};
use crate::log::{LogFile, check_log};
use crate::parse_error::{invalid, is_default};
use crate::start_permits;

pub use crate::parse_error::{MAX_BYTES, ParseError};

/// Default milliseconds between two readiness probes.
pub const DEFAULT_INTERVAL_MS: u64 = 250;
/// Default milliseconds after which a service is late to be ready.
pub const DEFAULT_TIMEOUT_MS: u64 = 120_000;

/// The settings in `run`: how to become the service.
///
/// Every text may hold `${VAR}`; see [`crate::expand()`].
#[expect(clippy::struct_excessive_bools, reason = "each is a key of its own in the file")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServiceFile {
    /// Program and arguments; the program is looked up in the command's `PATH`.
    pub command: Vec<String>,
    /// Working directory of the command; without it, the service directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// The user that the command runs as, by name or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// File mode creation mask in octal, such as `"077"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<String>,
    /// Scheduling priority from -20 to 19.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    /// The destination of standard error.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stderr: Stderr,
    /// Dotenv files with variables for `${VAR}`. None of these variables reaches the command by
    /// itself, unless `environment_export` says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment_files: Vec<String>,
    /// Whether the command gets the variables of these files.
    #[serde(default, skip_serializing_if = "is_default")]
    pub environment_export: bool,
    /// Variables added to the inherited environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Patterns of inherited variables that the command may see, `NAME` or `PREFIX*`; without it,
    /// all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_allow: Option<Vec<String>>,
    /// Whether programs that the command executes can gain no more rights than the command has.
    #[serde(default, skip_serializing_if = "is_default")]
    pub no_new_privileges: bool,
    /// A score from 0 to 1000 by which the kernel chooses whom to kill when memory runs out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// How much to add to the score that the interpreter was started with, up to 1000. A failure is
    /// not reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_raise: Option<i32>,
    /// The only capabilities that the command and its descendants can ever have; without it, none
    /// are removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
    /// Whether the command is started only in the container that holds the lock of the home.
    /// Outside containers no lock is required.
    #[serde(default, skip_serializing_if = "is_default")]
    pub home_lock: bool,
    /// Whether a restriction that cannot be applied prevents the start.
    #[serde(default, skip_serializing_if = "is_default")]
    pub strict: bool,
    /// Resource limits of each process.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<LimitName, ResourceLimit>,
    /// Where the command may write, read and execute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landlock: Option<Landlock>,
    /// The services of the scandir that this one starts after, if they are starting or about to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// How many gateways of the scandir may be starting at the same time: a number, or `auto`;
    /// without it, any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_parallel: Option<Number>,
    /// How the service's readiness is found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
    /// How it is followed while it runs, to find out whether it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Live>,
    /// How it is asked, after its end, whether it wants to be started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handoff: Option<Handoff>,
}

impl ServiceFile {
    /// Returns settings that run `command`, with defaults for all others.
    pub fn new(command: Vec<String>) -> Self {
        Self {
            command,
            directory: None,
            user: None,
            umask: None,
            nice: None,
            stderr: Stderr::Log,
            environment_files: Vec::new(),
            environment_export: false,
            environment: BTreeMap::new(),
            environment_allow: None,
            no_new_privileges: false,
            oom_score_adj: None,
            oom_score_raise: None,
            capabilities: None,
            home_lock: false,
            strict: false,
            limits: BTreeMap::new(),
            landlock: None,
            after: Vec::new(),
            start_parallel: None,
            ready: None,
            live: None,
            handoff: None,
        }
    }

    /// Returns an error if a value makes no sense, as [`parse_service`] does.
    ///
    /// # Errors
    /// Names the value, and tells what would be right.
    pub fn check(&self) -> Result<(), ParseError> {
        check_service(self)
    }

    /// Returns the file mode creation mask, if one is set.
    pub fn umask_bits(&self) -> Option<u32> {
        self.umask.as_deref().and_then(parse_umask)
    }
}

/// The destination of a service's standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stderr {
    /// The log, together with standard output.
    #[default]
    Log,
    /// The log, as a stream of its own, if the service directory has a `log/stderr`; otherwise the
    /// same as `inherit`.
    Stream,
    /// The same as the supervisor's.
    Inherit,
}

/// How to find out the readiness of a service that cannot announce it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ready {
    /// A URL on this machine that answers 200 to 299 once the service is ready.
    pub http: String,
    /// Probe only if this expands to `1`, `true`, `yes` or `on`; otherwise the service has no
    /// readiness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Milliseconds between two probes.
    #[serde(default = "default_interval", skip_serializing_if = "is_default_interval")]
    pub interval_ms: u64,
    /// Milliseconds after which the service is late to be ready. It is asked less often then.
    #[serde(default = "default_timeout", skip_serializing_if = "is_default_timeout")]
    pub timeout_ms: u64,
}

impl Ready {
    /// Returns a probe of `http` with the default times.
    pub fn new(http: impl Into<String>) -> Self {
        Self {
            http: http.into(),
            when: None,
            interval_ms: DEFAULT_INTERVAL_MS,
            timeout_ms: DEFAULT_TIMEOUT_MS,
        }
    }
}

/// Returns the settings in a `run` file, its `#!` line included.
pub fn parse_service(bytes: &[u8]) -> Result<ServiceFile, ParseError> {
    let file: ServiceFile = parse(bytes)?;
    check_service(&file)?;
    Ok(file)
}

/// Returns the settings in a `log/run` file, its `#!` line included.
pub fn parse_log(bytes: &[u8]) -> Result<LogFile, ParseError> {
    let file: LogFile = parse(bytes)?;
    check_log(&file)?;
    Ok(file)
}

pub(crate) fn check_service(file: &ServiceFile) -> Result<(), ParseError> {
    if file.command.first().is_none_or(String::is_empty) {
        return Err(invalid("command", "must name a program, such as [\"hermes\", \"gateway\", \"run\"]"));
    }
    if file.umask.as_deref().is_some_and(|text| parse_umask(text).is_none()) {
        return Err(invalid("umask", "must be an octal mask from \"000\" to \"777\""));
    }
    if file.nice.is_some_and(|nice| !(-20..=19).contains(&nice)) {
        return Err(invalid("nice", "must be from -20 to 19"));
    }
    for name in file.environment.keys() {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(ParseError::Invalid {
                key: format!("environment.{}", name.escape_debug()),
                reason: "is no name of a variable".into(),
            });
        }
    }
    check_restrictions(file)?;
    start_permits::check_after(&file.after).map_err(|why| invalid("after", why))?;
    if let Some(number) = &file.start_parallel {
        start_permits::check(number).map_err(|why| invalid("start-parallel", why))?;
    }
    if file.ready.as_ref().is_some_and(|ready| ready.interval_ms == 0) {
        return Err(invalid("ready.interval-ms", "must be at least 1"));
    }
    if let Some(live) = &file.live {
        live.check()?;
    }
    if let Some(handoff) = &file.handoff {
        handoff.check()?;
    }
    Ok(())
}

/// Refuses what `confine` could not carry out.
fn check_restrictions(file: &ServiceFile) -> Result<(), ParseError> {
    if file.oom_score_adj.is_some_and(|score| !(0..=1000).contains(&score)) {
        return Err(invalid("oom-score-adj", "must be from 0 to 1000; it can be raised only"));
    }
    if file.oom_score_raise.is_some_and(|raise| !(1..=1000).contains(&raise)) {
        return Err(invalid("oom-score-raise", "must be from 1 to 1000"));
    }
    if file.oom_score_raise.is_some() && file.oom_score_adj.is_some() {
        return Err(invalid("oom-score-raise", "says the same as `oom-score-adj`; leave one of them out"));
    }
    if let Some(names) = &file.capabilities {
        bounded("capabilities", names)?;
        for name in names {
            if capability(name).is_none() {
                let reason = format!(
                    "`{}` is no capability; write it as in \"NET_BIND_SERVICE\"",
                    name.escape_debug()
                );
                return Err(invalid("capabilities", reason));
            }
        }
    }
    if let Some(patterns) = &file.environment_allow {
        bounded("environment-allow", patterns)?;
        for pattern in patterns {
            let name = pattern.strip_suffix('*').unwrap_or(pattern);
            if pattern.is_empty() || name.contains(['=', '\0', '*']) {
                let reason = format!("`{}` is neither NAME nor PREFIX*", pattern.escape_debug());
                return Err(invalid("environment-allow", reason));
            }
        }
    }
    if let Some(landlock) = &file.landlock {
        bounded("landlock.write", &landlock.write)?;
        let more = [("landlock.read", &landlock.read), ("landlock.execute", &landlock.execute)];
        for (key, list) in more {
            bounded(key, list.as_deref().unwrap_or_default())?;
        }
    }
    Ok(())
}

fn bounded(key: &str, list: &[String]) -> Result<(), ParseError> {
    if list.len() > MAX_ENTRIES {
        return Err(invalid(key, format!("has {} entries; at most {MAX_ENTRIES} are allowed", list.len())));
    }
    Ok(())
}

fn parse<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, ParseError> {
    if bytes.len() > MAX_BYTES {
        return Err(ParseError::TooLarge);
    }
    if let Some(flaw) = Flaw::of(bytes) {
        return Err(ParseError::Flaw(flaw));
    }
    // The `#!` line holds a path, which need not be UTF-8. TOML begins after it.
    let (body, first_line) = match bytes.strip_prefix(b"#!") {
        Some(rest) => match rest.iter().position(|&b| b == b'\n') {
            Some(end) => (rest.get(end.saturating_add(1)..).unwrap_or_default(), 2),
            None => (&[][..], 2),
        },
        None => (bytes, 1),
    };
    let line_of = |offset: usize| {
        let before = body.get(..offset).unwrap_or(body);
        before.split(|&b| b == b'\n').skip(1).count().saturating_add(first_line)
    };
    let text = std::str::from_utf8(body)
        .map_err(|error| ParseError::NotUtf8 { line: line_of(error.valid_up_to()) })?;
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        // No editor shows it.
        let mark = text.get(start..).is_some_and(|rest| rest.starts_with('\u{feff}'));
        let what = if mark { "there is a byte-order mark (U+FEFF), which is to be removed: " } else { "" };
        let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        ParseError::Syntax { line: line_of(start), message: what.to_owned() + &message }
    })
}

fn parse_umask(text: &str) -> Option<u32> {
    let octal = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let bits = if octal { u32::from_str_radix(text, 8).ok()? } else { return None };
    (bits <= 0o777).then_some(bits)
}

// serde calls these by reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_default_interval(value: &u64) -> bool {
    *value == DEFAULT_INTERVAL_MS
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_default_timeout(value: &u64) -> bool {
    *value == DEFAULT_TIMEOUT_MS
}

fn default_interval() -> u64 {
    DEFAULT_INTERVAL_MS
}

fn default_timeout() -> u64 {
    DEFAULT_TIMEOUT_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_file_needs_only_a_command() {
        let file = parse_service(b"#!/usr/bin/gatevisor service\ncommand = [\"true\"]\n").unwrap();
        assert_eq!(file, ServiceFile::new(vec!["true".into()]));
    }

    #[test]
    fn every_setting_of_a_run_file_is_read() {
        let text = br#"#!/opt/gate/bin/gatevisor service
# written by gatevisor
command = ["hermes", "-p", "coder", "gateway", "run"]
directory = "${HERMES_HOME}"
user = "hermes"
umask = "077"
nice = 5
stderr = "inherit"
environment-files = ["${HERMES_HOME}/.env"]
[environment]
HOME = "/opt/data"
[ready]
http = "http://127.0.0.1:${API_SERVER_PORT:-8642}/health"
when = "${API_SERVER_ENABLED:-}"
interval-ms = 100
timeout-ms = 5000
"#;
        let file = parse_service(text).unwrap();
        assert_eq!(file.umask_bits(), Some(0o077));
        assert_eq!(file.stderr, Stderr::Inherit);
        assert_eq!(file.environment["HOME"], "/opt/data");
        assert_eq!(file.ready.unwrap().interval_ms, 100);
    }

    #[test]
    fn a_bad_file_says_where_and_why() {
        let table: [(&[u8], &str); 12] = [
            (
                b"#!x\ncommand = []\n",
                "`command`: must name a program, such as [\"hermes\", \"gateway\", \"run\"]",
            ),
            (b"#!x\ncommand = [\"\"]\n", "`command`: must name a program"),
            (b"#!x\n\ncomand = [\"a\"]\n", "line 3: unknown field `comand`"),
            (b"#!x\ncommand = \"a\"\n", "line 2: invalid type: string \"a\", expected a sequence"),
            (b"#!x\ncommand = [\"a\"\n", "line "),
            (b"#!x\ncommand = [\"\xff\"]\n", "the file is not UTF-8 from line 2 on"),
            (b"#!x\n", "line 2: missing field `command`"),
            (b"", "line 1: missing field `command`"),
            (b"command = [\"a\"]\numask = \"888\"\n", "`umask`: must be an octal mask"),
            (b"command = [\"a\"]\nnice = 20\n", "`nice`: must be from -20 to 19"),
            (b"command = [\"a\"]\n[environment]\n\"A=B\" = \"\"\n", "`environment.A=B`: is no name"),
            (
                b"command = [\"a\"]\n[ready]\nhttp = \"http://localhost/\"\ninterval-ms = 0\n",
                "`ready.interval-ms`: must be at least 1",
            ),
        ];
        for (text, start) in table {
            let message = parse_service(text).unwrap_err().to_string();
            assert!(message.starts_with(start), "{message:?} should begin with {start:?}");
            assert!(!message.contains('\n'), "{message:?} must be one line");
        }
        let large = vec![b'#'; MAX_BYTES + 1];
        assert_eq!(parse_service(&large), Err(ParseError::TooLarge));
    }

    #[test]
    fn the_shebang_line_need_not_be_text() {
        let file = parse_service(b"#!/opt/\xff/gatevisor service\ncommand = [\"true\"]\n").unwrap();
        assert_eq!(file.command, ["true"]);
    }
}
