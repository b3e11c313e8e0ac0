//! Telling the listeners of an event fifodir.
//!
//! **Source:** skarnet's ftrigw and the layout in `gatevisor_wire::event`.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use gatevisor_sys::{Errno, file};
use gatevisor_wire::event::{Letter, is_listener_name};
use gatevisor_wire::files;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat, fstat, openat, unlinkat};

/// Listeners that one broadcast reaches at the most.
const MAX_LISTENERS: usize = 1000;

/// Writes `letters` to every listener below `dir`/event and removes those that nobody reads.
///
/// Never waits: a listener whose pipe is full misses the letters.
pub(crate) fn broadcast(dir: impl AsFd, letters: &[Letter]) {
    // No alphabet is longer, so nothing is cut.
    let mut bytes = [0_u8; 8];
    let mut length = 0;
    for (slot, letter) in bytes.iter_mut().zip(letters) {
        *slot = letter.byte();
        length += 1;
    }
    let bytes = bytes.get(..length).unwrap_or_default();
    let Ok(event) = file::open_directory(dir, files::EVENT) else { return };
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(&event, &mut space);
    let mut reached = 0;
    while let Some(Ok(entry)) = entries.next() {
        let name = entry.file_name();
        if !is_listener_name(name.to_bytes()) {
            continue;
        }
        if tell(&event, name, bytes) {
            reached += 1;
        }
        if reached >= MAX_LISTENERS {
            break;
        }
    }
}

/// Writes to the FIFO `name`, or removes it if nobody reads it; returns whether it has a reader.
fn tell(event: impl AsFd, name: &std::ffi::CStr, bytes: &[u8]) -> bool {
    let event = event.as_fd();
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let gone = match openat(event, name, flags, Mode::empty()) {
        Ok(fd) => {
            // What is no FIFO, such as a hard link to a file of somebody else, is neither written to nor removed.
            // A FIFO with another name may be one from which somebody takes commands.
            let is_listener =
                |stat: Stat| FileType::from_raw_mode(stat.st_mode).is_fifo() && stat.st_nlink == 1;
            if !fstat(&fd).is_ok_and(is_listener) {
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
