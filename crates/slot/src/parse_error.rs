//! Why a `run` or `log/run` file cannot be used.
//!
//! *Lives here:* the error, for every file of settings and every part of one. *Does not live here:* reading the files.

use std::borrow::Cow;

use gatevisor_wire::script::Flaw;

/// Largest `run` or `log/run` that is read, in bytes.
pub const MAX_BYTES: usize = 64 << 10;

/// Why a `run` or `log/run` file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It was written by an editor of another system, and the kernel takes it for something else.
    #[error("{}; `{}` and its name fixes that", .0.words(), .0.fix())]
    Flaw(Flaw),
    /// It is larger than 64 KiB.
    #[error("the file is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// It is not text.
    #[error("the file is not UTF-8 from line {line} on")]
    NotUtf8 {
        /// Where the first bad byte is.
        line: usize,
    },
    /// It is no TOML, or holds a key or a value that means nothing here.
    #[error("line {line}: {message}")]
    Syntax {
        /// Where the reader noticed it.
        line: usize,
        /// What the TOML reader said, on one line.
        message: String,
    },
    /// A value is of the right type and still means nothing.
    #[error("`{key}`: {reason}")]
    Invalid {
        /// The key.
        key: String,
        /// What is wrong, and what would be right.
        reason: Cow<'static, str>,
    },
}

pub(crate) fn invalid(key: &str, reason: impl Into<Cow<'static, str>>) -> ParseError {
    ParseError::Invalid { key: key.to_owned(), reason: reason.into() }
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
