//! *Lives here:* becoming another program as s6's tools do, and what they say when that fails.
//!
//! *Does not live here:* as whom and in which environment.

use std::ffi::OsString;

use gatevisor_sys::environment::{ProgramEnvironment, S6_PATH, Variable};
use gatevisor_sys::program;
use gatevisor_wire::exit::{Exit, ExitError};

use crate::Fatal;

/// Replaces this process by the program, looked for in the `PATH` of its own environment; returns only why not.
///
/// Root's is cleaned: see [`gatevisor_sys::environment`].
pub(crate) fn become_program(argv: &[OsString], environment: Vec<Variable>) -> Fatal {
    match ProgramEnvironment::new(environment, S6_PATH) {
        Ok(environment) => {
            let not_executed = program::become_program(argv, &environment);
            Fatal::of(not_executed.exit(), &not_executed, None)
        }
        Err(_) => Fatal::new(Exit::System, "cannot pass on a variable that holds a NUL byte"),
    }
}

/// Returns the environment of this process.
pub(crate) fn inherited() -> Vec<Variable> {
    std::env::vars_os().collect()
}
