//! What a supervisor is given, and why it may not begin.
//!
//! *Lives here:* the settings, and the error of the start. *Does not live here:* where the settings
//! come from; the binary parses them.

use std::ffi::CString;
use std::path::PathBuf;

use gatevisor_core::capacity::ServiceLimits;
use gatevisor_core::restart::Rules;
use gatevisor_sys::Errno;
use gatevisor_wire::exit::Exit;

use crate::host_manager::HostManager;

/// The settings of a supervisor.
#[derive(Debug)]
pub struct Config {
    /// The scandir. It is made if it is missing.
    pub scandir: PathBuf,
    /// The rules for restarts.
    pub rules: Rules,
    /// Milliseconds that an orderly shutdown may take before everything is killed.
    pub grace_ms: u64,
    /// The environment of every service.
    pub environment: Vec<CString>,
    /// The environment of programs that run as the supervisor's own user, if that user receives
    /// fewer variables than others, as root does in a container.
    pub own_environment: Option<Vec<CString>>,
    /// The absolute path of this program. Scripts have it in their interpreter lines, and log
    /// daemons run it.
    pub program: PathBuf,
    /// The limits on the number of services.
    pub limits: ServiceLimits,
    /// Whether each line of output is shown with its service's name before it. This is for services
    /// without a log, and for the output of others that bypasses their log. So no service can print
    /// a line that looks like ours. Under s6, services share our own output.
    pub label_output: bool,
    /// The service manager of the host that waits for reports; `None` if nobody does.
    pub host: Option<HostManager>,
    /// The words of a process that runs beside us: this program, called with them. It is replaced
    /// when it has ended or a signal has stopped it; no words mean that there is none.
    pub companion: Vec<CString>,
    /// The additional settings of the first process of a container; `None` elsewhere.
    pub container: Option<Container>,
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
        /// The directory that would be supervised.
        scandir: PathBuf,
        /// What was tried.
        step: &'static str,
        /// The kernel's error.
        errno: Errno,
    },
}

impl StartError {
    /// Returns s6's exit code for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::AlreadyRunning(_) => Exit::Usage.code(),
            Self::Step { .. } => Exit::System.code(),
        }
    }
}

/// The additional settings of a supervisor that is the first process of a container.
#[derive(Debug)]
pub struct Container {
    /// The command with its arguments. The first is a path. Empty for a container without a
    /// command.
    pub command: Vec<CString>,
    /// The prefix of the names of services that are stopped before the command.
    pub stop_first: Vec<u8>,
}
