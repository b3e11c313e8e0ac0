//! Opening the end of a whole path: replaces the functions of `std::fs` if others own directories
//! on the way.
//!
//! *Lives here:* finding, looking at, listing and watching the end of a path from `/` or from the
//! working directory.
//! *Does not live here:* paths below a descriptor (`resolve`), and homes, whose owner matters, too
//! (`home`).
//!
//! The owner of a directory on the way can put a link or a mount there. Root follows only links
//! that are root's or belong to the owner of their target, as a supervisor does, and enters no file
//! system that a user's program serves. Any other process has only its own user's rights to lose,
//! and goes wherever the path leads.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf, absolute};

use gatevisor_sys::inotify::{Inotify, WatchFlags};
use gatevisor_sys::refused;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, chmodat, openat, readlinkat};
use rustix::io::Errno;

use crate::held;
pub use crate::held::{HeldDirectories, hold};
use crate::look::{FileInfo, glance, look as look_at};
use crate::resolve::{Links, Mounts, ResolveError, Resolver, without_waiting};

/// Returns which links and mounts this process may follow on such a path and below its end.
pub fn rules() -> Resolver {
    rules_of(held::is_root())
}

const fn rules_of(root: bool) -> Resolver {
    if root {
        Resolver::READING.following(Links::RootsOrOwnersOfTarget)
    } else {
        Resolver::READING.following(Links::All).crossing(Mounts::All)
    }
}

/// Opens the end of a path. `flags` must not make anything; with `O_PATH` and `O_NOFOLLOW` a link
/// itself is opened.
///
/// # Errors
/// The kernel's error, or the one that [`ResolveError::errno`] gives for a refusal.
pub fn open(path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = path.as_ref();
    if let Some(begin) = held::begin(path) {
        return rules_of(true).from(begin.as_fd(), begin.rest, flags).map_err(|error| error.errno());
    }
    if !held::is_root() {
        let opened = openat(CWD, path, without_waiting(flags), Mode::empty());
        return refused::of_path(opened, path);
    }
    let whole = absolute(path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
    rules_of(true).from_root(&whole, flags).map_err(|error: ResolveError| error.errno())
}

/// Does the same as [`open`] for a path that begins at a directory unless it is absolute.
pub fn open_from(base: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    if path.is_absolute() {
        return open(path, flags);
    }
    if !held::is_root() {
        let opened = openat(&base, path, without_waiting(flags), Mode::empty());
        return refused::below(opened, &base, path);
    }
    rules_of(true).from(base.as_fd(), path, flags).map_err(|error: ResolveError| error.errno())
}

/// Returns a descriptor (`O_PATH`) of the directory at a path.
pub fn directory(path: impl AsRef<Path>) -> Result<OwnedFd, Errno> {
    open(path, OFlags::PATH | OFlags::DIRECTORY)
}

/// Returns a descriptor (`O_PATH`) of the directory that holds a path's last component, and that
/// component.
pub fn parent(path: &Path) -> Result<(OwnedFd, &OsStr), Errno> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    directory(parent.unwrap_or(Path::new("."))).map(|parent| (parent, name))
}

/// Looks at the end of a path, and follows links.
pub fn look(path: impl AsRef<Path>) -> io::Result<FileInfo> {
    Ok(look_at(open(path, OFlags::PATH)?)?)
}

/// Looks at the end of a path; if it is a link, at the link itself.
pub fn look_itself(path: impl AsRef<Path>) -> io::Result<FileInfo> {
    Ok(look_at(open(path, OFlags::PATH | OFlags::NOFOLLOW)?)?)
}

/// Returns the kernel's present path of an opened file.
///
/// # Errors
/// There is no `/proc`.
pub fn path_of(opened: impl AsFd) -> io::Result<PathBuf> {
    let link = readlinkat(CWD, proc_name(&opened), Vec::new())?;
    Ok(OsString::from_vec(link.into_bytes()).into())
}

/// Returns whether a path leads to a directory, following only what this process may follow.
pub fn is_directory(path: impl AsRef<Path>) -> bool {
    directory(path).is_ok()
}

/// Returns the names in the directory at a path, each with the kind that it had when it was listed.
pub fn names(path: impl AsRef<Path>) -> io::Result<Vec<(OsString, FileType)>> {
    names_in(open(path, OFlags::RDONLY | OFlags::DIRECTORY)?)
}

/// Returns the names in a directory that was opened to be read, each with the kind that it had when
/// it was listed.
pub fn names_in(directory: OwnedFd) -> io::Result<Vec<(OsString, FileType)>> {
    let mut names = Vec::new();
    let mut listed = Dir::new(directory)?;
    while let Some(entry) = listed.read() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if ![&b"."[..], b".."].contains(&name) {
            names.push((OsStr::from_bytes(name).to_owned(), entry.file_type()));
        }
    }
    // Some file systems do not tell the kind in their lists.
    let unknown = names.iter_mut().filter(|(_, kind)| *kind == FileType::Unknown);
    for (name, kind) in unknown {
        *kind = glance(listed.fd()?, &**name).map_or(FileType::Unknown, |found| found.kind());
    }
    Ok(names)
}

/// Watches the end of a path; with `DONT_FOLLOW`, a link itself.
///
/// # Errors
/// Those of [`open`]; for root also `ENOENT` if there is no `/proc`.
pub fn watch(inotify: &Inotify, path: impl AsRef<Path>, flags: WatchFlags) -> Result<i32, Errno> {
    let path = path.as_ref();
    if !held::is_root() {
        return refused::of_path(inotify.add_by_path(path, flags), path);
    }
    let no_link = if flags.contains(WatchFlags::DONT_FOLLOW) { OFlags::NOFOLLOW } else { OFlags::empty() };
    let only = if flags.contains(WatchFlags::ONLYDIR) { OFlags::DIRECTORY } else { OFlags::empty() };
    watch_opened(inotify, open(path, OFlags::PATH | no_link | only)?, flags)
}

/// Watches an opened file, which may be closed afterwards.
///
/// # Errors
/// `ENOENT` if there is no `/proc`.
pub fn watch_opened(inotify: &Inotify, opened: impl AsFd, flags: WatchFlags) -> Result<i32, Errno> {
    inotify.add_by_path(proc_name(&opened), flags.difference(WatchFlags::DONT_FOLLOW))
}

/// Changes the permissions of an opened file, also of one opened with `O_PATH`, for example because
/// it is closed to us.
///
/// # Errors
/// `ENOENT` if there is no `/proc`.
pub fn change_mode(opened: impl AsFd, mode: Mode) -> Result<(), Errno> {
    chmodat(CWD, proc_name(&opened), mode, AtFlags::empty())
}

/// Returns a name of an opened file, for calls that take only names. The look-up asks nobody but
/// the kernel.
fn proc_name(opened: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", opened.as_fd().as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::geteuid;
    use std::fs;
    use std::os::unix::fs::{lchown, symlink};

    #[test]
    fn root_is_led_by_links_of_its_own_and_of_the_owner_of_their_target_and_by_no_others() {
        if !geteuid().is_root() {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let agent = 54_321;
        let [roots, agents, slot] = ["roots", "agents", "slot"].map(|name| temp.path().join(name));
        for made in [&roots, &agents, &slot] {
            fs::create_dir(made).unwrap();
        }
        lchown(&agents, Some(agent), Some(agent)).unwrap();
        let link = |target: &Path, owner: u32| {
            let at = slot.join("event");
            let _ = fs::remove_file(&at);
            symlink(target, &at).unwrap();
            lchown(&at, Some(owner), Some(owner)).unwrap();
            directory(&at)
        };
        assert_eq!(link(&roots, agent).unwrap_err(), Errno::LOOP);
        assert!(link(&roots, 0).is_ok() && link(&agents, 0).is_ok() && link(&agents, agent).is_ok());
        // Neither is such a link followed, nor the same path spelt differently.
        assert_eq!(link(temp.path(), agent).unwrap_err(), Errno::LOOP);
        assert_eq!(directory(slot.join("event/roots")).unwrap_err(), Errno::LOOP);
        assert_eq!(parent(&slot.join("event/roots/file")).unwrap_err(), Errno::LOOP);
        assert!(directory(slot.join("../roots")).is_ok());
        assert_eq!(directory(slot.join("../slot/event")).unwrap_err(), Errno::LOOP);
        assert!(directory(Path::new("/")).is_ok() && directory(Path::new(".")).is_ok());
    }

    #[test]
    fn a_path_through_links_of_proc_leads_root_nowhere_and_anybody_else_where_it_leads() {
        let ours = format!("/proc/{}/cwd", std::process::id());
        let found =
            [directory(&ours).map(drop), look(format!("{ours}/.")).map(drop).map_err(|_| Errno::LOOP)];
        let expected = if geteuid().is_root() { Err(Errno::LOOP) } else { Ok(()) };
        assert_eq!(found, [expected, expected]);
        // Files about processes are no way to another place.
        assert!(look(format!("/proc/{}/stat", std::process::id())).is_ok() && is_directory("/proc"));
    }

    #[test]
    fn a_link_itself_is_looked_at_and_listed_and_not_watched() {
        let temp = tempfile::tempdir().unwrap();
        let (target, link) = (temp.path().join("target"), temp.path().join("link"));
        fs::create_dir(&target).unwrap();
        symlink(&target, &link).unwrap();
        assert!(look_itself(&link).unwrap().is_link() && look(&link).unwrap().is_directory());
        assert!(is_directory(&link) && !is_directory(temp.path().join("none")));
        let mut names = names(temp.path()).unwrap();
        names.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(names, [("link".into(), FileType::Symlink), ("target".into(), FileType::Directory)]);
        let inotify = Inotify::new().unwrap();
        let itself = WatchFlags::CREATE | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        assert!(watch(&inotify, &link, itself).is_err());
        assert_eq!(watch(&inotify, &link, WatchFlags::CREATE), watch(&inotify, &target, itself));
        assert!(open(&link, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW).is_err());
    }
}
