//! *Lives here:* command lines in s6's form: option letters, alone or clustered, then operands.
//!
//! *Does not live here:* which options an applet knows.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::Fatal;

/// The letter of an option, with its argument if it takes one.
pub(crate) type Given<'a> = (u8, Option<&'a OsStr>);

/// A parsed command line.
#[derive(Debug)]
pub(crate) struct Arguments<'a> {
    /// The options in the order in which they were given.
    pub(crate) options: Vec<Given<'a>>,
    /// The words after the options.
    pub(crate) operands: &'a [OsString],
}

impl<'a> Arguments<'a> {
    /// Parses a command line with these options: `flags` take no argument, `valued` take the rest
    /// of their word or the next word.
    ///
    /// The options end at the first word that is not an option, or at `--`. The word `-` is not an
    /// option.
    ///
    /// **Source:** POSIX Utility Syntax Guidelines 3 to 10; skalibs `subgetopt`.
    pub(crate) fn parse(words: &'a [OsString], flags: &[u8], valued: &[u8]) -> Result<Self, Fatal> {
        let mut options = Vec::new();
        let mut rest = words;
        while let [word, after @ ..] = rest {
            let cluster = match word.as_bytes() {
                b"--" => {
                    rest = after;
                    break;
                }
                [b'-', cluster @ ..] if !cluster.is_empty() => cluster,
                _ => break,
            };
            rest = after;
            let mut cluster = cluster;
            while let [option, others @ ..] = cluster {
                cluster = others;
                if flags.contains(option) {
                    options.push((*option, None));
                } else if valued.contains(option) {
                    let value = if others.is_empty() {
                        let [value, after @ ..] = rest else { return Err(Fatal::Usage) };
                        rest = after;
                        value.as_os_str()
                    } else {
                        OsStr::from_bytes(others)
                    };
                    cluster = &[];
                    options.push((*option, Some(value)));
                } else {
                    return Err(Fatal::Usage);
                }
            }
        }
        Ok(Self { options, operands: rest })
    }

    /// Returns the first operand. It is an error if there is none.
    pub(crate) fn first(&self) -> Result<&'a OsStr, Fatal> {
        self.operands.first().map(OsString::as_os_str).ok_or(Fatal::Usage)
    }
}

/// Parses the number in an option's argument: decimal digits and nothing else.
pub(crate) fn number(value: Option<&OsStr>) -> Result<u32, Fatal> {
    let text = value.and_then(OsStr::to_str).unwrap_or_default();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fatal::Usage);
    }
    text.parse().map_err(|_| Fatal::Usage)
}

#[cfg(test)]
mod tests {
    use super::{Arguments, number};
    use crate::Fatal;
    use std::ffi::{OsStr, OsString};

    fn parse(line: &str) -> Option<(String, String)> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let parsed = Arguments::parse(&words, b"anu", b"Tw").ok()?;
        let options = parsed.options.iter().map(|(option, value)| {
            let value = value.map(|value| format!("={}", value.display())).unwrap_or_default();
            format!("{}{value}", char::from(*option))
        });
        let operands: Vec<_> = parsed.operands.iter().map(|word| word.display().to_string()).collect();
        Some((options.collect::<Vec<_>>().join(" "), operands.join(" ")))
    }

    #[test]
    fn options_are_read_alone_and_clustered_up_to_the_first_operand() {
        for (line, options, operands) in [
            ("-a -n dir", "a n", "dir"),
            ("-an dir", "a n", "dir"),
            ("-wu -T 5000 -u dir", "w=u T=5000 u", "dir"),
            ("-auT5 dir", "a u T=5", "dir"),
            ("-w -u dir", "w=-u", "dir"),
            ("-a -- -n", "a", "-n"),
            ("dir -a", "", "dir -a"),
            ("- -a", "", "- -a"),
            ("", "", ""),
        ] {
            assert_eq!(parse(line), Some((options.into(), operands.into())), "{line}");
        }
    }

    #[test]
    fn an_unknown_option_and_a_missing_argument_are_usage_errors() {
        for line in ["-x dir", "-ax", "-T", "-aT", "--all", "---"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_number_is_digits_that_fit() {
        for (text, expected) in [("0", Some(0)), ("5000", Some(5000)), ("4294967295", Some(u32::MAX))] {
            assert_eq!(number(Some(OsStr::new(text))).ok(), expected, "{text}");
        }
        for text in ["", "x", "-1", "+1", "1 ", "1s", "4294967296"] {
            assert_eq!(number(Some(OsStr::new(text))), Err(Fatal::Usage), "{text}");
        }
    }
}
