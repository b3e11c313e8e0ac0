//! Why a `run` or `log/run` file cannot be used.
//!
//! *Lives here:* the error, for every file of settings and every part of one.
//! *Does not live here:* reading the files.

use std::borrow::Cow;

use gatevisor_wire::script::Flaw;

/// The largest `run` or `log/run` in bytes.
pub const MAX_BYTES: usize = 64 << 10;

/// Why a `run` or `log/run` file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// An editor of another system wrote it, and the kernel would misunderstand it.
    #[error("{}; `{}` and its name fixes that", .0.words(), .0.fix())]
    Flaw(Flaw),
    /// It is larger than 64 KiB.
    #[error("the file is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// It is not UTF-8.
    #[error("the file is not UTF-8 from line {line} on")]
    NotUtf8 {
        /// The line of the first bad byte.
        line: usize,
    },
    /// It is not TOML, or has an unknown key or a value of a wrong type.
    #[error("line {line}: {message}")]
    Syntax {
        /// The line at which the reader noticed it.
        line: usize,
        /// The TOML reader's message, on one line.
        message: String,
    },
    /// A value has the right type, but makes no sense.
    #[error("`{key}`: {reason}")]
    Invalid {
        /// The path of keys to the value, with dots.
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
