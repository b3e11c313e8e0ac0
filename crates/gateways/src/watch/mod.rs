//! *Lives here:* watching the profiles while a supervisor runs. A new profile gets a slot, and a
//! vanished one loses it.
//!
//! *Does not live here:* the slots that are made before a supervisor runs (see
//! [`crate::reconcile`]).
//!
//! The agent's own command makes and removes slots with `profile create` and `profile delete`. It
//! does not for `rename`, `import` and what people do by hand. A new slot is always **down**, and
//! no desired state is changed. An imported profile may say that it was running somewhere else. A
//! renamed profile says that of its old name, and whoever renamed it has stopped that gateway. At
//! the next boot its desired state counts, like that of every other profile. The notice says how to
//! start it now.
//!
//! Only a directory that *becomes* a profile gets a slot. A profile whose slot somebody removed
//! gets none, because the slot of a profile that is being deleted goes first. If two make the same
//! slot at once, the first one's counts, and the other finds it there.
//!
//! **Source:** L-4, L-5; docs/design/behaviour.md, *Decided*.

mod adoptions;
mod stops;
mod subscription;
mod tracker;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use gatevisor_paths::by_path;
use rustix::io::Errno;

use crate::desired;
use crate::lifecycle;
use crate::manager::{RegisterError, ScandirManager, ServiceManager, Unregistered};
use crate::profile::{self, Candidate, ListProfilesError, ProfileName, SERVICE_PREFIX};
use adoptions::Adoptions;
use gatevisor_wire::exit::error_chain;
use stops::Stops;
use subscription::ProfileSubscription;
use tracker::{ProfileChange, ProfileTracker};

/// How often the directories are looked at again if new ones have appeared meanwhile.
const LOOKS: usize = 100;
/// The most slots that are removed at the same time.
const AT_ONCE: usize = 64;
/// The stack size in bytes of a thread that removes a slot.
const STACK: usize = 256 << 10;

/// Watches the profiles of one home for one scandir.
#[derive(Debug)]
pub struct ProfileWatcher {
    manager: Arc<ScandirManager>,
    subscription: ProfileSubscription,
    tracker: ProfileTracker,
    adoptions: Adoptions,
    began: Instant,
    /// Each clone of it is held by a thread that removes a slot.
    withdrawing: Arc<()>,
    tell: ProfileNoticeSink,
    /// Watches for stops that the agent's own command requests without us, if the agent does that.
    stops: Option<Stops>,
    /// Whether the definition that the home names may be another one than at the beginning, or an
    /// edited one.
    remembers: bool,
}

/// Tells people what a watcher did.
pub type ProfileNoticeSink = fn(ProfileNotice);

/// What the watcher did or could not do, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProfileNotice {
    /// A new profile has a slot, which is down.
    Registered {
        /// The new profile.
        name: ProfileName,
        /// Whether its state file says that it shall run.
        should_run: bool,
    },
    /// A vanished profile has no slot any more.
    Withdrawn {
        /// The profile that has gone.
        name: ProfileName,
    },
    /// A new directory would be a profile if it had another name.
    Misnamed {
        /// The name on one line.
        shown: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The agent's own command made a slot, which is now as the definition has it.
    Adopted {
        /// The profile whose slot it is.
        name: ProfileName,
    },
    /// Another program stopped a gateway, and that is the desired state now.
    Stopped {
        /// The profile whose gateway was stopped.
        name: ProfileName,
    },
    /// Something was not done, for this reason.
    Failed(String),
}

impl fmt::Display for ProfileNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered { name, should_run: false } => {
                write!(f, "profile {name} is new: its gateway has a slot, and is down")
            }
            Self::Registered { name, should_run: true } => write!(
                f,
                "profile {name} is new: its gateway has a slot, and is down; its desired state to run counts from the next boot, \
                 or now with `gatevisor gateway start {name}`"
            ),
            Self::Stopped { name } => {
                write!(f, "the gateway of {name} was stopped by another program, and stays stopped")
            }
            Self::Adopted { name } => write!(
                f,
                "the slot of {name}, which another program made, is as the definition has it from its next start"
            ),
            Self::Withdrawn { name } => write!(f, "profile {name} is gone, and its gateway with it"),
            Self::Misnamed { shown, reason } => write!(f, "warning: {shown} is no profile: {reason}"),
            Self::Failed(why) => write!(f, "warning: {why}"),
        }
    }
}

/// Why the watcher ended.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum WatchProfilesError {
    /// The kernel does not report changes.
    #[error("cannot watch the profiles in `{}`{}", path.display(), hint(*source))]
    Watch {
        path: PathBuf,
        /// The underlying error.
        #[source]
        source: Errno,
    },
    /// The profiles cannot be listed. That does not mean that they are gone.
    #[error(transparent)]
    List(#[from] ListProfilesError),
}

/// Returns what to do about the error, if that is known.
const fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::NOENT => "; the home is gone",
        Errno::MFILE => "; raise fs.inotify.max_user_instances on the host",
        Errno::NOSPC => "; raise fs.inotify.max_user_watches on the host",
        _ => "",
    }
}

impl ProfileWatcher {
    /// Returns a watcher that knows the profiles that have a slot now. All others are new to it.
    pub fn new(manager: Arc<ScandirManager>, tell: ProfileNoticeSink) -> Result<Self, WatchProfilesError> {
        let home = manager.home();
        let path = home.profiles_dir();
        let failed = |source| WatchProfilesError::Watch { path: path.clone(), source };
        let mut subscription = ProfileSubscription::new(home.root(), &path).map_err(failed)?;
        subscription.attach().map_err(failed)?;
        let directories = profile::directories(home, manager.agent(), |_| false)?.into_keys();
        let known: BTreeSet<OsString> = directories.filter(|name| has_slot(&manager, name)).collect();
        let (began, withdrawing) = (Instant::now(), Arc::new(()));
        let mut watcher = Self {
            manager,
            subscription,
            tracker: ProfileTracker::new(known.clone()),
            adoptions: Adoptions::default(),
            began,
            withdrawing,
            tell,
            stops: None,
            remembers: false,
        };
        // They may have been made while nobody watched.
        for name in &known {
            watcher.adoptions.found(name);
        }
        Ok(watcher)
    }

    /// Returns a watcher that makes new slots from the definition that the home names at that time.
    #[must_use]
    pub fn remembering(mut self) -> Self {
        self.remembers = true;
        self
    }

    /// Returns a watcher that takes a stop by the agent's own command for the desired state.
    ///
    /// # Errors
    /// The kernel does not report changes.
    pub fn honouring_stops(mut self) -> Result<Self, WatchProfilesError> {
        if self.manager.agent().gateway.planned_stop.is_some() {
            self.stops = Some(Stops::new().map_err(|source| self.deaf(source))?);
        }
        Ok(self)
    }

    /// Does what there is to do now, without waiting for new profiles to be complete.
    pub fn catch_up(&mut self) -> Result<(), WatchProfilesError> {
        self.look_again()?;
        self.tracker.complete_all(self.now());
        self.look_again()
    }

    /// Watches. Returns only if it cannot go on, with the reason.
    pub fn run(mut self) -> WatchProfilesError {
        loop {
            if let Err(error) = self.look_again().and_then(|()| self.wait()) {
                return error;
            }
        }
    }

    /// Waits until something has changed, and handles announced stops meanwhile. A gateway writes
    /// in its home all day, so not every change counts.
    fn wait(&mut self) -> Result<(), WatchProfilesError> {
        loop {
            let due = self.tracker.due().into_iter().chain(self.adoptions.next()).min();
            let left = due.map(|due| due.saturating_sub(self.now()));
            let stops = self.stops.as_ref().map(AsFd::as_fd);
            if !self.subscription.wait(left, stops).map_err(|source| self.deaf(source))? {
                return Ok(());
            }
            self.honour_stops();
        }
    }

    /// Looks at everything, and does what follows. What happens meanwhile is reported again.
    fn look_again(&mut self) -> Result<(), WatchProfilesError> {
        let changed = self.subscription.take().map_err(|source| self.deaf(source))?;
        for name in changed.slots.iter().filter_map(|entry| profile_of(entry)) {
            self.made(name);
        }
        self.subscription.attach().map_err(|source| self.deaf(source))?;
        let mut seen = self.seen()?;
        let mut steps = self.tracker.look(self.now(), &seen, &changed.touched);
        for _ in 0..LOOKS {
            // A marker that came before the watch began was not reported.
            if !self
                .subscription
                .follow(&self.tracker.unfinished(&seen))
                .map_err(|source| self.deaf(source))?
            {
                break;
            }
            seen = self.seen()?;
            steps.extend(self.tracker.look(self.now(), &seen, &BTreeSet::new()));
        }
        self.mind_slots()?;
        if let Some(stops) = &mut self.stops {
            let named = seen.keys().filter_map(|name| ProfileName::from_os(name).ok());
            stops.follow(&self.manager, named.chain([ProfileName::root()]));
        }
        self.honour_stops();
        for step in steps {
            match step {
                ProfileChange::Register { name, since } => self.register(&name, since),
                ProfileChange::Withdraw { name } => self.withdraw(&name),
            }
        }
        for entry in self.adoptions.take_due(self.now()) {
            self.adopt(&entry);
        }
        Ok(())
    }

    /// Makes each announced stop the desired state, in a thread of its own, because a gateway may
    /// take a while to end.
    fn honour_stops(&self) {
        let planned = self.manager.agent().gateway.planned_stop.as_ref();
        let Some((stops, planned)) = self.stops.as_ref().zip(planned) else { return };
        for name in stops.announced(&planned.file) {
            let (manager, tell) = (Arc::clone(&self.manager), self.tell);
            let job = move || match stops::honour(&manager, &name) {
                Ok(true) => tell(ProfileNotice::Stopped { name }),
                Ok(false) => {}
                Err(why) => tell(ProfileNotice::Failed(why)),
            };
            if let Err(error) = std::thread::Builder::new().stack_size(STACK).spawn(job) {
                (self.tell)(ProfileNotice::Failed(format!("a stop by another program is not kept: {error}")));
            }
        }
    }

    /// Watches the scandir as long as there are profiles that may get a slot from somebody else. A
    /// profile that had a slot and lost it is being deleted.
    fn mind_slots(&mut self) -> Result<(), WatchProfilesError> {
        let any = self.tracker.pending().next().is_some();
        let scandir = any.then(|| self.manager.scandir());
        if !self.subscription.follow_slots(scandir).map_err(|source| self.deaf(source))? {
            return Ok(());
        }
        let made = self.tracker.pending().filter(|name| has_slot(&self.manager, name));
        let made: Vec<OsString> = made.map(OsStr::to_owned).collect();
        for name in &made {
            self.made(name);
        }
        Ok(())
    }

    /// Takes in that somebody has made the slot of a profile.
    fn made(&mut self, entry: &OsStr) {
        self.tracker.made(entry);
        self.adoptions.made(self.now(), entry);
    }

    /// Makes the slot of a profile as the definition has it, if the agent's own command made it:
    /// nobody follows the gateway in such a one.
    fn adopt(&self, entry: &OsStr) {
        let path = self.manager.home().profiles_dir().join(entry);
        // The slot of a profile that is being deleted goes with it.
        let Candidate::Profile(profile) = profile::candidate(entry, path) else { return };
        let name = profile.name;
        match self.manager.adopt(&name) {
            Ok(true) => (self.tell)(ProfileNotice::Adopted { name }),
            Ok(false) => {}
            Err(why) => {
                let why = format!("the slot of {name}, which another program made, stays as it is: {why}");
                (self.tell)(ProfileNotice::Failed(why));
            }
        }
    }

    fn seen(&self) -> Result<BTreeMap<OsString, bool>, WatchProfilesError> {
        Ok(profile::directories(self.manager.home(), self.manager.agent(), |_| false)?)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn deaf(&self, source: Errno) -> WatchProfilesError {
        WatchProfilesError::Watch { path: self.manager.home().profiles_dir(), source }
    }

    fn register(&mut self, entry: &OsStr, since: u64) {
        let name = match profile::candidate(entry, self.manager.home().profiles_dir().join(entry)) {
            Candidate::Profile(profile) => profile.name,
            Candidate::Misnamed { shown, reason } => {
                return (self.tell)(ProfileNotice::Misnamed { shown, reason });
            }
        };
        self.read_definition();
        let yields = ProfileTracker::is_recent(self.now(), since);
        match self.manager.register_down(&name, yields) {
            Ok(_) => {
                let state = &self.manager.agent().gateway.state_file;
                let recorded = desired::read(&self.manager.home().profile_dir(&name), state).ok().flatten();
                let should_run = recorded.is_some_and(|recorded| recorded.prior.starts());
                (self.tell)(ProfileNotice::Registered { name, should_run });
            }
            // The agent's own command is making the slot. If it never finishes, it is not waited
            // for.
            Err(RegisterError::AlreadyRegistered { .. }) if yields && !has_slot(&self.manager, entry) => {
                self.tracker.postpone(self.now(), entry, since);
            }
            Err(RegisterError::AlreadyRegistered { .. }) => self.made(entry),
            // It is gone again, which is reported.
            Err(RegisterError::NoProfile { .. }) => {}
            Err(error) => (self.tell)(ProfileNotice::Failed(error_chain(&error))),
        }
    }

    /// Reads the definition that the home names. If that cannot be used, the one before stays in
    /// use.
    fn read_definition(&mut self) {
        if self.remembers {
            self.manager = Arc::new(self.manager.as_remembered());
        }
    }

    /// Removes the slot of a vanished profile in a thread of its own, because its gateway may take
    /// a while to stop.
    fn withdraw(&self, name: &OsStr) {
        let Ok(name) = ProfileName::from_os(name) else { return };
        if name.is_root() {
            return;
        }
        let (manager, tell) = (Arc::clone(&self.manager), self.tell);
        if Arc::strong_count(&self.withdrawing) > AT_ONCE {
            return withdraw(&manager, &name, tell);
        }
        let busy = Arc::clone(&self.withdrawing);
        let job = {
            let (manager, name) = (Arc::clone(&manager), name.clone());
            move || {
                withdraw(&manager, &name, tell);
                drop(busy);
            }
        };
        if std::thread::Builder::new().stack_size(STACK).spawn(job).is_err() {
            withdraw(&manager, &name, tell);
        }
    }
}

fn has_slot(manager: &ScandirManager, name: &OsStr) -> bool {
    let name = ProfileName::from_os(name).ok();
    name.is_some_and(|name| by_path::look_itself(manager.slot(&name).path()).is_ok())
}

/// Returns the name of the profile to which a slot in the scandir belongs.
fn profile_of(entry: &OsStr) -> Option<&OsStr> {
    entry.as_bytes().strip_prefix(SERVICE_PREFIX.as_bytes()).map(OsStr::from_bytes)
}

fn withdraw(manager: &ScandirManager, name: &ProfileName, tell: ProfileNoticeSink) {
    // Somebody who made the profile again meanwhile has made its slot too.
    let gone = by_path::look_itself(manager.home().profile_dir(name));
    if !gone.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return;
    }
    match manager.unregister(name) {
        Ok(done) => {
            let kept = lifecycle::forget(manager.home(), name);
            if done.outcome == Unregistered::Gone {
                tell(ProfileNotice::Withdrawn { name: name.clone() });
            }
            done.warnings.into_iter().chain(kept).for_each(|warning| tell(ProfileNotice::Failed(warning)));
        }
        Err(error) => tell(ProfileNotice::Failed(error_chain(&error))),
    }
}
