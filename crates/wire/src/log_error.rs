//! A log daemon's report while it cannot keep a service's lines: the file `log/error` of the
//! service directory.
//!
//! *Lives here:* the bytes of the file. *Does not live here:* reading and writing it.
//!
//! The file is ours; s6 has none. It exists while the error lasts, and is replaced and removed in
//! one step. Its first line is the time when the error began, as `@` and 24 hexadecimal digits; the
//! second is the reason.

use crate::tai::Tai64n;

/// The name of the file, in `log/` of a service directory.
pub const FILE: &str = "error";
/// The former name of the file. It counts if there is no [`FILE`].
pub const OLD_FILE: &str = "trouble";

/// The longest reason in bytes; a longer one is cut off.
pub const MAX_REASON: usize = 300;
/// The longest file in bytes.
pub const MAX_BYTES: usize = 512;

/// Why lines are not kept, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogError {
    /// When the error began.
    pub since: Tai64n,
    /// The reason, on one line.
    pub reason: String,
}

impl LogError {
    /// Returns the bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!("{}\n", self.since);
        let mut end = text.len();
        for c in self.reason.chars() {
            let c = if c.is_control() { ' ' } else { c };
            end = end.saturating_add(c.len_utf8());
            if end > MAX_REASON {
                break;
            }
            text.push(c);
        }
        text.push('\n');
        text.into_bytes()
    }

    /// Returns the content of a file, or `None` if the file is not ours.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (since, rest) = text.split_once('\n')?;
        let since = Tai64n::parse_hex(since.strip_prefix('@').map(|_| since)?.as_bytes())?;
        let reason = rest.strip_suffix('\n')?;
        let is_clean = !reason.is_empty() && !reason.contains(char::is_control);
        is_clean.then(|| Self { since, reason: reason.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn log_error(reason: &str) -> LogError {
        LogError { since: Tai64n::from_unix(1_795_217_645, 5), reason: reason.to_owned() }
    }

    #[test]
    fn the_file_holds_a_time_and_a_reason() {
        let bytes = log_error("cannot write `current`").encode();
        assert_eq!(bytes, b"@400000006b00d91200000005\ncannot write `current`\n");
        assert_eq!(LogError::decode(&bytes), Some(log_error("cannot write `current`")));
    }

    #[test]
    fn a_file_that_is_not_ours_is_ignored() {
        let table: [&[u8]; 8] = [
            b"",
            b"@400000006b00d91200000005",
            b"@400000006b00d91200000005\n",
            b"@400000006b00d91200000005\n\n",
            b"400000006b00d91200000005\nreason\n",
            b"@400000006b00d91200000005\nreason",
            b"@400000006b00d91200000005\nrea\x1bson\n",
            b"@400000006b00d91200000005\nrea\xffson\n",
        ];
        for bytes in table {
            assert_eq!(LogError::decode(bytes), None, "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn every_reason_fits_and_is_one_line(reason in any::<String>()) {
            let bytes = log_error(&reason).encode();
            prop_assert!(bytes.len() <= MAX_BYTES);
            if !reason.is_empty() {
                prop_assert!(LogError::decode(&bytes).is_some());
            }
        }

        #[test]
        fn no_file_is_too_strange(bytes in any::<Vec<u8>>()) {
            let _ = LogError::decode(&bytes);
        }
    }
}
