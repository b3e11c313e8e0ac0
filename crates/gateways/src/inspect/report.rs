//! *Lives here:* the report of one service, with the field names that programs rely on.
//!
//! *Does not live here:* gathering what is in it.

use gatevisor_client::status_view::StateName;
use gatevisor_slot::home_lock::Standing;
use gatevisor_slot::start_permits::StartDelay;
use gatevisor_wire::log_error::LogError;
use gatevisor_wire::policy::PublishedPolicy;
use gatevisor_wire::status::Status;
use gatevisor_wire::tai::Tai64n;
use gatevisor_wire::tally::Death;
use serde::Serialize;

use super::deaths::{DeathReport, deaths, moment, signal_name};
use super::delay::left_ms;
use super::failed_start::{TriedAgain, ended_by_itself_ms, tried_again};
use super::reason::state_and_reason;
use super::runs::RunLines;
use super::served::ServedReport;
use super::state::ServiceState;
use crate::agent::{AgentDefinition, ServedFrom};
use crate::declared::DeclaredReport;
use crate::desired::{DesiredOrigin, Recorded};
use crate::drain::DrainReport;
use crate::live::{LiveReport, LiveRestart};
use crate::manager::Observed;
use crate::ports::HeldPort;
use crate::profile::ProfileName;
use crate::ticket::TicketReport;
use crate::topology::DecidedProfile;
use crate::tree::Usage;

/// Why a gateway does nothing whose process is in the kernel's state `T`.
pub(crate) const STOPPED: &str = "a signal has stopped its process";
/// The most deaths in a report.
const DEATHS: usize = 10;

/// Everything worth telling about one service.
///
/// The names up to `normallyup` are those of `s6-svstat -o`. A value that does not exist, or that
/// nobody can tell because permission is denied, is null, and never a number or a word that stands
/// for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceReport {
    /// The profile, for a gateway.
    pub profile: Option<ProfileName>,
    /// The name in the scandir.
    pub service: String,
    /// Whether it is up: its command was executed and has not ended.
    pub up: Option<bool>,
    /// Whether it is known to be ready.
    pub ready: Option<bool>,
    /// Its process, if there is one and a supervisor holds it.
    pub pid: Option<i32>,
    /// The process that runs without a supervisor, because that was killed, if there is one. What
    /// only a supervisor could tell of it is null.
    pub orphan_pid: Option<i32>,
    /// Whether its supervisor wants it up.
    pub wantedup: Option<bool>,
    /// Whether it is up by default.
    pub normallyup: Option<bool>,
    /// Seconds since it came up or went down; 0 if that never happened.
    pub updownfor: Option<u64>,
    /// The exit code of its last death; none while it is up, before its first start, or if a signal
    /// ended it.
    pub exitcode: Option<i32>,
    /// The signal of its last death; none while it is up, before its first start, or if no signal
    /// ended it.
    pub signal: Option<String>,
    /// The state in one word.
    pub state: ServiceState,
    /// Why it is in that state, where that is known.
    pub reason: Option<String>,
    /// The program that supervises its scandir, such as `s6-svscan`. `None` if no supervisor runs,
    /// or the program is unknown.
    pub supervisor: Option<String>,
    /// Starts after a death that nobody requested. `None` if no supervisor runs, and under s6,
    /// which does not distinguish such a death.
    pub restarts: Option<u64>,
    /// Starts after a stop, a restart or a signal that somebody requested. `None` as for
    /// `restarts`.
    pub commanded_restarts: Option<u64>,
    /// For how many milliseconds its last process that ended was up, if its supervisor reports
    /// that.
    pub last_run_ms: Option<u64>,
    /// Milliseconds until its next start, if it waits for one.
    pub next_start_in_ms: Option<u64>,
    /// Resident memory of all its processes in bytes. A shared page counts once for each process.
    pub memory_bytes: Option<u64>,
    /// The number of all its processes, also of those in the background.
    pub processes: Option<u32>,
    /// Processor time of these processes in milliseconds.
    pub cpu_ms: Option<u64>,
    /// Its last deaths, the latest first.
    pub deaths: Option<Vec<DeathReport>>,
    /// Its desired state, which decides at the next boot.
    pub desired_state: Option<String>,
    /// Why nobody can tell what is desired, or that what is recorded means nothing.
    pub desired_problem: Option<String>,
    /// Who set it, when and why.
    #[serde(flatten)]
    pub origin: DesiredOrigin,
    /// What a file outside of the home declares of it, if one does.
    pub declared: Option<DeclaredReport>,
    /// How many starts wait before its own, where that waits for its turn.
    pub queued: Option<usize>,
    /// The service after whose start it starts, where it waits for that.
    pub starts_after: Option<String>,
    /// What could not be found out, and why.
    pub problem: Option<String>,
    /// Why its lines cannot be kept at present.
    pub log_problem: Option<String>,
    /// Since when they cannot be kept, in RFC 3339.
    pub log_problem_since: Option<String>,
    /// A port that it wants and another process has, with that process.
    pub port_held: Option<String>,
    /// The process that has the port, if it may be looked into.
    pub port_holder: Option<i32>,
    /// Whether it works, if it is followed.
    pub live: Option<LiveReport>,
    /// The drain that somebody carries out, if anybody does.
    pub drain: Option<DrainReport>,
    /// What it last asked for, if it ever asked for its own restart.
    pub asked_restart: Option<TicketReport>,
    /// Why the watcher of gateways last ended a process of it.
    pub live_restart: Option<LiveRestart>,
    /// The gateway that serves the profile, where that is another profile's.
    pub served: Option<ServedReport>,
    /// Which gateway should serve the profile.
    pub served_from: ServedFrom,
    /// Why it cannot be told which gateway serves the profile, so that what was known last counts.
    pub topology_problem: Option<String>,
    /// Whether its service directory is not what the agent definition makes of it now, or its
    /// process was started before the directory was made so; `None` if nobody can tell.
    pub older_than_definition: Option<bool>,
    /// For how many milliseconds its last process had been up, if nobody had asked for its end and
    /// what it left is being ended now.
    #[serde(skip)]
    pub ended_by_itself_ms: Option<u64>,
    /// That this is a start after one that failed, and has not shown yet that it works.
    #[serde(skip)]
    pub tried_again: Option<TriedAgain>,
    /// When its runs wrote their lines; not in a survey of all services.
    #[serde(skip)]
    pub lines: RunLines,
    /// All deaths that its supervisor remembers, the oldest first.
    #[serde(skip)]
    pub tally: Vec<Death>,
    /// How many milliseconds its present run took to become ready, the wait for its turn to start
    /// included.
    #[serde(skip)]
    pub ready_after_ms: Option<u64>,
}

impl ServiceReport {
    /// Returns what people call it: the profile, or the service's name.
    pub fn name(&self) -> &str {
        self.profile.as_ref().map_or(&*self.service, ProfileName::as_str)
    }

    /// Returns the report of a service of this supervisor's scandir.
    pub(super) fn under(mut self, supervisor: Option<&String>) -> Self {
        self.supervisor = supervisor.filter(|_| self.state != ServiceState::NotSupervised).cloned();
        // Our supervisor counts, and writes nothing as long as there is nothing to count.
        if self.supervisor.as_deref() == Some(gatevisor_client::OURS) && self.state != ServiceState::Unknown {
            self.restarts.get_or_insert(0);
            self.commanded_restarts.get_or_insert(0);
        }
        self
    }

    /// Returns the report of a service of which a killed supervisor left this process, or nothing
    /// that is known to be its own, but perhaps something. Nobody can tell whether that process is
    /// what it was, and nobody looks after it.
    #[must_use]
    pub(super) const fn orphaned(mut self, pid: Option<i32>, may_be_left: bool) -> Self {
        if pid.is_some() || may_be_left {
            (self.up, self.ready, self.wantedup, self.updownfor) = (None, None, None, None);
        }
        self.orphan_pid = pid;
        self
    }

    /// Returns the report of a service in a container that stands like this to the lock of the
    /// home.
    #[must_use]
    pub(super) fn standing(mut self, standing: &Standing) -> Self {
        if self.profile.is_some() && !standing.allows() {
            self.problem = Some(standing.to_string());
        }
        self
    }

    /// Returns the report of a service whose log daemon notes this error.
    #[must_use]
    pub(super) fn with_log_error(mut self, log_error: Option<&LogError>) -> Self {
        // A service without a supervisor has no log daemon, so the note is old.
        let log_error = log_error.filter(|_| self.state != ServiceState::NotSupervised);
        self.log_problem = log_error.map(|log_error| log_error.reason.clone());
        self.log_problem_since = log_error.map(|log_error| moment(log_error.since));
        self
    }

    /// Returns the report of a service whose runs wrote their lines then.
    #[must_use]
    pub(super) const fn writing(mut self, lines: RunLines) -> Self {
        self.lines = lines;
        self
    }

    /// Returns whether it is known to be up.
    pub fn is_up(&self) -> bool {
        self.up == Some(true)
    }

    /// Returns its last deaths, the latest first, as far as they are known.
    pub fn deaths(&self) -> &[DeathReport] {
        self.deaths.as_deref().unwrap_or_default()
    }

    /// Returns whether it shall run: its supervisor wants it up, or its desired state is running.
    /// `None` if nobody can tell.
    pub fn is_wanted(&self) -> Option<bool> {
        if self.desired_state.as_deref() == Some("running") { Some(true) } else { self.wantedup }
    }

    /// Returns whether it does what it is there for. Of a gateway that should be watched, and that
    /// nobody watches, that is not the case; `None` if it may not be looked at.
    pub fn is_healthy(&self) -> Option<bool> {
        let is_seen = self.state != ServiceState::Unknown;
        is_seen.then(|| self.state.works() && !self.live.as_ref().is_some_and(LiveReport::is_unknown))
    }

    /// Returns whether it has shown that it works, and still does; `None` if that is not known.
    /// What is seen of its process counts, too: the watcher may not have noticed it yet.
    pub fn is_live(&self) -> Option<bool> {
        let live = self.live.as_ref()?;
        // What is paused does nothing, whatever it showed before.
        let is_still = matches!(self.state, ServiceState::Unresponsive | ServiceState::Paused);
        let is_unresponsive = is_still || live.is_unresponsive();
        (is_unresponsive || live.has_shown()).then_some(!is_unresponsive)
    }

    /// Returns whether it is not up although it should be.
    pub const fn fails(&self) -> bool {
        self.state.fails()
    }

    /// Returns the report of a gateway one of whose ports another process has. That tells more than
    /// its exit code.
    #[must_use]
    pub(super) fn without_port(mut self, held: Option<&HeldPort>) -> Self {
        if let Some(held) = held.filter(|_| self.fails()) {
            let code = self.exitcode.map_or_else(String::new, |code| format!("; exit {code}"));
            self.reason = Some(format!("{held}{code}"));
        }
        self.port_held = held.map(ToString::to_string);
        self.port_holder = held.and_then(|held| held.pid);
        self
    }

    /// Returns the report of a gateway that the gateway of another profile serves, if one does.
    #[must_use]
    pub(super) fn served(mut self, served: Option<ServedReport>) -> Self {
        let is_down = self.fails() || matches!(self.state, ServiceState::Down | ServiceState::NotSupervised);
        if let Some(served) = served.as_ref().filter(|_| is_down) {
            self.state = ServiceState::Served;
            self.reason = Some(format!("by {} (pid {})", served.by, served.pid));
        }
        self.served = served;
        self
    }

    /// Returns the report of a gateway that is down because of the topology, if it is: `why` says
    /// so.
    #[must_use]
    pub(super) fn because(mut self, why: Option<String>) -> Self {
        if let Some(why) = why.filter(|_| self.state == ServiceState::Down) {
            self.reason = Some(why);
        }
        self
    }

    /// Returns the report with which gateway should serve the profile, and what cannot be told.
    #[must_use]
    pub(super) fn decided(mut self, decided: DecidedProfile) -> Self {
        self.served_from = decided.from;
        self.topology_problem = decided.problem;
        self
    }

    /// Returns the report of a service that is followed, or is not.
    #[must_use]
    pub(super) fn followed(mut self, live: Option<LiveReport>, restarted: Option<LiveRestart>) -> Self {
        if live.as_ref().is_some_and(LiveReport::has_shown) {
            self = self.succeeded();
        }
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

    /// Returns the report of a service whose present process has shown that it works. A failed
    /// start before it is over then, also within the start window.
    fn succeeded(mut self) -> Self {
        if let Some(TriedAgain { is_announced: false, .. }) = self.tried_again.take() {
            (self.state, self.reason) = (ServiceState::Up, None);
        }
        self
    }

    /// Returns the report of a service whose process a signal has stopped, or has not. Whatever it
    /// was, it does nothing now.
    #[must_use]
    pub(super) fn stopped_by_signal(mut self, is_stopped: bool) -> Self {
        if is_stopped && self.state.stops() {
            self.state = ServiceState::Unresponsive;
            self.reason = Some(STOPPED.to_owned());
        }
        self
    }

    /// Returns the report of a service whose process has ended, if a signal has stopped its
    /// supervisor, this process, which would have noticed.
    #[must_use]
    pub(super) fn ended_unseen(mut self, supervisor: Option<gatevisor_wire::Pid>) -> Self {
        let is_over = matches!(self.state, ServiceState::Unresponsive | ServiceState::Finishing);
        if let Some(supervisor) = supervisor.filter(|_| is_over || self.state.stops()) {
            self.state = ServiceState::Unresponsive;
            self.reason = Some(format!(
                "its process has ended, and a signal has stopped the supervisor (process {supervisor}): \
                 `kill -CONT {supervisor}` continues it"
            ));
        }
        self
    }

    /// Returns the report of a service that somebody drains, or nobody does.
    /// `draining` goes before `degraded`, which a drained one may say of itself.
    #[must_use]
    pub(super) fn draining(mut self, drain: Option<DrainReport>) -> Self {
        let drains = self.state.works() && self.state != ServiceState::Served;
        if let Some(drain) = drain.as_ref().filter(|_| drains) {
            self.state = ServiceState::Draining;
            let unknown =
                drain.reason.as_ref().map(|why| format!("nothing tells whether it has work: {why}"));
            self.reason = unknown.or_else(|| Some(drain.by.clone()));
        }
        self.drain = drain;
        self
    }

    /// Returns a report that says nothing yet.
    fn blank(observed: &Observed) -> Self {
        Self {
            profile: observed.profile.clone(),
            service: observed.service.clone(),
            up: None,
            ready: None,
            pid: None,
            orphan_pid: None,
            wantedup: None,
            normallyup: None,
            updownfor: None,
            exitcode: None,
            signal: None,
            state: ServiceState::Unknown,
            reason: None,
            supervisor: None,
            restarts: None,
            commanded_restarts: None,
            last_run_ms: None,
            next_start_in_ms: None,
            memory_bytes: None,
            processes: None,
            cpu_ms: None,
            deaths: None,
            desired_state: None,
            desired_problem: None,
            origin: DesiredOrigin::default(),
            declared: None,
            queued: None,
            starts_after: None,
            problem: None,
            log_problem: None,
            log_problem_since: None,
            port_held: None,
            port_holder: None,
            live: None,
            drain: None,
            asked_restart: None,
            live_restart: None,
            served: None,
            served_from: ServedFrom::Own,
            topology_problem: None,
            older_than_definition: Some(false),
            ended_by_itself_ms: None,
            tried_again: None,
            lines: RunLines::default(),
            tally: Vec::new(),
            ready_after_ms: None,
        }
    }

    /// Returns the report that these facts make.
    ///
    /// `desired state` is what the profile's state file says, or what is wrong with it. The
    /// supervisor is not among the facts.
    pub fn new(
        agent: &AgentDefinition,
        observed: &Observed,
        desired_state: Option<Result<Option<Recorded>, String>>,
        memory: Option<Usage>,
        now: Tai64n,
    ) -> Self {
        let is_known = observed.state != StateName::Unknown;
        let supervised = is_known && observed.state != StateName::NotSupervised;
        // What a supervisor that does not run any more reported last is not true any more.
        let status = observed.status.filter(|_| supervised);
        let recorded = desired_state.unwrap_or(Ok(None));
        let broken = recorded.as_ref().err().cloned();
        let recorded = recorded.map_or_else(|why| Recorded::unknown(&why), Option::unwrap_or_default);
        let desired_state = recorded.prior.word().map(str::to_owned);
        let tried_again = tried_again(observed, agent.gateway.start_window_ms, now);
        let (state, reason) = state_and_reason(agent, observed, desired_state.as_deref(), tried_again);
        let policy = observed.policy.as_ref().filter(|_| supervised);
        let running = observed.executed && status.is_some_and(|status| status.is_up());
        let counted = status.and_then(|_| counted_restarts(observed, policy));
        let ended = status.filter(|status| !status.is_up() && !status.never_started());
        Self {
            up: is_known.then_some(running),
            ready: is_known.then(|| running && status.is_some_and(|status| status.ready)),
            pid: status.and_then(|status| status.pid).map(gatevisor_wire::Pid::get),
            wantedup: is_known.then(|| status.is_some_and(|status| status.want_up)),
            normallyup: observed.normally_up,
            updownfor: is_known.then(|| status.map_or(0, |status| updown_for(&status, now))),
            exitcode: ended.and_then(|status| status.last.exit_code()).map(i32::from),
            signal: ended.and_then(|status| status.last.signal()).map(signal_name),
            state,
            reason,
            restarts: counted.map(|(by_itself, _)| by_itself),
            commanded_restarts: counted.map(|(_, commanded)| commanded),
            last_run_ms: policy.and_then(|policy| policy.ran_ms),
            next_start_in_ms: left_ms(observed, now).filter(|_| !running),
            memory_bytes: memory.filter(|_| supervised).map(|usage| usage.memory_bytes),
            processes: memory.filter(|_| supervised).map(|usage| usage.processes),
            cpu_ms: memory.filter(|_| supervised).map(|usage| usage.cpu_ms),
            deaths: Some(deaths(agent, observed, DEATHS)).filter(|deaths| is_known || !deaths.is_empty()),
            desired_state,
            desired_problem: broken.clone(),
            origin: recorded.origin,
            queued: observed.delay.as_ref().and_then(StartDelay::before),
            starts_after: observed.delay.as_ref().and_then(StartDelay::after),
            problem: observed.problem.clone().or(broken),
            ended_by_itself_ms: ended_by_itself_ms(observed),
            tried_again,
            tally: observed.deaths.clone(),
            ready_after_ms: status.filter(|_| running).and_then(|status| ready_after_ms(&status)),
            ..Self::blank(observed)
        }
    }
}

/// Returns how often a service was started after a death that nobody requested, and after one that
/// somebody did, if that is counted.
fn counted_restarts(observed: &Observed, policy: Option<&PublishedPolicy>) -> Option<(u64, u64)> {
    // Our supervisor writes no policy while there is nothing to say, and a genuine s6 never.
    let none = observed.deaths.is_empty().then_some((0, 0));
    policy.map(|policy| (policy.restarts, policy.commanded)).or(none)
}

/// Returns the milliseconds between the start of a run and its readiness, if it is ready.
fn ready_after_ms(status: &Status) -> Option<u64> {
    let after = status.ready_at.since(status.changed).filter(|_| status.ready)?;
    u64::try_from(after.as_millis()).ok()
}

fn updown_for(status: &Status, now: Tai64n) -> u64 {
    if status.never_started() { 0 } else { now.since(status.changed).map_or(0, |since| since.as_secs()) }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use gatevisor_liveness::Liveness;

    use super::*;
    use crate::inspect::tests::up;
    use crate::live::LiveState;

    /// Returns the report of a gateway that ended 5 s after its start, and has been up again for
    /// 20 s of a start window of 30 s.
    fn tried_again(live: Option<LiveReport>) -> ServiceReport {
        let mut agent = AgentDefinition::built_in().unwrap();
        agent.gateway.start_window_ms = 30_000;
        let at = |seconds: u64| Tai64n::now_from(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let observed = Observed {
            policy: Some(PublishedPolicy { failures: 1, ran_ms: Some(5_000), ..PublishedPolicy::default() }),
            deaths: vec![Death { at: at(999), exit_code: 3, signal: 0 }],
            ..up(at(1_000))
        };
        ServiceReport::new(&agent, &observed, None, None, at(1_020)).followed(live, None)
    }

    #[test]
    fn a_gateway_that_is_tried_again_is_starting_until_it_shows_that_it_works_or_its_window_is_over() {
        let live = |state| LiveReport {
            state: LiveState::Said(state),
            since: None,
            evidence: None,
            misses: 0,
            reason: None,
            policy: "warn",
            status: None,
            start_deadline_ms: 0,
        };
        for silent in [None, Some(live(Liveness::Starting)), Some(live(Liveness::Up))] {
            let report = tried_again(silent);
            assert_eq!((report.state, report.is_healthy()), (ServiceState::Starting, Some(false)));
            assert!(report.tried_again.is_some());
            let reason = report.reason.unwrap_or_default();
            assert!(reason.starts_with("ended 5.0 s after its start"), "{reason}");
        }
        for (state, expected) in [
            (Liveness::Live, ServiceState::Up),
            (Liveness::Degraded, ServiceState::Degraded),
            (Liveness::Draining, ServiceState::Draining),
        ] {
            let report = tried_again(Some(live(state)));
            assert_eq!((report.state, report.reason, report.tried_again), (expected, None, None));
        }
    }
}
