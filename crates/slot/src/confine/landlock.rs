//! Restricts where files may be written, read and executed.
//!
//! *Lives here:* turning paths into a Landlock domain.
//! *Does not live here:* expanding the paths.
//!
//! **Source:** landlock(7).

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;

use landlock::{
    ABI, AccessFs, BitFlags, LandlockStatus, PathBeneath, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetStatus,
};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use super::{Cannot, Shortfall};
use crate::failure::FailedStart;

/// The oldest version that can deny everything that changes a file. Before it (Linux 6.2),
/// truncation was always allowed.
const COMPLETE: ABI = ABI::V3;
/// Devices without content, which every program expects to be able to write to.
const NEUTRAL: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/random", "/dev/urandom"];

/// Paths with their variables expanded. A relative path is below the command's working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paths {
    pub(crate) write: Vec<OsString>,
    pub(crate) read: Option<Vec<OsString>>,
    pub(crate) execute: Option<Vec<OsString>>,
}

/// Opens the paths; nothing is denied yet.
pub(crate) fn prepare(
    paths: &Paths,
    shortfall: &mut Shortfall,
) -> Result<Option<RulesetCreated>, FailedStart> {
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::from_write(COMPLETE);
    let mut handled = write;
    if paths.read.is_some() {
        handled |= read;
    }
    if paths.execute.is_some() {
        handled |= AccessFs::Execute;
    }
    let created = Ruleset::default().handle_access(handled).and_then(Ruleset::create);
    let mut ruleset = match created {
        Ok(ruleset) => ruleset,
        Err(error) => {
            shortfall.take(Err(refused(&error)))?;
            return Ok(None);
        }
    };
    let lists = [
        ("landlock.write", Some(&paths.write), write | read),
        ("landlock.read", paths.read.as_ref(), read),
        ("landlock.execute", paths.execute.as_ref(), read | AccessFs::Execute),
    ];
    for (key, list, access) in lists {
        for path in list.into_iter().flatten() {
            let opened = match open(path) {
                Ok(opened) => opened,
                Err(errno) => {
                    let setting = format!("{key} = {}", path.display());
                    let remedy =
                        "make it before the service starts, or leave it out; nothing is allowed there";
                    shortfall.take(Err(Cannot::new(setting, errno, remedy)))?;
                    continue;
                }
            };
            match allow(ruleset, opened, access & handled) {
                Ok(more) => ruleset = more,
                Err(cannot) => return shortfall.take(Err(cannot)).map(|()| None),
            }
        }
    }
    for path in NEUTRAL {
        if let Ok(opened) = open(OsStr::new(path)) {
            match allow(ruleset, opened, (write | read) & handled) {
                Ok(more) => ruleset = more,
                Err(cannot) => return shortfall.take(Err(cannot)).map(|()| None),
            }
        }
    }
    Ok(Some(ruleset))
}

fn open(path: &OsStr) -> Result<(OwnedFd, bool), Errno> {
    let opened = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let is_directory = FileType::from_raw_mode(fstat(&opened)?.st_mode).is_dir();
    Ok((opened, is_directory))
}

fn allow(
    ruleset: RulesetCreated,
    (opened, is_directory): (OwnedFd, bool),
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, Cannot> {
    // For a file, the kernel refuses rights that only a directory can have.
    let access = if is_directory { access } else { access & AccessFs::from_file(COMPLETE) };
    if access.is_empty() {
        return Ok(ruleset);
    }
    ruleset.add_rule(PathBeneath::new(opened, access)).map_err(|error| refused(&error))
}

/// Denies this process, and everything that it executes, all that was not allowed.
pub(crate) fn restrict(ruleset: RulesetCreated) -> Result<(), Cannot> {
    // It is set already, and an error about it would not be about Landlock.
    let status = ruleset.no_new_privs(false).restrict_self().map_err(|error| refused(&error))?;
    judge(status.ruleset, status.landlock)
}

/// Returns what is missing if a domain is less than what was asked for.
fn judge(ruleset: RulesetStatus, landlock: LandlockStatus) -> Result<(), Cannot> {
    let (errno, remedy) = match (ruleset, landlock) {
        (RulesetStatus::FullyEnforced, _) => return Ok(()),
        (_, LandlockStatus::NotImplemented) => {
            (Some(Errno::NOSYS), "this kernel has no Landlock; it came with Linux 5.13")
        }
        (_, LandlockStatus::NotEnabled) => {
            (Some(Errno::OPNOTSUPP), "Landlock is not switched on; boot with `lsm=landlock,…`")
        }
        (RulesetStatus::PartiallyEnforced, LandlockStatus::Available { .. }) => {
            (None, "this kernel cannot deny everything that changes a file; Linux 6.2 can")
        }
        (RulesetStatus::NotEnforced, LandlockStatus::Available { .. }) => {
            (None, "this kernel's Landlock can deny nothing of what was asked for")
        }
    };
    Err(Cannot::new("landlock", errno, remedy))
}

fn refused(error: &(dyn Error + 'static)) -> Cannot {
    let mut cause = Some(error);
    let mut errno = None;
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            errno = Errno::from_io_error(error);
        }
        cause = error.source();
    }
    Cannot::new("landlock", errno, format!("the kernel refused it ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_part_of_landlock_has_a_reason_of_its_own() {
        let available = LandlockStatus::Available { effective_abi: ABI::V1, kernel_abi: None };
        assert_eq!(judge(RulesetStatus::FullyEnforced, available), Ok(()));
        for (ruleset, landlock, errno, part) in [
            (RulesetStatus::NotEnforced, LandlockStatus::NotImplemented, Some(Errno::NOSYS), "no Landlock"),
            (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled, Some(Errno::OPNOTSUPP), "lsm=landlock"),
            (RulesetStatus::PartiallyEnforced, available, None, "cannot deny everything"),
            (RulesetStatus::NotEnforced, available, None, "can deny nothing"),
        ] {
            let cannot = judge(ruleset, landlock).unwrap_err();
            assert_eq!((cannot.setting.as_str(), cannot.errno), ("landlock", errno));
            assert!(cannot.remedy.contains(part), "{}", cannot.remedy);
        }
    }
}
