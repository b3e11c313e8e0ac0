//! The operator's terminal: the text that may be written to it, and the processes that may hold it.
//!
//! *Lives here:* the one way in which text reaches standard output and standard error ([`stream`]),
//! the characters that no terminal receives ([`escape`]), and a separate terminal for programs that
//! run as another user ([`relay`]).
//!
//! *Does not live here:* the texts; colours and tables, which are the command line's.
//!
//! *May depend on it:* every crate that writes messages for people. It depends on `sys` only.
#![forbid(unsafe_code)]

pub mod escape;
pub mod relay;
pub mod stream;
