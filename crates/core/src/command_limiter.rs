//! How fast commands are taken from control FIFOs.
//!
//! *Lives here:* how many bytes of whose commands are obeyed in a period, and who waits for the
//! next one.
//! *Does not live here:* the FIFOs, and what a command means.
//!
//! A command costs us more than its sender. So the commands of each sender are obeyed up to a rate
//! that no honest sender comes near. The rest waits in the FIFO, and we sleep meanwhile instead of
//! taking a processor from others.

use std::hash::Hash;

use crate::fair::{Counts, FairQueue, TokenBuckets};
use crate::time::Tick;

/// Control bytes of one service that are obeyed in a period, and read at once: what was written at
/// once is obeyed at once.
pub const CONTROL_BYTES: usize = 256;
/// Those that are read at once where other services of the same user wait.
const CONTROL_BYTES_OF_MANY: usize = 64;
/// Control bytes of all services of one user that are obeyed in a period.
const CONTROL_BYTES_OF_OWNER: usize = 512;
/// Times that the supervisor's own FIFO is read in a period.
const SCAN_READS: usize = 8;
/// Milliseconds of a period.
const PERIOD_MS: u64 = 4;

/// What to do about a FIFO that has commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Read at most so many bytes.
    Read(usize),
    /// Do not listen to it until [`CommandLimiter::resume`] names it.
    Pause,
}

/// Who is listened to again.
#[derive(Debug, PartialEq, Eq)]
pub struct Resumed<K> {
    /// The supervisor's own FIFO.
    pub scan: bool,
    /// Those of these services.
    pub services: Vec<K>,
}

/// Counts the commands of each service and of each user.
#[derive(Debug)]
pub struct CommandLimiter<K> {
    /// When this period began.
    since: Tick,
    of_service: TokenBuckets<K>,
    of_owner: TokenBuckets<u32>,
    scan_reads: usize,
    /// The services that are not listened to, each with its user.
    paused: FairQueue<K>,
    is_scan_paused: bool,
    resume_at: Option<Tick>,
}

impl<K> Default for CommandLimiter<K> {
    fn default() -> Self {
        Self {
            since: Tick(0),
            of_service: TokenBuckets::default(),
            of_owner: TokenBuckets::default(),
            scan_reads: 0,
            paused: FairQueue::default(),
            is_scan_paused: false,
            resume_at: None,
        }
    }
}

impl<K: Copy + Eq + Hash> CommandLimiter<K> {
    /// Returns when [`Self::resume`] is to be called.
    pub fn deadline(&self) -> Option<Tick> {
        self.resume_at
    }

    /// Decides about the FIFO of a service, which has commands.
    pub fn admit(&mut self, now: Tick, service: K, owner: u32) -> Admission {
        self.renew(now);
        if self.of_service.left(&service, CONTROL_BYTES) == 0
            || self.of_owner.left(&owner, CONTROL_BYTES_OF_OWNER) == 0
        {
            self.wait_for_the_next_period();
            self.paused.push(owner, service);
            return Admission::Pause;
        }
        // Where services of a user wait, many of them go on together, so that none waits for all
        // the others.
        Admission::Read(if self.paused.waits(owner) { CONTROL_BYTES_OF_MANY } else { CONTROL_BYTES })
    }

    /// Takes in how many bytes of a service's commands were obeyed.
    pub fn charge(&mut self, service: K, owner: u32, bytes: usize) {
        self.charge_service(service, bytes);
        self.of_owner.charge(owner, bytes);
    }

    /// As [`Self::charge`], for what its user's other services shall not wait longer for.
    pub fn charge_service(&mut self, service: K, bytes: usize) {
        self.of_service.charge(service, bytes);
    }

    /// Returns whether the supervisor's own FIFO is read now; otherwise it is not to be listened to
    /// until [`Self::resume`] says so.
    pub fn admit_scan(&mut self, now: Tick) -> bool {
        self.renew(now);
        if self.scan_reads >= SCAN_READS {
            self.wait_for_the_next_period();
            self.is_scan_paused = true;
            return false;
        }
        self.scan_reads = self.scan_reads.saturating_add(1);
        true
    }

    /// Returns who is listened to again: of each user as many services as may read in a period,
    /// those that have waited longest first. Services that no longer `exist` are forgotten.
    pub fn resume(&mut self, now: Tick, exists: impl Fn(K) -> bool) -> Resumed<K> {
        let mut resumed = Resumed { scan: std::mem::take(&mut self.is_scan_paused), services: Vec::new() };
        let (mut counts, most) = (Counts::default(), CONTROL_BYTES_OF_OWNER / CONTROL_BYTES_OF_MANY);
        while let Some((owner, service)) = self.paused.pop(|owner| counts.of(owner) < most) {
            if exists(service) {
                counts.add(owner);
                resumed.services.push(service);
            }
        }
        self.resume_at = (!self.paused.is_empty()).then(|| now.after(PERIOD_MS));
        resumed
    }

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

    fn wait_for_the_next_period(&mut self) {
        self.resume_at.get_or_insert(self.since.after(PERIOD_MS));
    }
}
