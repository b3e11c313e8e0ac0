//! What a user is told who may not look at a home, or at a part of it: that it cannot be told, and
//! never that there is nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::home::Home;
use crate::support::running::Ran;
use crate::support::{WAIT_LIMIT, is_root, waiting};

/// A user who owns nothing here.
const STRANGER: u32 = 23_456;

/// Every command that reports.
const REPORTS: [&str; 24] = [
    "status",
    "status coder",
    "gateway status coder",
    "profile list",
    "profile show coder",
    "explain coder",
    "health",
    "health coder",
    "health --supervisor",
    "tree",
    "tree coder",
    "logs",
    "logs coder",
    "logs --all",
    "incidents",
    "incidents coder",
    "incidents --collect coder",
    "wait coder",
    "wait coder --live",
    "wait coder --down",
    "doctor",
    "agents",
    "reconcile --dry-run",
    "metrics",
];

/// What nobody can know who may not look.
const UNTRUE: [&str; 15] = [
    "there is no ",
    "there are no ",
    "no supervisor",
    "not supervised",
    "nobody supervises",
    "not registered",
    "no gateway",
    "no process of",
    "has no process",
    "has no log",
    "no profile",
    "never asked",
    "nothing was ever recorded",
    "all well",
    "supervisor_up 0",
];

/// Values that nobody can know who may not look at the slot of a gateway.
const UNKNOWN: [&str; 5] = ["up", "ready", "wantedup", "updownfor", "healthy"];

/// Returns a home that everybody may look at, with a gateway that runs, one that does not, and an
/// incident.
fn open_home() -> Home {
    let mut home = Home::with_script("echo begun; exec sleep 1000", &[]);
    for name in ["coder", "writer"] {
        home.run(["profile", "create", name]).ok();
    }
    home.up();
    home.says("start coder").ok();
    home.says("incidents --collect coder").ok();
    home.until_logged("coder", "begun");
    mode(&home.beside(""), 0o755);
    open(home.path());
    for name in ["coder", "writer", "default"] {
        // Else nobody but the owner can tell whether a gateway is supervised.
        mode(&home.slot(name).control_path(), 0o622);
    }
    home
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Opens a tree to everybody.
fn open(path: &Path) {
    // The watchers' subscriptions, and files that replace others, come and go.
    let Ok(found) = fs::symlink_metadata(path) else { return };
    let more = if found.is_dir() { 0o055 } else { 0o044 };
    if found.is_dir() || found.is_file() {
        let opened = fs::set_permissions(path, fs::Permissions::from_mode(found.permissions().mode() | more));
        assert!(opened.is_ok() || !path.exists(), "{} {opened:?}", path.display());
    }
    if found.is_dir() {
        fs::read_dir(path).into_iter().flatten().flatten().for_each(|entry| open(&entry.path()));
    }
}

fn as_a_stranger(home: &Home, line: &str) -> Ran {
    let mut command = home.command(line.split_whitespace());
    command.uid(STRANGER).gid(STRANGER);
    home.spawn(command).ended(WAIT_LIMIT)
}

/// Closes these paths of an open home, and checks what each command that reports says then. Those
/// in `seeing` need nothing of what is closed, so they answer.
#[track_caller]
fn closed(paths: impl Fn(&Home) -> Vec<PathBuf>, seeing: &[&str]) {
    if !is_root() {
        return;
    }
    let home = open_home();
    let truth = Truth::of(&home);
    for path in paths(&home) {
        mode(&path, fs::metadata(&path).unwrap().permissions().mode() & 0o700);
    }
    for line in REPORTS {
        let ran = as_a_stranger(&home, line);
        if seeing.contains(&line) {
            assert_eq!(ran.code, Some(0), "{line}: {ran:?}");
            continue;
        }
        let code = if line == "doctor" { 1 } else { 111 };
        assert_eq!(ran.code, Some(code), "{line}: {ran:?}");
        let said = format!("{}{}", ran.out, ran.err);
        assert!(said.contains("Permission denied") && said.contains("cannot "), "{line}: {said}");
        let untrue = UNTRUE.iter().find(|words| said.contains(**words));
        assert_eq!(untrue, None, "{line}: {said}");
        let is_down = ran.out.lines().any(|line| line.starts_with("coder") && line.contains("down"));
        assert!(!is_down, "{line}: {said}");
    }
    for line in ["status", "gateway status coder", "explain coder", "health", "health --supervisor"] {
        let ran = as_a_stranger(&home, &format!("--json {line}"));
        for object in ran.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
            assert!(truth.allows(&object) || seeing.contains(&line), "{line}: {object}");
        }
    }
}

/// The state of each gateway, as its owner sees it.
struct Truth(BTreeMap<String, Value>);

impl Truth {
    fn of(home: &Home) -> Self {
        let names = ["coder", "writer", "default"];
        Self(names.map(|name| (name.to_owned(), home.report(name).get("state").cloned().unwrap())).into())
    }

    /// Returns whether an object claims of a gateway or a supervisor only what is so, or nothing.
    fn allows(&self, object: &Value) -> bool {
        match object.get("state") {
            Some(state) if state != "unknown" => {
                object.get("profile").and_then(Value::as_str).and_then(|name| self.0.get(name)) == Some(state)
            }
            _ => UNKNOWN.iter().all(|name| object.get(name).is_none_or(Value::is_null)),
        }
    }
}

#[test]
fn an_untrue_state_is_not_allowed_to_be_told() {
    let truth = Truth(BTreeMap::from([("coder".to_owned(), json!("up"))]));
    for (object, is_allowed) in [
        (json!({ "profile": "coder", "state": "up", "up": true }), true),
        (json!({ "profile": "coder", "state": "down", "up": false }), false),
        (json!({ "profile": "coder", "state": "unknown", "up": null }), true),
        (json!({ "profile": "coder", "state": "unknown", "up": false }), false),
        (json!({ "profile": "nobody", "state": "down" }), false),
        (json!({ "healthy": null }), true),
        (json!({ "healthy": false }), false),
    ] {
        assert_eq!(truth.allows(&object), is_allowed, "{object}");
    }
}

#[test]
fn of_a_home_that_a_user_may_not_enter_nothing_is_told_as_missing() {
    closed(|home| vec![home.path().to_owned()], &[]);
}

#[test]
fn where_the_agent_is_looked_for_in_a_home_that_a_user_may_not_enter_the_home_is_named() {
    if !is_root() {
        return;
    }
    let mut home = Home::with_agent(&[]);
    home.tell_agent(None);
    mode(&home.beside(""), 0o755);
    mode(home.path(), 0o700);
    let said = as_a_stranger(&home, "profile list").refused(111);
    let expected = format!("cannot read the profiles in `{}`: Permission denied", home.path().display());
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn of_a_scandir_that_a_user_may_not_enter_nothing_is_told_as_missing() {
    let seeing = ["profile list", "incidents coder", "agents"];
    closed(|home| vec![home.scandir()], &seeing);
}

#[test]
fn of_profiles_that_a_user_may_not_enter_nothing_is_told_as_missing() {
    let seeing = ["health --supervisor", "tree", "tree coder", "logs coder", "agents"];
    closed(|home| vec![home.path().join("profiles")], &seeing);
}

/// Returns these paths below the slots of all gateways.
fn in_slots(home: &Home, path: &str) -> Vec<PathBuf> {
    ["coder", "writer", "default"].map(|name| home.slot(name).path().join(path)).to_vec()
}

/// What needs nothing of what a supervisor publishes of a gateway.
const BESIDE_SUPERVISE: [&str; 9] = [
    "health --supervisor",
    "profile list",
    "logs",
    "logs coder",
    "logs --all",
    "incidents",
    "incidents coder",
    "agents",
    "reconcile --dry-run",
];

#[test]
fn of_slots_that_a_user_may_not_enter_nothing_is_told_as_missing() {
    let seeing = [
        "profile list",
        "health --supervisor",
        "incidents",
        "incidents coder",
        "agents",
        "reconcile --dry-run",
    ];
    closed(|home| in_slots(home, ""), &seeing);
}

#[test]
fn of_supervise_directories_that_a_user_may_not_enter_nothing_is_told_as_missing() {
    closed(|home| in_slots(home, "supervise"), &BESIDE_SUPERVISE);
}

#[test]
fn of_status_files_that_a_user_may_not_read_nothing_is_told_as_missing() {
    closed(|home| in_slots(home, "supervise/status"), &BESIDE_SUPERVISE);
}

#[test]
fn events_of_a_gateway_that_a_user_may_not_look_at_are_refused_and_not_awaited_for_ever() {
    if !is_root() {
        return;
    }
    let home = open_home();
    for path in ["event", "supervise/status", ""] {
        for path in in_slots(&home, path) {
            mode(&path, 0o700);
        }
        for line in ["events coder", "events"] {
            let said = as_a_stranger(&home, line).refused(111);
            assert!(said.contains("cannot tell what is in") && said.contains("Permission denied"), "{said}");
        }
    }
}

#[test]
fn of_logs_that_a_user_may_not_read_nothing_is_told_as_missing() {
    let seeing = [
        "status",
        "gateway status coder",
        "profile list",
        "profile show coder",
        "health",
        "health coder",
        "health --supervisor",
        "tree",
        "tree coder",
        "incidents coder",
        "agents",
        "reconcile --dry-run",
    ];
    closed(|home| vec![home.path().join("logs"), home.path().join("logs/gateways")], &seeing);
}

#[test]
fn logs_that_may_be_read_are_shown_beside_those_that_may_not_which_are_a_failure() {
    if !is_root() {
        return;
    }
    let home = open_home();
    home.says("start writer").ok();
    home.until_logged("writer", "begun");
    open(&home.path().join("logs"));
    mode(home.log_file("writer").parent().unwrap(), 0o700);
    for line in ["logs --all", "logs coder writer"] {
        let ran = as_a_stranger(&home, line);
        assert_eq!(ran.code, Some(111), "{line}: {ran:?}");
        assert!(ran.out.contains("begun") && ran.err.contains("gateways/writer"), "{line}: {ran:?}");
    }
}

#[test]
fn of_state_files_that_a_user_may_not_read_nothing_is_told_as_missing() {
    let seeing = [
        "profile list",
        "health --supervisor",
        "tree",
        "tree coder",
        "logs",
        "logs coder",
        "logs --all",
        "incidents",
        "incidents coder",
        "agents",
    ];
    closed(|home| vec![home.state_file("coder")], &seeing);
}

#[test]
fn of_variables_that_a_user_may_not_read_no_port_is_told_as_shared() {
    if !is_root() {
        return;
    }
    let home = open_home();
    for name in ["coder", "writer"] {
        mode(&home.profile_dir(name).join(".env"), 0o600);
    }
    let ran = as_a_stranger(&home, "doctor");
    let said = format!("{}{}", ran.out, ran.err);
    assert!(said.contains("cannot tell what is in") && said.contains("coder/.env"), "{said}");
    assert!(!said.contains("same port"), "{said}");
    let report = as_a_stranger(&home, "--json status coder");
    let report: Value = serde_json::from_str(&report.out).unwrap();
    assert_eq!(report["port_held"], Value::Null, "{report}");
}

#[test]
fn of_the_words_of_a_watcher_that_a_user_may_not_read_nothing_is_told_as_missing() {
    if !is_root() {
        return;
    }
    let home = open_home();
    let watcher = home.scandir().join(".live");
    for path in [watcher.join(".watcher"), watcher] {
        waiting::polled("the watcher", || path.exists().then_some(()));
        mode(&path, 0o700);
        for line in ["doctor", "health --supervisor"] {
            let ran = as_a_stranger(&home, line);
            let said = format!("{}{}", ran.out, ran.err);
            assert!(!said.contains("nobody watches"), "{line}: {said}");
        }
    }
}
