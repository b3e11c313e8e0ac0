//! The supervisor as a black box: the real binary on a scandir of its own, observed through its
//! public interface.
//!
//! Each module is a chapter. At the end of every test, the supervisor is told to stop, which must
//! succeed and leave no process.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a panic in a test says what is wrong"
)]

#[path = "../support/mod.rs"]
mod support;

mod backoff;
mod commands;
mod cost;
mod deaths;
mod failed_starts;
mod floods;
mod groups;
mod handoff;
mod host_manager;
mod hostile;
mod hostile_fifos;
mod hostile_log_daemon;
mod labels;
mod leftovers_at_shutdown;
mod links_of_owners;
mod log_daemon;
mod logs;
mod many;
mod orphans;
mod owners;
mod readiness;
mod refused_calls;
mod s6_tools;
mod scandir;
mod shutdown;
mod small_files;
mod start_state;
mod stopping;
mod survivors;
mod torture;
mod withdrawal;
