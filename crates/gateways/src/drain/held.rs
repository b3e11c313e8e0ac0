//! *Lives here:* carrying out a drain: the effects of the machine, and the lock that shows that the
//! owner lives.
//!
//! *Does not live here:* the machine (`gatevisor_liveness::drain`), and the next step.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use gatevisor_client::status_view;
use gatevisor_liveness::{Drain, DrainEffect, DrainEnd, DrainEvent, DrainSettings};
use gatevisor_paths::by_path;
use gatevisor_sys::clock::monotonic_ms;
use gatevisor_sys::inotify::{Inotify, WatchFlags};
use gatevisor_sys::proc::Process;
use gatevisor_sys::process::fork_beside;
use gatevisor_wire::status::Status;
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::asking::{AskingProcess, DrainTarget};
use super::error::DrainError;
use super::leftover::undo;
use super::question::{DrainQuestion, DrainQuestions};
use super::record::{DrainRecord, DrainRecords, DrainThen, directory};
use super::report::holder;
use super::work;
use crate::agent::{DrainDefinition, IdleSource};
use crate::desired::Provenance;
use crate::inspect::served_by;
use crate::manager::ScandirManager;
use crate::profile::ProfileName;

/// After how many intervals between two looks the request of an idle gateway is renewed. A lease of
/// `OpenClaw` is good for thirty.
const RENEW_INTERVALS: u64 = 8;
/// How many gateways are asked at once by processes. Each may be another Node, as with `OpenClaw`.
const ASKED_AT_ONCE: usize = 8;
/// How a state file changes: by a rename into the home, or by writing it in place.
const COMES: WatchFlags = WatchFlags::MOVED_TO
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::DONT_FOLLOW);

/// An order to drain a gateway: who gives it, the time limit, and the next step.
#[derive(Debug, Clone)]
pub struct DrainOrder {
    /// The user and the command that ask for it.
    pub by: Provenance,
    /// How long the drain may take.
    pub limit: Duration,
    /// The next step after the drain.
    pub then: DrainThen,
}

/// A gateway that is asked to take no new work for as long as this value lives.
#[derive(Debug)]
pub struct HeldDrain {
    name: ProfileName,
    manager: ScandirManager,
    definition: DrainDefinition,
    machine: Drain,
    record: DrainRecord,
    records: DrainRecords,
    process: OwnedFd,
    questions: DrainQuestions,
    failed: Vec<String>,
    began_ms: u64,
    ended_ms: Option<u64>,
    /// When the request of an idle gateway was renewed last.
    renewed_ms: Option<u64>,
    /// Whether the gateway is about to end, as its supervisor was told.
    is_left: bool,
    _lock: OwnedFd,
}

impl HeldDrain {
    /// Asks a gateway to take no new work. Where a command asks it, [`run`] does so.
    ///
    /// # Errors
    /// Nothing was done to it.
    pub fn begin(
        manager: &ScandirManager,
        name: &ProfileName,
        order: &DrainOrder,
    ) -> Result<Self, DrainError> {
        let (definition, pid) = drainable(manager, name)?;
        let service = name.service_entry();
        let scandir = manager.scandir();
        let unrecorded =
            |source| DrainError::Record { name: name.clone(), directory: directory(scandir), source };
        let records = DrainRecords::make(scandir).map_err(unrecorded)?;
        let held =
            || DrainError::Held { name: name.clone(), holder: holder(records.read(&service).as_ref()) };
        let lock = records.lock_soon(&service).map_err(unrecorded)?.ok_or_else(held)?;
        // The lock is ours, so the owner of an older record has ended.
        if records.read(&service).is_some() {
            let failed = |why| DrainError::Undo { name: name.clone(), why };
            undo(manager, name, &records, order.limit).map_err(failed)?;
        }
        let target = DrainTarget { manager, name, drain: &definition };
        if let Some(file) = target.asked_by_another(pid) {
            return Err(DrainError::AskedByAnother { name: name.clone(), file });
        }
        let process = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH);
        let process = process.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
        let process = process.map_err(|source| DrainError::Follow { name: name.clone(), pid, source })?;
        let began_ms = monotonic_ms();
        let machine = Drain::new(settings(order, definition.idle.interval_ms), began_ms);
        let marker = definition.marker.as_ref().map(|marker| marker.file.clone());
        let record = DrainRecord { marker, ..record(order, pid, began_ms) };
        records.write(&service, &record).map_err(unrecorded)?;
        let mut drain = Self {
            name: name.clone(),
            manager: manager.clone(),
            definition,
            machine,
            record,
            records,
            process,
            questions: DrainQuestions::default(),
            failed: Vec::new(),
            began_ms,
            ended_ms: None,
            renewed_ms: None,
            is_left: false,
            _lock: lock,
        };
        drain.step(DrainEvent::Begin);
        Ok(drain)
    }

    /// Returns the profile of the gateway.
    pub const fn name(&self) -> &ProfileName {
        &self.name
    }

    /// Returns the machine of the drain.
    pub const fn machine(&self) -> &Drain {
        &self.machine
    }

    /// Returns how the drain has ended, if it has.
    pub const fn end(&self) -> Option<&DrainEnd> {
        self.machine.end()
    }

    /// Returns how long the drain has lasted so far, or until it ended.
    pub fn took(&self) -> Duration {
        let until_ms = self.ended_ms.unwrap_or_else(monotonic_ms);
        Duration::from_millis(until_ms.saturating_sub(self.began_ms))
    }

    /// Returns how long the drain may still last.
    pub fn left(&self) -> Duration {
        Duration::from_millis(self.record.until_ms.saturating_sub(monotonic_ms()))
    }

    /// Takes the request back as soon as the process of the gateway has ended, so that the next
    /// process does not find it. A helper process does that, and ends with this process.
    pub fn take_back_at_its_end(&self) {
        if self.definition.marker.is_none() {
            return;
        }
        let _ = fork_beside(|| {
            let _ = poll(&mut [PollFd::new(&self.process, PollFlags::IN)], None);
            i32::from(self.target().take_back(Duration::MAX).is_err())
        });
    }

    /// Returns whether the gateway itself ends what is under way when it is stopped now.
    pub const fn ends_work_when_stopped(&self) -> bool {
        self.definition.when_stopped
    }

    /// Takes the request back after the next step was done. Returns everything that failed during
    /// the drain.
    pub fn finish(mut self) -> Vec<String> {
        self.step(DrainEvent::Followed);
        std::mem::take(&mut self.failed)
    }

    /// Leaves a gateway to its supervisor, which was told to end it. A request that ends with the
    /// gateway's process stays: until then, nothing new shall begin. Otherwise returns the drain,
    /// whose request is taken back when it is dropped.
    pub fn leave_to_process(mut self) -> Option<Self> {
        self.is_left = self.definition.ends_with_process();
        (!self.is_left).then_some(self)
    }

    /// Returns when the gateway was asked last since it is idle.
    fn asked_ms(&self) -> Option<u64> {
        self.renewed_ms.or(self.ended_ms)
    }

    /// Returns whether an idle gateway must be asked once more for what is under way, because its
    /// request would be over otherwise before the drains of others are.
    fn is_renewal_due(&self) -> bool {
        let is_lease = self.definition.ends_with_process() && self.definition.idle.command.is_some();
        let every_ms = self.definition.idle.interval_ms.saturating_mul(RENEW_INTERVALS);
        let is_late = self.asked_ms().is_some_and(|at| monotonic_ms().saturating_sub(at) >= every_ms);
        is_lease && is_late && self.end() == Some(&DrainEnd::Idle) && !self.has_ended()
    }

    const fn target(&self) -> DrainTarget<'_> {
        DrainTarget { manager: &self.manager, name: &self.name, drain: &self.definition }
    }

    fn step(&mut self, event: DrainEvent) -> bool {
        let mut effects = Vec::new();
        self.machine.step(monotonic_ms(), event, &mut effects);
        if let Some(end) = self.machine.end().filter(|_| self.ended_ms.is_none()) {
            self.records.count(&self.name.service_entry(), end);
            self.ended_ms = Some(monotonic_ms());
        }
        let mut is_told = false;
        for effect in effects {
            is_told |= self.perform(effect);
        }
        is_told
    }

    /// Carries out an effect. Returns whether there is something new to tell.
    fn perform(&mut self, effect: DrainEffect) -> bool {
        match effect {
            DrainEffect::Mark => self.wonder(DrainQuestion::Ask),
            DrainEffect::Look => self.wonder(DrainQuestion::Look),
            DrainEffect::Tell => {
                self.machine.stage().word().clone_into(&mut self.record.stage);
                self.record.turns = self.machine.turns();
                self.record.reason = self.machine.why_unknown().map(str::to_owned);
                // The record is only for other processes, so the drain goes on if it cannot be
                // written.
                let _ = self.records.write(&self.name.service_entry(), &self.record);
                true
            }
            // The owner of this value does the next step.
            DrainEffect::Follow => {
                self.questions.clear();
                true
            }
            DrainEffect::Unmark => {
                self.questions.clear();
                // The next process was not asked for anything.
                let is_over = self.definition.ends_with_process() && (self.is_left || self.has_ended());
                let taken_back = if is_over { Ok(false) } else { self.target().take_back(Duration::MAX) };
                // Otherwise the record stays, so that the watcher of gateways tries again. To ask
                // again and again may renew what is to be undone.
                if taken_back.is_ok() || self.definition.ends_with_process() {
                    self.records.remove(&self.name.service_entry());
                }
                self.failed.extend(taken_back.err());
                true
            }
        }
    }

    /// Adds a question to the gateway, and asks it at once if that takes no time. Returns whether
    /// there is something new to tell.
    fn wonder(&mut self, question: DrainQuestion) -> bool {
        self.questions.add(question, monotonic_ms());
        self.ask_at_hand()
    }

    /// Asks the next questions that take no time. Returns whether there is something new to tell.
    fn ask_at_hand(&mut self) -> bool {
        let mut is_told = false;
        while let Some((question, _)) = self.questions.next().filter(|(next, _)| self.is_at_hand(*next)) {
            self.questions.take();
            let answer = match question {
                DrainQuestion::Ask => {
                    self.target().ask(self.record.pid, &self.record.by).map(|()| Vec::new())
                }
                DrainQuestion::Look | DrainQuestion::Renew => work::at_hand(&self.target()),
            };
            is_told |= self.answered(question, answer);
        }
        is_told
    }

    fn is_at_hand(&self, question: DrainQuestion) -> bool {
        match question {
            DrainQuestion::Ask => self.definition.command.is_none(),
            DrainQuestion::Look | DrainQuestion::Renew => work::is_at_hand(&self.definition),
        }
    }

    /// Starts the process of the next question. Returns whether there is something new to tell.
    fn start_next(&mut self) -> bool {
        let Some(question) = self.questions.take() else { return false };
        let target = self.target();
        let started = match (question, &self.definition.command) {
            (DrainQuestion::Ask, Some(commands)) => {
                target.start(&commands.begin, Duration::from_millis(commands.timeout_ms))
            }
            _ => work::start_look(&target),
        };
        if question == DrainQuestion::Renew {
            self.renewed_ms = Some(monotonic_ms());
        }
        match started {
            Ok(process) => {
                self.questions.runs(question, process);
                false
            }
            Err(why) => self.answered(question, Err(why)),
        }
    }

    /// Handles the answer to the question that runs, if there is one by now. Returns whether there
    /// is something new to tell.
    fn take_answer(&mut self) -> bool {
        match self.questions.answer() {
            Some((question, answer)) => self.answered(question, answer) | self.ask_at_hand(),
            None => false,
        }
    }

    fn answered(&mut self, question: DrainQuestion, answer: Result<Vec<u8>, String>) -> bool {
        match (question, answer) {
            (DrainQuestion::Ask, Err(why)) => self.step(DrainEvent::NotMarked(why)),
            (DrainQuestion::Ask, Ok(_)) | (DrainQuestion::Renew, _) => false,
            (DrainQuestion::Look, answer) => {
                let shown = work::shown(&self.definition.idle, self.record.pid, answer);
                self.step(DrainEvent::Seen(shown))
            }
        }
    }

    fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.process, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }
}

impl Drop for HeldDrain {
    fn drop(&mut self) {
        self.step(DrainEvent::Followed);
    }
}

/// Waits until every drain has ended, or until `cancel` can be read. In that case, the remaining
/// drains are undone. Calls `tell` for each drain with something new.
pub fn run(drains: &mut [HeldDrain], cancel: Option<BorrowedFd<'_>>, tell: &mut dyn FnMut(&HeldDrain)) {
    let inotify = Inotify::new().ok();
    for drain in &*drains {
        if let (Some(inotify), Some(IdleSource::File(_))) = (&inotify, drain.definition.idle.source()) {
            let _ = by_path::watch(inotify, drain.target().home(), COMES);
        }
        tell(drain);
    }
    while let Some(due_ms) = drains.iter().filter_map(|drain| drain.machine.due_ms()).min() {
        start_some(drains, tell);
        let woken = wait(drains, inotify.as_ref(), cancel, due_ms.saturating_sub(monotonic_ms()));
        for drain in &mut *drains {
            if drain.take_answer() {
                tell(drain);
            }
        }
        for drain in drains.iter_mut().filter(|drain| drain.machine.is_under_way()) {
            let is_new = match () {
                () if woken == DrainWake::Cancelled => drain.step(DrainEvent::Cancel),
                () if drain.has_ended() => drain.step(DrainEvent::Ended),
                // A gateway whose files change all the time has the same limit.
                () if woken == DrainWake::Changed => {
                    drain.wonder(DrainQuestion::Look) | drain.step(DrainEvent::Time)
                }
                () => drain.step(DrainEvent::Time),
            };
            if is_new {
                tell(drain);
            }
        }
        if drains.iter().any(|drain| drain.machine.is_under_way()) {
            for drain in drains.iter_mut().filter(|drain| drain.is_renewal_due()) {
                drain.wonder(DrainQuestion::Renew);
            }
        }
    }
}

/// Starts the questions that wait, as long as not too many are asked: first that no new work is
/// taken, and then the oldest.
fn start_some(drains: &mut [HeldDrain], tell: &mut dyn FnMut(&HeldDrain)) {
    while drains.iter().filter(|drain| drain.questions.running().is_some()).count() < ASKED_AT_ONCE {
        let waiting = drains.iter_mut().filter_map(|drain| Some((drain.questions.next()?, drain)));
        let next =
            waiting.min_by_key(|((question, since_ms), _)| (*question != DrainQuestion::Ask, *since_ms));
        let Some((_, drain)) = next else { return };
        if drain.start_next() {
            tell(drain);
        }
    }
}

/// What has ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DrainWake {
    Cancelled,
    /// A file has changed in one of the homes.
    Changed,
    /// A process has ended, or the time is over.
    Otherwise,
}

fn wait(
    drains: &[HeldDrain],
    inotify: Option<&Inotify>,
    cancel: Option<BorrowedFd<'_>>,
    ms: u64,
) -> DrainWake {
    let mut fds: Vec<PollFd<'_>> = Vec::new();
    let readable = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    fds.extend(cancel.map(readable));
    fds.extend(inotify.map(|inotify| readable(inotify.as_fd())));
    let under_way = drains.iter().filter(|drain| drain.machine.is_under_way());
    fds.extend(under_way.map(|drain| readable(drain.process.as_fd())));
    let mut timeout = Duration::from_millis(ms);
    for (news, until) in drains.iter().filter_map(|drain| drain.questions.running()).map(AskingProcess::news)
    {
        fds.push(readable(news.as_fd()));
        timeout = timeout.min(until.saturating_duration_since(Instant::now()));
    }
    let timeout = Timespec::try_from(timeout).ok();
    let _ = poll(&mut fds, timeout.as_ref());
    let is_ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
    let first = usize::from(cancel.is_some());
    match inotify {
        _ if cancel.is_some() && is_ready(0) => DrainWake::Cancelled,
        Some(inotify) if is_ready(first) => {
            inotify.drain();
            DrainWake::Changed
        }
        _ => DrainWake::Otherwise,
    }
}

/// Returns how a gateway is drained, and its process, if it can be drained.
fn drainable(manager: &ScandirManager, name: &ProfileName) -> Result<(DrainDefinition, i32), DrainError> {
    manager.check_profile(name)?;
    let agent = manager.agent();
    let definition = agent.gateway.drain.clone();
    let definition =
        definition.ok_or_else(|| DrainError::NoDialect { name: name.clone(), agent: agent.name.clone() })?;
    let standing = manager.standing();
    if !standing.allows() {
        return Err(DrainError::Elsewhere { name: name.clone(), standing });
    }
    if let Some(by) = served_by(manager, name) {
        return Err(DrainError::Served { name: name.clone(), by });
    }
    let dir = manager.slot(name);
    let not_up = || DrainError::NotUp { name: name.clone() };
    let is_supervised = dir.supervised().unwrap_or(false);
    let status =
        dir.status().ok().filter(|status| is_supervised && Status::is_up(status)).ok_or_else(not_up)?;
    if status_view::is_paused(&status) {
        return Err(DrainError::Paused { name: name.clone(), slot: dir.path().to_owned() });
    }
    Ok((definition, status.pid.ok_or_else(not_up)?.get()))
}

fn limit_ms(order: &DrainOrder) -> u64 {
    u64::try_from(order.limit.as_millis()).unwrap_or(u64::MAX)
}

fn settings(order: &DrainOrder, look_ms: u64) -> DrainSettings {
    DrainSettings { limit_ms: limit_ms(order), look_ms, holds: order.then == DrainThen::Nothing }
}

fn record(order: &DrainOrder, pid: i32, began_ms: u64) -> DrainRecord {
    let own = std::process::id().cast_signed();
    let now = Timestamp::now();
    let until = now.checked_add(order.limit).unwrap_or(Timestamp::MAX);
    DrainRecord {
        owner: own,
        owner_ticks: Process::of(own).map_or(0, |process| process.began),
        by: format!("`{}` of {}, process {own}", order.by.command, order.by.user),
        pid,
        marker: None,
        then: order.then.word().to_owned(),
        stage: gatevisor_liveness::DrainStage::Asked.word().to_owned(),
        turns: None,
        reason: None,
        since: now.to_string(),
        until: until.to_string(),
        until_ms: began_ms.saturating_add(limit_ms(order)),
    }
}
