//! *Lives here:* following one gateway, or many with one poll, from the moment before the
//! supervisor is told until the aim is reached or cannot be reached.
//!
//! *Does not live here:* telling the supervisor; what an event of one gateway means
//! (`follow/follower.rs`).
//!
//! The waits of `gatevisor-client` know conditions of a service. These also know evidence. A
//! gateway is up when its command is executed. It is started when it is ready or has stayed up for
//! a while. A gateway that can never get there is an answer too.

mod aim;
mod deaths;
mod evidence;
mod followed;
mod follower;
mod news;

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use gatevisor_client::ServiceDir;
use gatevisor_client::engine::{self, Interests, SharedNews, Waiting, Woken};
use rustix::io::Errno;

pub(super) use aim::{Aim, FollowEnd, GatewayEnd};
pub(super) use followed::{Follower, RecordedMeanwhile};
use news::FollowNews;

/// Follows many gateways with one poll. Calls `done` with the index and the end of each as it
/// comes.
pub(super) fn follow_all(
    followers: &mut [Follower],
    aim: Aim,
    deadline: Option<Instant>,
    done: &mut dyn FnMut(usize, io::Result<FollowEnd>),
) {
    // Evidence says nothing of any other aim.
    let services: Vec<(&ServiceDir, bool)> = followers.iter().map(Follower::service).collect();
    let news = FollowNews::of(&services, matches!(aim, Aim::Started(_) | Aim::Ready(_)));
    let shared = news.as_ref().map(|news| news as &dyn SharedNews);
    let news = news.as_ref();
    let followed = followers.iter_mut().map(|follower| AimedFollower { follower, aim, news });
    engine::wait_each_with(&mut followed.collect::<Vec<_>>(), shared, deadline, done);
}

/// Follows many gateways for `timeout`. Waits longer for a gateway whose start is still queued.
pub(super) fn follow_all_while_queued(
    mut followers: Vec<Follower>,
    aim: Aim,
    timeout: Duration,
    done: &mut dyn FnMut(usize, io::Result<FollowEnd>),
) {
    followers.iter_mut().for_each(Follower::bound);
    let mut left: Vec<(usize, Follower)> = followers.into_iter().enumerate().collect();
    while !left.is_empty() {
        let (indices, mut followers): (Vec<usize>, Vec<Follower>) = left.into_iter().unzip();
        let mut late = Vec::new();
        follow_all(&mut followers, aim, Some(after(timeout)), &mut |place, end| {
            if matches!(end, Ok(FollowEnd::TimedOut(_))) {
                late.push((place, end));
            } else if let Some(index) = indices.get(place) {
                done(*index, end);
            }
        });
        let mut again = BTreeSet::new();
        for (place, end) in late {
            if followers.get_mut(place).is_some_and(Follower::has_to_wait) {
                again.insert(place);
            } else if let Some(index) = indices.get(place) {
                done(*index, end);
            }
        }
        let all = indices.into_iter().zip(followers).enumerate();
        left = all.filter(|(place, _)| again.contains(place)).map(|(_, one)| one).collect();
    }
}

/// A gateway, its aim, and what reports news of it.
struct AimedFollower<'a> {
    follower: &'a mut Follower,
    aim: Aim,
    news: Option<&'a FollowNews>,
}

impl Waiting for AimedFollower<'_> {
    type End = io::Result<FollowEnd>;

    fn interests<'a>(&'a self, interests: &mut Interests<'a>) {
        self.follower.interests(interests);
    }

    fn step(&mut self, woken: Woken) -> Option<Self::End> {
        self.follower.expect_news(self.news.is_some_and(FollowNews::reports_records));
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
    /// Follows this gateway alone for `first`. While its start is still queued then, waits for
    /// `timeout` again and again.
    pub(super) fn follow_while_queued(
        &mut self,
        aim: Aim,
        first: Duration,
        timeout: Duration,
    ) -> io::Result<FollowEnd> {
        self.bound();
        let mut end = self.follow(aim, Some(after(first)))?;
        while matches!(end, FollowEnd::TimedOut(_)) && self.has_to_wait() {
            end = self.follow(aim, Some(after(timeout)))?;
        }
        Ok(end)
    }

    /// Follows this gateway alone.
    pub(super) fn follow(&mut self, aim: Aim, deadline: Option<Instant>) -> io::Result<FollowEnd> {
        let mut end = Err(io::ErrorKind::TimedOut.into());
        follow_all(std::slice::from_mut(self), aim, deadline, &mut |_, followed| end = followed);
        end
    }
}
