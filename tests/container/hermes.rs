//! The unmodified command of Hermes 0.19.0 and its effects.

use crate::engine::{Container, ROOT, container, docker, skipped};

/// Hermes slows itself down after five starts, and the gateways of a test have more.
pub const CALM: (&str, &str) = ("HERMES_GATEWAY_MAX_STARTS", "1000");

/// What a gateway logs that knows that it is stopped on purpose. Its state file may say otherwise:
/// the command line writes the desired state into that file at the same moment, and may overwrite
/// what the gateway has just written (L-19).
const PLANNED: &str = "as a planned gateway stop";

fn home(profile: &str) -> String {
    if profile == "default" { "/opt/data".into() } else { format!("/opt/data/profiles/{profile}") }
}

/// Starts a gateway as Hermes' command does, and waits until it handles signals.
pub fn start(container: &Container, profile: &str) {
    let log = home(profile) + "/logs/gateway.log";
    let runs = container
        .exec(&["grep", "-c", "Gateway housekeeping started", &log])
        .out
        .trim()
        .parse::<usize>()
        .unwrap_or(0);
    container.hermes(&format!("-p {profile} gateway start")).ok();
    container.waits("-u", &format!("gateway-{profile}"));
    running(container, profile, runs + 1);
}

/// Waits until the gateway's own log says for the `times`th time that it runs.
pub fn running(container: &Container, profile: &str, times: usize) {
    let log = home(profile) + "/logs/gateway.log";
    let script = "timeout 45 grep -m \"$2\" -F 'Gateway housekeeping started' < <(exec tail -n +1 -F -- \"$1\" 2>/dev/null) | tail -n 1 || exit 9";
    let answer = container.exec(&["bash", "-o", "pipefail", "-c", script, "-", &log, &times.to_string()]);
    assert!(answer.code == 0 && !answer.out.is_empty(), "{profile} does not run: {}", container.said());
}

/// Returns a value of a profile's state file.
fn state(container: &Container, profile: &str, key: &str) -> String {
    let script = "import json, sys; print(json.load(open(sys.argv[1])).get(sys.argv[2]))";
    let file = home(profile) + "/gateway_state.json";
    container.exec(&["python3", "-c", script, &file, key]).ok().into()
}

#[test]
fn a_profile_s_life_from_create_to_delete() {
    if skipped() {
        return;
    }
    let container = container().env(CALM.0, CALM.1).started();
    // The slot must be the one that Hermes writes, however slow Hermes is.
    container.exec(&["/command/s6-svc", "-wD", "-d", "/run/service/profile-watcher"]).ok();
    let made = container.hermes("profile create coder");
    made.ok();
    assert!(!format!("{}{}", made.out, made.err).contains("s6 gateway"), "{made:#?}");
    assert!(container.state("gateway-coder").starts_with("down"));
    let control = container.sh("stat -c '%a %u:%g' /run/service/gateway-coder/supervise/control");
    assert_eq!(control, "660 10000:10000");

    start(&container, "coder");
    assert!(container.state("gateway-coder").starts_with("up (pid "));
    assert_eq!(state(&container, "coder", "desired_state"), "running");
    let first = container.pid("gateway-coder");
    assert_eq!(container.sh(&format!("ps -o uid= -p {first}")).trim(), "10000");
    container.file_says("/opt/data/logs/gateways/coder/current", "Hermes Gateway Starting");
    container.says("Hermes Gateway Starting");

    container.hermes("-p coder gateway restart").ok();
    running(&container, "coder", 2);
    assert_ne!(container.pid("gateway-coder"), first);

    container.hermes("-p coder gateway stop").ok();
    container.waits("-D", "gateway-coder");
    // The gateway knows that it is stopped on purpose.
    assert!(
        container.state("gateway-coder").starts_with("down (exitcode 0)"),
        "{}",
        container.state("gateway-coder")
    );
    container.file_says(&(home("coder") + "/logs/gateway.log"), PLANNED);
    assert_eq!(state(&container, "coder", "desired_state"), "stopped");

    start(&container, "coder");
    let gone = container.hermes("profile delete coder --yes");
    gone.ok();
    assert!(!format!("{}{}", gone.out, gone.err).contains("s6 gateway"), "{gone:#?}");
    container.sh("! test -e /run/service/gateway-coder && ! test -e /opt/data/profiles/coder && ! pgrep -f '[h]ermes -p coder'");

    container.hermes("profile create coder").ok();
    start(&container, "coder");
    container.sh("test $(pgrep -fc '[s]6-log.*gateways/coder' || true) -le 1");
}

#[test]
fn a_container_ends_once_its_gateways_are_idle_if_down_has_them_drained_and_the_next_one_starts_them() {
    if skipped() {
        return;
    }
    // As in Kubernetes, everything is one user's.
    let container = container().with("--user 10000:10000").env(CALM.0, CALM.1).started();
    container.hermes("profile create coder").ok();
    start(&container, "coder");
    let plain = container.exec(&["gatevisor", "down"]).fails(1);
    assert!(plain.contains("`gatevisor down --drain` ends it"), "{plain}");
    let down = container.exec(&["gatevisor", "down", "--drain=1m", "--no-wait"]);
    assert!(down.err.contains("coder: idle after"), "{down:#?}");
    assert_eq!((down.code, container.ended()), (0, 0), "{down:#?}\n{}", container.said());
    docker(["start", container.name()]).ok();
    running(&container, "coder", 2);
}

/// The signal of the engine comes as soon as the command before it has ended, and a second signal
/// kills at once.
#[test]
fn what_a_pod_runs_before_its_end_lasts_until_the_gateways_have_ended_by_themselves() {
    if skipped() {
        return;
    }
    let manifest = include_str!("../../deploy/kubernetes/home.yaml");
    let words = manifest.split("preStop:").nth(1).and_then(|rest| rest.split(['[', ']']).nth(1)).unwrap();
    let words: Vec<&str> = words.split(", ").map(|word| word.trim_matches('"')).collect();
    assert_eq!(words.get(1), Some(&"down"), "{words:?}");
    let container = container().with("--user 10000:10000").env(CALM.0, CALM.1);
    // The grace of the manifest.
    let container = container.env("GATEVISOR_GRACE", "30").started();
    container.hermes("profile create coder").ok();
    start(&container, "coder");
    // How it ends does not matter: its container ends with it.
    let down = container.exec(&words);
    docker(["kill", "--signal", "TERM", container.name()]);
    assert_eq!(container.ended(), 0, "{down:#?}\n{}", container.said());
    let said = container.said();
    assert!(said.contains("everything has stopped") && !said.contains("killing"), "{down:#?}\n{said}");
}

#[test]
fn who_may_not_end_a_container_drains_no_gateway_for_it() {
    if skipped() {
        return;
    }
    let container = container().started();
    for user in [ROOT, "10000:10000"] {
        let said = container.exec_as(user, &["gatevisor", "down", "--drain"]).fails(1);
        assert!(said.contains("the supervisor of this container is another user's"), "{said}");
    }
}

#[test]
fn all_forms_reach_every_gateway() {
    if skipped() {
        return;
    }
    let container = container().env(CALM.0, CALM.1).started();
    container.hermes("profile create one").ok();
    start(&container, "one");
    start(&container, "default");
    let restarted = container.hermes("gateway restart --all");
    assert!(restarted.ok().contains("Restarted 2 profile gateway(s) under s6"), "{restarted:#?}");
    running(&container, "one", 2);
    running(&container, "default", 2);
    let stopped = container.hermes("gateway stop --all");
    assert!(stopped.ok().contains("Stopped 2 profile gateway(s) under s6"), "{stopped:#?}");
    for profile in ["one", "default"] {
        container.waits("-D", &format!("gateway-{profile}"));
        // Each gateway found in its own home that the stop is on purpose.
        container.file_says(&(home(profile) + "/logs/gateway.log"), PLANNED);
    }
}

#[test]
fn status_and_doctor_name_the_supervisor() {
    if skipped() {
        return;
    }
    let container = container().started();
    let status = container.hermes("status");
    assert!(status.ok().contains("s6 (container supervisor)"), "{status:#?}");
    let doctor = container.exec(&["hermes", "doctor"]);
    let said = format!("{}{}", doctor.out, doctor.err);
    assert!(said.contains("s6 Supervision") && said.contains("main-hermes"), "{said}");
    assert!(container.state("main-hermes").starts_with("up (pid "));
    let dashboard = container.state("dashboard");
    assert!(dashboard.starts_with("down") && !dashboard.contains("up "), "{dashboard}");
    assert_eq!(container.exec(&["pgrep", "-f", "hermes dashboard"]).code, 1);
    for (words, code) in [("gateway install", 0), ("gateway uninstall", 0), ("-p ghost gateway start", 1)] {
        assert_eq!(container.hermes(words).code, code, "{words}");
    }
}

#[test]
fn what_ran_comes_back_after_a_restart_and_what_was_stopped_does_not() {
    if skipped() {
        return;
    }
    let container = container().env(CALM.0, CALM.1).started();
    for name in ["runs", "stopped"] {
        container.hermes(&format!("profile create {name}")).ok();
    }
    start(&container, "runs");
    start(&container, "stopped");
    container.hermes("-p stopped gateway stop").ok();
    container.waits("-D", "gateway-stopped");
    container.restart();
    container.waits("-u", "gateway-runs");
    assert!(container.state("gateway-stopped").starts_with("down"));
    container.sh("test -e /run/service/gateway-stopped/down && ! test -e /run/service/gateway-runs/down");
    let log = container.sh("tail -n 3 /opt/data/logs/container-boot.log");
    let lines: Vec<&str> = log.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    let expected = [
        "profile=default prior_state=None action=registered",
        "profile=runs prior_state=running action=started",
        "profile=stopped prior_state=stopped action=registered",
    ];
    assert_eq!(lines, expected);
    running(&container, "runs", 2);
}

#[test]
fn a_gateway_that_is_killed_is_there_again() {
    if skipped() {
        return;
    }
    let container = container().env(CALM.0, CALM.1).started();
    start(&container, "default");
    let first = container.pid("gateway-default");
    container.sh(&format!("kill -KILL {first}"));
    running(&container, "default", 2);
    assert_ne!(container.pid("gateway-default"), first);
}

#[test]
fn gateway_run_as_the_command_starts_the_supervised_one_and_stays() {
    if skipped() {
        return;
    }
    let container = container().started_as(&["gateway", "run"]);
    container.says("s6 supervision");
    running(&container, "default", 1);
    assert!(container.state("gateway-default").starts_with("up (pid "));
    let gateways = container.sh("pgrep -fc '[h]ermes gateway run --replace'");
    assert_eq!(gateways, "1", "{}", container.sh("ps axf"));
    // Hermes' own search for gateways finds that gateway and none of our processes.
    let found = container.exec(&[
        "/opt/hermes/.venv/bin/python",
        "-c",
        "from hermes_cli.gateway import find_gateway_pids as f; print(*f())",
    ]);
    assert_eq!(found.ok(), container.pid("gateway-default").to_string(), "{}", container.sh("ps axf"));
    assert_eq!(container.stop(), 0, "{}", container.said());
}

#[test]
fn without_supervision_gateway_run_stays_in_the_foreground() {
    if skipped() {
        return;
    }
    let container = container().started_as(&["gateway", "run", "--no-supervise"]);
    running(&container, "default", 1);
    assert!(container.state("gateway-default").starts_with("down"));
    container.stop();
}

#[test]
fn stop_of_all_tells_all_gateways_before_it_waits_for_any() {
    if skipped() {
        return;
    }
    let container = container().started();
    // Each gateway ends when all have received the signal, and says so. A gateway that is the only
    // one to receive it gives up, later than the command gives up waiting.
    let gateway = "#!/usr/bin/python3
import glob, os, signal, sys, threading
told = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: told.set())
open('/tmp/up-' + sys.argv[1], 'w').close()
told.wait()
open('/tmp/told-' + sys.argv[1], 'w').close()
for _ in range(120):
    if len(glob.glob('/tmp/told-*')) == 6: break
    threading.Event().wait(0.1)
else: os.write(os.open('/tmp/ends', os.O_WRONLY | os.O_CREAT | os.O_APPEND), b'alone\\n'); sys.exit()
os.write(os.open('/tmp/ends', os.O_WRONLY | os.O_CREAT | os.O_APPEND), b'together\\n')";
    let script = "cd /run/service; for i in 1 2 3 4 5 6; do mkdir .g; echo \"$1\" > .g/run; chmod 755 .g/run; mv .g gateway-g$i; done; \
                  /command/s6-svscanctl -a /run/service; exec python3 -c \"
import glob, threading
for _ in range(450):
    if len(glob.glob('/tmp/up-*')) == 6: break
    threading.Event().wait(0.1)
else: raise SystemExit(9)\"";
    container.exec(&["bash", "-c", script, "-", gateway]).ok();
    let stopped = container.hermes("gateway stop --all");
    assert!(stopped.ok().contains("Stopped 7 profile gateway(s) under s6"), "{stopped:#?}");
    for number in 1..=6 {
        container.waits("-D", &format!("gateway-g{number}"));
    }
    assert_eq!(container.sh("sort /tmp/ends | uniq -c | tr -s ' '"), " 6 together");
}

#[test]
fn root_that_stops_a_gateway_with_the_tool_of_s6_means_it_too_root() {
    if skipped() {
        return;
    }
    let container = container().env(CALM.0, CALM.1).started();
    start(&container, "default");
    container.exec_as(ROOT, &["/command/s6-svc", "-d", "/run/service/gateway-default"]).ok();
    container.file_says(&(home("default") + "/logs/gateway.log"), PLANNED);
    // It has begun to end, and its files go.
    container.waits("-D", "gateway-default");
    assert_eq!(container.sh("find /opt/data -ignore_readdir_race ! -user hermes"), "");
}

#[test]
fn start_of_all_leaves_every_gateway_running() {
    if skipped() {
        return;
    }
    let container = container().env(CALM.0, CALM.1).started();
    container.hermes("profile create one").ok();
    start(&container, "one");
    start(&container, "default");
    // Hermes kills all gateways for this, and starts none (L-11). The supervisor starts them again.
    let answer = container.hermes("gateway start --all");
    assert!(answer.ok().contains("Docker container"), "{answer:#?}");
    running(&container, "one", 2);
    running(&container, "default", 2);
    for command in ["status", "gateway list", "profile list"] {
        container.hermes(command).ok();
    }
    let doctor = container.exec(&["hermes", "doctor"]);
    let said = format!("{}{}", doctor.out, doctor.err);
    assert!(said.contains("2/2 supervised up"), "{said}");
}

#[test]
fn root_and_the_agent_may_take_turns_root() {
    if skipped() {
        return;
    }
    let container = container().env(CALM.0, CALM.1).started();
    container.exec_as(ROOT, &["hermes", "profile", "create", "both"]).ok();
    start(&container, "both");
    container.exec_as(ROOT, &["hermes", "-p", "both", "gateway", "stop"]).ok();
    container.waits("-D", "gateway-both");
    for (user, uid) in [(ROOT, 0), ("10000:10000", 10_000)] {
        container.exec_as(user, &["gatevisor", "gateway", "stop", "both"]).ok();
        let report = container.exec(&["gatevisor", "--json", "status", "both"]);
        let said = format!("\"desired_by\":{{\"uid\":{uid},");
        assert!(report.ok().contains(&said), "who called it is recorded, uid {uid}: {report:#?}");
    }
    assert_eq!(
        container.sh(
            "find /opt/data /run/service/gateway-both -ignore_readdir_race ! -user hermes -path '*both*' ! -path '*supervise*'"
        ),
        ""
    );
    container.exec_as(ROOT, &["hermes", "profile", "delete", "both", "--yes"]).ok();
    container.sh("! test -e /run/service/gateway-both");
}

#[test]
fn one_profile_that_cannot_be_read_does_not_stop_the_others() {
    if skipped() {
        return;
    }
    let container = container().started();
    container.sh("mkdir -p /opt/data/profiles/{bytes,Bad.Name,list,zoo}; for p in bytes Bad.Name list zoo; do echo > /opt/data/profiles/$p/SOUL.md; done; \
        echo '[]' > /opt/data/profiles/list/gateway_state.json; printf '\\377' > /opt/data/profiles/bytes/gateway_state.json");
    container.restart();
    let log = container.sh(
        "grep -c profile=default /opt/data/logs/container-boot.log; cat /opt/data/logs/container-boot.log",
    );
    for words in [
        "2\n",
        "profile=bytes",
        "profile=list",
        "profile=Bad.Name",
        "profile=zoo prior_state=None action=registered",
    ] {
        assert!(log.contains(words), "{words}: {log}");
    }
    assert!(container.state("gateway-zoo").starts_with("down"));
}
