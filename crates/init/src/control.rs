//! Commands that come through FIFOs: to a service, and to the supervisor itself.
//!
//! *Lives here:* reading them, how fast, and whose are obeyed. *Does not live here:* what a service does about one (the machine).
//!
//! A command costs us more than whoever sends it. So nobody's are taken faster than a pace that no honest sender
//! comes near; the rest waits in the FIFO, and we sleep meanwhile instead of taking a processor from everybody.

use std::os::fd::AsFd;

use gatevisor_core::fair::{Counts, FairQueue, Shares};
use gatevisor_core::{Event, Tick};
use gatevisor_wire::control::Control;
use gatevisor_wire::files;
use gatevisor_wire::scan::ScanCommand;
use rustix::event::epoll::{self, EventFlags};

use crate::service::Id;
use crate::supervisor::{Source, Supervisor, Timer};
use crate::talk::say;

/// Control bytes that are read at once.
pub(crate) const MAX_CONTROL_BYTES: usize = 64;
/// Control bytes taken from one FIFO before the others get their turn.
const CONTROL_BYTES_A_TURN: usize = 16;
/// Control bytes of one user's services that are obeyed in a period.
const CONTROL_BYTES_OF_OWNER: usize = 32;
/// Times that the supervisor's own FIFO is read in a period.
const SCAN_READS: usize = 8;
/// Milliseconds after which everybody has a whole share again.
const PERIOD_MS: u64 = 2;

/// How fast commands are taken.
#[derive(Debug)]
pub(crate) struct Pace {
    /// When this period began.
    since: Tick,
    /// What is left of it for the commands to each user's services.
    shares: Shares,
    scan_reads: usize,
    /// The FIFOs that are not listened to, which have been too fast, each with its service's user.
    paused: FairQueue<Id>,
    is_scan_paused: bool,
    /// The end of the period is waited for.
    is_waiting: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            since: Tick(0),
            shares: Shares::new(CONTROL_BYTES_OF_OWNER),
            scan_reads: 0,
            paused: FairQueue::default(),
            is_scan_paused: false,
            is_waiting: false,
        }
    }
}

impl Pace {
    /// Begins another period where this one is over.
    fn renew(&mut self, now: Tick) {
        if now.since(self.since) >= PERIOD_MS {
            self.since = now;
            self.shares.renew();
            self.scan_reads = 0;
        }
    }
}

impl Supervisor {
    /// Obeys what the supervisor's own FIFO says.
    pub(crate) fn take_scan_commands(&mut self) {
        self.pace.renew(self.now.tick);
        if self.pace.scan_reads >= SCAN_READS {
            self.pace.is_scan_paused = true;
            self.attend(&self.scan_control, Source::ScanControl, EventFlags::empty());
            self.wait_for_the_next_period();
            return;
        }
        self.pace.scan_reads = self.pace.scan_reads.saturating_add(1);
        let mut bytes = [0; MAX_CONTROL_BYTES];
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
        // Whoever may write to root's FIFO may have things looked at; what root wishes besides it says by a signal.
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

    /// Obeys as many commands as the share of the service's user in this period allows; the rest waits in the FIFO.
    pub(crate) fn take_share_of_control(&mut self, id: Id) {
        let Some(service) = self.services.get(id) else { return };
        let owner = service.uid;
        self.pace.renew(self.now.tick);
        let most = self.pace.shares.take(owner, CONTROL_BYTES_A_TURN);
        if most == 0 {
            self.attend(&service.control, Source::Control(id), EventFlags::empty());
            self.pace.paused.push(owner, id);
            self.wait_for_the_next_period();
            return;
        }
        let taken = self.take_control(id, most);
        self.pace.shares.give_back(owner, most.saturating_sub(taken));
    }

    /// Obeys at most `most` commands, and returns how many bytes that took.
    pub(crate) fn take_control(&mut self, id: Id, most: usize) -> usize {
        let Some(service) = self.services.get(id) else { return 0 };
        let mut bytes = [0; MAX_CONTROL_BYTES];
        let bytes_mut = bytes.get_mut(..most.min(MAX_CONTROL_BYTES)).unwrap_or_default();
        let Ok(count) = rustix::io::read(&service.control, bytes_mut) else { return 0 };
        for control in bytes.iter().take(count).filter_map(|&byte| Control::from_byte(byte)) {
            self.step(id, Event::Control(control));
        }
        count
    }

    fn wait_for_the_next_period(&mut self) {
        if !std::mem::replace(&mut self.pace.is_waiting, true) {
            self.wake_at(self.pace.since.after(PERIOD_MS), Timer::Pace);
        }
    }

    /// Listens again to those who were too fast: of each user to as many as its share is for, those who wait longest first.
    pub(crate) fn resume(&mut self) {
        self.pace.is_waiting = false;
        if std::mem::take(&mut self.pace.is_scan_paused) {
            self.attend(&self.scan_control, Source::ScanControl, EventFlags::IN);
        }
        let mut resumed = Counts::default();
        while let Some((owner, id)) = self.pace.paused.pop(|owner| resumed.of(owner) < CONTROL_BYTES_OF_OWNER)
        {
            if let Some(service) = self.services.get(id) {
                self.attend(&service.control, Source::Control(id), EventFlags::IN);
                resumed.add(owner);
            }
        }
        if !self.pace.paused.is_empty() {
            self.pace.is_waiting = true;
            self.wake_at(self.now.tick.after(PERIOD_MS), Timer::Pace);
        }
    }

    fn attend(&self, fifo: impl AsFd, source: Source, to: EventFlags) {
        if let Err(errno) = epoll::modify(&self.epoll, fifo, source.token(), to) {
            // Cannot happen with a descriptor of ours; then it is listened to as before.
            say!("warning: changing what is listened to failed: {errno}");
        }
    }
}
