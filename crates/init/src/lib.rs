//! The supervisor: one thread, one loop, every service of one scandir.
//!
//! *Lives here:* the event loop (`supervisor`) and the shell around the service machines: it opens
//! directories, starts processes, reaps them, and carries out the decisions of `gatevisor-core`.
//! *Does not live here:* decisions (core), but for how much of its own work a part does at once,
//! whose commands are read first, and what a setting that is missing or invalid stands for; system
//! calls (sys), formats (wire), and anything richer than numbers in files: no TOML, no JSON, no
//! socket for clients.
//!
//! *May depend on it:* only the binary.
//!
//! **Deliberately absent:** threads, an async runtime, name services, waiting for a disk or a peer.
#![forbid(unsafe_code)]

mod broadcast;
mod command;
mod commands;
mod companion;
mod config;
mod deaths;
mod directory;
mod entries;
mod environments;
mod groups;
mod host_manager;
mod id;
mod kill;
mod limits;
mod log_daemon;
mod log_failure;
mod log_message;
mod log_pipe;
mod logging;
mod memory;
mod noexec;
mod orphaned_status;
mod orphans;
mod pending_starts;
mod publications;
mod publish;
mod reactor;
mod refusals;
mod scandir;
mod scandir_scripts;
mod scanner;
mod service;
mod service_scripts;
mod services;
mod settings;
mod shutdown;
mod spawner;
mod status_file;
mod stderr_log;
mod supervisor;

pub use config::{Config, Container, StartError};
pub use gatevisor_core::capacity::ServiceLimits;
pub use host_manager::HostManager;

/// Supervises the scandir until told to stop. Returns when the last process is gone, unless the
/// scandir has a `.s6-svscan/finish`, which replaces this process.
///
/// The calling process must have one thread. It becomes the reaper of all its descendants.
pub fn run(config: Config) -> Result<(), StartError> {
    run_then(config, || ())
}

/// Does the same as [`run`] as the first process of a container, and returns the container's exit
/// code.
///
/// The command in [`Config::container`] gets the terminal, if standard input is one.
pub fn run_container(config: Config) -> Result<u8, StartError> {
    command::give_up_terminal();
    let mut supervisor = supervisor::Supervisor::new(&config)?;
    drop(config);
    supervisor.run();
    supervisor.become_finish();
    Ok(supervisor.exit_code())
}

/// Does the same as [`run`], and calls `ready` once the scandir is locked and commands are obeyed.
pub fn run_then(config: Config, ready: impl FnOnce()) -> Result<(), StartError> {
    let mut supervisor = supervisor::Supervisor::new(&config)?;
    drop(config);
    ready();
    supervisor.run();
    supervisor.become_finish();
    Ok(())
}
