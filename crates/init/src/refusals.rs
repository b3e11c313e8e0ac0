//! Publishes why entries of the scandir are not supervised, and reports each reason once.
//!
//! *Lives here:* `.s6-svscan/refused/`, with one file for each refused name that holds the reason.
//! A client that asked for a rescan learns there that it would wait in vain: each scan that refuses
//! a name again touches its file.
//! *Does not live here:* the reasons, and which of them are remembered
//! (`gatevisor_core::refusals`).

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use gatevisor_core::refusals::{RefusalNews, RefusalRecords};
use gatevisor_sys::{Errno, file};
use gatevisor_wire::files;
use rustix::fs::{
    AtFlags, Mode, RawDir, Timespec, Timestamps, UTIME_NOW, fstat, mkdirat, unlinkat, utimensat,
};

use crate::stderr_log::say;

/// The directory, in `.s6-svscan`.
const REFUSED: &str = "refused";
/// The name of a file that is not complete yet. No entry with a leading dot is looked at.
const UNFINISHED: &str = ".new";
/// Everybody who may look into `.s6-svscan` may know.
const DIRECTORY_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// The refused names, and the directory in which they are published.
#[derive(Debug)]
pub(crate) struct RefusedNames {
    /// Only we may write there, so nobody can redirect a name in it.
    directory: Option<OwnedFd>,
    records: RefusalRecords,
}

impl RefusedNames {
    /// Returns an empty list, and removes the files of an earlier supervisor in this `.s6-svscan`.
    pub(crate) fn new(svscan: &OwnedFd) -> Self {
        let directory = match open(svscan) {
            Ok(directory) => Some(directory),
            Err(errno) => {
                say!(
                    "warning: cannot use `{}`: {errno}; why an entry is refused is only said here",
                    files::SVSCAN_REFUSED
                );
                None
            }
        };
        Self { directory, records: RefusalRecords::default() }
    }

    /// Notes that a name, whose entry belongs to `owner`, is refused; reports it unless the reason
    /// is the same as before.
    ///
    /// Returns false if there are too many refusals to keep the reason.
    pub(crate) fn refuse(&mut self, name: &[u8], reason: &str, owner: u32) -> bool {
        let news = self.records.refuse(name, reason, owner);
        match news {
            RefusalNews::New => {
                let shown = String::from_utf8_lossy(name).escape_debug().to_string();
                say!("warning: {shown} is not supervised: {reason}");
                if let Some(Err(errno)) = self.directory.as_ref().map(|to| publish(to, name, reason)) {
                    say!("warning: cannot publish that: {errno}");
                }
            }
            RefusalNews::Again => {
                let _ = self.directory.as_ref().map(|directory| touch(directory, name));
            }
            RefusalNews::TooMany { is_first: true } => say!(
                "warning: uid {owner} has {} refused entries in the scandir; for what else is refused no reason is \
                 given",
                self.records.of_owner(owner)
            ),
            RefusalNews::TooMany { is_first: false } => {}
        }
        !matches!(news, RefusalNews::TooMany { .. })
    }

    /// Notes that a name is supervised or gone.
    pub(crate) fn forget(&mut self, name: &[u8]) {
        if self.records.forget(name)
            && let Some(directory) = &self.directory
        {
            let _ = unlinkat(directory, name, AtFlags::empty());
        }
    }

    /// Returns all names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.records.names()
    }
}

fn open(svscan: &OwnedFd) -> Result<OwnedFd, Errno> {
    let mode = Mode::from_raw_mode(DIRECTORY_MODE);
    match mkdirat(svscan, REFUSED, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let directory = file::open_directory(svscan, REFUSED)?;
    let stat = fstat(&directory)?;
    if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o022 != 0 {
        return Err(Errno::PERM);
    }
    empty(&directory)?;
    Ok(directory)
}

/// Removes the files of a directory.
pub(crate) fn empty(directory: &OwnedFd) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(directory, &mut space);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            let _ = unlinkat(directory, name, AtFlags::empty());
        }
    }
    Ok(())
}

fn publish(directory: &OwnedFd, name: &[u8], reason: &str) -> Result<(), Errno> {
    let text = format!("{reason}\n");
    file::publish(directory, name, UNFINISHED, text.as_bytes(), Mode::from_raw_mode(FILE_MODE))
}

fn touch(directory: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}
