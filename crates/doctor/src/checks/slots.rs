//! *Lives here:* the checks whether each profile has a slot that is supervised, each slot a
//! profile, and each its log.
//!
//! *Does not live here:* the state of the gateways in their slots (see `deaths`).

use std::path::Path;

use gatevisor_client::status_view::StateName;

use super::fixes::aside;
use super::fixes::give;
use crate::commands::quote;
use crate::facts::{Facts, LogDirectory, ServiceFact};
use crate::finding::{Check, Finding, Severity};

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    // If nobody supervises, that is the problem.
    if !facts.supervision.is_supervised() {
        return;
    }
    without_slot(facts, found);
    for service in &facts.services {
        found.extend(without_profile(facts, service));
        if service.observed.state == StateName::NotSupervised {
            found.push(untaken(facts, service));
        }
        found.extend(unlogged(facts, service));
        found.extend(older(facts, service));
    }
}

/// Returns the finding about a service directory that differs from what the definition would
/// generate now.
fn older(facts: &Facts, service: &ServiceFact) -> Option<Finding> {
    let name =
        service.observed.profile.as_ref().filter(|_| service.report.older_than_definition == Some(true))?;
    let what = format!("the process of {name}, or its service directory, is older than the definition");
    let why = "the agent definition, or the directory itself, was edited; what counts is the directory at its start";
    let finding = Finding::new(Check::Slot, Severity::Warning, &what, why).of(name).at(&service.path);
    Some(finding.fix(facts.caller.command(["reload", "--restart", name.as_str()])))
}

fn without_slot(facts: &Facts, found: &mut Vec<Finding>) {
    // In these cases there are none on purpose, or nobody can tell.
    if facts.supervision.without_gateways || facts.supervision.elsewhere || facts.may_miss_slots() {
        return;
    }
    for profile in facts.profiles.iter().filter(|profile| facts.slot(&profile.name).is_none()) {
        let name = &profile.name;
        let what = format!("profile {name} has no slot");
        let (severity, why, verb) = if profile.should_run() {
            (
                Severity::Error,
                "its gateway is desired running, and the supervisor knows nothing of it",
                "start",
            )
        } else {
            (Severity::Warning, "the agent's own command line cannot start its gateway", "register")
        };
        let finding = Finding::new(Check::Slot, severity, &what, why).of(name).at(&profile.home);
        found.push(finding.fix(facts.caller.about(&["gateway", verb], name)));
    }
}

fn without_profile(facts: &Facts, service: &ServiceFact) -> Option<Finding> {
    let name = service.observed.profile.as_ref()?;
    let is_there = name.is_root() || facts.profiles.iter().any(|profile| profile.name == *name);
    if is_there || facts.may_miss_profiles() {
        return None;
    }
    let severity = if service.report.is_up() || service.report.wantedup == Some(true) {
        Severity::Error
    } else {
        Severity::Warning
    };
    let what = format!("slot {} belongs to no profile", service.observed.service);
    let why = format!("there is no profile {name}; it was removed or renamed by another program");
    let finding = Finding::new(Check::Slot, severity, &what, &why).of(name).at(&service.path);
    Some(finding.fix(facts.caller.about(&["gateway", "unregister"], name)))
}

/// Returns the finding about a service that the supervisor does not have.
fn untaken(facts: &Facts, service: &ServiceFact) -> Finding {
    let (path, name) = (&service.path, &service.observed.service);
    let (what, why, fix) = match (&service.refusal, &service.observed.profile) {
        (Some(reason), Some(profile)) => {
            // Generating it anew fixes it.
            let made_anew =
                ["unregister", "register"].map(|verb| facts.caller.about(&["gateway", verb], profile));
            (format!("the supervisor refuses slot {name}"), reason.clone(), made_anew.join(" && "))
        }
        (Some(reason), None) => {
            let fix = if reason.starts_with("others than its owner may write") {
                format!("chmod go-w -- {} && {}", quote(path), rescan(facts))
            } else {
                format!("ls -ladn -- {0} {0}/*", quote(path))
            };
            (format!("the supervisor refuses service {name}"), reason.clone(), fix)
        }
        (None, _) => {
            let why = "it was put into the scandir, and nobody asked for a scan; or its supervisor has died"
                .to_owned();
            (format!("nobody supervises {name}"), why, rescan(facts))
        }
    };
    let mut finding = Finding::new(Check::Slot, Severity::Error, &what, &why).at(path).fix(fix);
    finding.profile.clone_from(&service.observed.profile);
    finding
}

fn unlogged(facts: &Facts, service: &ServiceFact) -> Option<Finding> {
    let reason = service.report.log_problem.as_ref()?;
    let since = service.report.log_problem_since.as_deref().unwrap_or("an unknown time");
    let what = format!("what {} writes is not kept since {since}", service.observed.service);
    let why = format!("{reason}; once that is fixed, the next line ends it");
    let mut finding = Finding::new(Check::Log, Severity::Error, &what, &why);
    finding.profile.clone_from(&service.observed.profile);
    let profile =
        facts.profiles.iter().find(|profile| Some(&profile.name) == service.observed.profile.as_ref());
    let Some(log) = profile.and_then(|profile| profile.log.as_ref()) else { return Some(finding) };
    Some(finding.at(&log.path).fix(log_remedy(facts, log)))
}

/// Returns the command after which lines can be kept again; the log daemon tries again by itself.
fn log_remedy(facts: &Facts, log: &LogDirectory) -> String {
    let (uid, _) = facts.home.owner;
    let mut on_the_way = facts.entries.iter().filter(|entry| log.path.starts_with(&entry.path));
    let is_anothers = on_the_way.any(|entry| entry.owner.0 != uid && !entry.is_shared);
    match log.is_open {
        Some(_) if !log.is_directory => aside(&log.path),
        Some(_) if is_anothers => give(facts, &log.path),
        Some(false) => format!("chmod u+rwx -- {}", quote(&log.path)),
        Some(true) => format!("ls -lan -- {}", quote(&log.path)),
        None => format!("mkdir -p -- {}", quote(&log.path)),
    }
}

fn rescan(facts: &Facts) -> String {
    let scandir: &Path = &facts.supervision.scandir;
    format!("{} s6 s6-svscanctl -a {}", facts.caller.program(), quote(scandir))
}

/// Returns the name of a service for people.
pub(super) fn called(service: &ServiceFact) -> String {
    match &service.observed.profile {
        Some(name) => format!("the gateway of {name}"),
        None => format!("service {}", service.observed.service),
    }
}
