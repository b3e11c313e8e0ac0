//! *Lives here:* numbers in small files such as `timeout-kill` and `notification-fd`.
//!
//! *Does not live here:* the files, and the treatment of a bad one (a warning).

/// The most digits that a number may have, leading zeros included.
const MAX_DIGITS: usize = 10;

/// Returns the decimal number on the first line, or `None` if that line is anything else.
///
/// No sign, no blank before or after, at most ten digits, at most `u32::MAX`. Later lines are
/// ignored.
///
/// **Source:** s6 2.11 `read_uint` of `s6-supervise`, which is at least as lenient.
pub fn parse(bytes: &[u8]) -> Option<u32> {
    parse_digits(bytes.split(|byte| *byte == b'\n').next()?)
}

/// Returns the number, if the whole text is decimal digits.
pub(crate) fn parse_digits(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > MAX_DIGITS {
        return None;
    }
    text.iter().try_fold(0u32, |sum, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_number_is_the_whole_first_line() {
        let table: [(&[u8], Option<u32>); 17] = [
            (b"3000", Some(3000)),
            (b"3000\n", Some(3000)),
            (b"3000\nanything", Some(3000)),
            (b"0", Some(0)),
            (b"0000000007", Some(7)),
            (b"4294967295", Some(u32::MAX)),
            (b"4294967296", None),
            (b"9999999999", None),
            (b"00000000007", None),
            (b"", None),
            (b"\n3", None),
            (b" 3", None),
            (b"3 ", None),
            (b"3\r\n", None),
            (b"+3", None),
            (b"-3", None),
            (b"0x3", None),
        ];
        for (bytes, expected) in table {
            assert_eq!(parse(bytes), expected, "{}", bytes.escape_ascii());
        }
    }
}
