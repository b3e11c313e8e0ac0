//! Dotenv files: `KEY=VALUE` lines that settings may refer to.
//!
//! *Lives here:* the reader of their text, total over any bytes. *Does not live here:* opening them, and which of
//! several files wins.
//!
//! **Source:** the syntax that python-dotenv accepts, without its interpolation.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Bytes of a dotenv file that are read at the most.
pub const MAX_BYTES: u64 = 1 << 20;

/// Returns the variables that a dotenv file sets, in its order; the last one of a name counts.
///
/// A line that is no assignment is passed over. Values may be bare (up to ` #` or the end of the line), in single
/// quotes (as they are), or in double quotes (with `\n`, `\r`, `\t`, `\"`, `\\`, `\$`); quoted ones may span lines.
pub fn parse(bytes: &[u8]) -> Vec<(String, OsString)> {
    let mut rest = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
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

/// Reads one assignment, or passes over one line; what is returned second is always shorter than `text`.
fn assignment(text: &[u8]) -> (Option<(String, Vec<u8>)>, &[u8]) {
    let (line, next) = split_line(text);
    let Some(equals) = line.iter().position(|&b| b == b'=') else { return (None, next) };
    let Some(name) = name(line.get(..equals).unwrap_or_default()) else { return (None, next) };
    let value = text.get(equals.saturating_add(1)..).unwrap_or_default();
    let value = skip_blanks(value);
    let quoted = match value.first() {
        Some(&quote @ (b'"' | b'\'')) => quoted(value.get(1..).unwrap_or_default(), quote),
        _ => None,
    };
    match quoted {
        // What follows the closing quote on its line (a comment) is not looked at.
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

/// Returns the value up to the closing quote and what follows it, or `None` if there is none.
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

fn skip_blanks(text: &[u8]) -> &[u8] {
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
    use std::os::unix::ffi::OsStrExt;

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
}
