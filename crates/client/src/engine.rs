//! *Lives here:* the one poll behind every wait for services: which descriptors are polled, until
//! when, and who is woken.
//!
//! *Does not live here:* the meaning of an event for a service, and the end of its wait: each
//! [`Waiting`] knows those.

use gatevisor_sys::clock::remaining;
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use std::{os::fd::BorrowedFd, time::Instant};

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

/// What reports for several waits at once, by one descriptor, which of them there is news for. So
/// news for one of them wakes no other.
pub trait SharedNews {
    /// Returns the descriptor that can be read when there is news.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// Returns the indexes of the waits that there has been news for since the last call, in
    /// ascending order. Never waits.
    fn take(&self) -> Vec<usize>;
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
    /// There is news for it from what all waits share.
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

/// Does the same as [`wait_each`]; `shared` reports news for each of the waits.
pub fn wait_each_with<W: Waiting>(
    all: &mut [W],
    shared: Option<&dyn SharedNews>,
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
        if let Err(errno) = wake(&mut waiting, shared, deadline) {
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
    shared: Option<&dyn SharedNews>,
    deadline: Option<Instant>,
) -> Result<(), Errno> {
    let count = waiting.len();
    let mut interests = Interests::default();
    for (place, (_, one, _)) in waiting.iter().enumerate() {
        one.interests(interests.of(place));
    }
    if let Some(descriptor) = shared.and_then(SharedNews::descriptor) {
        interests.of(count).readable(descriptor);
    }
    let due = waiting.iter().filter_map(|(_, one, _)| one.due());
    let found = interests.poll(count.saturating_add(1), due.chain(deadline).min())?;
    let news = match (shared, found.last()) {
        (Some(shared), Some(woken)) if woken.readable => shared.take(),
        _ => Vec::new(),
    };
    for ((index, _, woken), found) in waiting.iter_mut().zip(found) {
        *woken = Woken { changed: news.binary_search(index).is_ok(), ..found };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Interests, SharedNews, Waiting, Woken, wait_each_with};
    use gatevisor_sys::inotify::{Inotify, WatchFlags};
    use rustix::io::Errno;
    use std::{
        cell::Cell,
        fs,
        os::fd::{AsFd, BorrowedFd},
        path::Path,
        time::Instant,
    };

    /// Reports the files in a directory, each of which has the index of its wait as its name.
    struct NamedFiles(Inotify);

    impl SharedNews for NamedFiles {
        fn descriptor(&self) -> Option<BorrowedFd<'_>> {
            Some(self.0.as_fd())
        }

        fn take(&self) -> Vec<usize> {
            let mut indexes = Vec::new();
            let name = |index: &std::ffi::OsStr| index.to_str().and_then(|name| name.parse::<usize>().ok());
            self.0.read(|change| indexes.extend(change.name.and_then(name))).unwrap();
            indexes
        }
    }

    /// Ends at its news, which is also that the next one has news.
    struct Link<'a> {
        index: usize,
        directory: &'a Path,
        steps: &'a Cell<usize>,
    }

    impl Waiting for Link<'_> {
        type End = bool;

        fn interests<'a>(&'a self, _: &mut Interests<'a>) {}

        fn step(&mut self, woken: Woken) -> Option<bool> {
            self.steps.set(self.steps.get() + 1);
            let is_over = woken.changed || (woken.first && self.index == 0);
            is_over.then(|| {
                fs::write(self.directory.join((self.index + 1).to_string()), "").unwrap();
                true
            })
        }

        fn late(&mut self) -> bool {
            false
        }

        fn broken(&mut self, _: Errno) -> bool {
            false
        }
    }

    #[test]
    fn news_for_one_of_a_hundred_waits_wakes_no_other() {
        let place = tempfile::tempdir().unwrap();
        let inotify = Inotify::new().unwrap();
        inotify.add_by_path(place.path(), WatchFlags::CREATE).unwrap();
        let steps = Cell::new(0);
        let mut all: Vec<Link<'_>> =
            (0..100).map(|index| Link { index, directory: place.path(), steps: &steps }).collect();
        let deadline = Instant::now().checked_add(std::time::Duration::from_mins(1));
        let mut ends = Vec::new();
        let shared = NamedFiles(inotify);
        wait_each_with(&mut all, Some(&shared), deadline, &mut |index, end| ends.push((index, end)));
        assert_eq!(ends, (0..100).map(|index| (index, true)).collect::<Vec<_>>());
        assert_eq!(steps.get(), 100 + 99, "each is called once at the beginning, and once for its news");
    }
}
