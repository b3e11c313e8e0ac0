//! *Lives here:* finding those facts for an explanation that `doctor` does not gather.
//!
//! *Does not live here:* the conclusions.

use std::path::Path;

use gatevisor_client::status_view::StateName;
use gatevisor_paths::by_path;
use gatevisor_sys::file::born_s;
use gatevisor_sys::proc;

use super::subject::{EndedByWatcher, Subject};
use crate::gather::{DoctorSettings, gather as gather_facts};
use gatevisor_gateways::desired;
use gatevisor_gateways::earlier::{self, LeftGateway};
use gatevisor_gateways::incidents::{self, Incident};
use gatevisor_gateways::inspect::{InspectError, LineSpan, served_by};
use gatevisor_gateways::manager::{ScandirManager, ServiceManager};
use gatevisor_gateways::profile::{self, ProfileName};
use gatevisor_gateways::read_bounded;

/// The most bytes of the boot log that are read. The log is rotated at a quarter of this.
const BOOT_LOG_BYTES: usize = 1 << 20;
/// The format of times in the boot log.
const BOOT_LOG_TIME: &str = "%Y-%m-%dT%H:%M:%S%z";
/// The watcher's note in a service directory about the last process that it ended, and the most
/// bytes of it.
const ENDED_BY_WATCHER: &str = "data/live-restart";
const NOTE_BYTES: usize = 8 << 10;
/// The most incidents that are listed.
const INCIDENTS: usize = 3;

/// Returns the last lines that a gateway wrote between two moments.
pub type ReadLines<'a> = &'a dyn Fn(LineSpan) -> Vec<String>;

pub(super) fn gather(
    settings: &DoctorSettings<'_>,
    name: &ProfileName,
    lines: ReadLines<'_>,
) -> Result<Subject, InspectError> {
    let manager = settings.manager;
    if manager.observe(name)?.is_none() {
        profile::show(manager.home(), manager.agent(), name)?;
    }
    let facts = gather_facts(settings);
    let file = &manager.agent().gateway.state_file;
    let recorded = desired::read(&manager.home().profile_dir(name), file);
    let mut subject = Subject {
        recorded: recorded.map(Option::unwrap_or_default).map_err(|error| error.reason(file)),
        served_by: served_by(manager, name),
        ended_by_watcher: ended_by_watcher(manager.slot(name).path()),
        incidents: incidents(manager, name),
        reconciled: reconciled(manager, name),
        name: name.clone(),
        facts,
        process: None,
        orphans: Vec::new(),
        leftovers: Vec::new(),
        printed: Vec::new(),
    };
    subject.process = subject.report().and_then(|report| proc::state(report.pid?));
    if !subject.facts.supervision.is_supervised() {
        // A supervisor on another scandir may have started it.
        subject.orphans = marked(manager, name, LeftGateway::is_orphan);
    } else if let Some(StateName::Waiting { .. }) = subject.state() {
        let ender = subject.report().and_then(|report| report.pid);
        subject.leftovers = marked(manager, name, |_| true);
        subject.leftovers.retain(|(pid, _)| Some(*pid) != ender);
    }
    let ended = subject.report().and_then(|report| report.lines.ended);
    subject.printed = ended.map(lines).unwrap_or_default();
    Ok(subject)
}

/// Returns why the watcher of gateways last ended a process of a service, according to its note.
fn ended_by_watcher(service: &Path) -> Option<EndedByWatcher> {
    let bytes = read_bounded(&service.join(ENDED_BY_WATCHER), NOTE_BYTES).ok()??;
    serde_json::from_slice(&bytes).ok()
}

/// Returns the newest incidents of a gateway.
fn incidents(manager: &ScandirManager, name: &ProfileName) -> Vec<Incident> {
    let logs = incidents::logs_of(manager.home(), name);
    let all = incidents::list(&logs).unwrap_or_default().into_iter();
    all.filter(|incident| incident.name == name.as_str()).take(INCIDENTS).collect()
}

/// Returns the processes with the mark of a gateway, except those that we may not look at.
fn marked(
    manager: &ScandirManager,
    name: &ProfileName,
    counts: impl Fn(&LeftGateway) -> bool,
) -> Vec<(i32, String)> {
    let all =
        earlier::gateways_left(manager.scandir(), manager.home().root()).unwrap_or_default().into_iter();
    let its = all.filter(|left| left.name == *name && counts(left));
    its.flat_map(|left| left.words()).collect()
}

/// Returns what the last logged reconciliation did with a gateway, and when. An entry about an
/// earlier profile of the same name does not count.
fn reconciled(manager: &ScandirManager, name: &ProfileName) -> Option<(String, String)> {
    let path = manager.home().root().join(&manager.agent().gateway.boot_log);
    let bytes = read_bounded(&path, BOOT_LOG_BYTES).ok()??;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rev().find(|line| is_about(line, name))?;
    let (at, action) = line.split_once(' ')?;
    let at = jiff::fmt::strtime::parse(BOOT_LOG_TIME, at).ok()?.to_timestamp().ok()?;
    let place = by_path::directory(manager.home().profile_dir(name)).ok();
    let born_s = place.filter(|_| !name.is_root()).and_then(|place| born_s(place, ""));
    if born_s.is_some_and(|born_s| at.as_second() < born_s) {
        return None;
    }
    Some((at.to_string(), action.to_owned()))
}

fn is_about(line: &str, name: &ProfileName) -> bool {
    let word = line.split_ascii_whitespace().nth(1).and_then(|word| word.strip_prefix("profile="));
    word == Some(name.as_str())
}
