//! *Lives here:* what a report tells of the files in a service directory beside its state, seen
//! while the directory is open for its state.
//!
//! *Does not live here:* what supervisors and clients read (`gatevisor-client`).

use gatevisor_wire::Pid;
use gatevisor_wire::files::{CGROUP, DATA};
use gatevisor_wire::log_error::LogError;
use rustix::io::Errno;

use super::log_health::LogErrors;
use crate::live;
use crate::manager::{Observed, ScandirManager};
use crate::profile::ProfileName;
use crate::slots::{self, DATA_OLDER_PROCESS, OpenSlot, SlotChangesError};

/// What the files of a service directory tell.
#[derive(Debug)]
pub(super) struct SlotFacts {
    /// Why its lines cannot be kept.
    pub log_error: Option<LogError>,
    /// Whether we made it, and the definition would make it differently now, or its process was
    /// started before it was made so; `None` if nobody can tell, because permission is denied.
    pub is_older: Option<bool>,
    /// Whether its process may have a control group of ours.
    pub may_have_group: bool,
    /// Whether its interpreter may have noted how its process is followed.
    pub may_be_followed: bool,
    /// Whether the watcher may have noted that it ended a process of it.
    pub may_be_restarted: bool,
}

impl SlotFacts {
    /// Looks into an opened service directory.
    pub(super) fn of(
        manager: &ScandirManager,
        log_errors: &LogErrors,
        slot: &Result<OpenSlot, Errno>,
        observed: &Observed,
    ) -> Self {
        let is_there = |path: &str| !slot.as_ref().is_ok_and(|slot| slot.lacks(path));
        if let Ok(slot) = slot {
            slot.list(DATA);
        }
        let running = observed.status.and_then(|status| status.pid);
        let is_older =
            observed.profile.as_ref().map_or(Some(false), |name| is_older(manager, name, slot, running));
        Self {
            log_error: slot.as_ref().ok().and_then(|slot| log_errors.note(slot)),
            is_older,
            // A process that is older than such a change of the directory is noted.
            may_have_group: slot.as_ref().map_or(true, |slot| slot.may_have_folder(CGROUP))
                || is_there(DATA_OLDER_PROCESS),
            may_be_followed: is_there(live::DATA_LIVE),
            may_be_restarted: is_there(live::DATA_RESTARTED),
        }
    }

    /// Opens the directory of a service, and looks into it.
    pub(super) fn at(manager: &ScandirManager, log_errors: &LogErrors, observed: &Observed) -> Self {
        let slot = OpenSlot::at(&manager.scandir().join(&observed.service));
        Self::of(manager, log_errors, &slot, observed)
    }
}

fn is_older(
    manager: &ScandirManager,
    name: &ProfileName,
    slot: &Result<OpenSlot, Errno>,
    running: Option<Pid>,
) -> Option<bool> {
    let runs_older = || slot.as_ref().is_ok_and(|slot| slots::is_older_process(slot, running));
    match slots::changes_of(slot, manager.slot(name).path(), manager.agent(), name) {
        Ok(changes) => Some(changes.is_some_and(|changes| !changes.is_empty() || runs_older())),
        Err(SlotChangesError::Look(_)) => None,
        Err(SlotChangesError::Render(_)) => Some(false),
    }
}
