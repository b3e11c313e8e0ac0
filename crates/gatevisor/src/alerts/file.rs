//! `gatevisor.toml` of a home.
//!
//! *Lives here:* which owners and modes of the file are accepted, and noticing that it has changed.
//! *Does not live here:* its keys (`gatevisor_alerts`).
//!
//! The file names programs to run, with the rights of this process. So it is accepted only if it
//! belongs to this user or root, and nobody else may write to it.

use std::path::{Path, PathBuf};

use gatevisor_alerts::{AlertSettings, MAX_BYTES, SettingsProblem};
use gatevisor_gateways::files::read_opened;
use gatevisor_gateways::profile::Home;
use gatevisor_paths::by_path;
use gatevisor_wire::exit::error_chain;
use rustix::fs::{FileType, OFlags, Stat, fstat};
use rustix::io::Errno;

/// The name of the file in the home.
pub const FILE: &str = "gatevisor.toml";

/// Why there are no settings.
#[derive(Debug, PartialEq, Eq)]
pub enum FileError {
    /// Its owner or its mode is not accepted, or it cannot be read.
    Refused(String),
    /// It has these errors.
    Invalid(Vec<SettingsProblem>),
}

/// The part of the status of a file that changes when the file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMark {
    inode: u64,
    bytes: i64,
    changed: (i64, i64),
}

impl FileMark {
    fn of(stat: &Stat) -> Self {
        let nanoseconds = i64::try_from(stat.st_ctime_nsec).unwrap_or_default();
        Self { inode: stat.st_ino, bytes: stat.st_size, changed: (stat.st_ctime, nanoseconds) }
    }

    /// Returns the mark of a home's file; `None` if there is no file.
    pub fn now(home: &Home) -> Option<Self> {
        let file = by_path::open(path(home), OFlags::PATH | OFlags::NOFOLLOW).ok()?;
        Some(Self::of(&fstat(file).ok()?))
    }
}

/// The settings of a home's file.
#[derive(Debug)]
pub struct AlertFile {
    /// What it says.
    pub settings: AlertSettings,
    /// Whether others may read it.
    pub others_may_read: bool,
}

impl AlertFile {
    /// Reads the file of a home. Returns `None` if there is no file, or if it has no settings for
    /// alerts.
    pub fn read(home: &Home) -> Result<Option<Self>, FileError> {
        let Some((text, mode)) = read_own(&path(home))? else { return Ok(None) };
        let settings = AlertSettings::parse(&text).map_err(FileError::Invalid)?;
        Ok(settings.map(|settings| Self { settings, others_may_read: mode & 0o077 != 0 }))
    }

    /// Returns the name of the home for alerts.
    pub fn name(&self) -> String {
        let machine = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        self.settings.name.clone().unwrap_or_else(machine)
    }
}

/// Returns the path of the file in a home.
pub fn path(home: &Home) -> PathBuf {
    home.root().join(FILE)
}

/// Returns the text and the mode of a file that only this user or root may write to, if it exists.
fn read_own(path: &Path) -> Result<Option<(String, u32)>, FileError> {
    let refused = |why: String| Err(FileError::Refused(why));
    let file = match by_path::open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return refused(format!("it cannot be opened: {errno}")),
    };
    let stat = fstat(&file).map_err(|errno| FileError::Refused(errno.to_string()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return refused("it is no file".to_owned());
    }
    if let Some(why) = of_another(stat.st_uid, stat.st_mode, rustix::process::geteuid().as_raw()) {
        return refused(why);
    }
    let bytes = read_opened(file, MAX_BYTES).map_err(|error| FileError::Refused(error_chain(&error)))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some((text, stat.st_mode))),
        Err(_) => refused("it is not UTF-8".to_owned()),
    }
}

/// Returns why a file with this owner and this mode is not accepted by a process of the user `own`.
fn of_another(uid: u32, mode: u32, own: u32) -> Option<String> {
    if uid != own && uid != 0 {
        return Some(format!("it belongs to uid {uid}, and the home's alerts run as uid {own}"));
    }
    (mode & 0o022 != 0).then(|| "others may write to it, and it names programs to run; chmod go-w".to_owned())
}

/// Returns the first line of a `url-file`.
pub fn address_in(home: &Home, file: &str) -> Result<String, String> {
    let shown = format!("the file with its address, `{file}`,");
    match read_own(&home.root().join(file)) {
        Ok(Some((text, _))) => Ok(text.lines().next().unwrap_or_default().trim().to_owned()),
        Ok(None) => Err(format!("{shown} does not exist")),
        Err(FileError::Refused(why)) => Err(format!("{shown} does not count: {why}")),
        Err(FileError::Invalid(_)) => Err(format!("{shown} is not valid")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_counts_if_only_this_user_or_root_writes_to_it() {
        assert_eq!(of_another(1000, 0o100_644, 1000), None);
        assert_eq!(of_another(0, 0o100_600, 1000), None);
        for (uid, mode, own) in
            [(1001, 0o100_600, 1000), (1000, 0o100_660, 1000), (1000, 0o100_602, 1000), (1000, 0o100_600, 0)]
        {
            assert!(of_another(uid, mode, own).is_some(), "{uid} {mode:o} {own}");
        }
    }
}
