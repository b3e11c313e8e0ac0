//! What is at the end of a whole path: the place of the functions of `std::fs` where others own what is on the way.
//!
//! *Lives here:* finding, looking at, listing and watching what a path from `/` or from the working directory leads to.
//! *Does not live here:* the way below a descriptor (`resolve`), and homes, which say whose they are besides (`home`).
//!
//! Whoever owns a directory on the way can put a link or a mount there. Root is led by links that are root's or belong to
//! the owner of what they lead to, as a supervisor is, and into no file system that a user answers for. Any other process
//! has only its own user's rights to lose, and goes wherever the path leads.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf, absolute};

use rustix::fs::inotify::{self, WatchFlags};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, chmodat, openat, readlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::look::{FileInfo, glance, look as look_at};
use crate::resolve::{Links, Mounts, ResolveError, Resolver, without_waiting};

/// Returns what this process may be led by, on such a path and below what it leads to.
pub fn rules() -> Resolver {
    rules_of(geteuid().is_root())
}

const fn rules_of(root: bool) -> Resolver {
    if root {
        Resolver::READING.following(Links::RootsOrOwnersOfTarget)
    } else {
        Resolver::READING.following(Links::All).crossing(Mounts::All)
    }
}

/// Opens what a path leads to. `flags` must not make anything; with `O_PATH` and `O_NOFOLLOW` a link is opened itself.
///
/// # Errors
/// The kernel's number, or the one that tells what [`ResolveError::errno`] says it does.
pub fn open(path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = path.as_ref();
    if !geteuid().is_root() {
        return openat(CWD, path, without_waiting(flags), Mode::empty());
    }
    let whole = absolute(path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
    rules_of(true).from_root(&whole, flags).map_err(|error: ResolveError| error.errno())
}

/// Opens what a path leads to from a directory, which it begins at unless it begins at `/`, as [`open`] does.
pub fn open_from(base: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    if path.is_absolute() {
        return open(path, flags);
    }
    if !geteuid().is_root() {
        return openat(base, path, without_waiting(flags), Mode::empty());
    }
    rules_of(true).from(base.as_fd(), path, flags).map_err(|error: ResolveError| error.errno())
}

/// Returns the directory at a path, held without being read.
pub fn directory(path: impl AsRef<Path>) -> Result<OwnedFd, Errno> {
    open(path, OFlags::PATH | OFlags::DIRECTORY)
}

/// Returns the directory that a path leads through last, held without being read, and the path's last component.
pub fn parent(path: &Path) -> Result<(OwnedFd, &OsStr), Errno> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    directory(parent.unwrap_or(Path::new("."))).map(|parent| (parent, name))
}

/// Looks at what a path leads to.
pub fn look(path: impl AsRef<Path>) -> io::Result<FileInfo> {
    Ok(look_at(open(path, OFlags::PATH)?)?)
}

/// Looks at what is called so itself, a link too.
pub fn look_itself(path: impl AsRef<Path>) -> io::Result<FileInfo> {
    Ok(look_at(open(path, OFlags::PATH | OFlags::NOFOLLOW)?)?)
}

/// Returns the path by which the kernel knows an opened file now.
///
/// # Errors
/// There is no `/proc`.
pub fn path_of(opened: impl AsFd) -> io::Result<PathBuf> {
    let link = readlinkat(CWD, proc_name(&opened), Vec::new())?;
    Ok(OsString::from_vec(link.into_bytes()).into())
}

/// Returns whether a path leads to a directory, as far as this process may be led.
pub fn is_directory(path: impl AsRef<Path>) -> bool {
    directory(path).is_ok()
}

/// Returns the names in the directory at a path, and what they were when they were listed.
pub fn names(path: impl AsRef<Path>) -> io::Result<Vec<(OsString, FileType)>> {
    names_in(open(path, OFlags::RDONLY | OFlags::DIRECTORY)?)
}

/// Returns the names in a directory that was opened to be read, and what they were when they were listed.
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
    // Some file systems do not say in their lists.
    let unknown = names.iter_mut().filter(|(_, kind)| *kind == FileType::Unknown);
    for (name, kind) in unknown {
        *kind = glance(listed.fd()?, &**name).map_or(FileType::Unknown, |found| found.kind());
    }
    Ok(names)
}

/// Watches what a path leads to; with `DONT_FOLLOW` no link that it ends with.
///
/// # Errors
/// Those of [`open`]; `ENOENT` for root, too, where there is no `/proc`.
pub fn watch(inotify: impl AsFd, path: impl AsRef<Path>, flags: WatchFlags) -> Result<i32, Errno> {
    let path = path.as_ref();
    if !geteuid().is_root() {
        return inotify::add_watch(inotify, path, flags);
    }
    let no_link = if flags.contains(WatchFlags::DONT_FOLLOW) { OFlags::NOFOLLOW } else { OFlags::empty() };
    let only = if flags.contains(WatchFlags::ONLYDIR) { OFlags::DIRECTORY } else { OFlags::empty() };
    watch_opened(inotify, open(path, OFlags::PATH | no_link | only)?, flags)
}

/// Watches what was opened, which may be closed afterwards.
///
/// # Errors
/// `ENOENT` where there is no `/proc`.
pub fn watch_opened(inotify: impl AsFd, opened: impl AsFd, flags: WatchFlags) -> Result<i32, Errno> {
    inotify::add_watch(inotify, proc_name(&opened), flags.difference(WatchFlags::DONT_FOLLOW))
}

/// Changes the permissions of an opened file, also of one that is only held (`O_PATH`), as what is closed to us can be.
///
/// # Errors
/// `ENOENT` where there is no `/proc`.
pub fn change_mode(opened: impl AsFd, mode: Mode) -> Result<(), Errno> {
    chmodat(CWD, proc_name(&opened), mode, AtFlags::empty())
}

/// Returns what an opened file is called where only a name will do; looking it up asks nobody but the kernel.
fn proc_name(opened: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", opened.as_fd().as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
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
        // Nor is it led through such a link, or by one with other words for the same way.
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
        // What the kernel tells of a process is no way to anywhere.
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
        let inotify = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
        let itself = WatchFlags::CREATE | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        assert!(watch(&inotify, &link, itself).is_err());
        assert_eq!(watch(&inotify, &link, WatchFlags::CREATE), watch(&inotify, &target, itself));
        assert!(open(&link, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW).is_err());
    }
}
