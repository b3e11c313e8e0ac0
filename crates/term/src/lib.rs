//! The operator's terminal: what may be written to it, and who may hold it.
//!
//! *Lives here:* the one way in which text reaches standard output and standard error ([`stream`]), what a
//! terminal is never given ([`escape`]), how an error reads with its causes ([`error_chain`]), and a terminal of its own for what runs as somebody else ([`relay`]).
//! *Does not live here:* the text; colours and tables, which are the command line's.
//!
//! *May depend on it:* every crate that says something to people; it depends on `sys` alone.
#![forbid(unsafe_code)]

pub mod error_chain;
pub mod escape;
pub mod relay;
pub mod stream;
