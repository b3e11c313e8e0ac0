//! What the supervisor decides beside the services' own machines: tables of time, event and
//! decision.
#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod broadcasts;
mod command;
mod command_limiter;
mod entry;
mod helper;
mod host_manager;
mod launch;
mod refusals;
mod request;
mod scan_queue;
mod shutdown;
mod start_queue;
mod trust;
mod unread;
