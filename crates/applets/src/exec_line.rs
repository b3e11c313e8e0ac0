//! `execlineb -P`: becomes the one command of a script.
//!
//! *Lives here:* words, quotes and comments in execline's form.
//!
//! *Does not live here:* blocks, and everything that needs them. A script that has any is refused,
//! not misread.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use gatevisor_wire::exit::Exit;

use crate::arguments::Arguments;
use crate::become_program::{become_program, inherited};
use crate::{AppletOutcome, Fatal};

pub(crate) const USAGE: &str = "execlineb -P [ -c commandline ] script args";

/// The longest script that is read.
const LONGEST: u64 = 64 << 10;

/// Becomes the command of the script. The script's arguments are ignored, which is the meaning of
/// `-P`.
///
/// **Source:** <https://skarnet.org/software/execline/execlineb.html>
pub(crate) fn run(words: &[OsString]) -> AppletOutcome {
    // A `#!` line passes its options in one word, so scripts use `-P`.
    let arguments = Arguments::parse(words, b"P", b"c").map_err(|_| only_p())?;
    if !arguments.options.iter().any(|(option, _)| *option == b'P') {
        return Err(only_p());
    }
    let text = match arguments.options.iter().rev().find_map(|(_, value)| *value) {
        Some(line) => line.as_bytes().to_vec(),
        None => read(arguments.first()?)?,
    };
    let argv = parse(&text).map_err(|why| Fatal::new(Exit::Usage, why))?;
    if argv.is_empty() {
        return Ok(0);
    }
    Err(become_program(&argv, inherited()))
}

fn only_p() -> Fatal {
    Fatal::new(Exit::Usage, "this execlineb only knows -P and one command; install execline for the rest")
}

fn read(path: &OsStr) -> Result<Vec<u8>, Fatal> {
    let mut text = Vec::new();
    let longer = || io::Error::new(io::ErrorKind::FileTooLarge, "it is longer than one command needs");
    File::open(path)
        .and_then(|file| file.take(LONGEST).read_to_end(&mut text))
        .and_then(
            |length| if u64::try_from(length).is_ok_and(|n| n < LONGEST) { Ok(()) } else { Err(longer()) },
        )
        .map_err(|error| {
            Fatal::new(Exit::System, format!("cannot read script `{}`: {error}", path.display()))
        })?;
    Ok(text)
}

/// Returns the words of a script, or why it is not a single command.
fn parse(text: &[u8]) -> Result<Vec<OsString>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    // Whether part of the word was quoted or escaped, so that a lone brace in it is not a block.
    let mut literal = false;
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        rest = after;
        match byte {
            0 => break,
            b' ' | b'\t' | b'\r' | b'\n' => {
                finish(&mut words, word.take(), literal)?;
                literal = false;
            }
            b'#' if word.is_none() => {
                let end = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
                rest = rest.get(end..).unwrap_or_default();
            }
            b'"' => {
                literal = true;
                rest = quoted(rest, word.get_or_insert_default())?;
            }
            b'\\' => {
                let [escaped, after @ ..] = rest else { return Err("the script ends in a backslash") };
                rest = after;
                literal = true;
                word.get_or_insert_default().push(*escaped);
            }
            byte => word.get_or_insert_default().push(*byte),
        }
    }
    finish(&mut words, word, literal)?;
    Ok(words)
}

fn finish(words: &mut Vec<OsString>, word: Option<Vec<u8>>, literal: bool) -> Result<(), &'static str> {
    let Some(word) = word else { return Ok(()) };
    if !literal && matches!(word.as_slice(), b"{" | b"}") {
        return Err("this execlineb knows no blocks; install execline for them");
    }
    words.push(OsString::from_vec(word));
    Ok(())
}

/// Adds the text between quotes to a word, and returns the text after the closing quote.
fn quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], &'static str> {
    loop {
        let [byte, after @ ..] = rest else { return Err("a quote is never closed") };
        rest = after;
        match byte {
            b'"' => return Ok(rest),
            0 => return Err("a quote is never closed"),
            b'\\' => {
                let [escaped, after @ ..] = rest else { return Err("a quote is never closed") };
                rest = after;
                match escaped {
                    b'a' => word.push(7),
                    b'b' => word.push(8),
                    b't' => word.push(b'\t'),
                    b'n' => word.push(b'\n'),
                    b'v' => word.push(11),
                    b'f' => word.push(12),
                    b'r' => word.push(b'\r'),
                    b'\n' => {}
                    b'0'..=b'9' => {
                        return Err("this execlineb knows no numeric escapes; install execline for them");
                    }
                    other => word.push(*other),
                }
            }
            byte => word.push(*byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_script_is_one_command_with_quotes_and_comments() {
        for (text, words) in [
            ("#!/command/execlineb -P\n/command/s6-sleep 600\n", "/command/s6-sleep|600"),
            ("", ""),
            ("# nothing\n  # at all", ""),
            ("a \"b c\" d\\ e #f\n g#h", "a|b c|d e|g#h"),
            ("a\"b\"c \"\" \"x\\n\\q\\\"\\\\\"", "abc||x\nq\"\\"),
            ("a \"{\" \\{ {b c} $1", "a|{|{|{b|c}|$1"),
            ("a\n  b\r\tc", "a|b|c"),
        ] {
            let parsed = parse(text.as_bytes()).unwrap();
            let parsed: Vec<String> = parsed.into_iter().map(|word| word.into_string().unwrap()).collect();
            assert_eq!(parsed.join("|"), words, "{text}");
        }
    }

    #[test]
    fn a_script_that_needs_execline_is_refused_with_the_reason() {
        for (text, why) in [
            ("foreground { a } b", "knows no blocks"),
            ("a }", "knows no blocks"),
            ("a \"\\065\"", "no numeric escapes"),
            ("a \"b", "never closed"),
            ("a \\", "ends in a backslash"),
        ] {
            assert!(parse(text.as_bytes()).unwrap_err().contains(why), "{text}");
        }
    }
}
