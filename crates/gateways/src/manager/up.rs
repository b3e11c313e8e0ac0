//! *Lives here:* bringing up a profile's own gateway: registering, starting and restarting it, and
//! waiting for the result.
//!
//! *Does not live here:* which gateway serves a profile (`bring_up`), the desired state (see
//! `desired`), and bringing gateways down (see `down`).

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use gatevisor_client::{ScanSendError, SendError, ServiceDir};
use gatevisor_paths::by_path;
use gatevisor_wire::control::{Control, ControlSignal};
use gatevisor_wire::exit::error_chain;
use gatevisor_wire::files::{EVENT, EVENT_MODE};
use gatevisor_wire::scan::ScanCommand;
use jiff::Timestamp;

use super::errors::{ControlError, GatewayVerb, RegisterError};
use super::follow::{Aim, FollowEnd, Follower, GatewayEnd, RecordedMeanwhile, after};
use super::pending::{Pending, SlotStart, Was};
use super::{
    ANSWER_TIMEOUT, Done, GRACE, GatewayRequest, Registered, ScandirManager, StartOutcome, WaitFor,
    restart_control, withdraw,
};
use crate::desired::{self, Desired, DesiredState};
use crate::drain::heeds_no_restart;
use crate::files;
use crate::inspect;
use crate::ports;
use crate::profile::ProfileName;
use crate::slots::{self, ForeignScandir, PublishError};

impl ScandirManager {
    /// Makes the slot of a profile that the agent's own command has made as the definition has it
    /// now, and returns whether it was such a one.
    pub(crate) fn adopt(&self, name: &ProfileName) -> Result<bool, String> {
        let slot = self.slot(name);
        let changes = |manager: &Self| {
            slots::adoption(slot.path(), &manager.agent, name, &manager.interpreter)
                .map_err(|error| error_chain(&error))
        };
        // Nearly every slot is ours, and then the definition is not read again.
        if changes(self)?.is_none() {
            return Ok(false);
        }
        let Some(changes) = changes(&self.as_remembered())? else { return Ok(false) };
        let running = slot.status().ok().and_then(|status| status.pid);
        slots::renew(slot.path(), &changes, running).map_err(|error| error.to_string())?;
        // As for a slot that we make. The next start of a supervisor may find another version.
        self.learned_gateway(name);
        Ok(true)
    }

    pub(super) fn start_timeout(&self, wait: WaitFor) -> Duration {
        let ready = self.agent.gateway.ready.as_ref();
        let probing = ready.map(|ready| ready.timeout_ms.unwrap_or(gatevisor_slot::file::DEFAULT_TIMEOUT_MS));
        match (wait, probing) {
            (WaitFor::Ready | WaitFor::Started, Some(ms)) => Duration::from_millis(ms).saturating_add(GRACE),
            _ => ANSWER_TIMEOUT,
        }
    }

    /// Returns the start window of this request.
    fn window(&self, request: &GatewayRequest) -> Duration {
        request.window.unwrap_or(Duration::from_millis(self.agent.gateway.start_window_ms))
    }

    fn aim(&self, request: &GatewayRequest) -> Aim {
        match request.wait {
            WaitFor::Nothing | WaitFor::Up => Aim::Up,
            WaitFor::Started if self.window(request).is_zero() && !self.shows_anything() => Aim::Up,
            WaitFor::Started => Aim::Started(self.window(request)),
            WaitFor::Ready => Aim::Ready(self.window(request)),
        }
    }

    /// Returns whether gateways may show that they work.
    const fn shows_anything(&self) -> bool {
        self.agent.gateway.ready.is_some() || self.agent.gateway.live.is_some()
    }

    /// Returns what tells which desired state of a gateway was recorded after `since`.
    pub(super) fn recorded_meanwhile(
        &self,
        name: &ProfileName,
        since: Option<Timestamp>,
    ) -> RecordedMeanwhile {
        let (home, file) = (self.home.profile_dir(name), self.agent.gateway.state_file.clone());
        let (manager, of_supervisor, name) = (self.clone(), self.clone(), name.clone());
        RecordedMeanwhile {
            is_stopped: Box::new(move || desired::is_stopped(&home, &file)),
            is_another: Box::new(move || manager.commanded_since(&name, since).is_some()),
            stopped_supervisor: Box::new(move || of_supervisor.stopped_supervisor()),
            is_ours: self.scan().is_ours(),
        }
    }

    /// Tells the supervisor of a gateway what was recorded, or what another command has recorded
    /// since.
    pub(super) fn carry_up(
        &self,
        verb: GatewayVerb,
        name: &ProfileName,
        request: &GatewayRequest,
        (desired_state, warnings): (DesiredState, Vec<String>),
    ) -> Result<Pending, ControlError> {
        let since = Some(desired_state.at);
        let pending = self.tell_up(verb, name, request, (Some(desired_state), warnings))?;
        self.settle(name, Desired::Running, since);
        Ok(pending.unless(self.recorded_meanwhile(name, since)))
    }

    /// Tells the supervisor of a gateway that it should run, after that was recorded.
    pub(super) fn tell_up(
        &self,
        verb: GatewayVerb,
        name: &ProfileName,
        request: &GatewayRequest,
        (desired_state, warnings): (Option<DesiredState>, Vec<String>),
    ) -> Result<Pending, ControlError> {
        let dir = self.slot(name);
        // The process that starts is followed, also if Hermes has just made the slot. If that
        // cannot be, it still starts, and the watcher says why.
        let _ = self.adopt(name);
        if !self.has_slot(name)? {
            let start = SlotStart::Up { since: desired_state.as_ref().map(|desired_state| desired_state.at) };
            let done = self.publish(name, start, request).map_err(|error| unregistered(name, error))?;
            let was = Was::Absent(done);
            let told = Instant::now();
            return Ok(Pending { desired_state, warnings, follower: None, told, was, server: None });
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
            let pid = before.and_then(|status| status.pid).map(gatevisor_wire::Pid::get);
            let is_deaf = pid.is_some_and(|pid| heeds_no_restart(self, name, pid));
            let signal = self.agent.gateway.restart_signal.as_deref().filter(|_| !is_deaf);
            let signal = signal.and_then(restart_control);
            if let Some(Control::Signal(signal)) = signal {
                sent = Some(signal.number());
            }
            commands.push(signal.unwrap_or(Control::DownSignal));
            self.leave_reason(name, request);
        }
        // A gateway that is being stopped comes up as another process, and so does one that is
        // restarted.
        if up && (verb == GatewayVerb::Restart || matches!(was, Was::Down)) {
            follower.again(sent);
        }
        let told = Instant::now();
        match dir.send(&commands) {
            Ok(()) => {
                Ok(Pending { desired_state, warnings, follower: Some(follower), told, was, server: None })
            }
            Err(SendError::NotSupervised { .. }) => Err(self.no_supervisor(name, Desired::Running)),
            Err(SendError::Missing { .. }) => Err(self.not_registered(name)),
            Err(SendError::Write { source, .. }) => Err(system(source)),
        }
    }

    /// Returns a follower of a slot that a supervisor has taken. If no scan has found the slot yet,
    /// requests one.
    fn supervised_follower(
        &self,
        verb: GatewayVerb,
        name: &ProfileName,
        dir: ServiceDir,
    ) -> Result<Follower, ControlError> {
        let system = |source| ControlError::System { verb, name: name.clone(), source };
        let supervised = dir.supervised().map_err(system)?;
        if !supervised {
            // If no supervisor ever took the slot, it has no `event` to subscribe in.
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
                FollowEnd::TimedOut(state) if let Some(pid) = self.stopped_supervisor() => {
                    let (name, state) = (name.clone(), state.to_string());
                    return Err(ControlError::SupervisorStopped { verb, name, pid, state });
                }
                _ => return Err(gone()),
            }
            follower = Follower::new(dir).map_err(system)?;
        }
        Ok(follower)
    }

    /// Waits for a profile's own gateway.
    pub(super) fn finish_own(
        &self,
        verb: GatewayVerb,
        name: &ProfileName,
        request: &GatewayRequest,
        pending: Pending,
    ) -> Result<Done<(Was, StartOutcome)>, ControlError> {
        let is_own = pending.server.is_none();
        let Pending { desired_state, mut warnings, follower, told, was, .. } = pending;
        let aim = self.aim(request);
        let outcome = match (follower, request.wait, &was) {
            (None, _, Was::Absent(registered)) => registered.into(),
            (_, WaitFor::Nothing, _) | (None, _, _) => StartOutcome::Told,
            (Some(mut follower), wait, _) => {
                let stopping = Duration::from_millis(self.agent.gateway.stop_timeout_ms);
                let starting = self.start_timeout(wait).saturating_add(self.window(request));
                let usual = match verb {
                    GatewayVerb::Restart => stopping.saturating_add(starting),
                    GatewayVerb::Start | GatewayVerb::Stop => starting,
                };
                let timeout = request.timeout.unwrap_or(usual);
                let system = |source| ControlError::System { verb, name: name.clone(), source };
                let deadline = after(timeout);
                let mut end = None;
                if verb == GatewayVerb::Restart {
                    let first = follower.follow(aim, Some(deadline.min(after(stopping)))).map_err(system)?;
                    // A supervisor kills what it was told to stop, but not what it was told to
                    // restart.
                    if !matches!(first, FollowEnd::TimedOut(_)) {
                        end = Some(first);
                    } else if follower.is_same() {
                        let _ = self.slot(name).send(&[Control::Signal(ControlSignal::Kill)]);
                    }
                }
                let left = deadline.saturating_duration_since(Instant::now());
                let end = match end {
                    Some(end) => end,
                    None if request.timeout.is_some() => {
                        follower.follow(aim, Some(deadline)).map_err(system)?
                    }
                    None => follower.follow_while_queued(aim, left, starting).map_err(system)?,
                };
                let started = self.started(verb, name, end, told)?;
                if verb == GatewayVerb::Start { was.unless_same(started) } else { started }
            }
        };
        if let Some(desired_state) = desired_state.filter(|_| is_own) {
            self.confirm(name, &desired_state, &mut warnings);
        }
        if request.wait != WaitFor::Nothing && is_own {
            warnings.extend(ports::warning(self, name));
        }
        if matches!(outcome, StartOutcome::Told | StartOutcome::WasUp(_)) {
            warnings.extend(self.warning_of_stopped_supervisor());
        }
        Ok(Done { outcome: (was, outcome), warnings })
    }

    fn started(
        &self,
        verb: GatewayVerb,
        name: &ProfileName,
        followed: FollowEnd,
        told: Instant,
    ) -> Result<StartOutcome, ControlError> {
        let name = name.clone();
        let unknown = || "no reason is known".to_owned();
        match followed {
            FollowEnd::Supervised => Ok(StartOutcome::Told),
            FollowEnd::Up(pid) => Ok(StartOutcome::Up(pid)),
            FollowEnd::Live(pid) => Ok(StartOutcome::Live(pid)),
            FollowEnd::Ready(pid) => Ok(StartOutcome::Ready(pid)),
            FollowEnd::Unresponsive(reason) => {
                Err(ControlError::Unresponsive { name, reason: reason.unwrap_or_else(unknown) })
            }
            FollowEnd::Stopped => {
                Err(ControlError::Stopped { verb, by: self.told_by(&name, Desired::Stopped), name })
            }
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
            FollowEnd::SupervisorStopped(pid, state) => {
                Err(ControlError::SupervisorStopped { verb, name, pid, state: state.to_string() })
            }
            FollowEnd::TimedOut(state) => {
                let state = self.state_now(&name).unwrap_or_else(|| state.to_string());
                Err(ControlError::TimedOut { verb, name, after: told.elapsed(), state })
            }
        }
    }

    /// Returns the state of a gateway and the reason for it, as its report has them.
    fn state_now(&self, name: &ProfileName) -> Option<String> {
        let report = inspect::inspect(self, name).ok()?;
        let reason = report.reason.map_or_else(String::new, |reason| format!(" ({reason})"));
        Some(format!("{}{reason}", report.state.words()))
    }

    /// Returns an error if root would make a slot in somebody else's scandir.
    pub(super) fn may_register(&self, name: &ProfileName) -> Result<(), RegisterError> {
        let refused =
            |source: ForeignScandir| RegisterError::Publish { name: name.clone(), source: source.into() };
        slots::may_make_slots(&self.scandir).map_err(refused)
    }

    /// Gives a profile's gateway a slot that is down. With `yields`, gives way to the agent's own
    /// command if that is just making a slot: it saw no slot before, and would fail if it found
    /// ours.
    ///
    /// # Errors
    /// Giving way is [`RegisterError::AlreadyRegistered`] too, as the slot will be there in a
    /// moment.
    pub fn register_down(&self, name: &ProfileName, yields: bool) -> Result<Registered, RegisterError> {
        match self.check_profile(name) {
            Ok(()) => {}
            Err(ControlError::Look(error)) => return Err(error.into()),
            Err(_) => {
                return Err(RegisterError::NoProfile { name: name.clone(), path: self.home.profiles_dir() });
            }
        }
        self.learned_gateway(name);
        self.publish_slot(name, SlotStart::Down, &GatewayRequest::here("register"), yields)
    }

    /// Publishes a slot, and waits until a supervisor has taken it. If it starts up, waits as
    /// requested.
    pub(super) fn publish(
        &self,
        name: &ProfileName,
        start: SlotStart,
        request: &GatewayRequest,
    ) -> Result<Registered, RegisterError> {
        self.publish_slot(name, start, request, false)
    }

    /// Returns whether the agent's own command is about to publish a slot for this profile.
    ///
    /// **Source:** SM-2, PERM-7.
    fn is_staged(&self, name: &ProfileName) -> bool {
        let staged = format!(".{}.tmp", name.service_entry());
        by_path::look_itself(self.scandir.join(staged)).is_ok()
    }

    /// Publishes the files of a slot, unless the slot exists. With `yields`, a slot that the
    /// agent's command is making counts as one.
    fn publish_files(
        &self,
        name: &ProfileName,
        up: bool,
        yields: bool,
    ) -> Result<slots::Published, RegisterError> {
        let scandir = || self.scandir.clone();
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
        // The agent's command looks for a slot, then makes its own under that name and fills it for
        // a while. So it is noticed here, except in the few microseconds between its look and its
        // first step.
        if yields && self.is_staged(name) {
            withdraw::undo(self, name);
            return Err(taken());
        }
        Ok(published)
    }

    fn publish_slot(
        &self,
        name: &ProfileName,
        start: SlotStart,
        request: &GatewayRequest,
        yields: bool,
    ) -> Result<Registered, RegisterError> {
        let scandir = || self.scandir.clone();
        let no_supervisor = || RegisterError::NoSupervisor { name: name.clone(), scandir: scandir() };
        if !self.supervisor_running()? {
            return Err(no_supervisor());
        }
        if let Some(pid) = self.supervisor_that_stays_stopped() {
            return Err(RegisterError::SupervisorStopped { name: name.clone(), pid });
        }
        let published = self.publish_files(name, start != SlotStart::Down, yields)?;
        let mut follower = Follower::with(ServiceDir::new(published.path), published.subscription);
        follower.expect_scan(self.scan(), &name.service_entry());
        let told = Instant::now();
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
            let (name, after, scandir) = (name.clone(), told.elapsed(), scandir());
            return Err(match taken {
                FollowEnd::Refused(reason) => RegisterError::Refused { name, scandir, reason },
                _ => RegisterError::NotTaken { name, scandir, after },
            });
        }
        let SlotStart::Up { since } = start else { return Ok(Registered::Down) };
        self.settle(name, Desired::Running, since);
        match request.wait {
            WaitFor::Nothing => return Ok(Registered::Starting),
            WaitFor::Up | WaitFor::Started | WaitFor::Ready => {}
        }
        let usual = || self.start_timeout(request.wait).saturating_add(self.window(request));
        let timeout = request.timeout.unwrap_or_else(usual);
        let end = match request.timeout {
            Some(timeout) => follower.follow(self.aim(request), Some(after(timeout))),
            None => follower.follow_while_queued(self.aim(request), timeout, timeout),
        };
        let end = end.map_err(follow)?;
        match self.started(GatewayVerb::Start, name, end, told) {
            Ok(started) => Ok(started.into()),
            Err(error) => Err(RegisterError::Start { name: name.clone(), source: Box::new(error) }),
        }
    }
}

/// Returns why a gateway that had no slot was not started.
pub(super) fn unregistered(name: &ProfileName, error: RegisterError) -> ControlError {
    match error {
        // The slot is there; what is wrong is the gateway.
        RegisterError::Start { source, .. } => *source,
        source => ControlError::Register { name: name.clone(), source: Box::new(source) },
    }
}

fn make_event_directory(slot: &ServiceDir) -> io::Result<()> {
    let slot = files::open_directory(slot.path())?;
    match files::make_directory(slot.as_fd(), Path::new(EVENT), EVENT_MODE) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}
