//! *Lives here:* the classes of failure that an error of this crate can belong to.
//!
//! *Does not live here:* ending the process, or the exit codes of the applets.
//!
//! **Source:** README.md, *Exit codes*: 0 done or yes, 1 no, 99 timed out, 100 usage, 102 not supervised, 111
//! system failure.

/// The question has the answer no, or the request does not fit the facts: it exists already, it does not exist.
pub const NO: u8 = 1;
/// What was waited for did not happen in time.
pub const TIMED_OUT: u8 = 99;
/// The request itself is wrong, whatever the facts are.
pub const USAGE: u8 = 100;
/// No supervisor answers.
pub const NOT_SUPERVISED: u8 = 102;
/// A system call failed.
pub const SYSTEM: u8 = 111;
