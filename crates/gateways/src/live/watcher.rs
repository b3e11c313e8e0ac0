//! *Lives here:* the watcher's loop. It looks at what is due, asks without waiting, has
//! `gatevisor-liveness` decide, and carries the decisions out.
//!
//! *Does not live here:* the decisions (`gatevisor-liveness`).
//!
//! The watcher has one thread and never waits for a gateway. Answers come while it sleeps, and a
//! child collects evidence. Only a disk can hold it up. It notices afterwards that it was late, and
//! does not count that time.

use std::collections::BTreeMap;
use std::path::PathBuf;

use gatevisor_client::{ServiceDir, status_view};
use gatevisor_liveness::{
    Attended, Attention, EvidenceKind, Fleet, FollowedService, LiveEffect, LiveFinding, Liveness,
};
use gatevisor_slot::start_permits;
use gatevisor_sys::clock::{monotonic_ms, timespec};
use jiff::Timestamp;
use rustix::event::{PollFd, poll};
use rustix::io::Errno;
use rustix::process::Signal;

use super::act::{self, EvidenceJob};
use super::again::EndedHere;
use super::asking::Asking;
use super::clock::{moment, reading};
use super::notice::{Collect, LiveNotice, LiveWatchError, Silent, Tell};
use super::probe::{Answer, Question};
use super::process;
use super::publish::{self, BeatError, Publisher};
use super::record::{LiveRecord, LiveRestart};
use super::slot::{FollowedGateway, by_itself};
use crate::drain;
use crate::manager::{ScandirManager, ServiceManager};
use crate::profile::ProfileName;
use crate::ticket::TicketKeeper;

/// Milliseconds between two scans for gateways that have come or gone. It is also how often the
/// watcher reports at least.
const SCAN_MS: u64 = 5_000;
/// The interval of scans after a gateway has gone, because it may come again soon, and for how long
/// that interval holds.
const SCAN_SOON_MS: u64 = 1_000;
const SOON_MS: u64 = 30_000;

/// Watches whether the gateways of one scandir work.
pub struct LiveWatcher {
    manager: ScandirManager,
    tell: Tell,
    collect: Collect,
    publisher: Publisher,
    fleet: Fleet,
    attention: Attention,
    followed: BTreeMap<String, FollowedGateway>,
    asking: BTreeMap<String, Asking>,
    jobs: BTreeMap<String, EvidenceJob>,
    tickets: TicketKeeper,
    told: BTreeMap<String, Liveness>,
    scan: Attended,
    /// Gateways that have gone and may come again, and since when.
    gone: BTreeMap<String, Attended>,
    ended: EndedHere,
}

impl LiveWatcher {
    /// Returns a watcher; at most `parallel` gateways are ended and started at a time.
    pub fn new(
        manager: ScandirManager,
        parallel: usize,
        tell: Tell,
        collect: Collect,
    ) -> Result<Self, LiveWatchError> {
        let scandir = manager.scandir().to_owned();
        let publisher = match Publisher::new(&scandir) {
            Ok(Some(publisher)) => publisher,
            Ok(None) => return Err(LiveWatchError::Taken { scandir }),
            Err(source) => return Err(LiveWatchError::Publish { scandir, source }),
        };
        Ok(Self {
            manager,
            tell,
            collect,
            publisher,
            fleet: Fleet::new(parallel),
            attention: Attention::default(),
            followed: BTreeMap::new(),
            asking: BTreeMap::new(),
            jobs: BTreeMap::new(),
            tickets: TicketKeeper::default(),
            told: BTreeMap::new(),
            scan: Attended::default(),
            gone: BTreeMap::new(),
            ended: EndedHere::default(),
        })
    }

    /// Watches. Returns only if it cannot go on, with the reason.
    pub fn run(mut self) -> LiveWatchError {
        let mut planned = 0;
        loop {
            if let Err(error) = self.wake(planned) {
                return self.ended_by(error);
            }
            planned = self.planned_ms();
            self.sleep(planned);
        }
    }

    fn ended_by(&self, error: BeatError) -> LiveWatchError {
        let scandir = self.manager.scandir();
        match error {
            BeatError::LockLost => LiveWatchError::LockLost { directory: publish::directory(scandir) },
            BeatError::System(source) => LiveWatchError::Publish { scandir: scandir.to_owned(), source },
        }
    }

    /// Does everything that is due.
    fn wake(&mut self, planned_ms: u64) -> Result<(), BeatError> {
        let wake = self.attention.wake(reading(), planned_ms);
        let (now, mut out) = (wake.now, Vec::new());
        if wake.lapse {
            self.asking.clear();
            self.fleet.lapse(now);
        }
        self.publisher.beat()?;
        for (name, what) in self.tickets.step(&self.manager) {
            (self.tell)(LiveNotice::AskedRestart(name.to_string(), what));
        }
        if now >= self.scan {
            self.scan = now.plus(SCAN_MS);
            self.scan(now, &mut out);
            for (name, why) in drain::undo_left(&self.manager) {
                (self.tell)(LiveNotice::DrainUndone(name.to_string(), why));
            }
        }
        self.take_answers(now, &mut out);
        self.look(now, &mut out);
        self.reap(now, &mut out);
        self.fleet.decide(now, &mut out);
        for effect in out {
            self.perform(effect, now)?;
        }
        Ok(())
    }

    fn planned_ms(&self) -> u64 {
        let (now, now_ms) = (self.attention.now(), monotonic_ms());
        let looks = self.fleet.due().into_iter().chain([self.scan]).map(|due| due.since(now));
        let asked = self.asking.values().map(Asking::until_ms);
        let jobs = self.jobs.values().map(EvidenceJob::until_ms);
        looks.chain(asked.chain(jobs).map(|until| until.saturating_sub(now_ms))).min().unwrap_or(SCAN_MS)
    }

    /// Sleeps until the time is over or an answer comes.
    fn sleep(&self, ms: u64) {
        let probes = self.asking.values().filter_map(Asking::poll_fd);
        let jobs = self.jobs.values().map(EvidenceJob::poll_fd);
        let mut fds: Vec<PollFd<'_>> = probes.chain(jobs).chain(self.tickets.poll_fd()).collect();
        let _ = poll(&mut fds, Some(&timespec(ms)));
    }

    /// Finds out which gateways run.
    fn scan(&mut self, now: Attended, out: &mut Vec<LiveEffect>) {
        // A scandir that cannot be read at the moment tells nothing about any gateway.
        let Ok(names) = self.manager.list() else { return };
        // Others may wait for the end of a start.
        let some_wait = || start_permits::all(self.manager.scandir()).waiting().next().is_some();
        if self.gone.values().any(|since| now.since(*since) < SOON_MS) || some_wait() {
            self.scan = now.plus(SCAN_SOON_MS);
        }
        let mut before = std::mem::take(&mut self.followed);
        for name in names {
            let service = name.service_entry();
            let dir = ServiceDir::new(self.manager.scandir().join(&service));
            self.ended.look(&self.manager, &dir, &service);
            let Some(followed) = FollowedGateway::look(dir, before.remove(&service)) else {
                self.gone(&service, now);
                continue;
            };
            self.fleet.follow(
                &service,
                followed.life,
                followed.settings,
                self.was_proven(&service),
                now,
                out,
            );
            self.gone.remove(&service);
            self.followed.insert(service, followed);
        }
        for service in before.into_keys() {
            self.gone(&service, now);
            self.fleet.forget(&service);
            self.gone.remove(&service);
            self.publisher.forget(&service);
        }
    }

    /// Returns whether an earlier watcher has seen evidence of a gateway. For a gateway that is
    /// known already, that is not looked up.
    fn was_proven(&self, service: &str) -> bool {
        let known = self.fleet.service(service).is_some();
        !known && publish::record_of(self.manager.scandir(), service).is_some_and(|record| record.proven)
    }

    fn gone(&mut self, service: &str, now: Attended) {
        self.asking.remove(service);
        if self.fleet.service(service).is_some() {
            self.gone.entry(service.to_owned()).or_insert(now);
        }
        self.fleet.gone(service);
    }

    /// Looks at the gateways that are due.
    fn look(&mut self, now: Attended, out: &mut Vec<LiveEffect>) {
        let due = |service: &&str| {
            let known = self.fleet.service(service);
            !self.asking.contains_key(*service)
                && known.is_some_and(|known| known.is_running() && known.due() <= now)
        };
        let names: Vec<String> = self.fleet.names().filter(due).map(str::to_owned).collect();
        for name in names {
            match self.glance(&name, now) {
                Ok(LiveFinding::Alive(kind)) => self.alive(&name, kind, now, out),
                Ok(finding) => self.found(&name, now, finding, out),
                Err((rest, why)) => self.ask(&name, rest, why, now, out),
            }
        }
    }

    /// Looks for evidence that needs no question. If that is not enough, returns the questions, and
    /// why they are needed.
    fn glance(&mut self, name: &str, now: Attended) -> Result<LiveFinding, (Vec<Question>, Vec<String>)> {
        let Some(followed) = self.followed.get_mut(name) else { return Ok(LiveFinding::Early) };
        if let Ok(status) = followed.dir.status() {
            followed.status = status;
        }
        if followed.status.pid.map(gatevisor_wire::Pid::get) != Some(followed.life.pid) {
            // The next scan sees what became of it.
            self.scan = now;
            return Ok(LiveFinding::Early);
        }
        if status_view::is_paused(&followed.status) {
            return Ok(LiveFinding::Paused);
        }
        let Some(service) = self.fleet.service_mut(name) else { return Ok(LiveFinding::Early) };
        if let Some(startup) = followed.startup().filter(|_| !service.has_shown()) {
            return Err((vec![startup], Vec::new()));
        }
        let profile = profile_of(name);
        let directory = profile.map(|name| self.manager.home().profile_dir(&name)).unwrap_or_default();
        let heartbeat = followed.heartbeat(&mut service.beat, now);
        let notified = followed.notified(&mut service.notified, now);
        by_itself(
            &[(EvidenceKind::Notify, notified), (EvidenceKind::Heartbeat, heartbeat)],
            followed.questions(directory),
        )
    }

    /// Asks the next question, if there is one.
    fn ask(
        &mut self,
        name: &str,
        mut rest: Vec<Question>,
        why: Vec<String>,
        now: Attended,
        out: &mut Vec<LiveEffect>,
    ) {
        if rest.is_empty() {
            let notifies = self.followed.get(name).is_some_and(FollowedGateway::only_notifies);
            let kind = if notifies { EvidenceKind::Notify } else { EvidenceKind::Heartbeat };
            let finding = self.nothing(name, kind, &why);
            return self.found(name, now, finding, out);
        }
        let asking = Asking::new(rest.remove(0), rest, why, monotonic_ms());
        self.fleet.defer(name, now);
        self.asking.insert(name.to_owned(), asking);
    }

    /// Notes that a gateway works, once it has been asked what of it does not, if it can say that.
    fn alive(&mut self, name: &str, kind: EvidenceKind, now: Attended, out: &mut Vec<LiveEffect>) {
        let Some(health) = self.followed.get(name).and_then(FollowedGateway::health) else {
            return self.found(name, now, LiveFinding::Alive(kind), out);
        };
        self.fleet.defer(name, now);
        self.asking.insert(name.to_owned(), Asking::of_live(health, kind, monotonic_ms()));
    }

    /// Handles the answers that have come.
    fn take_answers(&mut self, now: Attended, out: &mut Vec<LiveEffect>) {
        let now_ms = monotonic_ms();
        let answered = self.asking.iter_mut();
        let answers: Vec<(String, Answer)> =
            answered.filter_map(|(name, asking)| Some((name.clone(), asking.step(now_ms)?))).collect();
        for (name, answer) in answers {
            let Some(asking) = self.asking.remove(&name) else { continue };
            let (kind, address) = (asking.shown_by.unwrap_or(asking.kind()), asking.address());
            let Asking { rest, mut why, shown_by, .. } = asking;
            let answer = match self.followed.get_mut(&name) {
                Some(followed) => followed.counted(answer, address),
                None => answer,
            };
            match answer {
                // It works, whatever became of the question what of it does not.
                Answer::Alive | Answer::None(_) if shown_by.is_some() => {
                    self.found(&name, now, LiveFinding::Alive(kind), out);
                }
                Answer::Alive => self.alive(&name, kind, now, out),
                Answer::Degraded(reason) => {
                    self.found(&name, now, LiveFinding::Degraded(kind, reason), out);
                }
                Answer::None(reason) => {
                    why.push(reason);
                    if rest.is_empty() {
                        let finding = self.nothing(&name, kind, &why);
                        self.found(&name, now, finding, out);
                    } else {
                        self.ask(&name, rest, why, now, out);
                    }
                }
            }
        }
    }

    /// Returns the finding if there is no evidence: what the kernel reports about the process.
    fn nothing(&mut self, name: &str, kind: EvidenceKind, why: &[String]) -> LiveFinding {
        let Some(followed) = self.followed.get_mut(name) else { return LiveFinding::Early };
        let seen = process::look(followed.life.pid, &mut followed.waits, monotonic_ms());
        seen.finding(kind, why)
    }

    fn found(&mut self, name: &str, now: Attended, finding: LiveFinding, out: &mut Vec<LiveEffect>) {
        let Some(followed) = self.followed.get(name) else { return };
        self.fleet.look(name, now, followed.supervisor_says(), followed.as_it_is(finding), out);
    }

    /// Handles the children that have collected evidence.
    fn reap(&mut self, now: Attended, out: &mut Vec<LiveEffect>) {
        let now_ms = monotonic_ms();
        let over = self.jobs.iter().filter(|(_, job)| job.is_over(now_ms));
        let over: Vec<String> = over.map(|(name, _)| name.clone()).collect();
        for name in over {
            let said = self.jobs.remove(&name).and_then(|job| job.said());
            let incident = said.and_then(|bytes| Some(PathBuf::from(String::from_utf8(bytes).ok()?)));
            let before = out.len();
            self.fleet.collected(&name, now, out);
            if out.len() > before {
                self.write_down(&name, incident);
            }
        }
    }

    fn perform(&mut self, effect: LiveEffect, now: Attended) -> Result<(), Errno> {
        match effect {
            LiveEffect::Publish(name) => self.publish(&name, now)?,
            LiveEffect::Collect(name) => self.begin(&name, now),
            LiveEffect::Terminate(name) => self.end(&name, Signal::TERM, now),
            LiveEffect::Kill(name) => self.end(&name, Signal::KILL, now),
            LiveEffect::Machine { missing, followed } => (self.tell)(LiveNotice::Machine(missing, followed)),
        }
        Ok(())
    }

    /// Has evidence collected. If that is impossible, goes on without.
    fn begin(&mut self, name: &str, now: Attended) {
        let (Some(service), Some(followed)) = (self.fleet.service(name), self.followed.get(name)) else {
            return;
        };
        let history: Vec<String> =
            service.history().iter().map(|(at, what)| format!("{} {what}", moment(*at, now))).collect();
        let (manager, collect) = (&self.manager, self.collect);
        let reason = service.reason().unwrap_or_default();
        let job = || {
            let name = profile_of(name)?;
            let silent = Silent {
                name: &name,
                life: followed.life,
                reason,
                history: &history,
                command: &followed.live.evidence,
            };
            let incident = collect(manager, &silent)?;
            Some(incident.into_os_string().into_encoded_bytes())
        };
        if let Ok(job) = EvidenceJob::new(job, monotonic_ms()) {
            self.jobs.insert(name.to_owned(), job);
            return;
        }
        let mut out = Vec::new();
        self.fleet.collected(name, now, &mut out);
        if !out.is_empty() {
            self.write_down(name, None);
            self.end(name, Signal::TERM, now);
        }
    }

    /// Writes down why a gateway is about to be ended, and tells people.
    fn write_down(&self, name: &str, incident: Option<PathBuf>) {
        let (Some(service), Some(followed)) = (self.fleet.service(name), self.followed.get(name)) else {
            return;
        };
        let reason = service.reason().unwrap_or_default().to_owned();
        let restarted = LiveRestart {
            at: Timestamp::now().to_string(),
            pid: followed.life.pid,
            reason: reason.clone(),
            evidence: service.kind().map(|kind| kind.to_string()),
            misses: service.misses(),
            incident: incident.as_ref().map(|incident| incident.display().to_string()),
        };
        // The gateway is ended even if this fails, because it does not work.
        let _ = publish::restarted(followed.dir.path(), &restarted);
        (self.tell)(LiveNotice::Ending(shown(name), reason, incident));
    }

    /// Signals a gateway, and has the next scan come soon.
    fn end(&mut self, name: &str, signal: Signal, now: Attended) {
        self.signal(name, signal);
        self.ended.told(name, self.followed.get(name).map(|followed| followed.life));
        self.gone.entry(name.to_owned()).or_insert(now);
        self.scan = self.scan.min(now.plus(SCAN_SOON_MS));
    }

    /// Signals the process that was looked at, if its supervisor still wants it up and nothing has
    /// changed.
    fn signal(&self, name: &str, signal: Signal) {
        let (Some(service), Some(followed)) = (self.fleet.service(name), self.followed.get(name)) else {
            return;
        };
        let status = followed.dir.status().ok();
        let is_same = status.is_some_and(|status| {
            status.pid.map(gatevisor_wire::Pid::get) == Some(followed.life.pid)
                && status.want_up
                && !status_view::is_paused(&status)
        });
        if !is_same || !followed.is_same() {
            return;
        }
        match act::signal(&followed.dir, followed.life, signal) {
            Ok(()) if signal == Signal::KILL => (self.tell)(LiveNotice::Killed(shown(name))),
            // A stopped process can obey only if it continues.
            Ok(()) if service.is_stopped() => drop(act::signal(&followed.dir, followed.life, Signal::CONT)),
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => {
                (self.tell)(LiveNotice::LeftAlone(shown(name), format!("cannot signal it: {errno}")));
            }
        }
    }

    fn publish(&mut self, name: &str, now: Attended) -> Result<(), Errno> {
        let Some(service) = self.fleet.service(name) else { return Ok(()) };
        let record = self.record(service, name, now);
        self.publisher.record(name, &record)?;
        let state = service.state();
        let before = self.told.insert(name.to_owned(), state);
        if before != Some(state) {
            if state == Liveness::Unresponsive {
                (self.tell)(LiveNotice::Unresponsive(shown(name), record.reason.unwrap_or_default()));
            } else if before == Some(Liveness::Unresponsive) && state == Liveness::Live {
                (self.tell)(LiveNotice::Again(shown(name)));
            }
        }
        Ok(())
    }

    fn record(&self, service: &FollowedService, name: &str, now: Attended) -> LiveRecord {
        let mut reason = service.reason().map(str::to_owned);
        if service.state() == Liveness::Unresponsive
            && let Some(reason) = &mut reason
        {
            reason.push_str(self.fleet.why_not_ended(name, now));
        }
        LiveRecord {
            epoch: format!("{:016x}", self.publisher.epoch()),
            pid: service.life().pid,
            start_ticks: service.life().start_ticks,
            state: service.state().word().to_owned(),
            since: moment(service.since(), now),
            evidence: service.kind().map(|kind| kind.to_string()),
            misses: service.misses(),
            reason,
            policy: service.settings().policy.word().to_owned(),
            proven: service.is_proven(),
        }
    }
}

fn profile_of(service: &str) -> Option<ProfileName> {
    ProfileName::of_service(service.as_bytes())
}

fn shown(service: &str) -> String {
    profile_of(service).map_or_else(|| service.to_owned(), |name| name.to_string())
}
