//! The process that receives a service's reports while the service runs.
//!
//! *Lives here:* its loop.
//! *Does not live here:* whose messages count (`receiver`), the effect of a message (`Said`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gatevisor_sys::clock::monotonic_ms;
use gatevisor_sys::file;
use gatevisor_wire::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::io::{Errno, write};

use super::receiver::is_member;
use super::{Receiver, SAID, Said};

/// The pause after each read, because senders may flood the socket.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Receives the reports of the service with the process `leader`, until `alive`, its pidfd, becomes
/// readable.
///
/// They are published in `service`, its directory. Its first `READY=1` is passed on to `ready`, the
/// descriptor on which its supervisor waits for that.
pub(crate) fn relay(
    receiver: &Receiver,
    leader: Pid,
    alive: impl AsFd,
    service: impl AsFd,
    mut ready: Option<OwnedFd>,
) {
    let alive = alive.as_fd();
    let mut said = Said { pid: leader.get(), ..Said::default() };
    publish(&service, &said);
    while is_alive(alive, Some(receiver.as_fd()), None) {
        let before = said.clone();
        let mut take = |message| said.take(message, monotonic_ms());
        receiver.drain(&mut |sender| is_member(sender, leader), &mut take);
        if said != before {
            publish(&service, &said);
        }
        if said.ready
            && let Some(ready) = ready.take()
        {
            // The supervisor may have gone; then nobody waits for it.
            let _ = write(ready, b"\n");
        }
        if !is_alive(alive, None, Some(&PAUSE)) {
            return;
        }
    }
}

/// Waits for something to read, or for a time; returns whether the service still runs.
fn is_alive(alive: BorrowedFd<'_>, what: Option<BorrowedFd<'_>>, limit: Option<&Timespec>) -> bool {
    let mut fds = vec![PollFd::from_borrowed_fd(alive, PollFlags::IN)];
    fds.extend(what.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
    while let Err(errno) = poll(&mut fds, limit) {
        if errno != Errno::INTR {
            return false;
        }
    }
    fds.first().is_some_and(|alive| alive.revents().is_empty())
}

/// Publishes the reports, best effort.
fn publish(service: impl AsFd, said: &Said) {
    let Some((directory, name)) = SAID.split_once('/') else { return };
    if let (Ok(data), Some(text)) = (file::open_directory(service, directory), said.encode()) {
        let temporary = format!(".{name}.new");
        let _ = file::publish(&data, name, &temporary, text.as_bytes(), Mode::from_raw_mode(0o644));
    }
}
