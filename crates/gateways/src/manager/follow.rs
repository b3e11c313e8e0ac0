//! *Lives here:* following one gateway, or many with one poll, from the moment before it is told something until it is
//! as aimed at, or cannot be.
//!
//! *Does not live here:* telling it; what a letter of one gateway means (`follow/follower.rs`).
//!
//! The client's own waits know conditions; these also know evidence: a gateway is up when its command is executed, it is
//! started when it is ready or has stayed up for a while, and one that cannot be so is an answer, too.

mod follower;

use std::io;
use std::time::{Duration, Instant};

use gatevisor_client::status_view::StateName;
use gatevisor_wire::Pid;
use gatevisor_wire::wait::WaitStatus;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

pub(super) use follower::Follower;

/// What a gateway is followed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// A supervisor holds it.
    Supervised,
    /// Its command is executed.
    Up,
    /// There is evidence that it works: it is ready, or where nobody would say so it has stayed up for so long.
    Started(Duration),
    /// It is ready.
    Ready,
    /// It is up, however often it dies before.
    UpAtLast,
    /// It is ready, however often it dies before.
    ReadyAtLast,
}

/// How following ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FollowEnd {
    /// A supervisor holds it.
    Supervised,
    /// It is up.
    Up(Option<Pid>),
    /// It is up and ready.
    Ready(Option<Pid>),
    /// It is up, and nobody will ever say that it is ready.
    NeverReady(Option<Pid>),
    /// Its command could not be executed.
    FailedToStart(Option<String>),
    /// It ended before it was as aimed at.
    Ended(GatewayEnd),
    /// It failed for good.
    Failed(Option<String>),
    /// Its supervisor refuses to hold it, for this reason.
    Refused(String),
    /// Its supervisor went away.
    Gone,
    /// The deadline passed, and this is its state then.
    TimedOut(StateName),
}

/// How a gateway ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GatewayEnd {
    /// How long it was up, where that is known.
    pub after: Option<Duration>,
    /// How it ended, where that is known.
    pub how: Option<WaitStatus>,
}

/// Follows many gateways with one poll, and gives the end of each to `done` as it comes, with its index.
pub(super) fn follow_all(
    followers: &mut [Follower],
    aim: Aim,
    deadline: Option<Instant>,
    done: &mut dyn FnMut(usize, io::Result<FollowEnd>),
) {
    let mut waiting: Vec<(usize, &mut Follower)> = followers.iter_mut().enumerate().collect();
    loop {
        waiting.retain_mut(|(index, follower)| match follower.step(aim) {
            Ok(None) => true,
            Ok(Some(end)) => {
                done(*index, Ok(end));
                false
            }
            Err(error) => {
                done(*index, Err(error));
                false
            }
        });
        let now = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= now) {
            for (index, follower) in waiting {
                done(index, Ok(follower.late(aim)));
            }
            return;
        }
        if waiting.is_empty() {
            return;
        }
        let until = waiting.iter().filter_map(|(_, follower)| follower.due()).chain(deadline).min();
        if let Err(error) = until_something(&waiting, until.map(|until| until.saturating_duration_since(now)))
        {
            let kind = error.kind();
            for (index, _) in waiting {
                done(index, Err(kind.into()));
            }
            return;
        }
    }
}

fn until_something(waiting: &[(usize, &mut Follower)], left: Option<Duration>) -> io::Result<()> {
    let mut fds = Vec::new();
    for (_, follower) in waiting {
        fds.extend(follower.fds().into_iter().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        fds.extend(follower.ends().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::empty())));
    }
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    match poll(&mut fds, left.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

impl Follower {
    /// Follows this gateway alone.
    pub(super) fn follow(&mut self, aim: Aim, deadline: Option<Instant>) -> io::Result<FollowEnd> {
        let mut end = Err(io::ErrorKind::TimedOut.into());
        follow_all(std::slice::from_mut(self), aim, deadline, &mut |_, followed| end = followed);
        end
    }
}
