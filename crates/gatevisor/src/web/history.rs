//! The file in the home that keeps how its gateways were in the last 24 hours.
//!
//! *Lives here:* reading and writing it, and who writes. Of several servers of a home, the one that
//! holds the lock of the directory writes. The file survives all of them, and what no server saw
//! stays a gap.
//! *Does not live here:* its bytes, and what samples are (`gatevisor_web::history`); the file of
//! events beside it (`kept_events`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use gatevisor_gateways::files::{ReadFileError, lock_directory, make_directory, random_suffix, read_opened};
use gatevisor_sys::file;
use gatevisor_web::history::{HistorySample, MOST_FILE_BYTES, Ring, Sampler};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, pwrite};
use serde_json::Value;

use super::kept_events::{self, KeptEvents};
use crate::out;

/// The name of its directory, below that of the tokens.
const DIRECTORY: &str = "history";
/// The name of the file in that directory.
const FILE: &str = "ring";

/// The history of a home.
#[derive(Debug)]
pub struct HistoryStore {
    directory: OwnedFd,
    path: PathBuf,
    writer: Mutex<HistoryWriter>,
}

/// What is remembered between two minutes.
#[derive(Debug, Default)]
struct HistoryWriter {
    sampler: Sampler,
    /// The events that the timeline tells.
    events: KeptEvents,
    /// The lock, if this server has it.
    lock: Option<OwnedFd>,
    /// The last warning about the samples, which is not said each minute again.
    warned: Option<String>,
    /// The last warning about the events.
    events_warned: Option<String>,
}

/// Says a warning unless it was the last one.
fn warn_once(last: &mut Option<String>, warning: Option<String>) {
    if let Some(warning) = warning.as_ref().filter(|warning| last.as_ref() != Some(*warning)) {
        out::warn(warning);
    }
    *last = warning;
}

impl HistoryStore {
    /// Returns the history in the directory of the tokens, which only their owner may look into.
    pub fn open(parent: BorrowedFd<'_>, path: &Path) -> io::Result<Self> {
        match make_directory(parent, Path::new(DIRECTORY), 0o700) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let directory = file::open_directory(parent, DIRECTORY)?;
        let path = path.join(DIRECTORY).join(FILE);
        let (events, strange) = KeptEvents::read(directory.as_fd());
        if let Some(why) = strange {
            out::warn(&format!("events in `{}`: {why}", path.with_file_name(kept_events::FILE).display()));
        }
        let writer = HistoryWriter { events, ..HistoryWriter::default() };
        Ok(Self { directory, path, writer: Mutex::new(writer) })
    }

    fn writer(&self) -> MutexGuard<'_, HistoryWriter> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lock unless this server has it; returns whether it is this server's. What the
    /// server that had it has kept meanwhile counts here, too.
    fn locked(&self, writer: &mut HistoryWriter) -> io::Result<bool> {
        if writer.lock.is_none() {
            // A lock belongs to what was opened, so this is opened anew.
            let directory = file::open_directory(&self.directory, ".").map_err(io::Error::from)?;
            match lock_directory(directory, 0) {
                Ok(held) => writer.lock = Some(held),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
            writer.events.join(KeptEvents::read(self.directory.as_fd()).0);
        }
        Ok(true)
    }

    /// Returns whether another server of the home writes the history.
    pub fn is_of_another(&self) -> bool {
        self.writer().lock.is_none()
    }

    /// Notes an event of the home.
    pub fn note(&self, event: &Value) {
        self.writer().sampler.note(event);
    }

    /// Keeps an event or an action for the timeline.
    pub fn keep(&self, event: &str) {
        let mut writer = self.writer();
        let writer = &mut *writer;
        let is_ours = self.locked(writer).unwrap_or(false);
        let added = writer.events.add(self.directory.as_fd(), event, is_ours);
        let path = self.path.with_file_name(kept_events::FILE);
        let failed = |errno| format!("cannot keep an event in `{}`: {errno}", path.display());
        warn_once(&mut writer.events_warned, added.err().map(failed));
    }

    /// Returns the events and actions of this server and of those before it, the oldest first.
    pub fn events(&self) -> Vec<String> {
        self.writer().events.lines()
    }

    /// Keeps how the gateways are in this minute, from objects of `status --json`. Returns whether
    /// this server is the one that writes, and could.
    pub fn record(&self, reports: &[Value], minute: u32, now_ms: u64) -> bool {
        let mut writer = self.writer();
        let samples = writer.sampler.samples(reports, now_ms);
        let (written, warning) = match self.locked(&mut writer) {
            Ok(true) => self.write(&samples, minute),
            Ok(false) => (false, None),
            Err(error) => (
                false,
                Some(format!("no history is kept: `{}` cannot be locked: {error}", self.path.display())),
            ),
        };
        warn_once(&mut writer.warned, warning);
        written
    }

    /// Writes samples; returns whether that worked, and what is to be said.
    fn write(&self, samples: &[(String, HistorySample)], minute: u32) -> (bool, Option<String>) {
        let path = self.path.display();
        let (ring, strange) = match self.read() {
            Ok(ring) => (ring, None),
            Err(why) => {
                let warning = format!("the history in `{path}` cannot be used: {why}; it begins anew");
                (Ring::default(), Some(warning))
            }
        };
        // A server that was started again within the minute has not seen what another one saw.
        let samples = &ring.worst(minute, samples);
        let gateways: Vec<&str> = samples.iter().map(|(name, _)| name.as_str()).collect();
        let written = match ring.names().with(&gateways, minute) {
            Some(names) => {
                let mut ring = ring.renamed(names, minute);
                ring.put(minute, samples);
                let temporary = format!(".new-{}", random_suffix());
                file::replace(&self.directory, FILE, &temporary, ring.bytes(), Mode::RUSR | Mode::WUSR)
            }
            // Nobody has a gateway, so there is nothing to keep, and perhaps no file.
            None if gateways.is_empty() => return (false, strange),
            None => self.overwrite(ring.names().offset(minute), &ring.names().record(minute, samples)),
        };
        match written {
            Ok(()) => (true, strange),
            Err(errno) => (false, Some(format!("cannot write the history in `{path}`: {errno}"))),
        }
    }

    fn overwrite(&self, mut offset: u64, mut bytes: &[u8]) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let ring = file::open_own(&self.directory, FILE, flags)?;
        while !bytes.is_empty() {
            match pwrite(&ring, bytes, offset) {
                Ok(0) => return Err(Errno::IO),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    offset = offset.saturating_add(u64::try_from(written).unwrap_or_default());
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Returns what is kept; an empty one if nothing is.
    ///
    /// # Errors
    /// Something else is there, or it is damaged.
    pub fn read(&self) -> Result<Ring, String> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = match file::open_own(self.directory.as_fd(), FILE, flags) {
            Ok(opened) => opened,
            Err(Errno::NOENT) => return Ok(Ring::default()),
            Err(errno) => return Err(errno.to_string()),
        };
        let bytes = read_opened(opened, MOST_FILE_BYTES).map_err(|error: ReadFileError| error.to_string())?;
        Ring::read(bytes).map_err(|error| error.to_string())
    }
}

/// Returns the minute, since 1970.
pub fn this_minute() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs() / 60).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use gatevisor_gateways::inspect::ServiceState;
    use gatevisor_liveness::Liveness;
    use gatevisor_web::history::SampledState;
    use serde_json::json;

    use super::*;

    const NOW: u32 = 29_500_000;

    fn store(home: &Path) -> HistoryStore {
        let parent = gatevisor_gateways::files::open_directory(home).unwrap();
        HistoryStore::open(parent.as_fd(), home).unwrap()
    }

    fn reports(state: &str) -> [Value; 2] {
        ["a", "b"].map(|name| json!({ "profile": name, "state": state, "up": true, "memory_bytes": 65_536 }))
    }

    /// Returns the last states of a gateway, the latest first.
    fn states(store: &HistoryStore, name: &str, now: u32) -> Vec<Option<&'static str>> {
        let samples = store.read().unwrap().day(now).samples(name);
        samples.iter().rev().take(3).map(|sample| Some(sample.as_ref()?.state.word())).collect()
    }

    #[test]
    fn every_state_that_status_tells_is_known_to_the_history() {
        let states = ServiceState::ALL.into_iter().map(|state| state.words().replace(' ', "-"));
        for word in states.chain(Liveness::ALL.into_iter().map(|state| state.word().to_owned())) {
            assert_eq!(SampledState::named(&word, true).word(), word);
        }
    }

    #[test]
    fn what_was_bad_in_a_minute_stays_so_when_its_server_is_started_again() {
        let home = tempfile::tempdir().unwrap();
        assert!(store(home.path()).record(&reports("unresponsive"), NOW, 0));
        assert!(store(home.path()).record(&reports("ready"), NOW, 0));
        assert_eq!(states(&store(home.path()), "a", NOW), [Some("unresponsive"), None, None]);
    }

    #[test]
    fn it_survives_its_servers_and_one_of_several_writes_it() {
        let home = tempfile::tempdir().unwrap();
        let first = store(home.path());
        assert_eq!(states(&first, "a", NOW), [None; 3]);
        assert!(first.record(&reports("ready"), NOW, 0));
        let second = store(home.path());
        assert!(!second.record(&reports("failed"), NOW, 0), "the first one writes");
        assert!(second.is_of_another() && !first.is_of_another());
        assert_eq!(states(&second, "a", NOW), [Some("ready"), None, None]);
        drop(first);
        second.note(&json!({ "profile": "b", "event": "unresponsive" }));
        assert!(second.record(&reports("up"), NOW + 2, 0));
        assert_eq!(states(&second, "a", NOW + 2), [Some("up"), None, Some("ready")]);
        assert_eq!(states(&second, "b", NOW + 2), [Some("unresponsive"), None, Some("ready")]);
        let place = home.path().join(DIRECTORY);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&place), mode(&place.join(FILE))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&place).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn what_is_no_such_file_is_said_once_and_replaced() {
        let home = tempfile::tempdir().unwrap();
        let store = store(home.path());
        let file = home.path().join(DIRECTORY).join(FILE);
        let elsewhere = home.path().join("elsewhere");
        fs::write(&elsewhere, "kept").unwrap();
        for minute in [NOW, NOW + 1, NOW + 2] {
            match minute - NOW {
                0 => fs::write(&file, "a log\n").unwrap(),
                1 => fs::File::options().write(true).open(&file).unwrap().set_len(100).unwrap(),
                _ => {
                    fs::remove_file(&file).unwrap();
                    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
                }
            }
            assert!(store.read().is_err(), "{minute}");
            let (written, warning) = store.write(&[("a".to_owned(), sample())], minute);
            assert!(written && warning.is_some_and(|warning| warning.contains("begins anew")), "{minute}");
            assert_eq!(states(&store, "a", minute), [Some("up"), None, None]);
        }
        assert_eq!(store.write(&[("a".to_owned(), sample())], NOW + 3), (true, None));
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "kept");
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        fs::write(file.join("in it"), "").unwrap();
        let (written, warning) = store.write(&[("a".to_owned(), sample())], NOW + 4);
        assert!(!written && warning.is_some_and(|warning| warning.contains("cannot write")));
    }

    fn sample() -> HistorySample {
        let state = gatevisor_web::history::SampledState::named("up", false);
        HistorySample { state, cpu_permille: None, memory_bytes: None }
    }
}
