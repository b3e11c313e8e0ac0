//! Chooses lines by regular expressions over their bytes.
//!
//! *Lives here:* the limits on the matcher's work that a settings file may cause, and the choice.
//! *Does not live here:* what a line is (`gatevisor-logd`).

use regex::bytes::{RegexBuilder, RegexSet, RegexSetBuilder};

/// The most patterns in one list.
pub const MAX_PATTERNS: usize = 100;
/// The most memory in bytes that the compiled patterns of one list may take.
const COMPILED: usize = 1 << 20;
/// The most memory in bytes for the matcher's cache.
const CACHE: usize = 512 << 10;

/// Why patterns cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// There are too many.
    #[error("holds {count} patterns; at most {MAX_PATTERNS} are allowed")]
    TooMany {
        /// Their number.
        count: usize,
    },
    /// One is not a regular expression.
    #[error("`{pattern}` is no regular expression: {reason}")]
    Syntax {
        /// The pattern, with control characters escaped.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Together they need too much memory.
    #[error("needs more than 1 MiB when compiled; ask for fewer or smaller repetitions")]
    TooLarge,
}

/// Chooses the lines that some `include` matches, or all lines if there is none, except those that
/// some `exclude` matches.
#[derive(Debug, Clone)]
pub struct Patterns {
    include: Option<RegexSet>,
    exclude: Option<RegexSet>,
}

impl Patterns {
    /// Returns the choice by two lists of regular expressions.
    ///
    /// # Errors
    /// Names the wrong list by its key, with the reason.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, (&'static str, PatternError)> {
        let include = compile(include).map_err(|error| ("include", error))?;
        let exclude = compile(exclude).map_err(|error| ("exclude", error))?;
        Ok(Self { include, exclude })
    }

    /// Returns whether a line, without its newline, is chosen.
    pub fn keeps(&self, line: &[u8]) -> bool {
        self.include.as_ref().is_none_or(|set| set.is_match(line))
            && !self.exclude.as_ref().is_some_and(|set| set.is_match(line))
    }
}

fn compile(list: &[String]) -> Result<Option<RegexSet>, PatternError> {
    if list.is_empty() {
        return Ok(None);
    }
    if list.len() > MAX_PATTERNS {
        return Err(PatternError::TooMany { count: list.len() });
    }
    let set = RegexSetBuilder::new(list).size_limit(COMPILED).dfa_size_limit(CACHE).build();
    set.map(Some).map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => PatternError::TooLarge,
        error => blame(list, &error),
    })
}

/// Finds the wrong pattern, which the error of a set does not name.
fn blame(list: &[String], error: &regex::Error) -> PatternError {
    let wrong = |pattern: &String| {
        let error = RegexBuilder::new(pattern).size_limit(COMPILED).build().err()?;
        Some((pattern.escape_debug().to_string(), last_line(&error)))
    };
    let (pattern, reason) = list.iter().find_map(wrong).unwrap_or_else(|| (String::new(), last_line(error)));
    PatternError::Syntax { pattern, reason }
}

/// Returns the last line of an error, which holds the message; the lines before it draw the
/// pattern.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().next_back().unwrap_or(&text).trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(include: &[&str], exclude: &[&str]) -> Result<Patterns, String> {
        let own = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        Patterns::new(&own(include), &own(exclude)).map_err(|(key, error)| format!("{key}: {error}"))
    }

    #[test]
    fn a_line_needs_an_include_and_no_exclude() {
        type Row = (&'static [&'static str], &'static [&'static str], &'static [u8], bool);
        let table: [Row; 9] = [
            (&[], &[], b"anything", true),
            (&["a", "b"], &[], b"xbx", true),
            (&["a", "b"], &[], b"xcx", false),
            (&[], &["^x$"], b"x", false),
            (&[], &["^x$"], b"xx", true),
            (&["a"], &["b"], b"ab", false),
            (&["\u{e4}"], &[], "\u{e4}".as_bytes(), true),
            (&["(?-u)\\xff"], &[], b"\0\xff", true),
            (&["^.*end$"], &[], b"not text: \xff end", false),
        ];
        for (include, exclude, line, kept) in table {
            let found = patterns(include, exclude).unwrap().keeps(line);
            assert_eq!(found, kept, "{include:?} {exclude:?} {}", line.escape_ascii());
        }
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let many = vec!["a"; MAX_PATTERNS + 1];
        assert_eq!(
            patterns(&["a"], &many).unwrap_err(),
            "exclude: holds 101 patterns; at most 100 are allowed"
        );
        assert_eq!(
            patterns(&["good", "\tba[d"], &[]).unwrap_err(),
            "include: `\\tba[d` is no regular expression: unclosed character class"
        );
        assert_eq!(
            patterns(&[], &["(?:a{1000}){1000}"]).unwrap_err(),
            "exclude: needs more than 1 MiB when compiled; ask for fewer or smaller repetitions"
        );
    }
}
