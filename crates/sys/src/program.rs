//! Becoming another program that is given as a list of words.
//!
//! *Lives here:* the look-up of the program, and the shell's exit code for a failure.
//! *Does not live here:* the user and the environment of the program (`environment`), and starting
//! a process for it (`spawn`).

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;

use gatevisor_wire::exit::{Exit, ExitError};
use rustix::io::Errno;

use crate::environment::ProgramEnvironment;
use crate::process;

/// Why this process could not become the program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot execute `{}`: {errno}", program.display())]
pub struct NotExecuted {
    /// The name or path of the program.
    pub program: OsString,
    /// The system's error; `EINVAL` if a word holds a NUL byte.
    pub errno: Errno,
}

impl ExitError for NotExecuted {
    fn exit(&self) -> Exit {
        if self.errno == Errno::NOENT { Exit::NotFound } else { Exit::NotExecutable }
    }
}

/// Replaces this process by the program that the first word names; returns only if that fails, with
/// the reason.
///
/// The program is looked for in the directories of the environment: see [`process::exec_search`].
pub fn become_program(words: &[OsString], environment: &ProgramEnvironment) -> NotExecuted {
    let program = words.first().cloned().unwrap_or_default();
    let c_words: Result<Vec<CString>, _> = words.iter().map(|word| CString::new(word.as_bytes())).collect();
    let errno = match c_words {
        Err(_) => Errno::INVAL,
        Ok(_) if program.is_empty() => Errno::NOENT,
        Ok(words) => process::exec_search(&words, environment),
    };
    NotExecuted { program, errno }
}
