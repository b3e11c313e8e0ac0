//! Bytes and types of the s6 contract on disk.
//!
//! *Lives here:* every format that a supervisor and its clients exchange through the file system,
//! as types that cannot be wrong, with the functions that turn them into bytes and back: the status
//! file, control bytes, events, the death tally, `TAI64N` stamps, names, signals, numbers in small
//! files, scandir commands, our own `supervise/policy` file, and the protocol between supervisor
//! and log daemon; and the exit codes. One enum stands for each alphabet; bytes, tables and help
//! are derived from it.
//!
//! *Does not live here:* any I/O, any clock, any decision. This crate uses no other crate of ours.
//! Every decoder is total: for any bytes it returns a value or an error, and never panics.
//!
//! *May depend on it:* every crate.
//!
//! Only this crate knows the differences between versions of s6.
#![forbid(unsafe_code)]

mod bytes;
pub mod control;
pub mod event;
pub mod exit;
pub mod fail_code;
pub mod files;
pub mod handoff;
pub mod log_counts;
pub mod log_directory;
pub mod log_error;
pub mod log_protocol;
pub mod log_script;
pub mod member;
pub mod name;
pub mod number;
mod pid;
pub mod policy;
pub mod scan;
pub mod script;
pub mod signal;
pub mod started;
pub mod status;
pub mod tai;
pub mod tally;
pub mod wait;

pub use pid::Pid;
