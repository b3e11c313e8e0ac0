//! Each form in which Hermes can be told which gateway serves whom, with both real versions: every
//! profile that shall run is served, and none twice.
//!
//! *Lives here:* one home for each version, whose configuration changes from one start of the
//! supervisor to the next. What the gateways say of themselves counts, and then what Gatevisor says
//! of them. *Does not live here:* requests for a profile that another one's gateway serves, and the
//! way from one version to the other (`topology`).

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::home::Home;
use crate::support::waiting;
use crate::topology::{hermes_022, serving, words};
use crate::{hermes, stopped, support, with_program};

const ENVIRONMENT: &str = "GATEWAY_MULTIPLEX_PROFILES";
const PROFILES: [&str; 3] = ["default", "coder", "writer"];
const STANDALONE: &str = "gateway:\n  standalone: true\n";

/// Whose gateways serve coder and writer.
type Servers = [&'static str; 2];
const SHARED: Servers = ["default", "default"];
const EACH_ITS_OWN: Servers = ["coder", "writer"];
const ONE_ALONE: Servers = ["default", "writer"];

/// One configuration of a home in which all profiles shall run.
struct Form {
    what: &'static str,
    /// What the environment says; nothing if it is empty.
    variable: &'static str,
    /// The default profile's `config.yaml`.
    shared: &'static str,
    /// The `config.yaml` in the home of writer.
    writer: &'static str,
    old: Servers,
    new: Servers,
}

const EMPTY: Form = Form { what: "", variable: "", shared: "", writer: "", old: EACH_ITS_OWN, new: SHARED };
const FORMS: [Form; 7] = [
    Form { what: "environment", variable: "on", old: SHARED, ..EMPTY },
    Form { what: "YAML", shared: "multiplex_profiles: true\n", old: SHARED, ..EMPTY },
    Form { what: "standalone", writer: STANDALONE, new: ONE_ALONE, ..EMPTY },
    Form { what: "nested YAML", shared: "gateway:\n  multiplex_profiles: yes\n", old: SHARED, ..EMPTY },
    // Neither version knows a list of profiles that are served, so nobody is left out by one.
    Form {
        what: "allow-list",
        shared: "gateway:\n  multiplex_profile_allowlist: [coder]\n  served_profiles: [coder]\n",
        ..EMPTY
    },
    Form {
        what: "mixed: all, and one standalone",
        shared: "gateway:\n  multiplex_profiles: true\n",
        writer: STANDALONE,
        old: SHARED,
        new: ONE_ALONE,
        ..EMPTY
    },
    Form {
        what: "mixed: the environment against YAML, and one standalone",
        variable: "off",
        shared: "multiplex_profiles: true\n",
        writer: STANDALONE,
        old: EACH_ITS_OWN,
        new: ONE_ALONE,
    },
];

/// Returns whose gateways serve a profile, as these say themselves in their state files. A file of
/// a process that has gone says nothing.
fn servers(home: &Home, name: &str) -> Vec<&'static str> {
    let processes = home.processes();
    let serves = |server: &&str| {
        let bytes = fs::read(home.state_file(server)).unwrap_or_default();
        let state: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let pid = state["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        let works = pid.is_some_and(|pid| processes.contains(&pid)) && state["gateway_state"] == "running";
        let others =
            state["served_profiles"].as_array().is_some_and(|names| names.iter().any(|other| other == name));
        works && (*server == name || others)
    };
    PROFILES.into_iter().filter(serves).collect()
}

/// Starts the supervisor in this form, and returns after how long all were served.
fn try_form(home: &mut Home, form: &Form, expected: Servers) -> Duration {
    home.set(ENVIRONMENT, form.variable);
    fs::write(home.path().join("config.yaml"), form.shared).unwrap();
    fs::write(home.profile_dir("writer").join("config.yaml"), form.writer).unwrap();
    let began = Instant::now();
    home.up_with(["up", "--quiet"]);
    let mut found = [vec![], vec![]];
    let all = waiting::found_slowly(|| {
        found = ["coder", "writer"].map(|name| servers(home, name));
        assert!(found.iter().all(|servers| servers.len() < 2), "{}: served twice: {found:?}", form.what);
        (found == expected.map(|server| vec![server])).then_some(())
    });
    let took = began.elapsed();
    assert!(all.is_some(), "{}: coder and writer are served by {found:?}, not by {expected:?}", form.what);
    // Gatevisor says the same.
    let has_own = |name: &&str| *name == "default" || expected.contains(name);
    let own: Vec<&str> = PROFILES.into_iter().filter(has_own).collect();
    let others: Vec<&str> = ["coder", "writer"].into_iter().filter(|name| !expected.contains(name)).collect();
    let (up, served) = serving(home);
    assert_eq!((words(&up), words(&served)), (own, others), "{}", form.what);
    let findings = home.says("doctor --json").out;
    assert!(!findings.contains("\"topology\""), "{}: {findings}", form.what);
    stopped(home);
    took
}

#[expect(clippy::print_stderr, reason = "docs/guides/hermes.md has the longest one")]
fn try_all(version: &str, program: PathBuf, expected: impl Fn(&Form) -> Servers) {
    support::set_wait_limit(Duration::from_mins(2));
    let mut home = with_program(program);
    for name in PROFILES {
        if name != "default" {
            home.run(["profile", "create", name]).ok();
        }
        home.want_running(name);
    }
    for form in &FORMS {
        let took = try_form(&mut home, form, expected(form));
        eprintln!("{version}, {}: all served after {} ms", form.what, took.as_millis());
    }
}

#[test]
fn real_hermes_019_serves_every_profile_once_in_each_form_of_its_configuration() {
    try_all("0.19", hermes(), |form| form.old);
}

#[test]
fn real_hermes_022_serves_every_profile_once_in_each_form_of_its_configuration() {
    try_all("0.22", hermes_022(), |form| form.new);
}
