//! *Lives here:* bringing gateways up: registering, starting and restarting them, and waiting for what comes of it.
//!
//! *Does not live here:* the desired state (see `desired`), and bringing them down (see `down`).

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use gatevisor_client::status_view::StateName;
use gatevisor_client::{ScanSendError, SendError, ServiceDir};
use gatevisor_paths::by_path;
use gatevisor_wire::Pid;
use gatevisor_wire::control::{Control, ControlSignal};
use gatevisor_wire::files::{EVENT, EVENT_MODE};
use gatevisor_wire::scan::ScanCommand;
use gatevisor_wire::wait::WaitStatus;

use super::errors::{ControlError, GatewayVerb, RegisterError};
use super::follow::{Aim, FollowEnd, Follower, GatewayEnd, after, follow_all};
use super::{
    ANSWER_TIMEOUT, Done, FollowedStart, GRACE, GatewayRequest, Registered, RestartOutcome, ScandirManager,
    ServiceManager, StartOutcome, WaitFor, restart_control, withdraw,
};
use crate::desired::{Desired, DesiredState};
use crate::files;
use crate::inspect::{meaning, served_by};
use crate::ports;
use crate::profile::ProfileName;
use crate::slots::{self, ForeignScandir, PublishError};

/// How long gateways are followed at the least when all of them start at once.
const UP_WITHIN: Duration = Duration::from_secs(30);

/// A gateway that was told something and is waited for.
pub(super) struct Pending {
    desired_state: DesiredState,
    warnings: Vec<String>,
    follower: Option<Follower>,
    was: Was,
}

/// What a gateway was when it was told.
pub(super) enum Was {
    Up(Option<Pid>),
    Down,
    /// It had no slot, and this came of registering it.
    Absent(Registered),
}

impl Was {
    /// Returns that it was up where what came of a start is the process that was.
    fn unless_same(&self, started: StartOutcome) -> StartOutcome {
        match (self, started) {
            (Self::Up(was), StartOutcome::Up(pid) | StartOutcome::Ready(pid)) if *was == pid => {
                StartOutcome::WasUp(pid)
            }
            _ => started,
        }
    }

    /// Returns the outcome of a restart.
    pub(super) const fn restarted(self, started: StartOutcome) -> RestartOutcome {
        match (self, started) {
            (Self::Down | Self::Absent(_), started) => RestartOutcome::WasDown(started),
            (Self::Up(_), StartOutcome::Told) => RestartOutcome::Told,
            (Self::Up(_), StartOutcome::Ready(pid)) => RestartOutcome::Ready(pid),
            (Self::Up(_), StartOutcome::Up(pid) | StartOutcome::WasUp(pid)) => RestartOutcome::Up(pid),
        }
    }
}

impl ScandirManager {
    fn start_timeout(&self, wait: WaitFor) -> Duration {
        let ready = self.agent.gateway.ready.as_ref();
        let probing = ready.map(|ready| ready.timeout_ms.unwrap_or(gatevisor_slot::file::DEFAULT_TIMEOUT_MS));
        match (wait, probing) {
            (WaitFor::Ready | WaitFor::Started, Some(ms)) => Duration::from_millis(ms).saturating_add(GRACE),
            _ => ANSWER_TIMEOUT,
        }
    }

    /// Returns how long a gateway of which nobody says that it is ready must stay up to count as started.
    fn window(&self, order: &GatewayRequest) -> Duration {
        order.window.unwrap_or(Duration::from_millis(self.agent.gateway.start_window_ms))
    }

    fn aim(&self, order: &GatewayRequest) -> Aim {
        match order.wait {
            WaitFor::Nothing | WaitFor::Up => Aim::Up,
            WaitFor::Started if self.window(order).is_zero() && self.agent.gateway.ready.is_none() => Aim::Up,
            WaitFor::Started => Aim::Started(self.window(order)),
            WaitFor::Ready => Aim::Ready,
        }
    }

    /// Records that a gateway should run, and tells its supervisor, for a start or a restart.
    pub(super) fn begin(
        &self,
        verb: GatewayVerb,
        name: &ProfileName,
        order: &GatewayRequest,
    ) -> Result<Pending, ControlError> {
        let unregistered = |error| match error {
            // The slot is there; what is wrong is the gateway.
            RegisterError::Start { source, .. } => *source,
            source => ControlError::Register { name: name.clone(), source: Box::new(source) },
        };
        let standing = self.standing();
        if !standing.allows() {
            return Err(ControlError::Elsewhere { verb, name: name.clone(), standing });
        }
        if !self.has_slot(name)? {
            self.may_register(name).map_err(unregistered)?;
        }
        let (desired_state, warnings) = self.desired_state(verb, name, order)?;
        let dir = self.slot(name);
        if !self.has_slot(name)? {
            let done = self.publish(name, true, order).map_err(unregistered)?;
            return Ok(Pending { desired_state, warnings, follower: None, was: Was::Absent(done) });
        }
        let system = |source| ControlError::System { verb, name: name.clone(), source };
        let mut follower = self.supervised_follower(verb, name, dir.clone())?;
        let before = follower.before().copied();
        let was = match before.filter(|status| status.is_up() && status.want_up) {
            Some(status) => Was::Up(status.pid),
            None => Was::Down,
        };
        let up = before.is_some_and(|status| status.is_up());
        let mut commands = vec![Control::UpAndEnable];
        let mut sent = None;
        if verb == GatewayVerb::Restart && up {
            let signal = self.agent.gateway.restart_signal.as_deref().and_then(restart_control);
            if let Some(Control::Signal(signal)) = signal {
                sent = Some(signal.number());
            }
            commands.push(signal.unwrap_or(Control::DownSignal));
        }
        // One that is being stopped comes up as another process, and so does one that is restarted.
        if up && (verb == GatewayVerb::Restart || matches!(was, Was::Down)) {
            follower.again(sent);
        }
        match dir.send(&commands) {
            Ok(()) => Ok(Pending { desired_state, warnings, follower: Some(follower), was }),
            Err(SendError::NotSupervised { .. }) => Err(self.no_supervisor(name, Desired::Running)),
            Err(SendError::Missing { .. }) => Err(self.not_registered(name)),
            Err(SendError::Write { source, .. }) => Err(system(source)),
        }
    }

    /// Returns a follower of a slot that a supervisor holds; one that no scan has found yet is scanned for.
    fn supervised_follower(
        &self,
        verb: GatewayVerb,
        name: &ProfileName,
        dir: ServiceDir,
    ) -> Result<Follower, ControlError> {
        let system = |source| ControlError::System { verb, name: name.clone(), source };
        let supervised = dir.supervised().map_err(system)?;
        if !supervised {
            // One that no supervisor ever held has nothing to listen in.
            make_event_directory(&dir).map_err(system)?;
        }
        let mut follower = Follower::new(dir.clone()).map_err(system)?;
        if !supervised {
            follower.expect_scan(self.scan(), &name.service_entry());
            let told = self.scan().send(&[ScanCommand::Rescan]).is_ok();
            let gone = || ControlError::SupervisorGone { name: name.clone() };
            if !told {
                return Err(gone());
            }
            match follower.follow(Aim::Supervised, Some(after(ANSWER_TIMEOUT))).map_err(system)? {
                FollowEnd::Supervised => {}
                FollowEnd::Refused(reason) => {
                    return Err(ControlError::Refused { name: name.clone(), reason });
                }
                _ => return Err(gone()),
            }
            follower = Follower::new(dir).map_err(system)?;
        }
        Ok(follower)
    }

    /// Waits for a gateway that was told to be up, as the order says.
    pub(super) fn finish(
        &self,
        verb: GatewayVerb,
        name: &ProfileName,
        order: &GatewayRequest,
        pending: Pending,
    ) -> Result<Done<(Was, StartOutcome)>, ControlError> {
        let Pending { desired_state, mut warnings, follower, was } = pending;
        let aim = self.aim(order);
        let outcome = match (follower, order.wait, &was) {
            (None, _, Was::Absent(registered)) => registered.into(),
            (_, WaitFor::Nothing, _) | (None, _, _) => StartOutcome::Told,
            (Some(mut follower), wait, _) => {
                let stopping = Duration::from_millis(self.agent.gateway.stop_timeout_ms);
                let starting = self.start_timeout(wait).saturating_add(self.window(order));
                let usual = match verb {
                    GatewayVerb::Restart => stopping.saturating_add(starting),
                    GatewayVerb::Start | GatewayVerb::Stop => starting,
                };
                let timeout = order.timeout.unwrap_or(usual);
                let system = |source| ControlError::System { verb, name: name.clone(), source };
                let deadline = after(timeout);
                let first =
                    if verb == GatewayVerb::Restart { deadline.min(after(stopping)) } else { deadline };
                let mut end = follower.follow(aim, Some(first)).map_err(system)?;
                if verb == GatewayVerb::Restart && matches!(end, FollowEnd::TimedOut(_)) {
                    // A supervisor kills what it was told to stop, but not what it was told to restart.
                    if follower.is_same() {
                        let _ = self.slot(name).send(&[Control::Signal(ControlSignal::Kill)]);
                    }
                    end = follower.follow(aim, Some(deadline)).map_err(system)?;
                }
                let started = self.started(verb, name, end, timeout)?;
                if verb == GatewayVerb::Start { was.unless_same(started) } else { started }
            }
        };
        self.confirm(name, &desired_state, &mut warnings);
        Ok(Done { outcome: (was, outcome), warnings })
    }

    fn started(
        &self,
        verb: GatewayVerb,
        name: &ProfileName,
        followed: FollowEnd,
        after: Duration,
    ) -> Result<StartOutcome, ControlError> {
        let name = name.clone();
        let unknown = || "no reason is known".to_owned();
        match followed {
            FollowEnd::Supervised => Ok(StartOutcome::Told),
            FollowEnd::Up(pid) => Ok(StartOutcome::Up(pid)),
            FollowEnd::Ready(pid) => Ok(StartOutcome::Ready(pid)),
            FollowEnd::FailedToStart(reason) => {
                Err(ControlError::FailedToStart { name, reason: reason.unwrap_or_else(unknown) })
            }
            FollowEnd::NeverReady(pid) => Err(ControlError::NeverReady { name, pid }),
            FollowEnd::Ended(GatewayEnd { after, how }) => {
                let meant = how.and_then(|how| self.meant(&name, how));
                Err(ControlError::Ended { name, after, reason: meant.unwrap_or_else(unknown) })
            }
            FollowEnd::Failed(reason) => {
                let reason = self.last_exit(&name).or(reason).unwrap_or_else(unknown);
                Err(ControlError::Failed { name, reason })
            }
            FollowEnd::Refused(reason) => Err(ControlError::Refused { name, reason }),
            FollowEnd::Gone => Err(ControlError::SupervisorGone { name }),
            FollowEnd::TimedOut(state) => {
                let why = self.slot(&name).not_ready().filter(|_| state == StateName::Starting);
                let state = why.map_or_else(|| state.to_string(), |why| format!("{state} ({why})"));
                Err(ControlError::TimedOut { verb, name, after, state })
            }
        }
    }

    /// Returns how a gateway exited last and what that means, where something is known of it.
    fn last_exit(&self, name: &ProfileName) -> Option<String> {
        let observed = self.observe(name).ok()??;
        let code = observed.status?.last.exit_code()?;
        let meaning = || Some(format!("exit {code}: {}", meaning(&self.agent, &observed, code)?));
        self.beyond_its_code(name, code).or_else(meaning)
    }

    /// Returns why a gateway ended, where that can be seen and its exit code does not tell.
    fn beyond_its_code(&self, name: &ProfileName, code: u8) -> Option<String> {
        if let Some(by) = served_by(self, name) {
            return Some(format!("exit {code}: the gateway of {by} serves it"));
        }
        ports::held(self, name).map(|held| format!("{held}; exit {code}"))
    }

    /// Returns how a gateway ended and what that means.
    fn meant(&self, name: &ProfileName, how: WaitStatus) -> Option<String> {
        let Some(code) = how.exit_code() else { return Some(how.to_string()) };
        let observed = self.observe(name).ok()??;
        self.beyond_its_code(name, code).or_else(|| {
            Some(match meaning(&self.agent, &observed, code) {
                Some(meaning) => format!("exit {code}: {meaning}"),
                None => format!("exit {code}"),
            })
        })
    }

    /// Returns an error where a slot of ours would be one of root's in somebody else's scandir.
    pub(super) fn may_register(&self, name: &ProfileName) -> Result<(), RegisterError> {
        let refused =
            |source: ForeignScandir| RegisterError::Publish { name: name.clone(), source: source.into() };
        slots::may_make_slots(&self.scandir).map_err(refused)
    }

    /// Gives a profile's gateway a slot that is down, and with `yields` gives way to the agent's own command where that is
    /// just making one: it has seen none, and would fail over ours.
    ///
    /// # Errors
    /// Giving way is [`RegisterError::AlreadyRegistered`], too; the slot is there in a moment.
    pub fn register_down(&self, name: &ProfileName, yields: bool) -> Result<Registered, RegisterError> {
        match self.check_profile(name) {
            Ok(()) => {}
            Err(ControlError::Look(error)) => return Err(error.into()),
            Err(_) => {
                return Err(RegisterError::NoProfile { name: name.clone(), path: self.home.profiles_dir() });
            }
        }
        self.publish_slot(name, false, &GatewayRequest::here("register"), yields)
    }

    /// Publishes a slot and waits until a supervisor holds it, and with `up` for what the order says.
    pub(super) fn publish(
        &self,
        name: &ProfileName,
        up: bool,
        order: &GatewayRequest,
    ) -> Result<Registered, RegisterError> {
        self.publish_slot(name, up, order, false)
    }

    /// Returns whether the agent's own command is about to publish a slot for this profile.
    ///
    /// **Source:** SM-2, PERM-7.
    fn is_staged(&self, name: &ProfileName) -> bool {
        let staged = format!(".{}.tmp", name.service_entry());
        by_path::look_itself(self.scandir.join(staged)).is_ok()
    }

    fn publish_slot(
        &self,
        name: &ProfileName,
        up: bool,
        order: &GatewayRequest,
        yields: bool,
    ) -> Result<Registered, RegisterError> {
        let scandir = || self.scandir.clone();
        let no_supervisor = || RegisterError::NoSupervisor { name: name.clone(), scandir: scandir() };
        if !self.supervisor_running()? {
            return Err(no_supervisor());
        }
        let files = slots::render(&self.agent, name, &self.interpreter, up)
            .map_err(|source| RegisterError::Render { name: name.clone(), source })?;
        let taken = || RegisterError::AlreadyRegistered { name: name.clone(), scandir: scandir() };
        if yields && self.is_staged(name) {
            return Err(taken());
        }
        let published = match slots::publish(&self.scandir, &name.service_entry(), &files) {
            Ok(published) => published,
            Err(PublishError::Exists { .. }) => return Err(taken()),
            Err(source) => return Err(RegisterError::Publish { name: name.clone(), source }),
        };
        // It looks for a slot, then makes its own under that name, and needs a while for the files in it. So it is seen here,
        // unless this happened in the few microseconds between its look and its first step.
        if yields && self.is_staged(name) {
            withdraw::undo(self, name);
            return Err(taken());
        }
        let mut follower = Follower::with(ServiceDir::new(published.path), published.listener);
        follower.expect_scan(self.scan(), &name.service_entry());
        if let Err(source) = self.scan().send(&[ScanCommand::Rescan]) {
            withdraw::undo(self, name);
            return Err(match source {
                ScanSendError::NotRunning { .. } | ScanSendError::Missing { .. } => no_supervisor(),
                ScanSendError::Write { .. } => RegisterError::Tell { name: name.clone(), source },
            });
        }
        let follow = |source| RegisterError::Follow { name: name.clone(), source };
        let taken = follower.follow(Aim::Supervised, Some(after(ANSWER_TIMEOUT))).map_err(follow)?;
        if taken != FollowEnd::Supervised {
            withdraw::undo(self, name);
            let (name, after, scandir) = (name.clone(), ANSWER_TIMEOUT, scandir());
            return Err(match taken {
                FollowEnd::Refused(reason) => RegisterError::Refused { name, scandir, reason },
                _ => RegisterError::NotTaken { name, scandir, after },
            });
        }
        match order.wait {
            _ if !up => return Ok(Registered::Down),
            WaitFor::Nothing => return Ok(Registered::Starting),
            WaitFor::Up | WaitFor::Started | WaitFor::Ready => {}
        }
        let usual = || self.start_timeout(order.wait).saturating_add(self.window(order));
        let timeout = order.timeout.unwrap_or_else(usual);
        let end = follower.follow(self.aim(order), Some(after(timeout))).map_err(follow)?;
        match self.started(GatewayVerb::Start, name, end, timeout) {
            Ok(StartOutcome::Ready(pid)) => Ok(Registered::Ready(pid)),
            Ok(StartOutcome::Up(pid) | StartOutcome::WasUp(pid)) => Ok(Registered::Up(pid)),
            Ok(StartOutcome::Told) => Ok(Registered::Starting),
            Err(error) => Err(RegisterError::Start { name: name.clone(), source: Box::new(error) }),
        }
    }

    /// Follows the starts of many gateways that a supervisor has just been given, and tells of each what came of it.
    pub fn follow_starts(&self, names: &[ProfileName], tell: &mut dyn FnMut(&ProfileName, FollowedStart)) {
        let mut followed = Vec::new();
        let mut followers = Vec::new();
        for name in names {
            match Follower::new(self.slot(name)) {
                Ok(new) => match new.state() {
                    // It was over before anybody followed.
                    StateName::Failed { reason } | StateName::FailedToStart { reason, .. } => {
                        tell(name, FollowedStart::Failed { reason });
                    }
                    _ => {
                        followed.push(name);
                        followers.push(new);
                    }
                },
                Err(_) => tell(name, FollowedStart::NotSupervised),
            }
        }
        let window = Duration::from_millis(self.agent.gateway.start_window_ms);
        let timeout = self.start_timeout(WaitFor::Started).max(UP_WITHIN).saturating_add(window);
        let deadline = Some(after(timeout));
        follow_all(&mut followers, Aim::Started(window), deadline, &mut |index, end| {
            if let Some(name) = followed.get(index) {
                tell(name, self.start_of(name, end));
            }
        });
    }

    fn start_of(&self, name: &ProfileName, end: io::Result<FollowEnd>) -> FollowedStart {
        match end {
            Ok(FollowEnd::Ready(_)) => FollowedStart::Ready,
            Ok(FollowEnd::Up(_) | FollowEnd::NeverReady(_) | FollowEnd::Supervised) => FollowedStart::Up,
            Ok(FollowEnd::Failed(reason)) => {
                FollowedStart::Failed { reason: self.last_exit(name).or(reason) }
            }
            Ok(FollowEnd::FailedToStart(reason)) => FollowedStart::Failed { reason },
            Ok(FollowEnd::Ended(GatewayEnd { how, .. })) => {
                FollowedStart::Failed { reason: how.and_then(|how| self.meant(name, how)) }
            }
            Ok(FollowEnd::Refused(reason)) => FollowedStart::Failed { reason: Some(reason) },
            Ok(FollowEnd::TimedOut(state)) => FollowedStart::Late { state },
            Ok(FollowEnd::Gone) | Err(_) => FollowedStart::NotSupervised,
        }
    }

    pub(super) fn up_many<T>(
        &self,
        verb: GatewayVerb,
        names: &[ProfileName],
        order: &GatewayRequest,
        outcome: impl Fn(Was, StartOutcome) -> T,
    ) -> Vec<Result<Done<T>, ControlError>> {
        let begun: Vec<_> = names.iter().map(|name| self.begin(verb, name, order)).collect();
        let finish = |(name, pending): (&ProfileName, Result<Pending, ControlError>)| {
            let Done { outcome: (was, started), warnings } = self.finish(verb, name, order, pending?)?;
            Ok(Done { outcome: outcome(was, started), warnings })
        };
        names.iter().zip(begun).map(finish).collect()
    }
}

fn make_event_directory(slot: &ServiceDir) -> io::Result<()> {
    let slot = files::open_directory(slot.path())?;
    match files::make_directory(slot.as_fd(), Path::new(EVENT), EVENT_MODE) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

impl From<&Registered> for StartOutcome {
    fn from(registered: &Registered) -> Self {
        match *registered {
            Registered::Down | Registered::Starting => Self::Told,
            Registered::Up(pid) => Self::Up(pid),
            Registered::Ready(pid) => Self::Ready(pid),
        }
    }
}

impl From<StartOutcome> for Registered {
    fn from(started: StartOutcome) -> Self {
        match started {
            StartOutcome::Told => Self::Starting,
            StartOutcome::Up(pid) | StartOutcome::WasUp(pid) => Self::Up(pid),
            StartOutcome::Ready(pid) => Self::Ready(pid),
        }
    }
}
