//! Receiving what a service says.
//!
//! *Lives here:* the socket, what is taken from it at once, and whose word counts. *Does not live here:* what a datagram says
//! (`message`), and what comes of it (`relay`).
//!
//! The kernel names the sender. Its word counts if it is the service's process, descends from it, or is in its session or
//! control group; nothing is read from a sender's own memory, where it could hold a reader up. A sender that has ended when its
//! datagram is taken cannot be told, and does not count.
//!
//! **Source:** `sd_notify(3)`, `SCM_CREDENTIALS` in unix(7).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use gatevisor_sys::proc::Process;
use gatevisor_sys::socket::recv_with_sender;
use gatevisor_wire::Pid;
use rustix::fs::{AtFlags, Mode, chmodat, fchmod, renameat, unlinkat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, socket_with, sockopt,
};

use super::message::{Message, parse};
use crate::group;

/// Bytes of a datagram that are read; a longer one says nothing.
pub(super) const DATAGRAM_BYTES: usize = 4096;
/// Datagrams that are taken at once.
pub(super) const DATAGRAMS: usize = 32;
/// Ancestors of a sender that are looked at.
const ANCESTORS: usize = 64;
/// Only the user of the service, and root, may send.
const MODE: Mode = Mode::from_raw_mode(0o600);

/// The socket of one service.
#[derive(Debug)]
pub(crate) struct Receiver(OwnedFd);

impl Receiver {
    /// Makes the socket `name` in a directory of this user's, in the place of what is there.
    ///
    /// # Errors
    /// It cannot be made there.
    pub fn bind(directory: impl AsFd, name: &str) -> io::Result<Self> {
        let directory = directory.as_fd();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        sockopt::set_socket_passcred(&socket, true)?;
        // What is bound gets the mode of the socket; not on every system, so it is set again below.
        let _ = fchmod(&socket, MODE);
        let temporary = format!(".{name}.new");
        // What one that was killed has left.
        let _ = unlinkat(directory, &*temporary, AtFlags::empty());
        bind(&socket, &address(directory, &temporary)?)?;
        let placed = chmodat(directory, &*temporary, MODE, AtFlags::empty())
            .and_then(|()| renameat(directory, &*temporary, directory, name));
        if let Err(errno) = placed {
            let _ = unlinkat(directory, &*temporary, AtFlags::empty());
            return Err(errno.into());
        }
        Ok(Self(socket))
    }

    /// Takes what has come, at most so much that a flood costs little, and hands on what senders say that belong to the
    /// service. There may be more: the socket can then still be read.
    pub fn drain(&self, is_member: &mut dyn FnMut(Pid) -> bool, take: &mut dyn FnMut(Message)) {
        let mut buffer = vec![0; DATAGRAM_BYTES.saturating_add(1)];
        // Those of one sender in a row are asked for once.
        let mut last: Option<(Pid, bool)> = None;
        for _ in 0..DATAGRAMS {
            let received = match recv_with_sender(&self.0, &mut buffer) {
                Ok(received) => received,
                Err(Errno::INTR) => continue,
                Err(_) => return,
            };
            let Some(sender) = received.sender.filter(|_| received.length <= DATAGRAM_BYTES) else {
                continue;
            };
            let counts = match last {
                Some((known, counts)) if known == sender => counts,
                _ => is_member(sender),
            };
            last = Some((sender, counts));
            if counts {
                parse(buffer.get(..received.length).unwrap_or_default()).for_each(&mut *take);
            }
        }
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns the address of a name in a directory, however long the path of that is.
fn address(directory: BorrowedFd<'_>, name: &str) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))?)
}

/// Returns whether somebody receives what is sent to a socket.
pub fn is_received(socket: &Path) -> bool {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let asked = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
        .and_then(|asking| connect(asking, &SocketAddrUnix::new(socket)?));
    asked.is_ok()
}

/// Returns whether a process is one of the service whose process is `leader`.
pub(crate) fn is_member(sender: Pid, leader: Pid) -> bool {
    let leader = leader.get();
    let mut at = sender.get();
    for _ in 0..ANCESTORS {
        if at == leader {
            return true;
        }
        let Some(process) = Process::of(at) else { return false };
        if process.session == leader {
            return true;
        }
        if process.parent <= 1 {
            break;
        }
        at = process.parent;
    }
    group::name_of(leader).is_some_and(|group| group::name_of(sender.get()) == Some(group))
}
