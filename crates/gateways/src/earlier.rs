//! *Lives here:* the note in a home about the scandir of its last supervisor, and finding gateways
//! that still run after that supervisor was killed.
//!
//! *Does not live here:* ending them (`reconcile`); the rule by which a process belongs to a
//! service (`gatevisor-slot`, `survivors`).
//!
//! The mark of a process names the scandir by its identity. If the scandir was removed or moved,
//! the directory that now has its path has another identity. So the note keeps the identity, too.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gatevisor_paths::{OpenHome, by_path, is_trusted, look};
use gatevisor_slot::survivors::left::{self, LeftService};
use gatevisor_sys::file;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::profile::ProfileName;
use crate::tree;

/// The file in the home with a mark of the home, the identity and the path of the scandir of its
/// last supervisor; the file's mode, and its most bytes.
const FILE: &str = ".gatevisor-scandir";
const NEW_FILE: &str = ".gatevisor-scandir.new";
const MODE: Mode = Mode::from_raw_mode(0o644);
const BYTES: usize = 4096 + 128;

/// The scandir of the last supervisor of a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastScandir {
    /// Where it was when it was noted.
    pub path: PathBuf,
    /// An identifier that no other directory of this machine has.
    pub identity: String,
    /// Whether root or this user wrote the note. Otherwise the owner of the home could name the
    /// scandir of another user.
    pub is_trusted: bool,
}

impl LastScandir {
    /// Returns the scandir at a path.
    ///
    /// # Errors
    /// There is none, or it cannot be looked at.
    pub fn at(path: &Path) -> io::Result<Self> {
        let identity = file::lasting_identity(by_path::directory(path)?, "")?;
        Ok(Self { path: path.to_owned(), identity, is_trusted: true })
    }

    /// Returns the scandir in the note of a home. The note of another home, in a copy of that home,
    /// does not count.
    pub fn noted(home: &OpenHome) -> Option<Self> {
        let mark = file::creation_mark(home, "")?;
        let mut buffer = [0; BYTES];
        let opened = by_path::open_from(home, Path::new(FILE), OFlags::RDONLY | OFlags::NOFOLLOW).ok()?;
        let is_trusted = is_trusted(look(&opened).ok()?.uid);
        Self::parse(&mark, file::read_opened(&opened, || Ok(home), &mut buffer).ok()?, is_trusted)
    }

    /// Returns the scandir in the note of the home at a path.
    pub fn noted_at(home: &Path) -> Option<Self> {
        Self::noted(&OpenHome::open(home).ok()?)
    }

    fn parse(mark: &str, note: &[u8], is_trusted: bool) -> Option<Self> {
        let rest = note.strip_prefix(mark.as_bytes())?.strip_prefix(b"\n")?;
        let mut parts = rest.splitn(2, |byte| *byte == b'\n');
        let identity = str::from_utf8(parts.next()?).ok()?.to_owned();
        let path = Path::new(OsStr::from_bytes(parts.next()?)).to_owned();
        Some(Self { path, identity, is_trusted })
    }

    fn note(&self, mark: &str) -> Vec<u8> {
        let path = self.path.as_os_str().as_bytes();
        [mark.as_bytes(), b"\n", self.identity.as_bytes(), b"\n", path].concat()
    }

    /// Notes it in a home. A home whose file system knows no birth times gets no note.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn write(&self, home: &OpenHome) -> Result<(), Errno> {
        let Some(mark) = file::creation_mark(home, "") else { return Ok(()) };
        file::replace(home, FILE, NEW_FILE, &self.note(&mark), MODE)
    }

    /// Returns the path of the note in a home.
    pub fn file_in(home: &Path) -> PathBuf {
        home.join(FILE)
    }

    /// Returns whether its path now leads to another directory, or to none.
    pub fn is_gone(&self) -> bool {
        match Self::at(&self.path) {
            Ok(now) => now.identity != self.identity,
            // If the path may not be looked at, it is unknown, which is not gone.
            Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        }
    }
}

/// The processes of one gateway that still run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftGateway {
    /// The profile that its slot was generated for.
    pub name: ProfileName,
    /// Its processes.
    pub service: LeftService,
}

impl LeftGateway {
    /// Returns whether the supervisor that started it has gone, so that nobody looks after it.
    pub const fn is_orphan(&self) -> bool {
        self.service.supervisor.is_none()
    }

    /// Returns its processes with their commands, for people.
    pub fn words(&self) -> Vec<(i32, String)> {
        self.service.processes.iter().map(|process| (process.pid, process.words())).collect()
    }
}

/// Returns what runs of the gateways of scandirs, and of their loggers, whoever started it. One
/// look at all processes is enough for all of them.
///
/// # Errors
/// There is no `/proc`.
pub fn left_of(scandirs: &[String]) -> io::Result<Vec<LeftGateway>> {
    let of = |service: LeftService| {
        let name = ProfileName::of_service(service.directory())?;
        Some(LeftGateway { name, service })
    };
    Ok(left::find(scandirs)?.into_iter().filter_map(of).collect())
}

/// Does the same as [`left_of`], but not for longer than 5 seconds: a process that locks its own
/// memory keeps everybody waiting who reads its environment.
///
/// # Errors
/// There is no `/proc`, or the time is over.
pub fn left_in_time(scandirs: &[String]) -> io::Result<Vec<LeftGateway>> {
    let scandirs = scandirs.to_vec();
    tree::in_time(move || left_of(&scandirs)).unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
}

/// Returns the running processes of the gateways of a scandir and of the scandir that a home notes,
/// without loggers.
///
/// # Errors
/// As those of [`left_in_time`].
pub fn gateways_left(scandir: &Path, home: &Path) -> io::Result<Vec<LeftGateway>> {
    let all = left_in_time(&scandirs_of(scandir, home))?;
    Ok(all.into_iter().filter(|left| !left.service.is_logger()).collect())
}

/// Returns the main processes of the gateways of these scandirs that run although their supervisor
/// was killed; `None` if that cannot be found out within 5 seconds.
pub fn orphans(scandir: &Path, home: &Path) -> Option<Vec<(ProfileName, i32)>> {
    let orphans = gateways_left(scandir, home).ok()?.into_iter().filter(LeftGateway::is_orphan);
    let processes = orphans
        .flat_map(|left| left.service.leaders.into_iter().map(move |one| (left.name.clone(), one.pid)));
    Some(processes.collect())
}

/// Returns the identifiers of a scandir and of the one that a home notes.
fn scandirs_of(scandir: &Path, home: &Path) -> Vec<String> {
    let now = LastScandir::at(scandir).ok().map(|scandir| scandir.identity);
    let mut all: Vec<String> = now.into_iter().collect();
    let last = LastScandir::noted_at(home).map(|last| last.identity);
    all.extend(last.filter(|last| !all.contains(last)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_what_is_read_and_a_copy_of_a_home_has_no_note() {
        let last = LastScandir {
            path: PathBuf::from("/a\nb/service"),
            identity: "1.2.3".to_owned(),
            is_trusted: true,
        };
        let note = last.note("77.1.2");
        assert_eq!(LastScandir::parse("77.1.2", &note, true), Some(last));
        assert_eq!(LastScandir::parse("77.1.3", &note, true), None);
        for text in ["", "77.1.2", "77.1.2\n", "77.1.2\n1.2.3"] {
            assert_eq!(LastScandir::parse("77.1.2", text.as_bytes(), true), None, "{text:?}");
        }
    }
}
