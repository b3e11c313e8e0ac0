//! *Lives here:* reports about drains.
//!
//! *Does not live here:* carrying it out.

use std::path::Path;

use gatevisor_liveness::DrainStage;
use gatevisor_sys::clock::monotonic_ms;
use serde::Serialize;

use super::asking::DrainTarget;
use super::record::{DrainRecord, DrainRecords, DrainThen};
use crate::agent::DrainDefinition;
use crate::manager::ScandirManager;
use crate::profile::ProfileName;

/// A report about the drain of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DrainReport {
    /// Its stage: `asked`, `draining`, `idle` or `unknown`.
    pub stage: String,
    /// The turns that are under way, if the gateway counts them.
    pub turns: Option<u32>,
    /// Milliseconds until its limit; `None` if another program asked for it, which alone ends it.
    pub left_ms: Option<u64>,
    /// The next step: `stop`, `restart`, `delete` or `nothing`.
    pub then: String,
    /// Who asked for it, for people.
    pub by: String,
    /// The process that waits for it; `None` if another program asked the gateway.
    pub owner: Option<i32>,
    /// When it began, in RFC 3339.
    pub since: Option<String>,
    /// Its limit, in RFC 3339.
    pub until: Option<String>,
    /// Why it is unknown what work the gateway has.
    pub reason: Option<String>,
}

/// The drains of a home, for reports about many gateways.
#[derive(Debug)]
pub struct DrainReader<'a> {
    manager: &'a ScandirManager,
    records: Option<DrainRecords>,
}

impl<'a> DrainReader<'a> {
    /// Returns a reader for the home of a manager.
    pub fn new(manager: &'a ScandirManager) -> Self {
        Self { manager, records: DrainRecords::open(manager.scandir()) }
    }

    /// Returns the report about the drain of a gateway with this process, if there is one.
    pub fn look(&self, name: &ProfileName, pid: i32) -> Option<DrainReport> {
        let ours = self.records.as_ref().and_then(|records| ours(records, name, pid));
        ours.or_else(|| anothers(self.manager, name, pid))
    }
}

fn ours(records: &DrainRecords, name: &ProfileName, pid: i32) -> Option<DrainReport> {
    let service = name.service_entry();
    let record = records.read(&service).filter(|record| record.pid == pid && records.is_held(&service))?;
    Some(DrainReport {
        left_ms: Some(record.until_ms.saturating_sub(monotonic_ms())),
        stage: record.stage,
        turns: record.turns,
        then: record.then,
        by: record.by,
        owner: Some(record.owner),
        since: Some(record.since),
        until: Some(record.until),
        reason: record.reason,
    })
}

/// Returns whether a gateway's process heeds nothing but its stop signal, because it is drained.
pub(crate) fn heeds_no_restart(manager: &ScandirManager, name: &ProfileName, pid: i32) -> bool {
    let drain = manager.agent().gateway.drain.as_ref();
    let records = || DrainRecords::open(manager.scandir());
    drain.is_some_and(DrainDefinition::ends_with_process)
        && records()
            .and_then(|records| records.read(&name.service_entry()))
            // It heeds nothing until it is undone, whether or not its owner is there.
            .is_some_and(|record| record.pid == pid)
}

/// Returns the drained services of a scandir, and whether each has no work left. A drain whose
/// owner has ended counts until it is undone.
pub fn recorded(scandir: &Path) -> Vec<(String, bool)> {
    let Some(records) = DrainRecords::open(scandir) else { return Vec::new() };
    let stage = |service: String| Some((records.read(&service)?.stage, service));
    let all = records.services().into_iter().filter_map(stage);
    all.map(|(stage, service)| (service, stage == DrainStage::Idle.word())).collect()
}

/// Returns who drains a service and what the next step is, as text.
pub fn words_of(scandir: &Path, service: &str) -> Option<String> {
    let record = DrainRecords::open(scandir)?.read(service)?;
    let then = match &*record.then {
        "nothing" => String::new(),
        then => format!(", then {then}"),
    };
    Some(format!("by {}{then}", record.by))
}

/// Returns the report about a drain that another program has asked for.
fn anothers(manager: &ScandirManager, name: &ProfileName, pid: i32) -> Option<DrainReport> {
    let drain = manager.agent().gateway.drain.as_ref()?;
    let file = DrainTarget { manager, name, drain }.asked_by_another(pid)?;
    Some(DrainReport {
        stage: DrainStage::Asked.word().to_owned(),
        turns: None,
        left_ms: None,
        then: DrainThen::Nothing.word().to_owned(),
        by: format!("another program, with `{}`", file.display()),
        owner: None,
        since: None,
        until: None,
        reason: None,
    })
}

/// Returns who drains a gateway and until when, as text.
pub(super) fn holder(record: Option<&DrainRecord>) -> String {
    let Some(record) = record else { return "nobody says by whom".to_owned() };
    format!("by {}, until {} at the most", record.by, record.until)
}
