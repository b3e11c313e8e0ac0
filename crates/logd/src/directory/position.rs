//! Where in which file a writer is, and who wants to know.
//!
//! *Lives here:* the words for it. *Does not live here:* the writing (`logdir`), and what is remembered (`journal`).

/// A file and a place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FilePosition {
    /// The file's device.
    pub device: u64,
    /// The file's inode; 0 for no file.
    pub inode: u64,
    /// Length of the file in bytes.
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
    /// Bytes will be written at the end of a file, or the file will be put away; so many bytes of the same write are on
    /// file already.
    fn at_end(&mut self, mark: FilePosition, written: usize);
}

/// Needs to know nothing.
pub(super) struct Nobody;

impl ProgressObserver for Nobody {
    fn at_end(&mut self, _: FilePosition, _: usize) {}
}
