//! *Lives here:* the one poll behind every wait for services: which descriptors are polled, until
//! when, and who is woken.
//!
//! *Does not live here:* the meaning of an event for a service, and the end of its wait: each
//! [`Waiting`] knows those.

use crate::status_changes::StatusChanges;
use gatevisor_sys::clock::remaining;
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use std::{
    os::fd::{AsFd, BorrowedFd},
    time::Instant,
};

/// One of several waits that share a poll.
pub trait Waiting {
    /// The result of the wait.
    type End;

    /// Adds the descriptors that wake this wait.
    fn interests<'a>(&'a self, interests: &mut Interests<'a>);

    /// Handles whatever has happened, and returns the result if the wait is over. It must not
    /// block.
    ///
    /// It is called once at the beginning, then whenever one of its descriptors is ready, and when
    /// it is due.
    fn step(&mut self, woken: Woken) -> Option<Self::End>;

    /// Returns when it must be called again even if no descriptor is ready.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Returns the result for a wait whose deadline has passed.
    fn late(&mut self) -> Self::End;

    /// Returns the result for a wait whose poll failed.
    fn broken(&mut self, errno: Errno) -> Self::End;
}

/// Why a wait is woken.
#[expect(clippy::struct_excessive_bools, reason = "several reasons may come together")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Woken {
    /// This is its first call, so it has to look at everything.
    pub first: bool,
    /// A descriptor can be read.
    pub readable: bool,
    /// Nobody reads the other end of one of its pipes any more.
    pub closed: bool,
    /// The status file of its service was replaced.
    pub changed: bool,
}

/// The polled descriptors, each with its owner.
#[derive(Debug, Default)]
pub struct Interests<'a> {
    fds: Vec<PollFd<'a>>,
    owners: Vec<usize>,
    owner: usize,
}

impl<'a> Interests<'a> {
    /// Makes `owner` the owner of the descriptors that are added from now on.
    pub fn of(&mut self, owner: usize) -> &mut Self {
        self.owner = owner;
        self
    }

    /// Wakes the owner when the descriptor can be read.
    pub fn readable(&mut self, fd: BorrowedFd<'a>) {
        self.add(PollFd::from_borrowed_fd(fd, PollFlags::IN));
    }

    /// Wakes the owner when nobody reads the other end of a pipe any more.
    pub fn closed(&mut self, fd: BorrowedFd<'a>) {
        // Poll reports this condition even if no events are requested.
        self.add(PollFd::from_borrowed_fd(fd, PollFlags::empty()));
    }

    fn add(&mut self, fd: PollFd<'a>) {
        self.fds.push(fd);
        self.owners.push(self.owner);
    }

    /// Waits until a descriptor is ready or a moment has come, and returns for each of `count`
    /// owners why it is woken.
    ///
    /// # Errors
    /// Polling failed. An interruption by a signal is not a failure.
    pub fn poll(mut self, count: usize, until: Option<Instant>) -> Result<Vec<Woken>, Errno> {
        match poll(&mut self.fds, remaining(until).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let mut woken = vec![Woken::default(); count];
        for (fd, owner) in self.fds.iter().zip(self.owners) {
            if let Some(woken) = woken.get_mut(owner) {
                woken.readable |= fd.revents().contains(PollFlags::IN);
                woken.closed |= fd.revents().contains(PollFlags::ERR);
            }
        }
        Ok(woken)
    }
}

/// Waits until each wait has its result, with one poll for all, and passes each result with its
/// index to `done` at once.
pub fn wait_each<W: Waiting>(all: &mut [W], deadline: Option<Instant>, done: &mut dyn FnMut(usize, W::End)) {
    wait_each_with(all, None, deadline, done);
}

/// Waits for one result.
pub fn wait_one<W: Waiting>(mut one: W, deadline: Option<Instant>) -> Option<W::End> {
    let mut end = None;
    wait_each(std::slice::from_mut(&mut one), deadline, &mut |_, found| end = Some(found));
    end
}

/// Does the same as [`wait_each`]; `changes` reports replaced status files.
pub(crate) fn wait_each_with<W: Waiting>(
    all: &mut [W],
    changes: Option<&StatusChanges>,
    deadline: Option<Instant>,
    done: &mut dyn FnMut(usize, W::End),
) {
    let first = Woken { first: true, ..Woken::default() };
    let mut waiting: Vec<(usize, &mut W, Woken)> =
        all.iter_mut().enumerate().map(|(index, one)| (index, one, first)).collect();
    loop {
        let now = Instant::now();
        // Events that arrive at the last moment still count.
        let is_late = deadline.is_some_and(|deadline| deadline <= now);
        waiting.retain_mut(|(index, one, woken)| {
            let is_due = *woken != Woken::default() || one.due().is_some_and(|due| due <= now);
            let end = if is_due { one.step(*woken) } else { None };
            let end = end.or_else(|| is_late.then(|| one.late()));
            end.map(|end| done(*index, end)).is_none()
        });
        if waiting.is_empty() {
            return;
        }
        if let Err(errno) = wake(&mut waiting, changes, deadline) {
            for (index, one, _) in waiting {
                done(index, one.broken(errno));
            }
            return;
        }
    }
}

/// Polls, and notes why each wait is woken.
fn wake<W: Waiting>(
    waiting: &mut [(usize, &mut W, Woken)],
    changes: Option<&StatusChanges>,
    deadline: Option<Instant>,
) -> Result<(), Errno> {
    let count = waiting.len();
    let mut interests = Interests::default();
    for (place, (_, one, _)) in waiting.iter().enumerate() {
        one.interests(interests.of(place));
    }
    if let Some(changes) = changes {
        interests.of(count).readable(changes.as_fd());
    }
    let due = waiting.iter().filter_map(|(_, one, _)| one.due());
    let found = interests.poll(count.saturating_add(1), due.chain(deadline).min())?;
    let replaced = match (changes, found.last()) {
        (Some(changes), Some(woken)) if woken.readable => changes.replaced(),
        _ => Vec::new(),
    };
    for ((index, _, woken), found) in waiting.iter_mut().zip(found) {
        *woken = Woken { changed: replaced.binary_search(index).is_ok(), ..found };
    }
    Ok(())
}
