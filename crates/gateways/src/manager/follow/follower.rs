//! *Lives here:* what each event, refusal and change of one gateway means for the aim with which it
//! is followed.
//!
//! *Does not live here:* waiting for them (`follow`).

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime};

use gatevisor_client::engine::{Interests, Woken};
use gatevisor_client::status_view::{self};
use gatevisor_client::{ExecProgress, ServiceDir, StatusError, SupervisorWatch};
use gatevisor_sys::proc::is_stopped_by_signal;
use gatevisor_wire::Pid;
use gatevisor_wire::event::ServiceEvent;
use gatevisor_wire::policy::RestartPhase;
use gatevisor_wire::started::Announcer;
use gatevisor_wire::status::Status;
use gatevisor_wire::tai::Tai64n;

use super::aim::{Aim, FollowEnd};
use super::evidence::{LiveEvidence, Shown};
use super::followed::{Follower, LOOK_AGAIN, Scan};
use crate::inspect::STOPPED;
use crate::manager::observe::delay;

/// How often to look whether the watcher of gateways still reports, where its news wakes the
/// follower. No event tells that it has ended.
const LOOK_AT_WATCHER: Duration = Duration::from_secs(10);
/// How often to look whether a signal has stopped the supervisor.
const LOOK_AT_SUPERVISOR: Duration = Duration::from_secs(2);

impl Follower {
    /// Adds the descriptors and processes that wake this follower.
    pub(super) fn interests<'a>(&'a self, interests: &mut Interests<'a>) {
        interests.readable(self.subscription.as_fd());
        if let Some(scan) = &self.scan {
            interests.readable(scan.refusals.as_fd());
        }
        if let Some(supervisor) = &self.supervisor {
            supervisor.interests(interests);
        }
    }

    /// Returns when to look although nothing was reported.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.into_iter().chain(self.look_at_supervisor).min()
    }

    /// Handles what has happened. Returns the end if following has ended.
    pub(super) fn step(&mut self, aim: Aim, woken: Woken) -> io::Result<Option<FollowEnd>> {
        // A supervisor that was killed sends no event.
        let is_gone = || self.supervisor.as_ref().is_some_and(SupervisorWatch::is_gone);
        if (woken.first || woken.closed) && is_gone() {
            return Ok(Some(self.gone()));
        }
        if let Some(end) = self.look(aim) {
            return Ok(Some(end));
        }
        if let Some(Scan { scandir, name, refusals }) = &self.scan
            && refusals.fresh().contains(name)
        {
            let unknown = || "it does not say why".to_owned();
            return Ok(Some(FollowEnd::Refused(scandir.refusal(name).unwrap_or_else(unknown))));
        }
        while let Some(event) = self.subscription.try_next()? {
            if let Some(end) = self.take_event(aim, event) {
                return Ok(Some(end));
            }
        }
        // An event tells that something changed, so the state is looked at once more.
        Ok(self.look(aim).or_else(|| self.supervisor_stopped()))
    }

    /// Returns the end if a signal has stopped the supervisor.
    fn supervisor_stopped(&mut self) -> Option<FollowEnd> {
        let meanwhile = self.meanwhile.as_ref()?;
        let now = Instant::now();
        if self.look_at_supervisor.is_none_or(|due| now < due) {
            return None;
        }
        self.look_at_supervisor = now.checked_add(LOOK_AT_SUPERVISOR);
        let pid = (meanwhile.stopped_supervisor)()?;
        Some(FollowEnd::SupervisorStopped(pid, self.state()))
    }

    fn take_event(&mut self, aim: Aim, event: ServiceEvent) -> Option<FollowEnd> {
        match event {
            ServiceEvent::SupervisionEnded => Some(self.gone()),
            ServiceEvent::PermanentFailure if aim != Aim::Supervised => {
                let known = self.failing.take().map(|(end, _)| end);
                Some(known.unwrap_or_else(|| FollowEnd::Failed(self.reason())))
            }
            ServiceEvent::Died => self.take_death(aim),
            // The event of a process that was up before may come late, and is not the one that is
            // waited for.
            ServiceEvent::Up | ServiceEvent::Ready => {
                self.was_announced = self.died || !self.again;
                self.was_wanted |= self.was_announced;
                self.look(aim)
            }
            // It comes once the status is there.
            ServiceEvent::SupervisionStarted if aim == Aim::Supervised => Some(FollowEnd::Supervised),
            ServiceEvent::SupervisionStarted | ServiceEvent::PermanentFailure | ServiceEvent::Finished => {
                None
            }
        }
    }

    /// Returns the end if the aim is reached now.
    fn look(&mut self, aim: Aim) -> Option<FollowEnd> {
        self.due = None;
        if aim == Aim::Supervised {
            return is_taken(&self.dir).then_some(FollowEnd::Supervised);
        }
        if self.failing.is_some() {
            return self.failure_for_good();
        }
        let status = self.dir.status().ok()?;
        if let Some(end) = self.unclear_death(&status) {
            return Some(end);
        }
        if self.is_stopped(aim, &status) {
            return Some(FollowEnd::Stopped);
        }
        let fresh =
            !self.again || self.before.is_none_or(|b| b.pid != status.pid || b.changed != status.changed);
        let Some(pid) = status.pid.filter(|_| status.is_up() && status.want_up && fresh) else {
            return self.look_at_attempt(&status);
        };
        let ExecProgress::Command(announcer) = self.dir.progress(pid) else {
            self.before_command = Some(pid);
            self.due = Instant::now().checked_add(LOOK_AGAIN);
            return None;
        };
        let since = match self.up_since {
            Some((known, since)) if known == pid => since,
            // It may have waited for its turn before it became the command.
            _ if self.before_command == Some(pid) => Instant::now(),
            _ => began(&status),
        };
        self.up_since = Some((pid, since));
        match aim {
            Aim::Up | Aim::UpAtLast => Some(FollowEnd::Up(Some(pid))),
            // Whatever it has shown before, it does nothing now.
            Aim::Started(_) | Aim::Ready(_) if is_stopped(&status, pid) => {
                Some(FollowEnd::Unresponsive(Some(STOPPED.to_owned())))
            }
            // That is only its own word, as long as it may be about to end.
            Aim::Started(window) | Aim::Ready(window)
                if status.ready && announcer == Announcer::Service && since.elapsed() < window =>
            {
                self.due = since.checked_add(window);
                None
            }
            _ if status.ready && announcer != Announcer::Nobody => Some(FollowEnd::Ready(Some(pid))),
            Aim::Ready(_) | Aim::ReadyAtLast if announcer == Announcer::Nobody => {
                Some(FollowEnd::NeverReady(Some(pid)))
            }
            Aim::Started(window) | Aim::Ready(window) => {
                let is_enough = announcer == Announcer::Nobody;
                self.look_for_evidence(pid, since, is_enough.then_some(window))
            }
            Aim::Supervised | Aim::ReadyAtLast => None,
        }
    }

    /// Returns whether somebody wants the gateway down that is being brought up.
    fn is_stopped(&mut self, aim: Aim, status: &Status) -> bool {
        if status.want_up {
            (self.was_wanted, self.unwanted_since) = (true, None);
            return false;
        }
        // A wait lasts until the gateway is there, however often somebody changes their mind.
        if !matches!(aim, Aim::Up | Aim::Started(_) | Aim::Ready(_)) {
            return false;
        }
        let is_first_look = self.unwanted_since.is_none();
        let since = *self.unwanted_since.get_or_insert_with(Instant::now);
        self.due = Instant::now().checked_add(LOOK_AGAIN);
        // The supervisor may not have read yet that it shall be up.
        if is_first_look && !self.was_wanted {
            return false;
        }
        // One that failed for good is not wanted up either. The event that tells so comes soon.
        let is_recorded = self.meanwhile.as_ref().is_some_and(|meanwhile| (meanwhile.is_stopped)());
        is_recorded || (self.was_wanted && since.elapsed() >= LOOK_AGAIN)
    }

    /// Returns the end if the evidence of a process tells one. With a window, evidence that it
    /// works is enough or, if nobody looks for that, that it has stayed up for the window. Without,
    /// its readiness is waited for as well, and the evidence only tells that this is in vain.
    fn look_for_evidence(&mut self, pid: Pid, since: Instant, window: Option<Duration>) -> Option<FollowEnd> {
        if self.evidence.as_ref().is_none_or(|evidence| !evidence.is_of(pid)) {
            self.evidence = LiveEvidence::of(self.dir.path(), pid);
        }
        let up = since.elapsed();
        let shown = self.evidence.as_ref().map_or(Shown::Unwatched, |evidence| evidence.look(up));
        self.may_show = shown == Shown::NotYet;
        let left = self.evidence.as_ref().map(LiveEvidence::left).filter(|_| self.is_bounded);
        let look_again = if self.has_news { LOOK_AT_WATCHER } else { LOOK_AGAIN };
        match (shown, window) {
            (Shown::Works, Some(_)) => return Some(FollowEnd::Live(Some(pid))),
            (Shown::Not(reason), _) => return Some(FollowEnd::Unresponsive(reason)),
            (Shown::Unwatched, Some(window)) if up >= window => return Some(FollowEnd::Up(Some(pid))),
            (Shown::NotYet, _) if left.is_some_and(|left| left.is_zero()) => {
                return Some(FollowEnd::TimedOut(self.state()));
            }
            (Shown::Unwatched, Some(window)) => self.due = since.checked_add(window),
            (Shown::NotYet, _) => {
                let wait = left.map_or(look_again, |left| left.min(look_again));
                self.due = Instant::now().checked_add(wait);
            }
            (Shown::Works | Shown::Unwatched, None) if self.evidence.is_some() => {
                self.due = Instant::now().checked_add(look_again);
            }
            (Shown::Works | Shown::Unwatched, None) => {}
        }
        None
    }

    /// Returns the end if the supervisor could not even execute `run`. It sends no event then.
    fn look_at_attempt(&self, status: &Status) -> Option<FollowEnd> {
        if status.pid.is_some() || !status.want_up {
            return None;
        }
        let policy = self.dir.policy().filter(|policy| policy.phase == RestartPhase::FailedToStart)?;
        // The next attempt after a failure long ago is in the past, or in the far future.
        let until = policy.until?;
        let is_new = self.died || self.before.is_none_or(|before| !before.want_up) || self.scan.is_some();
        (is_new && until > Tai64n::now_from(SystemTime::now()))
            .then(|| FollowEnd::FailedToStart(self.reason()))
    }

    pub(super) fn late(&mut self, aim: Aim) -> FollowEnd {
        match self.dir.supervised() {
            Ok(false) if aim != Aim::Supervised => self.gone(),
            _ => {
                let known = self.failing.take().map(|(end, _)| end).or_else(|| self.unclear.take());
                known.unwrap_or_else(|| FollowEnd::TimedOut(self.state()))
            }
        }
    }

    /// Returns the end when the supervisor has gone: what is known of the gateway counts more.
    fn gone(&mut self) -> FollowEnd {
        self.failing.take().map_or(FollowEnd::Gone, |(end, _)| end)
    }

    /// Returns whether it is late because its start waits for others or for its turn, or did when
    /// this was asked last: one that waits no more has had less than its time.
    ///
    /// It also has to wait as long as the process may still show that it works.
    pub(super) fn has_to_wait(&mut self) -> bool {
        let is_queued = delay(&self.dir).is_some();
        let may_show = self.up_since.zip(self.evidence.as_ref()).is_some_and(|((pid, since), evidence)| {
            self.may_show && evidence.is_of(pid) && since.elapsed() < evidence.deadline()
        });
        std::mem::replace(&mut self.was_queued, is_queued) || is_queued || may_show
    }
}

/// Returns whether a supervisor has a service and has published its status, so that everybody sees
/// what state it is in. s6-supervise opens the control FIFO first. What may not be looked at is
/// taken for granted.
fn is_taken(dir: &ServiceDir) -> bool {
    let has_status = match dir.status() {
        Err(StatusError::NeverSupervised { .. } | StatusError::Missing { .. }) => false,
        Ok(_) | Err(_) => true,
    };
    has_status && dir.supervised().unwrap_or(true)
}

/// Returns whether a signal that its supervisor did not send has stopped a process that is up.
fn is_stopped(status: &Status, pid: Pid) -> bool {
    !status_view::is_paused(status) && is_stopped_by_signal(pid.get())
}

/// Returns when a process that is up began, according to its status.
fn began(status: &Status) -> Instant {
    let now = Instant::now();
    let age = Tai64n::now_from(SystemTime::now()).since(status.changed).unwrap_or_default();
    now.checked_sub(age).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::OwnedFd;

    use gatevisor_wire::files;
    use gatevisor_wire::wait::WaitStatus;
    use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
    use tempfile::TempDir;

    use super::*;

    /// Returns a service directory without a status, and its follower.
    fn followed() -> (TempDir, Follower) {
        let place = tempfile::tempdir().unwrap();
        let dir = ServiceDir::new(place.path());
        fs::create_dir(place.path().join(files::SUPERVISE)).unwrap();
        fs::create_dir(dir.event_path()).unwrap();
        (place, Follower::new(dir).unwrap())
    }

    /// Has this process read the control FIFO, as a supervisor does.
    fn take(dir: &ServiceDir) -> OwnedFd {
        mknodat(CWD, dir.control_path(), FileType::Fifo, Mode::RWXU, 0).unwrap();
        open(dir.control_path(), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap()
    }

    fn publish(dir: &ServiceDir, pid: Option<u32>) {
        let now = Tai64n::now_from(SystemTime::now());
        let status = Status {
            changed: now,
            ready_at: now,
            pid: pid.and_then(|pid| Pid::new(i32::try_from(pid).unwrap())),
            last: WaitStatus::exited(78),
            paused: false,
            finishing: pid.is_some(),
            want_up: false,
            ready: pid.is_none(),
        };
        fs::write(dir.path().join(files::STATUS), status.encode()).unwrap();
    }

    #[test]
    fn a_supervisor_has_taken_a_slot_once_its_state_can_be_read() {
        let (_place, mut follower) = followed();
        assert_eq!(follower.look(Aim::Supervised), None);
        let _supervisor = take(&follower.dir);
        assert_eq!((follower.dir.supervised().unwrap(), follower.look(Aim::Supervised)), (true, None));
        publish(&follower.dir, None);
        assert_eq!(follower.look(Aim::Supervised), Some(FollowEnd::Supervised));
    }

    #[test]
    fn a_gateway_has_failed_for_good_once_its_finish_script_is_over_or_lasts_long() {
        for lasts_long in [false, true] {
            let (_place, mut follower) = followed();
            let _supervisor = take(&follower.dir);
            publish(&follower.dir, Some(std::process::id()));
            let failed = FollowEnd::Failed(Some("exit 78".to_owned()));
            let aim = Aim::Started(Duration::from_secs(1));
            follower.failing = Some((failed.clone(), Instant::now() + Duration::from_mins(1)));
            assert_eq!(follower.look(aim), None);
            assert!(follower.due.is_some(), "it is looked at again although nothing is reported");
            if lasts_long {
                follower.failing = Some((failed.clone(), Instant::now().checked_sub(LOOK_AGAIN).unwrap()));
            } else {
                publish(&follower.dir, None);
            }
            assert_eq!(follower.look(aim), Some(failed));
        }
    }
}
