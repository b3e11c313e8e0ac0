//! A POSIX extended regular expression of a script.
//!
//! *Lives here:* compiling one, within a limit, and matching.
//! *Does not live here:* its translation (`ere`).

use regex::bytes::{Regex, RegexBuilder};

use super::ere;

/// The most bytes that a compiled expression may take.
const LARGEST: usize = 10 << 20;

/// A POSIX extended regular expression.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// `None` matches everything.
    regex: Option<Regex>,
}

impl Pattern {
    /// Returns the pattern, or `None` if it is invalid or too large.
    pub fn new(expression: &[u8]) -> Option<Self> {
        if expression.is_empty() {
            return Some(Self { regex: None });
        }
        let translated = ere::translate(expression)?;
        let regex = RegexBuilder::new(&translated).unicode(false).size_limit(LARGEST).build().ok()?;
        Some(Self { regex: Some(regex) })
    }

    /// Returns whether the line matches somewhere.
    pub fn matches(&self, line: &[u8]) -> bool {
        self.regex.as_ref().is_none_or(|regex| regex.is_match(line))
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn a_nul_is_a_byte_as_any_other() {
        assert!(Pattern::new(b"^ab.cd$").unwrap().matches(b"ab\0cd"));
        assert!(Pattern::new(b"").unwrap().matches(b"\0"));
    }
}
