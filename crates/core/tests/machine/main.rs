//! The service machine, told as tables and held against invariants.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot be set up has failed")]

mod clearing;
mod invariants;
mod life;
mod requests;
mod scenario;
