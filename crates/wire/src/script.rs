//! *Lives here:* how a script begins that no kernel executes although it looks right in an editor.
//!
//! *Does not live here:* reading the script.

/// What editors of another system put before the first character of a text.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why a script is not executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Its first line ends with a carriage return, which the kernel takes for the last character of
    /// the interpreter's name or of its argument.
    WindowsLineEnds,
    /// It begins with a byte-order mark instead of `#!`.
    ByteOrderMark,
}

impl Flaw {
    /// Returns what is wrong with a script that begins like this.
    pub fn of(head: &[u8]) -> Option<Self> {
        if head.starts_with(BYTE_ORDER_MARK) {
            return Some(Self::ByteOrderMark);
        }
        let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
        line.ends_with(b"\r").then_some(Self::WindowsLineEnds)
    }

    /// Returns what is wrong, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::WindowsLineEnds => "line ends of Windows",
            Self::ByteOrderMark => "a byte-order mark before its first character",
        }
    }

    /// Returns the program and the script of `sed` that fixes it; the name of the file is to
    /// follow.
    pub const fn fix(self) -> &'static str {
        match self {
            Self::WindowsLineEnds => "sed -i 's/\\r$//'",
            Self::ByteOrderMark => "sed -i '1s/^\\xEF\\xBB\\xBF//'",
        }
    }
}

/// Returns whether a line of a small file has the carriage return that Windows puts at its end.
pub fn has_windows_end(line: &[u8]) -> bool {
    line.ends_with(b"\r")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_line_of_a_script_decides() {
        for (head, flaw) in [
            (&b"#!/bin/sh\r\nexit\r\n"[..], Some(Flaw::WindowsLineEnds)),
            (b"#!/bin/sh\r", Some(Flaw::WindowsLineEnds)),
            (b"#!/bin/sh\nexit\r\n", None),
            (b"\xef\xbb\xbf#!/bin/sh\n", Some(Flaw::ByteOrderMark)),
            (b"\x7fELF\r\n", None),
            (b"", None),
        ] {
            assert_eq!(Flaw::of(head), flaw, "{}", head.escape_ascii());
        }
    }
}
