//! *Lives here:* the report of one service, with the field names that programs rely on.
//!
//! *Does not live here:* gathering what is in it.

use std::time::{Duration, SystemTime};

use gatevisor_client::status_view::StateName;
use gatevisor_liveness::Liveness;
use gatevisor_slot::home_lock::Standing;
use gatevisor_wire::log_error::LogError;
use gatevisor_wire::policy::PublishedPolicy;
use gatevisor_wire::status::Status;
use gatevisor_wire::tai::Tai64n;
use serde::Serialize;

use super::deaths::{DeathReport, cause, deaths, meaning, moment, signal_name};
use crate::agent::AgentDefinition;
use crate::desired::{Provenance, Recorded, Said};
use crate::live::{LiveReport, LiveRestart, LiveState};
use crate::manager::Observed;
use crate::ports::HeldPort;
use crate::profile::ProfileName;
use crate::tree::Usage;

/// What the moments of a process may be off by: its supervisor counts from when it knows of them.
const SLACK: Duration = Duration::from_millis(50);
/// Deaths that a report holds at the most.
const DEATHS: usize = 10;

/// The state of a service, in the words that a report uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// Up: its command is executed. Nobody says whether it works.
    Up,
    /// Up, and it is known to be ready.
    Ready,
    /// Its command is about to be executed, or it was and it will be said when it is ready.
    Starting,
    /// Down, and it will be started again.
    BackingOff,
    /// Still up, and wanted down.
    Stopping,
    /// Its finish script runs.
    Finishing,
    /// Down, and wanted so.
    Down,
    /// Down for good.
    Failed,
    /// Down, because its command could not be executed, or ended within the start window; it will be tried again.
    FailedToStart,
    /// No supervisor holds it.
    NotSupervised,
    /// Up, and paused by a command.
    Paused,
    /// Down, because what an earlier life of it has left running is being ended first.
    Waiting,
    /// Up, and for too long nothing has shown that it works.
    Unresponsive,
    /// Up, and it says itself that not all is well.
    Degraded,
    /// Up, and it says itself that it takes no new work.
    Draining,
    /// Up, and held by a debugger.
    Traced,
    /// It may not be looked at.
    Unknown,
    /// It has no process of its own: another profile's gateway serves it.
    Served,
}

impl ServiceState {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Up,
        Self::Ready,
        Self::Starting,
        Self::BackingOff,
        Self::Stopping,
        Self::Finishing,
        Self::Down,
        Self::Failed,
        Self::FailedToStart,
        Self::NotSupervised,
        Self::Paused,
        Self::Waiting,
        Self::Unresponsive,
        Self::Degraded,
        Self::Draining,
        Self::Traced,
        Self::Unknown,
        Self::Served,
    ];

    /// Returns the words for people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::BackingOff => "backing off",
            Self::Stopping => "stopping",
            Self::Finishing => "finishing",
            Self::Down => "down",
            Self::Failed => "failed",
            Self::FailedToStart => "failed to start",
            Self::NotSupervised => "not supervised",
            Self::Paused => "paused",
            Self::Waiting => "waiting",
            Self::Unresponsive => "unresponsive",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Traced => "traced",
            Self::Unknown => "unknown",
            Self::Served => "served",
        }
    }

    /// Returns the state of a gateway that is followed, where what was found out says more than its supervisor does.
    const fn followed(self, live: LiveState) -> Self {
        match (self, live) {
            (Self::Up | Self::Ready | Self::Starting, LiveState::Said(Liveness::Unresponsive)) => {
                Self::Unresponsive
            }
            (Self::Up | Self::Ready, LiveState::Said(Liveness::Degraded)) => Self::Degraded,
            (Self::Up | Self::Ready, LiveState::Said(Liveness::Draining)) => Self::Draining,
            (Self::Up | Self::Ready | Self::Starting, LiveState::Said(Liveness::Traced)) => Self::Traced,
            _ => self,
        }
    }
}

impl From<&StateName> for ServiceState {
    fn from(name: &StateName) -> Self {
        match name {
            StateName::Up => Self::Up,
            StateName::Ready => Self::Ready,
            StateName::Starting => Self::Starting,
            StateName::BackingOff { .. } => Self::BackingOff,
            StateName::Stopping => Self::Stopping,
            StateName::Finishing => Self::Finishing,
            StateName::Down => Self::Down,
            StateName::Failed { .. } => Self::Failed,
            StateName::FailedToStart { .. } => Self::FailedToStart,
            StateName::NotSupervised => Self::NotSupervised,
            StateName::Paused => Self::Paused,
            StateName::Waiting { .. } => Self::Waiting,
            StateName::Unknown => Self::Unknown,
        }
    }
}

/// Everything worth telling about one service.
///
/// Up to `normallyup`, names are those of `s6-svstat -o`. What there is none of is null, and never a number or a word
/// that stands for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "the fields are those of s6-svstat")]
pub struct ServiceReport {
    /// The profile, for a gateway.
    pub profile: Option<ProfileName>,
    /// The name in the scandir.
    pub service: String,
    /// Whether it is up: whether its command is executed and has not ended.
    pub up: bool,
    /// Whether it is known to be ready.
    pub ready: bool,
    /// Its process, if there is one.
    pub pid: Option<i32>,
    /// Whether its supervisor wants it up.
    pub wantedup: bool,
    /// Whether it is up by default.
    pub normallyup: bool,
    /// Seconds since it came up or went down; 0 if that never happened.
    pub updownfor: u64,
    /// The exit code of its last death; none while it is up, before its first start, or if a signal ended it.
    pub exitcode: Option<i32>,
    /// The signal of its last death; none while it is up, before its first start, or if no signal ended it.
    pub signal: Option<String>,
    /// The state in one word.
    pub state: ServiceState,
    /// Why it is in that state, where that is known.
    pub reason: Option<String>,
    /// The program that supervises its scandir, such as `s6-svscan`; `None` where nobody supervises it, or where the
    /// program cannot be told.
    pub supervisor: Option<String>,
    /// Starts that followed a death that nobody asked for; `None` where nobody supervises it, and under s6, which does not
    /// tell such a death from others.
    pub restarts: Option<u64>,
    /// Starts that followed a stop, a restart or a signal that somebody asked for; `None` as for `restarts`.
    pub commanded_restarts: Option<u64>,
    /// How long its last process that ended had been up, in milliseconds, where its supervisor says so.
    pub last_run_ms: Option<u64>,
    /// Milliseconds until it is started again, where that is due.
    pub next_start_in_ms: Option<u64>,
    /// Resident memory of all its processes in bytes; pages that they share count once for each.
    pub memory_bytes: Option<u64>,
    /// All its processes, also those that have gone to the background.
    pub processes: Option<u32>,
    /// Milliseconds of processors that these have used.
    pub cpu_ms: Option<u64>,
    /// Its last deaths, the latest first.
    pub deaths: Vec<DeathReport>,
    /// What is asked for it: what decides at the next boot.
    pub desired_state: Option<String>,
    /// Who asked for it.
    pub desired_by: Option<Provenance>,
    /// Why, in the requester's words.
    pub desired_reason: Option<String>,
    /// When, in RFC 3339, as far as that is known.
    pub desired_at: Option<String>,
    /// Whether another program than ours wrote what is desired, so that nobody can say who and why.
    pub desired_by_another: bool,
    /// What could not be found out, and why.
    pub problem: Option<String>,
    /// Why its lines are not kept, as long as they are not.
    pub log_problem: Option<String>,
    /// Since when, in RFC 3339.
    pub log_problem_since: Option<String>,
    /// A port that it wants and somebody else has, and who that is, where it is not up.
    pub port_held: Option<String>,
    /// The process that has it, where it may be looked into.
    pub port_holder: Option<i32>,
    /// Whether it works, as far as it is followed.
    pub live: Option<LiveReport>,
    /// Why the watcher of gateways ended a process of it last, if it ever did.
    pub live_restart: Option<LiveRestart>,
    /// Whether its service directory is not what the agent definition makes of it now: one of the two was edited.
    pub older_than_definition: bool,
}

impl ServiceReport {
    /// Returns when the last process that ended began, as far as its supervisor says so.
    pub fn last_began(&self) -> Option<SystemTime> {
        let died = self.deaths.first()?.at.parse::<jiff::Timestamp>().ok()?;
        SystemTime::from(died).checked_sub(Duration::from_millis(self.last_run_ms?).saturating_add(SLACK))
    }

    /// Returns who set its desired state, when and why.
    pub fn said(&self) -> Said<'_> {
        Said {
            by: self.desired_by.as_ref(),
            by_another: self.desired_by_another,
            at: self.desired_at.as_deref(),
            reason: self.desired_reason.as_deref(),
        }
    }

    /// Returns the report of a service of this supervisor's scandir.
    pub(super) fn under(mut self, supervisor: Option<&String>) -> Self {
        self.supervisor = supervisor.filter(|_| self.state != ServiceState::NotSupervised).cloned();
        // Ours counts, and says nothing as long as there is nothing to count.
        if self.supervisor.as_deref() == Some(gatevisor_client::OURS) && self.state != ServiceState::Unknown {
            self.restarts.get_or_insert(0);
            self.commanded_restarts.get_or_insert(0);
        }
        self
    }

    /// Returns the report of a service of a container that stands so to the lock of the home.
    #[must_use]
    pub(super) fn standing(mut self, standing: &Standing) -> Self {
        if self.profile.is_some() && !standing.allows() {
            self.problem = Some(standing.to_string());
        }
        self
    }

    /// Returns the report of a service whose log daemon notes this error.
    #[must_use]
    pub(super) fn keeping(mut self, log_error: Option<&LogError>) -> Self {
        // What nobody supervises, nobody logs; the note is of one who did.
        let log_error = log_error.filter(|_| self.state != ServiceState::NotSupervised);
        self.log_problem = log_error.map(|log_error| log_error.reason.clone());
        self.log_problem_since = log_error.map(|log_error| moment(log_error.since));
        self
    }

    /// Returns whether it is not up although it should be.
    pub const fn fails(&self) -> bool {
        matches!(self.state, ServiceState::Failed | ServiceState::FailedToStart | ServiceState::BackingOff)
    }

    /// Returns the report of a gateway one of whose ports somebody else has. What its exit code means beside that says less.
    #[must_use]
    pub(super) fn without_port(mut self, held: Option<&HeldPort>) -> Self {
        if let Some(held) = held {
            let code = self.exitcode.map_or_else(String::new, |code| format!("; exit {code}"));
            self.reason = Some(format!("{held}{code}"));
        }
        self.port_held = held.map(ToString::to_string);
        self.port_holder = held.and_then(|held| held.pid);
        self
    }

    /// Returns the report of a gateway that another profile's gateway serves, if that is so.
    #[must_use]
    pub(super) fn served(mut self, by: Option<&ProfileName>) -> Self {
        let is_down = self.fails() || matches!(self.state, ServiceState::Down | ServiceState::NotSupervised);
        if let Some(by) = by.filter(|_| is_down) {
            self.state = ServiceState::Served;
            self.reason = Some(format!("by {by}"));
        }
        self
    }

    /// Returns the report of a service that is followed, or is not.
    #[must_use]
    pub(super) fn followed(mut self, live: Option<LiveReport>, restarted: Option<LiveRestart>) -> Self {
        if let Some(live) = &live {
            let state = self.state.followed(live.state);
            if state != self.state {
                self.state = state;
                self.reason.clone_from(&live.reason);
            }
        }
        self.live = live;
        self.live_restart = restarted;
        self
    }

    /// Returns the report of a service whose directory is older than the definition, or is not.
    #[must_use]
    pub(super) const fn older(mut self, is_older: bool) -> Self {
        self.older_than_definition = is_older;
        self
    }

    /// Returns the report that these facts make.
    ///
    /// `desired state` is what the profile's state file says, or what is wrong with it. The supervisor is not among the facts.
    pub fn new(
        agent: &AgentDefinition,
        observed: &Observed,
        desired_state: Option<Result<Option<Recorded>, String>>,
        memory: Option<Usage>,
        now: Tai64n,
    ) -> Self {
        let supervised = !matches!(observed.state, StateName::NotSupervised | StateName::Unknown);
        // What a supervisor that is no more said last is not so any more.
        let status = observed.status.filter(|_| supervised);
        let (recorded, broken) = match desired_state {
            Some(Ok(recorded)) => (recorded.unwrap_or_default(), None),
            Some(Err(reason)) => (Recorded::default(), Some(reason)),
            None => (Recorded::default(), None),
        };
        let desired_state = recorded.prior.word().map(str::to_owned);
        let (state, reason) = state_and_reason(agent, observed, desired_state.as_deref());
        let policy = observed.policy.as_ref().filter(|_| supervised);
        let running = observed.executed && status.is_some_and(|status| status.is_up());
        // Ours says nothing as long as there is nothing to say; a genuine s6 never does.
        let nothing = PublishedPolicy::default();
        let counted = status.and(if observed.deaths.is_empty() { policy.or(Some(&nothing)) } else { policy });
        let until = observed.state.until_unix_ms().filter(|_| !running);
        let last =
            status.filter(|status| !status.is_up() && !status.never_started()).map(|status| status.last);
        let left = until.map(|until| u64::try_from(until.saturating_sub(now.to_unix_ms())).unwrap_or(0));
        Self {
            profile: observed.profile.clone(),
            service: observed.service.clone(),
            up: running,
            ready: running && status.is_some_and(|status| status.ready),
            pid: status.and_then(|status| status.pid).map(gatevisor_wire::Pid::get),
            wantedup: status.is_some_and(|status| status.want_up),
            normallyup: observed.normally_up,
            updownfor: status.map_or(0, |status| updown_for(&status, now)),
            exitcode: last.and_then(gatevisor_wire::wait::WaitStatus::exit_code).map(i32::from),
            signal: last.and_then(gatevisor_wire::wait::WaitStatus::signal).map(signal_name),
            state,
            reason,
            supervisor: None,
            restarts: counted.map(|policy| policy.restarts),
            commanded_restarts: counted.map(|policy| policy.commanded),
            last_run_ms: policy.and_then(|policy| policy.ran_ms),
            next_start_in_ms: left,
            memory_bytes: memory.filter(|_| supervised).map(|usage| usage.memory_bytes),
            processes: memory.filter(|_| supervised).map(|usage| usage.processes),
            cpu_ms: memory.filter(|_| supervised).map(|usage| usage.cpu_ms),
            deaths: deaths(agent, observed, DEATHS),
            desired_state,
            desired_by: recorded.desired_by,
            desired_reason: recorded.desired_reason,
            desired_at: recorded.desired_at,
            desired_by_another: recorded.desired_by_another,
            problem: observed.problem.clone().or(broken),
            log_problem: None,
            log_problem_since: None,
            port_held: None,
            port_holder: None,
            live: None,
            live_restart: None,
            older_than_definition: false,
        }
    }
}

/// Returns the state, and why it is so.
///
/// A genuine s6 does not say that a service failed for good: it is wanted down then, like one that was stopped. Where
/// it is desired to run and its last exit code is one that means so, it failed.
fn state_and_reason(
    agent: &AgentDefinition,
    observed: &Observed,
    desired: Option<&str>,
) -> (ServiceState, Option<String>) {
    let state = ServiceState::from(&observed.state);
    let code =
        observed.status.filter(|status| !status.never_started()).and_then(|status| status.last.exit_code());
    let fatal = code.filter(|code| observed.fail_codes.contains(code));
    let explained = |code: u8| match meaning(agent, observed, code) {
        Some(meaning) => format!("exit {code}: {meaning}"),
        None => format!("exit {code}"),
    };
    match (state, fatal) {
        (ServiceState::Down, Some(code)) if desired == Some("running") => {
            (ServiceState::Failed, Some(explained(code)))
        }
        (ServiceState::Failed, Some(code)) => (ServiceState::Failed, Some(explained(code))),
        (ServiceState::BackingOff, _) => {
            let last = observed.status.map(|status| match status.last.exit_code() {
                Some(code) => explained(code),
                None => cause(observed).unwrap_or_else(|| status.last.to_string()),
            });
            match observed.policy.as_ref().and_then(|policy| policy.ran_ms) {
                Some(ran_ms) if ran_ms < agent.gateway.start_window_ms => {
                    let how = last.unwrap_or_else(|| "nobody says how".to_owned());
                    (
                        ServiceState::FailedToStart,
                        Some(format!("ended {} after its start: {how}", seconds(ran_ms))),
                    )
                }
                _ => (state, last),
            }
        }
        (ServiceState::Starting, _) => (state, observed.not_ready.clone()),
        _ => (state, observed.state.reason().map(str::to_owned)),
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

fn updown_for(status: &Status, now: Tai64n) -> u64 {
    if status.never_started() { 0 } else { now.since(status.changed).map_or(0, |since| since.as_secs()) }
}
