//! The settings in `log/run`.
//!
//! *Lives here:* the types, their defaults, and the checks that need no environment.
//! *Does not live here:* reading the file (`file`), and the daemon's work (`gatevisor-logd`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::parse_error::{ParseError, invalid, is_default};
use crate::patterns::Patterns;

/// Default size in bytes at which a log file is rotated.
pub const DEFAULT_SIZE: u64 = 1_000_000;
/// Default number of archives beside `current`.
pub const DEFAULT_KEEP: u32 = 10;
/// Smallest size in bytes at which a log file may be rotated, as in s6-log.
pub const MIN_SIZE: u64 = 4096;
/// The prefix of the names of gateways' services; labels leave it out.
pub const GATEWAY_PREFIX: &[u8] = b"gateway-";

/// The settings in `log/run`: where lines are kept and how they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogFile {
    /// Directory of `current` and its archives; may hold `${VAR}`. A relative one lies below
    /// `log/`.
    pub directory: String,
    /// Label of forwarded lines; without it, the service's name without `gateway-`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Size in bytes that `current` does not exceed, except by one line.
    #[serde(default = "default_size", skip_serializing_if = "is_default_size")]
    pub size: u64,
    /// Archives kept beside `current`.
    #[serde(default = "default_keep", skip_serializing_if = "is_default_keep")]
    pub keep: u32,
    /// Bytes of all archives together; without it, `keep` alone counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Seconds after which a nonempty `current` is archived when the next line comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_s: Option<u64>,
    /// How archives are compressed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub compress: Compress,
    /// The stamp at the beginning of each line in the file.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timestamp: Timestamp,
    /// How lines are copied to standard output.
    #[serde(default, skip_serializing_if = "is_default")]
    pub forward: Forward,
    /// Regular expressions. A line is kept and shown only if it matches one of them; without any,
    /// every line is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Regular expressions. A line that matches one of them is neither kept nor shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// How many lines are kept and shown within a time; without it, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

impl LogFile {
    /// Returns an error if a setting makes no sense.
    ///
    /// # Errors
    /// Names the first such setting.
    pub fn check(&self) -> Result<(), ParseError> {
        check_log(self)
    }

    /// Returns settings that keep lines in `directory`, with defaults for all others.
    pub fn new(directory: impl Into<String>) -> Self {
        Self {
            directory: directory.into(),
            label: None,
            size: DEFAULT_SIZE,
            keep: DEFAULT_KEEP,
            total: None,
            period_s: None,
            compress: Compress::None,
            timestamp: Timestamp::IsoUtc,
            forward: Forward::Label,
            include: Vec::new(),
            exclude: Vec::new(),
            rate: None,
        }
    }

    /// Returns which lines are kept, or `None` without patterns.
    pub fn patterns(&self) -> Result<Option<Patterns>, ParseError> {
        if self.include.is_empty() && self.exclude.is_empty() {
            return Ok(None);
        }
        Patterns::new(&self.include, &self.exclude)
            .map(Some)
            .map_err(|(key, error)| invalid(key, error.to_string()))
    }
}

/// Returns the name of a service without `gateway-`.
pub fn default_label(service: &[u8]) -> &[u8] {
    match service.strip_prefix(GATEWAY_PREFIX) {
        Some(rest) if !rest.is_empty() => rest,
        _ => service,
    }
}

/// The stamp at the beginning of a line in a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Timestamp {
    /// `2026-11-20 23:34:05.123456789` and two blanks, in UTC.
    #[default]
    IsoUtc,
    /// The same in the system's time zone.
    IsoLocal,
    /// `@`, 24 hexadecimal digits and one blank.
    Tai64n,
    /// Nothing.
    None,
}

/// How lines are copied to standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Forward {
    /// As `coder | line`.
    #[default]
    Label,
    /// As they are.
    Raw,
    /// As one JSON object a line.
    Json,
    /// Not at all.
    Off,
}

/// How archives are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compress {
    /// Not at all.
    #[default]
    None,
    /// With Zstandard, in the background, as `@….s.zst`.
    Zstd,
}

/// How many lines are kept within a time.
///
/// The time begins with the first line after the previous time. Lines over the limit are left out
/// and counted, and reported before the next line that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rate {
    /// The most lines within the time.
    pub lines: u64,
    /// The time in milliseconds.
    #[serde(default = "default_per", skip_serializing_if = "is_default_per")]
    pub per_ms: u64,
}

pub(crate) fn check_log(file: &LogFile) -> Result<(), ParseError> {
    if file.directory.is_empty() {
        return Err(invalid("directory", "must name a directory"));
    }
    if file.size < MIN_SIZE {
        return Err(invalid("size", "must be at least 4096 bytes"));
    }
    if file.total.is_some_and(|total| total < file.size) {
        return Err(invalid("total", format!("must be at least `size`, which is {} bytes", file.size)));
    }
    if file.period_s == Some(0) {
        return Err(invalid("period-s", "must be at least 1 second; leave it out to rotate by size alone"));
    }
    if file.label.as_deref().is_some_and(|label| label.contains(char::is_control)) {
        return Err(invalid("label", "must not hold control characters"));
    }
    if file.rate.is_some_and(|rate| rate.lines == 0) {
        return Err(invalid("rate.lines", "must be at least 1; leave `rate` out to keep all lines"));
    }
    if file.rate.is_some_and(|rate| rate.per_ms == 0) {
        return Err(invalid("rate.per-ms", "must be at least 1"));
    }
    file.patterns().map(drop)
}

// serde calls these by reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_default_size(value: &u64) -> bool {
    *value == DEFAULT_SIZE
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_default_keep(value: &u32) -> bool {
    *value == DEFAULT_KEEP
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_default_per(value: &u64) -> bool {
    *value == default_per()
}

fn default_size() -> u64 {
    DEFAULT_SIZE
}

fn default_keep() -> u32 {
    DEFAULT_KEEP
}

fn default_per() -> u64 {
    1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::parse_log;

    #[test]
    fn a_log_file_needs_only_a_directory() {
        let file = parse_log(b"#!x log\ndirectory = \"/var/log/x\"\n").unwrap();
        assert_eq!(file, LogFile::new("/var/log/x"));
        assert_eq!((file.size, file.keep), (1_000_000, 10));
    }

    #[test]
    fn every_setting_of_a_log_file_is_read() {
        let text = br#"#!/opt/gatevisor log
directory = "${HERMES_HOME}/logs"
label = "front"
size = 65536
keep = 3
total = 100000
period-s = 86400
compress = "zstd"
timestamp = "none"
forward = "json"
include = ["^GET"]
exclude = ["/health$", '\d']
rate = { lines = 100 }
"#;
        let expected = LogFile {
            directory: "${HERMES_HOME}/logs".into(),
            label: Some("front".into()),
            size: 65536,
            keep: 3,
            total: Some(100_000),
            period_s: Some(86400),
            compress: Compress::Zstd,
            timestamp: Timestamp::None,
            forward: Forward::Json,
            include: vec!["^GET".into()],
            exclude: vec!["/health$".into(), "\\d".into()],
            rate: Some(Rate { lines: 100, per_ms: 1000 }),
        };
        assert_eq!(parse_log(text).unwrap(), expected);
    }

    #[test]
    fn a_bad_log_file_says_which_key_and_what_is_allowed() {
        let table: [(&str, &str); 19] = [
            ("directory = \"\"", "`directory`: must name a directory"),
            ("directory = \"x\"\nsize = 4095", "`size`: must be at least 4096 bytes"),
            ("directory = \"x\"\nlabel = \"a\\nb\"", "`label`: must not hold control characters"),
            (
                "directory = \"x\"\nforward = \"on\"",
                "line 2: unknown variant `on`, expected one of `label`, `raw`, `json`, `off`",
            ),
            ("directory = \"x\"\ntimestamp = 3", "line 2: "),
            ("directory = \"x\"\ntotal = 999999", "`total`: must be at least `size`, which is 1000000 bytes"),
            ("directory = \"x\"\ntotal = -1", "line 2: invalid value: integer `-1`, expected u64"),
            ("directory = \"x\"\nperiod-s = 0", "`period-s`: must be at least 1 second; leave it out"),
            ("directory = \"x\"\nperiod = 5", "line 2: unknown field `period`, expected one of "),
            (
                "directory = \"x\"\ncompress = \"gzip\"",
                "line 2: unknown variant `gzip`, expected `none` or `zstd`",
            ),
            ("directory = \"x\"\nrate = { lines = 0 }", "`rate.lines`: must be at least 1; leave `rate` out"),
            ("directory = \"x\"\nrate = { lines = 1, per-ms = 0 }", "`rate.per-ms`: must be at least 1"),
            ("directory = \"x\"\nrate = { }", "line 2: missing field `lines`"),
            (
                "directory = \"x\"\nrate = { lines = 1, burst = 5 }",
                "line 2: unknown field `burst`, expected `lines` or `per-ms`",
            ),
            ("directory = \"x\"\nrate = 100", "line 2: invalid type: integer `100`, expected struct Rate"),
            ("directory = \"x\"\ninclude = \"a\"", "line 2: invalid type: string \"a\", expected a sequence"),
            (
                "directory = \"x\"\ninclude = [\"a\", \"(b\"]",
                "`include`: `(b` is no regular expression: unclosed group",
            ),
            (
                "directory = \"x\"\nexclude = ['\\1']",
                "`exclude`: `\\\\1` is no regular expression: backreferences are not supported",
            ),
            (
                "directory = \"x\"\nexclude = ['(\\w{500}){500}']",
                "`exclude`: needs more than 1 MiB when compiled; ask for fewer or smaller repetitions",
            ),
        ];
        for (text, start) in table {
            let message = parse_log(text.as_bytes()).unwrap_err().to_string();
            assert!(message.starts_with(start), "{message:?} should begin with {start:?}");
            assert!(!message.contains('\n'), "{message:?} must be one line");
        }
    }

    #[test]
    fn the_label_is_the_services_name_without_gateway() {
        let table: [(&[u8], &[u8]); 4] = [
            (b"gateway-coder", b"coder"),
            (b"dashboard", b"dashboard"),
            (b"gateway-", b"gateway-"),
            (b"gateway-a-b", b"a-b"),
        ];
        for (service, label) in table {
            assert_eq!(default_label(service), label);
        }
    }
}
