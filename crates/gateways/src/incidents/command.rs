//! The command of an agent definition that prints evidence about a gateway.
//!
//! *Lives here:* executing it. *Does not live here:* its limits (`bounded`), and the file of its
//! output.

use std::os::fd::OwnedFd;

use gatevisor_sys::environment::{self, GATEWAY_PATH, ProgramEnvironment};
use gatevisor_sys::program;
use gatevisor_wire::exit::Exit;
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::request::{Evidence, IncidentRequest, line_of};

/// The exit code if it cannot be executed.
const CANNOT: i32 = Exit::NotExecutable as i32;

/// Becomes the command, whose output goes to `output`. Returns an exit code if that fails.
///
/// It finds the profile, the process and the reason in `GATEVISOR_INCIDENT_NAME`, `…_PID` and
/// `…_REASON`.
pub(super) fn execute(evidence: &Evidence, request: &IncidentRequest<'_>, output: &OwnedFd) -> i32 {
    let told = [
        ("GATEVISOR_INCIDENT_NAME", request.name.to_owned()),
        ("GATEVISOR_INCIDENT_PID", request.pid.to_string()),
        ("GATEVISOR_INCIDENT_REASON", line_of(request.reason)),
    ];
    let why = become_command(evidence, &told, output);
    let said = format!("gatevisor: the command cannot be executed: {why}\n");
    let _ = rustix::io::write(output, said.as_bytes());
    CANNOT
}

/// Becomes a command of the agent definition that reads nothing and writes to `output`. Returns
/// only if that fails, with the reason.
pub(crate) fn become_command(evidence: &Evidence, told: &[(&str, String)], output: &OwnedFd) -> String {
    let Ok(null) = openat(CWD, c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else {
        return "there is no /dev/null".to_owned();
    };
    let joined = rustix::stdio::dup2_stdin(&null)
        .and_then(|()| rustix::stdio::dup2_stdout(output))
        .and_then(|()| rustix::stdio::dup2_stderr(output));
    if let Err(errno) = joined.and_then(|()| rustix::process::chdir(&evidence.directory)) {
        return errno.to_string();
    }
    gatevisor_sys::signal::unblock_all();
    let mut variables = environment::inherited(std::env::vars_os().collect());
    for (name, value) in told {
        environment::set(&mut variables, name, value);
    }
    let Ok(environment) = ProgramEnvironment::exactly(variables, GATEWAY_PATH) else {
        return "a variable holds a NUL byte".to_owned();
    };
    program::become_program(&evidence.argv, &environment).errno.to_string()
}
