//! *Lives here:* following one gateway from the moment before it is told something until it is up, is ready, or
//! cannot be.
//!
//! *Does not live here:* telling it.
//!
//! The client's own waits know conditions; this one also ends when the gateway's command cannot be executed, which is
//! no condition but an answer.

use std::io;
use std::time::Instant;

use gatevisor_client::status_view::{self, StateName};
use gatevisor_client::{Listener, Refusals, ScanDir, ServiceDir};
use gatevisor_wire::Pid;
use gatevisor_wire::event::Letter;
use gatevisor_wire::name::ServiceName;
use gatevisor_wire::status::Status;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// What a gateway is followed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// A supervisor holds it.
    Supervised,
    /// It is up.
    Up,
    /// It is up and has said that it is ready; one that never says so is up.
    Ready,
}

/// How following ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Followed {
    /// A supervisor holds it.
    Supervised,
    /// It is up.
    Up(Option<Pid>),
    /// It is up and ready.
    Ready(Option<Pid>),
    /// Its command could not be executed.
    FailedToStart(Option<String>),
    /// It failed for good.
    Failed(Option<String>),
    /// Its supervisor refuses to hold it, for this reason.
    Refused(String),
    /// Its supervisor went away.
    Gone,
    /// The deadline passed, and this is its state then.
    TimedOut(StateName),
}

/// Follows one gateway.
pub(super) struct Follower {
    dir: ServiceDir,
    listener: Listener,
    before: Option<Status>,
    again: bool,
    died: bool,
    scan: Option<Scan>,
}

/// A scan that was asked for.
struct Scan {
    scandir: ScanDir,
    name: ServiceName,
    refusals: Refusals,
}

/// What was heard.
enum Heard {
    Letter(Letter),
    Refused(String),
    Nothing,
}

impl Follower {
    /// Begins to listen; what happens from now on is not missed.
    pub(super) fn new(dir: ServiceDir) -> io::Result<Self> {
        let listener = Listener::subscribe(&dir.event_path())?;
        let before = dir.status().ok();
        Ok(Self { dir, listener, before, again: false, died: false, scan: None })
    }

    /// Takes over an ear that has been there since before the slot was.
    pub(super) const fn with(dir: ServiceDir, listener: Listener) -> Self {
        Self { dir, listener, before: None, again: false, died: false, scan: None }
    }

    /// Listens for a refusal as well; to be called before a scan is asked for.
    pub(super) fn expect_scan(&mut self, scandir: ScanDir, service: &str) {
        // Where none are published there is nothing to listen to.
        let listening = Refusals::listen(&scandir).ok().zip(ServiceName::new(service.as_bytes()).ok());
        self.scan = listening.map(|(refusals, name)| Scan { scandir, name, refusals });
    }

    /// Returns the status at the beginning.
    pub(super) const fn before(&self) -> Option<&Status> {
        self.before.as_ref()
    }

    /// Only another process than the one that was up at the beginning counts from now on.
    pub(super) const fn again(&mut self) {
        self.again = true;
    }

    /// Returns whether the process that was up at the beginning still is.
    pub(super) fn is_same(&self) -> bool {
        let pid = |status: &Status| status.pid.filter(|_| status.is_up());
        let before = self.before.as_ref().and_then(pid);
        before.is_some() && self.dir.status().is_ok_and(|now| pid(&now) == before)
    }

    /// Follows until the aim is reached or cannot be, or the deadline passes.
    pub(super) fn follow(&mut self, aim: Aim, deadline: Instant) -> io::Result<Followed> {
        let mut heard_up = false;
        loop {
            if let Some(end) = self.look(aim, heard_up) {
                return Ok(end);
            }
            match self.hear(deadline)? {
                Heard::Refused(reason) => return Ok(Followed::Refused(reason)),
                Heard::Letter(Letter::SupervisionEnded) => return Ok(Followed::Gone),
                Heard::Letter(Letter::PermanentFailure) if aim != Aim::Supervised => {
                    return Ok(Followed::Failed(self.reason()));
                }
                Heard::Letter(Letter::Died | Letter::Finished) => {
                    self.died = true;
                    heard_up = false;
                    if aim != Aim::Supervised
                        && let StateName::FailedToStart { reason, .. } = self.state()
                    {
                        return Ok(Followed::FailedToStart(reason));
                    }
                }
                // The letter of a process that was up already may come late; it is not the one that is meant.
                Heard::Letter(Letter::Up | Letter::Ready) => heard_up = self.died || !self.again,
                Heard::Letter(Letter::SupervisionStarted | Letter::PermanentFailure) => {}
                Heard::Nothing => return Ok(self.late(aim)),
            }
        }
    }

    /// Returns the next letter, or that the supervisor refused, or nothing when the deadline has passed.
    fn hear(&mut self, deadline: Instant) -> io::Result<Heard> {
        let Some(Scan { scandir, name, refusals }) = &self.scan else {
            return Ok(self.listener.next(Some(deadline))?.map_or(Heard::Nothing, Heard::Letter));
        };
        loop {
            if let Some(letter) = self.listener.try_next()? {
                return Ok(Heard::Letter(letter));
            }
            if refusals.fresh().contains(name) {
                let unknown = || "it does not say why".to_owned();
                return Ok(Heard::Refused(scandir.refusal(name).unwrap_or_else(unknown)));
            }
            let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok();
            let mut fds = [PollFd::new(&self.listener, PollFlags::IN), PollFd::new(refusals, PollFlags::IN)];
            match poll(&mut fds, left.as_ref()) {
                Ok(0) => return Ok(Heard::Nothing),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Returns the end if what is so now is what is aimed at.
    fn look(&self, aim: Aim, heard_up: bool) -> Option<Followed> {
        let status = self.dir.status().ok()?;
        let fresh =
            !self.again || self.before.is_none_or(|b| b.pid != status.pid || b.changed != status.changed);
        let up = status.is_up() && status.want_up && fresh;
        match aim {
            Aim::Supervised => self.dir.supervised().unwrap_or(true).then_some(Followed::Supervised),
            // One that came up and died at once was up nevertheless.
            Aim::Up if up || heard_up => Some(Followed::Up(status.pid)),
            Aim::Ready if up && !self.dir.has_readiness() => Some(Followed::Up(status.pid)),
            Aim::Ready if up && status.ready => Some(Followed::Ready(status.pid)),
            Aim::Up | Aim::Ready => None,
        }
    }

    fn late(&self, aim: Aim) -> Followed {
        match self.dir.supervised() {
            Ok(false) if aim != Aim::Supervised => Followed::Gone,
            _ => Followed::TimedOut(self.state()),
        }
    }

    fn state(&self) -> StateName {
        status_view::observe(&self.dir).state
    }

    /// Returns why the gateway failed for good, where that is known.
    fn reason(&self) -> Option<String> {
        let observed = status_view::observe(&self.dir);
        observed.state.reason().map(str::to_owned).or_else(|| observed.status.map(|s| s.last.to_string()))
    }
}
