//! Watches which profiles are served by the gateway of another profile.
//!
//! *Lives here:* noticing that such a gateway begins or ceases to report a profile, and why.
//! *Does not live here:* what a service itself shows (`event_subscriber`).

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use gatevisor_gateways::inspect;
use gatevisor_gateways::manager::ScandirManager;
use gatevisor_gateways::profile::ProfileName;
use gatevisor_paths::by_path;
use gatevisor_sys::inotify::{Inotify, WatchFlags};

/// The change for a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServedChange {
    /// The root profile's gateway serves it; this is the process.
    Served(i32),
    /// It is no longer served, for this reason, if a reason is known.
    NotServed(Option<String>),
}

/// Watches the profiles that another profile's gateway serves.
pub struct ServedWatch<'a> {
    manager: &'a ScandirManager,
    only: Vec<ProfileName>,
    /// `None` if no gateway serves others.
    inotify: Option<Inotify>,
    served: BTreeMap<ProfileName, i32>,
}

impl<'a> ServedWatch<'a> {
    /// Watches all profiles, or only these. The present state is no change.
    pub fn new(manager: &'a ScandirManager, only: Vec<ProfileName>) -> Self {
        let inotify = watch(manager);
        let mut watch = Self { manager, only, inotify, served: BTreeMap::new() };
        watch.served = watch.now();
        watch
    }

    /// Returns a descriptor that can be read when there may be changes.
    pub fn descriptor(&self) -> Option<OwnedFd> {
        self.inotify.as_ref()?.as_fd().try_clone_to_owned().ok()
    }

    /// Returns the changes since the last call. The end of the gateway that serves others is a
    /// change, too, of which no file tells.
    pub fn take(&mut self) -> Vec<(ProfileName, ServedChange)> {
        let Some(inotify) = &self.inotify else { return Vec::new() };
        inotify.drain();
        // The slot may have been made or replaced since. Directories that are watched already stay
        // so.
        self.manager.slot(&ProfileName::root()).watch_published(inotify);
        let now = self.now();
        let before = std::mem::replace(&mut self.served, now);
        let told = |(name, pid): (ProfileName, Option<i32>)| {
            let change = match pid {
                Some(pid) => ServedChange::Served(pid),
                None => ServedChange::NotServed(inspect::why_not_served(self.manager, &name)),
            };
            (name, change)
        };
        changes(&before, &self.served).into_iter().map(told).collect()
    }

    fn now(&self) -> BTreeMap<ProfileName, i32> {
        let mut served = inspect::served_now(self.manager);
        served.retain(|name, _| self.only.is_empty() || self.only.contains(name));
        served
    }
}

/// Watches the files that tell about the gateway that serves others: its state file, and the status
/// of its supervisor, because nothing rewrites the state file when the gateway ends. Returns `None`
/// if no gateway serves others.
fn watch(manager: &ScandirManager) -> Option<Inotify> {
    let file = inspect::serving_file(manager)?;
    let inotify = Inotify::new().ok()?;
    // The file is replaced by another one, or rewritten.
    let what = WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE | WatchFlags::ONLYDIR;
    by_path::watch(&inotify, file.parent()?, what).ok()?;
    // If there is no status yet, the first start also rewrites the state file.
    manager.slot(&ProfileName::root()).watch_published(&inotify);
    Some(inotify)
}

/// Returns the profiles whose serving process has changed, each with the new process; `None` if the
/// profile is no longer served.
fn changes(
    before: &BTreeMap<ProfileName, i32>,
    now: &BTreeMap<ProfileName, i32>,
) -> Vec<(ProfileName, Option<i32>)> {
    let ended = before.keys().filter(|name| !now.contains_key(name)).map(|name| (name.clone(), None));
    let begun = now.iter().filter(|(name, pid)| before.get(name) != Some(pid));
    ended.chain(begun.map(|(name, pid)| (name.clone(), Some(*pid)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_another_process_that_serves_or_none() {
        let served = |all: &[(&str, i32)]| -> BTreeMap<ProfileName, i32> {
            all.iter().map(|(name, pid)| (name.parse().unwrap(), *pid)).collect()
        };
        let (before, now) =
            (served(&[("a", 7), ("b", 7), ("c", 7)]), served(&[("b", 8), ("c", 7), ("d", 8)]));
        let words: Vec<String> =
            changes(&before, &now).iter().map(|(name, pid)| format!("{name} {pid:?}")).collect();
        assert_eq!(words, ["a None", "b Some(8)", "d Some(8)"]);
        assert_eq!(changes(&now, &now), []);
    }
}
