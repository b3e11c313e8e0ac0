//! The unmodified command of Hermes 0.22 and its effects, in the image of `make image HERMES=0.22`.
//!
//! *Lives here:* what is different where one gateway serves all profiles. *Does not live here:*
//! what is the same for every version (the other chapters use the image with 0.19).

use crate::engine::{Container, Start, container, skipped};
use crate::hermes::CALM;

/// Portions of a wait, each within the time limit of a call of `docker`: a machine that does other
/// things starts this Hermes in half a minute or more.
const PORTIONS: usize = 4;
const ROOT_HOME: &str = "/opt/data";

/// Begins a container of the image with Hermes 0.22.
fn of_022() -> Start {
    let image = std::env::var("GATEVISOR_IMAGE_022").unwrap_or_else(|_| "gatevisor:hermes-0.22".into());
    container().of(&image).env(CALM.0, CALM.1)
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
    let own = line(&container, "solo");
    assert!(own.starts_with("solo up"), "{own}");

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
    let container = of_022().started();
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
