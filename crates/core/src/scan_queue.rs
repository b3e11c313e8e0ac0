//! The rest of a scan of the scandir. It is never done all at once, however many entries and
//! changes there are.
//!
//! *Lives here:* when a scan begins, whether it reads the whole directory, which names are looked
//! at and in which order, and which are looked at again later.
//! *Does not live here:* reading the directory and the kernel's changes, and the meaning of a name.
//!
//! The kernel names the changed entries, so the cost of a rescan depends on the changes and not on
//! the number of entries. If the kernel names nothing, or lost changes, a rescan reads the whole
//! directory.

use std::collections::{BTreeSet, HashSet, VecDeque};

/// The most names of changed entries that are remembered. If there are more, the next scan reads
/// the whole directory.
pub const MAX_CHANGED: usize = 4096;
/// The most names that wait to be looked at because they changed, or must be looked at again: more
/// than there can be services, refusals and changes together. The rest is left for a later scan.
pub const MAX_PENDING: usize = 65_536;
/// The directory is read on when at most this many names that were read wait. Unread entries take
/// no memory, however many there are.
pub const READ_AHEAD: usize = 64;
/// The bytes, approximately, of the names that each scan looks at. If there are more, each scan
/// reads the whole directory.
pub const MAX_RECHECK_BYTES: usize = 1 << 20;
/// Bytes that a name takes besides its text.
pub const NAME_OVERHEAD: usize = 64;
/// How many supervised entries are verified before other events are handled, after the kernel lost
/// changes.
const VERIFIED_AT_ONCE: usize = 64;

/// A name of the scandir.
pub type EntryName = Vec<u8>;

/// Where a name comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    /// It changed, or must be looked at again.
    Asked,
    /// It was read from the directory.
    Read,
}

/// A queue of names, each at most once.
///
/// The lanes take turns. Otherwise whoever asks for scans faster than names are looked at would
/// keep the directory from being read, and with it every entry that only the directory knows.
#[derive(Debug, Default)]
struct NameQueue {
    asked: VecDeque<EntryName>,
    read: VecDeque<EntryName>,
    known: HashSet<EntryName>,
    /// Whether the last name came from the directory.
    was_read: bool,
}

impl NameQueue {
    /// Appends a name unless it is in the queue; returns whether there was room.
    fn push(&mut self, name: EntryName, lane: Lane) -> bool {
        // The directory is read on only when few of its names wait, so it always finds room.
        if lane == Lane::Asked && self.asked.len() >= MAX_PENDING {
            return self.known.contains(&name);
        }
        if self.known.insert(name.clone()) {
            let lane = if lane == Lane::Read { &mut self.read } else { &mut self.asked };
            lane.push_back(name);
        }
        true
    }

    fn pop(&mut self) -> Option<EntryName> {
        let is_read = self.asked.is_empty() || !self.was_read;
        let name = if is_read { self.read.pop_front() } else { None };
        self.was_read = name.is_some();
        let name = name.or_else(|| self.asked.pop_front())?;
        self.known.remove(&name);
        Some(name)
    }
}

/// A scan that was requested and has not begun.
#[derive(Debug, Clone, Copy)]
struct Requested {
    /// Bytes of changes that were unread at the request. They are read first.
    unread: u64,
    scope: ScanScope,
    /// The directory is still being read for an earlier scan, and the names that changed since are
    /// in the queue already.
    is_ahead: bool,
}

/// What a scan looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScanScope {
    /// The changes, and the entries about which the kernel does not tell everything.
    Changes,
    /// Every entry.
    Whole,
}

/// The names that changed since the last scan, and the names that wait to be looked at.
#[derive(Debug)]
pub struct ScanQueue {
    /// Whether the kernel names changes.
    is_watched: bool,
    changed: BTreeSet<EntryName>,
    /// Names about which the kernel does not tell everything that matters: links, whose targets may
    /// come and go elsewhere, and refused entries, which may be fixed inside. Each scan looks at
    /// them.
    recheck: BTreeSet<EntryName>,
    recheck_bytes: usize,
    /// The smallest allowed scope of the next scan.
    at_least: ScanScope,
    /// Whether an entry was refused because descriptors were lacking; starting processes use some
    /// of these only for an instant.
    lacked_descriptors: bool,
    requested: Option<Requested>,
    /// A further request that came before the scan began.
    again: Option<ScanScope>,
    /// Whether the whole directory is being read.
    is_reading: bool,
    line: NameQueue,
    /// Supervised entries that may have gone without our noticing.
    unverified: VecDeque<EntryName>,
}

impl ScanQueue {
    /// Returns a queue whose first scan reads the whole directory. `is_watched` tells whether the
    /// kernel names changes.
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

    /// Requests a scan of the changes so far, or of everything. `unread` returns the bytes of
    /// changes that are still to be read from the kernel.
    pub fn request(&mut self, scope: ScanScope, unread: impl FnOnce() -> u64) {
        if self.requested.is_some() {
            self.again = self.again.max(Some(scope));
            return;
        }
        self.requested = Some(Requested { unread: unread(), scope, is_ahead: false });
    }

    /// Notes that an entry changed.
    pub fn changed(&mut self, name: EntryName) {
        if self.changed.len() < MAX_CHANGED {
            self.changed.insert(name);
        } else {
            self.at_least = ScanScope::Whole;
        }
    }

    /// Notes that changes were lost: any entry may have changed, and any of the `supervised` ones
    /// may have gone.
    pub fn lost_count(&mut self, supervised: Vec<EntryName>) {
        self.at_least = ScanScope::Whole;
        self.unverified = supervised.into();
    }

    /// Notes that this many bytes of changes were read, and whether none are left.
    pub fn drained(&mut self, bytes: u64, is_empty: bool) {
        if let Some(requested) = &mut self.requested {
            requested.unread = if is_empty { 0 } else { requested.unread.saturating_sub(bytes) };
        }
    }

    /// Returns whether a requested scan has to wait until earlier changes are read.
    pub fn must_drain(&self) -> bool {
        self.requested.is_some_and(|requested| requested.unread > 0)
    }

    /// Returns the scope of a requested scan, if it can begin now.
    ///
    /// While the directory is being read, known changes do not wait for the end of the reading.
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

    /// Queues the changed names and the names about which the kernel does not tell everything.
    #[must_use]
    pub fn line_up_changes(&mut self) -> LinedUp {
        let changed = std::mem::take(&mut self.changed);
        self.line_up(changed).and(self.line_up_recheck())
    }

    /// Begins to read the whole directory. The `known` names, supervised or refused, are looked at
    /// as well.
    #[must_use]
    pub fn begin_reading(&mut self, known: Vec<EntryName>) -> LinedUp {
        self.changed.clear();
        self.take_recheck();
        self.at_least = ScanScope::Changes;
        self.is_reading = true;
        self.line_up(known)
    }

    /// Returns whether to read more of the directory now.
    pub fn wants_more(&self) -> bool {
        self.is_reading && self.line.read.len() <= READ_AHEAD
    }

    /// Notes that the reading is over. If it was not complete, the next scan reads everything
    /// again.
    pub fn reading_ended(&mut self, is_complete: bool) {
        self.is_reading = false;
        if !is_complete {
            self.at_least = ScanScope::Whole;
        }
    }

    /// Queues a name that was read from the directory.
    pub fn line_up_read(&mut self, name: EntryName) {
        self.line.push(name, Lane::Read);
    }

    /// Queues names that changed, or that must be looked at again.
    #[must_use]
    pub fn line_up(&mut self, names: impl IntoIterator<Item = EntryName>) -> LinedUp {
        let mut all = LinedUp::All;
        for name in names {
            if !self.line.push(name, Lane::Asked)
                && std::mem::replace(&mut self.at_least, ScanScope::Whole) == ScanScope::Changes
            {
                all = LinedUp::TooMany;
            }
        }
        all
    }

    /// Queues the names that each scan looks at.
    #[must_use]
    pub fn line_up_recheck(&mut self) -> LinedUp {
        let recheck = self.take_recheck();
        self.line_up(recheck)
    }

    /// Notes that no process is starting any more, and queues the entries that lacked descriptors.
    #[must_use]
    pub fn descriptors_are_back(&mut self) -> LinedUp {
        if std::mem::take(&mut self.lacked_descriptors) { self.line_up_recheck() } else { LinedUp::All }
    }

    /// Notes that an entry was refused because descriptors were lacking.
    pub fn lacked_descriptors(&mut self) {
        self.lacked_descriptors = true;
    }

    /// Makes each later scan look at a name about which the kernel does not tell everything.
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

    /// Notes that a name that matters is not remembered, so only the directory knows it.
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

    /// Returns whether there is work left.
    pub fn is_busy(&self) -> bool {
        self.requested.is_some()
            || self.is_reading
            || !self.line.known.is_empty()
            || !self.unverified.is_empty()
    }

    /// Returns how many names are in the queue.
    pub fn in_line(&self) -> usize {
        self.line.known.len()
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

/// Whether all names could be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinedUp {
    /// All were queued, or it was reported already that there are too many.
    All,
    /// There are too many, and the rest is left for a later scan. This must be reported once.
    TooMany,
}

impl LinedUp {
    /// Combines two results.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if self == Self::All { other } else { self }
    }
}
