//! The s6 contract as a black box: the same cases on s6 and on us, with s6's tools and with ours.
//!
//! A case is one function of a pairing, and `cases!` makes a test of it for each pairing. On s6
//! with its own tools, every case is a statement about s6 2.11.3.2, so a case that fails there is
//! wrong. If a case does not apply to a pairing, the table of names gives the reason.
//! `make conformance` writes the counts to `docs/design/conformance.md`.
//!
//! Nothing here waits for time to pass, except where s6's pause of one second is the subject.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a panic says what is wrong"
)]

#[path = "../support/mod.rs"]
mod support;

mod bed;
mod control;
mod deaths;
mod differential;
mod entries;
mod isolation;
mod locks;
mod loggers;
mod readiness;
mod scandir;
mod signals;
mod small_files;
mod states;
mod tools;
