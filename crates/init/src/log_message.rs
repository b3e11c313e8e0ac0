//! What a log daemon is told.
//!
//! *Lives here:* the messages that wait for a daemon, and the descriptors that go with each. *Does
//! not live here:* the bytes (`gatevisor_wire::log_protocol`), and when a daemon is told something
//! (`logging`).

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use gatevisor_sys::{Errno, socket};
use gatevisor_wire::log_protocol::LogCommand;

use crate::log_pipe::LogPipe;

/// Something to tell a daemon.
#[derive(Debug)]
pub(crate) enum DaemonMessage {
    /// Answer into this pipe.
    ReplyPipe(OwnedFd),
    /// Write what comes through the log pipe of this name.
    Take(Rc<[u8]>),
    /// Write what is left in the log pipe of this name, and let go of it.
    Release(Rc<[u8]>),
    /// Write what is left of everything, and end.
    Quit,
}

/// Sends a message as far as the daemon takes it now.
pub(crate) fn send(
    socket: &OwnedFd,
    message: &DaemonMessage,
    pipes: &HashMap<Rc<[u8]>, LogPipe>,
) -> Result<(), Errno> {
    let mut fds: Vec<BorrowedFd<'_>> = Vec::new();
    let command = match message {
        DaemonMessage::ReplyPipe(pipe) => {
            fds.push(pipe.as_fd());
            LogCommand::ReplyPipe
        }
        DaemonMessage::Quit => LogCommand::Quit,
        DaemonMessage::Take(name) => {
            // A pipe that was released in the meantime needs no word.
            let Some(pipe) = pipes.get(name) else { return Ok(()) };
            fds.push(pipe.reader.as_fd());
            fds.extend(pipe.service_dir.as_ref().map(|dir| dir.as_fd()));
            fds.extend(pipe.stderr.as_ref().map(|pipe| pipe.reader.as_fd()));
            match pipe.service_dir {
                Some(_) => LogCommand::Log { id: pipe.number, name },
                None => LogCommand::Show { id: pipe.number, name },
            }
        }
        DaemonMessage::Release(name) => {
            let Some(pipe) = pipes.get(name) else { return Ok(()) };
            LogCommand::Release { id: pipe.number }
        }
    };
    socket::send_with_fds(socket, &command.encode(), &fds).map(|_| ())
}
