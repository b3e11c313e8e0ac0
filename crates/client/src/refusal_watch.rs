//! *Lives here:* noticing which services a supervisor refuses, while a client waits for the
//! supervisor to accept a service directory.
//!
//! *Does not live here:* the reasons (`ScanDir::refusal`), and publishing them, which the
//! supervisor does.

use crate::ScanDir;
use gatevisor_paths::by_path;
use gatevisor_sys::inotify::{Inotify, WatchFlags};
use gatevisor_wire::name::ServiceName;
use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    os::unix::ffi::OsStrExt,
};

/// Receives refusals from its creation on.
#[derive(Debug)]
pub struct RefusalWatch {
    inotify: Inotify,
}

impl RefusalWatch {
    /// Listens to the supervisor of a scandir. s6-svscan publishes no refusals, which is an error
    /// of kind `NotFound`.
    pub fn listen(scandir: &ScanDir) -> io::Result<Self> {
        let inotify = Inotify::new()?;
        // The file of a new reason is renamed into place; the file of a repeated reason is touched.
        let what = WatchFlags::MOVED_TO | WatchFlags::ATTRIB | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        by_path::watch(&inotify, scandir.refused_path(), what)?;
        Ok(Self { inotify })
    }

    /// Returns the entries that were refused since the last call; never waits.
    pub fn fresh(&self) -> Vec<ServiceName> {
        let mut names = Vec::new();
        let _ = self.inotify.read(|change| {
            names.extend(change.name.and_then(|name| ServiceName::new(name.as_bytes()).ok()));
        });
        names
    }
}

impl AsFd for RefusalWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
