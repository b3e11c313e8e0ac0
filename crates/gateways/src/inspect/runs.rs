//! *Lives here:* the time between whose bounds a gateway wrote the lines of one run.
//!
//! *Does not live here:* reading the lines.
//!
//! A log outlives the supervisor and the profile, so the lines of an earlier run are close to those
//! of this one. The bounds of a run must not be too late, or its first lines are missed. Both the
//! supervisor, which notes that a command was executed, and the log daemon, which stamps lines, are
//! a little late.

use std::time::{Duration, SystemTime};

use gatevisor_wire::status::Status;
use gatevisor_wire::tai::Tai64n;

use crate::manager::Observed;

/// How much later than the execution of a command its supervisor may note it.
const SLACK: Duration = Duration::from_secs(1);
/// How much later than a death the last lines of that run may be stamped.
const STAMPED: Duration = Duration::from_millis(100);

/// The moments between which a run of a gateway wrote its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineSpan {
    /// Earlier lines are not of this run.
    pub since: SystemTime,
    /// Lines from this moment on are not of this run; `None` if it is the latest run.
    pub until: Option<SystemTime>,
}

/// When the runs of a gateway wrote their lines, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunLines {
    /// The run that ended last.
    pub ended: Option<LineSpan>,
    /// The run that has not ended.
    pub present: Option<LineSpan>,
}

impl RunLines {
    /// Returns what bounds the lines of a gateway. Its supervisor and its profile began at the
    /// moments `beginnings`, as far as these are known.
    ///
    /// A run begins after the death before it, and after its supervisor and its profile. If none of
    /// these is known, when its supervisor learned of it bounds it. Where its supervisor has paused
    /// before it, it begins a little later: the last lines of the run before are stamped in that
    /// pause.
    pub(super) fn of(observed: &Observed, beginnings: [Option<SystemTime>; 2]) -> Self {
        let mut deaths = observed.deaths.iter().rev().filter_map(|death| moment(death.at));
        let (last, previous) = (deaths.next(), deaths.next());
        let status = observed.status.filter(Status::is_up);
        let executed = status.and_then(|status| moment(status.changed));
        let ran = observed.policy.as_ref().and_then(|policy| policy.ran_ms).map(Duration::from_millis);
        let latest = |death: Option<SystemTime>, end: Option<SystemTime>| {
            let before = |began: &SystemTime| end.is_none_or(|end| *began <= end);
            death.into_iter().chain(beginnings.into_iter().flatten().filter(before)).max()
        };
        let failures = observed.policy.as_ref().map_or(0, |policy| policy.failures);
        let ended = last.and_then(|died| {
            let began = ran.and_then(|ran| died.checked_sub(ran));
            let previous = previous.map(|death| after_pause(death, began.filter(|_| failures > 1)));
            let since = latest(previous, last).or_else(|| began?.checked_sub(SLACK))?;
            Some(LineSpan { since, until: executed })
        });
        let learned = || executed?.checked_sub(SLACK);
        let last = last.map(|death| after_pause(death, executed.filter(|_| failures > 0)));
        let present = status.and_then(|_| latest(last, executed).or_else(learned));
        Self { ended, present: present.map(|since| LineSpan { since, until: None }) }
    }

    /// Returns the run of a gateway as it is now: the present one, or the one that ended last.
    pub fn latest(&self) -> Option<LineSpan> {
        self.present.or(self.ended)
    }

    /// Returns the run that ended last together with what has been written since.
    pub fn since_ended(&self) -> Option<LineSpan> {
        self.ended.map(|ended| LineSpan { until: None, ..ended }).or(self.present)
    }
}

/// Returns the moment after a death from which on lines are of the next run. If its supervisor has
/// paused between the two, it learned at `began` that the next run had begun.
fn after_pause(death: SystemTime, began: Option<SystemTime>) -> SystemTime {
    let pause = began.and_then(|began| began.duration_since(death).ok()).unwrap_or_default();
    death.checked_add(STAMPED.min(pause / 2)).unwrap_or(death)
}

fn moment(at: Tai64n) -> Option<SystemTime> {
    jiff::Timestamp::from_millisecond(at.to_unix_ms()).ok().map(SystemTime::from)
}

#[cfg(test)]
mod tests {
    use gatevisor_client::status_view::StateName;
    use gatevisor_wire::Pid;
    use gatevisor_wire::policy::PublishedPolicy;
    use gatevisor_wire::tally::Death;
    use gatevisor_wire::wait::WaitStatus;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Returns a gateway that died at these seconds, and came up again at `up`.
    fn observed(deaths: &[u64], up: Option<u64>) -> Observed {
        let stamp = |seconds: u64| Tai64n::now_from(at(seconds));
        let status = Status {
            changed: stamp(up.unwrap_or(0)),
            ready_at: stamp(0),
            pid: up.map(|_| Pid::new(70).unwrap()),
            last: WaitStatus::exited(1),
            paused: false,
            finishing: false,
            want_up: true,
            ready: false,
        };
        Observed {
            status: Some(status),
            state: StateName::Up,
            deaths: deaths.iter().map(|&died| Death { at: stamp(died), exit_code: 1, signal: 0 }).collect(),
            ..super::super::absent(&"coder".parse().unwrap())
        }
    }

    fn span(since: u64, until: Option<u64>) -> LineSpan {
        LineSpan { since: at(since), until: until.map(at) }
    }

    #[test]
    fn a_run_begins_after_the_death_before_it_and_after_its_supervisor() {
        let lines = |deaths: &[u64], up, supervisor: Option<u64>| {
            let lines = RunLines::of(&observed(deaths, up), [supervisor.map(at), None]);
            (lines.ended, lines.present)
        };
        // An earlier supervisor's gateway wrote before the supervisor of now began.
        assert_eq!(lines(&[120], None, Some(100)), (Some(span(100, None)), None));
        assert_eq!(lines(&[120], Some(130), Some(100)), (Some(span(100, Some(130))), Some(span(120, None))));
        assert_eq!(lines(&[110, 120], None, Some(100)), (Some(span(110, None)), None));
        // The last death was under an earlier supervisor.
        assert_eq!(
            lines(&[80, 90], Some(130), Some(100)),
            (Some(span(80, Some(130))), Some(span(100, None)))
        );
        assert_eq!(lines(&[], Some(130), Some(100)), (None, Some(span(100, None))));
        assert_eq!(lines(&[], Some(130), None), (None, Some(span(129, None))), "nobody knows the supervisor");
        assert_eq!(lines(&[], None, Some(100)), (None, None), "it never ran");
    }

    #[test]
    fn a_run_begins_after_its_profile_was_made_also_where_another_had_its_name() {
        let lines = |deaths: &[u64], up| RunLines::of(&observed(deaths, up), [Some(at(100)), Some(at(110))]);
        assert_eq!(lines(&[120], None).latest(), Some(span(110, None)));
        assert_eq!(lines(&[], Some(130)).latest(), Some(span(110, None)));
        // Its directory was restored while it ran.
        assert_eq!(lines(&[], Some(105)).latest(), Some(span(100, None)));
    }

    #[test]
    fn a_run_that_began_after_a_pause_has_no_line_of_the_run_before_it_that_was_stamped_in_the_pause() {
        let lines = |failures, up| {
            let policy = PublishedPolicy { ran_ms: Some(4000), failures, ..PublishedPolicy::default() };
            let observed = Observed { policy: Some(policy), ..observed(&[110, 120], up) };
            RunLines::of(&observed, [Some(at(100)), None])
        };
        let later = |seconds| at(seconds) + STAMPED;
        assert_eq!(lines(2, None).ended, Some(LineSpan { since: later(110), until: None }));
        assert_eq!(lines(1, Some(121)).present, Some(LineSpan { since: later(120), until: None }));
        // Nothing tells of a pause: the next run may have begun at once.
        assert_eq!(lines(1, None).ended, Some(span(110, None)));
        assert_eq!(lines(0, Some(121)).present, Some(span(120, None)));
        // A pause may be short.
        assert_eq!(after_pause(at(10), Some(at(10) + STAMPED)), at(10) + STAMPED / 2);
        assert_eq!(after_pause(at(10), Some(at(9))), at(10), "a clock was set");
    }

    #[test]
    fn a_run_of_which_nothing_else_is_known_began_when_its_supervisor_learned_of_it() {
        let mut observed = observed(&[120], None);
        assert_eq!(RunLines::of(&observed, [None, None]).ended, None, "nothing bounds its lines");
        observed.policy = Some(PublishedPolicy { ran_ms: Some(4000), ..PublishedPolicy::default() });
        let lines = RunLines::of(&observed, [None, None]);
        assert_eq!((lines.ended, lines.latest()), (Some(span(115, None)), Some(span(115, None))));
    }
}
