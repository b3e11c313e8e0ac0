//! *Lives here:* whether a service that others start after (`after`) has started.
//!
//! *Does not live here:* waiting for that (`gatevisor-slot`).

use std::path::Path;

use gatevisor_client::status_view::{Observation, StateName, observe};
use gatevisor_client::{ExecProgress, ServiceDir};
use gatevisor_paths::by_path;
use gatevisor_slot::live::Live;
use gatevisor_slot::start_permits::{AFTER_LIMIT_MS, AwaitedStart, StartSeen};
use gatevisor_sys::clock::monotonic_ms;
use gatevisor_sys::proc::Process;

use super::report::{of_service, start_seen};

/// Returns what is known of the start of the service in this service directory.
pub(super) fn awaited(service: &Path) -> AwaitedStart {
    if !by_path::is_directory(service) {
        return AwaitedStart::Over;
    }
    let view = observe(&ServiceDir::new(service.to_owned()));
    // Without a process in the status there is no evidence to look for.
    let pid = view.status.and_then(|status| status.pid).map(gatevisor_wire::Pid::get);
    let process = pid.and_then(Process::of);
    let age_ms = process.map_or(0, |process| {
        let now = i64::try_from(monotonic_ms()).unwrap_or(i64::MAX);
        u64::try_from(now.saturating_sub(process.began_monotonic_ms())).unwrap_or_default()
    });
    by_view(&view, age_ms, || evidence_of(service, pid?, age_ms))
}

/// Returns what the watcher knows of the start of a process whose command is executed; `None` of
/// one that nobody follows.
fn evidence_of(service: &Path, pid: i32, age_ms: u64) -> Option<AwaitedStart> {
    of_service(service, pid).filter(Live::looks)?;
    Some(match start_seen(service, pid) {
        StartSeen::NotYet => AwaitedStart::NotYet,
        // The watcher is started at the same time, or there is none.
        StartSeen::Unwatched if age_ms < AFTER_LIMIT_MS => AwaitedStart::Untold,
        StartSeen::Over | StartSeen::Unwatched => AwaitedStart::Over,
    })
}

fn by_view(view: &Observation, age_ms: u64, evidence: impl FnOnce() -> Option<AwaitedStart>) -> AwaitedStart {
    let is_wanted = view.status.is_some_and(|status| status.want_up);
    let never_started = view.status.is_some_and(|status| status.never_started());
    let is_executed = matches!(view.progress, ExecProgress::Command(_));
    let is_over = match &view.state {
        StateName::Ready
        | StateName::Stopping
        | StateName::Down
        | StateName::Failed { .. }
        | StateName::FailedToStart { .. }
        | StateName::Paused
        | StateName::Asking { .. }
        | StateName::Unknown => true,
        StateName::Starting | StateName::Up if !is_executed => false,
        // Nothing can show that it works.
        StateName::Up => return evidence().unwrap_or(AwaitedStart::Over),
        // Of one that has been starting for long, or of which the watcher knows that it works, the
        // announcement will not come soon.
        StateName::Starting => age_ms >= AFTER_LIMIT_MS || evidence() == Some(AwaitedStart::Over),
        // It is about to be started, or has died and waits for the time of its next start.
        StateName::BackingOff { until_unix_ms } => !never_started && until_unix_ms.is_some(),
        StateName::Finishing | StateName::Waiting { .. } => !is_wanted,
        StateName::NotSupervised if view.normally_up == Some(false) => true,
        StateName::NotSupervised => return AwaitedStart::Untold,
    };
    if is_over { AwaitedStart::Over } else { AwaitedStart::NotYet }
}

#[cfg(test)]
mod tests {
    use gatevisor_wire::Pid;
    use gatevisor_wire::started::Announcer;
    use gatevisor_wire::status::Status;
    use gatevisor_wire::tai::Tai64n;
    use gatevisor_wire::wait::WaitStatus;

    use super::*;

    fn status(want_up: bool, paused: bool) -> Status {
        let (changed, last) = (Tai64n::from_unix(1_800_000_000, 0), WaitStatus::exited(0));
        let pid = Pid::new(7).filter(|_| !paused);
        Status { changed, ready_at: changed, pid, last, paused, finishing: false, want_up, ready: false }
    }

    /// Returns a view with this state, of a service that is wanted up and has been started.
    fn view(state: StateName) -> Observation {
        let status = status(true, false);
        Observation {
            state,
            supervised: true,
            status: Some(status),
            policy: None,
            normally_up: Some(true),
            progress: ExecProgress::Command(Announcer::Nobody),
            start_error: None,
            problem: None,
        }
    }

    #[test]
    fn only_a_service_that_is_starting_or_about_to_start_is_waited_for() {
        use AwaitedStart::{NotYet, Over, Untold};
        let text = || Some("why".to_owned());
        let again = Some(1_800_000_000_000);
        // The columns are the state, what the watcher knows, and whether to wait.
        for (state, evidence, expected) in [
            (StateName::Ready, Some(NotYet), Over),
            (StateName::Starting, None, NotYet),
            (StateName::Starting, Some(NotYet), NotYet),
            (StateName::Starting, Some(Untold), NotYet),
            (StateName::Starting, Some(Over), Over),
            (StateName::Up, None, Over),
            (StateName::Up, Some(NotYet), NotYet),
            (StateName::Up, Some(Untold), Untold),
            (StateName::Up, Some(Over), Over),
            (StateName::Stopping, Some(NotYet), Over),
            (StateName::Down, None, Over),
            (StateName::Failed { reason: text() }, None, Over),
            (StateName::FailedToStart { reason: text(), until_unix_ms: again }, None, Over),
            (StateName::BackingOff { until_unix_ms: again }, None, Over),
            (StateName::BackingOff { until_unix_ms: None }, None, NotYet),
            (StateName::Finishing, None, NotYet),
            (StateName::Waiting { reason: text() }, None, NotYet),
            (StateName::Asking { reason: text(), until_unix_ms: None }, None, Over),
            (StateName::Paused, Some(NotYet), Over),
            (StateName::Unknown, None, Over),
            (StateName::NotSupervised, None, Untold),
        ] {
            assert_eq!(by_view(&view(state.clone()), 0, || evidence), expected, "{state:?} {evidence:?}");
        }
        // Its interpreter has not become the command yet, whatever was known before.
        let progress = ExecProgress::BeforeCommand;
        let before = Observation { progress, ..view(StateName::Starting) };
        assert_eq!(by_view(&before, AFTER_LIMIT_MS, || Some(Over)), NotYet);
        assert_eq!(by_view(&view(StateName::Starting), AFTER_LIMIT_MS, || None), Over, "it is late for ever");
    }

    #[test]
    fn a_service_that_was_never_started_is_about_to_start_and_one_that_is_down_by_default_is_not() {
        // Before the first start the flag means that there was none.
        let never = status(true, true);
        let until_unix_ms = Some(1_800_000_000_000);
        let waiting = Observation { status: Some(never), ..view(StateName::BackingOff { until_unix_ms }) };
        assert_eq!(by_view(&waiting, 0, || None), AwaitedStart::NotYet);
        let down = Observation { normally_up: Some(false), ..view(StateName::NotSupervised) };
        assert_eq!(by_view(&down, 0, || None), AwaitedStart::Over);
        let finishing = Observation { status: Some(status(false, false)), ..view(StateName::Finishing) };
        assert_eq!(by_view(&finishing, 0, || None), AwaitedStart::Over);
    }

    #[test]
    fn a_service_that_does_not_exist_is_not_waited_for() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(awaited(&place.path().join("gateway-gone")), AwaitedStart::Over);
        std::fs::create_dir(place.path().join("gateway-here")).unwrap();
        assert_eq!(awaited(&place.path().join("gateway-here")), AwaitedStart::Untold);
    }
}
