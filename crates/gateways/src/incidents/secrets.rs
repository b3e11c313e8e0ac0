//! Values that must not be written down: those of variables that hold secrets, wherever they occur.
//!
//! *Lives here:* which values are secret, and replacing them. *Does not live here:* where the text
//! comes from.
//!
//! A key may occur in a line of a log, on a command line, or in what a command prints. The
//! collector knows the same variables as the gateway: the inherited ones, and those of the
//! profile's files. It does not look at the environment of any process. A value is secret because
//! of the name of its variable, because of its form, or because it is a URL with a password.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Parts of the names of variables whose values are secret.
const NAMES: [&str; 13] = [
    "KEY",
    "TOKEN",
    "SECRET",
    "PASS",
    "PASSWD",
    "AUTH",
    "CREDENTIAL",
    "COOKIE",
    "PRIVATE",
    "SIGNATURE",
    "DSN",
    "SALT",
    "BEARER",
];
/// The fewest bytes of a secret. A shorter one could be any word of a log.
const SHORTEST: usize = 6;
/// A value of at least this many letters and digits without a space is taken for a key, whatever
/// its variable is called.
const OPAQUE: usize = 20;
/// The prefix of our own variables, which are not secret.
const OURS: &str = "GATEVISOR_";

/// The secrets of a gateway.
#[derive(Debug, Clone, Default)]
pub(super) struct Secrets {
    /// Each secret with its replacement, the longest first, so that one that contains another is
    /// replaced as a whole.
    values: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Secrets {
    /// Returns the secrets among these variables.
    pub(super) fn among(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut values: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for (name, value) in variables {
            let (name, value) = (name.to_string_lossy().into_owned(), value.into_vec());
            if is_secret(&name, &value) && !values.iter().any(|(known, _)| *known == value) {
                values.push((value, format!("[{name}]").into_bytes()));
            }
        }
        values.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
        Self { values }
    }

    /// Returns the length of the longest secret. This many more bytes are needed to recognize a
    /// secret at the end.
    pub(super) fn longest(&self) -> usize {
        self.values.first().map_or(0, |(value, _)| value.len())
    }

    /// Returns the text with each secret replaced by the name of its variable, and cut to `bytes`.
    pub(super) fn blank(&self, mut text: Vec<u8>, bytes: usize) -> Vec<u8> {
        for (value, instead) in &self.values {
            text = replace(text, value, instead);
        }
        text.truncate(bytes);
        text
    }
}

fn replace(text: Vec<u8>, value: &[u8], instead: &[u8]) -> Vec<u8> {
    let mut places = find_all(&text, value).peekable();
    if places.peek().is_none() {
        drop(places);
        return text;
    }
    let (mut out, mut from) = (Vec::with_capacity(text.len()), 0);
    for at in places {
        out.extend_from_slice(text.get(from..at).unwrap_or_default());
        out.extend_from_slice(instead);
        from = at.saturating_add(value.len());
    }
    out.extend_from_slice(text.get(from..).unwrap_or_default());
    out
}

/// Returns each place at which `value` begins.
fn find_all<'a>(text: &'a [u8], value: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = text.get(from..)?;
        let at = rest.windows(value.len().max(1)).position(|window| window == value)?;
        let found = from.saturating_add(at);
        from = found.saturating_add(value.len().max(1));
        Some(found)
    })
}

fn is_secret(name: &str, value: &[u8]) -> bool {
    let upper = name.to_ascii_uppercase();
    let is_named = NAMES.iter().any(|part| upper.contains(part));
    let is_long_enough = value.len() >= SHORTEST;
    is_long_enough && !name.starts_with(OURS) && (is_named || is_opaque(value) || has_password(value))
}

/// Returns whether a value has the form of a key: long, in one piece, with letters and digits, and
/// not a path.
fn is_opaque(value: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-+=.:/~".contains(byte);
    value.len() >= OPAQUE
        && value.iter().all(is_plain)
        && value.iter().any(u8::is_ascii_digit)
        && value.iter().any(u8::is_ascii_alphabetic)
        && !value.starts_with(b"/")
        && !value.starts_with(b".")
        && find_all(value, b"://").next().is_none()
        && find_all(value, b":/").next().is_none()
}

/// Returns whether a value is a URL that names a user or a password.
fn has_password(value: &[u8]) -> bool {
    let value = std::ffi::OsStr::from_bytes(value).to_string_lossy();
    let authority = value.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default());
    authority.is_some_and(|authority| authority.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn among(variables: &[(&str, &str)]) -> Secrets {
        Secrets::among(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    fn blank(secrets: &Secrets, text: &str) -> String {
        String::from_utf8(secrets.blank(text.as_bytes().to_vec(), 1000)).unwrap()
    }

    #[test]
    fn a_secret_is_known_by_its_name_by_its_looks_or_by_a_password_in_a_url() {
        let table = [
            ("API_SERVER_KEY", "hunter2", true),
            ("telegram_bot_token", "abcdef", true),
            ("X", "sk-ant-0123456789abcdefgh", true),
            ("DATABASE_URL", "postgres://user:pw@db/x", true),
            ("HOME", "/opt/data/profiles/coder01", false),
            ("PATH", "/usr/local/sbin:/usr/local/bin", false),
            ("PWD", "/opt/data", false),
            ("LANG", "C.UTF-8", false),
            ("API_SERVER_PORT", "8642", false),
            ("API_SERVER_KEY", "short", false),
            ("GATEVISOR_SERVICE", "1a.2.77/12/gateway-a-long-one", false),
            ("URL", "http://127.0.0.1:8642/health", false),
        ];
        for (name, value, expected) in table {
            assert_eq!(is_secret(name, value.as_bytes()), expected, "{name}={value}");
        }
    }

    #[test]
    fn secrets_are_replaced_by_their_names_wherever_they_turn_up() {
        let secrets = among(&[("A_KEY", "secret"), ("B_KEY", "secret-and-more"), ("PORT", "8642")]);
        let text = "secretsecret x=secret-and-more, 8642 secre";
        assert_eq!(blank(&secrets, text), "[A_KEY][A_KEY] x=[B_KEY], 8642 secre");
        assert_eq!(blank(&among(&[]), text), text);
    }

    #[test]
    fn a_secret_that_is_cut_off_at_the_end_is_removed_if_enough_was_read() {
        let secrets = among(&[("A_KEY", "0123456789")]);
        assert_eq!(secrets.longest(), 10);
        assert_eq!(secrets.blank(b"abc 0123456789".to_vec(), 8), b"abc [A_K");
    }
}
