//! A gateway that asks for its own restart: it is answered at once, what is under way ends first,
//! and its next process finds why it was started.
//!
//! A gateway here carries out each line that comes through a FIFO, and writes down what that said.
//! So a command of ours runs in it, as the tool of an agent would. It writes the answer down before
//! it obeys a request to end, which may come at once.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::home::Home;
use crate::support::{processes, set_wait_limit, waiting};

const SCRIPT: &str = "\
[ -p \"$2/ask\" ] || mkfifo \"$2/ask\"
exec 3<>\"$2/ask\"
printf '%s\\n' \"$GATEVISOR_RESTART_REASON\" >\"$2/reason.$$\"; mv \"$2/reason.$$\" \"$2/reason\"
while read -r line <&3; do
  trap ended=1 TERM
  eval \"$line\" >\"$2/answer.$$\" 2>&1 3<&-; echo \"code $?\" >>\"$2/answer.$$\"; mv \"$2/answer.$$\" \"$2/answer\"
  trap - TERM
  test -z \"$ended\" || kill $$
done
";
const DRAIN: &str = "[gateway.drain.marker]\nfile = \"drain.json\"\n\
    [gateway.drain.idle]\nfile = \"work.json\"\nturns = \"turns\"\nstate = \"state\"\ndraining = [\"draining\"]\n";

/// Returns a home whose profile coder runs, with this in its definition.
fn with(drain: &str) -> Home {
    set_wait_limit(Duration::from_mins(1));
    let meanings = format!("{drain}\n[gateway.exit-meanings]");
    let mut home = Home::with_script(SCRIPT, &[("[gateway.exit-meanings]", &meanings)]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_supervised("coder");
    home.says("wait coder --up --timeout 60").ok();
    until_started(&home);
    // Where nobody watches, a gateway that asks is refused.
    let pulse = home.scandir().join(".live/.watcher");
    waiting::polled("the watcher", || pulse.exists().then_some(()));
    home
}

fn file(home: &Home, name: &str) -> PathBuf {
    home.profile_dir("coder").join(name)
}

/// Waits until a process of coder has begun its work, and returns why it was started.
fn until_started(home: &Home) -> String {
    let reason =
        waiting::polled("a process that has begun", || fs::read_to_string(file(home, "reason")).ok());
    fs::remove_file(file(home, "reason")).unwrap();
    reason
}

/// Shows so much work, as a gateway that is in this state.
fn show(home: &Home, state: &str, turns: u32) {
    let text = json!({ "state": state, "turns": turns }).to_string();
    fs::write(file(home, "work.new"), text).unwrap();
    fs::rename(file(home, "work.new"), file(home, "work.json")).unwrap();
}

/// Has the gateway carry out a line.
fn tell(home: &Home, line: &str) {
    let ask = fs::OpenOptions::new().write(true).open(file(home, "ask"));
    ask.unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Has the gateway run `gatevisor`, and returns what that said.
fn within(home: &Home, words: &str) -> String {
    within_as(home, "", words)
}

/// The same after another line.
fn within_as(home: &Home, before: &str, words: &str) -> String {
    let _ = fs::remove_file(file(home, "answer"));
    let (program, agent) = (env!("CARGO_BIN_EXE_gatevisor"), home.agent().unwrap().display());
    tell(home, &format!("{before} '{program}' --home '{}' --agent '{agent}' {words}", home.path().display()));
    waiting::polled("the answer", || fs::read_to_string(file(home, "answer")).ok())
}

fn asked(home: &Home) -> Value {
    home.report("coder").get("asked_restart").cloned().unwrap()
}

fn until_done(home: &Home) -> Value {
    waiting::polled("that it is over", || Some(asked(home)).filter(|asked| asked["ended_at"].is_string()))
}

fn until(home: &Home, what: &str, expected: impl Fn(&Value) -> bool) {
    waiting::polled(what, || expected(&home.report("coder")).then_some(()));
}

fn recent(home: &Home) -> usize {
    let ticket = fs::read(home.path().join(".gatevisor-restarts/coder.json")).unwrap();
    let ticket: Value = serde_json::from_slice(&ticket).unwrap();
    ticket.get("recent").and_then(Value::as_array).unwrap().len()
}

#[test]
fn a_gateway_is_restarted_when_no_turn_is_under_way_and_its_next_process_finds_why() {
    let home = with(DRAIN);
    let pid = home.pid("coder");
    show(&home, "running", 2);
    let answer = within(&home, "gateway restart --self --reason 'new skills'");
    assert!(answer.contains("coder: is restarted when no turn is under way, this one included"), "{answer}");
    assert!(answer.ends_with("code 0\n"), "{answer}");
    show(&home, "draining", 2);
    until(&home, "that two turns are seen", |report| report["drain"]["turns"] == 2);
    let again = within(&home, "gateway restart --self");
    assert!(again.contains("coder: this was asked for already, at "), "{again}");
    let table = home.says("status").ok();
    assert!(table.contains("it asks for its own restart: new skills"), "{table}");
    // The turn that asked may be the one that has ended.
    show(&home, "draining", 1);
    until(&home, "that one turn is seen", |report| report["drain"]["turns"] == 1);
    assert_eq!(home.pid("coder"), pid, "it was restarted in the middle of a turn of somebody else's");
    show(&home, "draining", 0);
    let reason = until_started(&home);
    assert!(reason.contains("`gateway restart --self`") && reason.contains(": new skills"), "{reason}");
    assert_ne!(home.pid("coder"), pid);
    let asked = until_done(&home);
    assert_eq!((&asked["stage"], &asked["reason"]), (&"done".into(), &"new skills".into()), "{asked}");
    assert!(asked["outcome"].as_str().unwrap().starts_with("restarted, up"), "{asked}");
    let explained = home.says("explain coder").ok();
    assert!(explained.contains("it asked for its own restart: new skills"), "{explained}");
    assert!(!file(&home, "drain.json").exists());
}

#[test]
fn a_gateway_drains_as_the_definition_says_that_was_edited_since_its_watcher_began() {
    let home = with("");
    let definition = home.agent().unwrap();
    let text = fs::read_to_string(definition).unwrap();
    fs::write(definition, format!("{text}\n{DRAIN}")).unwrap();
    show(&home, "draining", 2);
    let pid = home.pid("coder");
    let answer = within(&home, "gateway restart --self");
    assert!(answer.contains("is restarted when no turn is under way"), "{answer}");
    until(&home, "that two turns are seen", |report| report["drain"]["turns"] == 2);
    assert_eq!(home.pid("coder"), pid, "two turns were cut off");
    show(&home, "draining", 0);
    until_started(&home);
    assert_eq!(until_done(&home)["stage"], "done");
}

#[test]
fn a_gateway_of_any_agent_asks_with_the_command_of_the_guide_without_naming_its_home() {
    let home = with(DRAIN);
    // One that is idle would be ended before it has written the answer down.
    show(&home, "draining", 1);
    let pid = home.pid("coder");
    // This home was given `--agent` when it was started, and remembers it.
    let line = format!("'{}' gateway restart --self --reason 'new skills'", env!("CARGO_BIN_EXE_gatevisor"));
    tell(&home, &line);
    let answer = waiting::polled("the answer", || fs::read_to_string(file(&home, "answer")).ok());
    assert!(answer.starts_with("coder: is restarted") && answer.ends_with("code 0\n"), "{answer}");
    show(&home, "draining", 0);
    assert!(until_started(&home).contains(": new skills"));
    assert_ne!(home.pid("coder"), pid);
    assert_eq!(until_done(&home)["stage"], "done");
}

#[test]
fn with_after_turn_the_turn_that_asks_is_waited_for_too() {
    let home = with(DRAIN);
    let pid = home.pid("coder");
    show(&home, "draining", 1);
    let answer = within(&home, "gateway restart --self --after-turn");
    assert!(answer.contains("this one included"), "{answer}");
    until(&home, "that the turn is seen", |report| report["drain"]["turns"] == 1);
    let explained = home.says("explain coder").ok();
    assert!(explained.contains("(draining)") && explained.contains("1 turn is under way"), "{explained}");
    assert_eq!(home.pid("coder"), pid);
    show(&home, "draining", 0);
    until_started(&home);
    assert_eq!(until_done(&home)["stage"], "done");
}

#[test]
fn a_killed_watcher_loses_no_request_and_carries_none_out_twice() {
    let home = with(DRAIN);
    show(&home, "draining", 1);
    within(&home, "gateway restart --self --after-turn");
    until(&home, "that the turn is seen", |report| report["drain"]["turns"] == 1);
    let line = || fs::read_to_string(home.scandir().join(".live/.watcher")).unwrap_or_default();
    let watcher = || line().split_whitespace().nth(1).and_then(|pid| pid.parse::<i32>().ok());
    let first = waiting::polled("the watcher", watcher);
    processes::signal(first, Signal::KILL);
    waiting::polled("the next watcher", || watcher().filter(|pid| *pid != first));
    show(&home, "draining", 0);
    until_started(&home);
    let pid = home.pid("coder");
    assert_eq!(until_done(&home)["stage"], "done");
    assert_eq!((home.pid("coder"), recent(&home)), (pid, 1));
}

#[test]
fn a_killed_supervisor_loses_no_request_and_its_next_process_finds_why() {
    let mut home = with(DRAIN);
    show(&home, "draining", 1);
    within(&home, "gateway restart --self --after-turn --reason 'new skills'");
    until(&home, "that the turn is seen", |report| report["drain"]["turns"] == 1);
    home.kill_everything();
    home.up_quietly();
    let reason = until_started(&home);
    assert!(reason.contains("started with its supervisor") && reason.contains("new skills"), "{reason}");
    let asked = until_done(&home);
    assert_eq!(asked["stage"], "done", "{asked}");
    assert_eq!(recent(&home), 0);
}

#[test]
fn a_gateway_that_is_stopped_meanwhile_stays_down() {
    let home = with(DRAIN);
    show(&home, "draining", 1);
    within(&home, "gateway restart --self --after-turn");
    until(&home, "that the turn is seen", |report| report["drain"]["turns"] == 1);
    home.says("gateway stop coder").ok();
    let asked = until_done(&home);
    assert_eq!(asked["stage"], "refused", "{asked}");
    assert_eq!(home.report("coder")["state"], "down");
}

#[test]
fn a_cancelled_drain_is_the_end_of_the_request() {
    let home = with(DRAIN);
    let pid = home.pid("coder");
    show(&home, "draining", 1);
    within(&home, "gateway restart --self --after-turn");
    until(&home, "that the turn is seen", |report| report["drain"]["turns"] == 1);
    home.says("gateway drain coder --cancel").ok();
    let asked = until_done(&home);
    assert_eq!(
        (&asked["stage"], &asked["outcome"]),
        (&"refused".into(), &"somebody cancelled its drain".into())
    );
    assert!(home.pid("coder") == pid && !file(&home, "drain.json").exists());
}

#[test]
fn only_its_own_gateway_is_restarted_so() {
    let home = with("");
    home.profile("writer");
    let outside = home.says("gateway restart --self");
    assert!(outside.code == Some(1) && outside.err.contains("cannot tell which gateway asks"), "{outside:?}");
    let another = within(&home, "-p writer gateway restart --self");
    assert!(another.contains("this process runs in the gateway of `coder`"), "{another}");
    assert!(another.ends_with("code 1\n"), "{another}");
    let named = within(&home, "gateway restart --self coder");
    assert!(named.ends_with("code 100\n"), "{named}");
    let turns = within(&home, "gateway restart --self --after-turn");
    assert!(turns.contains("does not say how a gateway is drained"), "{turns}");
    assert!(asked(&home).is_null());
    // Without the variable, its ancestry counts.
    let pid = home.pid("coder");
    let answer = within_as(&home, "unset GATEVISOR_SERVICE;", "gateway restart --self");
    assert!(answer.contains("coder: is restarted now"), "{answer}");
    until_started(&home);
    assert_ne!(home.pid("coder"), pid);
    assert_eq!(until_done(&home)["stage"], "done");
}

#[test]
fn a_gateway_that_asks_again_and_again_waits_longer_each_time_and_that_is_said() {
    let home = with("");
    within(&home, "gateway restart --self");
    until_started(&home);
    until_done(&home);
    let path = home.path().join(".gatevisor-restarts/coder.json");
    let mut ticket: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let now = ticket["recent"][0].clone();
    ticket["recent"] = json!([now, now, now, now, now, now, now, now, now]);
    fs::write(&path, ticket.to_string()).unwrap();
    let pid = home.pid("coder");
    let answer = within(&home, "gateway restart --self --reason 'once more'");
    assert!(answer.contains("and not before ") && answer.contains("9 times in the last hour"), "{answer}");
    assert_eq!(asked(&home)["stage"], "held");
    let table = home.says("status").ok();
    assert!(table.contains("there were 9 in the last hour: once more"), "{table}");
    let found = home.says("doctor");
    assert!(found.out.contains("coder asks for its own restart again and again"), "{found:?}");
    assert_eq!(home.pid("coder"), pid);
}

#[test]
fn a_new_profile_does_not_inherit_the_requests_of_one_with_its_name() {
    let home = with("");
    within(&home, "gateway restart --self");
    until_started(&home);
    until_done(&home);
    assert_eq!(recent(&home), 1);
    let ticket = home.path().join(".gatevisor-restarts/coder.json");
    let kept = fs::read(&ticket).unwrap();
    home.says("profile delete coder --yes").ok();
    assert!(!ticket.exists());
    // Another program deletes without it.
    fs::write(&ticket, kept).unwrap();
    home.says("profile create coder").ok();
    assert!(!ticket.exists() && asked(&home).is_null());
}

#[test]
fn a_gateway_that_exits_to_be_restarted_again_and_again_waits_and_that_is_said() {
    set_wait_limit(Duration::from_mins(1));
    let mut home = Home::with_script("exit 75", &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_supervised("coder");
    let why = "it asks for a restart again and again, so each one waits longer";
    let report = home.until_report("coder", "that it waits", |report| report["reason"] == why);
    assert_eq!(report["state"], "backing-off", "{report}");
    let found = home.says("doctor");
    assert!(found.out.contains("coder asks for a restart again and again"), "{found:?}");
    let explained = home.says("explain coder").ok();
    assert!(explained.contains(why), "{explained}");
}

#[test]
fn after_turn_is_refused_where_no_gateway_asks_for_itself() {
    let home = Home::new();
    for line in ["gateway restart coder --after-turn", "gateway restart --all --after-turn"] {
        let said = home.says(line).refused(100);
        assert!(said.contains("--after-turn is for a gateway that asks for its own restart"), "{said}");
    }
}

#[test]
fn the_next_process_finds_also_what_a_command_and_an_exit_code_ask_for() {
    let home = with("");
    home.says("gateway restart coder --reason upgrade").ok();
    let reason = until_started(&home);
    assert!(reason.contains("`gateway restart`") && reason.contains(": upgrade"), "{reason}");
    tell(&home, "exit 75");
    let reason = until_started(&home);
    assert!(reason.contains("exit code 75"), "{reason}");
    tell(&home, "exit 7");
    assert_eq!(until_started(&home), "\n");
}
