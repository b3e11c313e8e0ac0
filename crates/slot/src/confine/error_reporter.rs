//! Who writes down why the command could not be executed, when the process that tried may write nothing any more.
//!
//! *Lives here:* a process that outlives the attempt by nothing. *Does not live here:* the line itself.
//!
//! Landlock or a limit may keep the interpreter from replacing `data/start-error`. So a process forked before them waits:
//! exec closes its socket and it ends; a line that comes through it is written down, and then it ends.

use std::os::fd::OwnedFd;

use rustix::io::{Errno, read};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};

use crate::failure::START_ERROR;
use crate::os;

/// Bytes of a line that is written down, at the most.
const LINE_BYTES: usize = 2048;

/// The near end of the error reporter's socket.
#[derive(Debug)]
pub(crate) struct ErrorReporter(OwnedFd);

impl ErrorReporter {
    /// Forks the error reporter for the service directory.
    pub(crate) fn post(directory: &OwnedFd) -> Result<Self, Errno> {
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let mut near = Some(near);
        os::fork_detached(|| {
            // In the error reporter alone: its own copy would keep the end from being one.
            drop(near.take());
            os::let_go_of_stdio();
            let line = until_end(&far);
            if !line.is_empty() {
                let _ = os::replace_in_data(directory, START_ERROR, &line);
            }
        })?;
        near.take().map(Self).ok_or(Errno::BADF)
    }

    /// Has a line written down, and returns when that is over.
    pub(crate) fn tell(self, line: &str) {
        let written = gatevisor_sys::file::write_all(&self.0, line.as_bytes());
        if written.and_then(|()| shutdown(&self.0, Shutdown::Write)).is_ok() {
            let _ = until_end(&self.0);
        }
    }
}

fn until_end(socket: &OwnedFd) -> Vec<u8> {
    let mut bytes = vec![0; LINE_BYTES];
    let mut filled = 0_usize;
    while let Some(rest) = bytes.get_mut(filled..)
        && !rest.is_empty()
    {
        match read(socket, rest) {
            Ok(0) => break,
            Ok(more) => filled = filled.saturating_add(more),
            Err(Errno::INTR) => {}
            Err(_) => break,
        }
    }
    bytes.truncate(filled);
    bytes
}
