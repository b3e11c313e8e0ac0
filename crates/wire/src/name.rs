//! *Lives here:* the name of a service: an entry of a scandir that a supervisor accepts.
//!
//! *Does not live here:* names of profiles, which are stricter.

use std::{ffi::OsStr, fmt, os::unix::ffi::OsStrExt, path::Path};

/// The longest name in bytes: the longest file name, less the room that s6 needs for its own
/// suffixes.
pub const MAX: usize = 251;

/// Holds a name that can be an entry of a scandir and is not skipped there.
///
/// Names are bytes, not text, and are ordered as bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Box<[u8]>);

/// Why bytes are not a service name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty.
    #[error("a service name has at least one byte")]
    Empty,
    /// The name is longer than 251 bytes.
    #[error("a service name has at most 251 bytes, and this one has {0}")]
    TooLong(usize),
    /// The name begins with a dot, which a scandir skips.
    #[error("a service name does not begin with a dot")]
    LeadingDot,
    /// The name holds a slash.
    #[error("a service name holds no slash")]
    Slash,
    /// The name holds a NUL byte.
    #[error("a service name holds no NUL byte")]
    Nul,
}

impl ServiceName {
    /// Returns the service name, if the bytes are one.
    pub fn new(bytes: &[u8]) -> Result<Self, NameError> {
        match bytes {
            [] => Err(NameError::Empty),
            _ if bytes.len() > MAX => Err(NameError::TooLong(bytes.len())),
            [b'.', ..] => Err(NameError::LeadingDot),
            _ if bytes.contains(&b'/') => Err(NameError::Slash),
            _ if bytes.contains(&0) => Err(NameError::Nul),
            _ => Ok(Self(bytes.into())),
        }
    }

    /// Returns the bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the name as the system's string.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }
}

impl AsRef<Path> for ServiceName {
    fn as_ref(&self) -> &Path {
        Path::new(self.as_os_str())
    }
}

/// Prints the name for people. Bytes that are not printable UTF-8 are escaped, so that a name stays
/// on one line.
impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if is_plain(c) { write!(f, "{c}")? } else { write!(f, "{}", c.escape_default())? }
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceName({self})")
    }
}

/// Returns whether a character can be printed as it is, on one line and without moving the text
/// after it.
pub(crate) fn is_plain(c: char) -> bool {
    // Line and paragraph separators and marks that change the direction of text are not control
    // characters, so they are tested separately.
    !c.is_control()
        && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::{NameError, ServiceName};

    #[test]
    fn a_service_name_is_what_a_scandir_does_not_skip() {
        let long = [b'a'; 252];
        let table: [(&[u8], Result<(), NameError>); 12] = [
            (b"gateway-coder", Ok(())),
            (b"a", Ok(())),
            (b"a.b", Ok(())),
            (b"-x y\n\xff", Ok(())),
            (&long[..251], Ok(())),
            (b"", Err(NameError::Empty)),
            (&long, Err(NameError::TooLong(252))),
            (b".", Err(NameError::LeadingDot)),
            (b"..", Err(NameError::LeadingDot)),
            (b".gateway-coder.tmp", Err(NameError::LeadingDot)),
            (b"a/log", Err(NameError::Slash)),
            (b"a\0", Err(NameError::Nul)),
        ];
        for (bytes, expected) in table {
            let name = ServiceName::new(bytes);
            assert_eq!(name.as_ref().map(|_| ()).map_err(|e| *e), expected, "{}", bytes.escape_ascii());
            assert!(name.is_err() || name.unwrap().as_bytes() == bytes);
        }
    }

    #[test]
    fn a_service_name_prints_on_one_line_whatever_it_holds() {
        let name = ServiceName::new("é\n\u{1b}[31m\u{202e}".as_bytes()).unwrap();
        assert_eq!(name.to_string(), r"é\n\u{1b}[31m\u{202e}");
        assert_eq!(ServiceName::new(b"a\xffb").unwrap().to_string(), r"a\xffb");
    }

    #[test]
    fn refusals_say_what_was_wrong() {
        let errors = [
            NameError::Empty,
            NameError::TooLong(252),
            NameError::LeadingDot,
            NameError::Slash,
            NameError::Nul,
        ];
        assert_eq!(
            errors.map(|e| e.to_string()),
            [
                "a service name has at least one byte",
                "a service name has at most 251 bytes, and this one has 252",
                "a service name does not begin with a dot",
                "a service name holds no slash",
                "a service name holds no NUL byte",
            ]
        );
    }
}
