//! One agent, tried with every case of the list, one after the other, in one home.
//!
//! *Lives here:* how each case is tried. *Does not live here:* the agents, and what is different
//! for each (`main`); the table in `docs/guides/agents.md` that the outcomes are compared with
//! (`tried`).

use std::collections::BTreeMap;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::home::{Home, Ran};
use crate::support::processes::{self, Held};
use crate::{WAIT_LIMIT, support, tried};

/// An agent that is being tried.
pub struct Trial {
    pub home: Home,
    pub profile: &'static str,
    column: &'static str,
    outcomes: Vec<(&'static str, String)>,
}

impl Trial {
    /// Begins with a home whose supervisor runs; the column of the table is called so.
    pub fn new(home: Home, profile: &'static str, column: &'static str) -> Self {
        support::set_wait_limit(WAIT_LIMIT);
        Self { home, profile, column, outcomes: Vec::new() }
    }

    /// Notes the outcome of a case, or why it does not apply.
    pub fn is(&mut self, case: &'static str, outcome: &'static str) {
        self.outcomes.push((case, outcome.to_owned()));
    }

    /// Runs a command that may take as long as a start of the agent.
    #[track_caller]
    pub fn run(&self, line: &str) -> Ran {
        self.home.start(line.split(' ')).ended(WAIT_LIMIT)
    }

    pub fn pid(&self) -> i32 {
        self.home.pid(self.profile)
    }

    /// Waits until the gateway is ready, and runs as another process than this.
    #[track_caller]
    pub fn again(&self, old: i32) -> Value {
        self.home.until_report(self.profile, "another process that is ready", |report| {
            report["ready"] == true && report["pid"].is_i64() && report["pid"] != old
        })
    }

    #[track_caller]
    pub fn starts(&mut self, shape: &'static str, ready_by: &'static str) {
        let said = self.run(&format!("gateway start {} --ready --timeout 150", self.profile)).ok();
        assert!(said.contains("ready (pid "), "{said}");
        self.is("start", shape);
        let report = self.home.report(self.profile);
        assert_eq!(report["ready"], true, "{report}");
        self.is("ready", ready_by);
    }

    /// A signal stops it, so that it answers nothing any more. It has shown before that it works.
    #[track_caller]
    pub fn freezes(&mut self) {
        let profile = self.profile;
        support::waiting::polled("evidence that it works", || {
            let report = self.home.report(profile);
            matches!(report["live"]["state"].as_str(), Some("live" | "degraded")).then_some(())
        });
        let old = self.pid();
        processes::signal(old, Signal::STOP);
        let report = self.again(old);
        let incident = report["live_restart"]["incident"].as_str().unwrap_or_default().to_owned();
        assert!(Path::new(&incident).is_dir(), "there is no evidence of it: {report}");
        assert_eq!(report["live_restart"]["pid"], old, "{report}");
        self.is("freeze", "evidence, and started again");
    }

    #[track_caller]
    pub fn crashes(&mut self) {
        let old = self.pid();
        processes::signal(old, Signal::KILL);
        let report = self.again(old);
        assert_eq!(report["deaths"][0]["signal"], "SIGKILL", "{report}");
        // It may be ready a moment before it handles signals; when it has shown that it works, it
        // does.
        support::waiting::polled("evidence that it works", || {
            let report = self.home.report(self.profile);
            matches!(report["live"]["state"].as_str(), Some("live" | "degraded")).then_some(())
        });
        self.is("crash", "started again");
    }

    /// It is asked, without Gatevisor, to start again, and ends with this code.
    #[track_caller]
    pub fn restarts_itself(&mut self, how: &'static str, code: i32, ask: impl FnOnce(&Home, i32)) {
        let old = self.pid();
        ask(&self.home, old);
        let report = self.again(old);
        assert_eq!(report["deaths"][0]["exitcode"], code, "{report}");
        self.is("own restart", how);
    }

    #[track_caller]
    pub fn drains(&mut self, how: &'static str) {
        let old = self.pid();
        let ran = self.run(&format!("gateway restart {} --drain=60s --ready --timeout 150", self.profile));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(format!("{}{}", ran.out, ran.err).contains("idle after"), "{ran:?}");
        self.again(old);
        self.is("drain", how);
    }

    /// The agent offers no way to drain it from outside without ending it.
    #[track_caller]
    pub fn does_not_drain(&mut self, why: &'static str) {
        let ran = self.run(&format!("gateway restart {} --drain=60s", self.profile));
        assert_ne!(ran.code, Some(0), "{ran:?}");
        assert!(ran.err.contains("does not say how"), "{ran:?}");
        self.is("drain", why);
    }

    /// Nothing of it is left, workers included.
    #[track_caller]
    pub fn stops(&mut self) {
        let whole: Vec<Held> = family(self.pid()).into_iter().filter_map(Held::of).collect();
        self.run(&format!("gateway stop {} --timeout 150", self.profile)).ok();
        for held in &whole {
            held.until_gone("a process of the gateway");
        }
        assert_eq!(self.home.report(self.profile)["state"], "down");
        self.is("stop", "down, and nothing of it left");
    }

    /// The supervisor is killed, and another one started: never do two gateways run.
    #[track_caller]
    pub fn loses_its_supervisor(&mut self) {
        self.run(&format!("gateway start {} --ready --timeout 150", self.profile)).ok();
        let old = self.pid();
        let held = Held::of(old).unwrap();
        self.home.kill_supervisor();
        self.home.up_quietly();
        self.again(old);
        assert!(held.is_gone(), "two ran at one time");
        self.is("supervisor killed", "one again, never two");
    }

    /// Ends it all, and compares the outcomes with the column in the documents.
    #[track_caller]
    pub fn ends(mut self) {
        let ran = self.home.down();
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let cases: Vec<&str> = self.outcomes.iter().map(|(case, _)| *case).collect();
        assert_eq!(cases, tried::CASES);
        let documented = cases.into_iter().map(|case| (case, tried::documented(case, self.column)));
        assert_eq!(documented.collect::<Vec<_>>(), self.outcomes, "docs/guides/agents.md says otherwise");
    }
}

/// Returns a process and all that descend from it.
fn family(pid: i32) -> Vec<i32> {
    let below = processes::children(pid).into_iter().flat_map(family);
    [pid].into_iter().chain(below).collect()
}

#[test]
fn every_case_of_the_table_in_the_documents_has_an_outcome_with_every_agent() {
    let mut table = tried::table();
    assert_eq!(table.remove(0)[1..], tried::COLUMNS);
    let cases: Vec<&str> = table.iter().map(|cells| &*cells[0]).collect();
    assert_eq!(cases, tried::CASES);
    let mut reasons = BTreeMap::new();
    for cells in &table {
        assert_eq!(cells.len(), tried::COLUMNS.len() + 1, "{cells:?}");
        for (column, cell) in tried::COLUMNS.iter().zip(&cells[1..]) {
            assert!(!cell.is_empty(), "{}: nothing is said of {column}", cells[0]);
            // What does not apply says why.
            if let Some(reason) = cell.strip_prefix("does not apply") {
                assert!(reason.starts_with(": "), "{}, {column}: {cell}", cells[0]);
                reasons.insert((&cells[0], column), reason);
            }
        }
    }
    assert_eq!(reasons.len(), 1, "each exception is looked at: {reasons:?}");
}
