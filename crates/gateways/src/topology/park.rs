//! *Lives here:* the file that keeps a profile from being served by another gateway.
//!
//! *Does not live here:* deciding when it is made or removed (`decide`, `manager`).

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::decide::ParkChange;
use crate::files::{open_directory, write_new};

impl ParkChange {
    /// Makes or removes the file in a profile's home, and returns whether that changed anything.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn make(self, home: &Path, file: &str) -> io::Result<bool> {
        let home = open_directory(home)?;
        let is_done = match self {
            Self::Out => write_new(home.as_fd(), Path::new(file), b"", 0o644).map(drop),
            Self::Back => unlinkat(&home, file, AtFlags::empty()).map_err(io::Error::from),
        };
        match is_done {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
