//! The image's own hooks, `/etc/cont-init.d/*`.
//!
//! *Lives here:* which hooks there are, their order, and becoming one. *Does not live here:*
//! waiting for it (`child`).
//!
//! **Source:** BOOT-1, BOOT-2; s6-overlay, *Executing initialization and finalization tasks*.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use gatevisor_sys::environment::{DEFAULT_PATH, ProgramEnvironment, Variable};
use gatevisor_sys::trust::{self, Distrust};
use gatevisor_sys::user::User;
use gatevisor_sys::{Errno, program};
use rustix::fs::{CWD, Mode, OFlags, openat};

/// Where hooks are.
pub const DIRECTORY: &str = "/etc/cont-init.d";

/// Returns the executable files of a directory, sorted by bytes; none if there is no directory.
pub fn find(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut hooks = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let runs =
            fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
        if runs {
            hooks.push(path);
        }
    }
    hooks.sort_unstable_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    Ok(hooks)
}

/// Returns an error if the agent could have changed what root is about to execute.
///
/// # Errors
/// The agent can write to the hook, or to a directory on the way to it.
pub fn check(hook: &Path, agent: Option<&User>) -> Result<(), Distrust> {
    // Without root, hooks run as the container's user.
    agent.map_or(Ok(()), |agent| trust::out_of_reach_of(agent, hook))
}

/// Replaces this process by a program with this environment, no standard input, and a session of
/// its own. Returns only if that fails, with the reason.
pub fn become_program(argv: &[OsString], environment: Vec<Variable>, directory: &Path) -> Errno {
    let attempt = || -> Result<Errno, Errno> {
        let null = openat(CWD, "/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::process::chdir(directory)?;
        // A child of ours leads no group, so this cannot fail.
        let _ = rustix::process::setsid();
        let environment = ProgramEnvironment::new(environment, DEFAULT_PATH)?;
        Ok(program::become_program(argv, &environment).errno)
    };
    attempt().unwrap_or_else(|errno| errno)
}

#[cfg(test)]
mod tests {
    use super::find;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    #[test]
    fn hooks_are_the_executable_files_in_the_order_of_their_bytes() {
        let dir = tempfile::tempdir().unwrap();
        for (name, mode) in
            [("10-b", 0o755), ("02-a", 0o755), ("015-x", 0o700), ("Z", 0o755), ("a.txt", 0o644)]
        {
            fs::write(dir.path().join(name), "#!/bin/sh\n").unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(dir.path().join("03-directory")).unwrap();
        let found = find(dir.path()).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["015-x", "02-a", "10-b", "Z"]);
        assert!(find(Path::new("/nonexistent")).unwrap().is_empty());
    }
}
