//! One agent, tried with every case of the list, one after the other, in one home.
//!
//! *Lives here:* how each case is tried. *Does not live here:* the agents, and what is different
//! for each (`main`); the table in `docs/guides/agents.md` that the outcomes are compared with
//! (`tried`).

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
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
    /// Where its gateway answers over HTTP, if it does.
    port: Option<u16>,
    outcomes: Vec<(&'static str, String)>,
}

impl Trial {
    /// Begins with a home of several profiles whose supervisor runs; the column of the table is
    /// called so.
    pub fn new(home: Home, profile: &'static str, port: Option<u16>, column: &'static str) -> Self {
        support::set_wait_limit(WAIT_LIMIT);
        Self { home, profile, column, port, outcomes: Vec::new() }
    }

    /// Notes the outcome of a case, as it was seen.
    pub fn is(&mut self, case: &'static str, outcome: impl Into<String>) {
        self.outcomes.push((case, outcome.into()));
    }

    /// Leaves a case to the test that tries it, and compares its outcome with the table itself.
    pub fn is_seen_elsewhere(&mut self, case: &'static str) {
        let documented = tried::documented(case, self.column);
        self.is(case, documented);
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
    pub fn starts(&mut self) {
        let said = self.run(&format!("gateway start {} --ready --timeout 150", self.profile)).ok();
        assert!(said.contains("ready (pid "), "{said}");
        let report = self.home.report(self.profile);
        assert_eq!(report["ready"], true, "{report}");
        self.is("start", self.serves());
        self.is("ready", self.ready_by());
    }

    /// Returns whether this gateway serves the other profiles of the home, too.
    fn serves(&self) -> &'static str {
        support::waiting::polled("who serves the other profiles", || {
            let reports = self.home.says("--json status").ok();
            let reports = reports.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let others: Vec<Value> = reports
                .filter(|report| report["profile"].is_string() && report["profile"] != self.profile)
                .collect();
            assert!(!others.is_empty(), "there is no other profile");
            let here = |report: &&Value| report["served"]["by"] == self.profile;
            let own = |report: &&Value| report["served"].is_null() && report["served_from"] == "own";
            match others.len() {
                all if others.iter().filter(here).count() == all => Some("one gateway for all profiles"),
                all if others.iter().filter(own).count() == all => Some("one gateway a profile"),
                _ => None,
            }
        })
    }

    /// Returns what made the gateway ready: what its slot says, which is seen to be so.
    fn ready_by(&self) -> String {
        let run = fs::read_to_string(self.home.slot(self.profile).path().join("run")).unwrap();
        let Some((_, ready)) = run.split_once("\n[ready]\n") else {
            assert!(run.contains("\nnotify = true\n"), "nothing makes it ready: {run}");
            return "`READY=1`".to_owned();
        };
        let url = ready.lines().find_map(|line| line.strip_prefix("http = \"http://")).unwrap();
        let path = url.rsplit_once('/').unwrap().1.trim_end_matches('"');
        let answer = get(self.port.unwrap(), &format!("/{path}"));
        assert_eq!(answer.split(' ').nth(1), Some("200"), "/{path}: {answer}");
        format!("`/{path}`")
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

    /// It is asked, without Gatevisor, to start again; the outcome is its exit code, and then how.
    #[track_caller]
    pub fn restarts_itself(&mut self, how: &'static str, ask: impl FnOnce(&Home, i32)) {
        let old = self.pid();
        ask(&self.home, old);
        let report = self.again(old);
        self.is("own restart", format!("exit {} {how}", report["deaths"][0]["exitcode"]));
    }

    /// It takes no new work until somebody cancels that, and then does not restart before it is
    /// idle. `how` looks what keeps it from new work.
    #[track_caller]
    pub fn drains(&mut self, how: impl Fn(&Self) -> Option<&'static str>) {
        let old = self.pid();
        let drain = self.home.start(["gateway", "drain", self.profile, "--for", "10m"]);
        self.home.until_report(self.profile, "that it is idle", |report| report["drain"]["stage"] == "idle");
        let seen = support::waiting::polled("what keeps it from new work", || how(self));
        drain.signal(Signal::INT);
        let ran = drain.ended(WAIT_LIMIT);
        assert!(ran.code == Some(130) && ran.err.contains("it takes work again"), "{ran:?}");
        support::waiting::polled("that it takes work again", || how(self).is_none().then_some(()));
        assert_eq!(self.pid(), old);
        let ran = self.run(&format!("gateway restart {} --drain=60s --ready --timeout 150", self.profile));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(format!("{}{}", ran.out, ran.err).contains("idle after"), "{ran:?}");
        self.again(old);
        self.is("drain", seen);
    }

    /// Returns what it answers on its port.
    pub fn answer(&self, path: &str) -> String {
        get(self.port.unwrap(), path)
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
        self.home.until_report(self.profile, "another process that is ready", |report| {
            let is_another = report["up"] == true && report["pid"] != old;
            assert!(!is_another || held.is_gone(), "two run at one time: {old}, and {report}");
            is_another && report["ready"] == true
        });
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

/// Returns what a server on this machine answers; nothing if nobody does.
fn get(port: u16, path: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
        stream.set_read_timeout(Some(WAIT_LIMIT)).unwrap();
        let sent = stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").as_bytes());
        let _ = sent.and_then(|()| stream.read_to_string(&mut answer));
    }
    answer
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
    for cells in &table {
        assert_eq!(cells.len(), tried::COLUMNS.len() + 1, "{cells:?}");
        for (column, cell) in tried::COLUMNS.iter().zip(&cells[1..]) {
            assert!(!cell.is_empty(), "{}: nothing is said of {column}", cells[0]);
            // None of them is left out any more.
            assert!(!cell.starts_with("does not apply"), "{}, {column}: {cell}", cells[0]);
        }
    }
}
