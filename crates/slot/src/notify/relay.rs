//! The process that receives what a service says, as long as the service runs.
//!
//! *Lives here:* its loop. *Does not live here:* whose word counts (`receiver`), what a word changes (`Said`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gatevisor_sys::clock::monotonic_ms;
use gatevisor_sys::file;
use gatevisor_wire::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::io::{Errno, write};

use super::receiver::is_member;
use super::{Receiver, SAID, Said};

/// How long nobody listens after something has come: whoever may send may flood.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Receives what the service with the process `leader` says until `alive`, its pidfd, becomes readable.
///
/// What it has said is published in `service`, its directory, and its first `READY=1` goes on to `ready`, the descriptor on
/// which its supervisor waits for that.
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
            // A supervisor that has gone has nobody to tell.
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

/// Publishes what was said, best effort: who cannot read it knows nothing of it.
fn publish(service: impl AsFd, said: &Said) {
    let Some((directory, name)) = SAID.split_once('/') else { return };
    if let (Ok(data), Some(text)) = (file::open_directory(service, directory), said.encode()) {
        let temporary = format!(".{name}.new");
        let _ = file::publish(&data, name, &temporary, text.as_bytes(), Mode::from_raw_mode(0o644));
    }
}
