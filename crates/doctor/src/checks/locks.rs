//! *Lives here:* the checks whether a process holds a lock for which others wait, and whether files
//! name the right process.
//!
//! *Does not live here:* asking the kernel who holds a lock. Locks here end with their process, so
//! a stale lock belongs to a process that should not exist any more.

use crate::commands::{TAKE_OVER, quote};
use crate::facts::{Facts, HeldLock, Holder, LockKind, NamedProcess, PidFile, ServiceFact};
use crate::finding::{Check, Finding, Severity, shown};

/// Seconds after its start during which a gateway may not have written its process number yet.
const SETTLED_S: u64 = 10;

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    for lock in &facts.locks {
        found.extend(held(facts, lock));
    }
    for file in &facts.pid_files {
        found.extend(named(facts, file));
    }
}

fn held(facts: &Facts, lock: &HeldLock) -> Option<Finding> {
    let path = shown(&lock.path);
    let by = lock.holder_words();
    let (severity, what, why) = match (lock.kind, &lock.holder) {
        (LockKind::DesiredState, _) => (
            Severity::Error,
            format!("`{path}` is held by {by}"),
            "no desired state can be recorded as long as it is; none of our commands holds it that long",
        ),
        (LockKind::Log, Some(holder)) if !holder.is_logger => (
            Severity::Error,
            format!("`{path}` is held by {by}, which is no log daemon"),
            "what the gateway writes is not kept as long as it is",
        ),
        (LockKind::Log, _) if facts.supervision.is_unsupervised() && !facts.supervision.elsewhere => (
            Severity::Warning,
            format!("`{path}` is held by {by}, and nobody supervises"),
            "a log daemon was left behind; the next one cannot write as long as it is there",
        ),
        (LockKind::Log, None) if !facts.supervision.elsewhere => (
            Severity::Warning,
            format!("`{path}` is held by {by}"),
            "what the gateway writes here is not kept as long as it is",
        ),
        (LockKind::Home, holder) if !facts.supervision.elsewhere && is_stranger(facts, holder.as_ref()) => (
            Severity::Warning,
            format!("`{path}` is held by {by}"),
            "whoever holds it runs the gateways of this home; two supervisors would run each gateway twice",
        ),
        (LockKind::Log | LockKind::Home, _) => return None,
    };
    let mut finding = Finding::new(Check::Lock, severity, &what, why).at(&lock.path);
    finding.profile.clone_from(&lock.profile);
    let fix = match (&lock.holder, lock.kind) {
        (Some(holder), _) if facts.may_be_ended(holder.pid, holder.uid) => {
            Some(format!("kill {}", holder.pid))
        }
        (Some(holder), _) => Some(looked_at(holder.pid)),
        // Writers make the file anew. A holder that cannot be seen keeps the old one.
        (None, LockKind::DesiredState) => Some(format!("rm -- {}", quote(&lock.path))),
        (None, _) => None,
    };
    Some(finding.fix(fix))
}

/// The lock of a home is held by the supervisor, or by the container's first process before it
/// became the supervisor.
fn is_stranger(facts: &Facts, holder: Option<&Holder>) -> bool {
    let Some(holder) = holder else { return facts.supervision.is_supervised() };
    facts.supervision.pid != Some(holder.pid)
        && holder.name != gatevisor_client::OURS
        && holder.name != "s6-svscan"
}

/// Returns a command that shows which process it is, if it is not certain that the process may be
/// ended.
fn looked_at(pid: i32) -> String {
    format!("ps -o user,pid,lstart,args -p {pid}")
}

fn named(facts: &Facts, file: &PidFile) -> Option<Finding> {
    let slot = facts.slot(&file.profile);
    // Process numbers of another container mean nothing here.
    if facts.supervision.elsewhere || slot.is_some_and(|slot| slot.report.pid == Some(file.pid)) {
        return None;
    }
    let session = file.found.as_ref().and_then(|found| found.session);
    let is_part = |slot: &&ServiceFact| session.is_some() && session == slot.report.pid;
    let is_new = |slot: &&ServiceFact| slot.report.is_up() && slot.report.updownfor < Some(SETTLED_S);
    if slot.filter(is_part).or(slot.filter(is_new)).is_some() {
        return None;
    }
    let (path, pid, profile) = (shown(&file.path), file.pid, &file.profile);
    let (what, why, fix) = match &file.found {
        None => (
            format!("`{path}` names process {pid}, which is gone"),
            format!("the gateway of {profile} was killed, and could not remove it"),
            format!("rm -- {}", quote(&file.path)),
        ),
        Some(NamedProcess { name, unit: Some(unit), is_the_same: true, .. }) => (
            format!(
                "a gateway of {profile} runs as process {pid} (`{name}`) in the unit `{unit}` of systemd"
            ),
            "that unit starts it again whenever it ends, and Gatevisor does not supervise it".to_owned(),
            facts.caller.command(TAKE_OVER),
        ),
        // Neither the number alone nor a matching date proves that a process is a gateway.
        Some(found) if found.is_the_same && !(found.is_dated && facts.may_be_ended(pid, found.uid)) => (
            format!("`{path}` names process {pid} (`{}`), which is not the gateway in the slot", found.name),
            format!(
                "nothing shows that it is a gateway of {profile}; if somebody started one by hand, nobody supervises that"
            ),
            looked_at(pid),
        ),
        Some(found) if found.is_the_same => (
            format!("a gateway of {profile} runs as process {pid} (`{}`) beside its slot", found.name),
            format!("`{path}` names it; somebody started it by hand, and nobody supervises it"),
            format!("kill {pid}"),
        ),
        Some(found) => (
            format!("`{path}` names process {pid}, which is another program now (`{}`)", found.name),
            format!("the gateway of {profile} was killed, and could not remove it"),
            format!("rm -- {}", quote(&file.path)),
        ),
    };
    let finding = Finding::new(Check::PidFile, Severity::Warning, &what, &why);
    Some(finding.of(profile).at(&file.path).fix(fix))
}
