//! *Lives here:* one poll for every service that is waited for.
//!
//! *Does not live here:* what an event means for a service.

use super::{
    Outcome, WaitError, Waited,
    entry::{Entry, Goal},
};
use crate::{listener::remaining, status_changes::StatusChanges};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use std::{os::fd::AsFd, time::Instant};

/// Descriptors of one service: its listener, the listener's fifodir, its control FIFO.
const DESCRIPTORS: usize = 3;
/// Descriptors that a program has open besides, as a rule.
const OTHERS: u64 = 128;

/// Waits until every service has its outcome, and gives each to `done` once.
pub(super) fn until(
    entries: &mut [Entry],
    goal: &dyn Fn(usize) -> Goal,
    changes: Option<&StatusChanges>,
    deadline: Option<Instant>,
    done: &mut dyn FnMut(usize, Outcome),
) {
    let mut waiting: Vec<(usize, &mut Entry)> = entries.iter_mut().enumerate().collect();
    waiting.retain_mut(|(index, entry)| keep(*index, entry.begin(goal(*index)), done));
    while !waiting.is_empty() {
        let events = match events(&waiting, goal, changes, deadline) {
            Ok(events) => events,
            Err(errno) => {
                for (index, _) in waiting {
                    done(index, Err(WaitError::Poll { source: errno.into() }));
                }
                return;
            }
        };
        // Letters that arrived at the last moment still count.
        let late = deadline.is_some_and(|deadline| deadline <= Instant::now());
        let replaced =
            if events.news { changes.map(StatusChanges::replaced).unwrap_or_default() } else { Vec::new() };
        let mut seen = events.seen.into_iter();
        waiting.retain_mut(|(index, entry)| {
            let goal = goal(*index);
            let Seen { events, gone } = seen.next().unwrap_or_default();
            let outcome = None
                .or_else(|| if events { entry.events(goal) } else { None })
                .or_else(|| if replaced.binary_search(index).is_ok() { entry.changed(goal) } else { None })
                .or_else(|| if gone { Some(entry.gone(goal)) } else { None })
                .or_else(|| late.then_some(Ok(Waited::TimedOut)));
            keep(*index, outcome, done)
        });
    }
}

/// Gives the outcome to `done` if there is one, and returns whether the service is still waited for.
fn keep(index: usize, outcome: Option<Outcome>, done: &mut dyn FnMut(usize, Outcome)) -> bool {
    match outcome {
        Some(outcome) => {
            done(index, outcome);
            false
        }
        None => true,
    }
}

/// What poll saw of one service.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    events: bool,
    gone: bool,
}

/// What poll saw, for each service in the order in which they wait.
struct Events {
    seen: Vec<Seen>,
    news: bool,
}

/// Returns what happened to the services, waiting for something until `deadline`.
fn events(
    waiting: &[(usize, &mut Entry)],
    goal: &dyn Fn(usize) -> Goal,
    changes: Option<&StatusChanges>,
    deadline: Option<Instant>,
) -> Result<Events, Errno> {
    let mut seen = vec![Seen::default(); waiting.len()];
    // For each descriptor whose it is: the place of a service, or none for the changes of status files.
    let mut places = Vec::new();
    let mut fds = Vec::new();
    for (place, (index, entry)) in waiting.iter().enumerate() {
        if let Some(fd) = entry.events_fd() {
            places.push(Some(place));
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        if let Some(fd) = entry.reader_fd(goal(*index)) {
            places.push(Some(place));
            // Only the error that says that there is no reader, which poll reports unasked.
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::empty()));
        }
    }
    if let Some(changes) = changes {
        places.push(None);
        fds.push(PollFd::from_borrowed_fd(changes.as_fd(), PollFlags::IN));
    }
    loop {
        match poll(&mut fds, remaining(deadline).as_ref()) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    let mut news = false;
    for (fd, place) in fds.iter().zip(places) {
        let (input, error) = (fd.revents().contains(PollFlags::IN), fd.revents().contains(PollFlags::ERR));
        match place {
            Some(place) => {
                if let Some(seen) = seen.get_mut(place) {
                    seen.events |= input;
                    seen.gone |= error;
                }
            }
            None => news = input,
        }
    }
    Ok(Events { seen, news })
}

/// Puts the soft limit of descriptors back when dropped.
#[must_use]
pub(super) struct Limit(Rlimit);

impl Drop for Limit {
    fn drop(&mut self) {
        // It was allowed before; if it is not now, the higher limit does no harm.
        let _ = setrlimit(Resource::Nofile, self.0);
    }
}

/// Raises the soft limit of descriptors for waiting for `count` services, if it may be too low and may be raised.
///
/// If it may not, subscribing says so for the services that have no room.
pub(super) fn room_for(count: usize) -> Option<Limit> {
    let before = getrlimit(Resource::Nofile);
    let ours = u64::try_from(count.saturating_mul(DESCRIPTORS)).unwrap_or(u64::MAX);
    let current = before.current.filter(|current| *current < ours.saturating_add(OTHERS))?;
    // At most `current` are open already, so this is enough whatever else the process does.
    let enough = current.saturating_add(ours);
    let raised = before.maximum.map_or(enough, |maximum| enough.min(maximum));
    if raised <= current {
        return None;
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..before }).ok().map(|()| Limit(before))
}
