//! *Lives here:* watching the profiles while a supervisor runs: a new one gets a slot, and a vanished one loses it.
//!
//! *Does not live here:* the slots that are made before a supervisor runs (see [`crate::reconcile`]).
//!
//! The agent's own command makes and removes slots with `profile create` and `profile delete`, and forgets to with rename,
//! import and everything that is done by hand. A new slot is always **down**, and no desired state is touched: a profile that is
//! imported may say that it was running somewhere else, and one that was renamed says it of its old name, whose gateway
//! whoever renamed it has stopped. The desired state counts again at the next boot, as that of every other profile, and whoever
//! reads the notice knows how to start it now.
//!
//! Only what *becomes* a profile gets a slot: one that has none because somebody took it away keeps none, and while a
//! profile is being deleted its slot goes first. Whoever publishes a slot first has made it, and for the other it is there.
//!
//! **Source:** L-4, L-5; docs/behaviour.md, *Decided*.

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

use crate::agent::{AgentDefinition, remember};
use crate::desired;
use crate::manager::{RegisterError, ScandirManager, ServiceManager, Unregistered};
use crate::profile::{self, Candidate, ListProfilesError, ProfileName, SERVICE_PREFIX};
use gatevisor_wire::exit::error_chain;
use stops::Stops;
use subscription::ProfileSubscription;
use tracker::{ProfileChange, ProfileTracker};

/// How often the directories are looked at again because new ones appeared meanwhile.
const LOOKS: usize = 100;
/// Slots that are taken away at once, at the most.
const AT_ONCE: usize = 64;
/// Bytes of stack that taking one away has.
const STACK: usize = 256 << 10;

/// Watches the profiles of one home for one scandir.
#[derive(Debug)]
pub struct ProfileWatcher {
    manager: Arc<ScandirManager>,
    subscription: ProfileSubscription,
    tracker: ProfileTracker,
    began: Instant,
    /// As many as hold it are taking a slot away.
    withdrawing: Arc<()>,
    tell: Tell,
    /// Hears of stops that the agent's own command asks for, where it does so behind our back.
    stops: Option<Stops>,
    /// Whether the home may remember another definition than the one that this began with, or an edited one.
    remembers: bool,
}

/// Tells people what a watcher did.
pub type Tell = fn(ProfileNotice);

/// What the watcher did or could not do, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProfileNotice {
    /// A new profile has a slot, which is down.
    Registered {
        /// The profile.
        name: ProfileName,
        /// Whether its state file desired states it running.
        should_run: bool,
    },
    /// A vanished profile has no slot any more.
    Withdrawn {
        /// The profile.
        name: ProfileName,
    },
    /// A new directory would be a profile if it had another name.
    Misnamed {
        /// The name on one line.
        shown: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another program stopped a gateway, and that is what is desired now.
    Stopped {
        /// The profile.
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
            Self::Withdrawn { name } => write!(f, "profile {name} is gone, and its gateway with it"),
            Self::Misnamed { shown, reason } => write!(f, "warning: {shown} is no profile: {reason}"),
            Self::Failed(why) => write!(f, "warning: {why}"),
        }
    }
}

/// Why the profiles are watched no longer.
#[derive(Debug, thiserror::Error)]
pub enum WatchProfilesError {
    /// The kernel does not tell about changes.
    #[error("cannot watch the profiles in `{}`{}", path.display(), hint(*source))]
    Watch {
        /// The directory of profiles.
        path: PathBuf,
        /// Why.
        #[source]
        source: Errno,
    },
    /// The profiles cannot be listed, which does not mean that they are gone.
    #[error(transparent)]
    List(#[from] ListProfilesError),
}

/// Returns what to do about it, where that is known.
const fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::NOENT => "; the home is gone",
        Errno::MFILE => "; raise fs.inotify.max_user_instances on the host",
        Errno::NOSPC => "; raise fs.inotify.max_user_watches on the host",
        _ => "",
    }
}

impl ProfileWatcher {
    /// Returns a watcher that knows the profiles that have a slot now; all others are new to it.
    pub fn new(manager: Arc<ScandirManager>, tell: Tell) -> Result<Self, WatchProfilesError> {
        let home = manager.home();
        let path = home.profiles_dir();
        let failed = |source| WatchProfilesError::Watch { path: path.clone(), source };
        let mut subscription = ProfileSubscription::new(home.root(), &path).map_err(failed)?;
        subscription.attach().map_err(failed)?;
        let directories = profile::directories(home, manager.agent())?.into_keys();
        let known = directories.filter(|name| has_slot(&manager, name)).collect();
        let (began, withdrawing) = (Instant::now(), Arc::new(()));
        Ok(Self {
            manager,
            subscription,
            tracker: ProfileTracker::new(known),
            began,
            withdrawing,
            tell,
            stops: None,
            remembers: false,
        })
    }

    /// Returns a watcher that gives each new profile a slot as the definition is then that the home remembers.
    #[must_use]
    pub fn remembering(mut self) -> Self {
        self.remembers = true;
        self
    }

    /// Returns a watcher that takes a stop by the agent's own command for what is desired.
    ///
    /// # Errors
    /// The kernel does not tell about changes.
    pub fn honouring_stops(mut self) -> Result<Self, WatchProfilesError> {
        if self.manager.agent().gateway.planned_stop.is_some() {
            self.stops = Some(Stops::new().map_err(|source| self.deaf(source))?);
        }
        Ok(self)
    }

    /// Does at once what there is to do now, without waiting for new profiles to be complete.
    pub fn catch_up(&mut self) -> Result<(), WatchProfilesError> {
        self.turn()?;
        self.tracker.complete_all(self.now());
        self.turn()
    }

    /// Watches; returns only why it cannot any longer.
    pub fn run(mut self) -> WatchProfilesError {
        loop {
            if let Err(error) = self.turn().and_then(|()| self.wait()) {
                return error;
            }
        }
    }

    /// Waits until it is worth a look, and sees to stops meanwhile: a gateway writes in its home all day.
    fn wait(&mut self) -> Result<(), WatchProfilesError> {
        loop {
            let left = self.tracker.due().map(|due| due.saturating_sub(self.now()));
            let stops = self.stops.as_ref().map(AsFd::as_fd);
            if !self.subscription.wait(left, stops).map_err(|source| self.deaf(source))? {
                return Ok(());
            }
            self.honour_stops();
        }
    }

    /// Looks at everything, and does what follows. What happens meanwhile will be heard.
    fn turn(&mut self) -> Result<(), WatchProfilesError> {
        let heard = self.subscription.heard().map_err(|source| self.deaf(source))?;
        heard.slots.iter().filter_map(|entry| profile_of(entry)).for_each(|name| self.tracker.made(name));
        self.subscription.attach().map_err(|source| self.deaf(source))?;
        let mut seen = self.seen()?;
        let mut steps = self.tracker.look(self.now(), &seen, &heard.touched);
        for _ in 0..LOOKS {
            // A marker that came before anybody listened was not heard.
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
        Ok(())
    }

    /// Makes the stops that were announced what is desired, each beside everything else: a gateway takes its time.
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

    /// While there are profiles that may get a slot from somebody else, listens for it. One that had it and lost it again
    /// is being deleted.
    fn mind_slots(&mut self) -> Result<(), WatchProfilesError> {
        let any = self.tracker.pending().next().is_some();
        let scandir = any.then(|| self.manager.scandir());
        if !self.subscription.follow_slots(scandir).map_err(|source| self.deaf(source))? {
            return Ok(());
        }
        let made = self.tracker.pending().filter(|name| has_slot(&self.manager, name));
        let made: Vec<OsString> = made.map(OsStr::to_owned).collect();
        for name in &made {
            self.tracker.made(name);
        }
        Ok(())
    }

    fn seen(&self) -> Result<BTreeMap<OsString, bool>, WatchProfilesError> {
        Ok(profile::directories(self.manager.home(), self.manager.agent())?)
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
            // The agent's own command is at it. Should it never end, it is not waited for.
            Err(RegisterError::AlreadyRegistered { .. }) if yields && !has_slot(&self.manager, entry) => {
                self.tracker.postpone(self.now(), entry, since);
            }
            // Somebody else was first, or the profile is gone again, which will be heard.
            Err(RegisterError::AlreadyRegistered { .. } | RegisterError::NoProfile { .. }) => {}
            Err(error) => (self.tell)(ProfileNotice::Failed(error_chain(&error))),
        }
    }

    /// Takes in the definition that the home remembers, if it can be used; else the one before counts on.
    fn read_definition(&mut self) {
        let home = self.manager.home().root();
        let file = self.remembers.then(|| remember::recall(home).ok().flatten()).flatten();
        let Some(agent) = file.and_then(|file| AgentDefinition::load(Some(&file)).ok()) else { return };
        if agent != *self.manager.agent() {
            self.manager = Arc::new(self.manager.with_agent(agent));
        }
    }

    /// Takes the slot of a profile away that is gone, beside everything else: its gateway may take a while to stop.
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

/// Returns the name of the profile whose slot an entry of the scandir is, if it is one.
fn profile_of(entry: &OsStr) -> Option<&OsStr> {
    entry.as_bytes().strip_prefix(SERVICE_PREFIX.as_bytes()).map(OsStr::from_bytes)
}

fn withdraw(manager: &ScandirManager, name: &ProfileName, tell: Tell) {
    // Whoever made the profile again meanwhile has made its slot as well.
    let gone = by_path::look_itself(manager.home().profile_dir(name));
    if !gone.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return;
    }
    match manager.unregister(name) {
        Ok(done) => {
            if done.outcome == Unregistered::Gone {
                tell(ProfileNotice::Withdrawn { name: name.clone() });
            }
            done.warnings.into_iter().for_each(|warning| tell(ProfileNotice::Failed(warning)));
        }
        Err(error) => tell(ProfileNotice::Failed(error_chain(&error))),
    }
}
