//! *Lives here:* what each letter, refusal and change of one gateway means for what it is followed to.
//!
//! *Does not live here:* waiting for them (`follow`).

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime};

use gatevisor_client::engine::{Interests, Woken};
use gatevisor_client::status_view::{self, START_FAILED, StateName};
use gatevisor_client::{
    ExecProgress, ExecWatch, Listener, RefusalWatch, ScanDir, ServiceDir, SupervisorWatch,
};
use gatevisor_wire::Pid;
use gatevisor_wire::event::ServiceEvent;
use gatevisor_wire::name::ServiceName;
use gatevisor_wire::policy::RestartPhase;
use gatevisor_wire::started::Announcer;
use gatevisor_wire::status::Status;
use gatevisor_wire::tai::Tai64n;
use gatevisor_wire::wait::WaitStatus;

use super::{Aim, FollowEnd, GatewayEnd};
use crate::manager::observe::exit_codes;
use crate::slots::{DATA_FAIL_CODES, DATA_RESTART_CODES};

/// How long it may take to hear that a command is executed before that is looked at again: its slot may have no place for
/// the mark that is watched.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Follows one gateway.
pub(in crate::manager) struct Follower {
    dir: ServiceDir,
    listener: Listener,
    before: Option<Status>,
    /// Only another process than the one that was up at the beginning counts.
    again: bool,
    /// The signal that the process of the beginning was sent, where it is not the supervisor's choice.
    signalled: Option<u8>,
    /// The process of the beginning has died.
    died: bool,
    scan: Option<Scan>,
    exec: Option<ExecWatch>,
    /// The supervisor, where it was there at the beginning.
    supervisor: Option<SupervisorWatch>,
    /// When to look again although nothing was heard.
    due: Option<Instant>,
    /// When the process that is followed was first seen to be the command.
    up_since: Option<(Pid, Instant)>,
    heard_up: bool,
}

/// A scan that was asked for.
struct Scan {
    scandir: ScanDir,
    name: ServiceName,
    refusals: RefusalWatch,
}

impl Follower {
    /// Begins to listen; what happens from now on is not missed.
    pub(in crate::manager) fn new(dir: ServiceDir) -> io::Result<Self> {
        let listener = Listener::subscribe(&dir)?;
        let before = dir.status().ok();
        // Of one that is up, its letter came before anybody listened.
        let heard_up = before.is_some_and(|status| status.is_up() && status.want_up);
        let supervisor = Some(SupervisorWatch::of(&dir));
        Ok(Self { before, supervisor, heard_up, ..Self::with(dir, listener) })
    }

    /// Takes over a listener that has been there since before the slot was.
    pub(in crate::manager) fn with(dir: ServiceDir, listener: Listener) -> Self {
        let exec = ExecWatch::of(&dir);
        Self {
            dir,
            listener,
            before: None,
            again: false,
            signalled: None,
            died: false,
            scan: None,
            exec,
            supervisor: None,
            due: None,
            up_since: None,
            heard_up: false,
        }
    }

    /// Listens for a refusal as well; to be called before a scan is asked for.
    pub(in crate::manager) fn expect_scan(&mut self, scandir: ScanDir, service: &str) {
        // Where none are published there is nothing to listen to.
        let listening = RefusalWatch::listen(&scandir).ok().zip(ServiceName::new(service.as_bytes()).ok());
        self.scan = listening.map(|(refusals, name)| Scan { scandir, name, refusals });
    }

    /// Returns the status at the beginning.
    pub(in crate::manager) const fn before(&self) -> Option<&Status> {
        self.before.as_ref()
    }

    /// Only another process than the one that was up at the beginning counts from now on; that one is sent `signal`.
    pub(in crate::manager) const fn again(&mut self, signal: Option<u8>) {
        self.again = true;
        self.signalled = signal;
        self.heard_up = false;
    }

    /// Returns whether the process that was up at the beginning still is.
    pub(in crate::manager) fn is_same(&self) -> bool {
        let pid = |status: &Status| status.pid.filter(|_| status.is_up());
        let before = self.before.as_ref().and_then(pid);
        before.is_some() && self.dir.status().is_ok_and(|now| pid(&now) == before)
    }

    /// Adds what it is woken by.
    pub(super) fn interests<'a>(&'a self, interests: &mut Interests<'a>) {
        interests.readable(self.listener.as_fd());
        if let Some(scan) = &self.scan {
            interests.readable(scan.refusals.as_fd());
        }
        if let Some(exec) = &self.exec {
            interests.readable(exec.as_fd());
        }
        if let Some(supervisor) = &self.supervisor {
            supervisor.interests(interests);
        }
    }

    /// Returns when it is worth a look although nothing was heard.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes in what has happened, and returns the end if this is one.
    pub(super) fn step(&mut self, aim: Aim, woken: Woken) -> io::Result<Option<FollowEnd>> {
        if let Some(exec) = &self.exec {
            exec.drain();
        }
        if let Some(supervisor) = &self.supervisor {
            supervisor.drain();
            // One that was killed sends no letter.
            if (woken.first || woken.closed) && supervisor.is_gone() {
                return Ok(Some(FollowEnd::Gone));
            }
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
        while let Some(letter) = self.listener.try_next()? {
            if let Some(end) = self.hear(aim, letter) {
                return Ok(Some(end));
            }
        }
        // What a letter said is what is looked at next, once more.
        Ok(self.look(aim))
    }

    fn hear(&mut self, aim: Aim, letter: ServiceEvent) -> Option<FollowEnd> {
        match letter {
            ServiceEvent::SupervisionEnded => Some(FollowEnd::Gone),
            ServiceEvent::PermanentFailure if aim != Aim::Supervised => {
                Some(FollowEnd::Failed(self.reason()))
            }
            ServiceEvent::Died => self.hear_death(aim),
            // The letter of a process that was up already may come late; it is not the one that is meant.
            ServiceEvent::Up | ServiceEvent::Ready => {
                self.heard_up = self.died || !self.again;
                self.look(aim)
            }
            ServiceEvent::SupervisionStarted | ServiceEvent::PermanentFailure | ServiceEvent::Finished => {
                None
            }
        }
    }

    fn hear_death(&mut self, aim: Aim) -> Option<FollowEnd> {
        let (was_up, since) = (std::mem::take(&mut self.heard_up), self.up_since.take());
        let is_old = self.again && !std::mem::replace(&mut self.died, true);
        // What was up before anybody was told, and dies of that, is not what is followed.
        if aim == Aim::Supervised || (is_old && !was_up) || (!was_up && since.is_none()) {
            return None;
        }
        // It may have been started again already, so it is the tally that says how it died.
        let how = self.dir.deaths().last().map(|death| death.how());
        // The attempt that had begun meanwhile has got it, before it was its command.
        if since.is_none()
            && self.signalled.take().is_some_and(|sent| how.and_then(WaitStatus::signal) == Some(sent))
        {
            return None;
        }
        let code = how.and_then(WaitStatus::exit_code);
        if since.is_none() && code.is_some_and(|code| START_FAILED.contains(&code)) {
            // The next attempt may have taken the text away already.
            return Some(FollowEnd::FailedToStart(self.dir.start_error().or_else(|| code.map(never_ran))));
        }
        // One whose command was executed, and that died at once, was up nevertheless.
        if aim == Aim::Up && code.is_some() {
            return Some(FollowEnd::Up(None));
        }
        let is_final = |code| exit_codes(&self.dir, DATA_FAIL_CODES).contains(&code);
        match self.state() {
            StateName::Failed { reason } => return Some(FollowEnd::Failed(reason)),
            // Its finish script, which says so, may still run.
            _ if code.is_some_and(is_final) => {
                return Some(FollowEnd::Failed(how.map(|how| how.to_string())));
            }
            _ => {}
        }
        // Somebody ended it, or everything, which is no failure of it.
        if self.dir.status().is_ok_and(|status| !status.want_up) {
            return None;
        }
        let codes = exit_codes(&self.dir, DATA_RESTART_CODES);
        let should_run = code.is_some_and(|code| codes.contains(&code));
        match aim {
            // Nobody knows whether its command was executed.
            Aim::Up => Some(FollowEnd::Ended(GatewayEnd { after: None, how })),
            Aim::Started(_) | Aim::Ready if !should_run => {
                Some(FollowEnd::Ended(GatewayEnd { after: since.map(|(_, since)| since.elapsed()), how }))
            }
            Aim::Supervised | Aim::Started(_) | Aim::Ready | Aim::UpAtLast | Aim::ReadyAtLast => None,
        }
    }

    /// Returns the end if what is so now is what is aimed at.
    fn look(&mut self, aim: Aim) -> Option<FollowEnd> {
        self.due = None;
        if aim == Aim::Supervised {
            return self.dir.supervised().unwrap_or(true).then_some(FollowEnd::Supervised);
        }
        let status = self.dir.status().ok()?;
        let fresh =
            !self.again || self.before.is_none_or(|b| b.pid != status.pid || b.changed != status.changed);
        let Some(pid) = status.pid.filter(|_| status.is_up() && status.want_up && fresh) else {
            return self.look_at_attempt(&status);
        };
        let ExecProgress::Command(announcer) = self.dir.progress(pid) else {
            self.due = Instant::now().checked_add(LOOK_AGAIN);
            return None;
        };
        let (known, since) = *self.up_since.get_or_insert_with(|| (pid, began(&status)));
        let since = if known == pid { since } else { began(&status) };
        self.up_since = Some((pid, since));
        match aim {
            Aim::Up | Aim::UpAtLast => Some(FollowEnd::Up(Some(pid))),
            _ if status.ready && announcer != Announcer::Nobody => Some(FollowEnd::Ready(Some(pid))),
            Aim::Started(window) if announcer == Announcer::Nobody => {
                if since.elapsed() >= window {
                    return Some(FollowEnd::Up(Some(pid)));
                }
                self.due = since.checked_add(window);
                None
            }
            Aim::Ready | Aim::ReadyAtLast if announcer == Announcer::Nobody => {
                Some(FollowEnd::NeverReady(Some(pid)))
            }
            Aim::Supervised | Aim::Started(_) | Aim::Ready | Aim::ReadyAtLast => None,
        }
    }

    /// Returns the end if a supervisor could not even execute `run`, of which it sends no letter.
    fn look_at_attempt(&self, status: &Status) -> Option<FollowEnd> {
        if status.pid.is_some() || !status.want_up {
            return None;
        }
        let policy = self.dir.policy().filter(|policy| policy.phase == RestartPhase::FailedToStart)?;
        // An attempt that failed long ago has its next one in the past, or in the far future.
        let until = policy.until?;
        let is_new = self.died || self.before.is_none_or(|before| !before.want_up) || self.scan.is_some();
        (is_new && until > Tai64n::now_from(SystemTime::now()))
            .then(|| FollowEnd::FailedToStart(self.reason()))
    }

    pub(super) fn late(&self, aim: Aim) -> FollowEnd {
        match self.dir.supervised() {
            Ok(false) if aim != Aim::Supervised => FollowEnd::Gone,
            _ => FollowEnd::TimedOut(self.state()),
        }
    }

    /// Returns the state of the gateway.
    pub(in crate::manager) fn state(&self) -> StateName {
        status_view::observe(&self.dir).state
    }

    /// Returns why the gateway failed for good, where that is known.
    fn reason(&self) -> Option<String> {
        self.state().reason().map(str::to_owned).or_else(|| self.last_exit())
    }

    fn last_exit(&self) -> Option<String> {
        self.dir.deaths().last().map(|death| death.how().to_string())
    }
}

/// Returns what an exit code of our interpreter means.
fn never_ran(code: u8) -> String {
    let what = match code {
        127 => "the command does not exist",
        126 => "the command cannot be executed",
        100 => "its slot's `run` says something that cannot be meant",
        _ => "a step before the command failed",
    };
    format!("exit {code}: {what}")
}

/// Returns when a process that is up began, going by its status.
fn began(status: &Status) -> Instant {
    let now = Instant::now();
    let age = Tai64n::now_from(SystemTime::now()).since(status.changed).unwrap_or_default();
    now.checked_sub(age).unwrap_or(now)
}
