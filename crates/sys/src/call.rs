//! Calls of other programs whose end this process waits for, or whose output it reads.
//!
//! *Lives here:* the only place that begins one with the standard library, which gives the program
//! clean signals and is safe in a process of several threads.
//! *Does not live here:* becoming a program (`process`), and starting services (`spawn`).

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Returns a call of the program at this absolute path. Nothing is looked up by name.
///
/// # Errors
/// The path is not absolute.
pub fn command(program: &Path) -> io::Result<Command> {
    if !program.is_absolute() {
        let text = format!("`{}` is not an absolute path of a program", program.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(Command::new(program))
}

/// Has the program of a call lead a process group of its own, so that the signals of a terminal do
/// not reach it.
pub fn lead_group(command: &mut Command) {
    command.process_group(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_never_looked_up_by_its_name() {
        assert!(command(Path::new("true")).is_err());
        assert!(command(Path::new("/bin/sh")).unwrap().args(["-c", "exit 0"]).status().unwrap().success());
    }
}
