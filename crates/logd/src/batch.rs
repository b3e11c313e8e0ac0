//! One read's worth of a stream, on its way from the pipe to the file and the eye.
//!
//! *Lives here:* the buffers, used again for every batch, and the stages in their order.
//! *Does not live here:* whose batch it is.
//!
//! The stages are:
//!
//! 1. **taken**: bytes have left the pipe ([`Batch::take`]);
//! 2. **composed**: they bear their stamps, and it is settled what the file will hold ([`Batch::compose`]);
//! 3. **filed**: they are in the file, or held by the sink until they are ([`Batch::composed`] goes to the sink);
//! 4. **shown**: they are on the way to standard output ([`Batch::taken`] goes to the console).
//!
//! Nothing of stage 3 depends on what happens in stage 4. A journal that survives the daemon belongs between 2 and
//! 3: what is composed is then a function of the journal's entry (stream, moment, whether a line was under way) and
//! of bytes that are peeked at in stage 1 and leave the pipe only after stage 3.

use std::os::fd::AsFd;

use rustix::io::{Errno, read};

use crate::lines::Stamping;
use crate::stamp::Stamp;

/// Bytes that one batch takes at the most: what a pipe holds.
pub const TAKE: usize = 64 << 10;
/// Memory for composed bytes that is kept between batches; a batch of empty lines needs far more.
const KEPT_CAPACITY: usize = 4 * TAKE;

/// What taking brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// This many bytes, at least one.
    Some(usize),
    /// Nothing, for now.
    Empty,
    /// Nothing any more: no writer is left.
    End,
}

/// The buffers of one batch at a time.
#[derive(Debug)]
pub struct Batch {
    input: Box<[u8]>,
    taken: usize,
    composed: Vec<u8>,
}

impl Batch {
    /// Returns empty buffers.
    pub fn new() -> Self {
        Self { input: vec![0; TAKE].into_boxed_slice(), taken: 0, composed: Vec::new() }
    }

    /// Stage 1: takes what a pipe has, at most `limit` bytes.
    ///
    /// # Errors
    /// Those of read(2), except that a pipe with nothing in it is no error.
    pub fn take(&mut self, pipe: impl AsFd, limit: usize) -> Result<Taken, Errno> {
        self.taken = 0;
        self.composed.clear();
        self.composed.shrink_to(KEPT_CAPACITY);
        let room = self.input.get_mut(..limit.min(TAKE)).unwrap_or_default();
        if room.is_empty() {
            return Ok(Taken::Empty);
        }
        loop {
            match read(&pipe, &mut *room) {
                Ok(0) => return Ok(Taken::End),
                Ok(n) => {
                    self.taken = n;
                    return Ok(Taken::Some(n));
                }
                Err(Errno::AGAIN) => return Ok(Taken::Empty),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Stage 2: settles what the file will hold.
    pub fn compose(&mut self, stamping: &mut Stamping, stamp: &Stamp) {
        let taken = self.input.get(..self.taken).unwrap_or_default();
        stamping.compose(taken, stamp.as_bytes(), &mut self.composed);
    }

    /// Returns what the file shall hold.
    pub fn composed(&self) -> &[u8] {
        &self.composed
    }

    /// Returns what the pipe held.
    pub fn taken(&self) -> &[u8] {
        self.input.get(..self.taken).unwrap_or_default()
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}
