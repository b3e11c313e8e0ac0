//! The rate at which commands are read from control FIFOs.
//!
//! *Lives here:* how many bytes of each sender are obeyed in a period, and which FIFOs wait for the
//! next period.
//! *Does not live here:* the FIFOs, and the meaning of a command.
//!
//! Obeying a command costs more than sending it. So the commands of each sender are obeyed up to a
//! rate that no honest sender comes near. The rest waits in the FIFO. Meanwhile the supervisor
//! sleeps, and leaves the processor to others.

use std::hash::Hash;

use crate::fair::{Counts, FairQueue, TokenBuckets};
use crate::time::Tick;

/// The most control bytes of one service that are obeyed in a period. They may also be read at
/// once, so commands that were written together are obeyed together.
pub const CONTROL_BYTES: usize = 256;
/// The most control bytes that are read at once if other services of the same user are waiting.
const CONTROL_BYTES_OF_MANY: usize = 64;
/// The most control bytes of all services of one user that are obeyed in a period.
const CONTROL_BYTES_OF_OWNER: usize = 512;
/// How often the supervisor's own FIFO is read in a period.
const SCAN_READS: usize = 8;
/// The length of a period in milliseconds.
const PERIOD_MS: u64 = 4;

/// What to do with a FIFO that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Read at most this many bytes.
    Read(usize),
    /// Stop watching it until [`CommandLimiter::resume`] names it.
    Pause,
}

/// The FIFOs to watch again.
#[derive(Debug, PartialEq, Eq)]
pub struct Resumed<K> {
    /// Whether the supervisor's own FIFO is among them.
    pub scan: bool,
    /// The services whose FIFOs are among them.
    pub services: Vec<K>,
}

/// Counts the commands of each service and of each user.
#[derive(Debug)]
pub struct CommandLimiter<K> {
    /// When the present period began.
    since: Tick,
    of_service: TokenBuckets<K>,
    of_owner: TokenBuckets<u32>,
    scan_reads: usize,
    /// The services whose FIFOs are not watched, each with its user.
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
    /// Returns when [`Self::resume`] must be called.
    pub fn deadline(&self) -> Option<Tick> {
        self.resume_at
    }

    /// Decides whether to read a service's FIFO, which has commands.
    pub fn admit(&mut self, now: Tick, service: K, owner: u32) -> Admission {
        self.renew(now);
        if self.of_service.left(&service, CONTROL_BYTES) == 0
            || self.of_owner.left(&owner, CONTROL_BYTES_OF_OWNER) == 0
        {
            self.wait_for_the_next_period();
            self.paused.push(owner, service);
            return Admission::Pause;
        }
        // If services of a user are waiting, each reads less, so that many of them continue in one
        // period and none waits for all the others.
        Admission::Read(if self.paused.waits(owner) { CONTROL_BYTES_OF_MANY } else { CONTROL_BYTES })
    }

    /// Counts the obeyed bytes of a service's commands.
    pub fn charge(&mut self, service: K, owner: u32, bytes: usize) {
        self.charge_service(service, bytes);
        self.of_owner.charge(owner, bytes);
    }

    /// Does the same as [`Self::charge`], without making the user's other services wait longer.
    pub fn charge_service(&mut self, service: K, bytes: usize) {
        self.of_service.charge(service, bytes);
    }

    /// Returns whether to read the supervisor's own FIFO now. If not, it must not be watched until
    /// [`Self::resume`] says so.
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

    /// Returns the FIFOs to watch again: for each user as many services as may read in a period,
    /// the longest waiting first. Services that no longer `exist` are forgotten.
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

    /// Begins a new period if the present one is over.
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
