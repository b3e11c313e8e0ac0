//! From the container of upstream to Gatevisor, and back.

use std::fs;
use std::process::{Command, Stdio};

use super::{hermes, with_hermes};
use crate::home::Home;

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
