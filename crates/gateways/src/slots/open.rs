//! *Lives here:* reading files of a service directory whose path is looked up once.
//!
//! *Does not live here:* their contents.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use gatevisor_paths::by_path;
use gatevisor_sys::file;
use rustix::fs::OFlags;
use rustix::io::Errno;

/// The most bytes of a file that are compared. We write no longer file.
const MAX_BYTES: usize = 64 << 10;
/// The initial size of the buffer. Nearly every file is shorter.
const FIRST_BYTES: usize = 4 << 10;

/// An opened service directory. The directories in it are opened when they are needed, each once.
#[derive(Debug)]
pub struct OpenSlot {
    directory: OwnedFd,
    folders: RefCell<BTreeMap<String, Result<OwnedFd, Errno>>>,
}

impl OpenSlot {
    /// Opens a service directory itself, and not a link to one.
    pub fn at(slot: &Path) -> Result<Self, Errno> {
        let directory = by_path::open(slot, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
        Ok(Self { directory, folders: RefCell::default() })
    }

    /// Returns the content of a file. No link is followed on the way to it, and nothing is waited
    /// for.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let bytes = self.begin(path, FIRST_BYTES)?;
        if bytes.len() < FIRST_BYTES { Ok(bytes) } else { self.begin(path, MAX_BYTES.saturating_add(1)) }
    }

    /// Returns whether a file has exactly this content. It is read as by [`Self::read`].
    pub fn has(&self, path: &str, content: &[u8]) -> Result<bool, Errno> {
        // One more byte is read, to recognize a longer file.
        Ok(self.begin(path, content.len().saturating_add(1))? == content)
    }

    /// Returns the first bytes of a file. It is read as by [`Self::read`].
    pub fn begin(&self, path: &str, most: usize) -> Result<Vec<u8>, Errno> {
        let mut room = vec![0; most];
        let read = |folder: BorrowedFd<'_>, name: &str| {
            let length = file::read_small(folder, name, &mut room)?.len();
            room.truncate(length);
            Ok(room)
        };
        match path.split_once('/') {
            Some((folder, name)) => self.in_folder(folder, |folder| read(folder, name)),
            None => read(self.directory.as_fd(), path),
        }
    }

    fn in_folder<T>(
        &self,
        folder: &str,
        look: impl FnOnce(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut folders = self.folders.borrow_mut();
        let opened =
            folders.entry(folder.to_owned()).or_insert_with(|| file::open_directory(&self.directory, folder));
        look(opened.as_ref().map_err(|errno| *errno)?.as_fd())
    }

    /// Returns whether there is such a directory in it.
    pub fn has_folder(&self, folder: &str) -> bool {
        self.in_folder(folder, |_| Ok(())).is_ok()
    }
}

impl AsFd for OpenSlot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}
