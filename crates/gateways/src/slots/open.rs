//! *Lives here:* reading files of a service directory whose path is looked up once, and the lists
//! that save looking for files which are not there.
//!
//! *Does not live here:* their contents.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use gatevisor_client::ServiceDir;
use gatevisor_paths::by_path;
use gatevisor_sys::file;
use rustix::fs::{OFlags, RawDir};
use rustix::io::Errno;

/// The most bytes of a file that are compared. We write no longer file.
const MAX_BYTES: usize = 64 << 10;
/// The initial size of the buffer. Nearly every file is shorter.
const FIRST_BYTES: usize = 4 << 10;
/// The most names of a list that is used. We make far fewer, and their owner may make any number.
const MOST_NAMES: usize = 64;
/// Bytes of a list that are read at once: enough for the names that we make.
const LIST_BYTES: usize = 2 << 10;

/// An opened service directory. The directories in it are opened when they are needed, each once.
#[derive(Debug)]
pub struct OpenSlot {
    directory: Arc<OwnedFd>,
    folders: RefCell<BTreeMap<String, Result<Folder, Errno>>>,
}

/// An opened directory in a service directory.
#[derive(Debug)]
struct Folder {
    directory: OwnedFd,
    /// All names in it at one moment, if they were asked for and are few.
    names: Option<BTreeSet<Vec<u8>>>,
}

impl OpenSlot {
    /// Opens a service directory itself, and not a link to one.
    pub fn at(slot: &Path) -> Result<Self, Errno> {
        let directory = by_path::open(slot, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
        Ok(Self { directory: Arc::new(directory), folders: RefCell::default() })
    }

    /// Returns the same directory as a client sees it, which has this path.
    pub fn service_dir(&self, path: &Path) -> ServiceDir {
        ServiceDir::sharing(path.to_owned(), Arc::clone(&self.directory))
    }

    /// Lists a directory in it. From now on, what is not in the list counts as missing, and is not
    /// looked for. Most of the files that one may have are not there.
    pub fn list(&self, folder: &str) {
        let mut folders = self.folders.borrow_mut();
        if let Ok(folder) = self.opened(&mut folders, folder) {
            folder.names = names(&folder.directory);
        }
    }

    /// Returns whether a list shows that there is no such file.
    pub fn lacks(&self, path: &str) -> bool {
        let folders = self.folders.borrow();
        let names = path.split_once('/').and_then(|(folder, name)| {
            Some((folders.get(folder)?.as_ref().ok()?.names.as_ref()?, name.as_bytes()))
        });
        names.is_some_and(|(names, name)| !names.contains(name))
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
        if self.lacks(path) {
            return Err(Errno::NOENT);
        }
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
        look(self.opened(&mut folders, folder)?.directory.as_fd())
    }

    fn opened<'a>(
        &self,
        folders: &'a mut BTreeMap<String, Result<Folder, Errno>>,
        folder: &str,
    ) -> Result<&'a mut Folder, Errno> {
        let open = || {
            let directory = file::open_directory(&self.directory, folder)?;
            Ok(Folder { directory, names: None })
        };
        folders.entry(folder.to_owned()).or_insert_with(open).as_mut().map_err(|errno| *errno)
    }

    /// Returns whether there may be such a directory in it: whether nothing shows that there is
    /// none.
    pub fn may_have_folder(&self, folder: &str) -> bool {
        !matches!(self.in_folder(folder, |_| Ok(())), Err(Errno::NOENT | Errno::NOTDIR))
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

/// Returns the names in a directory that was just opened; `None` if there are many, or if it cannot
/// be listed.
fn names(directory: &OwnedFd) -> Option<BTreeSet<Vec<u8>>> {
    let mut room = [MaybeUninit::uninit(); LIST_BYTES];
    let mut listed = RawDir::new(directory, &mut room);
    let mut names = BTreeSet::new();
    while let Some(entry) = listed.next() {
        names.insert(entry.ok()?.file_name().to_bytes().to_vec());
        if names.len() > MOST_NAMES {
            return None;
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_a_list_lacks_is_missing_and_everything_else_is_read_as_without_a_list() {
        let temp = tempfile::tempdir().unwrap();
        let slot = temp.path().join("slot");
        fs::create_dir_all(slot.join("data")).unwrap();
        fs::write(slot.join("data/agent"), "hermes\n").unwrap();
        let opened = OpenSlot::at(&slot).unwrap();
        assert!(!opened.lacks("data/agent") && !opened.lacks("data/live"), "nothing is listed");
        opened.list("data");
        assert_eq!(opened.read("data/agent").unwrap(), b"hermes\n");
        assert!(opened.lacks("data/live") && !opened.lacks("log/error") && !opened.lacks("run"));
        // A file that is made later is there for the next look alone.
        fs::write(slot.join("data/live"), "later").unwrap();
        assert_eq!(opened.read("data/live"), Err(Errno::NOENT));
        assert_eq!(OpenSlot::at(&slot).unwrap().read("data/live").unwrap(), b"later");
    }

    #[test]
    fn of_a_directory_with_many_files_each_is_looked_for() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("data")).unwrap();
        for number in 0..=MOST_NAMES {
            fs::write(temp.path().join(format!("data/{number}")), "").unwrap();
        }
        let opened = OpenSlot::at(temp.path()).unwrap();
        opened.list("data");
        opened.list("none");
        assert!(!opened.lacks("data/live") && !opened.lacks("none/file"));
        fs::write(temp.path().join("data/live"), "later").unwrap();
        assert_eq!(opened.read("data/live").unwrap(), b"later");
    }

    #[test]
    fn what_takes_the_name_of_an_opened_directory_is_not_looked_at() {
        let temp = tempfile::tempdir().unwrap();
        let slot = temp.path().join("slot");
        for text in ["first", "second"] {
            fs::create_dir_all(slot.join("data")).unwrap();
            fs::write(slot.join("data/start-error"), text).unwrap();
            if text == "first" {
                fs::rename(&slot, temp.path().join("opened")).unwrap();
            }
        }
        let opened = OpenSlot::at(&temp.path().join("opened")).unwrap();
        // Both ways to its files begin at the same directory, whatever has its path now.
        let dir = opened.service_dir(&slot);
        assert_eq!(dir.start_error().as_deref(), Some("first"));
        assert_eq!(opened.read("data/start-error").unwrap(), b"first");
        assert_eq!(ServiceDir::new(&slot).start_error().as_deref(), Some("second"));
    }
}
