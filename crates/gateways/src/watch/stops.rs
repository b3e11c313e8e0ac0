//! *Lives here:* stops that the agent's own command asks of a gateway behind its supervisor's back: hearing of them, and
//! making them what is desired.
//!
//! *Does not live here:* our own stops (`manager::down`).
//!
//! Where nobody but us supervises, the agent's command announces in the profile's home that a stop is meant, and signals the
//! gateway. A supervisor that only sees a gateway end starts another one, while the command says that it is stopped. The
//! gateway takes the announcement away as soon as it has read it, so that it came is all that counts: what it said is looked
//! at where it is still there.
//!
//! **Source:** GW-5, L-3; inotify(7).

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use gatevisor_client::{Condition, wait};
use gatevisor_paths::by_path;
use gatevisor_wire::Pid;
use gatevisor_wire::control::Control;
use jiff::Timestamp;
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::desired::{self, Desired, Prior};
use crate::manager::{GRACE, ScandirManager};
use crate::marker::{self, Announced};
use crate::profile::ProfileName;

/// Bytes of events that are read at once.
const EVENTS: usize = 4096;
/// How a file comes into a home in one piece, and how it is written in place.
const COMES: WatchFlags = WatchFlags::MOVED_TO
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::DONT_FOLLOW);

/// Hears that somebody announces stops in the homes of profiles.
#[derive(Debug)]
pub(super) struct Stops {
    inotify: OwnedFd,
    homes: BTreeMap<i32, ProfileName>,
}

impl Stops {
    pub(super) fn new() -> Result<Self, Errno> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { inotify, homes: BTreeMap::new() })
    }

    /// Listens in the homes of these profiles; what cannot be listened in is nobody's whom we start.
    pub(super) fn follow(&mut self, manager: &ScandirManager, names: impl Iterator<Item = ProfileName>) {
        let mut homes = BTreeMap::new();
        for name in names {
            let home = manager.home().profile_dir(&name);
            if let Ok(watch) = by_path::watch(&self.inotify, &home, COMES) {
                homes.insert(watch, name);
            }
        }
        for watch in self.homes.keys().filter(|watch| !homes.contains_key(watch)) {
            // Gone already where the directory is.
            let _ = inotify::remove_watch(&self.inotify, *watch);
        }
        self.homes = homes;
    }

    /// Returns the profiles in whose homes a file of this name has come.
    pub(super) fn announced(&self, file: &str) -> Vec<ProfileName> {
        let mut names = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); EVENTS];
        let mut reader = Reader::new(self.inotify.as_fd(), &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let is_it = event.file_name().is_some_and(|name| name.to_bytes() == file.as_bytes());
                    names.extend(self.homes.get(&event.wd()).filter(|_| is_it).cloned());
                }
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
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

/// Makes a stop that another program announced what is desired, and returns whether it was one.
///
/// # Errors
/// It could not be recorded; the gateway is down all the same, until its supervisor starts anew.
pub(super) fn honour(manager: &ScandirManager, name: &ProfileName) -> Result<bool, String> {
    let home = manager.home().profile_dir(name);
    let agent = manager.agent();
    let Some(planned) = &agent.gateway.planned_stop else { return Ok(false) };
    let dir = manager.slot(name);
    let Some(status) = dir.status().ok().filter(|status| status.want_up) else { return Ok(false) };
    let announced = marker::read(&home, planned);
    let is_meant =
        announced.map_or_else(|| !is_stopped_already(manager, name), |it| is_meant(&it, status.pid));
    if !is_meant {
        return Ok(false);
    }
    let deadline = || {
        let timeout = Duration::from_millis(agent.gateway.stop_timeout_ms).saturating_add(GRACE);
        Instant::now().checked_add(timeout)
    };
    // It is ending by itself. A signal of ours on top could cut that short, so it is only not started again.
    if status.is_up() && dir.send(&[Control::Once]).is_ok() {
        let _ = wait(&dir, Condition::Down, deadline());
    }
    let _ = dir.send(&[Control::DownAndDisable]);
    let _ = wait(&dir, Condition::Finished, deadline());
    // At its end it writes the very file, so this comes after.
    let file = &agent.gateway.state_file;
    desired::record_for_another(&home, file, Desired::Stopped, Timestamp::now()).map(|()| true).map_err(
        |error| {
            format!("the gateway of {name} was stopped by another program, and that is not kept: {error}")
        },
    )
}

/// Returns whether an announcement is another program's, and about the gateway that is up.
fn is_meant(announced: &Announced, pid: Option<Pid>) -> bool {
    // Another process that is alive was started beside ours.
    !announced.is_ours && (pid == Some(announced.target) || !announced.is_alive())
}

/// Returns whether it is desired already, as by our own command, which records it first.
fn is_stopped_already(manager: &ScandirManager, name: &ProfileName) -> bool {
    let recorded = desired::read(&manager.home().profile_dir(name), &manager.agent().gateway.state_file);
    recorded.ok().flatten().is_some_and(|recorded| recorded.prior == Prior::State("stopped".to_owned()))
}
