//! Receiving what gateways say about themselves by `sd_notify`.
//!
//! *Lives here:* the socket of a service, what is taken from it at once, and whose word counts. *Does not live here:* what a
//! datagram says (`message`), and what comes of it (the watcher of liveness).
//!
//! The kernel names the sender. Its word counts if it is the service's process, descends from it, or is in its session or
//! control group; nothing is read from a sender's own memory, where it could hold a reader up. A sender that has ended when its
//! datagram is taken cannot be told, and does not count.
//!
//! **Source:** `sd_notify(3)`, `SCM_CREDENTIALS` in unix(7).

mod message;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gatevisor_paths::by_path;
use gatevisor_slot::group;
use gatevisor_slot::notify::LONGEST_PATH;
use gatevisor_sys::proc::Process;
use gatevisor_sys::socket::recv_with_sender;
use gatevisor_wire::Pid;
use rustix::fs::{AtFlags, Mode, chmodat, fchmod, renameat, unlinkat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with, sockopt};

use crate::files::random_suffix;

pub use message::{Message, parse};

/// Bytes of a datagram that are read; a longer one says nothing.
const DATAGRAM_BYTES: usize = 4096;
/// Datagrams that are taken at once.
const DATAGRAMS: usize = 32;
/// Ancestors of a sender that are looked at.
const ANCESTORS: usize = 64;
/// Only the user of the gateway, and root, may send.
const MODE: Mode = Mode::from_raw_mode(0o600);

/// The socket of one service.
#[derive(Debug)]
pub struct Receiver {
    socket: OwnedFd,
    path: PathBuf,
}

impl Receiver {
    /// Makes the socket at `path`, in the place of what is there.
    ///
    /// The directory must be this user's alone.
    ///
    /// # Errors
    /// It cannot be made there.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::INVAL.into());
        };
        let directory = by_path::directory(parent)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        sockopt::set_socket_passcred(&socket, true)?;
        // What is bound gets the mode of the socket; not on every system, so it is set again below.
        let _ = fchmod(&socket, MODE);
        let temporary = format!(".{}", random_suffix());
        bind(&socket, &address(&directory, parent, &temporary)?)?;
        let placed = chmodat(&directory, &*temporary, MODE, AtFlags::empty())
            .and_then(|()| renameat(&directory, &*temporary, &directory, name));
        if let Err(errno) = placed {
            let _ = unlinkat(&directory, &*temporary, AtFlags::empty());
            return Err(errno.into());
        }
        Ok(Self { socket, path: path.to_owned() })
    }

    /// Returns the path for the gateway's environment, unless it is too long for that.
    pub fn path(&self) -> Option<&Path> {
        Some(self.path.as_path()).filter(|path| path.as_os_str().len() <= LONGEST_PATH)
    }

    /// Takes what has come, at most so much that a flood costs little, and hands on what senders say that belong to the
    /// service. There may be more: the socket can then still be read.
    pub fn drain(&self, is_member: &mut dyn FnMut(Pid) -> bool, take: &mut dyn FnMut(Message)) {
        let mut buffer = vec![0; DATAGRAM_BYTES.saturating_add(1)];
        // Those of one sender in a row are asked for once.
        let mut last: Option<(Pid, bool)> = None;
        for _ in 0..DATAGRAMS {
            let received = match recv_with_sender(&self.socket, &mut buffer) {
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
        self.socket.as_fd()
    }
}

/// Returns the address of a name in a directory; one whose path is too long is reached through the descriptor.
fn address(directory: &OwnedFd, parent: &Path, name: &str) -> io::Result<SocketAddrUnix> {
    use std::os::fd::AsRawFd;
    let path = parent.join(name);
    if path.as_os_str().as_bytes().len() <= LONGEST_PATH {
        return Ok(SocketAddrUnix::new(path)?);
    }
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))?)
}

/// Returns whether a process is one of the service whose process is `leader`.
pub fn is_member(sender: Pid, leader: Pid) -> bool {
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

#[cfg(test)]
mod tests;
