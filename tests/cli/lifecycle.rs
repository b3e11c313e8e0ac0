//! Slots that come and go, with s6's own tools watching.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use gatevisor_wire::control::Control;
use insta::assert_snapshot;
use serde_json::Value;

use crate::home::Home;
use crate::support::WAIT_LIMIT;
use crate::support::processes::{self, Held};

const SLEEPER: &str = "exec sleep 1000";
const DEAF: &str = "trap '' TERM\necho deaf\nexec sleep 1000";
const IMPATIENT: (&str, &str) = ("stop-timeout-ms = 5000", "stop-timeout-ms = 300");

fn up_with(script: &str, changes: &[(&str, &str)], names: &[&str]) -> Home {
    let mut home = Home::with_script(script, changes);
    for name in names {
        home.profile(name);
        home.want_running(name);
    }
    home.up();
    home
}

/// Runs a tool of s6 on a slot to its end.
#[track_caller]
fn s6(tool: &str, arguments: &[&str], home: &Home, profile: &str) -> String {
    let mut command = Command::new(tool);
    command.args(arguments).arg(home.slot(profile).path()).stdin(Stdio::null());
    let ran = home.spawn(command).ended(WAIT_LIMIT);
    assert_eq!(ran.code, Some(0), "{tool} {arguments:?}: {ran:?}; {}", home.report(profile));
    ran.out
}

#[test]
fn after_register_s6_svstat_answers_at_once() {
    let mut home = Home::with_script(SLEEPER, &[]);
    home.up_alone();
    for number in 0..10 {
        let name = format!("p{number}");
        home.plant(&name);
        let said = home.run(["gateway", "register", &name]).ok();
        assert_eq!(said, format!("{name}: registered, down\n"));
        assert!(s6("s6-svstat", &[], &home, &name).starts_with("down "));
        assert!(Command::new("s6-svok").arg(home.slot(&name).path()).status().unwrap().success());
    }
    let names: Vec<String> = home
        .says("status --json")
        .ok()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["profile"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names.len(), 11, "{names:?}");
}

#[test]
fn a_created_profile_has_its_slot_and_is_down() {
    let home = up_with(SLEEPER, &[], &[]);
    let said = home.redact(&home.says("profile create coder").ok());
    assert_snapshot!(said, @"created profile coder in HOME/profiles/coder; its gateway is registered, down");
    assert!(s6("s6-svstat", &[], &home, "coder").starts_with("down "));
    let said = home.redact(&home.says("profile create writer --start").ok());
    assert_snapshot!(said.replace(&home.pid("writer").to_string(), "PID"), @"created profile writer in HOME/profiles/writer; its gateway is registered, up (pid PID)");
    assert!(s6("s6-svstat", &[], &home, "writer").starts_with("up (pid "));
    let object: Value = serde_json::from_str(&home.says("profile create third --json").ok()).unwrap();
    assert_eq!((&object["profile"], &object["slot"]), (&"third".into(), &"registered".into()));
}

#[test]
fn s6_svc_and_s6_svwait_work_on_our_slots() {
    let home = up_with(SLEEPER, &[], &["coder"]);
    s6("s6-svc", &["-wD", "-d"], &home, "coder");
    assert_eq!(home.report("coder")["state"], "down");
    s6("s6-svc", &["-wu", "-u"], &home, "coder");
    let old = home.pid("coder");
    // Not `-wr`: s6-svlisten1 of 2.11 forgets what it reads together with the `d`. If the restart
    // is immediate and the tool slow, it waits without end. Under s6-supervise, the restart always
    // comes a second later.
    s6("s6-svc", &["-r"], &home, "coder");
    home.until_report("coder", "another process", |report| report["up"] == true && report["pid"] != old);
    s6("s6-svwait", &["-u", "-t", "20000"], &home, "coder");
    let mut waiting = Command::new("s6-svwait");
    waiting.args(["-D", "-t", "20000"]).arg(home.slot("coder").path());
    let waiting = home.spawn(waiting);
    s6("s6-svc", &["-d"], &home, "coder");
    assert_eq!(waiting.ended(WAIT_LIMIT).code, Some(0));
}

#[test]
fn s6_svwait_receives_our_readiness() {
    let mut home = Home::new();
    let port = home.profile("coder");
    home.up();
    let mut waiting = Command::new("s6-svwait");
    waiting.args(["-U", "-t", "20000"]).arg(home.slot("coder").path());
    let waiting = home.spawn(waiting);
    home.says("gateway start coder").ok();
    assert_eq!(waiting.ended(WAIT_LIMIT).code, Some(0));
    assert!(port.healthy());
}

#[test]
fn unregister_returns_when_slot_and_process_are_gone_and_the_name_is_free_at_once() {
    let home = up_with(SLEEPER, &[], &["coder"]);
    for _ in 0..5 {
        let held = Held::of(home.pid("coder")).unwrap();
        assert_eq!(home.says("gateway unregister coder").ok(), "coder: gone\n");
        assert!(held.is_gone(), "the process is still there");
        assert!(!home.slot("coder").path().exists());
        let said = home.says("gateway register coder --start").ok();
        assert!(said.starts_with("coder: registered, up (pid "), "{said}");
    }
    assert_eq!(home.says("gateway unregister coder").ok(), "coder: gone\n");
    assert_eq!(home.says("gateway unregister coder").ok(), "coder: had no slot\n");
    assert_eq!(home.state("coder")["desired_state"], "running", "the desired state stays");
    assert!(home.profile_dir("coder").exists());
    let entries = fs::read_dir(home.scandir()).unwrap().flatten().map(|entry| entry.file_name());
    // The watcher of gateways may have made its directory before its end.
    let entries: Vec<_> = entries.filter(|name| name != ".live").collect();
    assert_eq!(entries.len(), 2, "the default slot and the supervisor's own: {entries:?}");
}

#[test]
fn a_gateway_that_ignores_term_is_killed_after_its_time_and_then_unregistered() {
    let home = up_with(DEAF, &[IMPATIENT], &["coder"]);
    home.until_logged("coder", "deaf\n");
    let held = Held::of(home.pid("coder")).unwrap();
    let began = Instant::now();
    home.says("gateway unregister coder").ok();
    assert!(held.is_gone() && !home.slot("coder").path().exists());
    let took = began.elapsed();
    assert!(took.as_millis() >= 300, "it had no time to end: {took:?}");
    home.says("gateway register coder").ok();
}

#[test]
fn a_gateway_that_ignores_term_is_killed_by_stop_as_well() {
    let home = up_with(DEAF, &[IMPATIENT], &["coder"]);
    home.until_logged("coder", "deaf\n");
    let held = Held::of(home.pid("coder")).unwrap();
    assert_eq!(home.says("gateway stop coder").ok(), "coder: down\n");
    assert!(held.is_gone());
    assert_eq!(home.report("coder")["signal"], "SIGKILL");
}

#[test]
fn delete_takes_process_slot_and_profile_and_the_name_is_free() {
    let home = up_with(DEAF, &[IMPATIENT], &["coder"]);
    home.until_logged("coder", "deaf\n");
    for _ in 0..3 {
        let held = Held::of(home.pid("coder")).unwrap();
        let said = home.says("profile delete --yes coder").ok();
        assert_eq!(said, "deleted profile coder and its gateway; its logs stay\n");
        assert!(held.is_gone() && !home.slot("coder").path().exists() && !home.profile_dir("coder").exists());
        home.says("profile create coder --start").ok();
    }
    assert_eq!(fs::read_dir(home.path().join("profiles")).unwrap().count(), 1);
}

/// A gateway that needs its time to end, and gets it from whoever tests it.
const SLOW: &str = "[ -p \"$2/gate\" ] || mkfifo \"$2/gate\"
    trap 'echo ending; [ -e \"$2/free\" ] || read -r word <\"$2/gate\"; echo \"ended by itself\"; exit 0' TERM
    echo begins\nwhile :; do sleep 1000 & wait; done";
const PATIENT: (&str, &str) = ("stop-timeout-ms = 5000", "stop-timeout-ms = 600000");

fn open_the_gate(home: &Home) {
    fs::write(home.profile_dir("coder").join("gate"), "go\n").unwrap();
}

#[test]
fn a_gateway_whose_profile_or_slot_is_removed_has_all_the_time_of_a_stop() {
    for command in ["profile delete --yes coder", "gateway unregister coder"] {
        let home = up_with(SLOW, &[PATIENT], &["coder"]);
        home.until_logged("coder", "begins\n");
        let (log, command) = (home.log_file("coder"), home.start(command.split(' ')));
        home.until_logged("coder", "ending\n");
        // A slot that has gone gives a gateway five seconds.
        assert!(home.slot("coder").path().exists(), "its slot went before its process");
        open_the_gate(&home);
        let ran = command.ended(WAIT_LIMIT);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(!home.slot("coder").path().exists());
        assert!(fs::read_to_string(log).unwrap().contains("ended by itself"));
    }
}

#[test]
fn ctrl_c_leaves_a_profile_that_is_being_deleted_and_starts_its_gateway_again() {
    let home = up_with(SLOW, &[PATIENT], &["coder"]);
    home.until_logged("coder", "begins\n");
    let (pid, command) = (home.pid("coder"), home.start(["profile", "delete", "--yes", "coder"]));
    home.until_logged("coder", "ending\n");
    command.signal(rustix::process::Signal::INT);
    let ran = command.ended(WAIT_LIMIT);
    assert_eq!(ran.code, Some(130), "{ran:?}");
    let words = "coder: nothing of it was removed, and its gateway is started again when it has ended";
    assert!(ran.err.contains(words), "{ran:?}");
    open_the_gate(&home);
    home.until_report("coder", "another process", |report| report["state"] == "up" && report["pid"] != pid);
    // The next one may end with its supervisor.
    fs::write(home.profile_dir("coder").join("free"), "").unwrap();
    assert_eq!(home.state("coder")["desired_state"], "running");
    assert!(home.profile_dir("coder").exists());
}

#[test]
fn ctrl_c_while_a_slot_is_removed_starts_no_gateway_that_somebody_has_stopped() {
    let home = up_with(DEAF, &[PATIENT], &["coder"]);
    home.until_logged("coder", "deaf\n");
    let slot = home.slot("coder");
    home.says("gateway stop coder --no-wait").ok();
    // Its supervisor wants it up, as one does that has not read yet that it shall stop.
    slot.send(&[Control::Up]).unwrap();
    home.until_report("coder", "that it is wanted up", |report| report["wantedup"] == true);
    let command = home.start(["gateway", "unregister", "coder"]);
    crate::listening::until_subscribed(&command, &home, "coder");
    home.until_report("coder", "that it is told to end", |report| report["wantedup"] == false);
    command.signal(rustix::process::Signal::INT);
    let ran = command.ended(WAIT_LIMIT);
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(ran.err.contains("coder: nothing of it was removed, and it stays down"), "{ran:?}");
    processes::signal(home.pid("coder"), rustix::process::Signal::KILL);
    home.until_report("coder", "its end", |report| report["state"] == "down");
}

#[test]
fn delete_asks_no_script() {
    let home = up_with(SLEEPER, &[], &["coder"]);
    assert_snapshot!(home.says("profile delete coder").refused(1), @"gatevisor: error: nothing was deleted; say yes, or use --yes to delete profile coder");
    assert_eq!(home.report("coder")["state"], "up");
}

#[test]
fn restart_puts_another_process_in_its_place() {
    let home = up_with(SLEEPER, &[], &["coder"]);
    let old = home.pid("coder");
    let held = Held::of(old).unwrap();
    let said = home.says("gateway restart coder").ok();
    let new = home.pid("coder");
    assert_eq!(said, format!("coder: restarted, up (pid {new})\n"));
    assert!(held.is_gone() && new != old);
}

#[test]
fn restart_of_one_that_is_down_starts_it_and_says_so() {
    let home = up_with(SLEEPER, &[], &["coder"]);
    assert_eq!(home.says("gateway stop coder").ok(), "coder: down\n");
    assert_eq!(home.says("gateway stop coder").ok(), "coder: was down already\n");
    let said = home.says("gateway restart coder").ok();
    let pid = home.pid("coder");
    assert_eq!(said, format!("coder: was down, so it was started: up (pid {pid})\n"));
    assert_eq!(home.says("gateway start coder").ok(), format!("coder: was up already (pid {pid})\n"));
    assert_eq!(home.state("coder")["desired_state"], "running");
}

#[test]
fn restart_of_a_gateway_that_ignores_the_request_kills_it_after_its_time() {
    let home = up_with("trap '' TERM USR1\necho deaf\nexec sleep 1000", &[IMPATIENT], &["coder"]);
    home.until_logged("coder", "deaf\n");
    let old = home.pid("coder");
    home.says("gateway restart coder").ok();
    assert_ne!(home.pid("coder"), old);
}

#[test]
fn restart_asks_the_http_agent_by_its_own_signal() {
    let mut home = Home::new();
    let port = home.profile("coder");
    home.want_running("coder");
    home.up();
    home.says("gateway restart coder --ready").ok();
    assert!(port.healthy());
    let report = home.report("coder");
    assert_eq!(report["deaths"][0]["exitcode"], 75, "{report}");
    assert!(home.until_logged("coder", "leaving").contains("leaving: SIGUSR1, start me again"));
}

#[test]
fn start_without_a_slot_makes_it() {
    let home = up_with(SLEEPER, &[], &["coder"]);
    home.says("gateway unregister coder").ok();
    let said = home.says("gateway start coder").ok();
    assert_eq!(said, format!("coder: up (pid {})\n", home.pid("coder")));
    let said = home.redact(&home.says("gateway register coder").refused(1));
    assert_snapshot!(said, @"gatevisor: error: the gateway of `coder` is already registered in `HOME/run/service`");
}

#[test]
fn stop_of_one_without_a_slot_is_refused_and_records_nothing() {
    let home = up_with(SLEEPER, &[], &["coder"]);
    home.says("gateway unregister coder").ok();
    let before = fs::read(home.state_file("coder")).unwrap();
    assert_snapshot!(home.redact(&home.says("gateway stop coder").refused(1)), @"gatevisor: error: the gateway of `coder` is not registered in `HOME/run/service`; `gatevisor -p coder gateway start` registers and starts it");
    assert_eq!(fs::read(home.state_file("coder")).unwrap(), before);
}

#[test]
fn all_goes_on_when_one_fails_and_its_exit_code_is_the_worst() {
    let script = "test \"$1\" = bad && exit 78\nexec sleep 1000";
    let mut home = Home::with_script(script, &[]);
    for name in ["a", "bad", "c"] {
        home.profile(name);
    }
    home.up();
    let ran = home.says("gateway start --all --json");
    let results: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = results.iter().map(|result| result["profile"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "bad", "c", "default"]);
    assert_eq!(
        (&home.report("a")["state"], &home.report("c")["state"]),
        (&"up".into(), &"up".into()),
        "{ran:?}"
    );
    home.until_state("bad", "failed");

    // Without its marker, the directory is no profile, but it keeps its slot.
    let marker = home.profile_dir("bad").join(home.marker());
    fs::rename(&marker, home.beside("elsewhere")).unwrap();
    let ran = home.says("gateway restart --all");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(ran.out.lines().count(), 3, "{ran:?}");
    assert!(ran.err.contains("`bad`") && ran.err.ends_with("4 gateways: 3 done, 1 failed\n"), "{ran:?}");
    let ran = home.says("gateway stop --all");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(home.report("a")["state"], "down");
    assert_eq!(home.report("c")["state"], "down");
    fs::rename(home.beside("elsewhere"), marker).unwrap();
    home.says("gateway unregister --all").ok();
    assert_eq!(home.says("gateway register --all").ok().lines().count(), 4);
}

#[test]
fn all_start_together_and_stop_together() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let home = up_with(DEAF, &[], &names);
    for name in names {
        home.until_logged(name, "deaf\n");
    }
    let began = Instant::now();
    home.says("gateway stop --all").ok();
    let took = began.elapsed();
    assert!(took.as_secs() < 25, "each of six had five seconds to end, and that is not thirty: {took:?}");
}

#[test]
fn a_short_timeout_ends_with_99_and_leaves_the_desired_state() {
    let home = up_with(DEAF, &[("stop-timeout-ms = 5000", "stop-timeout-ms = 20000")], &["coder"]);
    home.until_logged("coder", "deaf\n");
    // The command does not wait until the supervisor has read it, either.
    let said = home.says("gateway stop coder --timeout 0").refused(99).replace("it is up", "it is stopping");
    assert_snapshot!(said, @"gatevisor: error: gave up waiting for the stop of `coder` after 0 s; it is stopping, and the supervisor goes on trying");
    assert_eq!(home.state("coder")["desired_state"], "stopped");
    crate::support::processes::signal(home.pid("coder"), rustix::process::Signal::KILL);
    home.until_state("coder", "down");
}
