//! Measuring a tree.
//!
//! *Lives here:* counting, without a change.
//! *Does not live here:* which sizes are too large.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::{Visitor, WalkEntry, WalkReport, WalkStep, Walker, Wrong};

/// The size of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measured {
    /// Files and directories, without those of other mounts.
    pub entries: u64,
    /// Bytes that they occupy.
    pub allocated: u64,
    /// The greatest number of directories above an entry.
    pub depth: usize,
}

impl Visitor for Measured {
    fn visit(&mut self, entry: &WalkEntry<'_>) -> Result<WalkStep, Wrong> {
        let Some(seen) = entry.glance()? else { return Ok(WalkStep::Foreign) };
        self.entries = self.entries.saturating_add(1);
        self.allocated = self.allocated.saturating_add(seen.allocated);
        self.depth = self.depth.max(entry.depth());
        Ok(WalkStep::Enter)
    }
}

impl Walker<'_> {
    /// Counts everything in a directory.
    ///
    /// # Errors
    /// The directory itself cannot be read.
    pub fn measure(&mut self, directory: impl AsFd) -> Result<(Measured, WalkReport), Errno> {
        let mut measured = Measured::default();
        let report = self.walk(directory, &mut measured)?;
        Ok((measured, report))
    }
}
