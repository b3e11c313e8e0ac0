//! The command line as a black box: the real binary, each test with a home of its own.
//!
//! Each module is a chapter. Every test checks at its end that nothing is left: no process, and no
//! unexpected file.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a panic in a test says what is wrong")]

#[path = "../support/home.rs"]
mod home;
#[path = "../support/mod.rs"]
mod support;

mod agents;
mod alerts;
mod background;
mod causes;
mod completion;
mod cost;
mod daily;
mod declared;
mod definition;
mod desired_states;
mod disk;
mod doctor;
mod doctor_locks;
mod drain;
mod drain_down;
mod earlier_runs;
mod evidence;
mod example;
mod explain;
mod failing;
mod faults;
mod full_disk;
mod genuine_s6;
mod habits;
mod health;
mod host_service;
mod hostile;
mod import;
mod incidents;
mod keeper;
mod lifecycle;
mod listening;
mod live;
mod live_starts;
mod log_scripts;
mod logs;
mod logs_query;
mod logs_terminal;
mod metrics;
mod names;
mod no_proc;
mod no_reader;
mod notify;
mod old_kernel;
mod one_instance;
mod output;
mod own_restart;
mod pages;
mod ports;
mod reconcile;
mod refusals;
mod secrets;
mod selection;
mod several;
mod state_files;
mod states;
mod status;
mod strangers;
mod terminal;
mod top;
mod topology;
mod tree;
mod turns;
mod up;
mod usage;
mod variables;
mod watching;
mod web;
mod windows;
