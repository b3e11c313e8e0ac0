//! *Lives here:* the state of directories: whether they can be written to, how much room they have,
//! who owns them.
//!
//! *Does not live here:* how it should be.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use gatevisor_paths::by_path;
use rustix::fs::fstatvfs;
use rustix::io::Errno;

use crate::facts::{Disk, OwnedEntry, ProfileFact, Refused};
use gatevisor_gateways::manager::ScandirManager;
use gatevisor_gateways::nameless_file;
use gatevisor_gateways::profile::ProfileName;

/// The bytes of a test write that shows whether there is any room.
const PAGE: usize = 4096;
/// The most profile directories that are looked at.
const MOST: usize = 10_000;
/// Directories of a container that are in memory, with everything on them beside the scandir.
const RUN: &str = "/run";

/// Returns why nothing can be written in a directory. A full disk does not count.
pub(super) fn refused(directory: &Path) -> Option<Refused> {
    let error = nameless_file(directory).err()?;
    (!is_full(&error)).then(|| why(&error))
}

/// Returns the words of an error, and whether the whole file system is read-only.
pub(super) fn why(error: &io::Error) -> Refused {
    Refused { why: error.to_string(), is_read_only: Errno::from_io_error(error) == Some(Errno::ROFS) }
}

/// Returns whether there is nothing at a path.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn is_full(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(gatevisor_sys::file::is_full)
}

/// Returns the file systems of the home, of the scandir, and of a container's `/run`, each once.
pub(super) fn disks(manager: &ScandirManager, is_container: bool) -> Vec<Disk> {
    let run = is_container.then(|| Path::new(RUN));
    let mut seen = BTreeSet::new();
    let mut disks = Vec::new();
    for path in [manager.home().root(), manager.scandir()].into_iter().chain(run) {
        // A directory that does not exist yet will be on the disk of its nearest existing parent.
        let found = path.ancestors().find_map(|path| Some((path, by_path::look(path).ok()?)));
        let Some((path, found)) = found else { continue };
        if seen.insert(found.device) {
            disks.extend(disk(path));
        }
    }
    disks
}

fn disk(path: &Path) -> Option<Disk> {
    let all = by_path::directory(path).and_then(fstatvfs).ok()?;
    let written = nameless_file(path).and_then(|file| Ok(gatevisor_sys::file::write_all(&file, &[0; PAGE])?));
    Some(Disk {
        path: path.to_owned(),
        bytes: all.f_blocks.saturating_mul(all.f_frsize),
        bytes_left: all.f_bavail.saturating_mul(all.f_frsize),
        files: all.f_files,
        files_left: all.f_favail,
        is_full: written.is_err_and(|error| is_full(&error)),
    })
}

/// Returns the owners of the known entries of a home; directories come first, so that a tree comes
/// before its contents.
pub(super) fn entries(manager: &ScandirManager, profiles: &[ProfileFact], groups: &[u32]) -> Vec<OwnedEntry> {
    let root = manager.home().root();
    let mut paths: Vec<(PathBuf, Option<&ProfileName>)> = vec![
        (root.to_owned(), None),
        (manager.home().profiles_dir(), None),
        (root.join(&manager.agent().gateway.boot_log), None),
    ];
    for profile in profiles {
        let name = Some(&profile.name);
        paths.push((profile.home.clone(), name));
        paths.extend(profile.environment.iter().map(|file| (file.path.clone(), name)));
        paths.push((profile.state_file.clone(), name));
        if let Some(log) = &profile.log {
            // The directories on the way to it count as well, because they are made with it.
            let way = log.path.ancestors().skip(1).take_while(|path| path.starts_with(root) && *path != root);
            paths.extend(way.map(|path| (path.to_owned(), None)));
            paths.push((log.path.clone(), name));
            paths.push((log.path.join("current"), name));
        }
    }
    // A directory into which its owner may not look is not known to be a profile; a directory with
    // an impossible name is not our concern, whoever made it.
    let profiles_dir = manager.home().profiles_dir();
    let below = by_path::names(&profiles_dir).unwrap_or_default().into_iter().take(MOST);
    let closed: Vec<_> = below
        .filter(|(_, kind)| kind.is_dir())
        .filter_map(|(name, _)| Some((profiles_dir.join(&name), ProfileName::from_os(&name).ok()?)))
        .collect();
    paths.extend(closed.iter().map(|(path, name)| (path.clone(), Some(name))));
    let mut seen = BTreeSet::new();
    let mut entries: Vec<OwnedEntry> = paths
        .into_iter()
        .filter(|(path, _)| seen.insert(path.clone()))
        .filter_map(|(path, profile)| entry(root, path, profile.cloned(), groups))
        .collect();
    entries.sort_by_key(|entry| entry.path.components().count());
    entries
}

fn entry(root: &Path, path: PathBuf, profile: Option<ProfileName>, groups: &[u32]) -> Option<OwnedEntry> {
    // The root of the home may be a link on purpose. Below it, the link itself counts.
    let found = if path == root { by_path::look(&path) } else { by_path::look_itself(&path) }.ok()?;
    let needed = if found.is_directory() { 0o070 } else { 0o060 };
    let is_shared = !found.is_link() && found.mode & needed == needed && groups.contains(&found.gid);
    let is_directory = found.is_directory();
    Some(OwnedEntry { path, profile, owner: (found.uid, found.gid), is_directory, is_shared })
}

/// Returns whether everybody can reach a file: whether each directory on the way lets them through.
pub(super) fn is_reachable(file: &Path) -> bool {
    let way = file.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty());
    way.into_iter().all(|path| by_path::look(path).is_ok_and(|found| found.mode & 0o001 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn trying_to_write_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(refused(dir.path()), None);
        assert!(disk(dir.path()).is_some_and(|disk| !disk.is_full && disk.bytes > 0));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let missing = refused(&dir.path().join("missing")).unwrap();
        assert!(!missing.is_read_only && missing.why.contains("No such file"), "{missing:?}");
        // A file that the kernel generates cannot be written for another reason.
        assert!(refused(Path::new("/proc/self")).is_some());
    }

    #[test]
    fn a_file_behind_a_closed_door_is_not_reachable() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a/file");
        fs::create_dir(dir.path().join("a")).unwrap();
        for path in [dir.path(), &dir.path().join("a")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let was = is_reachable(&file);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!is_reachable(&file));
        // The directory of temporary files may itself be closed to others.
        assert_eq!(was, is_reachable(dir.path()));
    }
}
