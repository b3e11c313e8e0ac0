//! *Lives here:* the beginnings of scripts that look right in an editor but that no kernel
//! executes.
//!
//! *Does not live here:* reading the script.

/// The mark that editors of another system write before the first character of a text.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why a script cannot be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Its first line ends with a carriage return, which the kernel takes for the last character of
    /// the interpreter's name or argument.
    WindowsLineEnds,
    /// It begins with a byte-order mark instead of `#!`.
    ByteOrderMark,
}

impl Flaw {
    /// Returns the flaw in a script with this beginning.
    pub fn of(head: &[u8]) -> Option<Self> {
        if head.starts_with(BYTE_ORDER_MARK) {
            return Some(Self::ByteOrderMark);
        }
        let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
        line.ends_with(b"\r").then_some(Self::WindowsLineEnds)
    }

    /// Returns the flaw in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::WindowsLineEnds => "line ends of Windows",
            Self::ByteOrderMark => "a byte-order mark before its first character",
        }
    }

    /// Returns the program and the script of `sed` that fix it; the file's name has to follow.
    pub const fn fix(self) -> &'static str {
        match self {
            Self::WindowsLineEnds => "sed -i 's/\\r$//'",
            Self::ByteOrderMark => "sed -i '1s/^\\xEF\\xBB\\xBF//'",
        }
    }
}

/// Returns whether a line of a small file ends with the carriage return of Windows.
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
