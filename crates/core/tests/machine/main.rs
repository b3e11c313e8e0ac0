//! The service machine: tables of events and decisions, and invariants.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot be set up has failed")]

mod asking;
mod clearing;
mod invariants;
mod life;
mod requests;
mod restarts;
mod scenario;
