//! Commands that cannot be executed: they are reported with stage and errno, tried again, and work
//! once the file is corrected.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use insta::assert_snapshot;
use serde_json::Value;

use crate::home::Home;
use crate::support::{executable, waiting};

/// Short pauses, so that the next attempt comes soon.
const EAGER: (&str, &str) = (
    "[gateway.exit-meanings]",
    "[gateway.restart]\nbackoff-first-ms = 50\nbackoff-max-ms = 100\n\n[gateway.exit-meanings]",
);

/// Pauses so long that there is only one attempt.
const PATIENT: (&str, &str) =
    (EAGER.0, "[gateway.restart]\nbackoff-first-ms = 60000\n\n[gateway.exit-meanings]");

/// Returns a home whose gateways are this program.
fn with_command(command: &str, changes: &[(&str, &str)]) -> Home {
    let program = format!("[\"{command}\"]");
    let python = |who: &str| {
        format!(
            "[\"python3\", \"-u\", \"${{HTTP_AGENT_PROGRAM:-/usr/local/bin/http-agent.py}}\", \"{who}\", \"{{profile-home}}\"]"
        )
    };
    let (default, named) = (python("default"), python("{profile}"));
    let mut all = vec![(&*default, &*program), (&*named, &*program)];
    all.extend_from_slice(changes);
    Home::with_agent(&all)
}

fn reason(report: &Value) -> &str {
    report["reason"].as_str().unwrap_or_default()
}

/// Waits until the long pause has begun.
fn until_resting(home: &Home) -> Value {
    home.until_report("coder", "a long pause", |report| {
        report["state"] == "failed-to-start"
            && report["next_start_in_ms"].as_u64().is_some_and(|left| left > 30_000)
    })
}

#[test]
fn a_missing_command_fails_to_start_and_the_start_says_at_which_stage_and_why() {
    let mut home = with_command("/nonexistent/agent", &[PATIENT]);
    home.profile("coder");
    home.up();
    let said = home.says("gateway start coder --ready").refused(1);
    assert_snapshot!(said, @"gatevisor: error: the gateway of `coder` failed to start: executing: `/nonexistent/agent`: No such file or directory; is the path right, and the interpreter in its first line there? (errno 2); it is tried again with growing pauses");
    let report = until_resting(&home);
    assert_snapshot!(reason(&report), @"executing: `/nonexistent/agent`: No such file or directory; is the path right, and the interpreter in its first line there? (errno 2)");
    let table = home.says("status").ok();
    let row = table.lines().find(|line| line.starts_with("coder ")).unwrap();
    assert!(row.contains("failed to start"), "{row}");
    assert!(row.contains("executing"), "{row}");
    let details = home.says("gateway status coder").ok();
    assert!(details.contains("failed to start") && details.contains("errno 2"), "{details}");
    let log = home.until_logged("coder", "(errno 2)");
    assert!(log.contains("executing"), "{log}");
}

#[test]
fn a_command_that_may_not_be_executed_says_errno_13() {
    let mut home = with_command("${AGENT}", &[]);
    let agent = home.beside("agent");
    fs::write(&agent, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    home.set("AGENT", &agent);
    home.profile("coder");
    home.up();
    let said = home.redact(&home.says("gateway start coder --ready").refused(1));
    assert_snapshot!(said, @"gatevisor: error: the gateway of `coder` failed to start: executing: `TMP/agent`: Permission denied; is it executable by this user? (errno 13); it is tried again with growing pauses");
}

#[test]
fn a_working_directory_that_is_missing_says_that_changing_to_it_failed() {
    let mut home = Home::with_agent(&[("directory = \"{profile-home}\"", "directory = \"/proc/nowhere\"")]);
    home.profile("coder");
    home.up();
    assert_snapshot!(home.says("gateway start coder --ready").refused(1), @"gatevisor: error: the gateway of `coder` failed to start: changing directory: `/proc/nowhere`: No such file or directory (errno 2); it is tried again with growing pauses");
}

#[test]
fn a_variable_that_is_not_set_is_named() {
    let mut home = with_command("${NO_SUCH_VARIABLE}", &[]);
    home.profile("coder");
    home.up();
    assert_snapshot!(home.says("gateway start coder --ready").refused(1), @"gatevisor: error: the gateway of `coder` failed to start: expanding command: the variable NO_SUCH_VARIABLE is not set; set it, or write ${NO_SUCH_VARIABLE:-default}; it is tried again with growing pauses");
}

#[test]
fn a_failed_start_is_tried_again_with_pauses_and_works_once_the_file_is_fixed() {
    let mut home = with_command("${AGENT}", &[EAGER, ("ready = {", "#ready = {")]);
    let agent = home.beside("agent");
    home.set("AGENT", &agent);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    let early = home.until_state("coder", "failed-to-start");
    let tried = |report: &Value| report["restarts"].as_u64().unwrap();
    let later = home.until_report("coder", "more attempts", |report| tried(report) >= tried(&early) + 3);
    assert!(later["deaths"].as_array().unwrap().len() >= 3, "{later}");

    executable(&agent, "#!/bin/sh\nexec sleep 1000\n");
    // While the interpreter looks for the command, the service counts as up. The test waits for the
    // fixed command.
    waiting::polled("the fixed command", || {
        let pid = home.slot("coder").status().ok()?.pid?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (name == "sleep\n").then_some(())
    });
    let fixed = home.report("coder");
    assert_eq!(fixed["state"], "up", "{fixed}");
    assert_eq!(reason(&fixed), "", "an old reason is not today's: {fixed}");
    assert!(!home.slot("coder").path().join("data/start-error").exists());
}

#[test]
fn the_time_to_the_next_attempt_is_shown() {
    let mut home = with_command("/nonexistent/agent", &[PATIENT]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    let report = until_resting(&home);
    assert_eq!(report["up"], false);
    let table = home.says("status").ok();
    assert!(table.contains("failed to start, again in "), "{table}");
    // A start by hand does not wait for the pause.
    let ran = home.says("gateway start coder --ready");
    assert_eq!(ran.code, Some(1), "{ran:?}");
}

#[test]
fn a_program_whose_interpreter_is_missing_is_named() {
    let mut home = with_command("${AGENT}", &[]);
    let agent = home.beside("agent");
    executable(&agent, "#!/nonexistent/interpreter\n");
    assert_eq!(fs::metadata(&agent).unwrap().permissions().mode() & 0o777, 0o755);
    home.set("AGENT", &agent);
    home.profile("coder");
    home.up();
    let said = home.redact(&home.says("gateway start coder --ready").refused(1));
    let words = "failed to start: executing: `TMP/agent`: No such file or directory; AGENT names another";
    assert!(said.contains(words) && said.contains("is the path right, and the interpreter"), "{said}");
}

#[test]
fn a_start_that_waits_for_up_only_notices_that_the_command_is_missing() {
    let mut home = with_command("/nonexistent/agent", &[PATIENT]);
    home.profile("coder");
    home.up();
    for verb in ["start", "restart", "start"] {
        let said = home.says(&format!("gateway {verb} coder")).refused(1);
        assert!(said.contains("failed to start: executing: `/nonexistent/agent`"), "{verb}: {said}");
    }
    home.until_state("coder", "failed-to-start");
}

#[test]
fn a_probe_whose_address_cannot_be_meant_is_named() {
    let mut home = Home::with_agent(&[PATIENT]);
    home.profile("coder");
    fs::write(home.profile_dir("coder").join(".env"), "PORT=none\n").unwrap();
    home.up();
    assert_snapshot!(home.says("gateway start coder --ready").refused(1), @"gatevisor: error: the gateway of `coder` failed to start: expanding ready.http: `http://127.0.0.1:none/health` has no valid port; it is tried again with growing pauses");
}

#[test]
fn a_restriction_that_cannot_be_had_is_strictly_a_reason_not_to_start_that_status_shows() {
    // More than any kernel allows.
    let confine = "[gateway.confine]\nstrict = true\nlimits = { nofile = \"64:4000000000\" }\n\n[gateway.exit-meanings]";
    let rest = "[gateway.confine]\nlimits = { nofile = \"64:4000000000\" }\n\n[gateway.exit-meanings]";
    let mut home = Home::with_agent(&[(PATIENT.0, PATIENT.1), (PATIENT.0, confine)]);
    home.profile("coder");
    home.up();
    let said = home.says("gateway start coder --ready").refused(1);
    let why =
        "confining: `limits.nofile = 64:4000000000`: Operation not permitted; this user cannot go above ";
    assert!(said.contains(why), "{said}");
    assert!(reason(&until_resting(&home)).starts_with(why));
    let shown = home.says("gateway status coder").ok();
    assert!(shown.contains(why), "{shown}");

    let mut home = Home::with_agent(&[(PATIENT.0, rest)]);
    let _port = home.profile("coder");
    home.up();
    home.says("gateway start coder --ready").ok();
    home.until_logged("coder", "warning: it runs without `limits.nofile = 64:4000000000`: ");
}
