//! Where the container's run-time files are, and making them anew.
//!
//! *Lives here:* the directories that s6-overlay has too, and the scandir as an unprivileged user can control it.
//! *Does not live here:* what is in the scandir.
//!
//! **Source:** B.1, PERM-2, PERM-3, L-13, L-21.

use std::ffi::CString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use gatevisor_sys::{Errno, clock, file, user::User};
use gatevisor_wire::files;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, fchmod, fchown, fstat, mkdirat,
    mknodat, openat, renameat, unlinkat,
};
use rustix::process::geteuid;

/// Where s6-overlay's own files are.
const TOP: &str = "s6";
/// Where, in that, s6-overlay's base directory is, by which the agent's own command line tells that there is a supervisor.
const BASE: &str = "basedir";
/// Where the container's environment is.
const ENVIRONMENT: &str = "s6/container_environment";
/// Where the scandir is.
const SERVICES: &str = "service";
/// Tells programs that they run in a container.
const MARKER: &str = "/run/.containerenv";
/// What tells so too.
const OTHER_MARKER: &str = "/.dockerenv";
/// Times that something else is put aside before a directory's place is given up.
const TRIES: u32 = 16;
/// Directories in each other that are removed at the most: each holds a descriptor.
const DEEPEST: usize = 400;

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
    /// A container that is started again finds what the agent left, who may have put a link or anything else where these
    /// are. So each is opened without following links, and what is not a directory of ours, or the agent's scandir, is
    /// put aside.
    ///
    /// # Errors
    /// A directory cannot be made or written to.
    pub fn make(&self, agent: Option<&User>) -> io::Result<()> {
        fs::create_dir_all(&self.root)?;
        let root = file::open_directory(CWD, &self.root)?;
        let ours = geteuid().as_raw();
        // An image leaves them to everybody for the case that it is not started by root; what is root's is no trap.
        let trusted = [0, ours];
        let top = own_directory(&root, TOP, &trusted)?;
        if agent.is_some() {
            fchmod(&top, Mode::from_raw_mode(0o755))?;
        }
        own_directory(&top, BASE, &trusted)?;
        let owners: Vec<u32> = agent.map(|agent| agent.uid).into_iter().chain(trusted).collect();
        let mut scandir = own_directory(&root, SERVICES, &owners)?;
        if clear(&scandir).is_err() {
            // Whatever its owner left in it, the container starts.
            put_aside(&root, SERVICES)?;
            scandir = own_directory(&root, SERVICES, &owners)?;
            clear(&scandir)?;
        }
        let mode = Mode::from_raw_mode(if agent.is_some() { 0o755 } else { 0o700 });
        mkdirat(&scandir, files::SVSCAN, mode)?;
        let svscan = file::open_directory(&scandir, files::SVSCAN)?;
        if let Some(agent) = agent {
            if fstat(&svscan)?.st_uid != ours {
                return Err(Errno::PERM.into());
            }
            let own_group = Some(Gid::from_raw(agent.gid));
            mknodat(&svscan, "control", FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
            // Only we may write to this directory, so it is the one that was just made.
            chownat(&svscan, "control", None, own_group, AtFlags::SYMLINK_NOFOLLOW)?;
            // Who could read from it could take root's commands away.
            chmodat(&svscan, "control", Mode::from_raw_mode(0o620), AtFlags::empty())?;
            fchown(&scandir, Some(Uid::from_raw(agent.uid)), own_group)?;
            fchmod(&scandir, Mode::from_raw_mode(0o755))?;
        }
        Ok(())
    }
}

/// Opens the directory `name` of one of `owners`, and makes it where there is none.
///
/// What is there instead is renamed.
fn own_directory(parent: &OwnedFd, name: &str, owners: &[u32]) -> io::Result<OwnedFd> {
    for _ in 0..TRIES {
        match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        match file::open_directory(parent, name) {
            Ok(found) if owners.contains(&fstat(&found)?.st_uid) => return Ok(found),
            Ok(_) | Err(Errno::NOTDIR | Errno::LOOP) => put_aside(parent, name)?,
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(Errno::EXIST.into())
}

/// Gives what is in a place another name, unless that is taken.
fn put_aside(parent: &OwnedFd, name: &str) -> io::Result<()> {
    // Nobody who was there before could know it, and take all the names.
    let (seconds, nanos) = clock::wall();
    let aside = format!(".{name}.{seconds:x}{nanos:08x}.not-ours");
    match renameat(parent, name, parent, &aside) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::ISDIR | Errno::NOTDIR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes everything in a directory, through descriptors only.
///
/// # Errors
/// Directories in each other deeper than any slot has them, and what the kernel says.
fn clear(directory: &OwnedFd) -> io::Result<()> {
    /// A directory that is being emptied, its name in the one before, and whether this reading of it removed anything.
    struct Level(Dir, CString, bool);
    let mut open = vec![Level(Dir::read_from(directory)?, CString::default(), false)];
    while let Some(Level(entries, _, removed)) = open.last_mut() {
        let Some(entry) = entries.read() else {
            // What is removed may hide what is next, so a directory is empty when there was nothing to remove.
            if std::mem::take(removed) {
                entries.rewind();
                continue;
            }
            let emptied = open.pop().map(|Level(_, name, _)| name);
            if let (Some(name), Some(Level(parent, _, removed))) = (emptied, open.last_mut()) {
                unlinkat(parent.fd()?, name, AtFlags::REMOVEDIR)?;
                *removed = true;
            }
            continue;
        };
        let entry = entry?;
        let name = entry.file_name().to_owned();
        if name.as_c_str() == c"." || name.as_c_str() == c".." {
            continue;
        }
        let parent = entries.fd()?;
        match unlinkat(parent, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => *removed = true,
            Err(Errno::ISDIR | Errno::PERM) => {
                let inner = file::open_directory(parent, name.as_c_str())?;
                if open.len() >= DEEPEST {
                    return Err(Errno::MFILE.into());
                }
                open.push(Level(Dir::new(inner)?, name, false));
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
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

/// Tells programs that they run in a container, where nothing else does. It is no failure where that cannot be.
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
        let places = Places::below(&run);
        let agent = gatevisor_sys::user::lookup(b"10000").unwrap();
        let precious = root.path().join("precious");
        fs::create_dir_all(precious.join("inner")).unwrap();
        fs::write(precious.join("file"), "precious").unwrap();
        for place in ["service", "s6"] {
            places.make(Some(&agent)).unwrap();
            fs::rename(run.join(place), run.join(format!("moved-{place}"))).unwrap();
            std::os::unix::fs::symlink(&precious, run.join(place)).unwrap();
            places.make(Some(&agent)).unwrap();
            assert!(fs::symlink_metadata(run.join(place)).unwrap().is_dir());
            assert_eq!(fs::read(precious.join("file")).unwrap(), b"precious");
            assert_eq!(fs::read_dir(&precious).unwrap().count(), 2);
            assert_eq!(fs::metadata(&precious).unwrap().uid(), 0);
        }
        // Nor does a link in the scandir lead anywhere.
        fs::create_dir(places.scandir.join("slot")).unwrap();
        std::os::unix::fs::symlink(&precious, places.scandir.join("slot/data")).unwrap();
        std::os::unix::fs::symlink(&precious, places.scandir.join("link")).unwrap();
        places.make(Some(&agent)).unwrap();
        assert_eq!(fs::read_dir(&precious).unwrap().count(), 2);
        assert_eq!(fs::read_dir(&places.scandir).unwrap().count(), 1);
    }

    #[test]
    fn whatever_is_left_in_the_scandir_or_beside_it_the_places_are_made() {
        let root = tempfile::tempdir().unwrap();
        let places = Places::below(root.path());
        places.make(None).unwrap();
        // Deeper than what is removed.
        fs::create_dir_all(places.scandir.join(["d"; 600].join("/"))).unwrap();
        places.make(None).unwrap();
        assert_eq!(fs::read_dir(&places.scandir).unwrap().count(), 1);
        // Every name that could be known beforehand.
        for attempt in 0..20 {
            fs::create_dir_all(root.path().join(format!(".service.{attempt}.not-ours/full"))).unwrap();
        }
        fs::remove_dir_all(&places.scandir).unwrap();
        std::os::unix::fs::symlink("/nowhere", &places.scandir).unwrap();
        places.make(None).unwrap();
        assert!(fs::symlink_metadata(&places.scandir).unwrap().is_dir());
    }

    #[test]
    fn many_things_in_the_scandir_are_all_removed() {
        let root = tempfile::tempdir().unwrap();
        let places = Places::below(root.path());
        places.make(None).unwrap();
        for n in 0..1000 {
            fs::create_dir_all(places.scandir.join(format!("s{n}/event"))).unwrap();
            fs::write(places.scandir.join(format!("s{n}/run")), "").unwrap();
        }
        fs::create_dir_all(places.scandir.join("a/".repeat(300))).unwrap();
        places.make(None).unwrap();
        assert_eq!(fs::read_dir(&places.scandir).unwrap().count(), 1);
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
