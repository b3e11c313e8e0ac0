//! Receives the reports of a service.
//!
//! *Lives here:* the socket, how much is read at once, and whose messages count.
//! *Does not live here:* the content of a datagram (`message`), and the consequences (`relay`).
//!
//! The kernel names the sender. A message counts if its sender is the service's process, descends
//! from it, or is in its session or control group. The sender's own memory is not read, because
//! that could block the reader. A sender that has ended when its datagram is read cannot be
//! identified, and does not count.
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

/// The most bytes of a datagram. A longer one is ignored.
pub(super) const DATAGRAM_BYTES: usize = 4096;
/// The most datagrams that are read at once.
pub(super) const DATAGRAMS: usize = 32;
/// The most ancestors of a sender that are looked at.
const ANCESTORS: usize = 64;
/// Only the user of the service, and root, may send.
const MODE: Mode = Mode::from_raw_mode(0o600);

/// The socket of one service.
#[derive(Debug)]
pub(crate) struct Receiver(OwnedFd);

impl Receiver {
    /// Makes the socket `name` in a directory of this user's, in place of an existing file.
    ///
    /// # Errors
    /// It cannot be made there.
    pub fn bind(directory: impl AsFd, name: &str) -> io::Result<Self> {
        let directory = directory.as_fd();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        sockopt::set_socket_passcred(&socket, true)?;
        // The bound file gets the mode of the socket; not on every system, so it is set again
        // below.
        let _ = fchmod(&socket, MODE);
        let temporary = format!(".{name}.new");
        // A process that was killed may have left one.
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

    /// Reads some of the datagrams, so that a flood costs little, and passes on the messages of
    /// senders that belong to the service. If there are more, the socket can still be read.
    pub fn drain(&self, is_member: &mut dyn FnMut(Pid) -> bool, take: &mut dyn FnMut(Message)) {
        let mut buffer = vec![0; DATAGRAM_BYTES.saturating_add(1)];
        // For consecutive datagrams of one sender, `is_member` is called once.
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

/// Returns the address of a name in a directory, however long the directory's path is.
fn address(directory: BorrowedFd<'_>, name: &str) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))?)
}

/// Returns whether a socket has a receiver.
pub fn is_received(socket: &Path) -> bool {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let asked = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
        .and_then(|asking| connect(asking, &SocketAddrUnix::new(socket)?));
    asked.is_ok()
}

/// Returns whether a process belongs to the service whose process is `leader`.
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
