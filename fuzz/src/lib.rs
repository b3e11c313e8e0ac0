//! What is fuzzed: everything that reads bytes that somebody else wrote, and root's ways through trees that somebody else made.
//!
//! *Lives here:* one function a decoder, each of which asserts what must hold for any bytes. *Does not live here:* the
//! bytes: `seeds/` has a few good ones, libFuzzer makes the rest.
#![forbid(unsafe_code)]

pub mod targets;
