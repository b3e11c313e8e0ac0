//! *Lives here:* what is known of a drain, for whoever asks.
//!
//! *Does not live here:* carrying it out.

use std::path::Path;

use gatevisor_liveness::DrainStage;
use gatevisor_sys::clock::monotonic_ms;
use serde::Serialize;

use super::asking::DrainTarget;
use super::record::{DrainRecord, DrainRecords, DrainThen};
use crate::manager::ScandirManager;
use crate::profile::ProfileName;

/// What is known of a drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DrainReport {
    /// How far it is: `asked`, `draining`, `idle` or `unknown`.
    pub stage: String,
    /// The turns that are under way, if the gateway counts them.
    pub turns: Option<u32>,
    /// Milliseconds until it is over; none where only whoever wants it ends it.
    pub left_ms: Option<u64>,
    /// What follows: `stop`, `restart`, `delete` or `nothing`.
    pub then: String,
    /// Who wants it, for people.
    pub by: String,
    /// The process that waits; none where another program has asked the gateway.
    pub owner: Option<i32>,
    /// Since when, in RFC 3339.
    pub since: Option<String>,
    /// Until when at the most, in RFC 3339.
    pub until: Option<String>,
    /// Why nothing tells what the gateway does.
    pub reason: Option<String>,
}

/// The drains of a home, for looks at many gateways.
#[derive(Debug)]
pub struct DrainReader<'a> {
    manager: &'a ScandirManager,
    records: Option<DrainRecords>,
}

impl<'a> DrainReader<'a> {
    /// Returns the drains of a manager's home.
    pub fn new(manager: &'a ScandirManager) -> Self {
        Self { manager, records: DrainRecords::open(manager.scandir()) }
    }

    /// Returns what is known of the drain of a gateway's process, if somebody wants one.
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

/// Returns the services of a scandir that are drained, and whether each has no work left. That
/// includes a drain whose owner has ended, until it is undone.
pub fn recorded(scandir: &Path) -> Vec<(String, bool)> {
    let Some(records) = DrainRecords::open(scandir) else { return Vec::new() };
    let stage = |service: String| Some((records.read(&service)?.stage, service));
    let all = records.services().into_iter().filter_map(stage);
    all.map(|(stage, service)| (service, stage == DrainStage::Idle.word())).collect()
}

/// Returns who drains a service, and what follows, in words.
pub fn words_of(scandir: &Path, service: &str) -> Option<String> {
    let record = DrainRecords::open(scandir)?.read(service)?;
    let then = match &*record.then {
        "nothing" => String::new(),
        then => format!(", then {then}"),
    };
    Some(format!("by {}{then}", record.by))
}

/// Returns the drain that another program has asked for.
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

/// Returns who holds a drain and until when, in words.
pub(super) fn holder(record: Option<&DrainRecord>) -> String {
    let Some(record) = record else { return "nobody says by whom".to_owned() };
    format!("by {}, until {} at the most", record.by, record.until)
}
