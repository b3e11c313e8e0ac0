//! Draining: a gateway takes no new work and ends what is under way before something is done to it.
//!
//! A gateway here does nothing. The test writes what it shows of its work, so that nothing depends
//! on time but the limits.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use gatevisor_wire::control::{Control, ControlSignal};
use rustix::process::Signal;
use serde_json::Value;

use crate::home::Home;
use crate::support::running::Running;
use crate::support::{processes, set_wait_limit, waiting};

const IDLE: &str = "[gateway.drain.idle]\nfile = \"work.json\"\nturns = \"turns\"\nstate = \"state\"\ndraining = [\"draining\"]\n";
const MARKER: &str = "[gateway.drain.marker]\nfile = \"drain.json\"\ncontent = '{\"epoch\": \"{epoch}\", \"by\": \"{principal}\"}'\n";

/// Returns a home whose profile coder runs and drains so.
pub fn draining_as(drain: &str) -> Home {
    draining_in("exec sleep 1000", drain)
}

/// As [`draining_as`], with a gateway that is this script.
pub fn draining_in(script: &str, drain: &str) -> Home {
    set_wait_limit(Duration::from_mins(1));
    let meanings = format!("{drain}\n[gateway.exit-meanings]");
    // What follows a drain may wait for it nearly as long as a stop may take.
    let changes =
        [("[gateway.exit-meanings]", &*meanings), ("stop-timeout-ms = 5000", "stop-timeout-ms = 60000")];
    let mut home = Home::with_script(script, &changes);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_supervised("coder");
    home.says("wait coder --up --timeout 60").ok();
    home
}

pub fn with_marker() -> Home {
    draining_as(&format!("{MARKER}{IDLE}"))
}

pub fn marker(home: &Home) -> PathBuf {
    home.profile_dir("coder").join("drain.json")
}

/// Shows so much work, as a gateway that is in this state.
pub fn show(home: &Home, state: &str, turns: u32) {
    let directory = home.profile_dir("coder");
    fs::write(directory.join("work.new"), format!("{{\"state\": \"{state}\", \"turns\": {turns}}}")).unwrap();
    fs::rename(directory.join("work.new"), directory.join("work.json")).unwrap();
}

/// Starts a command that drains coder, and returns when coder was asked.
pub fn started(home: &Home, line: &str) -> Running {
    let command = home.start(line.split(' '));
    waiting::polled("that it is asked", || marker(home).exists().then_some(()));
    command
}

fn until_asked_no_more(home: &Home) {
    waiting::polled("that nothing asks it to drain", || (!marker(home).exists()).then_some(()));
    waiting::polled("that nobody drains it", || drain_of(home).is_null().then_some(()));
}

fn drain_of(home: &Home) -> Value {
    home.report("coder").get("drain").cloned().unwrap()
}

pub fn in_time() -> Duration {
    Duration::from_mins(2)
}

fn until(home: &Home, what: &str, expected: impl Fn(&Value) -> bool) -> Value {
    waiting::polled(what, || Some(home.report("coder")).filter(|report| expected(report)))
}

#[test]
fn a_restart_with_drain_waits_until_the_gateway_is_idle_and_status_shows_how_far_it_is() {
    let home = with_marker();
    let pid = home.pid("coder");
    show(&home, "running", 2);
    let command = started(&home, "gateway restart coder --drain=5m");
    let report = until(&home, "that it is asked", |report| report["drain"]["stage"] == "asked");
    assert_eq!(
        (&report["state"], &report["drain"]["then"]),
        (&"draining".into(), &"restart".into()),
        "{report}"
    );
    show(&home, "draining", 2);
    until(&home, "that two turns are left", |report| report["drain"]["turns"] == 2);
    let table = home.says("status").ok();
    assert!(table.contains("draining, 2 turns left, "), "{table}");
    let details = home.says("gateway status coder").ok();
    assert!(details.contains("`gateway restart` of ") && details.contains("then restart"), "{details}");
    let explained: Value = serde_json::from_str(&home.says("--json explain coder").ok()).unwrap();
    assert_eq!(explained["causes"][0]["cause"], "draining", "{explained:#}");
    let text = fs::read_to_string(marker(&home)).unwrap();
    let asked: Value = serde_json::from_str(&text).unwrap();
    assert!(asked["by"].as_str().unwrap().starts_with("gatevisor: `gateway restart` of "), "{text}");
    assert!(asked["epoch"].as_str().unwrap().len() > 36, "{text}");
    assert_eq!(home.pid("coder"), pid, "it was restarted in the middle of turns");
    show(&home, "draining", 0);
    let ran = command.ended(in_time());
    assert!(ran.code == Some(0) && ran.err.contains("coder: idle after "), "{ran:?}");
    assert!(ran.out.starts_with("coder: restarted, up"), "{ran:?}");
    assert_ne!(home.pid("coder"), pid);
    until_asked_no_more(&home);
}

#[test]
fn events_tell_that_a_drain_begins_that_no_work_is_left_and_that_it_is_over() {
    let home = with_marker();
    show(&home, "running", 1);
    let events = home.start(["events", "coder"]);
    crate::listening::until_subscribed(&events, &home, "coder");
    let command = started(&home, "gateway drain coder --for 10m");
    let said = events.until_says("coder draining: by `gateway drain` of ");
    assert!(!said.contains("drained"), "{said}");
    show(&home, "draining", 0);
    events.until_says("coder drained\n");
    assert!(!events.out().contains("drain over"), "it is kept from new work: {}", events.out());
    home.says("gateway drain coder --cancel").ok();
    events.until_says("coder drain over\n");
    let said = events.out();
    assert_eq!((said.matches("draining").count(), said.matches("drained").count()), (1, 1), "{said}");
    command.ended(in_time());
}

#[test]
fn the_limit_ends_a_drain_and_names_the_turns_that_are_cut_off() {
    let home = with_marker();
    show(&home, "draining", 3);
    let ran = home.says("gateway drain coder --for 1s --then stop");
    assert_eq!(ran.code, Some(99), "{ran:?}");
    assert!(
        ran.err.contains("coder: 3 turns still under way after ") && ran.err.contains("cut off"),
        "{ran:?}"
    );
    assert_eq!(home.report("coder")["state"], "down");
    until_asked_no_more(&home);
    let text = home.says("metrics").ok();
    for (outcome, count) in [("idle", 0), ("limit", 1), ("ended", 0), ("cancelled", 0), ("failed", 0)] {
        let of = format!("{{service=\"gateway-coder\",profile=\"coder\",outcome=\"{outcome}\"}} {count}.0");
        assert!(text.contains(&format!("\ngatevisor_service_drains_total{of}\n")), "{of}: {text}");
    }
}

#[test]
fn a_gateway_that_does_not_say_that_it_drains_is_not_taken_for_idle() {
    let home = with_marker();
    show(&home, "running", 0);
    let ran = home.says("--json gateway drain coder --for 1s --then restart");
    assert_eq!(ran.code, Some(99), "{ran:?}");
    let first: Value = serde_json::from_str(ran.out.lines().next().unwrap()).unwrap();
    assert_eq!((&first["drained"], &first["turns"]), (&false.into(), &0.into()), "{first}");
    until_asked_no_more(&home);
}

#[test]
fn a_command_that_comes_while_a_gateway_drains_decides_what_follows() {
    let home = with_marker();
    show(&home, "draining", 2);
    let pid = home.pid("coder");
    let stops = started(&home, "gateway stop coder --drain=600");
    home.says("gateway start coder --no-wait").ok();
    show(&home, "draining", 0);
    let ran = stops.ended(in_time());
    let why = "was given up, because the gateway was started meanwhile";
    assert!(ran.code == Some(1) && ran.err.contains(why), "{ran:?}");
    assert_eq!((home.pid("coder"), &home.report("coder")["desired_state"]), (pid, &"running".into()));
    until_asked_no_more(&home);
    show(&home, "draining", 2);
    let restarts = started(&home, "gateway restart coder --drain=600");
    home.says("gateway stop coder").ok();
    let ran = restarts.ended(in_time());
    let why = "was given up, because the gateway was stopped meanwhile";
    assert!(ran.code == Some(1) && ran.err.contains(why), "{ran:?}");
    home.until_state("coder", "down");
}

#[test]
fn ctrl_c_undoes_a_drain_and_nothing_follows() {
    let home = with_marker();
    let pid = home.pid("coder");
    show(&home, "draining", 1);
    let command = started(&home, "gateway drain coder --then stop");
    command.signal(Signal::INT);
    let ran = command.ended(in_time());
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(ran.err.contains("cancelled after "), "{ran:?}");
    assert!(!marker(&home).exists());
    assert_eq!(home.pid("coder"), pid);
}

#[test]
fn one_command_at_a_time_drains_a_gateway_and_another_can_end_that() {
    let home = with_marker();
    show(&home, "draining", 0);
    let command = started(&home, "gateway drain coder --for 1h");
    until(&home, "that it is idle and kept so", |report| report["drain"]["stage"] == "idle");
    let second = home.says("gateway stop coder --drain");
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.err.contains("is being drained already: by `gateway drain` of "), "{second:?}");
    assert!(second.err.contains("gatevisor gateway drain coder --cancel"), "{second:?}");
    let cancel = home.says("gateway drain coder --cancel").ok();
    assert!(cancel.starts_with("coder: takes work again"), "{cancel}");
    let ran = command.ended(in_time());
    assert_eq!(ran.code, Some(143), "{ran:?}");
    until_asked_no_more(&home);
    let nobody = home.says("gateway drain coder --cancel");
    assert!(
        nobody.code == Some(1) && nobody.err.contains("nobody drains the gateway of `coder`"),
        "{nobody:?}"
    );
}

#[test]
fn what_a_killed_command_left_is_undone_by_the_watcher_also_by_the_next_one() {
    let home = with_marker();
    show(&home, "draining", 1);
    let command = started(&home, "gateway drain coder --for 1h");
    command.signal(Signal::KILL);
    command.ended(in_time());
    until_asked_no_more(&home);
    let line = || fs::read_to_string(home.scandir().join(".live/.watcher")).unwrap_or_default();
    let watcher = || line().split_whitespace().nth(1).and_then(|pid| pid.parse::<i32>().ok());
    let command = started(&home, "gateway drain coder --for 1h");
    let first = waiting::polled("the watcher", watcher);
    processes::signal(first, Signal::KILL);
    command.signal(Signal::KILL);
    command.ended(in_time());
    until_asked_no_more(&home);
}

#[test]
fn the_watcher_undoes_a_drain_as_it_was_asked_for_also_after_the_definition_was_edited() {
    let home = with_marker();
    show(&home, "draining", 1);
    let edit = |from: &str, to: &str| {
        let definition = home.agent().unwrap();
        let text = fs::read_to_string(definition).unwrap();
        assert!(text.contains(from));
        fs::write(definition, text.replace(from, to)).unwrap();
    };
    edit("drain.json", "other.json");
    let other = home.profile_dir("coder").join("other.json");
    let command = home.start(["gateway", "drain", "coder", "--for", "1h"]);
    waiting::polled("that it is asked", || other.exists().then_some(()));
    waiting::polled("that it drains", || drain_of(&home).is_object().then_some(()));
    edit("other.json", "third.json");
    // Another program asks as the definition now has it.
    let third = home.profile_dir("coder").join("third.json");
    fs::write(&third, "{}").unwrap();
    command.signal(Signal::KILL);
    command.ended(in_time());
    waiting::polled("that nothing of ours asks it to drain", || (!other.exists()).then_some(()));
    waiting::polled("that the drain is forgotten", || {
        (!home.scandir().join(".drain/gateway-coder").exists()).then_some(())
    });
    assert!(third.exists(), "it is the request of another program");
    fs::remove_file(&third).unwrap();
    until_asked_no_more(&home);
}

#[test]
fn the_next_start_of_the_supervisor_undoes_what_is_left_whoever_asked() {
    let mut home = with_marker();
    show(&home, "draining", 1);
    let command = started(&home, "gateway drain coder --for 1h");
    // It would undo that itself if it saw the gateway end.
    command.signal(Signal::STOP);
    processes::until_state(command.pid(), "T");
    home.kill_everything();
    command.ended(in_time());
    assert!(marker(&home).exists());
    home.up_quietly();
    until_asked_no_more(&home);
    assert!(home.down().code == Some(0));
    fs::write(marker(&home), "{}").unwrap();
    home.up_quietly();
    until_asked_no_more(&home);
}

#[test]
fn a_stopped_command_does_not_keep_a_gateway_from_work_beyond_the_limit() {
    let home = with_marker();
    show(&home, "draining", 1);
    let command = started(&home, "gateway drain coder --for 10s --then stop");
    command.signal(Signal::STOP);
    waiting::polled("that nothing asks it to drain", || (!marker(&home).exists()).then_some(()));
    command.signal(Signal::KILL);
    command.signal(Signal::CONT);
    command.ended(in_time());
}

#[test]
fn a_gateway_that_cannot_be_drained_is_reported_and_nothing_is_done_to_it() {
    let home = with_marker();
    home.profile("writer");
    home.says("gateway register writer");
    let refused = |line: &str, why: &str| {
        let ran = home.says(line);
        assert!(ran.code == Some(1) && ran.err.contains(why), "{line}: {ran:?}");
    };
    refused("gateway drain writer", "the gateway of `writer` is not up");
    refused("gateway drain nobody", "there is no profile `nobody`");
    let ran = home.says("gateway drain coder --for 0s");
    assert!(ran.code == Some(100) && ran.err.contains("`1s` to `24h` are possible"), "{ran:?}");
    home.slot("coder").send(&[Control::Signal(ControlSignal::Stop)]).unwrap();
    until(&home, "that it is paused", |report| report["state"] == "paused");
    refused("gateway stop coder --drain", "is paused and cannot end any work");
    home.slot("coder").send(&[Control::Signal(ControlSignal::Continue)]).unwrap();
    until(&home, "that it goes on", |report| report["state"] == "up");
    fs::write(marker(&home), "{}").unwrap();
    // That file is of no start of the machine, so it is nobody's.
    show(&home, "draining", 0);
    home.says("gateway drain coder --then restart").ok();
    assert!(!marker(&home).exists());
    let down = home.says("gateway restart writer --drain").ok();
    assert!(down.starts_with("writer: was down, so it was started"), "{down}");
    let none = draining_as("");
    let ran = none.says("gateway restart coder --drain");
    assert!(ran.code == Some(1) && ran.err.contains("`[gateway.drain]` would"), "{ran:?}");
}

#[test]
fn another_programs_request_is_respected_and_can_be_cancelled() {
    let home = draining_as(
        &format!("marker = {{ file = \"drain.json\" }}\n{IDLE}")
            .replace("marker =", "[gateway.drain]\nmarker ="),
    );
    show(&home, "draining", 1);
    fs::write(marker(&home), "{}").unwrap();
    let ran = home.says("gateway stop coder --drain");
    assert!(ran.code == Some(1) && ran.err.contains("another program has asked"), "{ran:?}");
    assert_eq!(home.report("coder")["up"], true);
    home.says("gateway drain coder --cancel").ok();
    assert!(!marker(&home).exists());
}

#[test]
fn a_gateway_can_be_asked_by_commands_and_looked_at_by_one() {
    let home = draining_as(
        "[gateway.drain.command]\n\
         begin = [\"sh\", \"-c\", \"echo $$HTTP_AGENT_HOME >{profile-home}/drain.json\"]\n\
         end = [\"rm\", \"-f\", \"{profile-home}/drain.json\"]\n\
         [gateway.drain.idle]\ncommand = [\"cat\", \"{profile-home}/work.json\"]\nturns = \"turns\"\n",
    );
    let pid = home.pid("coder");
    show(&home, "draining", 1);
    let command = started(&home, "gateway restart coder --drain=5m");
    until(&home, "that a turn is left", |report| report["drain"]["turns"] == 1);
    show(&home, "draining", 0);
    let ran = command.ended(in_time());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_ne!(home.pid("coder"), pid);
    until_asked_no_more(&home);
    // What a killed command left is undone by the command that the definition has for it.
    show(&home, "draining", 1);
    let command = started(&home, "gateway drain coder --for 1h");
    until(&home, "that a turn is left", |report| report["drain"]["turns"] == 1);
    command.signal(Signal::KILL);
    command.ended(in_time());
    until_asked_no_more(&home);
}

#[test]
fn a_request_to_a_process_ends_with_it_and_meanwhile_a_restart_is_a_stop_and_a_start() {
    // As OpenClaw does, it heeds its restart signal only when it takes work again.
    let script = "trap 'while [ -e drain.json ]; do sleep 0.05; done; exit 75' USR1\n\
                  trap 'while [ -e stay ]; do sleep 0.05; done; exit 0' TERM\n\
                  while :; do sleep 0.05; done";
    let home = draining_in(
        script,
        "[gateway.drain]\nwhen-stopped = true\n\
         [gateway.drain.command]\n\
         begin = [\"touch\", \"{profile-home}/drain.json\"]\n\
         end = [\"sh\", \"-c\", \"echo >>{profile-home}/ended; rm {profile-home}/drain.json\"]\n\
         ends-with-process = true\n\
         [gateway.drain.idle]\ncommand = [\"cat\", \"{profile-home}/work.json\"]\ninterval-ms = 100\n\
         turns = \"turns\"\n",
    );
    let file = |name: &str| home.profile_dir("coder").join(name);
    let pid = home.pid("coder");
    show(&home, "draining", 0);
    let ran = home.says("gateway restart coder --drain=5m");
    assert!(ran.code == Some(0) && ran.err.contains("coder: idle after "), "{ran:?}");
    assert_ne!(home.pid("coder"), pid);
    // A restart while another command drains it is heeded, too.
    let (pid, drain) = (home.pid("coder"), started(&home, "gateway drain coder --for 1h"));
    until(&home, "that it is idle", |report| report["drain"]["stage"] == "idle");
    home.says("gateway restart coder").ok();
    assert_ne!(home.pid("coder"), pid);
    drain.ended(in_time()).ok();
    // What it does not end in time is left to its own stop, which waits here until it is let go.
    show(&home, "draining", 1);
    fs::write(file("stay"), "").unwrap();
    let stop = started(&home, "gateway stop coder --drain=1s");
    until(&home, "that it is told to stop", |report| report["state"] == "stopping");
    fs::remove_file(file("stay")).unwrap();
    let ran = stop.ended(in_time());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("that is left to its own stop"), "{ran:?}");
    assert!(!file("ended").exists(), "it is taken back from a process that was not asked");
    // Where its stop drains, nothing else does before its profile is deleted.
    home.says("gateway start coder").ok();
    home.says("profile delete coder --yes").ok();
}

#[test]
fn a_gateway_that_is_idle_is_asked_again_while_another_one_is_busy_so_that_its_lease_goes_on() {
    let home = draining_as(
        "[gateway.drain.command]\nbegin = [\"true\"]\nend = [\"true\"]\nends-with-process = true\n\
         [gateway.drain.idle]\ninterval-ms = 100\nturns = \"turns\"\n\
         command = [\"sh\", \"-c\", \"echo >>{profile-home}/asked; cat {profile-home}/work.json\"]\n",
    );
    home.profile("writer");
    home.says("gateway start writer").ok();
    fs::write(home.profile_dir("writer").join("work.json"), "{\"turns\": 0}").unwrap();
    show(&home, "draining", 1);
    let asked = || fs::read_to_string(home.profile_dir("writer").join("asked")).map_or(0, |text| text.len());
    let drain = home.start("gateway drain coder writer --for 1h --then stop".split(' '));
    waiting::polled("that the idle one is asked again and again", || (asked() >= 4).then_some(()));
    assert_eq!(home.report("writer")["drain"]["stage"], "idle");
    show(&home, "draining", 0);
    assert_eq!(drain.ended(in_time()).code, Some(0));
}

#[test]
fn a_request_to_a_process_that_cannot_be_taken_back_is_not_taken_back_again_and_again() {
    let home = draining_as(
        "[gateway.drain.command]\nbegin = [\"false\"]\nends-with-process = true\n\
         end = [\"sh\", \"-c\", \"echo >>{profile-home}/ended; exit 1\"]\n\
         [gateway.drain.idle]\nfile = \"work.json\"\nturns = \"turns\"\n",
    );
    let ran = home.says("gateway restart coder --drain");
    assert!(ran.code == Some(111) && ran.err.contains("cannot be asked to drain"), "{ran:?}");
    let ended = fs::read_to_string(home.profile_dir("coder").join("ended")).unwrap();
    assert_eq!(ended, "\n", "{ran:?}");
    assert_eq!(home.report("coder")["drain"], Value::Null);
}

#[test]
fn a_command_that_fails_to_ask_is_told_and_nothing_follows() {
    let home = draining_as(
        "[gateway.drain.command]\nbegin = [\"false\"]\nend = [\"true\"]\n\
         [gateway.drain.idle]\nfile = \"work.json\"\nturns = \"turns\"\n",
    );
    let pid = home.pid("coder");
    let ran = home.says("gateway restart coder --drain");
    assert!(
        ran.code == Some(111) && ran.err.contains("cannot be asked to drain: `false` exited with 1"),
        "{ran:?}"
    );
    assert_eq!(home.pid("coder"), pid);
}

#[test]
fn a_profile_is_deleted_and_a_slot_is_renewed_when_its_gateway_is_idle() {
    let home = with_marker();
    let pid = home.pid("coder");
    let definition = home.agent().unwrap();
    let text = fs::read_to_string(definition).unwrap();
    fs::write(definition, text.replace("environment = {", "environment = { RENEWED = \"1\",")).unwrap();
    show(&home, "draining", 1);
    let command = started(&home, "reload --restart coder");
    assert_eq!(home.report("coder")["drain"]["then"], "restart");
    assert_eq!(home.pid("coder"), pid);
    show(&home, "draining", 0);
    let ran = command.ended(in_time());
    assert!(ran.out.contains("rendered anew, and restarted"), "{ran:?}");
    assert_ne!(home.pid("coder"), pid);
    until_asked_no_more(&home);
    show(&home, "draining", 1);
    let command = started(&home, "profile delete coder --yes");
    assert!(home.profile_dir("coder").exists());
    show(&home, "draining", 0);
    let ran = command.ended(in_time());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(!home.profile_dir("coder").exists());
}
