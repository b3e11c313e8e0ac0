//! Sends events to the subscribers of an event fifodir, to a few at a time if there are many.
//!
//! *Lives here:* finding subscribers, and writing to them.
//! *Does not live here:* which events are sent; how much at once, in which order, and which are
//! lost (`gatevisor_core::broadcasts`).
//!
//! **Source:** skarnet's ftrigw and the layout in `gatevisor_wire::event`.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use gatevisor_core::broadcasts::{
    BroadcastQueue, BroadcastTally, MAX_ENTRIES, MAX_SUBSCRIBERS, Reach, Slice,
};
use gatevisor_sys::{Errno, file};
use gatevisor_wire::event::{ServiceEvent, is_subscriber_name};
use gatevisor_wire::files;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, SeekFrom, Stat, fstat, openat, seek, unlinkat};

use crate::id::Id;
use crate::stderr_log::say;

/// Bytes of directory entries in one slice of a broadcast: two or three dozens of subscribers.
const SLICE_BYTES: usize = 2048;

/// The bytes of a broadcast, in a fixed buffer: no alphabet of events is longer.
type Bytes = ([u8; 8], usize);

/// A broadcast that is in progress, or waits for an earlier one of the same service.
#[derive(Debug)]
struct Telling {
    event: Rc<OwnedFd>,
    bytes: Bytes,
    tally: BroadcastTally,
    /// Whether its directory was opened for it alone, and is therefore read from its beginning.
    is_alone: bool,
}

/// All long broadcasts.
#[derive(Debug, Default)]
pub(crate) struct Broadcasts(BroadcastQueue<Id, Telling>);

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
        let earlier = self.0.last_of(id).map(|earlier| Rc::clone(&earlier.event));
        let is_alone = earlier.is_none();
        let event = match earlier {
            Some(event) => event,
            None => match file::open_directory(dir, files::EVENT) {
                Ok(event) => Rc::new(event),
                Err(_) => return Reach::Everybody,
            },
        };
        let telling = Telling { event, bytes, tally: BroadcastTally::default(), is_alone };
        self.0.begin(id, owner, telling, Telling::send)
    }

    /// Continues the long broadcasts, those of each owner in turn; returns the services whose
    /// fifodirs have too many entries.
    pub(crate) fn go_on(&mut self) -> Vec<Id> {
        self.0.go_on(Telling::send)
    }

    /// Returns whether a broadcast is unfinished.
    pub(crate) fn are_busy(&self) -> bool {
        !self.0.is_empty()
    }
}

impl Telling {
    /// Writes to the next few subscribers.
    fn send(&mut self) -> Slice {
        let begins_again = self.tally.is_empty() && !self.is_alone;
        if begins_again && seek(&*self.event, SeekFrom::Start(0)).is_err() {
            return Slice::Last;
        }
        let mut space = [MaybeUninit::uninit(); SLICE_BYTES];
        let mut entries = RawDir::new(&*self.event, &mut space);
        let bytes = self.bytes.0.get(..self.bytes.1).unwrap_or_default();
        loop {
            let Some(Ok(entry)) = entries.next() else { return Slice::Last };
            let may_be = matches!(entry.file_type(), FileType::Fifo | FileType::Unknown);
            let name = entry.file_name();
            let is_told = may_be && is_subscriber_name(name.to_bytes()) && tell(&*self.event, name, bytes);
            if self.tally.count(is_told) {
                return Slice::AtLimit;
            }
            // Entries that were read but not looked at would be lost.
            if entries.is_buffer_empty() {
                return Slice::More;
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

/// Reports that not all subscribers received the events, whichever limit was reached.
pub(crate) fn say_crowded(name: &str) {
    say!(
        "warning: {name}: `event` has more than {MAX_SUBSCRIBERS} subscribers or {MAX_ENTRIES} entries, or too many \
         events wait; some receive nothing"
    );
}
