//! *Lives here:* the one poll behind everything that waits for services: what is polled, until when, and who is asked what
//! that means.
//!
//! *Does not live here:* what an event means for a service, and when its wait is over: each [`Waiting`] knows that.

use crate::status_changes::StatusChanges;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use std::{
    os::fd::{AsFd, BorrowedFd},
    time::Instant,
};

/// One of those that wait together.
pub trait Waiting {
    /// How its wait ends.
    type End;

    /// Adds the descriptors that it is woken by.
    fn interests<'a>(&'a self, interests: &mut Interests<'a>);

    /// Takes in what has happened, and returns the end of the wait if this is one. It must not block.
    ///
    /// It is called once at the beginning, whenever one of its descriptors is ready, and when it is due.
    fn step(&mut self, woken: Woken) -> Option<Self::End>;

    /// Returns when it must be asked again even if no descriptor is ready.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Returns the end when the deadline of all has passed.
    fn late(&mut self) -> Self::End;

    /// Returns the end when polling itself failed.
    fn broken(&mut self, errno: Errno) -> Self::End;
}

/// Why one of those that wait is asked.
#[expect(clippy::struct_excessive_bools, reason = "several reasons may come together")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Woken {
    /// It is asked for the first time, so it has to look at everything.
    pub first: bool,
    /// There is something to read.
    pub readable: bool,
    /// Nobody reads a pipe any more that it can write to.
    pub closed: bool,
    /// The status file of its service was replaced.
    pub changed: bool,
}

/// The descriptors that are polled, and whose each is.
#[derive(Debug, Default)]
pub struct Interests<'a> {
    fds: Vec<PollFd<'a>>,
    owners: Vec<usize>,
    owner: usize,
}

impl<'a> Interests<'a> {
    /// Makes the descriptors that are added from now on those of `owner`.
    pub fn of(&mut self, owner: usize) -> &mut Self {
        self.owner = owner;
        self
    }

    /// Wakes the owner when there is something to read.
    pub fn readable(&mut self, fd: BorrowedFd<'a>) {
        self.add(PollFd::from_borrowed_fd(fd, PollFlags::IN));
    }

    /// Wakes the owner when nobody reads the other end of a pipe any more.
    pub fn closed(&mut self, fd: BorrowedFd<'a>) {
        // Poll reports that error unasked.
        self.add(PollFd::from_borrowed_fd(fd, PollFlags::empty()));
    }

    fn add(&mut self, fd: PollFd<'a>) {
        self.fds.push(fd);
        self.owners.push(self.owner);
    }

    /// Waits until a descriptor is ready or a moment has come, and returns why each of `count` owners is woken.
    ///
    /// # Errors
    /// Polling failed; that a signal interrupted it is no failure.
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

/// Waits until each has its end, with one poll for all, and gives each end to `done` with its index as it comes.
pub fn wait_each<W: Waiting>(all: &mut [W], deadline: Option<Instant>, done: &mut dyn FnMut(usize, W::End)) {
    wait_each_with(all, None, deadline, done);
}

/// Waits until one has its end.
pub fn wait_one<W: Waiting>(mut one: W, deadline: Option<Instant>) -> Option<W::End> {
    let mut end = None;
    wait_each(std::slice::from_mut(&mut one), deadline, &mut |_, found| end = Some(found));
    end
}

/// Does what [`wait_each`] does; `changes` tells whose status files are replaced meanwhile.
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
        // What has arrived at the last moment still counts.
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

/// Waits for something, and notes why each is woken.
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

/// Returns the time that is left until a moment, or `None` for ever.
pub fn remaining(until: Option<Instant>) -> Option<Timespec> {
    let left = until?.saturating_duration_since(Instant::now());
    // What does not fit is longer than any machine runs.
    Timespec::try_from(left).ok()
}
