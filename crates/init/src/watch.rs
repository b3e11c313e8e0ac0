//! What a scan of the scandir has still to look at, and how it gets to know that: never all of it at one time, however many
//! entries and changes there are.
//!
//! *Lives here:* the watch on the scandir, reading it, the names in line. *Does not live here:* what a name means
//! (`scandir`).
//!
//! A watch on the directory names what changed, so a rescan costs as much as what changed and not as much as what is
//! there. Where no watch is to be had, a rescan reads the whole directory.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use gatevisor_sys::file;
use rustix::fs::{RawDir, inotify};

use crate::refusals::RefusedNames;
use crate::stderr_log::say;

/// Names of changed entries that are remembered; with more, the next scan reads the whole directory.
const MAX_CHANGED: usize = 4096;
/// Names that wait to be looked at: more than there can be services, refusals and changes. What is more is left for a later scan.
const MAX_PENDING: usize = 65_536;
/// Names in line with which the directory is read on. What is not read yet takes no memory, however many entries there are.
const READ_AHEAD: usize = 64;
/// Bytes of the names that each scan looks at, about; with more, each scan reads the whole directory.
const MAX_RECHECK_BYTES: usize = 1 << 20;
/// Bytes that a name takes besides its own.
const NAME_OVERHEAD: usize = 64;
/// Changes that are taken in before other events get their turn.
const EVENTS_AT_ONCE: usize = 256;
/// Losses that are looked into before other events get their turn, when the kernel lost count of them.
const LOSSES_A_TURN: usize = 64;

/// Names in line, each once.
#[derive(Debug, Default)]
struct NameQueue {
    names: VecDeque<Vec<u8>>,
    known: HashSet<Vec<u8>>,
}

impl NameQueue {
    /// Adds a name at the end, unless it is there; returns whether there was room.
    fn push(&mut self, name: Vec<u8>) -> bool {
        if self.known.len() >= MAX_PENDING {
            return self.known.contains(&name);
        }
        if self.known.insert(name.clone()) {
            self.names.push_back(name);
        }
        true
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let name = self.names.pop_front()?;
        self.known.remove(&name);
        Some(name)
    }
}

/// A scan that was asked for and has not begun.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// Bytes of changes that were there when it was asked for; they are taken in first.
    unread: u64,
    /// It reads the whole directory.
    whole: bool,
    /// The directory is still being read for an earlier one, and what changed since is in line already.
    is_ahead: bool,
}

/// The watch on the scandir, the names it saw change since the last scan, and those that wait to be looked at.
#[derive(Debug)]
pub(crate) struct Watch {
    inotify: Option<OwnedFd>,
    changed: BTreeSet<Vec<u8>>,
    /// Names about which the kernel does not tell everything that matters: links, whose targets may come and
    /// go elsewhere, and slots that were refused, which may be fixed inside. Each scan looks at them.
    recheck: BTreeSet<Vec<u8>>,
    recheck_bytes: usize,
    pub(crate) refusals: RefusedNames,
    /// A slot was refused for want of descriptors, some of which starting processes use for an instant.
    pub(crate) lacked_descriptors: bool,
    /// The next scan must read the whole directory.
    pub(crate) needs_full_scan: bool,
    asked: Option<Asked>,
    /// It was asked for another one before that began.
    again: Option<bool>,
    /// The whole directory, as far as it is not read yet.
    reading: Option<OwnedFd>,
    line: NameQueue,
    /// Slots that may have gone without our knowing.
    losses: VecDeque<Vec<u8>>,
}

/// What the kernel had to tell.
#[derive(Debug, Default)]
pub(crate) struct WatchChanges {
    /// The names that something left, each once.
    pub(crate) left: BTreeSet<Vec<u8>>,
    /// Changes were lost: anything may have left.
    pub(crate) lost_count: bool,
}

impl Watch {
    pub(crate) fn new(path: &Path, scandir: &OwnedFd, svscan: &OwnedFd) -> Self {
        let flags = inotify::WatchFlags::CREATE
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::MOVED_FROM
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::ONLYDIR;
        // The very directory that was opened, whatever its path leads to by now.
        let opened = format!("/proc/self/fd/{}", scandir.as_raw_fd());
        let watched =
            inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).and_then(|fd| {
                inotify::add_watch(&fd, opened, flags)
                    .or_else(|_| inotify::add_watch(&fd, path, flags))
                    .map(|_| fd)
            });
        let inotify = match watched {
            Ok(fd) => Some(fd),
            Err(errno) => {
                say!("warning: cannot watch `{}`: {errno}; each rescan reads all of it", path.display());
                None
            }
        };
        Self {
            inotify,
            changed: BTreeSet::new(),
            recheck: BTreeSet::new(),
            recheck_bytes: 0,
            refusals: RefusedNames::new(svscan),
            lacked_descriptors: false,
            needs_full_scan: true,
            asked: None,
            again: None,
            reading: None,
            line: NameQueue::default(),
            losses: VecDeque::new(),
        }
    }

    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// Takes in some of what the kernel has to tell.
    pub(crate) fn drain(&mut self) -> WatchChanges {
        let mut news = WatchChanges::default();
        let Some(fd) = &self.inotify else { return news };
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(fd, &mut space);
        let (mut count, mut bytes) = (0_usize, 0_u64);
        let mut is_empty = true;
        while let Ok(event) = reader.next() {
            let flags = event.events();
            if flags.contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
                news.lost_count = true;
                self.needs_full_scan = true;
            }
            let name = event.file_name().map(|name| name.to_bytes().to_vec()).unwrap_or_default();
            bytes = bytes.saturating_add(size_of_event(name.len()));
            count = count.saturating_add(1);
            if !name.is_empty() && name.first() != Some(&b'.') {
                if flags.intersects(inotify::ReadFlags::DELETE | inotify::ReadFlags::MOVED_FROM) {
                    news.left.insert(name.clone());
                }
                if self.changed.len() < MAX_CHANGED {
                    self.changed.insert(name);
                } else {
                    self.needs_full_scan = true;
                }
            }
            // What was read and not looked at would be lost.
            if count >= EVENTS_AT_ONCE && reader.is_buffer_empty() {
                is_empty = false;
                break;
            }
        }
        if let Some(asked) = &mut self.asked {
            asked.unread = if is_empty { 0 } else { asked.unread.saturating_sub(bytes) };
        }
        news
    }

    /// Asks for a scan, of the whole directory or of what changed up to now.
    pub(crate) fn ask(&mut self, whole: bool) {
        if self.asked.is_some() {
            self.again = Some(whole || self.again == Some(true));
            return;
        }
        let unread = self.inotify.as_ref().map_or(0, |fd| rustix::io::ioctl_fionread(fd).unwrap_or(0));
        self.asked = Some(Asked { unread, whole, is_ahead: false });
    }

    /// Returns whether a scan that was asked for has to wait until earlier changes are taken in.
    pub(crate) fn must_drain(&self) -> bool {
        self.asked.is_some_and(|asked| asked.unread > 0)
    }

    /// Returns whether a scan that was asked for can begin now, and if so, whether it reads the whole directory.
    ///
    /// While the directory is being read, what is known to have changed does not wait for the end of that.
    pub(crate) fn begin(&mut self) -> Option<bool> {
        if self.must_drain() {
            return None;
        }
        let is_whole = self.asked?.whole || self.needs_full_scan || self.inotify.is_none();
        if is_whole && self.reading.is_some() {
            let asked = self.asked.as_mut()?;
            return (!std::mem::replace(&mut asked.is_ahead, true)).then_some(false);
        }
        self.asked = None;
        if let Some(whole) = self.again.take() {
            self.ask(whole);
        }
        Some(is_whole)
    }

    /// Remembers a name about which the kernel does not tell everything, for each later scan to look at.
    pub(crate) fn keep_for_recheck(&mut self, name: &[u8]) {
        if self.recheck.contains(name) {
            return;
        }
        let bytes = name.len().saturating_add(NAME_OVERHEAD);
        if self.recheck_bytes.saturating_add(bytes) > MAX_RECHECK_BYTES {
            // Nobody remembers it but the directory.
            self.needs_full_scan = true;
            return;
        }
        self.recheck_bytes = self.recheck_bytes.saturating_add(bytes);
        self.recheck.insert(name.to_vec());
    }

    fn take_recheck(&mut self) -> BTreeSet<Vec<u8>> {
        self.recheck_bytes = 0;
        std::mem::take(&mut self.recheck)
    }

    /// Puts what changed, and what the kernel does not tell everything about, in line.
    pub(crate) fn line_up_changes(&mut self) {
        let changed = std::mem::take(&mut self.changed);
        let recheck = self.take_recheck();
        for name in changed.into_iter().chain(recheck) {
            self.line_up(name);
        }
    }

    /// Begins to read the whole directory; `supervised` are looked at, too, and those that were refused.
    pub(crate) fn read_all(&mut self, scandir: &OwnedFd, supervised: Vec<Vec<u8>>) {
        self.changed.clear();
        let _ = self.take_recheck();
        self.needs_full_scan = false;
        let refused: Vec<Vec<u8>> = self.refusals.names().cloned().collect();
        for name in supervised.into_iter().chain(refused) {
            self.line_up(name);
        }
        match file::open_directory(scandir, ".") {
            Ok(dir) => self.reading = Some(dir),
            Err(errno) => say!("warning: cannot read the scandir: {errno}"),
        }
    }

    /// Reads on in the directory, if that is being read and few names are in line.
    pub(crate) fn read_on(&mut self) {
        if self.line.names.len() > READ_AHEAD {
            return;
        }
        let Some(dir) = self.reading.take() else { return };
        let mut space = [MaybeUninit::uninit(); 8192];
        let mut entries = RawDir::new(&dir, &mut space);
        loop {
            match entries.next() {
                Some(Ok(entry)) => {
                    let name = entry.file_name().to_bytes();
                    if name.first() != Some(&b'.') {
                        let name = name.to_vec();
                        self.line_up(name);
                    }
                }
                Some(Err(errno)) => {
                    say!("warning: cannot read all of the scandir: {errno}");
                    self.needs_full_scan = true;
                    return;
                }
                None => return,
            }
            if entries.is_buffer_empty() {
                break;
            }
        }
        self.reading = Some(dir);
    }

    /// Puts a name in line.
    pub(crate) fn line_up(&mut self, name: Vec<u8>) {
        if !self.line.push(name) && !std::mem::replace(&mut self.needs_full_scan, true) {
            say!(
                "warning: the scandir has more than {MAX_PENDING} entries; the rest is left out until a later scan"
            );
        }
    }

    /// Puts the names that are looked at by each scan in line.
    pub(crate) fn line_up_recheck(&mut self) {
        for name in self.take_recheck() {
            self.line_up(name);
        }
    }

    /// Returns the next name to look at.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        self.line.pop()
    }

    /// Takes in that any of these may be gone.
    pub(crate) fn verify(&mut self, supervised: Vec<Vec<u8>>) {
        self.losses = supervised.into();
    }

    /// Returns some of those that may be gone.
    pub(crate) fn next_to_verify(&mut self) -> Vec<Vec<u8>> {
        let count = self.losses.len().min(LOSSES_A_TURN);
        self.losses.drain(..count).collect()
    }

    /// Returns whether there is anything to go on with.
    pub(crate) fn is_busy(&self) -> bool {
        self.asked.is_some()
            || self.reading.is_some()
            || !self.line.names.is_empty()
            || !self.losses.is_empty()
    }

    /// Forgets every scan.
    pub(crate) fn stop(&mut self) {
        (self.asked, self.again, self.reading) = (None, None, None);
        self.line = NameQueue::default();
    }
}

/// Returns the bytes that an event about a name of this length takes.
///
/// **Source:** inotify(7): a header of 16 bytes, and the name with at least one zero up to a multiple of 16.
fn size_of_event(name: usize) -> u64 {
    let padded = if name == 0 { 0 } else { name.saturating_add(1).next_multiple_of(16) };
    u64::try_from(padded).unwrap_or(u64::MAX).saturating_add(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(path: &Path) -> (OwnedFd, Watch) {
        let dir = file::open_directory(rustix::fs::CWD, path).unwrap();
        let svscan = file::open_directory(rustix::fs::CWD, path).unwrap();
        let watch = Watch::new(path, &dir, &svscan);
        (dir, watch)
    }

    /// Returns a directory of so many entries with long names, and a watch on it.
    fn crowded(entries: usize) -> (tempfile::TempDir, OwnedFd, Watch) {
        let temp = tempfile::tempdir().unwrap();
        // Beside them is what the watch makes itself.
        for n in 1..entries {
            std::fs::write(temp.path().join(format!("{n}-{}", "x".repeat(200))), "").unwrap();
        }
        let (dir, watch) = watch(temp.path());
        (temp, dir, watch)
    }

    /// Takes in what changed before the scan that was asked for, and begins it.
    fn begun(watch: &mut Watch) -> Option<bool> {
        while watch.must_drain() {
            let _ = watch.drain();
        }
        watch.begin()
    }

    #[test]
    fn however_many_entries_there_are_few_of_their_names_are_in_memory() {
        let (_temp, dir, mut watch) = crowded(1000);
        watch.ask(true);
        let (mut seen, mut most) = (0, 0);
        while watch.is_busy() {
            if begun(&mut watch) == Some(true) {
                watch.read_all(&dir, Vec::new());
            }
            watch.read_on();
            most = most.max(watch.line.names.len());
            seen += std::iter::from_fn(|| watch.next()).take(8).count();
        }
        assert_eq!(seen, 1000);
        // Those of one read of the kernel's list.
        assert!(most < READ_AHEAD + 100, "{most}");
    }

    #[test]
    fn what_changes_while_the_directory_is_read_does_not_wait_for_the_end_of_that() {
        let (temp, dir, mut watch) = crowded(200);
        watch.ask(true);
        assert_eq!(begun(&mut watch), Some(true));
        watch.read_all(&dir, Vec::new());
        watch.read_on();
        std::fs::write(temp.path().join("new"), "").unwrap();
        watch.ask(true);
        assert_eq!(begun(&mut watch), Some(false), "what changed, now");
        watch.line_up_changes();
        assert_eq!(begun(&mut watch), None, "the directory, when it has been read");
        assert!(std::iter::from_fn(|| watch.next()).any(|name| name == b"new"));
        assert!(watch.reading.is_some());
        while watch.reading.is_some() {
            watch.read_on();
            let _ = std::iter::from_fn(|| watch.next()).count();
        }
        assert_eq!(begun(&mut watch), Some(true));
    }

    #[test]
    fn names_that_are_too_many_to_remember_are_found_by_reading_the_directory() {
        let temp = tempfile::tempdir().unwrap();
        let (_, mut watch) = watch(temp.path());
        watch.needs_full_scan = false;
        for n in 0..4 * MAX_RECHECK_BYTES / NAME_OVERHEAD {
            watch.keep_for_recheck(n.to_string().as_bytes());
        }
        assert!(watch.needs_full_scan);
        assert!(watch.recheck.len() < MAX_RECHECK_BYTES / NAME_OVERHEAD, "{}", watch.recheck.len());
        watch.line_up_recheck();
        assert_eq!(watch.recheck_bytes, 0);
    }

    /// Works off everything as the supervisor does, and returns the names in the order in which they were looked at, and
    /// the most changes that one loop iteration took in.
    fn scanned(watch: &mut Watch, dir: &OwnedFd) -> (Vec<Vec<u8>>, usize) {
        let (mut names, mut most) = (Vec::new(), 0);
        while watch.is_busy() {
            if watch.must_drain() {
                let before = watch.changed.len();
                let _ = watch.drain();
                most = most.max(watch.changed.len() - before);
            }
            match watch.begin() {
                Some(true) => watch.read_all(dir, Vec::new()),
                Some(false) => watch.line_up_changes(),
                None => {}
            }
            watch.read_on();
            names.extend(std::iter::from_fn(|| watch.next()).take(8));
        }
        (names, most)
    }

    #[test]
    fn a_scan_sees_every_change_that_came_before_it_and_takes_them_in_by_and_by() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, mut watch) = watch(temp.path());
        watch.ask(true);
        let _ = scanned(&mut watch, &dir);
        for n in 0..1000 {
            std::fs::write(temp.path().join(format!("{n}-{}", "x".repeat(n % 100))), "").unwrap();
        }
        watch.ask(false);
        let (names, most) = scanned(&mut watch, &dir);
        assert_eq!(names.len(), 1000);
        // One reading of the kernel's queue more than the share.
        assert!(most <= EVENTS_AT_ONCE + 4096 / 32, "{most}");
    }

    #[test]
    fn whoever_comes_late_is_looked_at_after_who_was_there_whatever_the_names_are() {
        let temp = tempfile::tempdir().unwrap();
        let (_, mut watch) = watch(temp.path());
        watch.line_up(b"web".to_vec());
        for n in 0..20_000 {
            watch.line_up(format!("a{n}").into_bytes());
            watch.line_up(b"a0".to_vec());
        }
        assert_eq!(watch.next().unwrap(), b"web");
        assert_eq!(std::iter::from_fn(|| watch.next()).count(), 20_000);
    }

    #[test]
    fn more_names_than_anybody_needs_are_left_for_a_later_scan() {
        let temp = tempfile::tempdir().unwrap();
        let (_, mut watch) = watch(temp.path());
        watch.needs_full_scan = false;
        for n in 0..MAX_PENDING + 10 {
            watch.line_up(n.to_string().into_bytes());
        }
        assert!(watch.needs_full_scan);
        assert_eq!(watch.line.names.len(), MAX_PENDING);
        watch.stop();
        assert!(!watch.is_busy());
    }
}
