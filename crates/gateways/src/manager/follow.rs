//! *Lives here:* following one gateway from the moment before it is told something until it is up, is ready, or
//! cannot be.
//!
//! *Does not live here:* telling it.
//!
//! The client's own waits know conditions; this one also ends when the gateway's command cannot be executed, which is
//! no condition but an answer.

use std::io;
use std::time::{Duration, Instant};

use gatevisor_client::status_view::{self, StateName};
use gatevisor_client::{Listener, Refusals, ScanDir, ServiceDir};
use gatevisor_wire::Pid;
use gatevisor_wire::event::Letter;
use gatevisor_wire::name::ServiceName;
use gatevisor_wire::status::Status;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::become_command::Becoming;

/// How long an interpreter of `run` may take to become the command before its being up is all that is asked.
const BECOMES_WITHIN: Duration = Duration::from_secs(2);

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
    becoming: Option<Becoming>,
}

/// A scan that was asked for.
struct Scan {
    scandir: ScanDir,
    name: ServiceName,
    refusals: Refusals,
}

/// What a look showed.
enum Seen {
    /// The end.
    End(Followed),
    /// It is up, but its interpreter has not become the command yet.
    Becoming,
    /// Neither.
    Nothing,
}

/// What was heard.
enum Heard {
    Letter(Letter),
    Refused(String),
    /// An interpreter of `run` may be over.
    Became,
    Nothing,
}

impl Follower {
    /// Begins to listen; what happens from now on is not missed.
    pub(super) fn new(dir: ServiceDir) -> io::Result<Self> {
        let listener = Listener::subscribe(&dir.event_path())?;
        let before = dir.status().ok();
        let becoming = Becoming::watch(dir.path());
        Ok(Self { dir, listener, before, again: false, died: false, scan: None, becoming })
    }

    /// Takes over an ear that has been there since before the slot was.
    pub(super) fn with(dir: ServiceDir, listener: Listener) -> Self {
        let becoming = Becoming::watch(dir.path());
        Self { dir, listener, before: None, again: false, died: false, scan: None, becoming }
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
        // Until when an interpreter that is up may take to become the command.
        let mut become_until: Option<Instant> = None;
        loop {
            match self.look(aim, heard_up) {
                Seen::End(end) => return Ok(end),
                Seen::Becoming => {
                    become_until = become_until.or_else(|| Instant::now().checked_add(BECOMES_WITHIN));
                }
                Seen::Nothing => become_until = None,
            }
            let until = become_until.map_or(deadline, |until| until.min(deadline));
            match self.hear(until)? {
                Heard::Refused(reason) => return Ok(Followed::Refused(reason)),
                Heard::Letter(Letter::SupervisionEnded) => return Ok(Followed::Gone),
                Heard::Letter(Letter::PermanentFailure) if aim != Aim::Supervised => {
                    return Ok(Followed::Failed(self.reason()));
                }
                Heard::Letter(Letter::Died | Letter::Finished) => {
                    self.died = true;
                    let was_up = std::mem::take(&mut heard_up);
                    if aim != Aim::Supervised
                        && let StateName::FailedToStart { reason, .. } = self.state()
                    {
                        return Ok(Followed::FailedToStart(reason));
                    }
                    // One that came up and died at once was up nevertheless.
                    if was_up && aim == Aim::Up {
                        return Ok(Followed::Up(self.dir.status().ok().and_then(|status| status.pid)));
                    }
                }
                // The letter of a process that was up already may come late; it is not the one that is meant.
                Heard::Letter(Letter::Up | Letter::Ready) => heard_up = self.died || !self.again,
                Heard::Letter(Letter::SupervisionStarted | Letter::PermanentFailure) | Heard::Became => {}
                // It does not say when it is over, so this is all that can be known.
                Heard::Nothing if become_until.is_some() => self.becoming = None,
                Heard::Nothing => return Ok(self.late(aim)),
            }
        }
    }

    /// Returns what is heard next, or that nothing was when the deadline passed.
    fn hear(&mut self, deadline: Instant) -> io::Result<Heard> {
        loop {
            if let Some(letter) = self.listener.try_next()? {
                return Ok(Heard::Letter(letter));
            }
            let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
            if let Some(Scan { scandir, name, refusals }) = &self.scan {
                if refusals.fresh().contains(name) {
                    let unknown = || "it does not say why".to_owned();
                    return Ok(Heard::Refused(scandir.refusal(name).unwrap_or_else(unknown)));
                }
                fds.push(PollFd::new(refusals, PollFlags::IN));
            }
            if let Some(becoming) = &self.becoming {
                if becoming.drain() {
                    return Ok(Heard::Became);
                }
                fds.push(PollFd::new(becoming, PollFlags::IN));
            }
            let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok();
            match poll(&mut fds, left.as_ref()) {
                Ok(0) => return Ok(Heard::Nothing),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Returns the end if what is so now is what is aimed at.
    fn look(&self, aim: Aim, heard_up: bool) -> Seen {
        let Ok(status) = self.dir.status() else { return Seen::Nothing };
        let fresh =
            !self.again || self.before.is_none_or(|b| b.pid != status.pid || b.changed != status.changed);
        let up = status.is_up() && status.want_up && fresh;
        let became = |pid: Option<Pid>| match (&self.becoming, pid) {
            (Some(becoming), Some(pid)) if !becoming.has_become(pid) => Seen::Becoming,
            _ => Seen::End(Followed::Up(pid)),
        };
        match aim {
            Aim::Supervised if self.dir.supervised().unwrap_or(true) => Seen::End(Followed::Supervised),
            Aim::Up if up => became(status.pid),
            // What became of it the next letter says, where it may have been an interpreter only.
            Aim::Up if heard_up && self.becoming.is_none() => Seen::End(Followed::Up(status.pid)),
            Aim::Ready if up && !self.dir.has_readiness() => became(status.pid),
            Aim::Ready if up && status.ready => Seen::End(Followed::Ready(status.pid)),
            Aim::Supervised | Aim::Up | Aim::Ready => Seen::Nothing,
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
