//! Measuring a tree.
//!
//! *Lives here:* counting, without a change. *Does not live here:* what is too much.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::{Visitor, WalkEntry, WalkReport, WalkStep, Walker, Wrong};

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measured {
    /// Files and directories, those of other mounts not among them.
    pub entries: u64,
    /// Bytes that they take.
    pub allocated: u64,
    /// The most directories that one is in.
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
    /// Counts what is in a directory.
    ///
    /// # Errors
    /// The directory itself cannot be read.
    pub fn measure(&mut self, directory: impl AsFd) -> Result<(Measured, WalkReport), Errno> {
        let mut measured = Measured::default();
        let report = self.walk(directory, &mut measured)?;
        Ok((measured, report))
    }
}
