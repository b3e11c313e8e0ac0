//! *Lives here:* which services a supervisor refuses, while somebody waits for it to take a service directory.
//!
//! *Does not live here:* the reasons (`ScanDir::refusal`), and their publication, which is the supervisor's.

use crate::ScanDir;
use gatevisor_paths::by_path;
use gatevisor_wire::name::ServiceName;
use rustix::{
    fs::inotify::{self, CreateFlags, Reader, WatchFlags},
    io::Errno,
};
use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// Room for some dozens of events.
const ROOM: usize = 4096;

/// Listens for refusals from the moment it is made.
#[derive(Debug)]
pub struct RefusalWatch {
    inotify: OwnedFd,
}

impl RefusalWatch {
    /// Listens to the supervisor of a scandir; s6-svscan publishes none, and that is an error of kind `NotFound`.
    pub fn listen(scandir: &ScanDir) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        // A reason is renamed into place when it is new, and touched when it is said again.
        let what = WatchFlags::MOVED_TO | WatchFlags::ATTRIB | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        by_path::watch(&inotify, scandir.refused_path(), what)?;
        Ok(Self { inotify })
    }

    /// Returns the entries that were refused since the last call; never waits.
    pub fn fresh(&self) -> Vec<ServiceName> {
        let mut names = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); ROOM];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().and_then(|name| ServiceName::new(name.to_bytes()).ok());
                    names.extend(name);
                }
                Err(Errno::INTR) => {}
                Err(_) => return names,
            }
        }
    }
}

impl AsFd for RefusalWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
