//! *Lives here:* the name of a profile, which is stricter than the name of a service.
//!
//! *Does not live here:* whether a profile of this name exists.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;

use gatevisor_wire::exit::{Exit, ExitError};
use gatevisor_wire::name::{self, NameError as ServiceNameError, ServiceName};

/// What every gateway's service name begins with.
pub const SERVICE_PREFIX: &str = "gateway-";
/// The most bytes of a profile name. The service name then fits a supervisor's limit.
///
/// **Source:** SUP-8 and issue *Bad input*: 251 bytes for the service, less the prefix.
pub const MAX: usize = name::MAX - SERVICE_PREFIX.len();
/// The name of the root profile, whose home is the root of the home itself.
pub const DEFAULT: &str = "default";
/// Characters of a refused name that an error message repeats.
const SHOWN: usize = 40;

/// The name of a profile: `[a-z0-9][a-z0-9_-]*`, at most [`MAX`] bytes.
///
/// **Source:** SM-1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileName(Box<str>);

/// Why some bytes are no profile name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileNameError {
    /// There are no bytes.
    #[error("a profile name cannot be empty; {RULE}")]
    Empty,
    /// There are too many bytes.
    #[error("profile name `{shown}` has {length} bytes, and {MAX} is the limit; choose a shorter one")]
    TooLong {
        /// The beginning of the name.
        shown: String,
        /// Its length in bytes.
        length: usize,
    },
    /// The bytes are not UTF-8.
    #[error("profile name `{shown}` is not UTF-8; {RULE}")]
    NotUtf8 {
        /// The name, escaped.
        shown: String,
    },
    /// The name ends with a newline.
    #[error("profile name `{shown}` ends with a newline; leave it out")]
    TrailingNewline {
        /// The name, escaped.
        shown: String,
    },
    /// The name is a path.
    #[error("profile name `{shown}` is a path, not a name; {RULE}")]
    Path {
        /// The name, escaped.
        shown: String,
    },
    /// The first character is allowed only later in a name.
    #[error("profile name `{shown}` begins with `{first}`; begin with a letter or a digit")]
    First {
        /// The name, escaped.
        shown: String,
        /// Its first character.
        first: char,
    },
    /// The name has a letter in upper case.
    #[error("profile name `{shown}` has the upper-case letter `{upper}`; write `{lower}`")]
    UpperCase {
        /// The name, escaped.
        shown: String,
        /// The upper-case letter.
        upper: char,
        /// The same letter in lower case.
        lower: String,
    },
    /// The name has another character that is not allowed.
    #[error("profile name `{shown}` has the character `{character}`; {RULE}")]
    Character {
        /// The name, escaped.
        shown: String,
        /// The character, escaped.
        character: String,
    },
}

const RULE: &str = "use a-z, 0-9, `-` and `_`, and begin with a letter or a digit";

impl ExitError for ProfileNameError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

impl ProfileName {
    /// Returns the name that `bytes` are, or what is wrong with them.
    pub fn new(bytes: &[u8]) -> Result<Self, ProfileNameError> {
        if bytes.is_empty() {
            return Err(ProfileNameError::Empty);
        }
        let Ok(text) = str::from_utf8(bytes) else {
            // Escaped first, so that different bytes stay different.
            let escaped = bytes.escape_ascii().map(char::from).take(SHOWN).collect();
            return Err(ProfileNameError::NotUtf8 { shown: escaped });
        };
        match fault(text) {
            Some(error) => Err(error),
            None if bytes.len() > MAX => {
                Err(ProfileNameError::TooLong { shown: shown(text), length: bytes.len() })
            }
            None => Ok(Self(text.into())),
        }
    }

    /// Returns the name of the root profile.
    pub fn root() -> Self {
        Self(DEFAULT.into())
    }

    /// Returns whether this is the root profile, which can be neither created nor deleted.
    pub fn is_root(&self) -> bool {
        &*self.0 == DEFAULT
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name of the profile's gateway in a scandir: `gateway-` and the name.
    ///
    /// # Errors
    /// None in practice: the limit of a profile name leaves room for the prefix.
    pub fn service(&self) -> Result<ServiceName, ServiceNameError> {
        ServiceName::new(self.service_entry().as_bytes())
    }

    /// Returns the name of the slot's directory in a scandir.
    pub fn service_entry(&self) -> String {
        format!("{SERVICE_PREFIX}{}", self.0)
    }

    /// Returns the profile whose gateway a scandir entry is; `None` for every other entry.
    pub fn of_service(entry: &[u8]) -> Option<Self> {
        Self::new(entry.strip_prefix(SERVICE_PREFIX.as_bytes())?).ok()
    }

    /// Returns what people call a service: the profile whose gateway it is, or its own name.
    pub fn shown_of(service: &str) -> String {
        Self::of_service(service.as_bytes()).map_or_else(|| service.to_owned(), |name| name.to_string())
    }

    /// Returns the name that an operating-system string is, or what is wrong with it.
    pub fn from_os(text: &OsStr) -> Result<Self, ProfileNameError> {
        Self::new(text.as_bytes())
    }
}

impl FromStr for ProfileName {
    type Err = ProfileNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text.as_bytes())
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for ProfileName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl serde::Serialize for ProfileName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Returns what is wrong with the characters of a name that is not empty.
fn fault(text: &str) -> Option<ProfileNameError> {
    let first = text.chars().next()?;
    let bad = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-' | '_'));
    let shown = shown(text);
    if text.contains('/') || text == "." || text == ".." {
        return Some(ProfileNameError::Path { shown });
    }
    match bad {
        Some('\n') if text.trim_end_matches('\n').chars().all(|c| c != '\n') => {
            Some(ProfileNameError::TrailingNewline { shown })
        }
        Some(upper @ 'A'..='Z') => {
            Some(ProfileNameError::UpperCase { shown, upper, lower: upper.to_ascii_lowercase().to_string() })
        }
        Some(c) => Some(ProfileNameError::Character { shown, character: c.escape_debug().to_string() }),
        None if matches!(first, '-' | '_') => Some(ProfileNameError::First { shown, first }),
        None => None,
    }
}

/// Returns the beginning of a refused name on one line, whatever it holds.
pub(crate) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    #[track_caller]
    fn refusal(bytes: &[u8]) -> String {
        let error = ProfileName::new(bytes).expect_err("must be refused");
        assert_eq!(error.exit_code(), 100);
        error.to_string()
    }

    #[test]
    fn names_of_lower_case_digits_hyphens_and_underscores_are_accepted() {
        for name in ["a", "0", "coder", "my-agent_2", "default", &"x".repeat(243)] {
            let parsed = ProfileName::new(name.as_bytes()).expect("must be accepted");
            assert_eq!(parsed.as_str(), name);
            assert_eq!(parsed.service().expect("must fit").as_bytes(), format!("gateway-{name}").as_bytes());
            assert_eq!(ProfileName::of_service(parsed.service_entry().as_bytes()), Some(parsed));
        }
    }

    #[test]
    fn each_kind_of_bad_name_has_a_message_of_its_own() {
        let lines: Vec<String> = [
            &b""[..],
            b"Coder",
            b"..",
            b"a/b",
            b"-a",
            b"_a",
            b"coder\n",
            b"a\nb",
            b"\xff",
            b"a b",
            b"a.b",
            "caf\u{e9}".as_bytes(),
            &[b'a'; 244],
            &[b'a'; 251],
        ]
        .into_iter()
        .map(refusal)
        .collect();
        assert_snapshot!(lines.join("\n"), @r#"
        a profile name cannot be empty; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit
        profile name `Coder` has the upper-case letter `C`; write `c`
        profile name `..` is a path, not a name; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit
        profile name `a/b` is a path, not a name; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit
        profile name `-a` begins with `-`; begin with a letter or a digit
        profile name `_a` begins with `_`; begin with a letter or a digit
        profile name `coder\n` ends with a newline; leave it out
        profile name `a\nb` has the character `\n`; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit
        profile name `\xff` is not UTF-8; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit
        profile name `a b` has the character ` `; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit
        profile name `a.b` has the character `.`; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit
        profile name `café` has the character `é`; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit
        profile name `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…` has 244 bytes, and 243 is the limit; choose a shorter one
        profile name `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…` has 251 bytes, and 243 is the limit; choose a shorter one
        "#);
    }

    #[test]
    fn only_a_valid_name_behind_the_prefix_is_a_gateway() {
        for entry in ["gateway-", "gateway-A", "dashboard", "gateway", ".gateway-a"] {
            assert_eq!(ProfileName::of_service(entry.as_bytes()), None, "{entry}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_name_or_refused_on_one_line(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            match ProfileName::new(&bytes) {
                Ok(name) => {
                    assert!(name.service().is_ok());
                    assert_eq!(name.as_str().as_bytes(), &bytes);
                }
                Err(error) => assert!(!error.to_string().contains('\n')),
            }
        }
    }
}
