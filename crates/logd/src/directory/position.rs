//! The position of a writer in a file, and the interface for observing it.
//!
//! *Lives here:* the types.
//! *Does not live here:* the writing (`log_dir`), and the record of positions (`journal`).

/// A file and a position in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FilePosition {
    /// The file's device.
    pub device: u64,
    /// The file's inode; 0 for no file.
    pub inode: u64,
    /// The length of the file in bytes.
    pub length: u64,
}

impl FilePosition {
    pub(super) fn of(stat: &rustix::fs::Stat) -> Self {
        let length = u64::try_from(stat.st_size).unwrap_or(0);
        Self { device: stat.st_dev, inode: stat.st_ino, length }
    }

    pub(super) fn is_of_the_file(&self, stat: &rustix::fs::Stat) -> bool {
        self.inode != 0 && (self.device, self.inode) == (stat.st_dev, stat.st_ino)
    }
}

/// Is told of each step of a write before it is done.
pub trait ProgressObserver {
    /// Bytes will be written at the end of a file, or the file will be archived. `written` bytes of
    /// the same write are in a file already.
    fn at_end(&mut self, mark: FilePosition, written: usize);
}

/// An observer that ignores everything.
pub(super) struct Nobody;

impl ProgressObserver for Nobody {
    fn at_end(&mut self, _: FilePosition, _: usize) {}
}
