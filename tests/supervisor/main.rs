//! The supervisor as a black box: the real binary on a scandir of its own, watched through what it promises.
//!
//! Each module is a chapter. Every test ends with the supervisor told to stop, which must succeed and leave no process.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a panic in a test says what is wrong"
)]

#[path = "../support/mod.rs"]
mod support;

mod backoff;
mod birth;
mod captured;
mod commands;
mod cost;
mod deaths;
mod failed_starts;
mod floods;
mod groups;
mod hostile;
mod hostile_fifos;
mod labels;
mod log_daemon;
mod logs;
mod many;
mod numbers;
mod orphans;
mod owners;
mod readiness;
mod s6_tools;
mod scandir;
mod shutdown;
mod stopping;
mod survivors;
mod torture;
mod trespass;
mod unending;
mod withdrawal;
