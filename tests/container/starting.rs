//! Every way to start a container, and what is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::engine::{Container, HERMES, Start, Volume, container, minimal, skipped};
use crate::support::waiting;

/// Checks at once whether the supervisor works, and as whom the command runs.
const LOOK: &str = "/command/s6-svstat /run/service/main-hermes >/dev/null && echo supervised; id -u; touch $HERMES_HOME/x && echo writable";

fn works(start: Start, uid: &str) {
    let answer = start.run(&["sh", "-c", LOOK]);
    let lines: Vec<&str> = answer.ok().lines().collect();
    assert!(lines.ends_with(&["supervised", uid, "writable"]), "{answer:#?}");
}

#[test]
fn a_container_starts_with_our_process_1_as_root() {
    if skipped() {
        return;
    }
    works(container(), "10000");
}

#[test]
fn with_another_init_before_it_supervision_works_and_the_command_runs() {
    if skipped() {
        return;
    }
    let answer = container().with("--init").run(&["sh", "-c", &format!("cat /proc/1/comm; {LOOK}; exit 4")]);
    let said = answer.fails(4);
    for words in ["docker-init\n", "supervised\n", "writable\n", "not PID 1"] {
        assert!(said.contains(words), "{words:?}: {answer:#?}");
    }
    assert!(!said.contains("can only run as pid 1"), "{answer:#?}");
}

#[test]
fn the_agent_s_own_user_needs_no_root() {
    if skipped() {
        return;
    }
    works(container().with("--user 10000:10000"), "10000");
}

#[test]
fn any_user_with_a_writable_home_works() {
    if skipped() {
        return;
    }
    let home =
        "--user 4242:4242 --tmpfs /home/any:mode=1777 --env HERMES_HOME=/home/any --env HOME=/home/any";
    works(container().with(home), "4242");
}

/// The agent may have changed this Python, which only the agent runs.
#[test]
fn a_step_of_the_agent_s_that_does_not_end_holds_up_the_boot_for_as_long_as_it_may_take() {
    if skipped() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    let program =
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: signal.pause()\n";
    fs::write(path.join("skills_sync.py"), program).unwrap();
    let here = path.display();
    let mounts = format!("-v {here}:/opt/hermes/tools:ro -v {here}:/opt/hermes/skills:ro");
    let container = container().with(&mounts).env("GATEVISOR_STEP_TIMEOUT", "0.5").started();
    container.says(
        "bringing skills up to date took more than 0.5 s and was ended (`GATEVISOR_STEP_TIMEOUT`); the boot goes on",
    );
    container.waits("-u", "main-hermes");
}

#[test]
fn any_user_without_a_writable_home_is_told_what_to_do() {
    if skipped() {
        return;
    }
    let answer = container().with("--user 4242:4242").run(&["echo", "the command ran"]);
    let said = answer.fails(1);
    for words in ["not supported", "HERMES_UID", "HERMES_GID", "PUID", "PGID"] {
        assert!(answer.err.contains(words), "{words}: {answer:#?}");
    }
    assert!(!said.contains("the command ran"), "{answer:#?}");
}

#[test]
fn a_read_only_root_needs_only_run_and_tmp() {
    if skipped() {
        return;
    }
    works(container().with("--read-only --tmpfs /run --tmpfs /tmp"), "10000");
    works(container().with("--read-only --tmpfs /run --tmpfs /tmp --user 10000:10000"), "10000");
}

#[test]
fn few_capabilities_and_no_new_privileges_are_enough() {
    if skipped() {
        return;
    }
    let few = "--cap-drop ALL --cap-add CHOWN --cap-add DAC_OVERRIDE --cap-add FOWNER --cap-add SETUID --cap-add SETGID";
    works(container().with(few).with("--cap-add KILL --security-opt no-new-privileges"), "10000");
    works(container().with("--cap-drop ALL --security-opt no-new-privileges --user 10000:10000"), "10000");
}

#[test]
fn root_without_its_capabilities_is_told_which_are_missing() {
    if skipped() {
        return;
    }
    let none = container().with("--cap-drop ALL --read-only --tmpfs /run --tmpfs /tmp").run(&["true"]);
    let said = none.fails(111);
    for words in [
        "without the capabilities CHOWN, SETGID, SETUID, so nothing in it can run as user `hermes`",
        "`--user 10000:10000`",
        "`runAsUser: 10000`",
        "`--cap-add CHOWN --cap-add SETGID --cap-add SETUID`",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let one = container().with("--cap-drop SETUID").run(&["true"]).fails(111);
    assert!(one.contains("without the capabilities SETUID, so"), "{one}");
}

#[test]
fn a_read_only_root_without_run_is_told_what_to_mount() {
    if skipped() {
        return;
    }
    for start in [container().with("--read-only"), container().with("--read-only --user 10000:10000")] {
        let said = start.run(&["true"]).fails(111);
        for words in ["`/run`", "`--tmpfs /run --tmpfs /tmp`", "`emptyDir: {medium: Memory}`"] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
}

#[test]
fn nothing_is_executed_from_run() {
    if skipped() {
        return;
    }
    works(container().with("--tmpfs /run:noexec,nosuid,size=64m"), "10000");
    works(
        container().with("--init --tmpfs /run:noexec,nosuid,size=64m --security-opt no-new-privileges"),
        "10000",
    );
}

#[test]
fn earlier_entry_points_lead_to_the_same() {
    if skipped() {
        return;
    }
    let under = |entry: &str, words: &[&str]| container().with(&format!("--entrypoint {entry}")).run(words);
    let version = "Hermes Agent v0.19.0";
    assert!(under("/opt/hermes/docker/entrypoint.sh", &["--version"]).ok().contains(version));
    assert!(under("/usr/bin/tini", &["-g", "--", "--version"]).ok().contains(version));
    assert!(under("/usr/bin/tini", &["-s", "-p", "SIGTERM", "--", "sh", "-c", "exit 6"]).code == 6);
    let twice = under("/usr/bin/tini", &["-g", "--", "/opt/hermes/docker/main-wrapper.sh", "--version"]);
    assert!(twice.ok().contains(version));
    let again = under("/usr/bin/tini", &["--", "/init", "/opt/hermes/docker/main-wrapper.sh", "--version"]);
    assert!(again.ok().contains(version));
}

#[test]
fn a_session_as_root_becomes_the_agent_unless_it_is_told_not_to_root() {
    if skipped() {
        return;
    }
    let container = container().started();
    container.root_sh("hermes profile create shim");
    assert_eq!(container.sh("find /opt/data -ignore_readdir_race ! -user hermes"), "");
    // The program that the shim becomes prints its user.
    let who = "printf '#!/bin/sh\\nid -u\\necho $HOME\\n' > /tmp/real; chmod 755 /tmp/real; cp /tmp/real /opt/hermes/.venv/bin/hermes";
    container.root_sh(who);
    assert_eq!(container.root_sh("HOME=/root hermes"), "10000\n/opt/data");
    assert_eq!(container.exec_as(HERMES, &["hermes"]).ok().lines().next(), Some("10000"));
    for yes in ["1", "true", "TRUE", "True", "yes", "YES", "Yes"] {
        assert!(
            container.root_sh(&format!("HERMES_DOCKER_EXEC_AS_ROOT={yes} hermes")).starts_with("0\n"),
            "{yes}"
        );
    }
    for no in ["0", "tRUE", "on", ""] {
        assert!(
            container.root_sh(&format!("HERMES_DOCKER_EXEC_AS_ROOT={no} hermes")).starts_with("10000\n"),
            "{no}"
        );
    }
    container.root_sh("rm /opt/hermes/.venv/bin/hermes");
    assert_eq!(container.exec_as("0:0", &["hermes"]).code, 127);
}

#[test]
fn the_minimal_image_supervises_without_a_shell() {
    if skipped() {
        return;
    }
    let container = minimal().started_as(&["/usr/local/bin/gatevisor", "idle"]);
    let up = ["/command/s6-svwait", "-u", "-t", "30000", "/run/service/gateway-default"];
    let wanted = ["/usr/local/bin/gatevisor", "gateway", "start"];
    let until_there = ["/usr/local/bin/gatevisor", "status", "--json"];
    let supervises = ["/usr/local/bin/gatevisor", "health", "--supervisor"];
    // It has no shell that could say when it has booted.
    waiting::polled_slowly("the supervisor", || (container.exec(&supervises).code == 0).then_some(()));
    let started = container.exec(&wanted);
    assert_eq!(started.code, 0, "{started:?}; {:?}; {}", container.exec(&until_there), container.said());
    container.exec(&up).ok();
    assert_eq!(container.stop(), 0, "{}", container.said());
}

/// Starts a container with a gateway that is up.
fn started_with_a_gateway(start: Start) -> Container {
    let container = start.started();
    container.hermes("profile create coder").ok();
    container.hermes("-p coder gateway start").ok();
    container.waits("-u", "gateway-coder");
    container
}

#[test]
fn of_two_containers_on_one_volume_the_second_waits_for_the_first() {
    if skipped() {
        return;
    }
    let volume = Volume::new();
    let start = || volume.home_of(container());
    let first = started_with_a_gateway(start());
    let second = start().started();
    assert!(second.said().contains("another container"), "{}", second.said());
    assert_eq!(second.exec(&["pgrep", "-f", "gateway run"]).code, 1, "{}", second.sh("ps axf"));
    let doctor = second.exec(&["gatevisor", "doctor"]);
    assert!(doctor.ok().contains("note: the gateways of this home run in another container"), "{doctor:#?}");
    assert_eq!(first.stop(), 0);
    second.waits("-u", "gateway-coder");
}

#[test]
fn a_lock_of_the_home_that_the_agent_moves_away_lets_no_second_container_run_the_gateways() {
    if skipped() {
        return;
    }
    let volume = Volume::new();
    let start = || volume.home_of(container());
    let first = started_with_a_gateway(start());
    first.sh("cd /opt/data && mv .gatevisor.lock away");
    first.says("was replaced by another file; this container has locked that as well, and goes on");
    let second = start().started();
    assert!(second.said().contains("another container runs the gateways"), "{}", second.said());
    assert_eq!(second.exec(&["pgrep", "-f", "gateway run"]).code, 1, "{}", second.sh("ps axf"));
    first.waits("-u", "gateway-coder");
}

#[test]
fn a_container_whose_lock_of_the_home_was_replaced_stops_its_gateways_and_takes_them_back_when_it_can() {
    if skipped() {
        return;
    }
    let volume = Volume::new();
    let start = || volume.home_of(container());
    let first = started_with_a_gateway(start());
    // As if no process of the first container had run.
    first
        .sh("/command/s6-svc -wD -d /run/service/profile-watcher && cd /opt/data && mv .gatevisor.lock away");
    let second = start().started();
    second.waits("-u", "gateway-coder");
    first.sh("/command/s6-svc -u /run/service/profile-watcher");
    first.says("stopping the gateway of coder: another container has the lock of the home, and runs it");
    first.waits("-D", "gateway-coder");
    let doctor = first.exec(&["gatevisor", "doctor"]);
    assert!(doctor.out.contains("note: the gateways of this home run in another container"), "{doctor:#?}");
    // Then the file is moved back.
    second.sh("cd /opt/data && mv away .gatevisor.lock");
    second.says("which another container has locked: the gateways run there");
    second.waits("-D", "gateway-coder");
    first.waits("-u", "gateway-coder");
}
