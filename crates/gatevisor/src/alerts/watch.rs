//! The process that sends alerts, beside the watchers of a home.
//!
//! *Lives here:* looking at the gateways when something happens, and sending alerts.
//! *Does not live here:* what an alert says and when it is sent (`gatevisor_alerts`); keeping the
//! process running (`keeper`).
//!
//! It has one thread and waits for nobody: the programs that send are children. It ends when the
//! settings change, and its keeper starts it again with the new ones. Without settings there is no
//! such process.

use std::os::fd::OwnedFd;
use std::time::Duration;

use gatevisor_alerts::{AlertDestination, AlertMachine, Delivery, DeliveryOutcome, OpenProblem, Outbox};
use gatevisor_gateways::inspect;
use gatevisor_gateways::manager::ScandirManager;
use gatevisor_paths::by_path;
use gatevisor_sys::clock::{monotonic_ms, timespec};
use gatevisor_sys::file;
use rustix::event::{epoll, poll};
use rustix::fs::{Mode, OFlags};

use super::file::{AlertFile, FILE, FileError, FileMark};
use super::findings;
use super::sending::{self, Sending};
use crate::event_subscriber::EventSubscriber;
use crate::exit::{CommandError, Exit};
use crate::keeper::Kept;
use crate::out;

/// Milliseconds between two looks: at least, and at most.
const LOOK_SOON_MS: u64 = 1_000;
const LOOK_MS: u64 = 60_000;
/// The most milliseconds between two checks whether the settings have changed.
const SETTINGS_MS: u64 = 5_000;
/// The file in the home with the problems that were told.
const OPEN_FILE: &str = ".gatevisor-alerts.json";
const NEW_OPEN_FILE: &str = ".gatevisor-alerts.json.new";
const MODE: Mode = Mode::from_raw_mode(0o600);

/// Returns the process that sends alerts, as a keeper takes it.
pub fn kept(manager: &ScandirManager) -> Kept<'_> {
    let is_wanted = Box::new(|| FileMark::now(manager.home()).is_some());
    let job = Box::new(|| i32::from(watch(manager).code()));
    Kept { what: "the process that sends alerts", job, pulse: None, is_wanted: Some(is_wanted) }
}

/// Sends alerts until the settings change or it cannot go on.
fn watch(manager: &ScandirManager) -> Exit {
    // The mark is taken first, so that a file that changes while it is read is read again.
    let mark = FileMark::now(manager.home());
    let file = match AlertFile::read(manager.home()) {
        Ok(Some(file)) => file,
        Ok(None) => return until_changed(manager, mark),
        Err(error) => {
            out::warn(&refusal(&error));
            return until_changed(manager, mark);
        }
    };
    match Alerter::new(manager, &file).and_then(|alerter| alerter.run(mark)) {
        Ok(()) => Exit::Done,
        Err(error) => {
            out::warn(&format!("cannot alert anybody: {}", error.message));
            Exit::System
        }
    }
}

fn refusal(error: &FileError) -> String {
    let why = match error {
        FileError::Refused(why) => why.clone(),
        FileError::Invalid(problems) => problems
            .first()
            .map_or_else(String::new, |problem| format!("line {}: {}", problem.line, problem.what)),
    };
    format!("nobody is alerted, because `{FILE}` of the home does not count: {why}; `gatevisor alerts check`")
}

/// Waits until the settings change.
fn until_changed(manager: &ScandirManager, mark: Option<FileMark>) -> Exit {
    while FileMark::now(manager.home()) == mark {
        let _ = poll(&mut [], Some(&timespec(SETTINGS_MS)));
    }
    Exit::Done
}

/// A destination, its messages, and the program that sends one.
struct Sender<'a> {
    destination: &'a AlertDestination,
    delivery: Delivery,
    sending: Option<Sending>,
}

struct Alerter<'a> {
    manager: &'a ScandirManager,
    name: String,
    disk_full_percent: u8,
    machine: AlertMachine,
    outbox: Outbox,
    senders: Vec<Sender<'a>>,
    subscriber: EventSubscriber,
    /// Wakes when a program that sends has ended.
    ends: OwnedFd,
    /// The problems that were told, as the file has them.
    open: Vec<OpenProblem>,
    look_at_ms: u64,
    looked_ms: u64,
}

impl<'a> Alerter<'a> {
    fn new(manager: &'a ScandirManager, file: &'a AlertFile) -> Result<Self, CommandError> {
        let failed = |why: std::io::Error| CommandError::new(Exit::System, why.to_string());
        let ends = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let mut subscriber = EventSubscriber::open(manager.scandir(), Vec::new())?;
        subscriber.wake_on(Some(ends.try_clone().map_err(failed)?));
        let open = read_open(manager);
        let now_ms = monotonic_ms();
        let told = open.iter().map(|open| open.subject.clone());
        let sender = |destination| Sender { destination, delivery: Delivery::default(), sending: None };
        Ok(Self {
            manager,
            name: file.name(),
            disk_full_percent: file.settings.disk_full_percent,
            machine: AlertMachine::new(open.clone()),
            outbox: Outbox::new(file.settings.most_per_hour, told, now_ms),
            senders: file.settings.to.iter().map(sender).collect(),
            subscriber,
            ends,
            open,
            look_at_ms: now_ms,
            looked_ms: 0,
        })
    }

    /// Sends alerts until the settings change.
    fn run(mut self, mark: Option<FileMark>) -> Result<(), CommandError> {
        loop {
            if FileMark::now(self.manager.home()) != mark {
                return Ok(());
            }
            let now_ms = monotonic_ms();
            if now_ms >= self.look_at_ms {
                self.look(now_ms);
            }
            self.send(now_ms);
            if self.is_idle() {
                self.write_open();
            }
            let sleep_ms = self.due_ms().saturating_sub(monotonic_ms()).min(SETTINGS_MS);
            let mut has_happened = false;
            self.subscriber.receive(Some(Duration::from_millis(sleep_ms)), |_, _| {
                has_happened = true;
                Ok(())
            })?;
            if has_happened {
                self.look_at_ms = self.look_at_ms.min(self.looked_ms.saturating_add(LOOK_SOON_MS));
            }
        }
    }

    /// Looks at all gateways and file systems, and queues the news.
    fn look(&mut self, now_ms: u64) {
        self.looked_ms = now_ms;
        // If the home cannot be read at the moment, nothing is known of any gateway.
        if let Ok(reports) = inspect::survey(self.manager) {
            let mut seen = findings::of_gateways(&reports);
            seen.extend(findings::of_disks(self.manager, self.disk_full_percent));
            let news = self.machine.step(now_ms, seen);
            self.outbox.add(news);
        }
        let due_ms = self.machine.due_ms().unwrap_or(u64::MAX);
        let soonest_ms = now_ms.saturating_add(LOOK_SOON_MS);
        self.look_at_ms = due_ms.clamp(soonest_ms, now_ms.saturating_add(LOOK_MS));
    }

    /// Starts sending the messages that may be sent now, and handles programs that have ended.
    fn send(&mut self, now_ms: u64) {
        if let Some(message) = self.outbox.take(now_ms) {
            for sender in &mut self.senders {
                let Some(message) = message.of_kinds(&sender.destination.kinds) else { continue };
                if sender.delivery.add(message) > 0 {
                    let label = sender.destination.label();
                    out::warn(&format!("alerts for {label} were dropped: too many wait"));
                }
            }
        }
        for sender in &mut self.senders {
            sender.step(self.manager, &self.name, &self.ends, now_ms);
        }
    }

    /// Returns whether everything that is to be told was told.
    fn is_idle(&self) -> bool {
        self.outbox.is_idle() && self.senders.iter().all(|sender| sender.delivery.is_idle())
    }

    fn due_ms(&self) -> u64 {
        let senders = self.senders.iter().filter_map(Sender::due_ms);
        senders.chain(self.outbox.due_ms()).chain([self.look_at_ms]).min().unwrap_or_default()
    }

    /// Writes the problems that were told to the file, if they have changed. A problem whose
    /// message still waits does not count as told: if this process is killed, the next one tells
    /// it.
    fn write_open(&mut self) {
        let open = self.machine.open();
        if open == self.open {
            return;
        }
        let Ok(bytes) = serde_json::to_vec(&open) else { return };
        let home = by_path::directory(self.manager.home().root());
        let written = home.and_then(|home| file::publish(home, OPEN_FILE, NEW_OPEN_FILE, &bytes, MODE));
        if let Err(errno) = written {
            out::warn(&format!(
                "cannot write `{OPEN_FILE}` in the home: {errno}; after the next start, problems may be told again"
            ));
        }
        self.open = open;
    }
}

impl Sender<'_> {
    fn step(&mut self, manager: &ScandirManager, name: &str, ends: &OwnedFd, now_ms: u64) {
        let ended = self.sending.as_mut().and_then(|sending| sending.step(now_ms));
        if let Some(result) = ended {
            self.sending = None;
            self.end(result, now_ms);
        }
        let Some(message) = self.delivery.begin(now_ms) else { return };
        let begun = sending::request(manager, self.destination, message, name)
            .and_then(|request| Sending::begin(&request, manager.home().root(), now_ms));
        match begun {
            Ok(sending) => {
                let data = epoll::EventData::new_u64(0);
                // If this fails, the end of the program is noticed a little later.
                let _ = epoll::add(ends, sending.descriptor(), data, epoll::EventFlags::IN);
                self.sending = Some(sending);
            }
            Err(why) => self.end(Err(why), now_ms),
        }
    }

    fn end(&mut self, result: Result<(), String>, now_ms: u64) {
        let is_first = self.delivery.is_first_attempt();
        let outcome = self.delivery.end(result.is_ok(), now_ms);
        let (label, why) = (self.destination.label(), result.err().unwrap_or_default());
        match outcome {
            DeliveryOutcome::Again(ms) if is_first => {
                out::warn(&format!(
                    "an alert did not reach {label}: {why}; trying again after {} s",
                    ms / 1000
                ));
            }
            DeliveryOutcome::GivenUp => out::warn(&format!("an alert for {label} is given up: {why}")),
            DeliveryOutcome::Sent | DeliveryOutcome::Again(_) => {}
        }
    }

    fn due_ms(&self) -> Option<u64> {
        self.sending.as_ref().map(Sending::until_ms).or_else(|| self.delivery.due_ms())
    }
}

/// Returns the problems that an earlier process told. A file that cannot be read counts as empty.
fn read_open(manager: &ScandirManager) -> Vec<OpenProblem> {
    let path = manager.home().root().join(OPEN_FILE);
    let file = by_path::open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK);
    let bytes = file
        .ok()
        .and_then(|file| gatevisor_gateways::files::read_opened(file, gatevisor_alerts::MAX_BYTES).ok());
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}
