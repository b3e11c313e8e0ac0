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

use gatevisor_client::engine::{self, Interests, Waiting, Woken};
use gatevisor_client::status_view::StateName;
use gatevisor_wire::Pid;
use gatevisor_wire::wait::WaitStatus;
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
    let followed = followers.iter_mut().map(|follower| AimedFollower { follower, aim });
    engine::wait_each(&mut followed.collect::<Vec<_>>(), deadline, done);
}

/// A gateway, and what it is followed to.
struct AimedFollower<'a> {
    follower: &'a mut Follower,
    aim: Aim,
}

impl Waiting for AimedFollower<'_> {
    type End = io::Result<FollowEnd>;

    fn interests<'a>(&'a self, interests: &mut Interests<'a>) {
        self.follower.interests(interests);
    }

    fn step(&mut self, woken: Woken) -> Option<Self::End> {
        self.follower.step(self.aim, woken).transpose()
    }

    fn due(&self) -> Option<Instant> {
        self.follower.due()
    }

    fn late(&mut self) -> Self::End {
        Ok(self.follower.late(self.aim))
    }

    fn broken(&mut self, errno: Errno) -> Self::End {
        Err(errno.into())
    }
}

/// Returns the moment after which a timeout is over.
pub(super) fn after(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or(now)
}

impl Follower {
    /// Follows this gateway alone.
    pub(super) fn follow(&mut self, aim: Aim, deadline: Option<Instant>) -> io::Result<FollowEnd> {
        let mut end = Err(io::ErrorKind::TimedOut.into());
        follow_all(std::slice::from_mut(self), aim, deadline, &mut |_, followed| end = followed);
        end
    }
}
