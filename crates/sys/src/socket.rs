//! Message sockets that carry descriptors, and those that name the sender.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gatevisor_wire::Pid;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, recvmsg, sendmsg, shutdown,
    socketpair,
};

use crate::raw;

/// Descriptors that one message may carry.
pub const MAX_FDS: usize = 4;

/// Returns two connected sequenced-packet sockets, close-on-exec and non-blocking.
pub fn seqpacket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

/// Takes nothing more from the peer of this socket, neither bytes nor descriptors; the peer's
/// attempts fail with `EPIPE`.
///
/// Whoever has the last descriptor of a file waits for what closing it takes, so descriptors of
/// somebody who is not to be waited for must not even arrive.
pub fn refuse_all(socket: impl AsFd) -> Result<(), Errno> {
    shutdown(socket, Shutdown::Read)
}

/// Sends one packet with `fds` attached, without waiting.
///
/// # Errors
/// `EAGAIN` when the peer's queue is full, `EPIPE` when it is gone (no signal is raised).
pub fn send_with_fds(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL);
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

/// Receives one packet into `buffer` and appends its descriptors to `fds`; 0 bytes means that the
/// peer is gone.
///
/// # Errors
/// `EAGAIN` when nothing is there and the socket does not wait.
pub fn recv_with_fds(socket: impl AsFd, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            fds.extend(received);
        }
    }
    Ok(message.bytes)
}

/// A datagram that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its length as it was sent, which may be more than was received.
    pub length: usize,
    /// Who sent it, where that has a number here.
    pub sender: Option<Pid>,
}

/// Receives one datagram on a socket that has its senders named, without waiting; descriptors do
/// not come in.
///
/// # Errors
/// `EAGAIN` when nothing is there.
pub fn recv_with_sender(socket: impl AsFd, buffer: &mut [u8]) -> Result<Received, Errno> {
    let (length, sender) = raw::receive_with_sender(socket.as_fd(), buffer)?;
    Ok(Received { length, sender: sender.and_then(Pid::new) })
}
