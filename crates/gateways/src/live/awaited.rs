//! *Lives here:* whether a service that others start after (`after`) has started.
//!
//! *Does not live here:* waiting for that (`gatevisor-slot`).

use std::path::Path;

use gatevisor_client::status_view::{Observation, StateName, observe};
use gatevisor_client::{ExecProgress, ServiceDir};
use gatevisor_paths::by_path;
use gatevisor_slot::live::Live;
use gatevisor_slot::start_permits::{AwaitedStart, StartSeen};

use super::report::{of_service, start_seen};

/// Returns what is known of the start of the service in this service directory.
pub(super) fn awaited(service: &Path) -> AwaitedStart {
    if !by_path::is_directory(service) {
        return AwaitedStart::Over;
    }
    let view = observe(&ServiceDir::new(service.to_owned()));
    // Without a process in the status there is no evidence to look for.
    let pid = view.status.and_then(|status| status.pid).map(gatevisor_wire::Pid::get);
    let evidence = || pid.map_or(StartSeen::NotYet, |pid| evidence_of(service, pid));
    by_view(&view, evidence)
}

/// Returns what the watcher knows of the start of a process whose command is executed and which
/// announces nothing itself.
fn evidence_of(service: &Path, pid: i32) -> StartSeen {
    match of_service(service, pid).filter(Live::looks) {
        Some(_) => start_seen(service, pid),
        // Nothing could show that it works.
        None => StartSeen::Unwatched,
    }
}

fn by_view(view: &Observation, evidence: impl FnOnce() -> StartSeen) -> AwaitedStart {
    let is_wanted = view.status.is_some_and(|status| status.want_up);
    let never_started = view.status.is_some_and(|status| status.never_started());
    let is_over = match &view.state {
        StateName::Ready
        | StateName::Stopping
        | StateName::Down
        | StateName::Failed { .. }
        | StateName::FailedToStart { .. }
        | StateName::Paused
        | StateName::Asking { .. }
        | StateName::Unknown => true,
        StateName::Starting => false,
        StateName::Up => {
            let is_executed = matches!(view.progress, ExecProgress::Command(_));
            is_executed && evidence() != StartSeen::NotYet
        }
        // It is about to be started, or has died and waits for the time of its next start.
        StateName::BackingOff { until_unix_ms } => !never_started && until_unix_ms.is_some(),
        StateName::Finishing | StateName::Waiting { .. } => !is_wanted,
        StateName::NotSupervised if view.normally_up == Some(false) => true,
        StateName::NotSupervised => return AwaitedStart::Unsupervised,
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
        use AwaitedStart::{NotYet, Over, Unsupervised};
        let text = || Some("why".to_owned());
        let again = Some(1_800_000_000_000);
        // The columns are the state, what the watcher knows, and whether to wait.
        for (state, evidence, expected) in [
            (StateName::Ready, StartSeen::Unwatched, Over),
            (StateName::Starting, StartSeen::Over, NotYet),
            (StateName::Up, StartSeen::NotYet, NotYet),
            (StateName::Up, StartSeen::Over, Over),
            (StateName::Up, StartSeen::Unwatched, Over),
            (StateName::Stopping, StartSeen::NotYet, Over),
            (StateName::Down, StartSeen::NotYet, Over),
            (StateName::Failed { reason: text() }, StartSeen::NotYet, Over),
            (StateName::FailedToStart { reason: text(), until_unix_ms: again }, StartSeen::NotYet, Over),
            (StateName::BackingOff { until_unix_ms: again }, StartSeen::NotYet, Over),
            (StateName::BackingOff { until_unix_ms: None }, StartSeen::NotYet, NotYet),
            (StateName::Finishing, StartSeen::NotYet, NotYet),
            (StateName::Waiting { reason: text() }, StartSeen::NotYet, NotYet),
            (StateName::Asking { reason: text(), until_unix_ms: None }, StartSeen::NotYet, Over),
            (StateName::Paused, StartSeen::NotYet, Over),
            (StateName::Unknown, StartSeen::NotYet, Over),
            (StateName::NotSupervised, StartSeen::NotYet, Unsupervised),
        ] {
            assert_eq!(by_view(&view(state.clone()), || evidence), expected, "{state:?} {evidence:?}");
        }
    }

    #[test]
    fn a_service_that_was_never_started_is_about_to_start_and_one_that_is_down_by_default_is_not() {
        // Before the first start the flag means that there was none.
        let never = status(true, true);
        let until_unix_ms = Some(1_800_000_000_000);
        let waiting = Observation { status: Some(never), ..view(StateName::BackingOff { until_unix_ms }) };
        assert_eq!(by_view(&waiting, || StartSeen::NotYet), AwaitedStart::NotYet);
        let down = Observation { normally_up: Some(false), ..view(StateName::NotSupervised) };
        assert_eq!(by_view(&down, || StartSeen::NotYet), AwaitedStart::Over);
        let finishing = Observation { status: Some(status(false, false)), ..view(StateName::Finishing) };
        assert_eq!(by_view(&finishing, || StartSeen::NotYet), AwaitedStart::Over);
    }

    #[test]
    fn a_service_that_does_not_exist_is_not_waited_for() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(awaited(&place.path().join("gateway-gone")), AwaitedStart::Over);
        std::fs::create_dir(place.path().join("gateway-here")).unwrap();
        assert_eq!(awaited(&place.path().join("gateway-here")), AwaitedStart::Unsupervised);
    }
}
