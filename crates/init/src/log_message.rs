//! The messages to a log daemon.
//!
//! *Lives here:* the messages that wait for a daemon, and the descriptors that accompany each.
//! *Does not live here:* the bytes (`gatevisor_wire::log_protocol`), and when a message is sent
//! (`logging`).

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use gatevisor_sys::{Errno, socket};
use gatevisor_wire::log_protocol::LogCommand;

use crate::log_pipe::LogPipe;

/// A message to a daemon.
#[derive(Debug)]
pub(crate) enum DaemonMessage {
    /// Send replies into this pipe.
    ReplyPipe(OwnedFd),
    /// Write the output of the log pipe of this name.
    Take(Rc<[u8]>),
    /// Write the rest of the log pipe of this name, and release it.
    Release(Rc<[u8]>),
    /// Write the rest of everything, and end.
    Quit,
}

/// Sends a message, if the daemon can accept it now.
pub(crate) fn send(
    socket: &OwnedFd,
    message: &DaemonMessage,
    pipes: &HashMap<Rc<[u8]>, LogPipe>,
) -> Result<(), Errno> {
    let (command, fds): (_, Vec<BorrowedFd<'_>>) = match message {
        DaemonMessage::ReplyPipe(pipe) => (LogCommand::ReplyPipe, vec![pipe.as_fd()]),
        DaemonMessage::Quit => (LogCommand::Quit, Vec::new()),
        // If the pipe was released meanwhile, there is nothing to say about it.
        DaemonMessage::Take(name) => match pipes.get(name) {
            Some(pipe) => pipe.handover(name),
            None => return Ok(()),
        },
        DaemonMessage::Release(name) => match pipes.get(name) {
            Some(pipe) => (LogCommand::Release { id: pipe.number() }, Vec::new()),
            None => return Ok(()),
        },
    };
    socket::send_with_fds(socket, &command.encode(), &fds).map(|_| ())
}
