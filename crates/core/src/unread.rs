//! Which unread lines are thrown away while no log daemon can read them, so that no service blocks.
//!
//! *Lives here:* from how many bytes on, and when to look again.
//! *Does not live here:* whether a log daemon can work ([`crate::helper`]), and the pipes.

use crate::time::Tick;

/// Milliseconds between two looks at pipes that nobody reads.
const LOOK_MS: u64 = 250;
/// A pipe with this many bytes will soon be full.
const NEARLY_FULL: u64 = 32 << 10;

/// What a pipe that nobody reads is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnreadPipe {
    /// A service writes to it.
    InUse,
    /// Its entry waits until it is empty.
    Releasing,
}

impl UnreadPipe {
    /// Returns whether the bytes in the pipe are thrown away.
    pub fn is_emptied(self, bytes: u64) -> bool {
        match self {
            Self::InUse => bytes >= NEARLY_FULL,
            Self::Releasing => bytes > 0,
        }
    }
}

/// Returns when to look at the pipes again.
pub fn next_look(now: Tick) -> Tick {
    now.after(LOOK_MS)
}
