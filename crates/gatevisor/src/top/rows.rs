//! The gateways of the view: their reports, and their processor time and memory.
//!
//! *Lives here:* the last report of each gateway, as a row of the view.
//! *Does not live here:* the words for states (`status`), and when to look (`super`).

use std::collections::BTreeMap;

use anstyle::AnsiColor;
use gatevisor_gateways::inspect::{self, ServiceReport, ServiceState};
use gatevisor_gateways::profile::ProfileName;
use gatevisor_gateways::tree::{self, Leader};
use gatevisor_term::escape;
use gatevisor_top::{Row, Sample, Tone};
use gatevisor_wire::Pid;

use crate::context::CommandContext;
use crate::exit::CommandError;
use crate::{status, summary};

/// A report, and the time at which it was made.
struct SeenReport {
    report: ServiceReport,
    at_ms: u64,
}

/// The processor time of a process and its descendants at an earlier sample.
#[derive(Clone, Copy)]
struct UsedBefore {
    pid: i32,
    cpu_ms: u64,
    at_ms: u64,
}

/// The gateways of the view.
pub struct Gateways<'a> {
    context: &'a CommandContext,
    only: Vec<ProfileName>,
    seen: BTreeMap<String, SeenReport>,
    used: BTreeMap<String, UsedBefore>,
}

impl<'a> Gateways<'a> {
    pub fn new(context: &'a CommandContext, only: Vec<ProfileName>) -> Self {
        Self { context, only, seen: BTreeMap::new(), used: BTreeMap::new() }
    }

    /// Returns the gateways that the view is limited to; none means all gateways.
    pub fn only(&self) -> &[ProfileName] {
        &self.only
    }

    /// Makes a new report of each gateway.
    pub fn look_at_all(&mut self, now_ms: u64) -> Result<(), CommandError> {
        let (reports, _) = if self.only.is_empty() {
            status::reports(self.context, &[])?
        } else {
            let found = inspect::inspect_each(&self.context.manager, &self.only);
            (found.into_iter().filter_map(Result::ok).collect(), 0)
        };
        let of_gateways = reports.into_iter().filter(|report| report.profile.is_some());
        self.seen = of_gateways
            .map(|report| (report.service.clone(), SeenReport { report, at_ms: now_ms }))
            .collect();
        Ok(())
    }

    /// Makes new reports of these services, and returns their rows; `None` if a gateway is new or
    /// has gone.
    pub fn look_at(&mut self, services: &[String], now_ms: u64) -> Option<Vec<Row>> {
        let names: Vec<ProfileName> =
            services.iter().filter_map(|service| ProfileName::of_service(service.as_bytes())).collect();
        let mut rows = Vec::new();
        for report in inspect::inspect_each(&self.context.manager, &names) {
            let report = report.ok()?;
            let known = self.seen.get_mut(&report.service)?;
            *known = SeenReport { report, at_ms: now_ms };
            rows.push(row(known));
        }
        Some(rows)
    }

    /// Returns the services that are starting, as far as is known.
    pub fn unsettled(&self) -> Vec<String> {
        let starting = self.seen.values().filter(|seen| seen.report.state == ServiceState::Starting);
        starting.map(|seen| seen.report.service.clone()).collect()
    }

    pub fn rows(&self) -> Vec<Row> {
        self.seen.values().map(row).collect()
    }

    /// Returns how many gateways are in each state, as text.
    pub fn summary(&self) -> Option<String> {
        let states: Vec<ServiceState> = self.seen.values().map(|seen| seen.report.state).collect();
        summary::words(&states)
    }

    /// Returns the texts of states that contain a time, as of `now_ms`.
    pub fn aged(&self, now_ms: u64) -> Vec<(String, String)> {
        let aged = |seen: &SeenReport| {
            let report = &seen.report;
            let live = matches!(report.state, ServiceState::Unresponsive | ServiceState::Degraded);
            let is_timed =
                live || report.state == ServiceState::Draining || report.next_start_in_ms.is_some();
            is_timed.then(|| (report.name().to_owned(), state(&older(seen, now_ms))))
        };
        self.seen.values().filter_map(aged).collect()
    }

    /// Returns what each gateway uses now. The processor time of a gateway with a new process is
    /// not known before the second sample.
    pub fn sample(&mut self, now_ms: u64) -> Vec<(String, Sample)> {
        let leaders: Vec<(String, Leader)> = self.seen.values().filter_map(leader).collect();
        let processes: Vec<Leader> = leaders.iter().map(|(_, leader)| leader.clone()).collect();
        let usage = tree::usage(self.context.manager.scandir(), &processes);
        let used = std::mem::take(&mut self.used);
        let mut samples = Vec::new();
        for (name, leader) in leaders {
            let Some(now) = usage.get(&leader.pid) else { continue };
            let pid = leader.pid.get();
            let before = used.get(&name).filter(|before| before.pid == pid);
            let cpu_tenths = before.and_then(|before| {
                let used = now.cpu_ms.saturating_sub(before.cpu_ms).saturating_mul(1000);
                used.checked_div(now_ms.saturating_sub(before.at_ms))
            });
            self.used.insert(name.clone(), UsedBefore { pid, cpu_ms: now.cpu_ms, at_ms: now_ms });
            samples.push((name, Sample { cpu_tenths, memory_bytes: Some(now.memory_bytes) }));
        }
        let silent = self.seen.values().filter(|seen| !self.used.contains_key(seen.report.name()));
        samples.extend(silent.map(|seen| (seen.report.name().to_owned(), Sample::default())));
        samples
    }
}

fn leader(seen: &SeenReport) -> Option<(String, Leader)> {
    let report = &seen.report;
    let pid = Pid::new(report.pid?)?;
    let leader = Leader { service: report.service.clone(), pid, may_have_group: true };
    Some((report.name().to_owned(), leader))
}

/// Returns a report as it is now, if nothing has happened since it was made.
fn older(seen: &SeenReport, now_ms: u64) -> ServiceReport {
    let passed = now_ms.saturating_sub(seen.at_ms);
    let mut report = seen.report.clone();
    report.next_start_in_ms = report.next_start_in_ms.map(|left| left.saturating_sub(passed));
    if let Some(drain) = &mut report.drain {
        drain.left_ms = drain.left_ms.map(|left| left.saturating_sub(passed));
    }
    report
}

fn state(report: &ServiceReport) -> String {
    escape::line(&status::short_state(report)).into_owned()
}

fn row(seen: &SeenReport) -> Row {
    let report = &seen.report;
    let tone = match status::state_colour(report.state) {
        AnsiColor::Green => Tone::Good,
        AnsiColor::Yellow => Tone::Changing,
        AnsiColor::Red => Tone::Bad,
        _ => Tone::Quiet,
    };
    Row {
        name: escape::line(report.name()).into_owned(),
        state: state(report),
        tone,
        rank: summary::rank(report.state),
        desired: escape::line(&status::short_desired(report)).into_owned(),
        up_for_s: report.updownfor.filter(|_| report.is_up()),
        seen_at_s: seen.at_ms / 1000,
        restarts: report.restarts,
        note: status::note_line(report).map(|note| note.plain().trim_start().to_owned()),
    }
}
