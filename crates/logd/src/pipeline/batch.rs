//! One batch of a stream, from the stage to the file and the console.
//!
//! *Lives here:* the buffers, which are reused for every batch.
//! *Does not live here:* the stream of the batch (`stream`).

use std::ops::Range;

use rustix::io::Errno;

use super::compose::{Composed, Composer, DECIDED_BY};
use crate::directory::stamp::Stamp;
use crate::handover::stage::StagedBytes;
use crate::time::BatchTime;

/// The most bytes of one batch: as many as a pipe holds.
pub const TAKE: usize = 64 << 10;

/// The buffers for one batch at a time.
#[derive(Debug)]
pub struct Batch {
    input: Box<[u8]>,
    /// The number of input bytes.
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

    /// Loads the bytes of a batch.
    ///
    /// # Errors
    /// Those of reading the stage; `EIO` if there are more bytes than a batch can hold.
    pub fn load(&mut self, stage: &StagedBytes, bytes: Range<u64>) -> Result<(), Errno> {
        self.filled = 0;
        self.consumed = 0;
        let len = usize::try_from(bytes.end.saturating_sub(bytes.start)).unwrap_or(usize::MAX);
        stage.read(bytes.start, self.input.get_mut(..len).ok_or(Errno::IO)?)?;
        self.filled = len;
        Ok(())
    }

    /// Composes the bytes for the file. `last` tells that nothing follows in the stream.
    pub fn compose(&mut self, composer: &mut Composer, last: bool, now: BatchTime, stamp: &Stamp) {
        let input = self.input.get(..self.filled).unwrap_or_default();
        self.consumed = composer.compose(input, last, now, stamp, &mut self.composed);
    }

    /// Returns the bytes for the file.
    pub fn composed(&self) -> &[u8] {
        &self.composed.written
    }

    /// Returns the bytes for the console.
    pub fn shown(&self) -> &[u8] {
        self.composed.shown(self.input.get(..self.consumed).unwrap_or_default())
    }

    /// Returns how many bytes belong to a line that is not decided on yet.
    pub fn left(&self) -> usize {
        self.filled.saturating_sub(self.consumed)
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}
