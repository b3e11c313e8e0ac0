//! The files of a log directory: their names and modes, and opening, sealing and examining one.
//!
//! *Lives here:* operations on one file.
//! *Does not live here:* the order of operations (`log_dir`, `archives`).

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use gatevisor_paths::by_path;
use rustix::fs::{AtFlags, Mode, OFlags, SeekFrom, StatxFlags, fchmod, fsync, mkdirat, statx};
use rustix::io::{Errno, read};

use super::error::{DirError, DirStep};

pub(super) const CURRENT: &str = "current";
/// The name of a full file until a processor has made an archive of it.
pub(super) const PREVIOUS: &str = "previous";
/// Mode of a `current` that is being written.
pub(super) const OPEN_MODE: Mode = Mode::from_raw_mode(0o644);
/// Mode of a file that was synced and closed; the owner's execute bit shows it.
pub(super) const CLOSED_MODE: Mode = Mode::from_raw_mode(0o744);
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);

/// Syncs a file and marks it as closed cleanly.
pub(super) fn seal(file: &OwnedFd) -> Result<(), DirError> {
    match fsync(file) {
        // Some file systems have nothing to sync.
        Ok(()) | Err(Errno::INVAL | Errno::NOTSUP) => {}
        Err(errno) => return Err(DirError::at(DirStep::Sync)(errno)),
    }
    fchmod(file, CLOSED_MODE).map_err(DirError::at(DirStep::Seal))
}

pub(super) fn ends_with_newline(file: &OwnedFd) -> bool {
    let mut last = [0];
    let found = rustix::fs::seek(file, SeekFrom::End(-1)).and_then(|_| read(file, &mut last));
    found == Ok(1) && last == *b"\n"
}

/// Returns when a file was created, in seconds since 1970, if the file system knows it.
pub(super) fn created_at(file: &OwnedFd) -> Option<i64> {
    let found = statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BTIME).ok()?;
    StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME).then_some(found.stx_btime.tv_sec)
}

pub(super) fn is_regular(stat: &rustix::fs::Stat) -> bool {
    rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file()
}

/// Makes the directory `path` and its missing parents.
pub(super) fn make_directories(base: BorrowedFd<'_>, path: &Path) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    // A path that ends with `..` or is `/` has no last component that could be made.
    let Some(name) = path.file_name() else { return by_path::open_from(base, path, flags).map(drop) };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let above = match by_path::open_from(base, parent, flags) {
        Err(Errno::NOENT) => {
            make_directories(base, parent)?;
            by_path::open_from(base, parent, flags)
        }
        found => found,
    };
    match mkdirat(above?, name, DIRECTORY_MODE) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}
