//! *Lives here:* carrying a declaration out again whenever its file or something that it declares
//! changes.
//!
//! *Does not live here:* carrying it out (`apply`).
//!
//! A `ConfigMap` changes by one rename of the link `..data` beside the file, an editor replaces the
//! file, and a script may write into it: all three are events. A file server tells nothing of what
//! other machines do, and a directory may not exist yet, so the file is also read every half
//! minute.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gatevisor_paths::by_path;
use gatevisor_sys::clock::remaining;
use gatevisor_sys::inotify::{Inotify, WatchFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::apply::apply;
use super::kept::KeptDeclaration;
use crate::manager::ScandirManager;
use crate::profile::ProfileName;

/// The longest time between two looks at the file.
const LOOK: Duration = Duration::from_secs(30);
/// The shortest time between two looks, so that neither two who want different things nor a busy
/// directory keep a processor busy.
const BRAKE: Duration = Duration::from_secs(1);
/// Changes that matter beside the file, in a profile and among the profiles.
const BESIDE: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ONLYDIR);
/// Changes that matter of the file itself, which may be mounted alone.
const ITSELF: WatchFlags = WatchFlags::CLOSE_WRITE.union(WatchFlags::ATTRIB);

/// Why a declaration is not watched any more.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch the profiles file `{}`", path.display())]
pub struct WatchDeclarationError {
    /// The file that declares.
    pub path: PathBuf,
    /// The underlying error.
    #[source]
    pub source: Errno,
}

/// Carries out what a file declares, as long as it runs.
#[derive(Debug)]
pub struct DeclarationWatcher<'a> {
    manager: &'a ScandirManager,
    path: PathBuf,
    names: Vec<ProfileName>,
    /// What became of the declaration, if it could not be written into the home.
    unkept: Option<KeptDeclaration>,
    tell: fn(&str),
}

/// What is watched between two looks.
struct DeclarationWatches<'a> {
    inotify: Inotify,
    /// The watches on directories of profiles, where only the state file matters.
    profiles: Vec<i32>,
    state_file: &'a str,
}

impl<'a> DeclarationWatcher<'a> {
    /// Returns a watcher of what the file at `path` declares for the home of `manager`.
    pub const fn new(manager: &'a ScandirManager, path: PathBuf, tell: fn(&str)) -> Self {
        Self { manager, path, names: Vec::new(), unkept: None, tell }
    }

    /// Watches. Returns only if it cannot go on, with the reason.
    pub fn run(mut self) -> WatchDeclarationError {
        loop {
            if let Err(source) = self.turn(LOOK) {
                return WatchDeclarationError { path: self.path, source };
            }
        }
    }

    /// Carries the declaration out, and waits for a change, at most that long.
    fn turn(&mut self, at_most: Duration) -> Result<(), Errno> {
        // Watches first, so that what changes during the look is not missed.
        let mut watched = self.watched()?;
        let began = Instant::now();
        if self.manager.standing().allows() {
            let done = apply(self.manager, &self.path, &mut self.unkept);
            done.notices.iter().for_each(|notice| (self.tell)(notice));
            if done.names != self.names {
                self.names = done.names;
                // Of a profile that is declared since, no change was reported.
                return Ok(());
            }
            let _ = poll(&mut [], Timespec::try_from(BRAKE.saturating_sub(began.elapsed())).ok().as_ref());
        }
        watched.wait(at_most)
    }

    fn watched(&self) -> Result<DeclarationWatches<'a>, Errno> {
        let (home, agent) = (self.manager.home(), self.manager.agent());
        let inotify = Inotify::new()?;
        let watch = |path: &Path, flags| match by_path::watch(&inotify, path, flags) {
            Ok(watch) => Ok(Some(watch)),
            // Whatever else is wrong with a path, a look at the file says so.
            Err(errno @ (Errno::NOSPC | Errno::NOMEM)) => Err(errno),
            Err(_) => Ok(None),
        };
        watch(&self.path, ITSELF)?;
        if let Some(directory) = self.path.parent() {
            watch(directory, BESIDE)?;
        }
        watch(&home.profiles_dir(), BESIDE)?;
        let mut profiles = Vec::new();
        for name in &self.names {
            profiles.extend(watch(&home.profile_dir(name), BESIDE)?);
        }
        Ok(DeclarationWatches { inotify, profiles, state_file: &agent.gateway.state_file })
    }
}

impl DeclarationWatches<'_> {
    /// Waits for a change that matters. A gateway writes in its profile all day.
    fn wait(&mut self, at_most: Duration) -> Result<(), Errno> {
        let until = Instant::now().checked_add(at_most);
        loop {
            if self.any_that_matters()? || until.is_none_or(|until| until <= Instant::now()) {
                return Ok(());
            }
            match poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], remaining(until).as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    fn any_that_matters(&self) -> Result<bool, Errno> {
        let mut any = false;
        self.inotify.read(|change| {
            let is_state = change.name.is_none_or(|name| name == self.state_file);
            any |= is_state || !self.profiles.contains(&change.watch);
        })?;
        Ok(any)
    }
}
