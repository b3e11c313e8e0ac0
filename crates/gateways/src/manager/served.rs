//! *Lives here:* requests for a profile that another profile's gateway serves.
//!
//! *Does not live here:* which gateway serves which profile (see [`crate::topology`]); bringing
//! that gateway up (`up`).
//!
//! A start of such a profile starts the gateway that serves it. A stop leaves that gateway running,
//! and makes it serve the profile no longer, if the agent can do that.

use std::io;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use gatevisor_paths::by_path;
use gatevisor_sys::clock::remaining;
use gatevisor_sys::inotify::{Inotify, WatchFlags};
use gatevisor_wire::exit::error_chain;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::errors::{ControlError, GatewayVerb, GatewayWaitError};
use super::pending::{Pending, Was};
use super::{
    ANSWER_TIMEOUT, Done, GatewayRequest, LetGo, ScandirManager, StartOutcome, StopOutcome, WaitFor,
    WaitOutcome,
};
use crate::agent::ServedFrom;
use crate::desired::{self, Desired, Prior};
use crate::inspect::ServerState;
use crate::profile::{self, DeleteError, ProfileName};
use crate::topology::{self, ControlRequest, ParkChange, RequestError};

/// How long a working gateway may take to serve a new profile. It looks for new ones every half
/// minute.
const SERVED_WITHIN: Duration = Duration::from_secs(45);
/// How long nothing may come back of a deleted profile.
const QUIET: Duration = Duration::from_secs(1);
/// The longest time for which a deleted profile's directory is removed again.
const REMAINS_WITHIN: Duration = Duration::from_secs(10);
/// The time between two checks whether the serving gateway still runs. Its state file does not
/// change when it is killed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What one request has spent on the gateway that serves other profiles.
///
/// A request for many profiles asks it for each of them. If it does not answer, that keeps the
/// requester no longer than for one.
#[derive(Debug, Clone)]
pub struct ServerTime {
    began: Instant,
    /// Set once it has not answered in time.
    unanswered: OnceLock<()>,
    /// The deadline for it to serve profiles, once it was asked to.
    served_until: OnceLock<Instant>,
}

impl Default for ServerTime {
    fn default() -> Self {
        Self { began: Instant::now(), unanswered: OnceLock::new(), served_until: OnceLock::new() }
    }
}

impl GatewayRequest {
    /// Returns the rest of the time that the request allows, if it has a limit.
    fn left(&self) -> Option<Duration> {
        self.timeout.map(|timeout| timeout.saturating_sub(self.server_time.began.elapsed()))
    }

    /// Returns the deadline for a working gateway to serve profiles, which is the same for all of
    /// them.
    fn served_until(&self) -> Instant {
        let until = || super::follow::after(self.left().unwrap_or(SERVED_WITHIN));
        *self.server_time.served_until.get_or_init(until)
    }
}

impl ScandirManager {
    /// Records that a profile shall run, and tells the gateway that serves it to run.
    pub(super) fn begin_served(
        &self,
        verb: GatewayVerb,
        name: &ProfileName,
        request: &GatewayRequest,
    ) -> Result<Pending, ControlError> {
        self.check_profile(name)?;
        let refused = |why: String| ControlError::Served { verb, name: name.clone(), why };
        let is_parked = self.topology().decide(name).from == ServedFrom::Nobody;
        self.unpark(name).map_err(|error| refused(format!("it cannot be served again: {error}")))?;
        let (desired_state, warnings) = self.desired_state(verb, name, request)?;
        let server = ServerState::read(self);
        if verb == GatewayVerb::Restart && !is_parked && server.is_some() {
            let unserved = self.ask(ControlRequest::Unserve, name, request);
            unserved.and_then(|()| self.confirm_unserved(name, request)).map_err(|why| {
                let all = "`gatevisor gateway restart default` restarts it for all profiles that it serves";
                refused(format!("{why}; {all}"))
            })?;
        }
        let (root, since) = (ProfileName::root(), Some(desired_state.at));
        let mut pending =
            self.tell_up(GatewayVerb::Start, &root, request, (Some(desired_state), warnings))?;
        // The serving gateway runs for this profile even if its own desired state is stopped, but
        // not if it was stopped after this request.
        self.settle(&root, Desired::Running, since);
        pending.server = Some(root);
        Ok(pending.unless(self.recorded_meanwhile(name, since)))
    }

    /// Waits until the gateway that should serve a profile does so.
    pub(super) fn finish_served(
        &self,
        verb: GatewayVerb,
        name: &ProfileName,
        request: &GatewayRequest,
        pending: Pending,
    ) -> Result<Done<(Was, StartOutcome)>, ControlError> {
        let root = ProfileName::root();
        let desired_state = pending.desired_state.clone();
        let of_root = self.finish_own(GatewayVerb::Start, &root, request, pending).map_err(|error| {
            let is_stopped =
                || desired::is_stopped(&self.home.profile_dir(name), &self.agent.gateway.state_file);
            if matches!(error, ControlError::Stopped { .. }) && is_stopped() {
                return ControlError::Stopped {
                    verb,
                    by: self.told_by(name, Desired::Stopped),
                    name: name.clone(),
                };
            }
            error
        })?;
        let (was, started) = of_root.outcome;
        let mut warnings = of_root.warnings;
        if let Some(desired_state) = desired_state {
            self.confirm(name, &desired_state, &mut warnings);
        }
        let pid = match started {
            StartOutcome::Up(pid)
            | StartOutcome::Live(pid)
            | StartOutcome::Ready(pid)
            | StartOutcome::WasUp(pid) => pid,
            StartOutcome::Told | StartOutcome::Served(_) => None,
        };
        if started == StartOutcome::Told || matches!(request.wait, WaitFor::Nothing | WaitFor::Up) {
            return Ok(Done { outcome: (was, started), warnings });
        }
        if self.agent.topology.served_profiles.is_some() {
            self.await_served(name, request).map_err(|why| ControlError::Served {
                verb,
                name: name.clone(),
                why,
            })?;
        }
        Ok(Done { outcome: (was, StartOutcome::Served(pid)), warnings })
    }

    /// Makes another gateway serve a profile no longer. With `also_server`, that gateway will be
    /// stopped.
    pub(super) fn stop_served(
        &self,
        name: &ProfileName,
        request: &GatewayRequest,
        also_server: bool,
    ) -> Result<Done<StopOutcome>, ControlError> {
        self.check_profile(name)?;
        let verb = GatewayVerb::Stop;
        let refused = |why: String| ControlError::Served { verb, name: name.clone(), why };
        let topology = self.topology();
        let Some(park) = topology.park() else {
            let all = "`gatevisor gateway stop default` stops it for all profiles that it serves";
            return Err(refused(format!("the agent cannot leave one profile out; {all}")));
        };
        let home = self.home.profile_dir(name);
        let was_parked = !ParkChange::Out
            .make(&home, park)
            .map_err(|error| refused(format!("`{}` cannot be made: {error}", home.join(park).display())))?;
        let (desired_state, mut warnings) = self.desired_state(verb, name, request)?;
        let is_served = self.serves(name);
        let outcome = if !is_served && was_parked {
            StopOutcome::WasDown
        } else if also_server {
            // It ends with the serving gateway.
            StopOutcome::Down
        } else {
            match self.ask(ControlRequest::Unserve, name, request) {
                Err(why) if is_served => {
                    let default = ProfileName::root();
                    warnings
                        .push(format!("{default} serves {name} until it looks at its profiles again: {why}"));
                    StopOutcome::Told
                }
                Ok(()) if is_served => self.confirm_unserved(name, request).map_err(refused)?,
                _ => StopOutcome::Down,
            }
        };
        self.confirm(name, &desired_state, &mut warnings);
        Ok(Done { outcome, warnings })
    }

    /// Makes the serving gateway release a profile before the profile is deleted. Otherwise the
    /// gateway would go on serving it until it next looks at its profiles, and could make its files
    /// anew.
    pub(super) fn let_go_of_served(&self, name: &ProfileName) -> LetGo {
        if name.is_root() || !self.serves(name) {
            return LetGo::default();
        }
        let request = GatewayRequest::here("profile delete");
        let asked = self.ask(ControlRequest::Unserve, name, &request);
        let root = ProfileName::root();
        let why = asked.and_then(|()| self.confirm_unserved(name, &request)).err();
        let warning =
            why.map(|why| format!("{root} serves {name} until it looks at its profiles again: {why}"));
        LetGo { was_served: true, warning }
    }

    /// Removes the directory of a deleted profile that the serving gateway makes anew, until there
    /// is none for [`QUIET`]. Hermes 0.22 ends a round of its timers for a profile that it no
    /// longer serves, and makes the directories for that.
    pub(super) fn clear_remains_of_served(&self, name: &ProfileName) -> Option<String> {
        let (profiles, directory) = (self.home.profiles_dir(), self.home.profile_dir(name));
        // Without it, what is there now is removed.
        let watched = Inotify::new().ok();
        let flags = WatchFlags::CREATE.union(WatchFlags::MOVED_TO).union(WatchFlags::ONLYDIR);
        let watched = watched.filter(|inotify| by_path::watch(inotify, &profiles, flags).is_ok());
        let until = Instant::now() + REMAINS_WITHIN;
        let mut quiet = Instant::now() + QUIET;
        loop {
            if by_path::look_itself(&directory).is_ok() {
                if profile::show(&self.home, &self.agent, name).is_ok() {
                    // Somebody has made the profile again.
                    return None;
                }
                match profile::delete(&self.home, name) {
                    Ok(()) | Err(DeleteError::Missing { .. }) => {}
                    Err(error) => return Some(error_chain(&error)),
                }
                quiet = Instant::now() + QUIET;
            }
            let end = quiet.min(until);
            let Some(inotify) = watched.as_ref().filter(|_| Instant::now() < end) else { break };
            let _ = poll(&mut [PollFd::new(inotify, PollFlags::IN)], remaining(Some(end)).as_ref());
            let _ = inotify.read(|_| {});
        }
        let root = ProfileName::root();
        by_path::look_itself(&directory).is_ok().then(|| {
            format!("{root} makes `{}` again and again, which is no profile; remove it", directory.display())
        })
    }

    /// Returns how a stop or a restart goes on after the serving gateway has answered that it no
    /// longer serves a profile. Its list of profiles decides, not its answer.
    fn confirm_unserved(&self, name: &ProfileName, request: &GatewayRequest) -> Result<StopOutcome, String> {
        if request.wait == WaitFor::Nothing {
            return Ok(StopOutcome::Told);
        }
        let timeout = request.left().unwrap_or(ANSWER_TIMEOUT);
        let asked = Instant::now();
        match self.watch_served(name, false, Some(super::follow::after(timeout))) {
            Ok(true) => Ok(StopOutcome::Down),
            Ok(false) => {
                let s = asked.elapsed().as_secs();
                Err(format!("it answers that it serves it no longer, and after {s} s still lists it"))
            }
            Err(error) => Err(format!("whether it still serves it cannot be watched: {error}")),
        }
    }

    /// Returns the profiles that should run and are served by the gateway of the root profile,
    /// except those in `beside`.
    pub(super) fn wanting_server(&self, beside: &[ProfileName]) -> Vec<ProfileName> {
        let (topology, file) = (self.topology(), &self.agent.gateway.state_file);
        let profiles = if self.agent.topology.rules.is_empty() {
            Vec::new()
        } else {
            profile::list(&self.home, &self.agent).unwrap_or_default()
        };
        let shall_run = |name: &ProfileName| {
            let recorded = desired::read(&self.home.profile_dir(name), file).ok().flatten();
            recorded.is_some_and(|recorded| Prior::starts(&recorded.prior))
        };
        let names = profiles.into_iter().map(|profile| profile.name);
        let others = names.filter(|name| !name.is_root() && !beside.contains(name));
        others.filter(|name| shall_run(name) && topology.is_served(name)).collect()
    }

    /// Waits for a profile that another gateway serves.
    pub(super) fn wait_served(
        &self,
        name: &ProfileName,
        serves: bool,
        timeout: Option<Duration>,
    ) -> Result<WaitOutcome, GatewayWaitError> {
        if !self.supervisor_running().unwrap_or(true) {
            return Err(self.not_supervised(name));
        }
        let until = timeout.map(super::follow::after);
        match self.watch_served(name, serves, until) {
            Ok(true) => Ok(WaitOutcome::Reached),
            Ok(false) => match self.alone_reason() {
                Some(why) => Ok(WaitOutcome::Failed { reason: Some(why) }),
                None => Ok(WaitOutcome::TimedOut),
            },
            Err(source) => Err(GatewayWaitError::Follow { name: name.clone(), source }),
        }
    }

    /// Asks a working gateway to serve a profile, and waits until it reports that it does.
    fn await_served(&self, name: &ProfileName, request: &GatewayRequest) -> Result<(), String> {
        let until = request.served_until();
        if self.serves(name) {
            return Ok(());
        }
        // A gateway that cannot be asked looks for new profiles by itself.
        let asked = self.ask(ControlRequest::Serve, name, request);
        if self.watch_served(name, true, Some(until)).is_ok_and(|is_so| is_so) {
            return Ok(());
        }
        let own =
            self.alone_reason().map(|why| format!("it says that it serves only its own profile: {why}"));
        Err(own.or_else(|| asked.err()).unwrap_or_else(|| "it does not list it among those".to_owned()))
    }

    fn watch_served(&self, name: &ProfileName, serves: bool, until: Option<Instant>) -> io::Result<bool> {
        let inotify = Inotify::new()?;
        let home = self.home.profile_dir(&ProfileName::root());
        let flags = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        by_path::watch(&inotify, home, flags)?;
        loop {
            let state = ServerState::read(self);
            let is_so = self.is_served_by(state.as_ref(), name) == serves;
            let is_alone = state.is_some_and(|state| state.alone_reason(&self.agent.topology).is_some());
            let is_over = until.is_some_and(|until| until <= Instant::now());
            if is_so || is_alone || is_over {
                return Ok(is_so);
            }
            let soon = super::follow::after(LOOK_EVERY);
            changes(&inotify, Some(until.map_or(soon, |until| until.min(soon))))?;
            inotify.drain();
        }
    }

    fn ask(&self, what: ControlRequest, name: &ProfileName, request: &GatewayRequest) -> Result<(), String> {
        let control = self.agent.topology.control.as_ref();
        let control = control.ok_or("the agent takes no such request for one profile")?;
        let spent = &request.server_time;
        if spent.unanswered.get().is_some() {
            return Err("its control socket has not answered for another profile either".to_owned());
        }
        let left = request.left();
        if left.is_some_and(|left| left.is_zero()) {
            return Err("no time was left to ask it".to_owned());
        }
        let home = self.home.profile_dir(&ProfileName::root());
        topology::request(&home, control, what, name, left).map_err(|error| {
            if matches!(error, RequestError::Unanswered(_)) {
                spent.unanswered.get_or_init(|| ());
            }
            error.to_string()
        })
    }

    fn unpark(&self, name: &ProfileName) -> io::Result<()> {
        let Some(park) = &self.agent.topology.park else { return Ok(()) };
        ParkChange::Back.make(&self.home.profile_dir(name), park).map(drop)
    }
}

/// Waits for a change, or until a moment.
fn changes(inotify: &Inotify, until: Option<Instant>) -> io::Result<()> {
    match poll(&mut [PollFd::new(inotify, PollFlags::IN)], remaining(until).as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
