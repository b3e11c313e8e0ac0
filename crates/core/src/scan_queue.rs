//! What a scan of the scandir has still to look at: never all of it at one time, however many
//! entries and changes there are.
//!
//! *Lives here:* when a scan begins, whether it reads the whole directory, which names are looked
//! at and in which order, and which are looked at again later. *Does not live here:* reading the
//! directory and the kernel's changes, and what a name means.
//!
//! The kernel names what changed, so a rescan costs as much as what changed and not as much as what
//! is there. Where it names nothing, or lost count, a rescan reads the whole directory.

use std::collections::{BTreeSet, HashSet, VecDeque};

/// Names of changed entries that are remembered; with more, the next scan reads the whole
/// directory.
pub const MAX_CHANGED: usize = 4096;
/// Names that wait to be looked at: more than there can be services, refusals and changes. The rest
/// is left for a later scan.
pub const MAX_PENDING: usize = 65_536;
/// Names in line with which the directory is read on. What is not read yet takes no memory, however
/// many entries there are.
pub const READ_AHEAD: usize = 64;
/// Bytes of the names that each scan looks at, about; with more, each scan reads the whole
/// directory.
pub const MAX_RECHECK_BYTES: usize = 1 << 20;
/// Bytes that a name takes besides its own.
pub const NAME_OVERHEAD: usize = 64;
/// Supervised entries that are verified before other events are dealt with, when the kernel lost
/// count of changes.
const VERIFIED_AT_ONCE: usize = 64;

/// A name of the scandir.
pub type EntryName = Vec<u8>;

/// Names in line, each once.
#[derive(Debug, Default)]
struct NameQueue {
    names: VecDeque<EntryName>,
    known: HashSet<EntryName>,
}

impl NameQueue {
    /// Adds a name at the end, unless it is there; returns whether there was room.
    fn push(&mut self, name: EntryName) -> bool {
        if self.known.len() >= MAX_PENDING {
            return self.known.contains(&name);
        }
        if self.known.insert(name.clone()) {
            self.names.push_back(name);
        }
        true
    }

    fn pop(&mut self) -> Option<EntryName> {
        let name = self.names.pop_front()?;
        self.known.remove(&name);
        Some(name)
    }
}

/// A scan that was asked for and has not begun.
#[derive(Debug, Clone, Copy)]
struct Requested {
    /// Bytes of changes that were there when it was asked for; they are taken in first.
    unread: u64,
    scope: ScanScope,
    /// The directory is still being read for an earlier one, and what changed since is in line
    /// already.
    is_ahead: bool,
}

/// What a scan looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScanScope {
    /// What changed, and what the kernel does not tell everything about.
    Changes,
    /// Every entry.
    Whole,
}

/// The names that changed since the last scan, and those that wait to be looked at.
#[derive(Debug)]
pub struct ScanQueue {
    /// The kernel names what changes.
    is_watched: bool,
    changed: BTreeSet<EntryName>,
    /// Names about which the kernel does not tell everything that matters: links, whose targets may
    /// come and go elsewhere, and entries that were refused, which may be fixed inside. Each scan
    /// looks at them.
    recheck: BTreeSet<EntryName>,
    recheck_bytes: usize,
    /// What the next scan looks at at the least.
    at_least: ScanScope,
    /// An entry was refused for want of descriptors, some of which starting processes use for an
    /// instant.
    lacked_descriptors: bool,
    requested: Option<Requested>,
    /// Another one was asked for before that began.
    again: Option<ScanScope>,
    /// The whole directory is being read.
    is_reading: bool,
    line: NameQueue,
    /// Supervised entries that may have gone without our knowing.
    unverified: VecDeque<EntryName>,
}

impl ScanQueue {
    /// Returns a queue whose first scan reads the whole directory; `is_watched` where the kernel
    /// names what changes.
    pub fn new(is_watched: bool) -> Self {
        Self {
            is_watched,
            changed: BTreeSet::new(),
            recheck: BTreeSet::new(),
            recheck_bytes: 0,
            at_least: ScanScope::Whole,
            lacked_descriptors: false,
            requested: None,
            again: None,
            is_reading: false,
            line: NameQueue::default(),
            unverified: VecDeque::new(),
        }
    }

    /// Asks for a scan of what changed up to now, or of everything. `unread` tells how many bytes
    /// of changes the kernel has still to tell.
    pub fn request(&mut self, scope: ScanScope, unread: impl FnOnce() -> u64) {
        if self.requested.is_some() {
            self.again = self.again.max(Some(scope));
            return;
        }
        self.requested = Some(Requested { unread: unread(), scope, is_ahead: false });
    }

    /// Takes in that an entry changed.
    pub fn changed(&mut self, name: EntryName) {
        if self.changed.len() < MAX_CHANGED {
            self.changed.insert(name);
        } else {
            self.at_least = ScanScope::Whole;
        }
    }

    /// Takes in that changes were lost: any entry may have changed, and any of the `supervised`
    /// ones may have gone.
    pub fn lost_count(&mut self, supervised: Vec<EntryName>) {
        self.at_least = ScanScope::Whole;
        self.unverified = supervised.into();
    }

    /// Takes in that so many bytes of changes were taken in, and whether there was anything more.
    pub fn drained(&mut self, bytes: u64, is_empty: bool) {
        if let Some(requested) = &mut self.requested {
            requested.unread = if is_empty { 0 } else { requested.unread.saturating_sub(bytes) };
        }
    }

    /// Returns whether a scan that was asked for has to wait until earlier changes are taken in.
    pub fn must_drain(&self) -> bool {
        self.requested.is_some_and(|requested| requested.unread > 0)
    }

    /// Returns what a scan that was asked for looks at, where it can begin now.
    ///
    /// While the directory is being read, what is known to have changed does not wait for the end
    /// of that.
    pub fn begin(&mut self, unread: impl FnOnce() -> u64) -> Option<ScanScope> {
        if self.must_drain() {
            return None;
        }
        let least = if self.is_watched { self.at_least } else { ScanScope::Whole };
        let scope = self.requested?.scope.max(least);
        let requested = self.requested.as_mut()?;
        if scope == ScanScope::Whole && self.is_reading {
            let was_ahead = std::mem::replace(&mut requested.is_ahead, true);
            return (!was_ahead).then_some(ScanScope::Changes);
        }
        self.requested = None;
        if let Some(scope) = self.again.take() {
            self.request(scope, unread);
        }
        Some(scope)
    }

    /// Puts what changed, and what the kernel does not tell everything about, in line.
    #[must_use]
    pub fn line_up_changes(&mut self) -> LinedUp {
        let changed = std::mem::take(&mut self.changed);
        self.line_up(changed).and(self.line_up_recheck())
    }

    /// Begins to read the whole directory; `known` names, supervised or refused, are looked at as
    /// well.
    #[must_use]
    pub fn begin_reading(&mut self, known: Vec<EntryName>) -> LinedUp {
        self.changed.clear();
        self.take_recheck();
        self.at_least = ScanScope::Changes;
        self.is_reading = true;
        self.line_up(known)
    }

    /// Returns whether more of the directory is to be read now.
    pub fn wants_more(&self) -> bool {
        self.is_reading && self.in_line() <= READ_AHEAD
    }

    /// Takes in that the reading is over; where it was not complete, the next scan reads everything
    /// again.
    pub fn reading_ended(&mut self, is_complete: bool) {
        self.is_reading = false;
        if !is_complete {
            self.at_least = ScanScope::Whole;
        }
    }

    /// Puts names in line.
    #[must_use]
    pub fn line_up(&mut self, names: impl IntoIterator<Item = EntryName>) -> LinedUp {
        let mut all = LinedUp::All;
        for name in names {
            if !self.line.push(name)
                && std::mem::replace(&mut self.at_least, ScanScope::Whole) == ScanScope::Changes
            {
                all = LinedUp::TooMany;
            }
        }
        all
    }

    /// Puts the names that each scan looks at in line.
    #[must_use]
    pub fn line_up_recheck(&mut self) -> LinedUp {
        let recheck = self.take_recheck();
        self.line_up(recheck)
    }

    /// Takes in that no process is starting any more: entries that lacked descriptors are looked at
    /// again.
    #[must_use]
    pub fn descriptors_are_back(&mut self) -> LinedUp {
        if std::mem::take(&mut self.lacked_descriptors) { self.line_up_recheck() } else { LinedUp::All }
    }

    /// Takes in that an entry was refused for want of descriptors.
    pub fn lacked_descriptors(&mut self) {
        self.lacked_descriptors = true;
    }

    /// Has each later scan look at a name about which the kernel does not tell everything.
    pub fn recheck(&mut self, name: &[u8]) {
        if self.recheck.contains(name) {
            return;
        }
        let bytes = name.len().saturating_add(NAME_OVERHEAD);
        if self.recheck_bytes.saturating_add(bytes) > MAX_RECHECK_BYTES {
            return self.forget();
        }
        self.recheck_bytes = self.recheck_bytes.saturating_add(bytes);
        self.recheck.insert(name.to_vec());
    }

    /// Takes in that a name that matters is not remembered: only the directory knows it.
    pub fn forget(&mut self) {
        self.at_least = ScanScope::Whole;
    }

    /// Returns the next name to look at.
    pub fn pop(&mut self) -> Option<EntryName> {
        self.line.pop()
    }

    /// Returns some of the supervised entries that may have gone.
    pub fn next_unverified(&mut self) -> Vec<EntryName> {
        let count = self.unverified.len().min(VERIFIED_AT_ONCE);
        self.unverified.drain(..count).collect()
    }

    /// Returns whether there is anything to go on with.
    pub fn is_busy(&self) -> bool {
        self.requested.is_some()
            || self.is_reading
            || !self.line.names.is_empty()
            || !self.unverified.is_empty()
    }

    /// Returns how many names are in line.
    pub fn in_line(&self) -> usize {
        self.line.names.len()
    }

    /// Drops every scan.
    pub fn stop(&mut self) {
        (self.requested, self.again, self.is_reading) = (None, None, false);
        self.line = NameQueue::default();
    }

    fn take_recheck(&mut self) -> BTreeSet<EntryName> {
        self.recheck_bytes = 0;
        std::mem::take(&mut self.recheck)
    }
}

/// Whether all names could be put in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinedUp {
    /// They could, or it is known already that they could not.
    All,
    /// There are too many; the rest is left for a later scan. This is to be said once.
    TooMany,
}

impl LinedUp {
    /// Returns what both together mean.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if self == Self::All { other } else { self }
    }
}
