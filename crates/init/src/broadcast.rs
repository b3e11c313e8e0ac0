//! Sends events to the subscribers of an event fifodir, to a few at a time if there are many.
//!
//! *Lives here:* the order of subscribers, and their limit.
//! *Does not live here:* which events are sent.
//!
//! **Source:** skarnet's ftrigw and the layout in `gatevisor_wire::event`.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use gatevisor_core::fair::{Counts, FairQueue};
use gatevisor_sys::{Errno, file};
use gatevisor_wire::event::{ServiceEvent, is_subscriber_name};
use gatevisor_wire::files;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, SeekFrom, Stat, fstat, openat, seek, unlinkat};

use crate::id::Id;
use crate::stderr_log::say;

/// The most subscribers that one broadcast reaches.
const MAX_SUBSCRIBERS: usize = 1000;
/// The most entries of a fifodir that one broadcast looks at.
const MAX_ENTRIES: usize = 16_384;
/// Bytes of directory entries in one slice of a broadcast: two or three dozens of subscribers.
const SLICE_BYTES: usize = 2048;
/// The slices that are done at once: one with entries, and one that shows that there are no more.
const SLICES_AT_ONCE: usize = 2;
/// The slices of long broadcasts that are done in one loop iteration.
const SLICES_AN_ITERATION: usize = 4;
/// The most broadcasts of one service that wait for an earlier one.
const MAX_WAITING: usize = 64;
/// The most services of one user with a long broadcast. Each holds a descriptor.
const MAX_LONG_OF_OWNER: usize = 32;

/// The bytes of a broadcast, in a fixed buffer: no alphabet of events is longer.
type Bytes = ([u8; 8], usize);

/// A broadcast that is in progress, or waits for an earlier one of the same service.
#[derive(Debug)]
struct Telling {
    event: Rc<OwnedFd>,
    bytes: Bytes,
    looked_at: usize,
    reached: usize,
}

/// Whether everybody has the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BroadcastProgress {
    More,
    Done,
    /// It reached its limit.
    CutShort,
}

/// All long broadcasts.
#[derive(Debug, Default)]
pub(crate) struct Broadcasts {
    queue: FairQueue<Id>,
    /// The number of services with a long broadcast, for each user.
    long: Counts,
    /// The broadcasts of each service, in order.
    tellings: HashMap<Id, std::collections::VecDeque<Telling>>,
}

/// Whether a broadcast reaches every subscriber of a fifodir.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Everybody receives it, now or later.
    Everybody,
    /// The fifodir has more entries or subscribers than the limit.
    CutShort,
}

impl Broadcasts {
    /// Writes `events` to every subscriber below `dir`/event, and removes subscribers that nobody
    /// reads.
    ///
    /// Never waits: a subscriber whose pipe is full misses the events. If there are many
    /// subscribers, the rest receive the events later, in the same order.
    pub(crate) fn begin(&mut self, id: Id, owner: u32, dir: impl AsFd, events: &[ServiceEvent]) -> Reach {
        let mut bytes = ([0_u8; 8], 0);
        for (place, event) in bytes.0.iter_mut().zip(events) {
            *place = event.byte();
            bytes.1 += 1;
        }
        if let Some(earlier) = self.tellings.get_mut(&id)
            && let Some(event) = earlier.back().map(|telling| Rc::clone(&telling.event))
        {
            if earlier.len() >= MAX_WAITING {
                return Reach::CutShort;
            }
            earlier.push_back(Telling { event, bytes, looked_at: 0, reached: 0 });
            return Reach::Everybody;
        }
        let Ok(event) = file::open_directory(dir, files::EVENT) else { return Reach::Everybody };
        let mut telling = Telling { event: Rc::new(event), bytes, looked_at: 0, reached: 0 };
        for _ in 0..SLICES_AT_ONCE {
            match telling.go_on() {
                BroadcastProgress::More => {}
                BroadcastProgress::Done => return Reach::Everybody,
                BroadcastProgress::CutShort => return Reach::CutShort,
            }
        }
        if self.long.of(owner) >= MAX_LONG_OF_OWNER {
            return Reach::CutShort;
        }
        self.long.add(owner);
        self.tellings.insert(id, [telling].into());
        self.queue.push(owner, id);
        Reach::Everybody
    }

    /// Continues the long broadcasts, those of each owner in turn; returns the services whose
    /// fifodirs have too many entries.
    pub(crate) fn go_on(&mut self) -> Vec<Id> {
        let mut crowded = Vec::new();
        for _ in 0..SLICES_AN_ITERATION {
            let Some((owner, id)) = self.queue.pop(|_| true) else { break };
            let Some(tellings) = self.tellings.get_mut(&id) else { continue };
            let progress = tellings.front_mut().map_or(BroadcastProgress::Done, Telling::go_on);
            if progress == BroadcastProgress::CutShort {
                crowded.push(id);
            }
            if progress != BroadcastProgress::More {
                tellings.pop_front();
            }
            if tellings.is_empty() {
                self.tellings.remove(&id);
                self.long.remove(owner);
            } else {
                self.queue.push(owner, id);
            }
        }
        crowded
    }

    /// Returns whether a broadcast is unfinished.
    pub(crate) fn are_busy(&self) -> bool {
        !self.queue.is_empty()
    }
}

impl Telling {
    /// Writes to the next few subscribers.
    fn go_on(&mut self) -> BroadcastProgress {
        if self.looked_at == 0 && seek(&*self.event, SeekFrom::Start(0)).is_err() {
            return BroadcastProgress::Done;
        }
        let mut space = [MaybeUninit::uninit(); SLICE_BYTES];
        let mut entries = RawDir::new(&*self.event, &mut space);
        let bytes = self.bytes.0.get(..self.bytes.1).unwrap_or_default();
        loop {
            let Some(Ok(entry)) = entries.next() else { return BroadcastProgress::Done };
            self.looked_at = self.looked_at.saturating_add(1);
            let may_be = matches!(entry.file_type(), FileType::Fifo | FileType::Unknown);
            let name = entry.file_name();
            if may_be && is_subscriber_name(name.to_bytes()) && tell(&*self.event, name, bytes) {
                self.reached = self.reached.saturating_add(1);
            }
            if self.reached >= MAX_SUBSCRIBERS || self.looked_at >= MAX_ENTRIES {
                return BroadcastProgress::CutShort;
            }
            // Entries that were read but not looked at would be lost.
            if entries.is_buffer_empty() {
                return BroadcastProgress::More;
            }
        }
    }
}

/// Writes to the FIFO `name`, or removes it if nobody reads it; returns whether it has a reader.
fn tell(event: impl AsFd, name: &std::ffi::CStr, bytes: &[u8]) -> bool {
    let event = event.as_fd();
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let gone = match openat(event, name, flags, Mode::empty()) {
        Ok(fd) => {
            // A file that is not a FIFO, such as a hard link to somebody else's file, is neither
            // written to nor removed. A FIFO with another kind of name may be one whose reader
            // takes commands from it.
            let is_subscriber =
                |stat: Stat| FileType::from_raw_mode(stat.st_mode).is_fifo() && stat.st_nlink == 1;
            if !fstat(&fd).is_ok_and(is_subscriber) {
                return false;
            }
            rustix::io::write(&fd, bytes) == Err(Errno::PIPE)
        }
        Err(Errno::NXIO) => true,
        Err(_) => return false,
    };
    if gone {
        let _ = unlinkat(event, name, AtFlags::empty());
    }
    !gone
}

/// Reports that not all subscribers received the events.
pub(crate) fn say_crowded(name: &str) {
    say!(
        "warning: {name}: `event` has more than {MAX_SUBSCRIBERS} subscribers or {MAX_ENTRIES} entries; the rest receives \
         nothing"
    );
}
