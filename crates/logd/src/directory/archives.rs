//! The other files of a log directory: its archives, and the leftovers of a writer that did not
//! close cleanly.
//!
//! *Lives here:* listing, naming and deleting archives; archiving leftovers.
//! *Does not live here:* which archives are deleted (`rotation`), and compressing them
//! (`compress`).

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use gatevisor_sys::file;
use gatevisor_wire::log_directory::{Archive, COMPRESSED};
use gatevisor_wire::tai::Tai64n;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, ftruncate, openat, statat, unlinkat};
use rustix::io::Errno;

use super::files::{CURRENT, OPEN_MODE, PREVIOUS, is_regular};
use super::keeper::Keeper;
use super::limits::LogLimits;
use super::rotation::{Stored, surplus};

/// Returns the archives in a directory that count, unordered. An archive that exists in two forms
/// counts as one.
fn stored(directory: impl AsFd, keeper: Keeper) -> Result<Vec<Stored>, Errno> {
    let directory = directory.as_fd();
    let mut sizes: BTreeMap<Archive, u64> = BTreeMap::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let Some((archive, is_compressed)) = Archive::parse_file(entry.file_name().to_bytes()) else {
            continue;
        };
        if is_compressed && !keeper.counts_compressed() {
            continue;
        }
        let size = match statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => u64::try_from(stat.st_size).unwrap_or(0),
            // The compressor removes the plain form when it has finished.
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        };
        let sum = sizes.entry(archive).or_default();
        *sum = sum.saturating_add(size);
    }
    Ok(sizes.into_iter().map(|(archive, size)| Stored { archive, size }).collect())
}

/// Returns the name of the next archive of a directory.
pub(super) fn next_archive(directory: &OwnedFd, now: Tai64n, safe: bool) -> Result<Archive, Errno> {
    let mut present = Vec::new();
    for entry in Dir::read_from(directory)? {
        present.extend(Archive::parse_file(entry?.file_name().to_bytes()).map(|(archive, _)| archive));
    }
    Ok(Archive::next(now, &present, safe))
}

/// Deletes surplus archives. If one cannot be deleted, the next rotation tries again.
pub(super) fn trim(directory: &OwnedFd, keeper: Keeper, limits: LogLimits) -> Result<(), Errno> {
    for Stored { archive, .. } in surplus(&mut stored(directory, keeper)?, limits.keep, limits.total) {
        let name = archive.name();
        let _ = unlinkat(directory, &name, AtFlags::empty());
        if keeper.counts_compressed() {
            // It may be created while the plain form is being deleted. Then the next rotation
            // deletes it.
            let _ = unlinkat(directory, format!("{name}{COMPRESSED}"), AtFlags::empty());
        }
    }
    Ok(())
}

/// Archives the leftovers of a writer that did not close cleanly.
pub(super) fn recover(
    directory: &OwnedFd,
    keeper: Keeper,
    limits: LogLimits,
    now: Tai64n,
) -> Result<(), Errno> {
    if look(directory, CURRENT)?.is_some_and(|found| found.closed) {
        return Ok(());
    }
    forget(directory, "newstate")?;
    if look(directory, "processed")?.is_some_and(|found| found.closed) {
        // The processor had finished, so its output replaces `previous`.
        forget(directory, PREVIOUS)?;
        put_away(directory, "processed", true, keeper, now)?;
    } else {
        forget(directory, "processed")?;
        put_away(directory, PREVIOUS, false, keeper, now)?;
    }
    put_away(directory, CURRENT, false, keeper, now)?;
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match openat(directory, "state", flags | OFlags::CREATE | OFlags::EXCL, OPEN_MODE) {
        Err(Errno::EXIST) => ftruncate(file::open_own(directory, "state", flags)?, 0)?,
        made => drop(made?),
    }
    trim(directory, keeper, limits)
}

struct Found {
    closed: bool,
    empty: bool,
    linked_elsewhere: bool,
}

fn look(directory: &OwnedFd, name: &str) -> Result<Option<Found>, Errno> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Found {
            closed: is_regular(&stat) && Mode::from_raw_mode(stat.st_mode).contains(Mode::XUSR),
            empty: stat.st_size == 0,
            linked_elsewhere: stat.st_nlink > 1,
        })),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Renames a file to an archive, or removes it if it is not worth an archive or has an archive's
/// name already.
pub(super) fn put_away(
    directory: &OwnedFd,
    name: &str,
    safe: bool,
    keeper: Keeper,
    now: Tai64n,
) -> Result<(), Errno> {
    match look(directory, name)? {
        None => Ok(()),
        // s6-log links before it unlinks, so a second link is the archive.
        Some(found) if found.linked_elsewhere || found.empty && !keeper.keeps_empty_files() => {
            forget(directory, name)
        }
        Some(_) => {
            let archive = next_archive(directory, now, safe)?;
            rustix::fs::renameat(directory, name, directory, archive.name())
        }
    }
}

fn forget(directory: &OwnedFd, name: &str) -> Result<(), Errno> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use crate::directory::{LogDir, LogLimits};
    use gatevisor_slot::Compress;
    use gatevisor_wire::tai::Tai64n;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const LIMITS: LogLimits =
        LogLimits { size: 20, keep: 3, total: u64::MAX, period_s: None, compress: Compress::None };

    fn at(seconds: i64) -> Tai64n {
        Tai64n::from_unix(seconds, 0)
    }

    #[test]
    fn a_current_that_is_a_second_name_of_somebody_elses_file_is_left_alone() {
        if !rustix::process::geteuid().is_root() {
            println!("not shown: only root can give files to others");
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let (victim, path) = (temp.path().join("victim"), temp.path().join("log"));
        fs::create_dir(&path).unwrap();
        for name in ["current", "state"] {
            fs::write(&victim, b"kept").unwrap();
            fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
            fs::hard_link(&victim, path.join(name)).unwrap();
            std::os::unix::fs::lchown(&path, Some(12_345), Some(12_345)).unwrap();
            // Leftovers may be archived under another name; a directory that cannot be used is an
            // error.
            if let Ok(mut dir) = LogDir::open(rustix::fs::CWD, &path, LIMITS, at(1000)) {
                dir.write(b"line\n", at(1)).unwrap();
            }
            assert_eq!(
                (fs::read(&victim).unwrap(), fs::metadata(&victim).unwrap().permissions().mode() & 0o7777),
                (b"kept".to_vec(), 0o600),
                "{name}"
            );
            fs::remove_dir_all(&path).unwrap();
            fs::create_dir(&path).unwrap();
        }
    }
}
