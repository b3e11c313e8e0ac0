//! The settings in `run` that restrict its command.
//!
//! *Lives here:* the types of these settings, and the checks that need no kernel.
//! *Does not live here:* applying them at a start; see the modules beside this one.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use rustix::process::Resource;
use rustix::thread::CapabilitySet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most entries of a list in these settings.
pub const MAX_ENTRIES: usize = 256;
/// The word for no limit.
const UNLIMITED: &str = "unlimited";

/// A resource of which a process can use only a limited amount.
///
/// **Source:** getrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LimitName {
    /// Address space, in bytes.
    As,
    /// Size of a core dump, in bytes.
    Core,
    /// Processor time, in seconds.
    Cpu,
    /// Data segment, in bytes.
    Data,
    /// Size of a written file, in bytes.
    Fsize,
    /// Locked memory, in bytes.
    Memlock,
    /// Message queues of the user, in bytes.
    Msgqueue,
    /// Open files, one more than the highest descriptor.
    Nofile,
    /// Processes of the user.
    Nproc,
    /// Real-time priority.
    Rtprio,
    /// Signals queued for the user.
    Sigpending,
    /// Stack, in bytes.
    Stack,
}

impl LimitName {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::As,
        Self::Core,
        Self::Cpu,
        Self::Data,
        Self::Fsize,
        Self::Memlock,
        Self::Msgqueue,
        Self::Nofile,
        Self::Nproc,
        Self::Rtprio,
        Self::Sigpending,
        Self::Stack,
    ];

    /// Returns its name in `[limits]`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::As => "as",
            Self::Core => "core",
            Self::Cpu => "cpu",
            Self::Data => "data",
            Self::Fsize => "fsize",
            Self::Memlock => "memlock",
            Self::Msgqueue => "msgqueue",
            Self::Nofile => "nofile",
            Self::Nproc => "nproc",
            Self::Rtprio => "rtprio",
            Self::Sigpending => "sigpending",
            Self::Stack => "stack",
        }
    }

    /// Returns the kernel's constant for it.
    pub(crate) const fn resource(self) -> Resource {
        match self {
            Self::As => Resource::As,
            Self::Core => Resource::Core,
            Self::Cpu => Resource::Cpu,
            Self::Data => Resource::Data,
            Self::Fsize => Resource::Fsize,
            Self::Memlock => Resource::Memlock,
            Self::Msgqueue => Resource::Msgqueue,
            Self::Nofile => Resource::Nofile,
            Self::Nproc => Resource::Nproc,
            Self::Rtprio => Resource::Rtprio,
            Self::Sigpending => Resource::Sigpending,
            Self::Stack => Resource::Stack,
        }
    }
}

/// A soft and a hard limit; `None` means no limit.
///
/// Written as one number for both, as `"soft:hard"`, or as `"unlimited"`, which may also replace
/// either number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceLimit {
    /// The limit in force. The process may change it up to the hard limit.
    pub soft: Option<u64>,
    /// The highest soft limit. Only root can raise it.
    pub hard: Option<u64>,
}

impl fmt::Display for ResourceLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |f: &mut fmt::Formatter<'_>, number: Option<u64>| match number {
            Some(number) => write!(f, "{number}"),
            None => f.write_str(UNLIMITED),
        };
        one(f, self.soft)?;
        if self.soft == self.hard {
            return Ok(());
        }
        f.write_str(":")?;
        one(f, self.hard)
    }
}

/// Why a text is not a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// It is not a number, or a number that TOML does not have.
    #[error(
        "must be a number from 0 to {}, \"unlimited\", or two of them as in \"1024:4096\", soft and hard",
        i64::MAX
    )]
    Syntax,
    /// The soft limit is larger than the hard one.
    #[error("the soft limit, which comes first, must not be larger than the hard one")]
    Order,
}

impl FromStr for ResourceLimit {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        let limit = Self { soft: one_limit(soft)?, hard: one_limit(hard)? };
        let ordered = match (limit.soft, limit.hard) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(soft), Some(hard)) => soft <= hard,
        };
        if ordered { Ok(limit) } else { Err(LimitError::Order) }
    }
}

fn one_limit(text: &str) -> Result<Option<u64>, LimitError> {
    if text == UNLIMITED {
        return Ok(None);
    }
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = if digits { text.parse::<i64>().ok() } else { None };
    number.and_then(|number| u64::try_from(number).ok()).map(Some).ok_or(LimitError::Syntax)
}

impl Serialize for ResourceLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.soft {
            Some(number) if self.hard == Some(number) => serializer.serialize_u64(number),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for ResourceLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = ResourceLimit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, \"unlimited\", or \"soft:hard\"")
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<ResourceLimit, E> {
                let number = u64::try_from(number).map_err(|_| E::custom(LimitError::Syntax))?;
                Ok(ResourceLimit { soft: Some(number), hard: Some(number) })
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ResourceLimit, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for ResourceLimit {
    fn schema_name() -> Cow<'static, str> {
        "ResourceLimit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "One number for both limits, \"unlimited\", or \"soft:hard\".",
            "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string" }],
        })
    }
}

/// The paths below which files may be written, read and executed.
///
/// **Source:** landlock(7).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Landlock {
    /// Where files may be written, made, renamed and removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub write: Vec<String>,
    /// Where files may also be read; without it, everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Vec<String>>,
    /// Where files may also be executed and read; without it, files may be executed everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execute: Option<Vec<String>>,
}

/// Returns the capability with this name, with or without `CAP_` before it.
pub(crate) fn capability(name: &str) -> Option<CapabilitySet> {
    let name = name.strip_prefix("CAP_").unwrap_or(name);
    CapabilitySet::from_name(name).filter(|found| found.bits().is_power_of_two())
}

/// Returns whether a pattern of `environment-allow` matches this variable.
pub(crate) fn allows(pattern: &str, name: &[u8]) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix.as_bytes()),
        None => name == pattern.as_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::parse_service;

    #[test]
    fn every_setting_is_read() {
        let file = parse_service(
            br#"
command = ["a"]
no-new-privileges = true
oom-score-adj = 500
capabilities = ["NET_BIND_SERVICE", "CAP_KILL"]
environment-allow = ["PATH", "HERMES_*"]
strict = true
[limits]
nofile = "1024:4096"
core = 0
as = "unlimited"
stack = "8388608:unlimited"
[landlock]
write = ["${HOME}", "/tmp"]
read = ["/usr"]
"#,
        )
        .unwrap();
        assert!(file.no_new_privileges && file.strict);
        assert_eq!(file.limits[&LimitName::Nofile], ResourceLimit { soft: Some(1024), hard: Some(4096) });
        assert_eq!(file.limits[&LimitName::Core], ResourceLimit { soft: Some(0), hard: Some(0) });
        assert_eq!(file.limits[&LimitName::As], ResourceLimit { soft: None, hard: None });
        assert_eq!(file.limits[&LimitName::Stack], ResourceLimit { soft: Some(8_388_608), hard: None });
        let landlock = file.landlock.unwrap();
        assert_eq!((landlock.write.len(), landlock.read.is_some(), landlock.execute), (2, true, None));
    }

    #[test]
    fn a_wrong_setting_says_which_and_what_would_be_right() {
        let number = format!("must be a number from 0 to {}", i64::MAX);
        let table = [
            ("oom-score-adj = -5", "`oom-score-adj`: must be from 0 to 1000; it can be raised only"),
            ("oom-score-adj = 1001", "`oom-score-adj`: must be from 0"),
            ("capabilities = [\"FLY\"]", "`capabilities`: `FLY` is no capability; write it as in"),
            ("capabilities = [\"net_admin\"]", "`capabilities`: `net_admin` is no capability"),
            ("environment-allow = [\"A=B\"]", "`environment-allow`: `A=B` is neither NAME nor PREFIX*"),
            ("environment-allow = [\"*A\"]", "`environment-allow`: `*A` is neither"),
            ("environment-allow = [\"\"]", "`environment-allow`: `` is neither"),
            ("strict = 1", "line 2: invalid type: integer `1`, expected a boolean"),
            ("[limits]\nnofiles = 1", "line 3: unknown variant `nofiles`, expected one of `as`, `core`"),
            ("[limits]\nnofile = -1", &format!("line 3: {number}")),
            ("[limits]\nnofile = \"-1\"", &format!("line 3: {number}")),
            ("[limits]\nnofile = \"1:\"", &format!("line 3: {number}")),
            ("[limits]\nnofile = \"9999999999999999999\"", &format!("line 3: {number}")),
            ("[limits]\nnofile = \"5:4\"", "line 3: the soft limit, which comes first, must not be larger"),
            ("[limits]\nnofile = \"unlimited:4\"", "line 3: the soft limit"),
            (
                "[limits]\nnofile = true",
                "line 3: invalid type: boolean `true`, expected a number, \"unlimited\"",
            ),
            ("[landlock]\nwrites = []", "line 3: unknown field `writes`, expected one of `write`"),
            ("[landlock]\nwrite = \"/tmp\"", "line 3: invalid type: string"),
        ];
        for (text, start) in table {
            let message =
                parse_service(format!("command = [\"a\"]\n{text}\n").as_bytes()).unwrap_err().to_string();
            assert!(message.starts_with(start), "{message:?} should begin with {start:?}");
            assert!(!message.contains('\n'), "{message:?} must be one line");
        }
        let many = "\"A\",".repeat(MAX_ENTRIES + 1);
        for key in ["environment-allow", "[landlock]\nread"] {
            let text = format!("command = [\"a\"]\n{key} = [{many}]\n");
            assert!(
                parse_service(text.as_bytes()).unwrap_err().to_string().ends_with("at most 256 are allowed")
            );
        }
    }

    #[test]
    fn names_in_files_are_those_of_the_table() {
        for name in LimitName::ALL {
            let text = format!("command = [\"a\"]\n[limits]\n{} = 7\n", name.name());
            assert!(parse_service(text.as_bytes()).unwrap().limits.contains_key(&name), "{}", name.name());
        }
    }

    #[test]
    fn a_pattern_is_a_name_or_a_beginning() {
        for (pattern, name, allowed) in [
            ("PATH", "PATH", true),
            ("PATH", "PATHS", false),
            ("HERMES_*", "HERMES_HOME", true),
            ("HERMES_*", "HERMES", false),
            ("*", "ANYTHING", true),
        ] {
            assert_eq!(allows(pattern, name.as_bytes()), allowed, "{pattern} {name}");
        }
    }
}
