//! Message sockets that carry descriptors, and message sockets that name the sender.

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

/// The most descriptors in one message.
pub const MAX_FDS: usize = 4;

/// Returns two connected sequenced-packet sockets, close-on-exec and non-blocking.
pub fn seqpacket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

/// Accepts nothing more from the peer of this socket, neither bytes nor descriptors; the peer's
/// attempts fail with `EPIPE`.
///
/// Closing the last descriptor of a file may make us wait for the file's maker. So descriptors from
/// a user for whom we must not wait must not even arrive.
pub fn refuse_all(socket: impl AsFd) -> Result<(), Errno> {
    shutdown(socket, Shutdown::Read)
}

/// Sends one packet with `fds` attached, without waiting.
///
/// # Errors
/// `EAGAIN` if the peer's queue is full, `EPIPE` if the peer is gone (no signal is raised).
pub fn send_with_fds(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL);
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

/// Receives one packet into `buffer` and appends its descriptors to `fds`. A result of 0 bytes
/// means that the peer is gone, and that all of its packets have been received.
///
/// If the peer has closed its end without reading all that it was sent, the kernel reports that
/// once (`ECONNRESET`), before it gives the peer's last packets.
///
/// # Errors
/// `EAGAIN` if there is no packet and the socket does not wait.
///
/// **Source:** Linux, `unix_release_sock` and `sock_error`.
pub fn recv_with_fds(socket: impl AsFd, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut receive =
        || recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC);
    let message = match receive() {
        Err(Errno::CONNRESET) => receive()?,
        received => received?,
    };
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
    /// Its length as it was sent, which may be more than the buffer holds.
    pub length: usize,
    /// The process that sent it, if it has a number here.
    pub sender: Option<Pid>,
}

/// Receives one datagram, without waiting, on a socket whose senders the kernel names. Descriptors
/// are not received.
///
/// # Errors
/// `EAGAIN` if there is none.
pub fn recv_with_sender(socket: impl AsFd, buffer: &mut [u8]) -> Result<Received, Errno> {
    let (length, sender) = raw::receive_with_sender(socket.as_fd(), buffer)?;
    Ok(Received { length, sender: sender.and_then(Pid::new) })
}
