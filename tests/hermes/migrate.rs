//! From the container of upstream to Gatevisor, and back.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{configure, hermes, installed, patient, stopped, with_hermes, with_program};
use crate::home::Home;
use crate::support::waiting;

/// What `hermes gateway start` and `stop` of that container leave in a state file.
const STATE: &str = r#"{"pid": 7, "kind": "hermes-gateway", "argv": ["hermes", "gateway", "run"], "start_time": 1,
 "gateway_state": "running", "exit_reason": null, "restart_requested": false, "active_agents": 0,
 "platforms": {}, "updated_at": "2026-01-31T12:00:00+00:00", "desired_state": "@DESIRED@"}"#;

/// Calls a program of the installation of Hermes 0.19, and returns what it printed.
fn called(home: &Home, program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(hermes().with_file_name(program));
    command.args(arguments).env("HERMES_HOME", home.path()).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns what the boot of upstream's container would do with the home.
fn upstream_boot(home: &Home) -> String {
    let script = "import pathlib, sys
from hermes_cli.container_boot import reconcile_profile_gateways
home = pathlib.Path(sys.argv[1])
for one in reconcile_profile_gateways(hermes_home=home, scandir=home / 'none', dry_run=True, container_argv=()):
    print(f'profile={one.profile} prior_state={one.prior_state} action={one.action}')";
    called(home, "python", &["-c", script, &home.path().display().to_string()])
}

#[test]
fn real_hermes_019_a_home_of_upstream_s_container_keeps_its_desired_states_here_and_back_there() {
    let home = with_hermes();
    for (name, desired) in [("coder", "running"), ("writer", "stopped")] {
        called(&home, "hermes", &["profile", "create", name]);
        fs::write(home.state_file(name), STATE.replace("@DESIRED@", desired)).unwrap();
    }
    let there = upstream_boot(&home);
    let here = home.says("reconcile --dry-run").ok();
    for line in there.lines().filter(|line| !line.starts_with("profile=default")) {
        assert!(here.contains(line), "{line}: {here}");
    }

    // Without a supervisor, a command records the desired state and says so.
    for line in ["gateway start writer", "gateway stop coder"] {
        let ran = home.says(line);
        assert_eq!(ran.code, Some(102), "{ran:?}");
    }
    let back = upstream_boot(&home);
    assert!(back.contains("profile=coder prior_state=stopped action=registered"), "{back}");
    assert!(back.contains("profile=writer prior_state=running action=started"), "{back}");
    assert_eq!(home.state("writer")["kind"], "hermes-gateway", "what Hermes keeps there is kept");
}

/// A gateway that somebody started by hand, which ends with the test.
struct ByHand(Child);

impl Drop for ByHand {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the gateway of a home as in a terminal, and returns it once it answers.
fn started_by_hand(home: &Home, program: &Path) -> ByHand {
    let port = configure(home, "default");
    let mut command = Command::new(program);
    command.args(["gateway", "run"]).env("HERMES_HOME", home.path()).env("TIRITH_ENABLED", "false");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut by_hand = ByHand(command.spawn().unwrap());
    let mut answers = || {
        assert!(by_hand.0.try_wait().unwrap().is_none(), "it has ended");
        let text = fs::read(home.state_file("default")).unwrap_or_default();
        let state = serde_json::from_slice::<Value>(&text).unwrap_or_default();
        (state["gateway_state"] == "running" && port.healthy()).then_some(())
    };
    // As long as Hermes takes, in portions of the suites' deadline.
    waiting::found_slowly(&mut answers).or_else(|| waiting::found_slowly(&mut answers)).unwrap();
    by_hand
}

/// The gateway in the slot takes the place of the one that was started by hand, which ends.
#[track_caller]
fn takes_the_place_of_one_by_hand(program: &Path) {
    let mut home = with_program(program.to_owned());
    let mut by_hand = started_by_hand(&home, program);
    let old = by_hand.0.id();
    home.up_quietly();
    home.until_supervised("default");
    // It is ready when it has the port that the other one had.
    patient(&home, "wait --ready --timeout 60 default").ok();
    let new = home.pid("default");
    assert_ne!(u32::try_from(new).unwrap(), old);
    waiting::polled_slowly("its end", || by_hand.0.try_wait().unwrap());
    let report = home.report("default");
    assert_eq!((&report["pid"], &report["state"]), (&new.into(), &"ready".into()), "{report}");
    // What the old one wrote when it ended does not count for the next start.
    assert_eq!(
        (&report["desired_state"], &report["desired_by"]["command"]),
        (&"running".into(), &"up".into())
    );
    stopped(&mut home);
}

#[test]
fn real_hermes_019_in_a_slot_takes_the_place_of_a_gateway_that_was_started_by_hand() {
    takes_the_place_of_one_by_hand(&hermes());
}

#[test]
fn real_hermes_022_in_a_slot_takes_the_place_of_a_gateway_that_was_started_by_hand() {
    takes_the_place_of_one_by_hand(&installed("HERMES_022_BIN", "0.22"));
}
