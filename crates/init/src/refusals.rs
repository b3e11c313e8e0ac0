//! Why entries of the scandir are not supervised: said once, and published for clients.
//!
//! *Lives here:* `.s6-svscan/refused/`, one file a refused name with the reason in it. A client
//! that asked for a rescan learns there that waiting is in vain: each scan that refuses a name
//! again touches its file.
//! *Does not live here:* the reasons.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use gatevisor_core::fair::Counts;
use gatevisor_sys::{Errno, file};
use gatevisor_wire::files;
use rustix::fs::{
    AtFlags, Mode, RawDir, Timespec, Timestamps, UTIME_NOW, fstat, mkdirat, unlinkat, utimensat,
};

use crate::stderr_log::say;

/// The directory, in `.s6-svscan`.
const REFUSED: &str = "refused";
/// Refused names of one user that are remembered, said and published.
const MAX_OF_OWNER: usize = 1024;
/// Those of all users.
const MAX_IN_ALL: usize = 8192;
/// Bytes that the refused names of one user and their reasons may take: names can be long, and
/// there is one memory for all.
const MAX_BYTES_OF_OWNER: usize = 256 << 10;
/// The same of all users.
const MAX_BYTES_IN_ALL: usize = 2 << 20;
/// Bytes that a refusal takes besides its name and its reason, about.
const OVERHEAD: usize = 96;
/// What a reason is called until it is whole. No entry that is looked at begins with a dot.
const UNFINISHED: &str = ".new";
/// Everybody who may look into `.s6-svscan` may know.
const DIRECTORY_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// The refused names and their reasons.
#[derive(Debug)]
pub(crate) struct RefusedNames {
    /// Where they are published; only we may write there, so nobody can have a name in it lead
    /// elsewhere.
    directory: Option<OwnedFd>,
    /// Each with whom the entry belongs to.
    reasons: HashMap<Vec<u8>, (String, u32)>,
    owned: Counts,
    /// The bytes that they take, for each user.
    bytes: HashMap<u32, usize>,
    /// It was said that there are too many.
    has_said: bool,
}

/// Returns the bytes that a refusal takes.
fn size(name: &[u8], reason: &str) -> usize {
    name.len().saturating_add(reason.len()).saturating_add(OVERHEAD)
}

impl RefusedNames {
    /// Returns none, and removes what an earlier supervisor published in this `.s6-svscan`.
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
        Self {
            directory,
            reasons: HashMap::new(),
            owned: Counts::default(),
            bytes: HashMap::new(),
            has_said: false,
        }
    }

    /// Takes in that a name, whose entry belongs to `owner`, is refused; says so unless it was for
    /// the same reason.
    ///
    /// Returns false where too many are for the reason to be kept.
    pub(crate) fn refuse(&mut self, name: &[u8], reason: String, owner: u32) -> bool {
        let is_known = self.reasons.get(name).is_some_and(|(known, _)| *known == reason);
        if !self.reasons.contains_key(name) {
            if !self.has_room(owner, size(name, &reason)) {
                if !std::mem::replace(&mut self.has_said, true) {
                    say!(
                        "warning: uid {owner} has {} refused entries in the scandir; for what else is refused no reason is \
                         given",
                        self.owned.of(owner)
                    );
                }
                return false;
            }
            self.owned.add(owner);
        }
        if !is_known {
            let shown = String::from_utf8_lossy(name).escape_debug().to_string();
            say!("warning: {shown} is not supervised: {reason}");
        }
        // Somebody may wait for the answer to a rescan, so the same reason is news, too.
        let published = match &self.directory {
            Some(directory) if is_known => touch(directory, name),
            Some(directory) => publish(directory, name, &reason),
            None => Ok(()),
        };
        if let Err(errno) = published
            && !is_known
        {
            say!("warning: cannot publish that: {errno}");
        }
        // The owner is the one that it was counted for first.
        let (owner, before) =
            self.reasons.get(name).map_or((owner, 0), |(reason, owner)| (*owner, size(name, reason)));
        let bytes = self.bytes.entry(owner).or_default();
        *bytes = bytes.saturating_sub(before).saturating_add(size(name, &reason));
        self.reasons.insert(name.to_vec(), (reason, owner));
        true
    }

    /// Returns whether one more refusal of a user's, of so many bytes, can be kept.
    fn has_room(&self, owner: u32, more: usize) -> bool {
        let own = self.bytes.get(&owner).copied().unwrap_or(0);
        let all = self.bytes.values().fold(0_usize, |all, bytes| all.saturating_add(*bytes));
        self.owned.of(owner) < MAX_OF_OWNER
            && self.owned.all() < MAX_IN_ALL
            && own.saturating_add(more) <= MAX_BYTES_OF_OWNER
            && all.saturating_add(more) <= MAX_BYTES_IN_ALL
    }

    /// Takes in that a name is supervised, or is no more.
    pub(crate) fn forget(&mut self, name: &[u8]) {
        let Some((reason, owner)) = self.reasons.remove(name) else { return };
        self.owned.remove(owner);
        if let Some(bytes) = self.bytes.get_mut(&owner) {
            *bytes = bytes.saturating_sub(size(name, &reason));
            if *bytes == 0 {
                self.bytes.remove(&owner);
            }
        }
        self.has_said &= self.owned.all() > 0;
        if let Some(directory) = &self.directory {
            let _ = unlinkat(directory, name, AtFlags::empty());
        }
    }

    /// Returns all refused names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.reasons.keys()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_one_users_refused_names_is_bounded_in_bytes_and_others_have_theirs() {
        let temp = tempfile::tempdir().unwrap();
        let svscan = file::open_directory(rustix::fs::CWD, temp.path()).unwrap();
        let mut refusals = RefusedNames::new(&svscan);
        let name = |n: u32| format!("{n:0>250}").into_bytes();
        let reason = || "others may write to it".to_owned();
        let kept: Vec<u32> = (0..2000).filter(|&n| refusals.refuse(&name(n), reason(), 1)).collect();
        assert!((100..MAX_OF_OWNER).contains(&kept.len()), "{}", kept.len());
        assert!(refusals.bytes[&1] <= MAX_BYTES_OF_OWNER);
        assert!(refusals.refuse(b"web", reason(), 2), "others have their own share");
        // Again and for another reason: the same bytes are not counted twice, nor are they lost.
        for &n in &kept {
            assert!(refusals.refuse(&name(n), reason(), 1));
        }
        for &n in &kept {
            refusals.forget(&name(n));
        }
        refusals.forget(b"web");
        assert!(refusals.bytes.is_empty() && refusals.reasons.is_empty());
    }
}
