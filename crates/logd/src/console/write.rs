//! Writes to a reader that may never read.
//!
//! *Lives here:* a write that waits as long as necessary.
//! *Does not live here:* the threads that may wait.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, write};

/// Writes everything, and waits as long as necessary.
pub(crate) fn write_all(fd: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Another process that shares the description made it non-blocking.
            Err(Errno::AGAIN) => {
                match poll(&mut [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::OUT)], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno),
                }
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
