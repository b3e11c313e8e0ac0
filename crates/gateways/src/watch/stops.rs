//! *Lives here:* stops that the agent's own command requests without the supervisor: noticing them,
//! and making them the desired state.
//!
//! *Does not live here:* our own stops (`manager::down`).
//!
//! The agent's own command announces in the profile's home that a stop is planned, and signals the
//! gateway. A supervisor that only sees a gateway end would start another one, while the command
//! reports that it is stopped. The gateway removes the announcement as soon as it has read it. So
//! it counts that the file came; its content is read if it is still there.
//!
//! **Source:** GW-5, L-3; inotify(7).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use gatevisor_client::{Condition, wait};
use gatevisor_paths::by_path;
use gatevisor_sys::inotify::{Inotify, WatchFlags};
use gatevisor_wire::Pid;
use gatevisor_wire::control::Control;
use jiff::Timestamp;
use rustix::io::Errno;

use crate::desired::{self, Desired};
use crate::manager::{GRACE, ScandirManager};
use crate::planned_stop_marker::{self, Announced};
use crate::profile::ProfileName;

/// How a file comes into a home in one piece, and how it is written in place.
const COMES: WatchFlags = WatchFlags::MOVED_TO
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::DONT_FOLLOW);

/// Watches the homes of profiles for announcements of stops.
#[derive(Debug)]
pub(super) struct Stops {
    inotify: Inotify,
    homes: BTreeMap<i32, ProfileName>,
}

impl Stops {
    pub(super) fn new() -> Result<Self, Errno> {
        let inotify = Inotify::new()?;
        Ok(Self { inotify, homes: BTreeMap::new() })
    }

    /// Watches the homes of these profiles. A home that cannot be watched belongs to no gateway
    /// that we start.
    pub(super) fn follow(&mut self, manager: &ScandirManager, names: impl Iterator<Item = ProfileName>) {
        let mut homes = BTreeMap::new();
        for name in names {
            let home = manager.home().profile_dir(&name);
            if let Ok(watch) = by_path::watch(&self.inotify, &home, COMES) {
                homes.insert(watch, name);
            }
        }
        for watch in self.homes.keys().filter(|watch| !homes.contains_key(watch)) {
            self.inotify.remove(*watch);
        }
        self.homes = homes;
    }

    /// Returns the profiles in whose homes a file of this name has come.
    pub(super) fn announced(&self, file: &str) -> Vec<ProfileName> {
        let mut names = Vec::new();
        let _ = self.inotify.read(|change| {
            let is_it = change.name == Some(OsStr::new(file));
            names.extend(self.homes.get(&change.watch).filter(|_| is_it).cloned());
        });
        names.sort();
        names.dedup();
        names
    }
}

impl AsFd for Stops {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Makes a stop that another program announced the desired state, and returns whether there was
/// one. A command that wants something else meanwhile has the last word.
///
/// # Errors
/// The desired state could not be recorded. The gateway stays down nevertheless, until its
/// supervisor starts anew.
pub(super) fn honour(manager: &ScandirManager, name: &ProfileName) -> Result<bool, String> {
    let home = manager.home().profile_dir(name);
    let agent = manager.agent();
    let Some(planned) = &agent.gateway.planned_stop else { return Ok(false) };
    let dir = manager.slot(name);
    let Some(status) = dir.status().ok().filter(|status| status.want_up) else { return Ok(false) };
    let announced = planned_stop_marker::read(&home, planned);
    let is_meant =
        announced.map_or_else(|| !is_stopped_already(manager, name), |it| is_meant(&it, status.pid));
    if !is_meant {
        return Ok(false);
    }
    let since = Timestamp::now();
    let deadline = || {
        let timeout = Duration::from_millis(agent.gateway.stop_timeout_ms).saturating_add(GRACE);
        Instant::now().checked_add(timeout)
    };
    // The gateway is ending by itself, and a signal from us could cut that short. So it only is not
    // started again.
    if status.is_up() && dir.send(&[Control::Once]).is_ok() {
        let _ = wait(&dir, Condition::Down, deadline());
    }
    let _ = dir.send(&[Control::DownAndDisable]);
    let _ = wait(&dir, Condition::Finished, deadline());
    // At its end, the gateway writes the same file, so this comes afterwards.
    let recorded = desired::record_for_another(&home, &agent.gateway.state_file, Desired::Stopped, since);
    manager.settle(name, Desired::Stopped, Some(since));
    recorded.map_err(|error| {
        format!("the gateway of {name} was stopped by another program, and that is not kept: {error}")
    })
}

/// Returns whether an announcement is from another program, and about the gateway that is up.
fn is_meant(announced: &Announced, pid: Option<Pid>) -> bool {
    // If the target is another process and alive, it was started without us.
    !announced.is_ours && (pid == Some(announced.target) || !announced.is_alive())
}

/// Returns whether the desired state is stopped already. Our own command records that first.
fn is_stopped_already(manager: &ScandirManager, name: &ProfileName) -> bool {
    desired::is_stopped(&manager.home().profile_dir(name), &manager.agent().gateway.state_file)
}
