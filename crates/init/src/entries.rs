//! The entries of the scandir that are supervised.
//!
//! *Lives here:* which service and which logger is supervised under a name, and how many entries
//! each user has.
//! *Does not live here:* what follows from a change of the scandir (`supervisor/entries`).

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use gatevisor_core::fair::Counts;
use gatevisor_core::scan::DirectoryIdentity;

use crate::ServiceLimits;
use crate::directory::Refusal;
use crate::id::Id;
use crate::service::ServiceRole;

/// One name of the scandir and what is supervised under it.
#[derive(Debug)]
pub(crate) struct ScandirEntry {
    pub(crate) identity: DirectoryIdentity,
    pub(crate) main: Option<Id>,
    pub(crate) logger: Option<Id>,
    /// What the logger reads from, kept while there is none, so that the service can go on writing.
    pub(crate) reader: Option<OwnedFd>,
    /// The log pipe is with a log daemon that has not released it yet.
    pub(crate) logged: bool,
    /// The directory is gone; the name is free when everything above is.
    pub(crate) leaving: bool,
    /// The user whose directory it is.
    pub(crate) owner: u32,
}

impl ScandirEntry {
    /// Returns the place of its service, or of its logger.
    pub(crate) fn half(&mut self, role: ServiceRole) -> &mut Option<Id> {
        match role {
            ServiceRole::Main => &mut self.main,
            ServiceRole::Logger => &mut self.logger,
        }
    }

    /// Returns whether nothing is supervised any more, and no daemon has its pipe.
    fn is_free(&self) -> bool {
        self.main.is_none() && self.logger.is_none() && !self.logged
    }
}

/// All entries by name.
#[derive(Debug, Default)]
pub(crate) struct ScandirEntries {
    by_name: HashMap<Rc<[u8]>, ScandirEntry>,
    /// The entry of each supervised directory. One directory may be there under two names, for an
    /// instant when it is renamed and for good through links; it is supervised once.
    by_directory: HashMap<DirectoryIdentity, Rc<[u8]>>,
    /// How many each user has.
    owned: Counts,
}

impl ScandirEntries {
    pub(crate) fn get_mut(&mut self, name: &[u8]) -> Option<&mut ScandirEntry> {
        self.by_name.get_mut(name)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Returns all names.
    pub(crate) fn names(&self) -> Vec<Vec<u8>> {
        self.by_name.keys().map(|name| name.to_vec()).collect()
    }

    /// Returns a name as it is kept.
    pub(crate) fn name(&self, name: &[u8]) -> Option<Rc<[u8]>> {
        self.by_name.get_key_value(name).map(|(name, _)| Rc::clone(name))
    }

    /// Returns the name under which a directory is supervised.
    pub(crate) fn name_of(&self, directory: DirectoryIdentity) -> Option<&[u8]> {
        self.by_directory.get(&directory).map(AsRef::as_ref)
    }

    /// Returns how many entries a user has.
    pub(crate) fn owned_by(&self, owner: u32) -> usize {
        self.owned.of(owner)
    }

    /// Returns an error where a user, or all of them, have as many entries as they may.
    pub(crate) fn has_room(&self, limits: ServiceLimits, owner: u32) -> Result<(), Refusal> {
        let ServiceLimits { of_one_owner, in_all } = limits;
        if self.owned.of(owner) >= of_one_owner {
            return Err(Refusal::TooManyOfOwner { owner, limit: of_one_owner });
        }
        if self.owned.all() >= in_all {
            return Err(Refusal::TooMany { limit: in_all });
        }
        Ok(())
    }

    pub(crate) fn insert(&mut self, name: Rc<[u8]>, entry: ScandirEntry) {
        let owner = entry.owner;
        if self.by_name.insert(name, entry).is_none() {
            self.owned.add(owner);
        }
    }

    /// Takes in that a directory is supervised under a name.
    pub(crate) fn supervises(&mut self, directory: DirectoryIdentity, name: &Rc<[u8]>) {
        self.by_directory.insert(directory, Rc::clone(name));
    }

    /// Takes in that a directory is not supervised any more.
    pub(crate) fn supervises_no_more(&mut self, directory: DirectoryIdentity) {
        self.by_directory.remove(&directory);
    }

    /// Frees the name when nothing of the entry is left; returns whether that happened because its
    /// directory is gone.
    pub(crate) fn settle(&mut self, name: &[u8]) -> bool {
        if !self.by_name.get(name).is_some_and(ScandirEntry::is_free) {
            return false;
        }
        let Some(entry) = self.by_name.remove(name) else { return false };
        self.owned.remove(entry.owner);
        entry.leaving
    }
}
