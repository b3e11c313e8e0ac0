//! What is fuzzed: everything that reads bytes of others, and root's ways through trees of others.
//!
//! *Lives here:* one function for each decoder, which asserts what must hold for any bytes. *Does
//! not live here:* the bytes. `seeds/` has a few good ones, and libFuzzer makes the others.
#![forbid(unsafe_code)]

pub mod targets;
