//! What the service manager that started the supervisor is told: systemd, in most cases.
//!
//! *Lives here:* which message is due when. *Does not live here:* the socket and its address, and
//! counting services.
//!
//! Where nobody asked for messages, there is no [`HostNotifier`], and the supervisor has no timer
//! for it.
//!
//! **Source:** `sd_notify(3)`, `sd_watchdog_enabled(3)`.

use crate::time::Tick;

/// Milliseconds after a change in which further changes belong to the same message.
const SETTLES_MS: u64 = 100;

/// Milliseconds between two messages about the services.
const STATUS_EVERY_MS: u64 = 1_000;

/// A message to the service manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostNotice {
    /// The supervisor has read every directory, and starts what shall be up.
    Ready,
    /// It reads its directories anew; `Ready` follows.
    Reloading,
    /// It ends.
    Stopping,
    /// Its loop runs.
    Watchdog,
    /// How many services are up.
    Status,
}

/// How many services there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServiceCounts {
    /// Those that shall be up.
    pub wanted: usize,
    /// Those of them that are up.
    pub up: usize,
    /// Those of them that said that they are ready.
    pub ready: usize,
}

impl ServiceCounts {
    /// Adds one service.
    pub fn add(&mut self, is_wanted: bool, is_up: bool, is_ready: bool) {
        self.wanted = self.wanted.saturating_add(usize::from(is_wanted));
        self.up = self.up.saturating_add(usize::from(is_wanted && is_up));
        self.ready = self.ready.saturating_add(usize::from(is_wanted && is_up && is_ready));
    }
}

impl std::fmt::Display for ServiceCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { wanted, up, ready } = self;
        write!(f, "{up} of {wanted} services up, {ready} ready")
    }
}

/// Decides which messages are due.
#[derive(Debug)]
pub struct HostNotifier {
    /// Milliseconds between two signs of life.
    period_ms: Option<u64>,
    next_watchdog: Option<Tick>,
    next_status: Option<Tick>,
    last_status: Option<Tick>,
    /// `Ready` is to be said once all directories are read.
    owes_ready: bool,
    is_stopping: bool,
}

impl HostNotifier {
    /// Makes one for a manager that gives the supervisor up after `watchdog_us` microseconds
    /// without a sign of life, if it does so at all.
    pub fn new(watchdog_us: Option<u64>) -> Self {
        // Half of the limit, as systemd advises.
        let period_ms = watchdog_us.map(|limit| limit.div_euclid(2_000).max(1));
        Self {
            period_ms,
            next_watchdog: None,
            next_status: None,
            last_status: None,
            owes_ready: true,
            is_stopping: false,
        }
    }

    /// Takes in that something is different with a service.
    pub fn changed(&mut self, now: Tick) {
        if self.next_status.is_none() {
            let settled = now.after(SETTLES_MS);
            let earliest = self.last_status.map_or(settled, |last| last.after(STATUS_EVERY_MS));
            self.next_status = Some(settled.max(earliest));
        }
    }

    /// Takes in that no directory is left to read; returns the message for that.
    pub fn settled(&mut self, now: Tick) -> Option<HostNotice> {
        if self.is_stopping || !std::mem::take(&mut self.owes_ready) {
            return None;
        }
        if self.next_watchdog.is_none() {
            self.next_watchdog = self.period_ms.map(|period| now.after(period));
        }
        self.changed(now);
        Some(HostNotice::Ready)
    }

    /// Takes in that all directories are to be read anew; returns the message for that.
    pub fn reload(&mut self) -> Option<HostNotice> {
        let is_new = !self.is_stopping && !std::mem::replace(&mut self.owes_ready, true);
        is_new.then_some(HostNotice::Reloading)
    }

    /// Takes in that the supervisor ends; returns the message for that.
    pub fn stop(&mut self) -> Option<HostNotice> {
        (!std::mem::replace(&mut self.is_stopping, true)).then_some(HostNotice::Stopping)
    }

    /// Takes in that a message found no room at the manager, who will have some soon.
    ///
    /// Without `Ready`, the manager would wait for it and give the supervisor up.
    pub fn found_no_room(&mut self, notice: HostNotice, now: Tick) {
        if notice == HostNotice::Ready {
            self.owes_ready = true;
            self.changed(now);
        }
    }

    /// Returns the messages that are due now.
    pub fn due(&mut self, now: Tick) -> Vec<HostNotice> {
        let mut notices = Vec::new();
        if self.next_watchdog.is_some_and(|at| at <= now) {
            self.next_watchdog = self.period_ms.map(|period| now.after(period));
            notices.push(HostNotice::Watchdog);
        }
        if self.next_status.is_some_and(|at| at <= now) {
            self.next_status = None;
            self.last_status = Some(now);
            notices.push(HostNotice::Status);
        }
        notices
    }

    /// Returns when the next message is due.
    pub fn deadline(&self) -> Option<Tick> {
        self.next_watchdog.into_iter().chain(self.next_status).min()
    }
}
