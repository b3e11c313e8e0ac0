//! *Lives here:* watching the directories of profiles, and waiting for changes without waking up
//! for anything else.
//!
//! *Does not live here:* finding out what changed. An event only says that a directory is worth a
//! look, and so does a lost event.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gatevisor_paths::by_path;
use gatevisor_sys::inotify::{Inotify, WatchFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Changes that matter in the directory of profiles. A change of mode matters because it may let us
/// look into a profile.
const AMONG: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
/// Changes that matter in a directory that may become a profile.
const WITHIN: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ONLYDIR);
/// Changes that matter in the home as long as it has no directory of profiles.
const ABOVE: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Changes that matter in the scandir as long as a new profile has no slot.
const SLOTS: WatchFlags = WatchFlags::CREATE.union(WatchFlags::MOVED_TO).union(WatchFlags::ONLYDIR);

/// Watches one directory of profiles, and some of the directories in it.
///
/// Known profiles are not watched: their gateways write in them all day.
#[derive(Debug)]
pub(super) struct ProfileSubscription {
    inotify: Inotify,
    home: PathBuf,
    profiles: PathBuf,
    above: Option<i32>,
    among: Option<i32>,
    within: BTreeMap<OsString, i32>,
    slots: Option<i32>,
}

/// The changes since the last call.
#[derive(Debug, Default)]
pub(super) struct ProfileEvents {
    /// The directories among the profiles in which something changed.
    pub touched: BTreeSet<OsString>,
    /// The new entries of the scandir.
    pub slots: BTreeSet<OsString>,
}

impl ProfileSubscription {
    /// Returns a subscription to the directory `profiles` in `home`, which watches nothing before
    /// it is attached.
    pub(super) fn new(home: &Path, profiles: &Path) -> Result<Self, Errno> {
        let inotify = Inotify::new()?;
        let (home, profiles) = (home.to_owned(), profiles.to_owned());
        Ok(Self { inotify, home, profiles, above: None, among: None, within: BTreeMap::new(), slots: None })
    }

    /// Watches the directory that has the name now. If there is none, watches the home until there
    /// is.
    ///
    /// # Errors
    /// There is no home, or the kernel has no more watches.
    pub(super) fn attach(&mut self) -> Result<(), Errno> {
        let mut among = self.watch(&self.profiles, AMONG)?;
        if among.is_none() {
            self.above = Some(self.watch(&self.home, ABOVE)?.ok_or(Errno::NOENT)?);
            // It may have come before the home was watched.
            among = self.watch(&self.profiles, AMONG)?;
        }
        if among.is_some() {
            self.forget(self.above);
            self.above = None;
        }
        if self.among != among {
            self.forget(self.among);
            for (_, watch) in std::mem::take(&mut self.within) {
                self.forget(Some(watch));
            }
        }
        self.among = among;
        Ok(())
    }

    /// Also watches the directories of these names, and no others. Returns whether one of them was
    /// not watched before, so that earlier changes in it gave no event.
    pub(super) fn follow(&mut self, names: &BTreeSet<&OsStr>) -> Result<bool, Errno> {
        let old: Vec<OsString> =
            self.within.keys().filter(|name| !names.contains(name.as_os_str())).cloned().collect();
        for name in old {
            let watch = self.within.remove(&name);
            self.forget(watch);
        }
        let mut is_new = false;
        for &name in names {
            let before = self.within.get(name).copied();
            match self.watch(&self.profiles.join(name), WITHIN)? {
                None => drop(self.within.remove(name)),
                Some(watch) => {
                    is_new |= before != Some(watch);
                    self.within.insert(name.to_owned(), watch);
                }
            }
        }
        Ok(is_new)
    }

    /// Watches this scandir for new slots, or none. Returns whether it was not watched before.
    pub(super) fn follow_slots(&mut self, scandir: Option<&Path>) -> Result<bool, Errno> {
        let before = self.slots;
        self.slots = match scandir {
            Some(scandir) => self.watch(scandir, SLOTS)?,
            None => None,
        };
        if scandir.is_none() {
            self.forget(before);
        }
        Ok(self.slots.is_some() && self.slots != before)
    }

    /// Waits until something changes or `beside` is readable, for at most this many milliseconds.
    /// Returns whether only `beside` is readable.
    pub(super) fn wait(
        &self,
        milliseconds: Option<u64>,
        beside: Option<BorrowedFd<'_>>,
    ) -> Result<bool, Errno> {
        let timeout = milliseconds.and_then(|ms| Timespec::try_from(Duration::from_millis(ms)).ok());
        let mut fds = vec![PollFd::new(&self.inotify, PollFlags::IN)];
        fds.extend(beside.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) | Err(Errno::INTR) => Ok(false),
            Ok(_) => Ok(fds.first().is_some_and(|own| own.revents().is_empty())),
            Err(errno) => Err(errno),
        }
    }

    /// Returns the changes since the last call.
    pub(super) fn take(&mut self) -> Result<ProfileEvents, Errno> {
        let mut events = ProfileEvents::default();
        let mut lost = Vec::new();
        self.inotify.read(|change| {
            if let Some(name) = change.name {
                if self.among == Some(change.watch) {
                    events.touched.insert(name.to_owned());
                } else if self.slots == Some(change.watch) {
                    events.slots.insert(name.to_owned());
                }
            }
            let within = self.within.iter().filter(|(_, known)| **known == change.watch);
            events.touched.extend(within.map(|(name, _)| name.clone()));
            if change.is_end() {
                lost.push(change.watch);
            }
        })?;
        // The kernel has removed these watches, and may give their numbers to others.
        self.within.retain(|_, watch| !lost.contains(watch));
        for own in [&mut self.above, &mut self.among, &mut self.slots] {
            if own.is_some_and(|watch| lost.contains(&watch)) {
                *own = None;
            }
        }
        Ok(events)
    }

    /// Adds a watch. Returns `None` if there is no such directory, or this process may not watch
    /// it.
    fn watch(&self, path: &Path, flags: WatchFlags) -> Result<Option<i32>, Errno> {
        match by_path::watch(&self.inotify, path, flags) {
            Ok(watch) => Ok(Some(watch)),
            // The watch on the directory above reports a change of its mode.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP | Errno::NAMETOOLONG) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn forget(&self, watch: Option<i32>) {
        if let Some(watch) = watch {
            self.inotify.remove(watch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ProfileSubscription;
    use rustix::io::Errno;
    use std::collections::BTreeSet;
    use std::ffi::{OsStr, OsString};
    use std::fs;

    fn changed(subscription: &mut ProfileSubscription) -> Vec<OsString> {
        subscription.wait(Some(30_000), None).unwrap();
        subscription.take().unwrap().touched.into_iter().collect()
    }

    #[test]
    fn directories_that_come_and_go_and_followed_ones_are_told() {
        let home = tempfile::tempdir().unwrap();
        let profiles = home.path().join("profiles");
        let mut subscription = ProfileSubscription::new(home.path(), &profiles).unwrap();
        subscription.attach().unwrap();
        fs::create_dir(&profiles).unwrap();
        assert_eq!(changed(&mut subscription), [""; 0], "what is not there has no names");
        subscription.attach().unwrap();
        fs::create_dir(profiles.join("a")).unwrap();
        assert_eq!(changed(&mut subscription), ["a"]);
        assert!(subscription.follow(&BTreeSet::from([OsStr::new("a")])).unwrap());
        assert!(!subscription.follow(&BTreeSet::from([OsStr::new("a")])).unwrap());
        fs::write(profiles.join("a/marker"), "").unwrap();
        assert_eq!(changed(&mut subscription), ["a"]);
        assert!(!subscription.follow(&BTreeSet::new()).unwrap());
        fs::write(profiles.join("a/more"), "").unwrap();
        fs::rename(profiles.join("a"), profiles.join("b")).unwrap();
        assert_eq!(changed(&mut subscription), ["a", "b"]);
    }

    #[test]
    fn a_new_directory_of_profiles_is_watched_in_place_of_the_old_one() {
        let home = tempfile::tempdir().unwrap();
        let profiles = home.path().join("profiles");
        fs::create_dir(&profiles).unwrap();
        let mut subscription = ProfileSubscription::new(home.path(), &profiles).unwrap();
        subscription.attach().unwrap();
        fs::rename(&profiles, home.path().join("aside")).unwrap();
        fs::create_dir(&profiles).unwrap();
        changed(&mut subscription);
        subscription.attach().unwrap();
        changed(&mut subscription);
        fs::create_dir(home.path().join("aside/old")).unwrap();
        fs::create_dir(profiles.join("new")).unwrap();
        assert_eq!(changed(&mut subscription), ["new"]);
    }

    #[test]
    fn without_a_home_there_is_nothing_to_watch() {
        let home = tempfile::tempdir().unwrap();
        let gone = home.path().join("gone");
        assert_eq!(
            ProfileSubscription::new(&gone, &gone.join("profiles")).unwrap().attach(),
            Err(Errno::NOENT)
        );
    }
}
