//! *Lives here:* becoming another program, and the exit codes for when that fails.
//!
//! *Does not live here:* as whom and in which environment.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use gatevisor_sys::{Errno, process};

use crate::Fatal;
use crate::talk::SYSTEM;

/// It was found and cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// It was not found.
const NOT_FOUND: u8 = 127;
/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &[u8] = b"/usr/bin:/bin";

/// One `NAME=value`, in bytes.
pub(crate) type Variable = (OsString, OsString);

/// Replaces this process by the program, looked for in the `PATH` of its own environment; returns only why not.
pub(crate) fn become_program(argv: &[OsString], environment: &[Variable]) -> Fatal {
    let program = argv.first().map_or(OsStr::new(""), OsString::as_os_str);
    let words: Result<Vec<CString>, _> = argv.iter().map(|word| CString::new(word.as_bytes())).collect();
    let variables: Result<Vec<CString>, _> = environment
        .iter()
        .map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect();
    let (Ok(words), Ok(variables)) = (words, variables) else {
        return Fatal::new(SYSTEM, "cannot pass on an argument or a variable that holds a NUL byte");
    };
    let path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_bytes());
    let errno = if program.is_empty() {
        Errno::NOENT
    } else {
        process::exec_search(&words, &variables, path.unwrap_or(DEFAULT_PATH))
    };
    let code = if errno == Errno::NOENT { NOT_FOUND } else { NOT_EXECUTABLE };
    Fatal::new(code, format!("cannot execute `{}`: {errno}", program.display()))
}

/// Returns the environment of this process.
pub(crate) fn inherited() -> Vec<Variable> {
    std::env::vars_os().collect()
}
