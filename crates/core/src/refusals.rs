//! Remembers the refused entries of the scandir, so that each is reported once.
//!
//! *Lives here:* the reasons, and the limits on their number and bytes for each user.
//! *Does not live here:* reporting and publishing them.

use std::collections::HashMap;

use crate::fair::Counts;
use crate::scan_queue::EntryName;

/// The most refused names of one user that are remembered.
pub const MAX_OF_OWNER: usize = 1024;
/// The most refused names of all users.
const MAX_IN_ALL: usize = 8192;
/// The most bytes of one user's refused names and their reasons. Names can be long, and all users
/// share one memory.
pub const MAX_BYTES_OF_OWNER: usize = 256 << 10;
/// The most bytes of all users' refused names and their reasons.
const MAX_BYTES_IN_ALL: usize = 2 << 20;
/// Bytes, approximately, that a refusal takes besides its name and its reason.
const OVERHEAD: usize = 96;

/// What is new about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalNews {
    /// It must be reported and published.
    New,
    /// It was refused for the same reason before. The repetition must be published, because
    /// somebody may wait for the answer to a rescan.
    Again,
    /// Too many names are refused, so this one cannot be remembered. This must be reported once.
    TooMany {
        /// Whether to report it now.
        is_first: bool,
    },
}

/// The refused names and their reasons.
#[derive(Debug, Default)]
pub struct RefusalRecords {
    /// Each reason, with the user who owns the entry.
    reasons: HashMap<EntryName, (String, u32)>,
    owned: Counts,
    /// The bytes in use, for each user.
    bytes: HashMap<u32, usize>,
    /// Whether it was reported that there are too many.
    has_said: bool,
}

/// Returns the bytes that a refusal takes.
fn size(name: &[u8], reason: &str) -> usize {
    name.len().saturating_add(reason.len()).saturating_add(OVERHEAD)
}

impl RefusalRecords {
    /// Notes that a name, whose entry belongs to `owner`, is refused.
    pub fn refuse(&mut self, name: &[u8], reason: &str, owner: u32) -> RefusalNews {
        let known = self.reasons.get(name);
        let is_again = known.is_some_and(|(known, _)| known == reason);
        // The name counts for the owner whom it was first counted for.
        let counted = known.map(|(reason, owner)| (*owner, size(name, reason)));
        if counted.is_none() {
            if !self.has_room(owner, size(name, reason)) {
                return RefusalNews::TooMany { is_first: !std::mem::replace(&mut self.has_said, true) };
            }
            self.owned.add(owner);
        }
        if is_again {
            return RefusalNews::Again;
        }
        let (owner, before) = counted.unwrap_or((owner, 0));
        let bytes = self.bytes.entry(owner).or_default();
        *bytes = bytes.saturating_sub(before).saturating_add(size(name, reason));
        self.reasons.insert(name.to_vec(), (reason.to_owned(), owner));
        RefusalNews::New
    }

    /// Notes that a name is supervised or gone; returns whether it was refused.
    pub fn forget(&mut self, name: &[u8]) -> bool {
        let Some((reason, owner)) = self.reasons.remove(name) else { return false };
        self.owned.remove(owner);
        if let Some(bytes) = self.bytes.get_mut(&owner) {
            *bytes = bytes.saturating_sub(size(name, &reason));
            if *bytes == 0 {
                self.bytes.remove(&owner);
            }
        }
        self.has_said &= self.owned.all() > 0;
        true
    }

    /// Returns how many refusals of a user are remembered.
    pub fn of_owner(&self, owner: u32) -> usize {
        self.owned.of(owner)
    }

    /// Returns how many bytes a user's refusals take.
    pub fn bytes_of_owner(&self, owner: u32) -> usize {
        self.bytes.get(&owner).copied().unwrap_or(0)
    }

    /// Returns all names.
    pub fn names(&self) -> impl Iterator<Item = &EntryName> {
        self.reasons.keys()
    }

    /// Returns whether one more refusal of a user, of this many bytes, can be kept.
    fn has_room(&self, owner: u32, more: usize) -> bool {
        let all = self.bytes.values().fold(0_usize, |all, bytes| all.saturating_add(*bytes));
        self.owned.of(owner) < MAX_OF_OWNER
            && self.owned.all() < MAX_IN_ALL
            && self.bytes_of_owner(owner).saturating_add(more) <= MAX_BYTES_OF_OWNER
            && all.saturating_add(more) <= MAX_BYTES_IN_ALL
    }
}
