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
//! 4. **shown**: they are on the way to standard output ([`Batch::shown`] goes to the console).
//!
//! Nothing of stage 3 depends on what happens in stage 4. A journal that survives the daemon belongs between 2 and
//! 3: what is composed is then a function of the journal's entry (stream, moment, whether a line was under way) and
//! of bytes that are peeked at in stage 1 and leave the pipe only after stage 3.

use std::os::fd::AsFd;

use rustix::io::{Errno, read};

use crate::compose::{Composed, Composer, DECIDED_BY};
use crate::moment::Moment;
use crate::stamp::Stamp;

/// Bytes that one batch takes at the most: what a pipe holds.
pub const TAKE: usize = 64 << 10;

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
    /// Bytes of the input: what an earlier batch left of a line, and what was taken.
    filled: usize,
    consumed: usize,
    composed: Composed,
}

impl Batch {
    /// Returns empty buffers.
    pub fn new() -> Self {
        let input = vec![0; TAKE.saturating_add(DECIDED_BY)].into_boxed_slice();
        Self { input, filled: 0, consumed: 0, composed: Composed::default() }
    }

    /// Stage 1: takes what a pipe has, at most `limit` bytes, behind what is left of an unfinished line.
    ///
    /// # Errors
    /// Those of read(2), except that a pipe with nothing in it is no error.
    pub fn take(&mut self, pipe: impl AsFd, limit: usize, left: &[u8]) -> Result<Taken, Errno> {
        self.resume(left);
        let end = self.filled.saturating_add(limit.min(TAKE));
        let room = self.input.get_mut(self.filled..end).unwrap_or_default();
        if room.is_empty() {
            return Ok(Taken::Empty);
        }
        loop {
            match read(&pipe, &mut *room) {
                Ok(0) => return Ok(Taken::End),
                Ok(n) => {
                    self.filled = self.filled.saturating_add(n);
                    return Ok(Taken::Some(n));
                }
                Err(Errno::AGAIN) => return Ok(Taken::Empty),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Takes nothing but what is left of an unfinished line.
    pub fn resume(&mut self, left: &[u8]) {
        self.consumed = 0;
        self.filled = left.len();
        if let Some(room) = self.input.get_mut(..left.len()) {
            room.copy_from_slice(left);
        }
    }

    /// Stage 2: settles what the file will hold; nothing follows if this is the `last` of the stream.
    pub fn compose(&mut self, composer: &mut Composer, last: bool, now: Moment, stamp: &Stamp) {
        let input = self.input.get(..self.filled).unwrap_or_default();
        self.consumed = composer.compose(input, last, now, stamp, &mut self.composed);
    }

    /// Returns what the file shall hold.
    pub fn composed(&self) -> &[u8] {
        &self.composed.filed
    }

    /// Returns what shall be shown.
    pub fn shown(&self) -> &[u8] {
        self.composed.shown(self.input.get(..self.consumed).unwrap_or_default())
    }

    /// Returns what is left of a line that is not decided on yet.
    pub fn left(&self) -> &[u8] {
        self.input.get(self.consumed..self.filled).unwrap_or_default()
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}
