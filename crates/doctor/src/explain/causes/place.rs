//! *Lives here:* causes outside of the gateway: who may look, who runs it, whether its service
//! directory is supervised, and problems beside it.
//!
//! *Does not live here:* its own behaviour (`process`, `ends`).

use gatevisor_client::status_view::StateName;
use gatevisor_slot::home_lock::Standing;

use crate::explain::cause::Cause;
use crate::explain::kind::CauseKind;
use crate::explain::subject::Subject;
use crate::facts::{Disk, Presence};
use crate::finding::shown;
use crate::problem::{self, ServiceProblem};

pub(super) fn permission(subject: &Subject) -> Vec<Cause> {
    let unseen = match (&subject.facts.supervision.presence, subject.service()) {
        (Presence::Unknown(why), _) => why.clone(),
        (_, Some(service)) if service.observed.state == StateName::Unknown => {
            service.observed.problem.clone().unwrap_or_else(|| "its service directory is closed".to_owned())
        }
        _ => match subject.unread() {
            Some((path, why)) => format!("`{}`: {why}", shown(path)),
            None => return Vec::new(),
        },
    };
    let what = format!("uid {} may not look, so nobody can tell here", subject.facts.uid);
    vec![Cause::new(CauseKind::NotAllowedToLook, what, unseen)]
}

pub(super) fn elsewhere(subject: &Subject) -> Vec<Cause> {
    let supervision = &subject.facts.supervision;
    let is_held = supervision.standing.allows();
    if matches!(supervision.standing, Standing::NeverHeld { .. }) || (is_held && supervision.elsewhere) {
        let what = "another container runs the gateways of this home; this one waits for its lock";
        return vec![Cause::new(CauseKind::RunsElsewhere, what, supervision.standing.to_string())];
    }
    if !is_held {
        let what = "this container has lost the lock of the home, so it may start no gateway";
        return vec![Cause::new(CauseKind::LockLost, what, supervision.standing.to_string())];
    }
    if supervision.without_gateways {
        let what = "this container runs no gateways";
        let evidence = "its command is another long-lived program of the agent";
        return vec![Cause::new(CauseKind::NoGatewaysHere, what, evidence)];
    }
    Vec::new()
}

pub(super) fn served(subject: &Subject) -> Vec<Cause> {
    let Some(server) = subject.served_by.as_ref().filter(|_| !subject.is_up()) else {
        return unserved(subject).into_iter().collect();
    };
    let what = format!("the gateway of {server} serves it, so it has none of its own");
    let evidence =
        format!("the state file of {server} lists it among those that it serves, and names its process");
    vec![Cause::new(CauseKind::ServedByAnother, what, evidence)]
}

/// Returns the cause that another gateway should serve the profile and does not.
fn unserved(subject: &Subject) -> Option<Cause> {
    let service = subject.service()?;
    let is_unserved = problem::of(&subject.facts, service) == Some(ServiceProblem::Unserved);
    let why = service.report.reason.clone().filter(|_| is_unserved)?;
    let what = "another profile's gateway should serve it, and does not";
    Some(Cause::new(CauseKind::ServedByAnother, what, why))
}

pub(super) fn orphans(subject: &Subject) -> Vec<Cause> {
    if subject.facts.supervision.is_supervised() || subject.orphans.is_empty() {
        return Vec::new();
    }
    let named = subject.orphans.iter().map(|(pid, words)| format!("process {pid} ({words})"));
    let what = "it runs, and its supervisor has gone: nobody starts it again or keeps what it writes";
    vec![Cause::new(CauseKind::Orphan, what, named.collect::<Vec<_>>().join(", "))]
}

pub(super) fn profile(subject: &Subject) -> Vec<Cause> {
    let Some(service) = subject.service().filter(|_| subject.has_lost_its_profile()) else {
        return Vec::new();
    };
    let what = "its profile was removed or renamed by another program, and its service directory is left";
    let evidence = format!("there is no profile {}, and there is `{}`", subject.name, shown(&service.path));
    vec![Cause::new(CauseKind::ProfileGone, what, evidence)]
}

pub(super) fn supervisor(subject: &Subject) -> Vec<Cause> {
    let supervision = &subject.facts.supervision;
    let scandir = shown(&supervision.scandir);
    let evidence = match &supervision.presence {
        Presence::Booting => {
            let what = "this container is still booting, and starts its gateways at the end of that";
            let evidence = "process 1 has not become the supervisor yet";
            return vec![Cause::new(CauseKind::NoSupervisor, what, evidence)];
        }
        Presence::NoScandir => format!("there is no scandir `{scandir}`"),
        Presence::Unsupervised => format!("nobody holds the lock of the scandir `{scandir}`"),
        Presence::Supervised | Presence::Unknown(_) => return Vec::new(),
    };
    if let Some(words) = supervision.lost_words() {
        let what = "its supervisor has lost the scandir, so nobody starts it";
        return vec![Cause::new(CauseKind::NoSupervisor, what, words)];
    }
    if let Some(lock) = subject.facts.home_taken() {
        let what = "the gateways of this home run elsewhere: no supervisor runs here";
        return vec![Cause::new(CauseKind::RunsElsewhere, what, lock.runs_gateways())];
    }
    vec![Cause::new(CauseKind::NoSupervisor, "no supervisor runs, so nobody starts it", evidence)]
}

pub(super) fn slot(subject: &Subject) -> Vec<Cause> {
    if !subject.facts.supervision.is_supervised() || subject.facts.supervision.elsewhere {
        return Vec::new();
    }
    let scandir = shown(&subject.facts.supervision.scandir);
    let Some(service) = subject.service() else {
        let what = "it has no service directory, so its supervisor knows nothing of it";
        let evidence = format!("there is no `{}` in `{scandir}`", subject.name.service_entry());
        return vec![Cause::new(CauseKind::NotRegistered, what, evidence)];
    };
    if service.observed.state != StateName::NotSupervised {
        return Vec::new();
    }
    if let Some(reason) = &service.refusal {
        return vec![Cause::new(CauseKind::Refused, "its supervisor refuses its service directory", reason)];
    }
    let evidence = format!("`{}` is there, and nobody asked for a scan", shown(&service.path));
    vec![Cause::new(CauseKind::NotTaken, "its supervisor has not taken its service directory", evidence)]
}

pub(super) fn disk(subject: &Subject) -> Vec<Cause> {
    let full = subject.facts.disks.iter().find(|disk| disk.has_no_room());
    full.map(|disk| disk_full(disk, "")).into_iter().collect()
}

/// Returns the cause that no desired state can be recorded because a disk is full.
pub(super) fn nothing_recorded(subject: &Subject) -> Option<Cause> {
    let home = &subject.facts.home.path;
    let full = subject.facts.disks.iter().find(|disk| disk.has_no_room() && home.starts_with(&disk.path))?;
    Some(disk_full(full, ", so no desired state can be recorded"))
}

fn disk_full(disk: &Disk, consequence: &str) -> Cause {
    let what = format!("the disk of `{}` is full{consequence}", shown(&disk.path));
    let evidence = format!("{} kB and {} inodes are left", disk.bytes_left / 1024, disk.files_left);
    Cause::new(CauseKind::DiskFull, what, evidence)
}

/// Returns problems beside the gateway, which do not keep it from running.
pub(super) fn beside(subject: &Subject) -> Vec<Cause> {
    let Some(report) = subject.report() else { return Vec::new() };
    let mut causes = Vec::new();
    if let Some(problem) = &report.log_problem {
        let since = report.log_problem_since.as_deref().unwrap_or("an unknown time");
        let what = format!("what it writes is not kept since {since}");
        causes.push(Cause::new(CauseKind::NotLogged, what, problem));
    }
    if report.older_than_definition == Some(true) {
        let what = "it, or its service directory, is older than the agent definition, or was edited";
        let evidence = "the directory counts, as it was when the process was started";
        causes.push(Cause::new(CauseKind::OlderThanDefinition, what, evidence));
    }
    causes
}
