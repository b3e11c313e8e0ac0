//! One entry of the scandir: a service directory, and its supervised service and logger.
//!
//! *Lives here:* when an entry is adopted, released, or supervised anew, how its logger ends after
//! its service, and when its name is free.
//! *Does not live here:* reading the scandir, and the service and the logger ([`crate::machine`]).

use gatevisor_wire::control::Control;

use crate::input::ServiceInput;

/// Milliseconds from the loss of its directory until a service is killed, if the directory named no
/// time. A logger has the same time to reach the end of its input.
const WITHDRAWN_KILL_MS: u64 = 5000;

/// What distinguishes a directory from every other one, also from a later one of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DirectoryIdentity {
    /// The device number of its file system.
    pub device: u64,
    /// Its inode number.
    pub inode: u64,
}

/// The role of a supervised service in its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceRole {
    /// The service itself.
    Main,
    /// The logger of the service, if it is a supervised process.
    Logger,
}

/// The next action for an entry, whose services are identified by `K`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryAction<K> {
    /// The entry is as it should be.
    Nothing,
    /// Forget a refusal: the entry is gone.
    ForgetRefusal,
    /// Supervise the directory.
    Adopt,
    /// Pass the input to the machine of this service.
    Tell(K, ServiceInput),
    /// Supervise this half again, with the same pipe. Answer with [`EntryMachine::revived`].
    Revive(ServiceRole),
    /// Make each later scan look at the entry.
    Recheck,
    /// Let the log daemon write the rest, and release the pipe. Answer with
    /// [`EntryMachine::log_is_released`].
    ReleaseLog,
    /// Forget the entry: nothing of it is left.
    Free {
        /// Whether to look again, because the name may have been taken meanwhile, or the directory
        /// may be waiting under another name.
        look_again: bool,
    },
}

/// The state of one entry.
#[derive(Debug)]
pub struct EntryMachine<K> {
    identity: DirectoryIdentity,
    main: Option<K>,
    logger: Option<K>,
    /// Whether the logger has ended and could not be supervised anew.
    has_lost_logger: bool,
    /// Whether a log daemon has a pipe of the entry.
    is_logged: bool,
    /// Whether the service is gone or going. The name becomes free when everything else has gone.
    is_leaving: bool,
}

impl<K: Copy> EntryMachine<K> {
    /// Returns the state of an entry whose service and logger are supervised from now on.
    /// `is_logged` tells that a log daemon has a pipe of it.
    pub fn new(identity: DirectoryIdentity, main: Option<K>, logger: Option<K>, is_logged: bool) -> Self {
        Self { identity, main, logger, has_lost_logger: false, is_logged, is_leaving: false }
    }

    /// Interprets a look at the entry that found the directory `there`. `entry` is what is
    /// supervised under the name. `is_running` tells that no shutdown has begun.
    pub fn look(
        entry: Option<&mut Self>,
        there: Option<DirectoryIdentity>,
        is_running: bool,
    ) -> EntryAction<K> {
        match (entry, there) {
            (Some(entry), _) if entry.has_lost_logger && !entry.is_leaving && !entry.is_lost(there) => {
                EntryAction::Revive(ServiceRole::Logger)
            }
            (Some(entry), _) => entry.look_for_loss(there, is_running),
            (None, None) => EntryAction::ForgetRefusal,
            (None, Some(_)) if is_running => EntryAction::Adopt,
            (None, Some(_)) => EntryAction::Nothing,
        }
    }

    /// Does the same as [`Self::look`], but reacts only to the loss of what is supervised.
    pub fn look_for_loss(&mut self, there: Option<DirectoryIdentity>, is_running: bool) -> EntryAction<K> {
        if !self.is_lost(there) {
            return EntryAction::Nothing;
        }
        self.is_leaving = true;
        match self.main {
            Some(main) => EntryAction::Tell(main, ServiceInput::Withdraw(WITHDRAWN_KILL_MS)),
            None => self.end_logger(is_running),
        }
    }

    /// Returns whether the directory of an entry that is not leaving yet has gone, or another one
    /// has its name.
    fn is_lost(&self, there: Option<DirectoryIdentity>) -> bool {
        !self.is_leaving && there != Some(self.identity)
    }

    /// Handles the end of the supervision of one half. `there` is the directory that has the
    /// entry's name now.
    ///
    /// While its directory stays, the half is supervised anew, as s6-svscan does after an `x`.
    pub fn ended(
        &mut self,
        role: ServiceRole,
        there: impl FnOnce() -> Option<DirectoryIdentity>,
        is_running: bool,
    ) -> EntryAction<K> {
        *self.half(role) = None;
        if is_running && !self.is_leaving && there() == Some(self.identity) {
            return EntryAction::Revive(role);
        }
        self.is_gone(role, is_running)
    }

    /// Notes whether one half could be supervised anew.
    pub fn revived(&mut self, role: ServiceRole, anew: Option<K>, is_running: bool) -> EntryAction<K> {
        *self.half(role) = anew;
        if role == ServiceRole::Logger {
            self.has_lost_logger = false;
        }
        if anew.is_some() { EntryAction::Nothing } else { self.is_gone(role, is_running) }
    }

    /// Notes that a log daemon has released the entry's pipe.
    pub fn log_is_released(&mut self, is_running: bool) -> EntryAction<K> {
        self.is_logged = false;
        self.settle(is_running)
    }

    fn half(&mut self, role: ServiceRole) -> &mut Option<K> {
        match role {
            ServiceRole::Main => &mut self.main,
            ServiceRole::Logger => &mut self.logger,
        }
    }

    fn is_gone(&mut self, role: ServiceRole, is_running: bool) -> EntryAction<K> {
        match role {
            ServiceRole::Main => {
                self.is_leaving = true;
                self.end_logger(is_running)
            }
            ServiceRole::Logger if is_running && !self.is_leaving => {
                self.has_lost_logger = true;
                EntryAction::Recheck
            }
            ServiceRole::Logger => self.settle(is_running),
        }
    }

    /// The service is gone for good, so its logger may end when it has read everything.
    ///
    /// In a shutdown, the processes that hold the logger's pipe are ended first. At other times a
    /// process may hold it for ever, so the logger's time is limited.
    fn end_logger(&self, is_running: bool) -> EntryAction<K> {
        match self.logger {
            Some(logger) if is_running => EntryAction::Tell(logger, ServiceInput::Drain(WITHDRAWN_KILL_MS)),
            Some(logger) => EntryAction::Tell(logger, ServiceInput::Control(Control::Exit)),
            None => self.settle(is_running),
        }
    }

    /// A logger may still write messages, so its own log pipe is released only when it has gone.
    /// Then the name is free.
    fn settle(&self, is_running: bool) -> EntryAction<K> {
        if self.main.is_some() || self.logger.is_some() {
            EntryAction::Nothing
        } else if self.is_logged {
            EntryAction::ReleaseLog
        } else {
            EntryAction::Free { look_again: self.is_leaving && is_running }
        }
    }
}
