//! *Lives here:* a ticket on disk: its path, its content, and changing it.
//!
//! *Does not live here:* deciding when it changes.
//!
//! Several processes change one ticket. Each reads and writes it under the lock of the directory.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use gatevisor_paths::by_path;
use gatevisor_slot::restart_reason;
use gatevisor_sys::file;
use jiff::Timestamp;
use rustix::fs::{AtFlags, Mode, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::desired::{DesiredOrigin, Provenance};
use crate::files::{
    LOCK_ATTEMPTS, lock_directory, make_directory, open_directory, random_suffix, read_bounded,
};
use crate::profile::ProfileName;

/// The directory of tickets in a home.
pub const DIRECTORY: &str = ".gatevisor-restarts";
/// The end of a ticket's file name, after the name of the profile.
const SUFFIX: &str = ".json";
/// The most bytes of a ticket.
const MAX_BYTES: usize = 16 << 10;

/// How far a ticket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TicketStage {
    /// The gateway has asked.
    Asked,
    /// The gateway asks too often, so the restart waits.
    Held,
    /// The gateway is being drained.
    Draining,
    /// The gateway is being restarted.
    Restarting,
    /// The gateway was restarted.
    Done,
    /// The gateway was not restarted, and will not be.
    Refused,
}

impl TicketStage {
    /// Returns whether something is still to be done.
    pub const fn is_pending(self) -> bool {
        !matches!(self, Self::Done | Self::Refused)
    }
}

/// A gateway's request for its own restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RestartTicket {
    pub stage: TicketStage,
    /// Who asked.
    pub by: Provenance,
    /// Why, in the words of whoever asked.
    pub reason: Option<String>,
    /// Whether the turn that asked is waited for, too.
    pub after_turn: bool,
    /// How many milliseconds the drain may take.
    pub limit_ms: u64,
    /// The process that is to end.
    pub pid: i32,
    /// The start of that process, in ticks since boot.
    pub start_ticks: u64,
    /// When the request was made, in RFC 3339.
    pub asked_at: String,
    /// The time before which nothing is done, because the gateway asks too often.
    pub not_before: Option<String>,
    /// When it ended, in RFC 3339.
    pub ended_at: Option<String>,
    /// How it ended, as text.
    pub outcome: Option<String>,
    /// The moment of the daily restart, if the definition and not the gateway asked.
    #[serde(default)]
    pub scheduled: Option<String>,
    /// When the gateway was restarted at its own request, the oldest first.
    #[serde(default)]
    pub recent: Vec<String>,
}

impl RestartTicket {
    /// Returns whether this is the process that is to end.
    pub const fn is_of(&self, pid: i32, start_ticks: u64) -> bool {
        self.pid == pid && self.start_ticks == start_ticks
    }

    /// Returns the time before which nothing is done.
    pub fn not_before(&self) -> Option<Timestamp> {
        self.not_before.as_ref()?.parse().ok()
    }

    /// Returns when the gateway was restarted at its own request.
    pub fn restarts(&self) -> Vec<Timestamp> {
        self.recent.iter().filter_map(|at| at.parse().ok()).collect()
    }

    /// Returns the ticket with this end.
    pub fn ended(self, stage: TicketStage, outcome: &str, now: Timestamp) -> Self {
        Self { stage, outcome: Some(outcome.to_owned()), ended_at: Some(now.to_string()), ..self }
    }

    #[cfg(test)]
    pub fn example() -> Self {
        Self {
            stage: TicketStage::Asked,
            by: Provenance {
                uid: 7,
                user: "ann".to_owned(),
                command: "c".to_owned(),
                pid: 1,
                login_uid: None,
            },
            reason: None,
            after_turn: false,
            limit_ms: 1,
            pid: 7,
            start_ticks: 5,
            asked_at: "2026-01-01T00:00:00Z".to_owned(),
            not_before: None,
            ended_at: None,
            outcome: None,
            scheduled: None,
            recent: Vec::new(),
        }
    }
}

/// The tickets of a home.
#[derive(Debug)]
pub(super) struct TicketStore {
    directory: OwnedFd,
    path: PathBuf,
}

impl TicketStore {
    /// Returns the tickets of a home. Makes their directory if there is none.
    pub fn make(home: &Path) -> io::Result<Self> {
        let parent = open_directory(home)?;
        match make_directory(parent.as_fd(), Path::new(DIRECTORY), 0o700) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        Ok(Self { directory: file::open_directory(&parent, DIRECTORY)?, path: home.join(DIRECTORY) })
    }

    /// Returns the tickets of a home, if their directory exists.
    pub fn open(home: &Path) -> Option<Self> {
        let parent = open_directory(home).ok()?;
        let directory = file::open_directory(&parent, DIRECTORY).ok()?;
        Some(Self { directory, path: home.join(DIRECTORY) })
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the ticket of a gateway, if there is one that can be read.
    pub fn read(&self, name: &ProfileName) -> Option<RestartTicket> {
        let bytes = read_bounded(&self.path.join(file_name(name)), MAX_BYTES).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    /// Returns the gateways that have a ticket.
    pub fn names(&self) -> Vec<ProfileName> {
        let names = by_path::names(&self.path).unwrap_or_default().into_iter();
        names.filter_map(|(name, _)| name.to_str()?.strip_suffix(SUFFIX)?.parse().ok()).collect()
    }

    /// Changes a ticket, unless `change` returns `None`. Returns the ticket that is there after
    /// that.
    pub fn edit(
        &self,
        name: &ProfileName,
        change: impl FnOnce(Option<RestartTicket>) -> Option<RestartTicket>,
    ) -> io::Result<Option<RestartTicket>> {
        let _lock = self.locked()?;
        let before = self.read(name);
        let Some(ticket) = change(before.clone()) else { return Ok(before) };
        let bytes = serde_json::to_vec(&ticket).map_err(io::Error::other)?;
        let temporary = format!(".new.{}", random_suffix());
        let mode = Mode::from_raw_mode(0o600);
        file::replace(&self.directory, &*file_name(name), &temporary, &bytes, mode)?;
        Ok(Some(ticket))
    }

    /// Takes the lock of the tickets, for as long as the result lives.
    fn locked(&self) -> io::Result<OwnedFd> {
        // The directory is opened anew, because a lock belongs to an open file.
        lock_directory(file::open_directory(&self.directory, ".")?, LOCK_ATTEMPTS)
    }

    /// Removes the ticket of a gateway, if there is one.
    fn remove(&self, name: &ProfileName) -> io::Result<()> {
        let _lock = self.locked()?;
        match unlinkat(&self.directory, file_name(name), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Changes a ticket that is still the same and has not ended. Returns whether that worked.
    pub fn step(
        &self,
        name: &ProfileName,
        ticket: &RestartTicket,
        change: impl FnOnce(RestartTicket, Timestamp) -> RestartTicket,
    ) -> bool {
        let is_same = |now: &RestartTicket| now.asked_at == ticket.asked_at && now.stage.is_pending();
        self.edit(name, |now| now.filter(is_same).map(|now| change(now, Timestamp::now()))).is_ok()
    }
}

/// Removes the ticket of a deleted profile, so that a new profile of the same name does not inherit
/// it.
pub(crate) fn forget(home: &Path, name: &ProfileName) -> io::Result<()> {
    TicketStore::open(home).map_or(Ok(()), |store| store.remove(name))
}

/// For a gateway with an open ticket whose supervisor has ended: writes the reason of the start
/// into the new slot, and ends the ticket.
pub(crate) fn leave_reason(home: &Path, name: &ProfileName, service: &Path) {
    let Some(store) = TicketStore::open(home) else { return };
    if let Some(ticket) = store.read(name).filter(|ticket| ticket.stage.is_pending()) {
        // The process that was to end has ended with its supervisor, or will end soon.
        let outcome = "its supervisor ended before, and the next one started it";
        store.step(name, &ticket, |now, at| now.ended(TicketStage::Done, outcome, at));
        let said = DesiredOrigin::said(ticket.by, ticket.reason, Some(ticket.asked_at));
        let _ =
            restart_reason::leave(service, &format!("started with its supervisor, before a restart{said}"));
    }
}

fn file_name(name: &ProfileName) -> String {
    format!("{name}{SUFFIX}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_changed_by_one_at_a_time_and_anything_else_is_none() {
        let home = tempfile::tempdir().unwrap();
        let name: ProfileName = "coder".parse().unwrap();
        assert!(TicketStore::open(home.path()).is_none());
        let store = TicketStore::make(home.path()).unwrap();
        assert_eq!(store.edit(&name, |_| None).unwrap(), None);
        let made = store.edit(&name, |_| Some(RestartTicket::example())).unwrap();
        assert_eq!((store.read(&name), store.names()), (made, vec![name.clone()]));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let store = TicketStore::open(home.path()).unwrap();
                    let edited = store.edit(&name, |ticket| {
                        ticket.map(|ticket| RestartTicket { pid: ticket.pid + 1, ..ticket })
                    });
                    edited.unwrap()
                });
            }
        });
        assert_eq!(store.read(&name).unwrap().pid, 11);
        std::fs::write(store.path().join("coder.json"), "[]").unwrap();
        assert_eq!(store.read(&name), None);
        assert_eq!(std::fs::read_dir(store.path()).unwrap().count(), 1);
    }
}
