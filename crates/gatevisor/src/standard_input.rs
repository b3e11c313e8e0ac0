//! Standard input, which a command can read once.
//!
//! *Lives here:* reading all of it. *Does not live here:* what it means.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether standard input has been read.
static IS_READ: AtomicBool = AtomicBool::new(false);

/// Why standard input cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StandardInputError {
    /// It has been read for something else, so it would be empty.
    #[error("it has been read already; only one of them can be `-`")]
    ReadTwice,
    /// It is longer than this limit.
    #[error("it has more than {0} bytes")]
    TooLong(usize),
    /// The kernel refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Returns all of standard input, which has at most `limit` bytes.
///
/// # Errors
/// It is too long or cannot be read, or this process has read it before.
pub fn all(limit: usize) -> Result<Vec<u8>, StandardInputError> {
    if IS_READ.swap(true, Ordering::Relaxed) {
        return Err(StandardInputError::ReadTwice);
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    io::stdin().lock().take(most).read_to_end(&mut bytes)?;
    if bytes.len() > limit { Err(StandardInputError::TooLong(limit)) } else { Ok(bytes) }
}
