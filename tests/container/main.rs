//! The container images on a real Docker engine: how they start, what the unmodified `hermes` finds
//! in them, and how they end.
//!
//! Each module is a chapter. Every test has containers of its own and acts in them as uid 10000,
//! unless its name says root. Run `scripts/docker.sh start` and `make image` first.
//! `GATEVISOR_SKIP_DOCKER=1` skips everything, and says so.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a panic in a test says what is wrong")]

#[path = "../support/home.rs"]
mod home;
#[path = "../support/model.rs"]
mod model;
#[path = "../support/mod.rs"]
mod support;

mod engine;

mod authority;
mod command;
mod doctor;
mod environment;
mod frozen;
mod hermes;
mod hermes_022;
mod image;
mod memory;
mod ownership;
mod profiles;
mod registration;
mod services;
mod starting;
mod stopping;
mod terminal;
mod trees;
mod whole;
