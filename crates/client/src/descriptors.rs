//! *Lives here:* raising the limit of descriptors for a wait for many services.
//!
//! *Does not live here:* opening them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors needed for one service: its subscriber, the subscriber's fifodir, its control FIFO.
const DESCRIPTORS: usize = 3;
/// An estimate of the descriptors that a program has open besides.
const OTHERS: u64 = 128;

/// Restores the soft limit of descriptors when dropped.
#[derive(Debug)]
#[must_use]
pub struct RaisedLimit(Rlimit);

impl Drop for RaisedLimit {
    fn drop(&mut self) {
        // The old limit was allowed before. If it cannot be set now, the higher limit does no harm.
        let _ = setrlimit(Resource::Nofile, self.0);
    }
}

/// Raises the soft limit of descriptors for a wait for `count` services, if it may be too low and
/// may be raised.
///
/// If it may not be raised, subscribing reports an error for the services that have no room.
pub fn room_for(count: usize) -> Option<RaisedLimit> {
    let before = getrlimit(Resource::Nofile);
    let ours = u64::try_from(count.saturating_mul(DESCRIPTORS)).unwrap_or(u64::MAX);
    let current = before.current.filter(|current| *current < ours.saturating_add(OTHERS))?;
    // At most `current` descriptors are open already, so this is enough whatever else the process
    // does.
    let enough = current.saturating_add(ours);
    let raised = before.maximum.map_or(enough, |maximum| enough.min(maximum));
    if raised <= current {
        return None;
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..before }).ok().map(|()| RaisedLimit(before))
}
