//! The supervised entries of the scandir.
//!
//! *Lives here:* the entries by name and by directory, and their number for each user.
//! *Does not live here:* the life of an entry (`gatevisor_core::entry`), and its actions
//! (`supervisor/steps`).

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use gatevisor_core::capacity::{NoRoom, ServiceLimits};
use gatevisor_core::entry::{DirectoryIdentity, EntryAction, EntryMachine};
use gatevisor_core::fair::Counts;

use crate::directory::Refusal;
use crate::id::Id;

/// One name of the scandir.
#[derive(Debug)]
struct ScandirEntry {
    machine: EntryMachine<Id>,
    /// The logger's input, kept while the logger is gone, so that the service can go on writing.
    reader: Option<OwnedFd>,
    /// The user who owns the service directory, by number.
    owner: u32,
}

/// All entries by name.
#[derive(Debug, Default)]
pub(crate) struct ScandirEntries {
    by_name: HashMap<Rc<[u8]>, ScandirEntry>,
    /// The entry of each supervised directory. One directory may have two names: for a moment while
    /// it is renamed, and permanently through links. It is supervised once.
    by_directory: HashMap<DirectoryIdentity, Rc<[u8]>>,
    /// The number of entries of each user.
    owned: Counts,
}

impl ScandirEntries {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Returns all names.
    pub(crate) fn names(&self) -> Vec<Vec<u8>> {
        self.by_name.keys().map(|name| name.to_vec()).collect()
    }

    /// Returns the shared copy of a name.
    pub(crate) fn name(&self, name: &[u8]) -> Option<Rc<[u8]>> {
        self.by_name.get_key_value(name).map(|(name, _)| Rc::clone(name))
    }

    /// Returns the name under which a directory is supervised.
    pub(crate) fn name_of(&self, directory: DirectoryIdentity) -> Option<&[u8]> {
        self.by_directory.get(&directory).map(AsRef::as_ref)
    }

    /// Returns the number of a user's entries.
    pub(crate) fn owned_by(&self, owner: u32) -> usize {
        self.owned.of(owner)
    }

    /// Returns an error if a user, or all users together, have as many entries as allowed.
    pub(crate) fn has_room(&self, limits: ServiceLimits, owner: u32) -> Result<(), Refusal> {
        match limits.reached(self.owned.of(owner), self.owned.all()) {
            None => Ok(()),
            Some(NoRoom::OfOneOwner(limit)) => Err(Refusal::TooManyOfOwner { owner, limit }),
            Some(NoRoom::InAll(limit)) => Err(Refusal::TooMany { limit }),
        }
    }

    pub(crate) fn insert(&mut self, name: Rc<[u8]>, machine: EntryMachine<Id>, owner: u32) {
        if self.by_name.insert(name, ScandirEntry { machine, reader: None, owner }).is_none() {
            self.owned.add(owner);
        }
    }

    /// Notes that a directory is supervised under a name.
    pub(crate) fn supervises(&mut self, directory: DirectoryIdentity, name: &Rc<[u8]>) {
        self.by_directory.insert(directory, Rc::clone(name));
    }

    /// Notes that a directory is not supervised any more.
    pub(crate) fn supervises_no_more(&mut self, directory: DirectoryIdentity) {
        self.by_directory.remove(&directory);
    }

    /// Interprets a look at a name that found the directory `there`.
    pub(crate) fn look(
        &mut self,
        name: &[u8],
        there: Option<DirectoryIdentity>,
        is_running: bool,
    ) -> EntryAction<Id> {
        EntryMachine::look(self.by_name.get_mut(name).map(|entry| &mut entry.machine), there, is_running)
    }

    /// Returns the next action of an entry after an event; nothing if there is no entry of this
    /// name.
    pub(crate) fn step(
        &mut self,
        name: &[u8],
        event: impl FnOnce(&mut EntryMachine<Id>) -> EntryAction<Id>,
    ) -> EntryAction<Id> {
        self.by_name.get_mut(name).map_or(EntryAction::Nothing, |entry| event(&mut entry.machine))
    }

    /// Keeps the input of an entry's lost logger.
    pub(crate) fn keep_reader(&mut self, name: &[u8], reader: Option<OwnedFd>) {
        if let Some(entry) = self.by_name.get_mut(name) {
            entry.reader = reader;
        }
    }

    /// Returns the kept input of an entry's lost logger.
    pub(crate) fn take_reader(&mut self, name: &[u8]) -> Option<OwnedFd> {
        self.by_name.get_mut(name)?.reader.take()
    }

    /// Forgets an entry.
    pub(crate) fn free(&mut self, name: &[u8]) {
        if let Some(entry) = self.by_name.remove(name) {
            self.owned.remove(entry.owner);
        }
    }
}
