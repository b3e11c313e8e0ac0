//! *Lives here:* the words for a service's state, for people and programs, computed from the files
//! of its directory.
//!
//! *Does not live here:* tables, colours, and the desired state in a profile.

use crate::exec_watch::ends_survivors;
use crate::{ExecProgress, ServiceDir, StatusError};
use gatevisor_sys::proc::Process;
use gatevisor_wire::{
    Pid,
    exit::{COMMAND_NOT_REACHED, error_chain},
    files::POLICY,
    policy::{ENDING_SURVIVORS, PublishedPolicy, RestartPhase},
    started::Announcer,
    status::Status,
    tai::Tai64n,
};
use std::{fmt, io};

/// The state of a service in the words that users see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateName {
    /// Up: its command is executed. Nobody announces whether it works.
    Up,
    /// Up, and known to be ready.
    Ready,
    /// Its command is about to be executed, or runs and has not announced its readiness yet.
    Starting,
    /// Down, and it will be started again.
    BackingOff {
        /// When, in milliseconds of Unix time, if the supervisor tells.
        until_unix_ms: Option<i64>,
    },
    /// Still up, but wanted down.
    Stopping,
    /// Its process has ended, and its finish script runs, or its supervisor is about to notice.
    Finishing,
    /// Down, and wanted down.
    Down,
    /// Down for good: it will not be started again by itself.
    Failed {
        /// The supervisor's reason, if it gives one.
        reason: Option<String>,
    },
    /// Down because its command could not be executed. It will be tried again.
    FailedToStart {
        /// The failed stage, and the system's error.
        reason: Option<String>,
        /// When it will be tried again, in milliseconds of Unix time, if the supervisor tells.
        until_unix_ms: Option<i64>,
    },
    /// No supervisor has it.
    NotSupervised,
    /// Up, and paused by a command.
    Paused,
    /// Down because processes left over from an earlier run are being ended first.
    Waiting {
        /// Which processes.
        reason: Option<String>,
    },
    /// Down, and it is being asked whether it wants to be started again.
    Asking {
        /// How it ended, and what went wrong when it was asked before.
        reason: Option<String>,
        /// When it will be asked again, in milliseconds of Unix time, if that is not now.
        until_unix_ms: Option<i64>,
    },
    /// We have no right to look at it.
    Unknown,
}

impl StateName {
    /// Returns the word for the state.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::BackingOff { .. } => "backing off",
            Self::Stopping => "stopping",
            Self::Finishing => "finishing",
            Self::Down => "down",
            Self::Failed { .. } => "failed",
            Self::FailedToStart { .. } => "failed to start",
            Self::NotSupervised => "not supervised",
            Self::Paused => "paused",
            Self::Waiting { .. } => "waiting",
            Self::Asking { .. } => "asking",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the reason for the state, if it is known.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Failed { reason }
            | Self::FailedToStart { reason, .. }
            | Self::Waiting { reason }
            | Self::Asking { reason, .. } => reason.as_deref(),
            _ => None,
        }
    }

    /// Returns when the next start is due, in milliseconds of Unix time, if one is due and the time
    /// is known.
    pub const fn until_unix_ms(&self) -> Option<i64> {
        match self {
            Self::BackingOff { until_unix_ms }
            | Self::FailedToStart { until_unix_ms, .. }
            | Self::Asking { until_unix_ms, .. } => *until_unix_ms,
            _ => None,
        }
    }

    /// Derives the state from these facts.
    ///
    /// `progress` is that of the process in the status; `start_error` is why the last start failed
    /// before the service's command was reached.
    pub fn of(
        supervised: bool,
        status: Option<&Status>,
        policy: Option<&PublishedPolicy>,
        progress: ExecProgress,
        start_error: Option<&str>,
    ) -> Self {
        match status {
            Some(status) if supervised && !status.is_up() && is_clearing(policy) => {
                Self::Waiting { reason: policy.and_then(|policy| policy.reason.clone()) }
            }
            Some(status) if supervised && !status.is_up() && is_asking(status, policy) => Self::Asking {
                reason: policy.and_then(|policy| policy.reason.clone()),
                until_unix_ms: policy.and_then(|policy| policy.until).map(Tai64n::to_unix_ms),
            },
            Some(status) if supervised && status.pid.is_some() => Self::of_running(status, progress),
            Some(status) if supervised => Self::of_down(status, policy, start_error),
            _ => Self::NotSupervised,
        }
    }

    /// Returns the state, unless what looks like a finish script ends what the service left behind.
    fn unless_ending_survivors(self, status: Option<&Status>) -> Self {
        let ends = || status.and_then(|status| status.pid).is_some_and(ends_survivors);
        if self == Self::Finishing && ends() {
            return Self::Waiting { reason: Some(ENDING_SURVIVORS.to_owned()) };
        }
        self
    }

    const fn of_running(status: &Status, progress: ExecProgress) -> Self {
        match progress {
            _ if status.finishing => Self::Finishing,
            // What it was is over. Its supervisor decides in a moment what comes next.
            ExecProgress::Ended => Self::Finishing,
            _ if status.paused => Self::Paused,
            _ if !status.want_up => Self::Stopping,
            ExecProgress::Command(_) if status.ready => Self::Ready,
            ExecProgress::Command(Announcer::Nobody) => Self::Up,
            ExecProgress::Command(Announcer::Prober | Announcer::Service) | ExecProgress::BeforeCommand => {
                Self::Starting
            }
        }
    }

    fn of_down(status: &Status, policy: Option<&PublishedPolicy>, start_error: Option<&str>) -> Self {
        let phase = policy.map_or(RestartPhase::Running, |policy| policy.phase);
        let until_unix_ms = policy.and_then(|policy| policy.until).map(Tai64n::to_unix_ms);
        let said = policy.and_then(|policy| policy.reason.as_deref());
        // The text belongs to the last start only if that start ended with one of our interpreter's
        // exit codes for failure.
        let exit_code = status.last.exit_code().filter(|_| !status.never_started());
        let start_error =
            start_error.filter(|_| exit_code.is_some_and(|code| COMMAND_NOT_REACHED.contains(&code)));
        match phase {
            RestartPhase::Failed | RestartPhase::Refused => {
                Self::Failed { reason: said.or(start_error).map(String::from) }
            }
            RestartPhase::FailedToStart => {
                Self::FailedToStart { reason: start_error.or(said).map(String::from), until_unix_ms }
            }
            // s6 has no phases, but its status says that the service is wanted up and is not.
            RestartPhase::Backoff | RestartPhase::Running
                if phase == RestartPhase::Backoff || status.want_up =>
            {
                match start_error {
                    Some(reason) => Self::FailedToStart { reason: Some(reason.into()), until_unix_ms },
                    None => Self::BackingOff { until_unix_ms },
                }
            }
            RestartPhase::Backoff | RestartPhase::Running | RestartPhase::Clearing | RestartPhase::Asking => {
                Self::Down
            }
        }
    }
}

/// Returns whether a service that is wanted up is first asked whether it wants to run.
fn is_asking(status: &Status, policy: Option<&PublishedPolicy>) -> bool {
    status.want_up && policy.is_some_and(|policy| policy.phase == RestartPhase::Asking)
}

/// Returns whether the leftovers of an earlier run are being ended first.
fn is_clearing(policy: Option<&PublishedPolicy>) -> bool {
    policy.is_some_and(|policy| policy.phase == RestartPhase::Clearing)
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// All that a service directory tells at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The state in one word.
    pub state: StateName,
    /// Whether a supervisor has the service.
    pub supervised: bool,
    /// The content of the status file, even if nobody keeps it up to date any more.
    pub status: Option<Status>,
    /// The content of the policy file; `None` under s6.
    pub policy: Option<PublishedPolicy>,
    /// Whether the service is up by default, if we may look.
    pub normally_up: Option<bool>,
    /// How far the process in the status has come; meaningless for a service that is down.
    pub progress: ExecProgress,
    /// Why the last start failed before the service's command was reached. It may be long ago.
    pub start_error: Option<String>,
    /// What could not be looked at, and why. Then the state is derived from the rest.
    pub problem: Option<String>,
}

/// Returns whether a service is paused: its supervisor has paused it, and nobody has continued it
/// behind its supervisor's back. If the process cannot be seen, its supervisor is believed. Before
/// the first start there is none, and the flag means that ([`Status::never_started`]).
pub fn is_paused(status: &Status) -> bool {
    let is_stopped = |pid: Pid| Process::of(pid.get()).is_none_or(|process| process.is_stopped);
    status.paused && status.pid.is_some_and(is_stopped)
}

/// Looks at a service directory once. Waits for nothing but the end of an exec that is under way.
pub fn observe(dir: &ServiceDir) -> Observation {
    // If the directory cannot be opened, each look at it reports that.
    let dir = &dir.held().unwrap_or_else(|_| dir.clone());
    let mut problem = None;
    let looked = dir.supervised();
    if let Err(error) = &looked {
        problem = Some(format!("cannot open control FIFO `{}`: {error}", dir.control_path().display()));
    }
    let supervised = looked.as_ref().is_ok_and(|supervised| *supervised);
    let mut is_refused = looked.as_ref().is_err_and(is_refusal);
    let status = match dir.status() {
        Ok(status) => Some(status),
        Err(StatusError::NeverSupervised { .. } | StatusError::Missing { .. }) => None,
        Err(error) => {
            is_refused |= matches!(&error, StatusError::Read { source, .. } if is_refusal(source));
            problem = problem.or_else(|| Some(error_chain(&error)));
            None
        }
    };
    // The policy is read after the status, because a newer status shows that a phase is stale, but
    // not the other way round.
    let policy = dir.look_at_policy().unwrap_or_else(|errno| {
        is_refused = true;
        problem
            .get_or_insert_with(|| format!("cannot read `{}`: {errno}", dir.path().join(POLICY).display()));
        None
    });
    let up = status.filter(Status::is_up).and_then(|status| status.pid);
    let progress = up.map_or(ExecProgress::BeforeCommand, |pid| dir.progress(pid));
    let start_error = dir.start_error();
    let state = match &looked {
        _ if is_refused => StateName::Unknown,
        Ok(_) => {
            let status = status.map(|status| match status.pid {
                Some(_) => Status { paused: is_paused(&status), ..status },
                None => status,
            });
            StateName::of(supervised, status.as_ref(), policy.as_ref(), progress, start_error.as_deref())
                .unless_ending_survivors(status.as_ref())
        }
        // Something other than a supervisor's FIFO has its place.
        Err(_) => StateName::NotSupervised,
    };
    Observation {
        state,
        supervised,
        status,
        policy,
        normally_up: dir.normally_up(),
        progress,
        start_error,
        problem,
    }
}

/// Returns whether an error means that we may not look.
fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

#[cfg(test)]
mod tests {
    use super::StateName;
    use crate::ExecProgress;
    use gatevisor_wire::{
        Pid,
        policy::{PublishedPolicy, RestartPhase},
        started::Announcer,
        status::Status,
        tai::Tai64n,
        wait::WaitStatus,
    };

    const NONE: ExecProgress = ExecProgress::BeforeCommand;

    const DOWN: Status = Status {
        changed: Tai64n::EPOCH,
        ready_at: Tai64n::EPOCH,
        pid: None,
        last: WaitStatus::exited(0),
        paused: false,
        finishing: false,
        want_up: false,
        ready: true,
    };

    fn up() -> Status {
        Status { pid: Pid::new(7), want_up: true, ready: false, ..DOWN }
    }

    fn failing(code: u8) -> Status {
        Status { want_up: true, last: WaitStatus::exited(code), ..DOWN }
    }

    fn in_phase(phase: RestartPhase) -> PublishedPolicy {
        let until = Some(Tai64n::from_unix(5, 250_000_000));
        PublishedPolicy { phase, until, reason: Some("why".into()), ..PublishedPolicy::default() }
    }

    #[test]
    fn the_words_for_states_are_exactly_these() {
        let until_unix_ms = None;
        let words = [
            StateName::Up,
            StateName::Ready,
            StateName::Starting,
            StateName::BackingOff { until_unix_ms },
            StateName::Stopping,
            StateName::Finishing,
            StateName::Down,
            StateName::Failed { reason: None },
            StateName::FailedToStart { reason: None, until_unix_ms },
            StateName::NotSupervised,
            StateName::Paused,
            StateName::Waiting { reason: None },
            StateName::Asking { reason: None, until_unix_ms },
            StateName::Unknown,
        ];
        let expected = [
            "up",
            "ready",
            "starting",
            "backing off",
            "stopping",
            "finishing",
            "down",
            "failed",
            "failed to start",
            "not supervised",
            "paused",
            "waiting",
            "asking",
            "unknown",
        ];
        assert_eq!(words.map(|state| state.to_string()), expected);
    }

    #[test]
    fn the_state_of_a_service_with_a_process_is_read_from_its_flags() {
        let (silent, probed) =
            (ExecProgress::Command(Announcer::Nobody), ExecProgress::Command(Announcer::Prober));
        for (status, progress, expected) in [
            (up(), silent, StateName::Up),
            (up(), probed, StateName::Starting),
            (up(), ExecProgress::Command(Announcer::Service), StateName::Starting),
            (up(), ExecProgress::BeforeCommand, StateName::Starting),
            (Status { ready: true, ..up() }, ExecProgress::BeforeCommand, StateName::Starting),
            (Status { ready: true, ..up() }, probed, StateName::Ready),
            (Status { paused: true, ready: true, ..up() }, probed, StateName::Paused),
            (Status { want_up: false, ready: true, ..up() }, probed, StateName::Stopping),
            (Status { finishing: true, ..up() }, probed, StateName::Finishing),
            (up(), ExecProgress::Ended, StateName::Finishing),
            (Status { want_up: false, ready: true, ..up() }, ExecProgress::Ended, StateName::Finishing),
            (Status { finishing: true, want_up: false, ..up() }, silent, StateName::Finishing),
        ] {
            // A phase from before the start means nothing.
            for policy in [None, Some(in_phase(RestartPhase::Backoff)), Some(in_phase(RestartPhase::Running))]
            {
                let state = StateName::of(true, Some(&status), policy.as_ref(), progress, Some("old"));
                assert_eq!(state, expected, "{status:?}");
            }
        }
    }

    #[test]
    fn the_state_of_a_service_without_a_process_is_read_from_request_policy_and_last_exit() {
        let until_unix_ms = Some(5250);
        let why = Some("why".to_owned());
        let error = Some("executing: no such file (errno 2)".to_owned());
        let never = Status { paused: true, ..DOWN };
        for (status, policy, expected) in [
            (DOWN, None, StateName::Down),
            (never, None, StateName::Down),
            (DOWN, Some(in_phase(RestartPhase::Running)), StateName::Down),
            // Under s6.
            (failing(1), None, StateName::BackingOff { until_unix_ms: None }),
            (failing(127), None, StateName::FailedToStart { reason: error.clone(), until_unix_ms: None }),
            // Under us.
            (failing(1), Some(in_phase(RestartPhase::Backoff)), StateName::BackingOff { until_unix_ms }),
            (
                failing(100),
                Some(in_phase(RestartPhase::Backoff)),
                StateName::FailedToStart { reason: error.clone(), until_unix_ms },
            ),
            (
                failing(126),
                Some(in_phase(RestartPhase::Backoff)),
                StateName::FailedToStart { reason: error.clone(), until_unix_ms },
            ),
            (
                failing(127),
                Some(in_phase(RestartPhase::Backoff)),
                StateName::FailedToStart { reason: error.clone(), until_unix_ms },
            ),
            (
                failing(111),
                Some(in_phase(RestartPhase::Backoff)),
                StateName::FailedToStart { reason: error.clone(), until_unix_ms },
            ),
            (
                failing(1),
                Some(in_phase(RestartPhase::FailedToStart)),
                StateName::FailedToStart { reason: why.clone(), until_unix_ms },
            ),
            (failing(78), Some(in_phase(RestartPhase::Failed)), StateName::Failed { reason: why.clone() }),
            (DOWN, Some(in_phase(RestartPhase::Refused)), StateName::Failed { reason: why.clone() }),
        ] {
            let state = StateName::of(true, Some(&status), policy.as_ref(), NONE, error.as_deref());
            assert_eq!(state, expected, "{status:?} {policy:?}");
        }
    }

    #[test]
    fn a_service_waits_while_what_an_earlier_life_left_is_being_ended_and_never_when_it_is_up() {
        let clearing = in_phase(RestartPhase::Clearing);
        let ending = Status { finishing: true, ..up() };
        for status in [DOWN, failing(1), ending] {
            let state = StateName::of(true, Some(&status), Some(&clearing), NONE, None);
            assert_eq!(state, StateName::Waiting { reason: Some("why".into()) }, "{status:?}");
        }
        assert_eq!(
            StateName::of(true, Some(&up()), Some(&clearing), ExecProgress::Command(Announcer::Nobody), None),
            StateName::Up
        );
    }

    #[test]
    fn a_service_that_ended_is_asked_until_somebody_decides_or_it_is_up() {
        let asking = in_phase(RestartPhase::Asking);
        let (at_work, again) = (Status { finishing: true, ..up() }, failing(0));
        for status in [at_work, again] {
            let state = StateName::of(true, Some(&status), Some(&asking), NONE, None);
            let expected = StateName::Asking { reason: Some("why".into()), until_unix_ms: Some(5250) };
            assert_eq!(state, expected, "{status:?}");
            assert_eq!((state.reason(), state.until_unix_ms()), (Some("why"), Some(5250)));
        }
        for (status, expected) in [
            (Status { want_up: false, ..at_work }, StateName::Finishing),
            (DOWN, StateName::Down),
            (up(), StateName::Up),
        ] {
            let progress = ExecProgress::Command(Announcer::Nobody);
            assert_eq!(StateName::of(true, Some(&status), Some(&asking), progress, None), expected);
        }
    }

    #[test]
    fn a_failure_to_start_without_its_text_is_a_back_off() {
        let state =
            StateName::of(true, Some(&failing(127)), Some(&in_phase(RestartPhase::Backoff)), NONE, None);
        assert_eq!(state, StateName::BackingOff { until_unix_ms: Some(5250) });
    }

    #[test]
    fn a_service_that_nobody_supervises_is_called_so_whatever_its_status_says() {
        for status in [None, Some(&up()), Some(&DOWN)] {
            assert_eq!(StateName::of(false, status, None, NONE, None), StateName::NotSupervised);
        }
        // It is supervised, but its status cannot be read.
        assert_eq!(StateName::of(true, None, None, NONE, None), StateName::NotSupervised);
    }

    #[test]
    fn reasons_and_times_are_given_where_there_are_any() {
        let failed = StateName::Failed { reason: Some("why".into()) };
        assert_eq!((failed.reason(), failed.until_unix_ms()), (Some("why"), None));
        let again = StateName::FailedToStart { reason: Some("how".into()), until_unix_ms: Some(1) };
        assert_eq!((again.reason(), again.until_unix_ms()), (Some("how"), Some(1)));
        assert_eq!((StateName::Up.reason(), StateName::Up.until_unix_ms()), (None, None));
    }
}
