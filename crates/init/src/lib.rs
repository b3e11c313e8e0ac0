//! The supervisor: one thread, one loop, every service of one scandir.
//!
//! *Lives here:* the event loop and the shell around the service machines: it opens directories,
//! starts processes, reaps them, and performs what `gatevisor-core` decides.
//! *Does not live here:* decisions (core), system calls (sys), formats (wire), and anything richer
//! than numbers in files: no TOML, no JSON, no socket for clients.
//!
//! *May depend on it:* the binary alone.
//!
//! **Deliberately absent:** threads, an async runtime, name services, waiting for a disk or a peer.
#![forbid(unsafe_code)]

mod broadcast;
mod command;
mod directory;
mod entries;
mod environments;
mod groups;
mod id;
mod kill;
mod limits;
mod log_failure;
mod log_message;
mod log_pipe;
mod logging;
mod memory;
mod noexec;
mod orphan;
mod orphans;
mod publish;
mod reactor;
mod refusals;
mod scandir;
mod scanner;
mod script;
mod scripts;
mod service;
mod services;
mod settings;
mod spawner;
mod stderr_log;
mod supervisor;

use std::ffi::CString;
use std::path::PathBuf;

use gatevisor_core::restart::Rules;
use gatevisor_sys::Errno;

pub use command::Container;

/// What a supervisor is told at its start.
#[derive(Debug)]
pub struct Config {
    /// The scandir; made if it is missing.
    pub scandir: PathBuf,
    /// Which restart rules hold.
    pub rules: Rules,
    /// Milliseconds that an orderly shutdown may take before everything is killed.
    pub grace_ms: u64,
    /// The environment of every service.
    pub environment: Vec<CString>,
    /// That of what runs as this supervisor's own user, where that user is told less than others
    /// are: root in a container.
    pub own_environment: Option<Vec<CString>>,
    /// The absolute path of this program: interpreters of scripts name it, and log daemons run it.
    pub program: PathBuf,
    /// How many services there may be.
    pub limits: ServiceLimits,
    /// Whether what services print that have no log is shown with their names before each line, and
    /// what others print beside their log: so nobody can print a line that is taken for one of
    /// ours. s6 gives them our own output.
    pub label_output: bool,
    /// What makes this the first process of a container; none elsewhere.
    pub container: Option<Container>,
}

/// How many services there may be. One with a logger counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceLimits {
    /// Those of one user.
    pub of_one_owner: usize,
    /// Those of all users.
    pub in_all: usize,
}

impl Default for ServiceLimits {
    fn default() -> Self {
        Self { of_one_owner: 2000, in_all: 10_000 }
    }
}

/// Why supervision could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another supervisor holds the lock of the scandir.
    #[error("another supervisor already runs on `{}`", .0.display())]
    AlreadyRunning(PathBuf),
    /// A step of the start failed.
    #[error("cannot supervise `{}`: {step}: {errno}", .scandir.display())]
    Step {
        /// The scandir.
        scandir: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
}

impl StartError {
    /// Returns the exit code that s6 uses for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::AlreadyRunning(_) => 100,
            Self::Step { .. } => 111,
        }
    }
}

/// Supervises the scandir until told to stop; returns when the last process is gone, unless the
/// scandir has a `.s6-svscan/finish`: then this process becomes that.
///
/// The calling process must have one thread. It becomes the reaper of everything below it.
pub fn run(config: Config) -> Result<(), StartError> {
    run_then(config, || ())
}

/// Does what [`run`] does as the first process of a container, and returns the container's exit
/// code.
///
/// The command that [`Config::container`] names gets the terminal, if standard input is one.
pub fn run_container(config: Config) -> Result<u8, StartError> {
    command::give_up_terminal();
    let mut supervisor = supervisor::Supervisor::new(&config)?;
    drop(config);
    supervisor.run();
    supervisor.become_finish();
    Ok(supervisor.exit_code())
}

/// Does what [`run`] does, and calls `ready` once the scandir is locked and commands are obeyed.
pub fn run_then(config: Config, ready: impl FnOnce()) -> Result<(), StartError> {
    let mut supervisor = supervisor::Supervisor::new(&config)?;
    drop(config);
    ready();
    supervisor.run();
    supervisor.become_finish();
    Ok(())
}
