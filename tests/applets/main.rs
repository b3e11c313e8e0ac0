//! The applets beside Debian's own s6 tools: the same arguments, the same output, the same exit
//! codes.
//!
//! Needs Debian's package `s6` (2.11) and `execline`. Every supervisor runs on a scandir of its
//! own.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a panic in a test says what is wrong")]

#[path = "../support/mod.rs"]
mod support;

mod become_program;
mod both;
mod hostile;
mod install;
mod log;
mod sequences;
mod slot_logger;
mod svc;
mod svscan;
mod svscanctl;
mod svstat;
mod svwait;
