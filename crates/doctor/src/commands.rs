//! *Lives here:* building commands that can be pasted into a shell, whatever names they contain.
//!
//! *Does not live here:* which command fixes which problem (`crate::checks`).
//!
//! **Source:** POSIX *Shell Command Language*, quoting; POSIX.1-2024 for `$'…'`, which every common
//! shell has.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;

use gatevisor_gateways::profile::ProfileName;

use crate::finding::plain;

/// The command that has gateways supervised which units of systemd run without us.
pub(crate) const TAKE_OVER: [&str; 2] = ["install", "--take-over"];

/// How the operator calls our commands for this home: the program, and the options for agent, home
/// and scandir.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caller {
    /// The program and its options.
    pub words: Vec<OsString>,
}

impl Caller {
    /// Returns one of our own commands.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> String {
        let own = self.words.iter().map(quote);
        own.chain(words.into_iter().map(|word| quote(word.as_ref()))).collect::<Vec<_>>().join(" ")
    }

    /// Returns one of s6's tools as a command of this program, with its operand.
    pub(crate) fn tool<S: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = S>,
        on: impl AsRef<OsStr>,
    ) -> String {
        let words = words.into_iter().map(|word| quote(word.as_ref()));
        let all = [self.program(), "s6".to_owned()].into_iter().chain(words).chain([quote(on)]);
        all.collect::<Vec<_>>().join(" ")
    }

    /// Returns the program without options, for commands that concern no home.
    pub(crate) fn program(&self) -> String {
        self.words.first().map_or_else(|| gatevisor_client::OURS.to_owned(), quote)
    }

    /// Returns one of our own commands about a profile: the verbs, then the profile's name.
    pub(crate) fn about(&self, verbs: &[&str], profile: &ProfileName) -> String {
        self.command(verbs.iter().chain([&profile.as_str()]))
    }
}

/// Returns a command of other programs.
pub(crate) fn command<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> String {
    words.into_iter().map(|word| quote(word.as_ref())).collect::<Vec<_>>().join(" ")
}

/// Returns a word quoted for a shell, without control characters.
pub fn quote(word: impl AsRef<OsStr>) -> String {
    let word = word.as_ref();
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"_-./:=,+@%".contains(b);
    match word.to_str() {
        Some(text) if !text.is_empty() && text.bytes().all(|b| is_plain(&b)) => text.to_owned(),
        Some(text) if plain(text) == text => format!("'{}'", text.replace('\'', r"'\''")),
        _ => escaped(word.as_bytes()),
    }
}

fn escaped(bytes: &[u8]) -> String {
    let mut out = String::from("$'");
    for &byte in bytes {
        match byte {
            b'\'' | b'\\' => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' => out.push(char::from(byte)),
            // It has always three digits, so that a following digit does not become part of it.
            _ => drop(write!(out, "\\{byte:03o}")),
        }
    }
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    #[test]
    fn words_are_quoted_where_they_must_be() {
        let table: [(&[u8], &str); 7] = [
            (b"/srv/a-b_c.d", "/srv/a-b_c.d"),
            (b"", "''"),
            (b"two words", "'two words'"),
            (b"$HOME", "'$HOME'"),
            (b"it's", r"'it'\''s'"),
            (b"a\nb\x1b1", r"$'a\012b\0331'"),
            (b"\xff'", r"$'\377\''"),
        ];
        for (word, quoted) in table {
            assert_eq!(quote(OsStr::from_bytes(word)), quoted);
        }
    }

    #[test]
    fn our_own_commands_choose_what_the_caller_chose() {
        let caller = Caller { words: ["gatevisor", "--home", "/my home"].map(OsString::from).to_vec() };
        let coder = "coder".parse().unwrap();
        assert_eq!(
            caller.about(&["gateway", "start"], &coder),
            "gatevisor --home '/my home' gateway start coder"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_shell_reads_what_was_quoted(bytes in proptest::collection::vec(1_u8..=255, 0..40)) {
            let line = format!("printf %s {}", quote(OsStr::from_bytes(&bytes)));
            prop_assert!(!line.contains(char::is_control));
            let said = Command::new("bash").env("LC_ALL", "C").args(["-c", &line]).output().unwrap();
            prop_assert_eq!(said.stdout, bytes);
        }
    }
}
