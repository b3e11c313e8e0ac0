//! Where the container's run-time files are, and making them anew.
//!
//! *Lives here:* the directories that s6-overlay has too, and the scandir as an unprivileged user
//! can control it. *Does not live here:* what becomes of what was in the scandir (`old`), and what
//! is in it next.
//!
//! **Source:** B.1, PERM-2, PERM-3, L-13, L-21.

mod layout;
mod old;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use gatevisor_paths::{Errno, Resolver, look};
use gatevisor_sys::user::User;
use gatevisor_wire::files;
use rustix::fs::{
    Access, AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, accessat, fchmod, fchown, mkdirat, mknodat,
    openat, symlinkat, unlinkat,
};
use rustix::process::geteuid;

pub use layout::RuntimeDirectories;
pub use old::OldScandir;

use layout::{ELSEWHERE, OPEN_MODE, SERVICES, fresh_name, own_directory, trusted};

/// Where s6-overlay's own files are.
const TOP: &str = "s6";
/// s6-overlay's base directory, below `TOP`. The agent's command line takes it as the sign of a
/// supervisor.
const BASE: &str = "basedir";
/// The link, among s6-overlay's files, that leads there.
const LINK: &str = "scandir";
/// Tells programs that they run in a container.
const MARKER: &str = "/run/.containerenv";
/// Docker's own mark, by which programs tell the same.
const OTHER_MARKER: &str = "/.dockerenv";

impl RuntimeDirectories {
    /// Makes the directories, and moves what is in the scandir out of the way if one step does
    /// that.
    ///
    /// `agent` is the user who may register services, where that is not this one.
    ///
    /// A container that is started again finds what the agent left, who may have put a link or
    /// anything else where these are. So each is opened without following links, and what is not a
    /// directory of ours, or the agent's scandir, is put aside.
    ///
    /// # Errors
    /// A directory cannot be made or written to.
    pub fn begin(&self, agent: Option<&User>) -> io::Result<OldScandir> {
        let root = self.root()?;
        let top = own_directory(&root, TOP, &trusted())?;
        if agent.is_some() {
            fchmod(&top, OPEN_MODE)?;
        }
        // If this process may not write there, the scandir belongs to another supervisor, which
        // works.
        accessat(&top, ".", Access::WRITE_OK, AtFlags::empty())?;
        own_directory(&top, BASE, &trusted())?;
        match unlinkat(&top, LINK, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(old::move_aside(&root)?)
    }

    /// Has the scandir elsewhere from now on, where nothing was before. A link tells root's command
    /// line where.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn move_elsewhere(&mut self) -> io::Result<()> {
        let root = self.root()?;
        let parent = own_directory(&root, ELSEWHERE, &trusted())?;
        fchmod(&parent, OPEN_MODE)?;
        // The name ends in `old`, so that the next boot removes the directory.
        let name = fresh_name(SERVICES, old::OLD);
        mkdirat(&parent, &*name, OPEN_MODE)?;
        self.scandir = self.root.join(ELSEWHERE).join(name);
        Ok(symlinkat(&self.scandir, own_directory(&root, TOP, &trusted())?, LINK)?)
    }

    /// Makes an empty scandir, and lets the agent's user send commands to its supervisor.
    ///
    /// The agent's user owns the FIFO for commands only. Everything else that directs the
    /// supervisor belongs to root.
    ///
    /// # Errors
    /// It cannot be made, or something stands in the way.
    pub fn finish(&self, agent: Option<&User>) -> io::Result<()> {
        let scandir = self.open_scandir(agent)?;
        let mode = Mode::from_raw_mode(if agent.is_some() { 0o755 } else { 0o700 });
        match mkdirat(&scandir, files::SVSCAN, mode) {
            // An old directory remains if something is mounted in it. It is used if root owns it.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let svscan = Resolver::STRICT.directory(&scandir, files::SVSCAN)?;
        if look(&svscan)?.uid != geteuid().as_raw() {
            return Err(Errno::PERM.into());
        }
        fchmod(&svscan, mode)?;
        let Some(agent) = agent else { return Ok(()) };
        let own_group = Some(Gid::from_raw(agent.gid));
        mknodat(&svscan, "control", FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        // Opening a FIFO for reading does not wait. The owner is changed through this descriptor,
        // so it cannot be another file's.
        let control = Resolver::STRICT.open(&svscan, "control", OFlags::RDONLY)?;
        fchown(&control, None, own_group)?;
        // Who could read from it could take root's commands away.
        fchmod(&control, Mode::from_raw_mode(0o620))?;
        fchown(&scandir, Some(Uid::from_raw(agent.uid)), own_group)?;
        Ok(fchmod(&scandir, OPEN_MODE)?)
    }
}

/// Returns where the place of an unprivileged user is that may not use the usual one.
pub fn fallback_of(temporary: &Path) -> PathBuf {
    temporary.join(format!("gatevisor-{}", geteuid().as_raw()))
}

/// Returns the place of an unprivileged user that may not use the usual one, which it makes.
///
/// # Errors
/// There is a directory of that name, and it is another user's.
pub fn fallback(temporary: &Path) -> io::Result<PathBuf> {
    let ours = geteuid().as_raw();
    let path = fallback_of(temporary);
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

/// Tells programs that they run in a container, where nothing else does. It is no failure where
/// that cannot be.
///
/// **Source:** DET-4, L-26.
pub fn mark() {
    if !Path::new(OTHER_MARKER).exists() {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let _ = openat(CWD, MARKER, flags, Mode::from_raw_mode(0o644));
    }
}

#[cfg(test)]
mod tests {
    use super::{OldScandir, RuntimeDirectories, fallback};
    use gatevisor_sys::user::User;
    use std::fs;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    fn make(directories: &RuntimeDirectories, agent: Option<&User>) {
        if let OldScandir::Stays(_) = directories.begin(agent).unwrap() {
            let report = directories.clear(agent).unwrap();
            assert_eq!(report.problems, []);
        }
        directories.finish(agent).unwrap();
    }

    #[test]
    fn places_are_made_anew_and_the_scandir_empty() {
        let root = tempfile::tempdir().unwrap();
        let directories = RuntimeDirectories::below(root.path());
        make(&directories, None);
        fs::create_dir_all(directories.scandir.join(".gateway-x.tmp/sub")).unwrap();
        fs::write(directories.scandir.join("file"), "").unwrap();
        std::os::unix::fs::symlink(root.path().join("s6"), directories.scandir.join("link")).unwrap();
        make(&directories, None);
        let names: Vec<_> =
            fs::read_dir(&directories.scandir).unwrap().map(|e| e.unwrap().file_name()).collect();
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
        let directories = RuntimeDirectories::below(root.path());
        let agent = gatevisor_sys::user::lookup(b"10000").unwrap();
        make(&directories, Some(&agent));
        let scandir = fs::metadata(&directories.scandir).unwrap();
        assert_eq!((scandir.uid(), scandir.mode() & 0o777), (10_000, 0o755));
        let svscan = fs::metadata(directories.scandir.join(".s6-svscan")).unwrap();
        assert_eq!((svscan.uid(), svscan.mode() & 0o777), (0, 0o755));
        let control = fs::metadata(directories.scandir.join(".s6-svscan/control")).unwrap();
        assert!(control.file_type().is_fifo());
        assert_eq!((control.uid(), control.gid(), control.mode() & 0o777), (0, 10_000, 0o620));
    }

    #[test]
    fn what_the_agent_left_where_the_places_are_is_put_aside_and_nothing_elsewhere_is_touched() {
        if !rustix::process::geteuid().is_root() {
            println!("not shown: only root can give things away");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let run = root.path().join("run");
        let directories = RuntimeDirectories::below(&run);
        let agent = gatevisor_sys::user::lookup(b"10000").unwrap();
        let precious = root.path().join("precious");
        fs::create_dir_all(precious.join("inner")).unwrap();
        fs::write(precious.join("file"), "precious").unwrap();
        for place in ["service", "s6"] {
            make(&directories, Some(&agent));
            fs::rename(run.join(place), run.join(format!("moved-{place}"))).unwrap();
            std::os::unix::fs::symlink(&precious, run.join(place)).unwrap();
            make(&directories, Some(&agent));
            assert!(fs::symlink_metadata(run.join(place)).unwrap().is_dir());
            assert_eq!(fs::read(precious.join("file")).unwrap(), b"precious");
            assert_eq!(fs::read_dir(&precious).unwrap().count(), 2);
            assert_eq!(fs::metadata(&precious).unwrap().uid(), 0);
        }
        // Nor does a link in the scandir lead anywhere.
        fs::create_dir(directories.scandir.join("slot")).unwrap();
        std::os::unix::fs::symlink(&precious, directories.scandir.join("slot/data")).unwrap();
        std::os::unix::fs::symlink(&precious, directories.scandir.join("link")).unwrap();
        make(&directories, Some(&agent));
        assert_eq!(fs::read_dir(&precious).unwrap().count(), 2);
        assert_eq!(fs::read_dir(&directories.scandir).unwrap().count(), 1);
    }

    #[test]
    fn whatever_is_left_in_the_scandir_or_beside_it_the_places_are_made() {
        let root = tempfile::tempdir().unwrap();
        let directories = RuntimeDirectories::below(root.path());
        make(&directories, None);
        // Deeper than what is removed.
        fs::create_dir_all(directories.scandir.join(["d"; 600].join("/"))).unwrap();
        make(&directories, None);
        assert_eq!(fs::read_dir(&directories.scandir).unwrap().count(), 1);
        // Every name that could be known beforehand.
        for attempt in 0..20 {
            fs::create_dir_all(root.path().join(format!(".service.{attempt}.not-ours/full"))).unwrap();
        }
        fs::remove_dir_all(&directories.scandir).unwrap();
        std::os::unix::fs::symlink("/nowhere", &directories.scandir).unwrap();
        make(&directories, None);
        assert!(fs::symlink_metadata(&directories.scandir).unwrap().is_dir());
    }

    #[test]
    fn many_things_in_the_scandir_are_all_removed() {
        let root = tempfile::tempdir().unwrap();
        let directories = RuntimeDirectories::below(root.path());
        make(&directories, None);
        for n in 0..1000 {
            fs::create_dir_all(directories.scandir.join(format!("s{n}/event"))).unwrap();
            fs::write(directories.scandir.join(format!("s{n}/run")), "").unwrap();
        }
        fs::create_dir_all(directories.scandir.join("a/".repeat(300))).unwrap();
        make(&directories, None);
        assert_eq!(fs::read_dir(&directories.scandir).unwrap().count(), 1);
    }

    #[test]
    fn what_was_in_the_scandir_is_moved_aside_in_one_step_and_removed_afterwards() {
        let root = tempfile::tempdir().unwrap();
        let directories = RuntimeDirectories::below(root.path());
        assert_eq!(directories.begin(None).unwrap(), OldScandir::None);
        directories.finish(None).unwrap();
        fs::create_dir_all(directories.scandir.join("slot/event")).unwrap();
        fs::create_dir(root.path().join(".service.mine")).unwrap();
        assert_eq!(directories.begin(None).unwrap(), OldScandir::Aside);
        directories.finish(None).unwrap();
        assert_eq!(fs::read_dir(&directories.scandir).unwrap().count(), 1);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 4);
        directories.remove_old(|_| true);
        let mut left: Vec<_> =
            fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".service.mine", "s6", "service"]);
    }

    #[test]
    fn a_scandir_that_cannot_be_renamed_is_cleared_entry_by_entry() {
        let root = tempfile::tempdir().unwrap();
        let directories = RuntimeDirectories::below(root.path());
        make(&directories, None);
        fs::create_dir_all(directories.scandir.join("slot/event")).unwrap();
        fs::write(directories.scandir.join("file"), "").unwrap();
        let report = directories.clear(None).unwrap();
        assert_eq!((report.progress.changed, report.problems), (3, Vec::new()));
        assert_eq!(fs::read_dir(&directories.scandir).unwrap().count(), 0);
        directories.remove_old(|_| true);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_scandir_that_cannot_be_cleared_is_replaced_by_one_elsewhere_and_a_link_leads_to_it() {
        let root = tempfile::tempdir().unwrap();
        let mut directories = RuntimeDirectories::below(root.path());
        make(&directories, None);
        directories.move_elsewhere().unwrap();
        directories.finish(None).unwrap();
        assert!(directories.scandir.join(".s6-svscan").is_dir());
        assert_eq!(fs::read_link(root.path().join("s6/scandir")).unwrap(), directories.scandir);
        let again = RuntimeDirectories::below(root.path());
        make(&again, None);
        assert!(fs::symlink_metadata(root.path().join("s6/scandir")).is_err());
        // What the last life had there is removed as well.
        let elsewhere = directories.scandir.parent().unwrap();
        again.remove_old(|_| true);
        assert_eq!(fs::read_dir(elsewhere).unwrap().count(), 0);
    }

    #[test]
    fn a_runtime_directory_of_another_user_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let path = fallback(temporary.path()).unwrap();
        assert_eq!(fallback(temporary.path()).unwrap(), path);
        fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("/", &path).unwrap();
        fallback(temporary.path()).unwrap_err();
    }
}
