//! Every state that `status` can show, each in a situation that causes it.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::home::Home;
use crate::support::{executable, processes, waiting};

const SLEEPER: &str = "exec sleep 1000";
const READY: &str =
    "ready = { http = \"http://127.0.0.1:${PORT:-8700}/health\", interval-ms = 50, timeout-ms = 20000 }\n";
/// The longest possible wait between two attempts.
const PATIENT: (&str, &str) =
    ("[gateway.exit-meanings]", "[gateway.restart]\nbackoff-first-ms = 60000\n\n[gateway.exit-meanings]");

/// A start has succeeded when the command is executed.
const NO_WINDOW: (&str, &str) = ("stop-timeout-ms", "start-window-ms = 0\nstop-timeout-ms");

/// Returns a home whose profile coder shall run, with the supervisor up.
fn wanted(mut home: Home) -> Home {
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home
}

/// Returns the table's cell with the state of coder.
#[track_caller]
fn shown(home: &Home) -> String {
    let table = home.says("status").ok();
    let line = table
        .lines()
        .find(|line| line.starts_with("coder "))
        .unwrap_or_else(|| panic!("no coder in {table}"));
    line["coder".len()..].trim_start().to_owned()
}

#[test]
fn up_is_a_gateway_that_says_nothing_of_being_ready() {
    let home = wanted(Home::with_script(SLEEPER, &[]));
    let report = home.until_state("coder", "up");
    assert_eq!((&report["up"], &report["ready"]), (&true.into(), &false.into()), "{report}");
    assert!(shown(&home).starts_with("up "), "{}", shown(&home));
}

#[test]
fn ready_is_a_gateway_that_answered_its_probe() {
    let mut home = Home::new();
    let port = home.profile("coder");
    home.want_running("coder");
    home.up();
    let report = home.until_state("coder", "ready");
    assert_eq!((&report["up"], &report["ready"]), (&true.into(), &true.into()), "{report}");
    assert!(shown(&home).starts_with("ready "), "{}", shown(&home));
    assert!(port.healthy());
}

#[test]
fn starting_is_a_gateway_that_is_up_and_does_not_answer_yet() {
    let changes = [("stop-timeout-ms", &*format!("{READY}stop-timeout-ms"))];
    let home = wanted(Home::with_script(SLEEPER, &changes));
    let report = home.until_report("coder", "the command, not ready", |report| {
        report["state"] == "starting" && report["up"] == true
    });
    assert_eq!((&report["up"], &report["ready"]), (&true.into(), &false.into()), "{report}");
    assert!(shown(&home).starts_with("starting "), "{}", shown(&home));
}

#[test]
fn backing_off_is_a_gateway_that_keeps_dying_and_shows_the_time_left() {
    let home = wanted(Home::with_script("exit 3", &[PATIENT, NO_WINDOW]));
    // The first restart is immediate, so for a moment the state has no remaining time.
    let report = home.until_report("coder", "a pause", |report| {
        report["state"] == "backing-off"
            && report["next_start_in_ms"].as_u64().is_some_and(|left| left > 30_000)
    });
    assert!(report["next_start_in_ms"].as_u64().unwrap() <= 66_000, "{report}");
    assert_eq!((&report["exitcode"], &report["pid"]), (&3.into(), &serde_json::Value::Null), "{report}");
    let row = shown(&home);
    let (words, _) = row.split_once(" s ").unwrap();
    let seconds: u64 = words.strip_prefix("backing off, ").unwrap().parse().unwrap();
    assert!((30..=67).contains(&seconds), "{row}");
    let details = home.says("gateway status coder").ok();
    assert!(details.contains("\nwaiting  for its next start, in "), "{details}");
    assert!(details.contains(" exit 3\n"), "{details}");
}

#[test]
fn failed_to_start_is_a_gateway_that_ends_within_its_start_window_too() {
    let window = ("stop-timeout-ms", "start-window-ms = 60000\nstop-timeout-ms");
    let home = wanted(Home::with_script("echo no key >&2; exit 3", &[PATIENT, window]));
    let report = home.until_report("coder", "a pause", |report| {
        report["state"] == "failed-to-start"
            && report["next_start_in_ms"].as_u64().is_some_and(|left| left > 30_000)
    });
    let reason = report["reason"].as_str().unwrap();
    assert!(reason.starts_with("ended ") && reason.ends_with(" s after its start: exit 3"), "{report}");
    assert!(shown(&home).starts_with("failed to start, again in "), "{}", shown(&home));
    home.until_logged("coder", "no key");
    let details = home.says("gateway status coder").ok();
    assert!(details.contains("\nprinted  no key\n"), "{details}");
    let found = home.says("doctor");
    assert!(found.out.contains("coder cannot be started") && found.out.contains("no key"), "{found:?}");
}

#[test]
fn stopping_is_a_gateway_that_was_told_to_end_and_has_not() {
    let script = "trap '' TERM\necho ignores\nexec sleep 1000";
    let home = wanted(Home::with_script(script, &[("stop-timeout-ms = 5000", "stop-timeout-ms = 60000")]));
    home.until_logged("coder", "ignores");
    let said = home.says("gateway stop coder --no-wait").ok();
    assert_eq!(said, "coder: stopping\n");
    let report = home.until_state("coder", "stopping");
    assert_eq!((&report["up"], &report["wantedup"]), (&true.into(), &false.into()), "{report}");
    assert!(shown(&home).starts_with("stopping "), "{}", shown(&home));
    processes::signal(home.pid("coder"), rustix::process::Signal::KILL);
    home.until_state("coder", "down");
}

#[test]
fn finishing_is_a_gateway_whose_finish_script_runs() {
    let mut home = Home::with_script("exit 0", &[]);
    home.profile("coder");
    home.up();
    executable(&home.slot("coder").path().join("finish"), "#!/bin/sh\nexec sleep 1000\n");
    home.says("gateway start coder --no-wait").ok();
    let report = home.until_state("coder", "finishing");
    assert_eq!(report["up"], false, "{report}");
    assert!(shown(&home).starts_with("finishing "), "{}", shown(&home));
}

#[test]
fn down_is_a_gateway_that_nobody_wants() {
    let mut home = Home::with_script(SLEEPER, &[]);
    home.profile("coder");
    home.up();
    let report = home.until_state("coder", "down");
    assert_eq!(
        (&report["wantedup"], &report["desired_state"]),
        (&false.into(), &None::<&str>.into()),
        "{report}"
    );
    assert!(shown(&home).starts_with("down "), "{}", shown(&home));
}

#[test]
fn failed_is_a_gateway_that_said_that_another_attempt_is_useless_and_why() {
    let mut home = Home::new();
    let port = home.profile("coder");
    let variables = format!("PORT={}\nEXIT_CODE=78\n", port.number);
    std::fs::write(home.profile_dir("coder").join(".env"), variables).unwrap();
    home.want_running("coder");
    home.up_quietly();
    let report = home.until_state("coder", "failed");
    assert_eq!(report["reason"], "exit 78: no valid PORT in its .env, will not be retried", "{report}");
    assert!(
        shown(&home).starts_with("failed: exit 78: no valid PORT in its .env, will not be retried "),
        "{}",
        shown(&home)
    );
    let ran = home.says("gateway start coder --ready");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.err
            .contains("failed for good: exit 78: no valid PORT in its .env, will not be retried; fix that"),
        "{ran:?}"
    );
    let ran = home.says("wait --ready coder");
    assert_eq!(ran.code, Some(1), "{ran:?}");
}

#[test]
fn failed_is_a_gateway_that_died_as_often_as_it_may() {
    let changes = [(
        PATIENT.0,
        "[gateway.restart]\nbackoff-first-ms = 1\ngive-up-after = 3\n\n[gateway.exit-meanings]",
    )];
    let home = wanted(Home::with_script("exit 3", &changes));
    let report = home.until_state("coder", "failed");
    assert!(report["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{report}");
    assert_eq!(report["deaths"].as_array().unwrap().len(), 3, "{report}");
}

#[test]
fn not_supervised_is_a_gateway_without_a_supervisor() {
    let mut home = Home::with_script(SLEEPER, &[]);
    home.profile("coder");
    assert!(shown(&home).starts_with("not supervised "), "{}", shown(&home));
    home.want_running("coder");
    home.up();
    home.down();
    let report = home.report("coder");
    assert_eq!(report["state"], "not-supervised");
    assert_eq!(
        (&report["up"], &report["pid"]),
        (&false.into(), &serde_json::Value::Null),
        "what was is not so any more: {report}"
    );
    home.up();
    home.says("gateway unregister coder").ok();
    assert!(shown(&home).starts_with("not supervised "), "{}", shown(&home));
}

#[test]
fn paused_is_a_gateway_that_was_paused_through_its_supervisor() {
    let home = wanted(Home::with_script(SLEEPER, &[]));
    home.until_state("coder", "up");
    let slot = home.slot("coder");
    let svc =
        |option| assert!(Command::new("s6-svc").arg(option).arg(slot.path()).status().unwrap().success());
    svc("-p");
    home.until_state("coder", "paused");
    assert!(shown(&home).starts_with("paused "), "{}", shown(&home));
    svc("-c");
    home.until_state("coder", "up");
}

#[test]
fn a_slot_that_others_may_write_is_refused_with_the_reason() {
    let mut home = Home::with_script(SLEEPER, &[]);
    home.profile("coder");
    home.up();
    let open = home.scandir().join(".open");
    std::fs::create_dir(&open).unwrap();
    executable(&open.join("run"), "#!/bin/sh\nexec sleep 1000\n");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::rename(open, home.scandir().join("gateway-open")).unwrap();
    home.rescan();
    home.running().until_warns("gateway-open");
    // It is published after that.
    let refused = home.scandir().join(".s6-svscan/refused/gateway-open");
    waiting::polled("the refusal", || refused.exists().then_some(()));
    let report = home.report("open");
    assert_eq!(report["up"], false, "{report}");
    let problem = report["problem"].as_str().unwrap();
    assert!(problem.starts_with("others than its owner may write to it (mode 0777)"), "{problem}");
    // A start prints the same, and does not wait for something that will not come.
    home.profile("open");
    let said = home.says("gateway start open").refused(111);
    assert!(said.contains("refuses the slot of `open`: others than its owner may write"), "{said}");
}
