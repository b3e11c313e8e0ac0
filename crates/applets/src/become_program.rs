//! *Lives here:* becoming another program, and the exit codes for when that fails.
//!
//! *Does not live here:* as whom and in which environment.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use gatevisor_sys::environment::{ProgramEnvironment, Variable};
use gatevisor_sys::{Errno, process};

use crate::Fatal;
use crate::fatal::SYSTEM;

/// It was found and cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// It was not found.
const NOT_FOUND: u8 = 127;
/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/bin:/bin";

/// Replaces this process by the program, looked for in the `PATH` of its own environment; returns only why not.
///
/// Root's is cleaned: see [`gatevisor_sys::environment`].
pub(crate) fn become_program(argv: &[OsString], environment: Vec<Variable>) -> Fatal {
    let program = argv.first().map_or(OsStr::new(""), OsString::as_os_str);
    let words: Result<Vec<CString>, _> = argv.iter().map(|word| CString::new(word.as_bytes())).collect();
    let environment = ProgramEnvironment::new(environment, DEFAULT_PATH);
    let (Ok(words), Ok(environment)) = (words, environment) else {
        return Fatal::new(SYSTEM, "cannot pass on an argument or a variable that holds a NUL byte");
    };
    let errno = if program.is_empty() { Errno::NOENT } else { process::exec_search(&words, &environment) };
    let code = if errno == Errno::NOENT { NOT_FOUND } else { NOT_EXECUTABLE };
    Fatal::new(code, format!("cannot execute `{}`: {errno}", program.display()))
}

/// Returns the environment of this process.
pub(crate) fn inherited() -> Vec<Variable> {
    std::env::vars_os().collect()
}
