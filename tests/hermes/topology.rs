//! Which gateway serves which profile, with the real Hermes 0.19 and 0.22: every profile that shall
//! run is served, and none twice.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::home::{Home, Port};
use crate::support::processes::Held;
use crate::support::waiting;
use crate::{configure, hermes, installed, patient, profile, stopped, tried, with_program};

/// Returns the time within which all profiles must be served again after another version was
/// installed: `GATEVISOR_SERVED_WITHIN` in seconds, as `scripts/soak.sh boot` sets it, or else one
/// for a busy machine.
fn served_within() -> Duration {
    let asked = std::env::var("GATEVISOR_SERVED_WITHIN").ok();
    Duration::from_secs(asked.map_or(90, |seconds| seconds.parse().unwrap()))
}

/// The profiles whose gateways run, and those that the gateway of the root profile serves.
pub fn serving(home: &Home) -> (Vec<String>, Vec<String>) {
    let names = ["default", "coder", "writer", "quiet"].into_iter();
    let names = names.filter(|name| home.profile_dir(name).exists());
    let reports: Vec<_> = names.map(|name| (name.to_owned(), home.report(name))).collect();
    let of = |state: &[&str]| {
        let is_so = |report: &Value| state.iter().any(|state| report["state"] == *state);
        reports.iter().filter(|(_, report)| is_so(report)).map(|(name, _)| name.clone()).collect()
    };
    (of(&["ready", "up", "starting", "degraded"]), of(&["served"]))
}

/// Starts the supervisor, and waits until these profiles are up or served.
fn up(home: &mut Home, names: &[&str]) -> String {
    home.up_with(["up"]);
    waiting::polled("the reconciliation", || home.running().out().contains("profile=writer").then_some(()));
    let out = home.running().out();
    home.until_supervised("default");
    for name in names {
        patient(home, &format!("wait --timeout 100 {name}")).ok();
    }
    out
}

/// Returns a home in which coder and writer shall run, with this program.
fn wanted(program: std::path::PathBuf) -> (Home, [Port; 2]) {
    let home = with_program(program);
    let ports = ["coder", "writer"].map(|name| {
        let port = profile(&home, name);
        home.want_running(name);
        port
    });
    (home, ports)
}

pub fn hermes_022() -> std::path::PathBuf {
    installed("HERMES_022_BIN", "0.22")
}

pub fn words(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

#[test]
fn real_hermes_022_serves_all_profiles_with_one_gateway_and_each_can_be_stopped_started_and_restarted() {
    let (mut home, _ports) = wanted(hermes_022());
    let out = up(&mut home, &["default", "coder", "writer"]);
    assert!(
        out.contains("profile=default prior_state=None action=started reason=it serves coder, writer"),
        "{out}"
    );
    assert!(out.contains("profile=coder prior_state=running action=registered"), "{out}");
    let (up, served) = serving(&home);
    assert_eq!((words(&up), words(&served)), (vec!["default"], vec!["coder", "writer"]));
    let process = home.pid("default");
    let report = home.report("coder");
    assert_eq!(
        (&report["served"]["by"], &report["served"]["pid"], &report["reason"]),
        (&"default".into(), &process.into(), &format!("by default (pid {process})").into()),
        "{report}"
    );
    // A stop is for one profile.
    patient(&home, "gateway stop coder").ok();
    patient(&home, "wait --down --timeout 60 coder").ok();
    let (_, served) = serving(&home);
    assert_eq!(words(&served), ["writer"]);
    assert_eq!(home.state("coder")["desired_state"], "stopped");
    let said = patient(&home, "gateway start coder").ok();
    assert!(said.contains(&format!("coder: served by the gateway of default (pid {process})")), "{said}");
    let said = patient(&home, "gateway restart writer").ok();
    assert!(
        said.contains(&format!("writer: served anew by the gateway of default (pid {process})")),
        "{said}"
    );
    let (up, served) = serving(&home);
    assert_eq!((words(&up), words(&served)), (vec!["default"], vec!["coder", "writer"]));
    // So is a new one, until it is deleted. Hermes lets go of it before its files are gone.
    let said = patient(&home, "profile create late --start").ok();
    let words = format!("its gateway is registered, and served by the gateway of default (pid {process})");
    assert!(said.contains(&words), "{said}");
    let listed = |home: &Home| home.state("default")["served_profiles"].to_string().contains("late");
    assert!(listed(&home), "{}", home.state("default"));
    let deleted = patient(&home, "profile delete late --yes");
    assert_eq!((deleted.code, &*deleted.err), (Some(0), ""), "{deleted:?}");
    assert!(!listed(&home), "{}", home.state("default"));
    let left = home.profile_dir("late");
    assert!(!left.exists(), "{:?}", std::process::Command::new("find").arg(&left).output());
    assert_eq!(home.pid("default"), process);
    // The gateway of all is another matter, and that is said.
    let ran = patient(&home, "gateway stop default");
    assert!(ran.err.contains("coder, writer shall run, and this gateway serves them"), "{ran:?}");
    let report = home.report("coder");
    assert_eq!(
        (&report["state"], &report["reason"]),
        (&"down".into(), &"default serves it, and is not up".into()),
        "{report}"
    );
    let said = patient(&home, "gateway start coder").ok();
    assert!(said.contains("coder: served by the gateway of default (pid "), "{said}");
    patient(&home, "gateway stop --all").ok();
    assert_eq!(serving(&home), (vec![], vec![]));
    stopped(&mut home);
}

#[test]
fn real_hermes_022_gives_a_standalone_profile_a_gateway_of_its_own_and_keeps_that_while_its_file_is_broken() {
    let (mut home, ports) = wanted(hermes_022());
    let config = home.profile_dir("writer").join("config.yaml");
    fs::write(&config, "gateway:\n  standalone: true\n").unwrap();
    let out = up(&mut home, &["default", "coder", "writer"]);
    assert!(out.contains("profile=writer prior_state=running action=started"), "{out}");
    let (up_now, served) = serving(&home);
    assert_eq!((words(&up_now), words(&served)), (vec!["default", "writer"], vec!["coder"]));
    // Hermes itself refuses, with 78, as long as the shared gateway has not read the file.
    patient(&home, "wait --ready --timeout 100 writer").ok();
    assert!(ports[1].healthy());
    let held = Held::of(home.pid("writer")).unwrap();
    stopped(&mut home);
    assert!(held.is_gone());
    fs::write(&config, "gateway: {standalone: true\n").unwrap();
    let said = home.says("reconcile --dry-run").ok();
    assert!(said.contains("profile=writer prior_state=running action=started"), "{said}");
    assert!(said.contains("which gateway serves it is as it was known last: `"), "{said}");
    let report = home.report("writer");
    let problem = report["topology_problem"].as_str().unwrap_or_default();
    assert!(problem.contains("writer/config.yaml` is not YAML that can be read"), "{report}");
}

#[test]
fn real_hermes_022_that_still_serves_a_profile_which_has_become_standalone_does_not_keep_it_down() {
    let (mut home, ports) = wanted(hermes_022());
    up(&mut home, &["default", "coder", "writer"]);
    fs::write(home.profile_dir("writer").join("config.yaml"), "gateway:\n  standalone: true\n").unwrap();
    // The shared gateway looks at its profiles twice a minute. Until then, Hermes refuses with 78,
    // which means otherwise that no other start can help.
    let ran = patient(&home, "gateway start writer --ready --timeout 110");
    if ran.code != Some(0) {
        patient(&home, "wait --ready --timeout 110 writer").ok();
    }
    assert!(ports[1].healthy());
    // The shared gateway may just be taking its profiles anew.
    waiting::polled("coder served by default, and writer by its own", || {
        let (up_now, served) = serving(&home);
        ((words(&up_now), words(&served)) == (vec!["default", "writer"], vec!["coder"])).then_some(())
    });
    let log = fs::read_to_string(home.log_file("writer")).unwrap();
    if log.contains("gateway.standalone is not live yet") {
        let report = home.report("writer");
        let meaning = report["deaths"][0]["meaning"].as_str().unwrap_or_default();
        assert_eq!(meaning, "configuration error, final once it has failed 10 times in a row", "{report}");
    }
    stopped(&mut home);
}

#[test]
fn real_hermes_019_serves_all_with_one_gateway_only_where_its_environment_or_its_file_says_so() {
    for text in [None, Some("multiplex_profiles: true\n"), Some("gateway:\n  multiplex_profiles: yes\n")] {
        let mut home = with_program(hermes());
        for name in ["coder", "writer"] {
            home.run(["profile", "create", name]).ok();
            home.want_running(name);
        }
        match text {
            Some(text) => fs::write(home.path().join("config.yaml"), text).unwrap(),
            None => home.set("GATEWAY_MULTIPLEX_PROFILES", "on"),
        }
        let out = up(&mut home, &["default", "coder", "writer"]);
        assert!(out.contains("profile=default prior_state=None action=started"), "{out}");
        let (up, served) = serving(&home);
        assert_eq!((words(&up), words(&served)), (vec!["default"], vec!["coder", "writer"]), "{text:?}");
        stopped(&mut home);
    }
}

#[test]
fn real_hermes_from_019_to_022_and_back_keeps_every_desired_state_and_leaves_no_profile_unserved() {
    let (old, new) = (hermes(), hermes_022());
    let (mut home, ports) = wanted(old.clone());
    configure(&home, "default");
    home.want_running("default");
    home.run(["profile", "create", "quiet"]).ok();
    home.plant_state("quiet", r#"{"desired_state": "stopped"}"#);
    let desired = |home: &Home| {
        ["default", "coder", "writer", "quiet"].map(|name| home.state(name)["desired_state"].clone())
    };
    for program in [&old, &new, &old, &new] {
        home.set("HERMES_BIN", program);
        let began = Instant::now();
        let out = up(&mut home, &["default", "coder", "writer"]);
        assert!(out.contains("profile=quiet prior_state=stopped action=registered"), "{out}");
        let (up_now, served) = serving(&home);
        if *program == old {
            assert_eq!(
                (words(&up_now), words(&served)),
                (vec!["default", "coder", "writer"], vec![]),
                "{out}"
            );
            for (name, port) in ["coder", "writer"].into_iter().zip(&ports) {
                patient(&home, &format!("wait --ready --timeout 100 {name}")).ok();
                assert!(port.healthy(), "{name} is ready and does not answer");
            }
            patient(&home, "wait --ready --timeout 100 default").ok();
        } else {
            assert_eq!((words(&up_now), words(&served)), (vec!["default"], vec!["coder", "writer"]), "{out}");
            let config = fs::read_to_string(home.path().join("config.yaml")).unwrap();
            assert!(config.contains("multiplex_profiles: true"), "the newer one wrote it: {config}");
        }
        let took = began.elapsed();
        eprintln!("after an upgrade or the way back: all served after {} ms", took.as_millis());
        assert!(took < served_within(), "after {took:?}");
        assert_eq!(desired(&home), ["running", "running", "running", "stopped"]);
        assert_eq!(home.report("quiet")["state"], "down", "{}", home.report("quiet"));
        let findings = home.says("doctor --json").out;
        assert!(!findings.contains("\"topology\""), "{findings}");
        stopped(&mut home);
    }
    for column in ["Hermes 0.19", "Hermes 0.22"] {
        let documented = tried::documented("upgrade", column);
        assert_eq!(documented, "to the other and back: all served again", "docs/guides/agents.md, {column}");
    }
    // What was desired meanwhile counts in the other version.
    home.set("HERMES_BIN", &old);
    up(&mut home, &["default", "coder"]);
    patient(&home, "gateway stop coder").ok();
    patient(&home, "gateway start quiet").ok();
    stopped(&mut home);
    home.set("HERMES_BIN", &new);
    up(&mut home, &["default", "quiet", "writer"]);
    let (up_now, served) = serving(&home);
    assert_eq!((words(&up_now), words(&served)), (vec!["default"], vec!["writer", "quiet"]));
    stopped(&mut home);
}
