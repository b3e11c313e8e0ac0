//! *Lives here:* the watcher's loop. It looks at what is due, asks without waiting, has
//! `gatevisor-liveness` decide, and carries the decisions out.
//!
//! *Does not live here:* the looks themselves (`looks`); the decisions (`gatevisor-liveness`).
//!
//! The watcher has one thread and never waits for a gateway. Answers come while it sleeps, and a
//! child collects evidence. Only a disk can hold it up. It notices afterwards that it was late, and
//! does not count that time.

mod looks;
mod parts;

use std::path::PathBuf;

use gatevisor_client::{ServiceDir, status_view};
use gatevisor_liveness::{Attended, FollowedService, LiveEffect, Liveness};
use gatevisor_slot::start_permits;
use gatevisor_sys::clock::{monotonic_ms, timespec};
use gatevisor_sys::file;
use jiff::Timestamp;
use rustix::event::{PollFd, poll};
use rustix::io::Errno;
use rustix::process::Signal;

pub use self::parts::LiveWatcher;
use self::parts::profile_of;
use super::act::{self, EvidenceJob};
use super::asking::Asking;
use super::clock::{moment, reading};
use super::notice::{LiveNotice, LiveWatchError, Silent};
use super::publish::{self, BeatError};
use super::record::{LiveRecord, LiveRestart};
use super::slot::FollowedGateway;
use crate::drain;
use crate::manager::ServiceManager;
use crate::profile::ProfileName;

/// Milliseconds between two scans for gateways that have come or gone. It is also how often the
/// watcher reports at least.
const SCAN_MS: u64 = 5_000;
/// The interval of scans after a gateway has gone, because it may come again soon, and for how long
/// that interval holds.
const SCAN_SOON_MS: u64 = 1_000;
const SOON_MS: u64 = 30_000;

impl LiveWatcher {
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
            out.extend(std::mem::take(&mut self.unpublished).into_iter().map(LiveEffect::Publish));
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
        let some_wait = || start_permits::all(self.manager.scandir()).delayed().next().is_some();
        if self.gone.values().any(|since| now.since(*since) < SOON_MS) || some_wait() {
            self.scan = now.plus(SCAN_SOON_MS);
        }
        let mut before = std::mem::take(&mut self.followed);
        let continued = std::mem::take(&mut self.continued);
        let services = names.iter().map(ProfileName::service_entry).collect();
        self.tally.write(&services, |bytes| self.publisher.probes(bytes));
        for name in names {
            let service = name.service_entry();
            let dir = ServiceDir::new(self.manager.scandir().join(&service));
            self.ended.look(&self.manager, &dir, &service);
            let status = dir.status().ok();
            if status.is_some_and(|status| self.continued.look(&continued, &service, &dir, &status)) {
                (self.tell)(LiveNotice::Continued(name.to_string()));
            }
            let Some(followed) = FollowedGateway::look(dir, status, before.remove(&service)) else {
                self.gone(&service, now);
                continue;
            };
            let known = self.fleet.service(&service);
            if known.is_some_and(|known| known.life() != followed.life) {
                // What an earlier process was asked says nothing about this one.
                self.asking.remove(&service);
            }
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
        if self.continued.is_any_paused() {
            self.scan = self.scan.min(now.plus(SCAN_SOON_MS));
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
        (self.tell)(LiveNotice::Ending(ProfileName::shown_of(name), reason, incident));
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
            Ok(()) if signal == Signal::KILL => (self.tell)(LiveNotice::Killed(ProfileName::shown_of(name))),
            // A stopped process can obey only if it continues.
            Ok(()) if service.is_stopped() => drop(act::signal(&followed.dir, followed.life, Signal::CONT)),
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => {
                (self.tell)(LiveNotice::LeftAlone(
                    ProfileName::shown_of(name),
                    format!("cannot signal it: {errno}"),
                ));
            }
        }
    }

    fn publish(&mut self, name: &str, now: Attended) -> Result<(), Errno> {
        let Some(service) = self.fleet.service(name) else { return Ok(()) };
        let record = self.record(service, name, now);
        match self.publisher.record(name, &record) {
            // Watching goes on. A watcher that reports must not vouch for an old record.
            Err(errno) if file::is_full(errno) => {
                self.publisher.forget(name);
                self.unpublished.insert(name.to_owned());
            }
            published => published?,
        }
        let state = service.state();
        let before = self.told.insert(name.to_owned(), state);
        if before != Some(state) {
            if state == Liveness::Unresponsive {
                (self.tell)(LiveNotice::Unresponsive(
                    ProfileName::shown_of(name),
                    record.reason.unwrap_or_default(),
                ));
            } else if before == Some(Liveness::Unresponsive) && state == Liveness::Live {
                (self.tell)(LiveNotice::Again(ProfileName::shown_of(name)));
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
