//! Where the container's run-time files are, and making them anew.
//!
//! *Lives here:* the directories that s6-overlay has too, and the scandir as an unprivileged user can control it.
//! *Does not live here:* what is in the scandir.
//!
//! **Source:** B.1, PERM-2, PERM-3, L-13, L-21.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use gatevisor_sys::{Errno, user::User};
use gatevisor_wire::files;
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// Where s6-overlay's own files are.
const TOP: &str = "s6";
/// Where s6-overlay's base directory is, by which the agent's own command line tells that there is a supervisor.
const BASE: &str = "s6/basedir";
/// Where the container's environment is.
const ENVIRONMENT: &str = "s6/container_environment";
/// Where the scandir is.
const SERVICES: &str = "service";
/// Tells programs that they run in a container.
const MARKER: &str = "/run/.containerenv";
/// What tells so too.
const OTHER_MARKER: &str = "/.dockerenv";

/// Where the run-time files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The directory of all of them.
    pub root: PathBuf,
    /// The container's environment.
    pub environment: PathBuf,
    /// The scandir.
    pub scandir: PathBuf,
}

impl Places {
    /// Returns the places below a directory.
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned(), environment: root.join(ENVIRONMENT), scandir: root.join(SERVICES) }
    }

    /// Makes them, the scandir empty.
    ///
    /// `agent` is the user who may register services, where that is not this one. What directs the supervisor itself
    /// stays root's: only the FIFO for its commands is the agent's.
    ///
    /// # Errors
    /// A directory cannot be made or written to.
    pub fn make(&self, agent: Option<&User>) -> io::Result<()> {
        fs::create_dir_all(self.root.join(BASE))?;
        if agent.is_some() {
            // An image may leave it to everybody, for the case that it is not started by root.
            let top = self.root.join(TOP);
            fs::set_permissions(top, fs::Permissions::from_mode(0o755))?;
        }
        fs::create_dir_all(&self.scandir)?;
        for entry in fs::read_dir(&self.scandir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        let svscan = self.scandir.join(files::SVSCAN);
        DirBuilder::new().mode(if agent.is_some() { 0o755 } else { 0o700 }).create(&svscan)?;
        if let Some(agent) = agent {
            let control = svscan.join("control");
            mknodat(CWD, &control, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
            chown(&control, Some(0), Some(agent.gid))?;
            fs::set_permissions(&control, fs::Permissions::from_mode(0o660))?;
            chown(&self.scandir, Some(agent.uid), Some(agent.gid))?;
            fs::set_permissions(&self.scandir, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }
}

/// Returns the place of an unprivileged user that may not use the usual one.
///
/// # Errors
/// There is a directory of that name, and it is another user's.
pub fn fallback(temporary: &Path) -> io::Result<PathBuf> {
    let ours = rustix::process::geteuid().as_raw();
    let path = temporary.join(format!("gatevisor-{ours}"));
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(&path)?;
            if !found.is_dir() || found.uid() != ours {
                return Err(Errno::PERM.into());
            }
        }
        other => other?,
    }
    Ok(path)
}

/// Tells programs that they run in a container, where nothing else does. It is no failure where that cannot be.
///
/// **Source:** DET-4, L-26.
pub fn mark() {
    if !Path::new(OTHER_MARKER).exists() {
        let _ = fs::OpenOptions::new().append(true).create(true).open(MARKER);
    }
}

#[cfg(test)]
mod tests {
    use super::{Places, fallback};
    use std::fs;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    #[test]
    fn places_are_made_anew_and_the_scandir_empty() {
        let root = tempfile::tempdir().unwrap();
        let places = Places::below(root.path());
        places.make(None).unwrap();
        fs::create_dir_all(places.scandir.join(".gateway-x.tmp/sub")).unwrap();
        fs::write(places.scandir.join("stray"), "").unwrap();
        std::os::unix::fs::symlink(root.path().join("s6"), places.scandir.join("link")).unwrap();
        places.make(None).unwrap();
        let names: Vec<_> = fs::read_dir(&places.scandir).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, [".s6-svscan"]);
        assert!(root.path().join("s6/basedir").is_dir());
    }

    #[test]
    fn the_agent_may_register_services_and_command_the_supervisor_but_not_direct_it() {
        if !rustix::process::geteuid().is_root() {
            println!("not shown: only root can give things away");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let places = Places::below(root.path());
        let agent = gatevisor_sys::user::lookup(b"10000").unwrap();
        places.make(Some(&agent)).unwrap();
        let scandir = fs::metadata(&places.scandir).unwrap();
        assert_eq!((scandir.uid(), scandir.mode() & 0o777), (10_000, 0o755));
        let svscan = fs::metadata(places.scandir.join(".s6-svscan")).unwrap();
        assert_eq!((svscan.uid(), svscan.mode() & 0o777), (0, 0o755));
        let control = fs::metadata(places.scandir.join(".s6-svscan/control")).unwrap();
        assert!(control.file_type().is_fifo());
        assert_eq!((control.uid(), control.gid(), control.mode() & 0o777), (0, 10_000, 0o660));
    }

    #[test]
    fn a_place_of_somebody_else_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let path = fallback(temporary.path()).unwrap();
        assert_eq!(fallback(temporary.path()).unwrap(), path);
        fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("/", &path).unwrap();
        fallback(temporary.path()).unwrap_err();
    }
}
