//! A process that records why the command could not be executed, for an interpreter that may not
//! write any more.
//!
//! *Lives here:* that process and the socket to it.
//! *Does not live here:* the text of the line.
//!
//! Landlock or a limit may prevent the interpreter from replacing `data/start-error`. So the
//! interpreter forks this process before it restricts itself. When the command is executed, the
//! socket closes and the process ends. If a line comes through the socket, the process writes it to
//! the file first.

use std::os::fd::OwnedFd;

use rustix::io::{Errno, read};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};

use crate::data_files::START_ERROR;
use crate::os;

/// The longest line in bytes.
const LINE_BYTES: usize = 2048;

/// The interpreter's end of the socket to the error reporter.
#[derive(Debug)]
pub(crate) struct ErrorReporter(OwnedFd);

impl ErrorReporter {
    /// Forks the process that reports errors in the service directory.
    pub(crate) fn fork(directory: &OwnedFd) -> Result<Self, Errno> {
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let mut near = Some(near);
        os::fork_detached(|| {
            // The child must not hold the interpreter's end, or it would never see that end close.
            drop(near.take());
            os::let_go_of_stdio();
            let line = until_end(&far);
            if !line.is_empty() {
                let _ = os::replace_in_data(directory, START_ERROR, &line);
            }
        })?;
        near.take().map(Self).ok_or(Errno::BADF)
    }

    /// Records a line; returns when that has happened.
    pub(crate) fn report(self, line: &str) {
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
