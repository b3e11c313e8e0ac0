//! *Lives here:* hearing that something changed among the profiles, and waiting for that without waking up for anything else.
//!
//! *Does not live here:* what has changed: every event only says that it is worth a look, and a lost one says no less.
//!
//! **Source:** inotify(7).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gatevisor_paths::by_path;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// Bytes of events that are read at once.
const EVENTS: usize = 16 << 10;
/// What matters in the directory of profiles. A profile's modes do, because nobody can look into some.
const AMONG: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
/// What matters in a directory that may become a profile.
const WITHIN: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ONLYDIR);
/// What matters in the home, as long as it has no directory of profiles.
const ABOVE: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// What matters in the scandir, as long as a new profile has no slot.
const SLOTS: WatchFlags = WatchFlags::CREATE.union(WatchFlags::MOVED_TO).union(WatchFlags::ONLYDIR);

/// Hears about one directory of profiles, and about some of the directories in it.
///
/// A profile that is known is not listened to: its gateway works in it all day.
#[derive(Debug)]
pub(super) struct ProfileSubscription {
    inotify: OwnedFd,
    home: PathBuf,
    profiles: PathBuf,
    above: Option<i32>,
    among: Option<i32>,
    within: BTreeMap<OsString, i32>,
    slots: Option<i32>,
}

/// What was heard since the last time.
#[derive(Debug, Default)]
pub(super) struct ProfileEvents {
    /// The directories among the profiles that it was about.
    pub touched: BTreeSet<OsString>,
    /// Entries of the scandir that are new.
    pub slots: BTreeSet<OsString>,
}

impl ProfileSubscription {
    /// Returns ears for the directory `profiles` in `home`, which hear nothing before they are attached.
    pub(super) fn new(home: &Path, profiles: &Path) -> Result<Self, Errno> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let (home, profiles) = (home.to_owned(), profiles.to_owned());
        Ok(Self { inotify, home, profiles, above: None, among: None, within: BTreeMap::new(), slots: None })
    }

    /// Listens in the directory of profiles that has the name now; where there is none, in the home, for one to come.
    ///
    /// # Errors
    /// There is no home, or the kernel has no more watches.
    pub(super) fn attach(&mut self) -> Result<(), Errno> {
        let mut among = self.listen(&self.profiles, AMONG)?;
        if among.is_none() {
            self.above = Some(self.listen(&self.home, ABOVE)?.ok_or(Errno::NOENT)?);
            // It may have come before anybody listened.
            among = self.listen(&self.profiles, AMONG)?;
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

    /// Listens in the directories of these names besides, and in no others; returns whether there is one that it did not
    /// listen in before: what happened there until now was not heard.
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
            match self.listen(&self.profiles.join(name), WITHIN)? {
                None => drop(self.within.remove(name)),
                Some(watch) => {
                    is_new |= before != Some(watch);
                    self.within.insert(name.to_owned(), watch);
                }
            }
        }
        Ok(is_new)
    }

    /// Listens for new slots in this scandir, or to none; returns whether it did not before.
    pub(super) fn follow_slots(&mut self, scandir: Option<&Path>) -> Result<bool, Errno> {
        let before = self.slots;
        self.slots = match scandir {
            Some(scandir) => self.listen(scandir, SLOTS)?,
            None => None,
        };
        if scandir.is_none() {
            self.forget(before);
        }
        Ok(self.slots.is_some() && self.slots != before)
    }

    /// Waits until something can be heard, here or on `beside`, or for so many milliseconds; returns whether it is there alone.
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

    /// Takes in what was heard.
    pub(super) fn heard(&mut self) -> Result<ProfileEvents, Errno> {
        let mut heard = ProfileEvents::default();
        let mut lost = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); EVENTS];
        let mut reader = inotify::Reader::new(self.inotify.as_fd(), &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            };
            let watch = event.wd();
            if let Some(name) = event.file_name() {
                let name = || OsString::from_vec(name.to_bytes().to_vec());
                if self.among == Some(watch) {
                    heard.touched.insert(name());
                } else if self.slots == Some(watch) {
                    heard.slots.insert(name());
                }
            }
            heard.touched.extend(
                self.within.iter().filter(|(_, known)| **known == watch).map(|(name, _)| name.clone()),
            );
            if event.events().contains(ReadFlags::IGNORED) {
                lost.push(watch);
            }
        }
        // The kernel has taken these away itself, and may give their numbers to others.
        self.within.retain(|_, watch| !lost.contains(watch));
        for own in [&mut self.above, &mut self.among, &mut self.slots] {
            if own.is_some_and(|watch| lost.contains(&watch)) {
                *own = None;
            }
        }
        Ok(heard)
    }

    /// Adds a watch; `None` where there is no such directory, or none that may be listened in.
    fn listen(&self, path: &Path, flags: WatchFlags) -> Result<Option<i32>, Errno> {
        match by_path::watch(&self.inotify, path, flags) {
            Ok(watch) => Ok(Some(watch)),
            // The directory above tells when its modes change.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP | Errno::NAMETOOLONG) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn forget(&self, watch: Option<i32>) {
        if let Some(watch) = watch {
            // Gone already where the directory is.
            let _ = inotify::remove_watch(&self.inotify, watch);
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

    fn heard(subscription: &mut ProfileSubscription) -> Vec<OsString> {
        subscription.wait(Some(30_000), None).unwrap();
        subscription.heard().unwrap().touched.into_iter().collect()
    }

    #[test]
    fn it_hears_of_directories_that_come_and_go_and_of_those_it_follows() {
        let home = tempfile::tempdir().unwrap();
        let profiles = home.path().join("profiles");
        let mut subscription = ProfileSubscription::new(home.path(), &profiles).unwrap();
        subscription.attach().unwrap();
        fs::create_dir(&profiles).unwrap();
        assert_eq!(heard(&mut subscription), [""; 0], "what is not there has no names");
        subscription.attach().unwrap();
        fs::create_dir(profiles.join("a")).unwrap();
        assert_eq!(heard(&mut subscription), ["a"]);
        assert!(subscription.follow(&BTreeSet::from([OsStr::new("a")])).unwrap());
        assert!(!subscription.follow(&BTreeSet::from([OsStr::new("a")])).unwrap());
        fs::write(profiles.join("a/marker"), "").unwrap();
        assert_eq!(heard(&mut subscription), ["a"]);
        assert!(!subscription.follow(&BTreeSet::new()).unwrap());
        fs::write(profiles.join("a/more"), "").unwrap();
        fs::rename(profiles.join("a"), profiles.join("b")).unwrap();
        assert_eq!(heard(&mut subscription), ["a", "b"]);
    }

    #[test]
    fn another_directory_of_profiles_is_listened_to_in_its_place() {
        let home = tempfile::tempdir().unwrap();
        let profiles = home.path().join("profiles");
        fs::create_dir(&profiles).unwrap();
        let mut subscription = ProfileSubscription::new(home.path(), &profiles).unwrap();
        subscription.attach().unwrap();
        fs::rename(&profiles, home.path().join("aside")).unwrap();
        fs::create_dir(&profiles).unwrap();
        heard(&mut subscription);
        subscription.attach().unwrap();
        heard(&mut subscription);
        fs::create_dir(home.path().join("aside/old")).unwrap();
        fs::create_dir(profiles.join("new")).unwrap();
        assert_eq!(heard(&mut subscription), ["new"]);
    }

    #[test]
    fn without_a_home_there_is_nothing_to_hear() {
        let home = tempfile::tempdir().unwrap();
        let gone = home.path().join("gone");
        assert_eq!(
            ProfileSubscription::new(&gone, &gone.join("profiles")).unwrap().attach(),
            Err(Errno::NOENT)
        );
    }
}
