//! *Lives here:* becoming another program as s6's tools do, and the message if that fails.
//!
//! *Does not live here:* the user and the environment of the program.

use std::ffi::OsString;

use gatevisor_sys::environment::{self, ProgramEnvironment, S6_PATH, Variable};
use gatevisor_sys::program;
use gatevisor_wire::exit::{Exit, ExitError};

use crate::Fatal;

/// Replaces this process by the program, which is looked up in the `PATH` of its own environment.
/// Returns only if that fails, with the reason.
///
/// Root's `PATH` is cleaned: see [`gatevisor_sys::environment`].
pub(crate) fn become_program(argv: &[OsString], variables: Vec<Variable>) -> Fatal {
    match ProgramEnvironment::exactly(environment::handed_on(variables), S6_PATH) {
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
