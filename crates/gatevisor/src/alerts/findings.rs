//! *Lives here:* the states of gateways and file systems, as the machine of alerts takes them.
//!
//! *Does not live here:* which alerts follow from them (`gatevisor_alerts`).

use gatevisor_alerts::{AlertFinding, AlertProblem, AlertSubject, Sighting, fullness};
use gatevisor_gateways::inspect::{ServiceReport, ServiceState};
use gatevisor_gateways::manager::ScandirManager;
use gatevisor_paths::by_path;
use rustix::fs::{fstat, fstatvfs};

/// Returns the findings about all gateways.
pub fn of_gateways(reports: &[ServiceReport]) -> Vec<Sighting> {
    let mut seen = Vec::new();
    for report in reports {
        let Some(profile) = &report.profile else { continue };
        let name = profile.as_str().to_owned();
        let finding = finding(report.state, report.is_wanted(), report.reason.clone());
        seen.push(Sighting {
            subject: AlertSubject::Gateway(name.clone()),
            finding,
            restarts: report.restarts,
        });
        let kept = match &report.log_problem {
            Some(why) => AlertFinding::Wrong(AlertProblem::LogGap, Some(why.clone())),
            None if report.state == ServiceState::NotSupervised => AlertFinding::Unclear,
            None => AlertFinding::Works,
        };
        seen.push(Sighting { subject: AlertSubject::Log(name), finding: kept, restarts: None });
    }
    seen
}

/// Returns what a state means for alerts.
fn finding(state: ServiceState, is_wanted: Option<bool>, reason: Option<String>) -> AlertFinding {
    match state {
        ServiceState::Failed | ServiceState::Down | ServiceState::NotSupervised
            if is_wanted == Some(false) =>
        {
            AlertFinding::Off
        }
        ServiceState::Failed => AlertFinding::Wrong(AlertProblem::Failed, reason),
        ServiceState::Unresponsive => AlertFinding::Wrong(AlertProblem::Unresponsive, reason),
        ServiceState::BackingOff | ServiceState::FailedToStart => AlertFinding::Restarting(reason),
        ServiceState::Up
        | ServiceState::Ready
        | ServiceState::Degraded
        | ServiceState::Draining
        | ServiceState::Served => AlertFinding::Works,
        // It is about to change, or somebody holds it where it is.
        ServiceState::Down
        | ServiceState::NotSupervised
        | ServiceState::Starting
        | ServiceState::Stopping
        | ServiceState::Finishing
        | ServiceState::Paused
        | ServiceState::Waiting
        | ServiceState::Asking
        | ServiceState::Traced
        | ServiceState::Unknown => AlertFinding::Unclear,
    }
}

/// Returns the findings about the file systems of a home and its scandir; `limit` is in percent.
pub fn of_disks(manager: &ScandirManager, limit: u8) -> Vec<Sighting> {
    let mut devices = Vec::new();
    let mut seen = Vec::new();
    for path in [manager.home().root(), manager.scandir()] {
        let Ok(directory) = by_path::directory(path) else { continue };
        let (Ok(stat), Ok(system)) = (fstat(&directory), fstatvfs(&directory)) else { continue };
        let used = used_percent(system.f_blocks, system.f_bfree, system.f_bavail);
        let Some(used) = used.filter(|_| !devices.contains(&stat.st_dev)) else { continue };
        devices.push(stat.st_dev);
        let subject = AlertSubject::Disk(path.to_string_lossy().into_owned());
        seen.push(Sighting { subject, finding: fullness(used, limit), restarts: None });
    }
    seen
}

/// Returns the percentage in use of the blocks that this user may use, as `df` computes it.
fn used_percent(blocks: u64, free: u64, available: u64) -> Option<u8> {
    let used = blocks.checked_sub(free)?;
    let all = used.checked_add(available)?;
    u8::try_from(used.checked_mul(100)?.checked_div(all)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_down_because_somebody_wants_that_is_no_problem() {
        for state in [ServiceState::Down, ServiceState::Failed, ServiceState::NotSupervised] {
            assert_eq!(finding(state, Some(false), None), AlertFinding::Off, "{state:?}");
        }
        assert_eq!(finding(ServiceState::Down, Some(true), None), AlertFinding::Unclear);
        assert_eq!(
            finding(ServiceState::Failed, None, None),
            AlertFinding::Wrong(AlertProblem::Failed, None)
        );
        for state in ServiceState::ALL {
            let works = finding(state, Some(true), None) == AlertFinding::Works;
            assert_eq!(works, state.works(), "{state:?}");
        }
    }

    #[test]
    fn the_share_in_use_is_that_of_df() {
        assert_eq!(used_percent(1000, 100, 100), Some(90));
        assert_eq!(used_percent(1000, 100, 0), Some(100), "the rest is root's");
        assert_eq!(used_percent(0, 0, 0), None);
        assert_eq!(used_percent(10, 20, 5), None);
    }
}
