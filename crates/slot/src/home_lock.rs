//! Decides which container runs the gateways of a home: the one that holds the file which has the
//! name of the home's lock now.
//!
//! *Lives here:* a container's record of the file that it holds, and the comparison with the file
//! of that name.
//! *Does not live here:* taking the lock (`gatevisor_boot::volume`), and the consequences.
//!
//! Two files record what is held, because the first process of a container holds one lock for its
//! whole life, and a service of the agent's may take over later. The boot's record is in the
//! control directory of the supervisor, the service's record is in the scandir. The latter counts
//! only while a process keeps it locked, so it ends with the process that wrote it. A scandir
//! without the former does not belong to a container, and needs no lock.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gatevisor_paths::{OpenHome, Resolver, by_path};
use gatevisor_sys::file;
use gatevisor_wire::files::{HOME_LOCK, SVSCAN, SVSCAN_HOME_LOCK};
use rustix::fs::{FileType, FlockOperation, Mode, OFlags, flock, fstat, openat, renameat};
use rustix::io::Errno;

/// The name of the lock file in the home.
pub const FILE: &str = ".gatevisor.lock";
/// The boot's record in a container that holds nothing.
const NOTHING: &str = "nothing";
/// The most bytes of a record: two numbers and a path.
const BYTES: usize = 8192;
/// The permissions of a record.
const MODE: Mode = Mode::from_raw_mode(0o644);

/// The identity of a lock file, whatever its name: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockFile {
    device: u64,
    inode: u64,
}

impl LockFile {
    /// Returns the identity of a file.
    ///
    /// # Errors
    /// `EINVAL` if it is not a regular file.
    pub fn of(file: impl AsFd) -> Result<Self, Errno> {
        let stat = fstat(file)?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(Errno::INVAL);
        }
        Ok(Self { device: stat.st_dev, inode: stat.st_ino })
    }

    /// Parses the output of its `Display`.
    fn parse(text: &[u8]) -> Option<Self> {
        let (device, inode) = str::from_utf8(text).ok()?.split_once(':')?;
        Some(Self { device: device.parse().ok()?, inode: inode.parse().ok()? })
    }
}

impl fmt::Display for LockFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.device, self.inode)
    }
}

/// Returns which file of a home has the name of the lock now.
///
/// # Errors
/// `ENOENT` if there is none, `EINVAL` if it is not a regular file.
pub fn current(home: &impl AsFd) -> Result<LockFile, Errno> {
    // The file's modes need not permit anything.
    LockFile::of(Resolver::STRICT.open(home, FILE, OFlags::PATH | OFlags::NOFOLLOW)?)
}

/// The record of a container's boot about the home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootNote {
    /// The file that the first process holds, if it holds one.
    pub held: Option<LockFile>,
    /// The home that the container was booted with.
    pub home: PathBuf,
}

impl BootNote {
    /// Writes the record for all processes that may start a gateway of this scandir.
    ///
    /// # Errors
    /// The control directory of the supervisor is gone, or cannot be written to.
    pub fn write(&self, scandir: &impl AsFd) -> Result<(), Errno> {
        let directory = Resolver::STRICT.directory(scandir, SVSCAN)?;
        let held = self.held.map_or_else(|| NOTHING.to_owned(), |held| held.to_string());
        let text = [held.as_bytes(), b"\n", self.home.as_os_str().as_bytes()].concat();
        file::replace(&directory, SVSCAN_HOME_LOCK, ".home-lock.new", &text, MODE)
    }

    /// Returns the record, or `None` if no boot of a container has written one.
    ///
    /// # Errors
    /// It cannot be read, or makes no sense.
    pub fn read(scandir: &impl AsFd) -> Result<Option<Self>, Errno> {
        let directory = match file::open_directory(scandir, SVSCAN) {
            // Outside containers the directory is closed to others; a boot opens it to all.
            Err(Errno::NOENT | Errno::ACCESS) => return Ok(None),
            opened => opened?,
        };
        let mut buffer = [0; BYTES];
        let text = match file::read_small(&directory, SVSCAN_HOME_LOCK, &mut buffer) {
            Err(Errno::NOENT) => return Ok(None),
            read => read?,
        };
        let end = text.iter().position(|byte| *byte == b'\n').ok_or(Errno::INVAL)?;
        let (held, home) = text.split_at(end);
        let held =
            if held == NOTHING.as_bytes() { None } else { Some(LockFile::parse(held).ok_or(Errno::INVAL)?) };
        let home = PathBuf::from(OsStr::from_bytes(home.get(1..).unwrap_or_default()));
        Ok(Some(Self { held, home }))
    }
}

/// The record of a service of the agent's, which counts for as long as this value exists.
#[derive(Debug)]
pub struct LockClaim {
    _locked: OwnedFd,
}

impl LockClaim {
    /// Records which file this process holds.
    ///
    /// # Errors
    /// The scandir cannot be written to.
    pub fn publish(scandir: &impl AsFd, held: LockFile) -> Result<Self, Errno> {
        let new = format!("{HOME_LOCK}.{}", std::process::id());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let _ = rustix::fs::unlinkat(scandir, &*new, rustix::fs::AtFlags::empty());
        let locked = openat(scandir, &*new, flags, MODE)?;
        // It is locked before it gets its name, so that nobody ever sees it unlocked.
        flock(&locked, FlockOperation::NonBlockingLockExclusive)?;
        file::write_all(&locked, held.to_string().as_bytes())?;
        renameat(scandir, &*new, scandir, HOME_LOCK)?;
        Ok(Self { _locked: locked })
    }

    /// Returns which file a running process of this container holds.
    fn read(scandir: &impl AsFd) -> Option<LockFile> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(scandir, HOME_LOCK, flags, Mode::empty()).ok()?;
        LockFile::of(&file).ok()?;
        let is_kept = flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK);
        let mut buffer = [0; 64];
        let read = rustix::io::read(&file, &mut buffer).ok().filter(|_| is_kept)?;
        LockFile::parse(buffer.get(..read)?)
    }
}

/// Whether the gateways of a home may run in this container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// They may: no lock is required here.
    Unbound,
    /// They may: it holds the file that has the name of the lock.
    Held,
    /// They may not: it never held the lock.
    NeverHeld {
        /// The path of the lock.
        file: PathBuf,
    },
    /// They may not: it held the lock, and another file has the name now.
    Replaced {
        /// The path of the lock.
        file: PathBuf,
    },
    /// They may not: no file has the name, so anybody may make and lock the next one.
    Missing {
        /// The path of the lock.
        file: PathBuf,
    },
    /// They may not, because the answer is unknown.
    Unknown {
        /// The file that cannot be looked at.
        file: PathBuf,
        /// The underlying error.
        errno: Errno,
    },
}

impl Standing {
    /// Returns the present answer for the scandir in this directory.
    pub fn of(scandir: &impl AsFd) -> Self {
        let boot = match BootNote::read(scandir) {
            Ok(None) => return Self::Unbound,
            Ok(Some(boot)) => boot,
            Err(errno) => {
                return Self::Unknown { file: Path::new(SVSCAN).join(SVSCAN_HOME_LOCK), errno };
            }
        };
        let claimed = LockClaim::read(scandir);
        Self::compared([boot.held, claimed], found(&boot.home), boot.home.join(FILE))
    }

    /// Returns the present answer for the scandir at `path`. If it cannot be opened, nobody
    /// requires a lock.
    pub fn at(path: &Path) -> Self {
        by_path::directory(path).map_or(Self::Unbound, |scandir| Self::of(&scandir))
    }

    fn compared(held: [Option<LockFile>; 2], found: Result<LockFile, Errno>, file: PathBuf) -> Self {
        let has_held = held.iter().any(Option::is_some);
        match found {
            Ok(found) if held.contains(&Some(found)) => Self::Held,
            _ if !has_held => Self::NeverHeld { file },
            Ok(_) => Self::Replaced { file },
            Err(Errno::NOENT | Errno::INVAL) => Self::Missing { file },
            Err(errno) => Self::Unknown { file, errno },
        }
    }

    /// Returns whether gateways may run here.
    pub const fn allows(&self) -> bool {
        matches!(self, Self::Unbound | Self::Held)
    }
}

/// Returns which file of the home at this path has the name of the lock.
fn found(home: &Path) -> Result<LockFile, Errno> {
    let home = OpenHome::open(home).map_err(|error| match error {
        gatevisor_paths::HomeError::Way(error) => error.errno(),
        gatevisor_paths::HomeError::NotMade { .. } => Errno::NOENT,
    })?;
    current(&home)
}

/// Prints why gateways run here, or why not.
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unbound => f.write_str("no lock of the home is asked for here"),
            Self::Held => f.write_str("this container holds the lock of the home, and runs its gateways"),
            Self::NeverHeld { file } => write!(
                f,
                "this container does not hold `{}`, so it runs no gateways of this home: the container or the `gatevisor up` that holds it does",
                file.display()
            ),
            Self::Replaced { file } => write!(
                f,
                "`{}` was replaced by another file, which this container does not hold: the container that holds it runs \
                 the gateways of this home",
                file.display()
            ),
            Self::Missing { file } => write!(
                f,
                "`{}`, which this container held, is gone, so any container may run the gateways of this home next; the \
                 service `profile-watcher` makes and locks it again, if it is up",
                file.display()
            ),
            Self::Unknown { file, errno } => write!(
                f,
                "it cannot be told whether this container holds the lock of the home: cannot look at `{}`: {}",
                file.display(),
                crate::os::words(*errno)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BootNote, FILE, LockClaim, LockFile, Standing, current};
    use gatevisor_paths::OpenHome;
    use std::fs;
    use std::path::Path;

    /// A home with a lock, and the scandir of a container whose record says that it holds `held`.
    struct World {
        directory: tempfile::TempDir,
        scandir: OpenHome,
        home: OpenHome,
    }

    impl World {
        fn new(holds: bool) -> Self {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir_all(directory.path().join("service/.s6-svscan")).unwrap();
            fs::create_dir(directory.path().join("home")).unwrap();
            let scandir = OpenHome::open(&directory.path().join("service")).unwrap();
            let home = OpenHome::open(&directory.path().join("home")).unwrap();
            fs::write(directory.path().join("home").join(FILE), "").unwrap();
            let held = holds.then(|| current(&home).unwrap());
            BootNote { held, home: home.path().to_owned() }.write(&scandir).unwrap();
            Self { directory, scandir, home }
        }

        fn standing(&self) -> Standing {
            Standing::of(&self.scandir)
        }

        fn file(&self) -> std::path::PathBuf {
            self.home.path().join(FILE)
        }

        fn replace(&self) -> LockFile {
            fs::write(self.directory.path().join("new"), "").unwrap();
            fs::rename(self.directory.path().join("new"), self.file()).unwrap();
            current(&self.home).unwrap()
        }
    }

    #[test]
    fn a_scandir_of_no_container_asks_for_no_lock() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Standing::at(directory.path()), Standing::Unbound);
        assert_eq!(Standing::at(Path::new("/nowhere")), Standing::Unbound);
        assert!(Standing::Unbound.allows());
    }

    #[test]
    fn whoever_holds_the_file_of_the_name_may_run_gateways_and_nobody_else() {
        let world = World::new(true);
        assert_eq!(world.standing(), Standing::Held);
        let file = world.file();
        world.replace();
        assert_eq!(world.standing(), Standing::Replaced { file: file.clone() });
        fs::remove_file(&file).unwrap();
        assert_eq!(world.standing(), Standing::Missing { file: file.clone() });
        fs::create_dir(&file).unwrap();
        assert_eq!(world.standing(), Standing::Missing { file: file.clone() });
        let never = World::new(false);
        assert_eq!(never.standing(), Standing::NeverHeld { file: never.file() });
        assert!(!never.standing().allows());
    }

    #[test]
    fn what_a_service_holds_counts_for_as_long_as_that_service_is_there() {
        let world = World::new(false);
        let claim = LockClaim::publish(&world.scandir, current(&world.home).unwrap()).unwrap();
        assert_eq!(world.standing(), Standing::Held);
        let later = LockClaim::publish(&world.scandir, world.replace()).unwrap();
        drop(claim);
        assert_eq!(world.standing(), Standing::Held);
        drop(later);
        assert_eq!(world.standing(), Standing::NeverHeld { file: world.file() });
    }

    #[test]
    fn what_cannot_be_read_allows_nothing() {
        let world = World::new(true);
        let said = world.directory.path().join("service/.s6-svscan/home-lock");
        for text in ["", "nothing", "1\n/home", "1:2:3\n/home"] {
            fs::write(&said, text).unwrap();
            assert!(!world.standing().allows(), "{text:?}");
        }
        fs::write(&said, "1:2\n/nowhere/at/all").unwrap();
        assert!(!world.standing().allows());
    }
}
