//! Dotenv files: `KEY=VALUE` lines that settings may refer to.
//!
//! *Lives here:* the reader of their text, which accepts any bytes, and changing one variable in
//! it.
//! *Does not live here:* opening and writing them, and which of several files has priority.
//!
//! **Source:** the syntax that python-dotenv accepts, without its interpolation.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The most bytes of a dotenv file that are read.
pub const MAX_BYTES: u64 = 1 << 20;

/// The UTF-8 mark that some editors write at the beginning of a file.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Returns the variables that a dotenv file sets, in its order. The last one of a name counts.
///
/// A line that is not an assignment is skipped. Values may be bare (up to ` #` or the end of the
/// line), in single quotes (taken literally), or in double quotes (with `\n`, `\r`, `\t`, `\"`,
/// `\\`, `\$`). Quoted values may span lines.
pub fn parse(bytes: &[u8]) -> Vec<(String, OsString)> {
    let mut rest = bytes.strip_prefix(MARK).unwrap_or(bytes);
    let mut variables = Vec::new();
    while !rest.is_empty() {
        let (found, after) = assignment(rest);
        if let Some((name, value)) = found {
            variables.push((name, OsString::from_vec(value)));
        }
        rest = after;
    }
    variables
}

/// Returns whether `name` can be the name of a variable.
pub fn is_name(name: &str) -> bool {
    self::name(name.as_bytes()).is_some_and(|found| found == name)
}

/// Returns the text of a dotenv file with a variable set, or `None` if no file can hold that value.
/// Everything else in the file stays as it is.
///
/// The variable replaces its last assignment, and earlier ones are removed: a file of ours sets
/// each variable once.
pub fn set(text: &[u8], name: &str, value: &[u8]) -> Option<Vec<u8>> {
    let line = [name.as_bytes(), b"=", &quote(value)?, b"\n"].concat();
    let changed = with_line(text, name, &line);
    if others(&changed, name) == others(text, name) && is_set(&changed, name, value) {
        return Some(changed);
    }
    // An earlier quote without an end would end in the new line. At the beginning, nothing is
    // before the line.
    let rest = unset(text, name);
    let (mark, rest) = rest.split_at(if rest.starts_with(MARK) { MARK.len() } else { 0 });
    Some([mark, &line, rest].concat())
}

/// Returns a text with this line in place of the last assignment of a variable, or at its end.
fn with_line(text: &[u8], name: &str, line: &[u8]) -> Vec<u8> {
    let pieces = pieces(text);
    let sets = |found: &Option<String>| found.as_deref() == Some(name);
    let Some(last) = pieces.iter().rposition(|(found, _)| sets(found)) else {
        let end: &[u8] = if text.is_empty() || text.ends_with(b"\n") { b"" } else { b"\n" };
        return [text, end, line].concat();
    };
    let mut out = Vec::with_capacity(text.len().saturating_add(line.len()));
    for (index, (found, piece)) in pieces.iter().enumerate() {
        if index == last {
            out.extend_from_slice(line);
        } else if !sets(found) {
            out.extend_from_slice(piece);
        }
    }
    out
}

fn others(text: &[u8], name: &str) -> Vec<(String, OsString)> {
    parse(text).into_iter().filter(|(found, _)| found != name).collect()
}

fn is_set(text: &[u8], name: &str, value: &[u8]) -> bool {
    let last = parse(text).into_iter().rfind(|(found, _)| found == name);
    last.is_some_and(|(_, found)| found.as_bytes() == value)
}

/// Returns the text of a dotenv file without a variable; everything else in it stays as it is.
pub fn unset(text: &[u8], name: &str) -> Vec<u8> {
    let kept = pieces(text).into_iter().filter(|(found, _)| found.as_deref() != Some(name));
    kept.flat_map(|(_, piece)| piece.to_vec()).collect()
}

/// Splits the text of a file into pieces: assignments, each with its name, and other lines.
fn pieces(text: &[u8]) -> Vec<(Option<String>, &[u8])> {
    let mut rest = text.strip_prefix(MARK).unwrap_or(text);
    let mut pieces = Vec::new();
    if rest.len() < text.len() {
        pieces.push((None, MARK));
    }
    while !rest.is_empty() {
        let (found, after) = assignment(rest);
        let length = rest.len().saturating_sub(after.len());
        pieces.push((found.map(|(name, _)| name), rest.get(..length).unwrap_or(rest)));
        rest = after;
    }
    pieces
}

/// Returns a value as it is written in a file: bare if every reader of such files understands that,
/// else quoted. `None` if it holds a NUL, which no variable can.
fn quote(value: &[u8]) -> Option<Vec<u8>> {
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"_-./:,@+%=".contains(b);
    if value.contains(&0) {
        return None;
    }
    if value.iter().all(is_plain) {
        return Some(value.to_vec());
    }
    // In single quotes, no reader replaces anything.
    if !value.iter().any(|b| b"'\\\n\r".contains(b)) {
        return Some([b"'", value, b"'"].concat());
    }
    let mut quoted = vec![b'"'];
    for &byte in value {
        match byte {
            b'\n' => quoted.extend(b"\\n"),
            b'\r' => quoted.extend(b"\\r"),
            b'"' | b'\\' | b'$' => quoted.extend([b'\\', byte]),
            other => quoted.push(other),
        }
    }
    quoted.push(b'"');
    Some(quoted)
}

/// Reads one assignment, or skips one line. The second value is the rest, which is always shorter
/// than `text`.
fn assignment(text: &[u8]) -> (Option<(String, Vec<u8>)>, &[u8]) {
    let (line, next) = split_line(text);
    let Some(equals) = line.iter().position(|&b| b == b'=') else { return (None, next) };
    let Some(name) = name(line.get(..equals).unwrap_or_default()) else { return (None, next) };
    let value = text.get(equals.saturating_add(1)..).unwrap_or_default();
    let value = skip_spaces(value);
    let quoted = match value.first() {
        Some(&quote @ (b'"' | b'\'')) => quoted(value.get(1..).unwrap_or_default(), quote),
        _ => None,
    };
    match quoted {
        // Text after the closing quote on its line (a comment) is ignored.
        Some((value, after)) => (Some((name, value)), split_line(after).1),
        None => (Some((name, bare(split_line(value).0))), next),
    }
}

fn name(text: &[u8]) -> Option<String> {
    let text = text.trim_ascii();
    let text = match text.strip_prefix(b"export") {
        Some(rest) if rest.first().is_some_and(u8::is_ascii_whitespace) => rest.trim_ascii(),
        _ => text,
    };
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let valid = text.first().is_some_and(|b| !b.is_ascii_digit()) && text.iter().all(word);
    if valid { String::from_utf8(text.to_vec()).ok() } else { None }
}

/// Returns the value up to the closing quote and the text after it, or `None` without a closing
/// quote.
fn quoted(text: &[u8], quote: u8) -> Option<(Vec<u8>, &[u8])> {
    let mut value = Vec::new();
    let mut bytes = text.iter().enumerate();
    while let Some((index, &byte)) = bytes.next() {
        if byte == quote {
            return Some((value, text.get(index.saturating_add(1)..).unwrap_or_default()));
        }
        if byte != b'\\' {
            value.push(byte);
            continue;
        }
        let (_, &escaped) = bytes.next()?;
        match (quote, escaped) {
            (b'"', b'n') => value.push(b'\n'),
            (b'"', b'r') => value.push(b'\r'),
            (b'"', b't') => value.push(b'\t'),
            (b'"', b'"' | b'\\' | b'$') | (b'\'', b'\'' | b'\\') => value.push(escaped),
            _ => value.extend([b'\\', escaped]),
        }
    }
    None
}

/// Returns an unquoted value: up to a comment, without blanks at its ends.
fn bare(line: &[u8]) -> Vec<u8> {
    let comment = line.iter().enumerate().position(|(index, &byte)| {
        let before = index.checked_sub(1).and_then(|i| line.get(i));
        byte == b'#' && before.is_none_or(u8::is_ascii_whitespace)
    });
    line.get(..comment.unwrap_or(line.len())).unwrap_or(line).trim_ascii().to_vec()
}

fn skip_spaces(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|&&b| b == b' ' || b == b'\t').count();
    text.get(spaces..).unwrap_or_default()
}

fn split_line(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|&b| b == b'\n') {
        Some(end) => {
            (text.get(..end).unwrap_or_default(), text.get(end.saturating_add(1)..).unwrap_or_default())
        }
        None => (text, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let found = parse(text.as_bytes());
        let expected: Vec<(String, OsString)> =
            expected.iter().map(|(n, v)| ((*n).to_owned(), OsString::from(v))).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn values_are_bare_or_quoted() {
        check("A=1\nB=two words  \n", &[("A", "1"), ("B", "two words")]);
        check("A = 1\n  B\t=\t2", &[("A", "1"), ("B", "2")]);
        check("export A=1\nexport\tB=2\nexportC=3", &[("A", "1"), ("B", "2"), ("exportC", "3")]);
        check("A='x # y' # z\nB=\"x # y\"#z\n", &[("A", "x # y"), ("B", "x # y")]);
        check(r#"A="a\nb\"c\\d\$e\x""#, &[("A", "a\nb\"c\\d$e\\x")]);
        check(r"A='a\nb'", &[("A", r"a\nb")]);
        check("A=\nB=\"\"\nC=''\n", &[("A", ""), ("B", ""), ("C", "")]);
        check("A=x#y # c\nB=#c\n", &[("A", "x#y"), ("B", "")]);
        check("\u{feff}A=1\r\nB=\"2\"\r\n", &[("A", "1"), ("B", "2")]);
        check("A=a=b\n", &[("A", "a=b")]);
    }

    #[test]
    fn a_quoted_value_may_span_lines() {
        check(
            "KEY=\"-----BEGIN\nabc=\n-----END\"\nNEXT=1\n",
            &[("KEY", "-----BEGIN\nabc=\n-----END"), ("NEXT", "1")],
        );
    }

    #[test]
    fn a_quote_without_an_end_is_part_of_a_bare_value() {
        check("A=\"x\nB=2\n", &[("A", "\"x"), ("B", "2")]);
        check("A='it\n", &[("A", "'it")]);
    }

    #[test]
    fn a_line_that_is_no_assignment_is_passed_over() {
        check("# A=1\n\nnonsense\n=1\n1A=1\nA-B=1\nexport\nB=1", &[("B", "1")]);
    }

    #[test]
    fn the_last_one_of_a_name_stands_last() {
        check("A=1\nA=2\n", &[("A", "1"), ("A", "2")]);
    }

    #[test]
    fn values_are_bytes() {
        assert_eq!(parse(b"A=\xff\n")[0].1.as_bytes(), b"\xff");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_value_survives_double_quotes(value in "[^\0]{0,40}") {
            let mut quoted = String::new();
            for c in value.chars() {
                match c {
                    '"' | '\\' | '$' => quoted.extend(['\\', c]),
                    _ => quoted.push(c),
                }
            }
            let found = parse(format!("A=\"{quoted}\"\n").as_bytes());
            prop_assert_eq!(found, vec![("A".to_owned(), OsString::from(value))]);
        }
    }

    #[test]
    fn a_variable_that_is_set_takes_the_place_of_its_last_assignment_and_all_else_stays() {
        let text = b"# keys\nA=1\nexport B='x\ny' # two lines\nA=2\nno assignment\n";
        let set = |name, value: &[u8]| String::from_utf8(set(text, name, value).unwrap()).unwrap();
        assert_eq!(set("A", b"3"), "# keys\nexport B='x\ny' # two lines\nA=3\nno assignment\n");
        assert_eq!(set("B", b"a b"), "# keys\nA=1\nB='a b'\nA=2\nno assignment\n");
        assert!(set("C", b"it\"s").ends_with("no assignment\nC='it\"s'\n"));
        assert_eq!(super::set(b"A=1", "B", b"").unwrap(), b"A=1\nB=\n");
        assert_eq!(unset(text, "A"), b"# keys\nexport B='x\ny' # two lines\nno assignment\n");
        assert_eq!(super::set(text, "A", b"\0"), None);
    }

    #[test]
    fn a_quote_without_an_end_takes_nothing_of_a_variable_that_is_set() {
        let changed = set(b"B=\"x\nA=1\n", "A", b"it\"s").unwrap();
        assert!(is_set(&changed, "A", b"it\"s") && is_set(&changed, "B", b"\"x"), "{changed:?}");
    }

    #[test]
    fn a_name_has_no_blank_and_begins_with_no_digit() {
        for (name, expected) in [
            ("A", true),
            ("_a1", true),
            ("", false),
            ("1A", false),
            ("A B", false),
            ("export A", false),
            (" A", false),
        ] {
            assert_eq!(is_name(name), expected, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_set_is_read_back_and_nothing_else_changes(
            text in proptest::collection::vec(any::<u8>(), 0..200),
            name in "[A-C]",
            value in proptest::collection::vec(1_u8.., 0..60),
        ) {
            let changed = set(&text, &name, &value).unwrap();
            prop_assert!(is_set(&changed, &name, &value));
            prop_assert_eq!(others(&changed, &name), others(&text, &name));
            let without = unset(&changed, &name);
            prop_assert!(!parse(&without).iter().any(|(found, _)| *found == name));
            prop_assert_eq!(others(&without, &name), others(&text, &name));
        }

        #[test]
        fn what_is_set_in_a_file_of_assignments_is_read_back(
            lines in proptest::collection::vec("(export )?[A-C]=('[^']{0,9}'|\"[a-z\\n ]{0,9}\"|[a-z #]{0,9})", 0..6),
            value in "\\PC{0,30}",
        ) {
            let text = lines.join("\n");
            let changed = set(text.as_bytes(), "B", value.as_bytes()).unwrap();
            prop_assert!(is_set(&changed, "B", value.as_bytes()));
            prop_assert_eq!(others(&changed, "B"), others(text.as_bytes(), "B"));
        }
    }
}
