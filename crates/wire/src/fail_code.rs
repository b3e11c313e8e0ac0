//! *Lives here:* the exit codes in `data/fail-codes`: those after which a restart cannot help.
//!
//! *Does not live here:* the restart policy.

use std::fmt;

use crate::number;

/// The mark between a code and the number of failures.
const TIMES_MARK: u8 = b'*';

/// An exit code that means that a restart cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailCode {
    /// The exit code.
    pub code: u8,
    /// The service is believed once it has failed so often in a row, in whatever way: 1 means at
    /// once. More than that is for a refusal that may pass.
    pub after: u32,
}

impl FailCode {
    /// Returns a code that is believed at once.
    pub const fn at_once(code: u8) -> Self {
        Self { code, after: 1 }
    }

    /// Returns whether the first death with this code is the last.
    pub const fn is_at_once(self) -> bool {
        self.after <= 1
    }

    /// Returns the code that a word of `data/fail-codes` names: `78`, or `78*10`.
    pub fn parse(word: &[u8]) -> Option<Self> {
        let mut parts = word.splitn(2, |byte| *byte == TIMES_MARK);
        let code = u8::try_from(number::parse_digits(parts.next()?)?).ok()?;
        let after = parts.next().map_or(Some(1), number::parse_digits)?;
        (after > 0).then_some(Self { code, after })
    }
}

impl fmt::Display for FailCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.after {
            1 => write!(f, "{}", self.code),
            after => write!(f, "{}{}{after}", self.code, char::from(TIMES_MARK)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FailCode;

    #[test]
    fn a_fail_code_is_a_number_or_two_with_a_star_between_them() {
        for (word, code, after) in [("78", 78, 1), ("78*10", 78, 10), ("0", 0, 1)] {
            let found = FailCode::parse(word.as_bytes()).unwrap();
            assert_eq!((found, found.to_string().as_str()), (FailCode { code, after }, word));
        }
        assert_eq!(FailCode::parse(b"78*1"), Some(FailCode::at_once(78)));
        for word in ["", "*", "78*", "*3", "78*0", "78*3*3", "256", "256*2", "78 2", "-1", "78*99999999999"] {
            assert_eq!(FailCode::parse(word.as_bytes()), None, "{word}");
        }
    }
}
