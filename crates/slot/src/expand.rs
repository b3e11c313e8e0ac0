//! Expands `${VAR}` in settings.
//!
//! *Lives here:* the only syntax for variables in slot files.
//! *Does not live here:* the values of variables; the caller provides the look-up.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// How deeply defaults may be nested.
const MAX_DEPTH: usize = 16;

/// Why a text cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// A variable without a default is not set.
    #[error("the variable {name} is not set; set it, or write ${{{name}:-default}}")]
    Unset {
        /// The name of the variable.
        name: String,
    },
    /// A `${` has no name, a wrong name, or no end.
    #[error("`{text}` is no variable; write ${{NAME}}, ${{NAME:-default}}, or $$ for a dollar sign")]
    Syntax {
        /// The text in question.
        text: String,
    },
    /// Defaults are nested too deeply.
    #[error("variables are nested more than {MAX_DEPTH} deep")]
    Depth,
}

/// Returns `template` with every `${NAME}` and `${NAME:-default}` replaced, and `$$` replaced by
/// `$`.
///
/// The default is used if the variable is not set or empty, and may itself contain variables.
///
/// # Errors
/// The variable is not set and has no default, or `$` is used in another way.
pub fn expand(template: &str, lookup: &dyn Fn(&str) -> Option<OsString>) -> Result<OsString, ExpandError> {
    let mut out = OsString::with_capacity(template.len());
    let rest = expand_until(template, Mode::Text, 0, lookup, &mut out)?;
    debug_assert!(rest.is_empty(), "text is expanded to its end");
    Ok(out)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// To the end of the text.
    Text,
    /// A default that is used, up to its `}`.
    Default,
    /// A default that is skipped, up to its `}`; its variables need not be set.
    Unused,
}

/// Appends the expansion of `text`, and returns the text after the closing brace of a default.
fn expand_until<'a>(
    mut text: &'a str,
    mode: Mode,
    depth: usize,
    lookup: &dyn Fn(&str) -> Option<OsString>,
    out: &mut OsString,
) -> Result<&'a str, ExpandError> {
    if depth > MAX_DEPTH {
        return Err(ExpandError::Depth);
    }
    let stops: &[char] = if mode == Mode::Text { &['$'] } else { &['$', '}'] };
    loop {
        let Some((before, stop, after)) = split_at_any(text, stops) else {
            // A default must have its brace; plain text ends here.
            return if mode == Mode::Text {
                out.push(text);
                Ok("")
            } else {
                Err(syntax(text))
            };
        };
        if mode != Mode::Unused {
            out.push(before);
        }
        if stop == '}' {
            return Ok(after);
        }
        text = if let Some(rest) = after.strip_prefix('$') {
            if mode != Mode::Unused {
                out.push("$");
            }
            rest
        } else if let Some(rest) = after.strip_prefix('{') {
            variable(rest, mode, depth, lookup, out)?
        } else {
            return Err(syntax(text.get(before.len()..).unwrap_or(text)));
        };
    }
}

/// Appends the value of the variable with whose name `text` begins, and returns the text after its
/// closing brace.
fn variable<'a>(
    text: &'a str,
    mode: Mode,
    depth: usize,
    lookup: &dyn Fn(&str) -> Option<OsString>,
    out: &mut OsString,
) -> Result<&'a str, ExpandError> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(syntax_of_variable(text));
    }
    let value = if mode == Mode::Unused { None } else { lookup(name) };
    if let Some(after) = rest.strip_prefix('}') {
        return match (mode, value) {
            (Mode::Unused, _) => Ok(after),
            (_, Some(value)) => {
                out.push(value);
                Ok(after)
            }
            (_, None) => Err(ExpandError::Unset { name: name.to_owned() }),
        };
    }
    let Some(default) = rest.strip_prefix(":-") else { return Err(syntax_of_variable(text)) };
    let set = value.filter(|value| !value.is_empty());
    let inner = if mode == Mode::Unused || set.is_some() { Mode::Unused } else { Mode::Default };
    if let Some(value) = set {
        out.push(value);
    }
    expand_until(default, inner, depth.saturating_add(1), lookup, out)
}

/// Splits a text at the first of `stops`: the text before it, that character, and the text after
/// it.
fn split_at_any<'a>(text: &'a str, stops: &[char]) -> Option<(&'a str, char, &'a str)> {
    let (index, stop) = text.char_indices().find(|(_, c)| stops.contains(c))?;
    let (before, rest) = text.split_at_checked(index)?;
    Some((before, stop, rest.get(stop.len_utf8()..)?))
}

fn syntax_of_variable(after_brace: &str) -> ExpandError {
    syntax(&format!("${{{after_brace}"))
}

/// Returns an error with the beginning of the text in question.
fn syntax(text: &str) -> ExpandError {
    let mut shown: String = text.chars().take(24).flat_map(char::escape_debug).collect();
    if text.chars().nth(24).is_some() {
        shown.push('…');
    }
    ExpandError::Syntax { text: shown }
}

/// Returns whether a word means yes: `1`, `true`, `yes` or `on`, in any case. Blanks around it are
/// ignored.
pub fn is_truthy(word: &OsStr) -> bool {
    let word = word.as_bytes().trim_ascii();
    [&b"1"[..], b"true", b"yes", b"on"].iter().any(|yes| word.eq_ignore_ascii_case(yes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn environment(name: &str) -> Option<OsString> {
        match name {
            "HOME" => Some("/opt/data".into()),
            "EMPTY" => Some("".into()),
            "RAW" => Some(OsStr::from_bytes(b"\xff").to_owned()),
            "TRICK" => Some("${HOME}$$}".into()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced_and_nothing_else() {
        let table = [
            ("", ""),
            ("plain } text", "plain } text"),
            ("${HOME}", "/opt/data"),
            ("a${HOME}b${HOME}c", "a/opt/datab/opt/datac"),
            ("$$HOME and $${HOME}", "$HOME and ${HOME}"),
            ("${NOT:-}", ""),
            ("${NOT:-8642}", "8642"),
            ("${EMPTY:-8642}", "8642"),
            ("[${EMPTY}]", "[]"),
            ("${HOME:-x}", "/opt/data"),
            ("${NOT:-${HOME}/logs}", "/opt/data/logs"),
            ("${HOME:-${NEVER}}", "/opt/data"),
            ("${NOT:-${ALSO:-a$$b}}c", "a$bc"),
            ("${NOT:-{}}", "{}"),
            ("${HOME:-$$}}", "/opt/data}"),
            // A value is never expanded again.
            ("${TRICK}", "${HOME}$$}"),
            ("ü${HOME}ü", "ü/opt/dataü"),
        ];
        for (template, expected) in table {
            assert_eq!(expand(template, &environment), Ok(expected.into()), "{template}");
        }
        assert_eq!(expand("${RAW}", &environment).unwrap().as_bytes(), b"\xff");
    }

    #[test]
    fn an_unset_variable_without_default_is_named() {
        let error = expand("x${NOT_SET}", &environment).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the variable NOT_SET is not set; set it, or write ${NOT_SET:-default}"
        );
        assert!(matches!(expand("${A:-${NOT_SET}}", &environment), Err(ExpandError::Unset { .. })));
    }

    #[test]
    fn any_other_dollar_is_an_error_that_shows_it() {
        for (template, shown) in [
            ("$HOME", "`$HOME` is no"),
            ("cost: $", "`$` is no"),
            ("${}", "`${}` is no"),
            ("${1A}", "`${1A}` is no"),
            ("${A", "`${A` is no"),
            ("${A:x}", "`${A:x}` is no"),
            ("${A:-x", "`x` is no"),
            ("${A-x}", "`${A-x}` is no"),
        ] {
            let message = expand(template, &environment).unwrap_err().to_string();
            assert!(message.starts_with(shown), "{template}: {message}");
        }
    }

    #[test]
    fn defaults_within_defaults_have_a_bound() {
        let deep = "${A:-".repeat(20) + &"}".repeat(20);
        assert_eq!(expand(&deep, &environment), Err(ExpandError::Depth));
    }

    #[test]
    fn a_truthy_word_means_yes() {
        for yes in ["1", "true", "YES", " on ", "True\n"] {
            assert!(is_truthy(OsStr::new(yes)), "{yes:?}");
        }
        for no in ["", "0", "false", "2", "enabled", "tru"] {
            assert!(!is_truthy(OsStr::new(no)), "{no:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_with_its_dollars_doubled_expands_to_itself(text in any::<String>()) {
            let template = text.replace('$', "$$");
            prop_assert_eq!(expand(&template, &environment), Ok(text.into()));
        }

        #[test]
        fn no_text_is_too_strange_to_be_answered(text in "[${}:A-]{0,40}") {
            let _ = expand(&text, &environment);
        }
    }
}
