//! *Lives here:* the watcher's loop: it looks at what is due, asks without waiting, has the decisions made and carries them out.
//!
//! *Does not live here:* the decisions (`gatevisor-liveness`).
//!
//! One thread. It never waits for a gateway: questions are answered while it sleeps, evidence is collected by a child. What can
//! hold it up is a disk, and then it is late, which it notices, and says nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use gatevisor_client::ServiceDir;
use gatevisor_liveness::{
    Attended, Attention, ClockReading, EvidenceKind, Fleet, FollowedService, Hindrance, LiveEffect,
    LiveFinding, Liveness,
};
use gatevisor_sys::clock::monotonic_ms;
use jiff::Timestamp;
use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};

use super::act::{self, EvidenceJob};
use super::asking::Asking;
use super::notice::{Collect, LiveNotice, LiveWatchError, Silent, Tell};
use super::probe::{Answer, Question};
use super::process::{self, ProcessSeen};
use super::publish::{self, Publisher};
use super::record::{LiveRecord, LiveRestart};
use super::slot::{FollowedGateway, by_itself};
use crate::manager::{ScandirManager, ServiceManager};
use crate::profile::ProfileName;

/// Milliseconds between two looks for gateways that have come or gone, and between two words that the watcher is at work.
const SCAN_MS: u64 = 5_000;
/// The same while one that has gone may come again shortly, and for how long that is.
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
    told: BTreeMap<String, Liveness>,
    scan: Attended,
    /// Since when those are gone that may come again.
    gone: BTreeMap<String, Attended>,
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
            told: BTreeMap::new(),
            scan: Attended::default(),
            gone: BTreeMap::new(),
        })
    }

    /// Watches; returns only why it cannot any longer.
    pub fn run(mut self) -> LiveWatchError {
        let mut planned = 0;
        loop {
            if let Err(source) = self.wake(planned) {
                return LiveWatchError::Publish { scandir: self.manager.scandir().to_owned(), source };
            }
            planned = self.planned_ms();
            self.sleep(planned);
        }
    }

    /// Does what there is to do now.
    fn wake(&mut self, planned_ms: u64) -> Result<(), Errno> {
        let wake = self.attention.wake(reading(), planned_ms);
        let (now, mut out) = (wake.now, Vec::new());
        if wake.lapse {
            self.asking.clear();
            self.fleet.lapse(now);
        }
        self.publisher.beat()?;
        if now >= self.scan {
            self.scan = now.plus(SCAN_MS);
            self.scan(now, &mut out);
        }
        self.take_answers(now, &mut out);
        self.look(now, &mut out);
        self.reap(now, &mut out);
        self.fleet.turn(now, &mut out);
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

    /// Sleeps until the time is over or somebody answers.
    fn sleep(&self, ms: u64) {
        let probes = self.asking.values().filter_map(Asking::poll_fd);
        let mut fds: Vec<PollFd<'_>> = probes.chain(self.jobs.values().map(EvidenceJob::poll_fd)).collect();
        let timeout = Timespec {
            tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(ms % 1000).unwrap_or(0).saturating_mul(1_000_000),
        };
        let _ = poll(&mut fds, Some(&timeout));
    }

    /// Finds out which gateways run.
    fn scan(&mut self, now: Attended, out: &mut Vec<LiveEffect>) {
        // A scandir that cannot be read for a moment says nothing of anyone.
        let Ok(names) = self.manager.list() else { return };
        if self.gone.values().any(|since| now.since(*since) < SOON_MS) {
            self.scan = now.plus(SCAN_SOON_MS);
        }
        let mut before = std::mem::take(&mut self.followed);
        for name in names {
            let service = name.service_entry();
            let dir = ServiceDir::new(self.manager.scandir().join(&service));
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

    /// Returns whether an earlier watcher has seen a gateway work; of one that is known nobody asks.
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

    /// Looks at those that are due.
    fn look(&mut self, now: Attended, out: &mut Vec<LiveEffect>) {
        let due = |service: &&str| {
            let known = self.fleet.service(service);
            !self.asking.contains_key(*service)
                && known.is_some_and(|known| known.is_running() && known.due() <= now)
        };
        let names: Vec<String> = self.fleet.names().filter(due).map(str::to_owned).collect();
        for name in names {
            match self.glance(&name, now) {
                Ok(finding) => self.found(&name, now, finding, out),
                Err((rest, why)) => self.ask(&name, rest, why, now, out),
            }
        }
    }

    /// Looks at what a gateway shows by itself; returns what to ask it, and why, where that is not enough.
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
        if followed.status.paused {
            return Ok(LiveFinding::Paused);
        }
        let Some(service) = self.fleet.service_mut(name) else { return Ok(LiveFinding::Early) };
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

    /// Takes in the answers that have come.
    fn take_answers(&mut self, now: Attended, out: &mut Vec<LiveEffect>) {
        let now_ms = monotonic_ms();
        let answered = self.asking.iter_mut();
        let answers: Vec<(String, Answer)> =
            answered.filter_map(|(name, asking)| Some((name.clone(), asking.step(now_ms)?))).collect();
        for (name, answer) in answers {
            let Some(asking) = self.asking.remove(&name) else { continue };
            let (kind, address) = (asking.kind(), asking.address());
            let Asking { rest, mut why, .. } = asking;
            let answer = match self.followed.get_mut(&name) {
                Some(followed) => followed.counted(answer, address),
                None => answer,
            };
            match answer {
                Answer::Alive => self.found(&name, now, LiveFinding::Alive(kind), out),
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

    /// Returns the finding where nothing shows that a gateway works: what the kernel says of it.
    fn nothing(&mut self, name: &str, kind: EvidenceKind, why: &[String]) -> LiveFinding {
        let Some(followed) = self.followed.get_mut(name) else { return LiveFinding::Early };
        let seen = process::look(followed.life.pid, &mut followed.waits, monotonic_ms());
        finding(kind, why, seen)
    }

    fn found(&mut self, name: &str, now: Attended, finding: LiveFinding, out: &mut Vec<LiveEffect>) {
        let Some(followed) = self.followed.get(name) else { return };
        self.fleet.look(name, now, followed.status.want_up, followed.in_its_own_words(finding), out);
    }

    /// Takes in that evidence has been collected.
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

    /// Has evidence collected; where that is not possible, it goes on without.
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

    /// Writes down why a gateway is about to be ended, and says so.
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
        // It is ended all the same: it does not work.
        let _ = publish::restarted(followed.dir.path(), &restarted);
        (self.tell)(LiveNotice::Ending(shown(name), reason, incident));
    }

    /// Has a gateway end, and looks soon what became of it.
    fn end(&mut self, name: &str, signal: Signal, now: Attended) {
        self.signal(name, signal);
        self.gone.entry(name.to_owned()).or_insert(now);
        self.scan = self.scan.min(now.plus(SCAN_SOON_MS));
    }

    /// Signals the process that was looked at, if its supervisor still wants it up and nothing has changed.
    fn signal(&self, name: &str, signal: Signal) {
        let (Some(service), Some(followed)) = (self.fleet.service(name), self.followed.get(name)) else {
            return;
        };
        let status = followed.dir.status().ok();
        let is_same = status.is_some_and(|status| {
            status.pid.map(gatevisor_wire::Pid::get) == Some(followed.life.pid)
                && status.want_up
                && !status.paused
        });
        if !is_same || !followed.is_same() {
            return;
        }
        match act::send(followed.life, signal) {
            Ok(()) if signal == Signal::KILL => (self.tell)(LiveNotice::Killed(shown(name))),
            // It can obey only if it runs.
            Ok(()) if service.is_stopped() => drop(act::send(followed.life, Signal::CONT)),
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
            reason.push_str(self.what_follows(service, name, now));
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

    /// Returns why a gateway that does not respond is not ended, where that is so.
    fn what_follows(&self, service: &FollowedService, name: &str, now: Attended) -> &'static str {
        if service.is_given_up() {
            "; starting it again has not helped, so it is left alone"
        } else if self.fleet.is_machine() {
            "; so are most others, so it is the machine, and none is ended"
        } else if self.fleet.is_queued(name, now) {
            "; others are being started, so it waits"
        } else {
            ""
        }
    }
}

/// Returns the finding where nothing shows that a gateway works.
fn finding(kind: EvidenceKind, why: &[String], seen: ProcessSeen) -> LiveFinding {
    let ProcessSeen { stopped, traced, hindered } = seen;
    if traced {
        return LiveFinding::Traced;
    }
    let mut why = why.join(", ");
    if stopped {
        why.push_str(", stopped by a signal");
    }
    // What a signal has stopped waits for nothing.
    let hindered: Option<Hindrance> = hindered.filter(|_| !stopped);
    LiveFinding::Missing { kind, why, hindered, stopped }
}

fn profile_of(service: &str) -> Option<ProfileName> {
    ProfileName::of_service(service.as_bytes())
}

fn shown(service: &str) -> String {
    profile_of(service).map_or_else(|| service.to_owned(), |name| name.to_string())
}

/// Returns a moment in attended time as the wall clock has it, in RFC 3339.
fn moment(at: Attended, now: Attended) -> String {
    let ago = std::time::Duration::from_millis(now.since(at));
    let then = SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
    Timestamp::try_from(then).unwrap_or_default().to_string()
}

fn reading() -> ClockReading {
    let boot = clock_gettime(ClockId::Boottime);
    let ms = boot.tv_sec.saturating_mul(1000).saturating_add(boot.tv_nsec / 1_000_000);
    ClockReading { monotonic_ms: monotonic_ms(), boottime_ms: u64::try_from(ms).unwrap_or(0) }
}

/// Returns the directory in which a scandir's watcher publishes.
pub fn directory(scandir: &Path) -> PathBuf {
    scandir.join(publish::DIRECTORY)
}
