//! Commands that come through FIFOs: to a service, and to the supervisor itself.
//!
//! *Lives here:* reading them, how fast, and whose are obeyed. *Does not live here:* what a service does about one (the machine).
//!
//! A command costs us more than whoever sends it. So nobody's are taken faster than a rate that no honest sender
//! comes near; the rest waits in the FIFO, and we sleep meanwhile instead of taking a processor from everybody.

use std::os::fd::AsFd;

use gatevisor_core::fair::{Counts, FairQueue, TokenBuckets};
use gatevisor_core::{ServiceInput, Tick};
use gatevisor_wire::control::Control;
use gatevisor_wire::files;
use gatevisor_wire::scan::ScanCommand;
use rustix::event::epoll::{self, EventFlags};

use crate::service::Id;
use crate::stderr_log::say;
use crate::supervisor::{EventSource, Supervisor, Timer};

/// Bytes that are read at once from the supervisor's own FIFO.
const MAX_SCAN_BYTES: usize = 64;
/// Control bytes of one service that are obeyed in a period, and read at once: what was written at once is obeyed at once.
const CONTROL_BYTES: usize = 256;
/// Those that are read at once where other services of the same user wait.
const CONTROL_BYTES_OF_MANY: usize = 64;
/// Control bytes of all services of one user that are obeyed in a period.
const CONTROL_BYTES_OF_OWNER: usize = 512;
/// Times that the supervisor's own FIFO is read in a period.
const SCAN_READS: usize = 8;
/// Milliseconds in which a share comes back.
const PERIOD_MS: u64 = 4;

/// How fast commands are taken.
#[derive(Debug, Default)]
pub(crate) struct RateLimiter {
    /// When this period began.
    since: Tick,
    /// What of its commands have been obeyed, for each service and for each user.
    of_service: TokenBuckets<Id>,
    of_owner: TokenBuckets<u32>,
    scan_reads: usize,
    /// The FIFOs that are not listened to, which have been too fast, each with its service's user.
    paused: FairQueue<Id>,
    is_scan_paused: bool,
}

impl RateLimiter {
    /// Begins another period where this one is over.
    fn renew(&mut self, now: Tick) {
        let periods = now.since(self.since).checked_div(PERIOD_MS).unwrap_or_default();
        if periods > 0 {
            let periods = usize::try_from(periods).unwrap_or(usize::MAX);
            self.since = now;
            self.of_service.renew(CONTROL_BYTES.saturating_mul(periods));
            self.of_owner.renew(CONTROL_BYTES_OF_OWNER.saturating_mul(periods));
            self.scan_reads = 0;
        }
    }
}

impl Supervisor {
    /// Obeys what the supervisor's own FIFO says.
    pub(crate) fn take_scan_commands(&mut self) {
        self.rate_limiter.renew(self.now.tick);
        if self.rate_limiter.scan_reads >= SCAN_READS {
            self.attend(&self.scan_control, EventSource::ScanControl, EventFlags::empty());
            self.wait_for_the_next_period();
            self.rate_limiter.is_scan_paused = true;
            return;
        }
        self.rate_limiter.scan_reads = self.rate_limiter.scan_reads.saturating_add(1);
        let mut bytes = [0; MAX_SCAN_BYTES];
        let Ok(count) = rustix::io::read(&self.scan_control, &mut bytes) else { return };
        for command in bytes.iter().take(count).filter_map(|&byte| ScanCommand::from_byte(byte)) {
            if self.is_refused(command) {
                continue;
            }
            match command {
                ScanCommand::Rescan | ScanCommand::NukeGone | ScanCommand::NukeGoneAndLoggers => self.scan(),
                ScanCommand::Hangup => self.scan_all(),
                ScanCommand::Reap => self.reap(),
                ScanCommand::Terminate | ScanCommand::Interrupt => self.begin_shutdown(),
                ScanCommand::Quit => self.quit(),
                ScanCommand::Abort => self.abandon(),
            }
        }
    }

    /// Returns whether a command would end us that may have come from somebody who may not; says so.
    fn is_refused(&mut self, command: ScanCommand) -> bool {
        let ends = match command {
            ScanCommand::Terminate | ScanCommand::Interrupt | ScanCommand::Quit | ScanCommand::Abort => true,
            ScanCommand::Rescan
            | ScanCommand::Hangup
            | ScanCommand::Reap
            | ScanCommand::NukeGone
            | ScanCommand::NukeGoneAndLoggers => false,
        };
        // Whoever may write to root's FIFO may have things looked at; what root wants besides, root says by a signal.
        let is_open_to_others = || {
            rustix::process::geteuid().is_root()
                && rustix::fs::fstat(&self.scan_control).is_ok_and(|stat| {
                    stat.st_uid != 0
                        || stat.st_mode & 0o002 != 0
                        || (stat.st_gid != 0 && stat.st_mode & 0o020 != 0)
                })
        };
        let refused = ends && is_open_to_others();
        if refused && !std::mem::replace(&mut self.has_refused, true) {
            say!(
                "warning: a command to end was read from `{}`, to which others than root may write; it is not obeyed: \
                 send a signal instead",
                files::SVSCAN_CONTROL
            );
        }
        refused
    }

    /// Obeys as many commands as the shares of the service and its user in this period allow; the rest waits in the FIFO.
    pub(crate) fn take_share_of_control(&mut self, id: Id) {
        let Some(service) = self.services.get(id) else { return };
        let (owner, rate_limiter) = (service.uid, &mut self.rate_limiter);
        rate_limiter.renew(self.now.tick);
        if rate_limiter.of_service.left(&id, CONTROL_BYTES) == 0
            || rate_limiter.of_owner.left(&owner, CONTROL_BYTES_OF_OWNER) == 0
        {
            self.attend(&service.control, EventSource::Control(id), EventFlags::empty());
            self.wait_for_the_next_period();
            self.rate_limiter.paused.push(owner, id);
            return;
        }
        // Of services that are commanded too fast many go on together, lest another one wait for all of them.
        let most = if rate_limiter.paused.waits(owner) { CONTROL_BYTES_OF_MANY } else { CONTROL_BYTES };
        let used = self.take_control(id, most);
        self.rate_limiter.of_service.charge(id, used);
        self.rate_limiter.of_owner.charge(owner, used);
    }

    /// Obeys what was commanded before a death.
    pub(crate) fn take_control_before_death(&mut self, id: Id) {
        let used = self.take_control(id, CONTROL_BYTES);
        // Its user's other services do not wait longer for it.
        self.rate_limiter.of_service.charge(id, used);
    }

    /// Obeys at most `most` commands, and returns how many bytes that took.
    fn take_control(&mut self, id: Id, most: usize) -> usize {
        let Some(service) = self.services.get(id) else { return 0 };
        let mut bytes = [0; CONTROL_BYTES];
        let bytes_mut = bytes.get_mut(..most).unwrap_or_default();
        let Ok(count) = rustix::io::read(&service.control, bytes_mut) else { return 0 };
        self.coalesce_for(id);
        for control in bytes.iter().take(count).filter_map(|&byte| Control::from_byte(byte)) {
            self.step(id, ServiceInput::Control(control));
        }
        self.publish_coalesced();
        count
    }

    /// Sets the timer for one more who is about to be paused, unless it is set for others.
    fn wait_for_the_next_period(&mut self) {
        if self.rate_limiter.paused.is_empty() && !self.rate_limiter.is_scan_paused {
            self.wake_at(self.rate_limiter.since.after(PERIOD_MS), Timer::RateLimiter);
        }
    }

    /// Listens again to those who were too fast: of each user to as many as its share is for, those who wait longest first.
    pub(crate) fn resume(&mut self) {
        if std::mem::take(&mut self.rate_limiter.is_scan_paused) {
            self.attend(&self.scan_control, EventSource::ScanControl, EventFlags::IN);
        }
        let (mut resumed, most) = (Counts::default(), CONTROL_BYTES_OF_OWNER / CONTROL_BYTES_OF_MANY);
        while let Some((owner, id)) = self.rate_limiter.paused.pop(|owner| resumed.of(owner) < most) {
            if let Some(service) = self.services.get(id) {
                self.attend(&service.control, EventSource::Control(id), EventFlags::IN);
                resumed.add(owner);
            }
        }
        if !self.rate_limiter.paused.is_empty() {
            self.wake_at(self.now.tick.after(PERIOD_MS), Timer::RateLimiter);
        }
    }

    fn attend(&self, fifo: impl AsFd, source: EventSource, to: EventFlags) {
        if let Err(errno) = epoll::modify(&self.epoll, fifo, source.token(), to) {
            // Cannot happen with a descriptor of ours; then it is listened to as before.
            say!("warning: changing what is listened to failed: {errno}");
        }
    }
}
