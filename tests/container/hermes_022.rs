//! The unmodified command of Hermes 0.22 and its effects, in the image of `make image HERMES=0.22`.
//!
//! *Lives here:* what is different where one gateway serves all profiles. *Does not live here:*
//! what is the same for every version (the other chapters use the image with 0.19).

use std::time::Duration;

use serde_json::Value;

use crate::engine::{Container, Start, Volume, container, image, skipped};
use crate::hermes::{self, CALM};
use crate::support::{set_wait_limit, waiting};

/// Portions of a wait, each within the time limit of a call of `docker`: a machine that does other
/// things starts this Hermes in half a minute or more.
const PORTIONS: usize = 4;
const ROOT_HOME: &str = "/opt/data";

/// Returns the name of the image with Hermes 0.22.
fn image_022() -> String {
    std::env::var("GATEVISOR_IMAGE_022").unwrap_or_else(|_| "gatevisor:hermes-0.22".into())
}

/// Begins a container of the image with Hermes 0.22.
fn of_022() -> Start {
    container().of(&image_022()).env(CALM.0, CALM.1)
}

/// Repeats a command that waits until it succeeds.
fn patiently(container: &Container, words: &[&str]) {
    let has_come = (0..PORTIONS).any(|_| container.exec(words).code == 0);
    assert!(has_come, "{words:?}: {}", container.said());
}

/// Waits until a profile is served.
fn until_served(container: &Container, name: &str) {
    patiently(container, &["gatevisor", "wait", "--timeout", "60", name]);
    let (line, pid) = (line(container, name), container.pid("gateway-default"));
    assert!(line.starts_with(&format!("{name} served by default (pid {pid})")), "{line}");
    assert!(container.state(&format!("gateway-{name}")).starts_with("down"), "a second gateway runs");
}

/// Waits until a profile that was taken out is served no more.
fn until_taken_out(container: &Container, name: &str) {
    patiently(container, &["gatevisor", "wait", "--down", "--timeout", "60", name]);
    let line = line(container, name);
    let expected = format!("{name} down: taken out of the profiles that default serves");
    assert!(line.starts_with(&expected), "{line}");
}

/// Waits until a gateway's own log says for the `times`th time that it runs. Then it handles
/// signals.
fn until_running(container: &Container, home: &str, times: usize) {
    let script = "timeout 60 grep -m \"$2\" -F 'Gateway housekeeping started' < <(exec tail -n +1 -F -- \"$1\" 2>/dev/null) | grep -c . | grep -qx \"$2\"";
    let (log, times) = (format!("{home}/logs/gateway.log"), times.to_string());
    patiently(container, &["bash", "-c", script, "-", &log, &times]);
}

/// Starts the gateway of all for the first time, and waits until it runs.
fn start(container: &Container) {
    container.hermes("gateway start").ok();
    until_running(container, ROOT_HOME, 1);
}

/// Returns a line of `gatevisor status`, its columns with one blank between them.
fn line(container: &Container, name: &str) -> String {
    let all = container.exec(&["gatevisor", "status"]);
    let line = all.out.lines().find(|line| line.split(' ').next() == Some(name));
    let line = line.unwrap_or_else(|| panic!("{name} has no line: {all:#?}"));
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn hermes_022_a_profile_s_life_from_create_to_delete() {
    if skipped() {
        return;
    }
    let container = of_022().started();
    let made = container.hermes("profile create coder");
    assert!(!format!("{}{}", made.ok(), made.err).contains("Could not register"), "{made:#?}");
    // Hermes says itself whose gateway is to be started.
    let refused = container.hermes("-p coder gateway start").fails(78);
    assert!(refused.contains("does not get a gateway of its own"), "{refused}");
    start(&container);
    until_served(&container, "coder");
    let process = container.pid("gateway-default");
    container.hermes("-p coder gateway stop").ok();
    until_taken_out(&container, "coder");
    for verb in ["start", "restart"] {
        container.hermes(&format!("-p coder gateway {verb}")).ok();
        until_served(&container, "coder");
    }
    let status = container.hermes("-p coder gateway status");
    assert!(status.ok().contains("running via the default-profile"), "{status:#?}");

    container.hermes("profile rename coder writer").ok();
    until_served(&container, "writer");
    container.sh("! test -e /run/service/gateway-coder");
    container.hermes("profile delete writer --yes").ok();
    container.sh("! test -e /run/service/gateway-writer && ! test -e /opt/data/profiles/writer");
    assert_eq!(container.pid("gateway-default"), process, "the gateway of the others was ended");
}

#[test]
fn hermes_022_all_forms_reach_the_gateway_and_what_was_desired_comes_back_with_the_container() {
    if skipped() {
        return;
    }
    let container = of_022().started();
    for name in ["coder", "quiet"] {
        container.hermes(&format!("profile create {name}")).ok();
    }
    start(&container);
    until_served(&container, "quiet");
    container.hermes("-p quiet gateway stop").ok();
    until_taken_out(&container, "quiet");
    let first = container.pid("gateway-default");
    let restarted = container.hermes("gateway restart --all");
    assert!(restarted.ok().contains("Restarted 3 profile gateway(s) under s6"), "{restarted:#?}");
    until_running(&container, ROOT_HOME, 2);
    until_served(&container, "coder");
    assert_ne!(container.pid("gateway-default"), first);
    until_taken_out(&container, "quiet");

    container.restart();
    until_running(&container, ROOT_HOME, 3);
    until_served(&container, "coder");
    until_taken_out(&container, "quiet");

    let stopped = container.hermes("gateway stop --all");
    assert!(stopped.ok().contains("Stopped 3 profile gateway(s) under s6"), "{stopped:#?}");
    container.waits("-D", "gateway-default");
    container.restart();
    let log = container.sh("tail -n 3 /opt/data/logs/container-boot.log");
    assert_eq!(log.matches("action=registered").count(), 3, "{log}");
    assert!(container.state("gateway-default").starts_with("down"));

    // One that shall run has the gateway of all started, whatever was desired of that.
    patiently(&container, &["gatevisor", "gateway", "start", "coder", "--timeout", "60"]);
    until_running(&container, ROOT_HOME, 4);
    container.hermes("gateway stop").ok();
    container.waits("-D", "gateway-default");
    container.restart();
    until_served(&container, "coder");
    until_taken_out(&container, "quiet");
}

#[test]
fn hermes_022_a_standalone_profile_that_is_migrated_from_inside_is_served_and_stays_so() {
    if skipped() {
        return;
    }
    let container = of_022().started();
    let solo = "/opt/data/profiles/solo";
    container.hermes("profile create solo").ok();
    container.sh(&format!("echo 'gateway: {{standalone: true}}' > {solo}/config.yaml"));
    container.hermes("-p solo gateway start").ok();
    until_running(&container, solo, 1);
    start(&container);
    // The boot that follows knows that solo had a gateway of its own. Both gateways start at one
    // time, for which Hermes may refuse one of them for a while.
    container.restart();
    until_running(&container, ROOT_HOME, 2);
    until_running(&container, solo, 2);
    until_works(&container, "solo");

    container.sh(&format!("rm {solo}/config.yaml"));
    let migrated = container.hermes("gateway migrate --multiplex --yes");
    assert!(migrated.ok().contains("Migrated: the default gateway now serves 2 profiles"), "{migrated:#?}");
    until_served(&container, "solo");
    container.restart();
    until_served(&container, "solo");
}

#[test]
fn hermes_022_status_and_doctor_name_the_supervisor() {
    if skipped() {
        return;
    }
    let container = of_022().env("HERMES_DASHBOARD_INSECURE", "1").started();
    container.says("the service `dashboard` is started without `--insecure`");
    assert!(!container.sh("cat /run/service/dashboard/run").contains("--insecure"));
    start(&container);
    let version = container.hermes("--version");
    assert!(version.ok().contains("v0.22"), "{version:#?}");
    let status = container.hermes("status --full");
    assert!(status.ok().contains("s6 (container supervisor)"), "{status:#?}");
    let doctor = container.exec(&["hermes", "doctor"]);
    let said = format!("{}{}", doctor.out, doctor.err);
    assert!(said.contains("s6 Supervision") && said.contains("main-hermes: up"), "{said}");
    let ours = container.exec(&["gatevisor", "doctor", "--json"]);
    assert!(!ours.out.contains("\"topology\""), "{ours:#?}");
    // The package of 0.22 that there is has a dashboard that ends with an error of its own, so none
    // is started here.
    assert!(container.state("dashboard").starts_with("down"));
    assert_eq!(container.stop(), 0, "{}", container.said());
}

/// Waits until a profile's own gateway says in its state file that it works.
fn until_own(container: &Container, name: &str, home: &str) {
    let file = format!("{home}/gateway_state.json");
    waiting::polled_slowly(&format!("the own gateway of {name}"), || {
        let state: Value = serde_json::from_str(&container.exec(&["cat", &file]).out).ok()?;
        let state_of = |key: &str| state.get(key).cloned().unwrap_or_default();
        let pid =
            container.exec(&["/command/s6-svstat", "-o", "pid", &format!("/run/service/gateway-{name}")]);
        let is_its = pid.out.trim().parse().is_ok_and(|pid: i64| state_of("pid") == pid);
        (is_its && state_of("gateway_state") == "running").then_some(())
    });
}

/// Waits until a gateway works by its own line. Hermes says that it runs while its end would still
/// be a failed start.
fn until_works(container: &Container, name: &str) {
    waiting::polled_slowly(&format!("the gateway of {name} works"), || {
        let own = line(container, name);
        ["up", "ready"].iter().any(|state| own.starts_with(&format!("{name} {state} "))).then_some(())
    });
}

/// Returns which desired states are recorded in a home on this volume.
fn desired_states(container: &Container) -> Vec<String> {
    let rows = container.exec(&["gatevisor", "status", "--json"]).ok().to_owned();
    let rows = rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    // Some are services besides the gateways.
    let rows = rows.filter(|row| row.get("profile").is_some_and(Value::is_string));
    let said = |row: &Value, key: &str| row.get(key).and_then(Value::as_str).unwrap_or("none").to_owned();
    let mut all: Vec<String> =
        rows.map(|row| format!("{} {}", said(&row, "profile"), said(&row, "desired_state"))).collect();
    all.sort();
    all
}

#[test]
fn hermes_022_and_019_in_turn_on_one_volume_keep_every_desired_state_and_serve_every_profile() {
    if skipped() {
        return;
    }
    set_wait_limit(Duration::from_mins(3));
    let volume = Volume::new();
    let boot = |image: &str| volume.home_of(container().of(image).env(CALM.0, CALM.1)).started();
    let expected = ["coder running", "default running", "quiet stopped"];
    let first = boot(&image());
    // Hermes makes the slots itself, and so the next boot knows of them only by the watcher.
    first.exec(&["/command/s6-svc", "-wD", "-d", "/run/service/profile-watcher"]).ok();
    for name in ["coder", "quiet"] {
        first.hermes(&format!("profile create {name}")).ok();
    }
    first.exec(&["/command/s6-svc", "-u", "/run/service/profile-watcher"]).ok();
    for name in ["coder", "quiet"] {
        first.says(&format!("the slot of {name}, which another program made, is as the definition has it"));
    }
    for name in ["default", "coder", "quiet"] {
        hermes::start(&first, name);
    }
    first.hermes("-p quiet gateway stop").ok();
    first.waits("-D", "gateway-quiet");
    assert_eq!(desired_states(&first), expected);
    assert_eq!(first.stop(), 0, "{}", first.said());
    drop(first);
    // There and back, and once more, because the second way there finds what the way back has left.
    for is_new in [true, false, true, false] {
        let container = boot(&if is_new { image_022() } else { image() });
        if is_new {
            until_served(&container, "coder");
        } else {
            until_own(&container, "default", ROOT_HOME);
            until_own(&container, "coder", "/opt/data/profiles/coder");
            until_works(&container, "coder");
        }
        let quiet = line(&container, "quiet");
        assert!(quiet.starts_with("quiet down"), "{quiet}");
        assert_eq!(desired_states(&container), expected, "with Hermes 0.22: {is_new}");
        let found = container.exec(&["gatevisor", "doctor", "--json"]);
        assert!(!found.out.contains("\"topology\""), "{found:#?}");
        assert_eq!(container.stop(), 0, "{}", container.said());
    }
}
