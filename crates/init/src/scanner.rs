//! Observes the scandir: receives its changes from the kernel, and reads it.
//!
//! *Lives here:* the watch on the scandir, the directory that is being read, the refused names.
//! *Does not live here:* which names are looked at, and when (`gatevisor_core::scan_queue`), and
//! the consequences (`supervisor/scanning`).
//!
//! If no watch can be had, a rescan reads the whole directory.
//!
//! It has no `gatevisor_sys::inotify`, because it counts the bytes of the events that it has read:
//! so a scan knows which changes came before it was asked for.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use gatevisor_core::scan_queue::{EntryName, LinedUp, MAX_PENDING, ScanQueue, ScanScope};
use gatevisor_sys::file;
use rustix::fs::{RawDir, inotify};

use crate::refusals::RefusedNames;
use crate::stderr_log::say;

/// The most changes that are handled before other events.
const CHANGES_AT_ONCE: usize = 256;

/// The watch on the scandir, and the scans.
#[derive(Debug)]
pub(crate) struct Scanner {
    inotify: Option<OwnedFd>,
    /// The watch on the scandir, until it is ended.
    watch: Option<i32>,
    queue: ScanQueue,
    /// The whole directory, if it is being read.
    reading: Option<OwnedFd>,
    refusals: RefusedNames,
}

/// Changes that the kernel reported.
#[derive(Debug, Default)]
pub(crate) struct WatchChanges {
    /// The names that an entry left, each once.
    pub(crate) left: BTreeSet<EntryName>,
    /// Whether changes were lost, so that any entry may have left.
    pub(crate) lost_count: bool,
}

/// Reports once that there are more names than can be looked at.
fn say_if_too_many(lined_up: LinedUp) {
    if lined_up == LinedUp::TooMany {
        say!(
            "warning: the scandir has more than {MAX_PENDING} entries; the rest is left out until a later scan"
        );
    }
}

/// Returns the bytes of changes that are still unread.
fn unread(inotify: Option<&OwnedFd>) -> u64 {
    inotify.map_or(0, |fd| rustix::io::ioctl_fionread(fd).unwrap_or(0))
}

impl Scanner {
    pub(crate) fn new(path: &Path, scandir: impl AsFd, svscan: &OwnedFd) -> Self {
        let flags = inotify::WatchFlags::CREATE
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::MOVED_FROM
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::ONLYDIR;
        // This is the opened directory itself, whatever its path leads to by now.
        let opened = format!("/proc/self/fd/{}", scandir.as_fd().as_raw_fd());
        let watched =
            inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).and_then(|fd| {
                inotify::add_watch(&fd, opened, flags)
                    .or_else(|_| inotify::add_watch(&fd, path, flags))
                    .map(|watch| (fd, watch))
            });
        let (inotify, watch) = match watched {
            Ok((fd, watch)) => (Some(fd), Some(watch)),
            Err(errno) => {
                say!("warning: cannot watch `{}`: {errno}; each rescan reads all of it", path.display());
                (None, None)
            }
        };
        let queue = ScanQueue::new(inotify.is_some());
        Self { inotify, watch, queue, reading: None, refusals: RefusedNames::new(svscan) }
    }

    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// Requests a scan, of the whole directory or of the changes up to now.
    pub(crate) fn request(&mut self, scope: ScanScope) {
        self.queue.request(scope, || unread(self.inotify.as_ref()));
    }

    /// Returns whether there is work left.
    pub(crate) fn is_busy(&self) -> bool {
        self.queue.is_busy()
    }

    /// Drops every scan.
    pub(crate) fn stop(&mut self) {
        self.queue.stop();
        self.reading = None;
    }

    /// Ends the watch, because nothing that is supervised can leave any more. The kernel takes it
    /// apart meanwhile, for which whoever closes it would wait.
    pub(crate) fn end_watch(&mut self) {
        if let (Some(inotify), Some(watch)) = (&self.inotify, self.watch.take()) {
            // It has ended already if the scandir has gone.
            let _ = inotify::remove_watch(inotify, watch);
        }
    }

    /// Reads some of the changes that the kernel reports.
    pub(crate) fn drain(&mut self) -> WatchChanges {
        let mut news = WatchChanges::default();
        let Some(fd) = &self.inotify else { return news };
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(fd, &mut space);
        let (mut count, mut bytes) = (0_usize, 0_u64);
        let mut is_empty = true;
        while let Ok(event) = reader.next() {
            let flags = event.events();
            news.lost_count |= flags.contains(inotify::ReadFlags::QUEUE_OVERFLOW);
            let name = event.file_name().map(|name| name.to_bytes().to_vec()).unwrap_or_default();
            bytes = bytes.saturating_add(size_of_event(name.len()));
            count = count.saturating_add(1);
            if !name.is_empty() && name.first() != Some(&b'.') {
                if flags.intersects(inotify::ReadFlags::DELETE | inotify::ReadFlags::MOVED_FROM) {
                    news.left.insert(name.clone());
                }
                self.queue.changed(name);
            }
            // Changes that were read but not looked at would be lost.
            if count >= CHANGES_AT_ONCE && reader.is_buffer_empty() {
                is_empty = false;
                break;
            }
        }
        self.queue.drained(bytes, is_empty);
        news
    }

    /// Notes that changes were lost, so that any of the `supervised` entries may have gone.
    pub(crate) fn lost_count(&mut self, supervised: Vec<EntryName>) {
        self.queue.lost_count(supervised);
    }

    /// Returns some of the supervised entries that may have gone.
    pub(crate) fn next_unverified(&mut self) -> Vec<EntryName> {
        self.queue.next_unverified()
    }

    /// Returns whether a requested scan has to wait until earlier changes are read.
    pub(crate) fn must_drain(&self) -> bool {
        self.queue.must_drain()
    }

    /// Returns the scope of a scan that begins now, if one does. Then call [`Self::begin`] with it.
    pub(crate) fn next_scope(&mut self) -> Option<ScanScope> {
        self.queue.begin(|| unread(self.inotify.as_ref()))
    }

    /// Begins a scan. A scan of the whole directory also looks at the `supervised` names and at the
    /// refused ones.
    pub(crate) fn begin(
        &mut self,
        scandir: impl AsFd,
        scope: ScanScope,
        supervised: impl FnOnce() -> Vec<EntryName>,
    ) {
        if scope == ScanScope::Changes {
            return say_if_too_many(self.queue.line_up_changes());
        }
        let mut known = supervised();
        known.extend(self.refusals.names().cloned());
        say_if_too_many(self.queue.begin_reading(known));
        match file::open_directory(scandir, ".") {
            Ok(dir) => self.reading = Some(dir),
            Err(errno) => {
                say!("warning: cannot read the scandir: {errno}");
                self.queue.reading_ended(true);
            }
        }
    }

    /// Continues to read the directory, if it is being read and few of its names wait.
    pub(crate) fn read_on(&mut self) {
        if !self.queue.wants_more() {
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
                        self.queue.line_up_read(name.to_vec());
                    }
                }
                Some(Err(errno)) => {
                    say!("warning: cannot read all of the scandir: {errno}");
                    return self.queue.reading_ended(false);
                }
                None => return self.queue.reading_ended(true),
            }
            if entries.is_buffer_empty() {
                break;
            }
        }
        self.reading = Some(dir);
    }

    /// Returns the next name to look at.
    pub(crate) fn next_name(&mut self) -> Option<EntryName> {
        self.queue.pop()
    }

    /// Makes each later scan look at a name about which the kernel does not tell everything.
    pub(crate) fn recheck(&mut self, name: &[u8]) {
        self.queue.recheck(name);
    }

    /// Queues the names that each scan looks at.
    pub(crate) fn line_up_recheck(&mut self) {
        say_if_too_many(self.queue.line_up_recheck());
    }

    /// Notes that no process is starting any more, and queues the entries that lacked descriptors.
    pub(crate) fn descriptors_are_back(&mut self) {
        say_if_too_many(self.queue.descriptors_are_back());
    }

    /// Notes that an entry, which belongs to `owner`, is refused, perhaps because descriptors were
    /// lacking.
    pub(crate) fn refuse(&mut self, name: &[u8], reason: &str, owner: u32, lacks_descriptors: bool) {
        if lacks_descriptors {
            self.queue.lacked_descriptors();
        }
        if self.refusals.refuse(name, reason, owner) {
            self.queue.recheck(name);
        } else {
            // The reason is not remembered, so only the directory knows the name.
            self.queue.forget();
        }
    }

    /// Notes that an entry, which belongs to `owner`, is refused because of its name.
    pub(crate) fn refuse_name(&mut self, name: &[u8], reason: &str, owner: u32) {
        self.refusals.refuse(name, reason, owner);
    }

    /// Notes that an entry is supervised or gone.
    pub(crate) fn forget_refusal(&mut self, name: &[u8]) {
        self.refusals.forget(name);
    }
}

/// Returns the bytes of an event about a name of this length.
///
/// **Source:** inotify(7): a header of 16 bytes, and the name with at least one zero up to a
/// multiple of 16.
fn size_of_event(name: usize) -> u64 {
    let padded = if name == 0 { 0 } else { name.saturating_add(1).next_multiple_of(16) };
    u64::try_from(padded).unwrap_or(u64::MAX).saturating_add(16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatevisor_core::scan_queue::READ_AHEAD;

    fn scanner(path: &Path) -> (OwnedFd, Scanner) {
        let dir = file::open_directory(rustix::fs::CWD, path).unwrap();
        let svscan = file::open_directory(rustix::fs::CWD, path).unwrap();
        let scanner = Scanner::new(path, &dir, &svscan);
        (dir, scanner)
    }

    /// Returns a directory with this many entries with long names, and a scanner of it.
    fn crowded(entries: usize) -> (tempfile::TempDir, OwnedFd, Scanner) {
        let temp = tempfile::tempdir().unwrap();
        // The scanner's own directory is beside them.
        for n in 1..entries {
            std::fs::write(temp.path().join(format!("{n}-{}", "x".repeat(200))), "").unwrap();
        }
        let (dir, scanner) = scanner(temp.path());
        (temp, dir, scanner)
    }

    /// Reads the changes before the requested scan, and begins it.
    fn begun(scanner: &mut Scanner, dir: &OwnedFd) -> Option<ScanScope> {
        while scanner.must_drain() {
            let _ = scanner.drain();
        }
        let scope = scanner.next_scope()?;
        scanner.begin(dir, scope, Vec::new);
        Some(scope)
    }

    #[test]
    fn however_many_entries_there_are_few_of_their_names_are_in_memory() {
        let (_temp, dir, mut scanner) = crowded(1000);
        scanner.request(ScanScope::Whole);
        let (mut seen, mut most) = (0, 0);
        while scanner.is_busy() {
            let _ = begun(&mut scanner, &dir);
            scanner.read_on();
            most = most.max(scanner.queue.in_line());
            seen += std::iter::from_fn(|| scanner.next_name()).take(8).count();
        }
        assert_eq!(seen, 1000);
        // One read of the kernel's list may exceed the limit.
        assert!(most < READ_AHEAD + 100, "{most}");
    }

    #[test]
    fn what_changes_while_the_directory_is_read_does_not_wait_for_the_end_of_that() {
        let (temp, dir, mut scanner) = crowded(200);
        scanner.request(ScanScope::Whole);
        assert_eq!(begun(&mut scanner, &dir), Some(ScanScope::Whole));
        scanner.read_on();
        std::fs::write(temp.path().join("new"), "").unwrap();
        scanner.request(ScanScope::Whole);
        assert_eq!(begun(&mut scanner, &dir), Some(ScanScope::Changes), "what changed, now");
        assert_eq!(begun(&mut scanner, &dir), None, "the directory, when it has been read");
        assert!(std::iter::from_fn(|| scanner.next_name()).any(|name| name == b"new"));
        assert!(scanner.reading.is_some());
        while scanner.reading.is_some() {
            scanner.read_on();
            let _ = std::iter::from_fn(|| scanner.next_name()).count();
        }
        assert_eq!(begun(&mut scanner, &dir), Some(ScanScope::Whole));
    }

    #[test]
    fn a_scan_sees_every_change_that_came_before_it_and_takes_them_in_by_and_by() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, mut scanner) = scanner(temp.path());
        scanner.request(ScanScope::Whole);
        let names_of_all = |scanner: &mut Scanner| {
            let (mut names, mut drained) = (Vec::new(), 0);
            while scanner.is_busy() {
                if scanner.must_drain() {
                    let _ = scanner.drain();
                    drained += 1;
                }
                if let Some(scope) = scanner.next_scope() {
                    scanner.begin(&dir, scope, Vec::new);
                }
                scanner.read_on();
                names.extend(std::iter::from_fn(|| scanner.next_name()).take(8));
            }
            (names, drained)
        };
        let _ = names_of_all(&mut scanner);
        for n in 0..1000 {
            std::fs::write(temp.path().join(format!("{n}-{}", "x".repeat(n % 100))), "").unwrap();
        }
        scanner.request(ScanScope::Changes);
        let (names, drained) = names_of_all(&mut scanner);
        assert_eq!(names.len(), 1000);
        // One read of the kernel's queue may exceed the share.
        assert!(drained >= 1000 / (CHANGES_AT_ONCE + 4096 / 32), "{drained}");
    }
}
