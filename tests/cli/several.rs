//! Commands for several gateways: which gateways are meant, and what is printed after Ctrl-C.

use std::process::Stdio;

use rustix::process::Signal;

use crate::home::Home;
use crate::support::WAIT_LIMIT;
use crate::terminal::{terminal, until_seen};

#[test]
fn a_command_takes_several_names_patterns_and_those_that_failed() {
    let script = "test \"$1\" != broken || exit 78; exec sleep 1000";
    let mut home = Home::with_script(script, &[]);
    for name in ["coder", "test-a", "test-b", "broken"] {
        home.profile(name);
    }
    home.up_quietly();
    let said = home.says("gateway start test-b coder test-b --no-wait").ok();
    assert_eq!(said, "test-b: starting\ncoder: starting\n");
    assert_eq!(home.report("coder")["desired_by"]["command"], "gateway start test-b coder test-b");
    home.until("coder", gatevisor_client::Condition::Up);
    home.until("test-b", gatevisor_client::Condition::Up);
    let said = home.says("gateway restart test-*").ok();
    let began: Vec<&str> = said.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(began, ["test-a:", "test-b:"], "{said}");
    let said = home.says("gateway stop c?der nothing*").refused(1);
    assert!(said.contains("no profile is called like `nothing*`"), "{said}");
    assert_eq!(home.report("coder")["wantedup"], true, "nothing is done where a part makes no sense");
    let said = home.says("gateway start --failed").refused(1);
    assert!(said.contains("no gateway has failed"), "{said}");
    // It has failed when the command that started it says so.
    assert_eq!(home.says("gateway start broken").code, Some(1));
    let said = home.says("gateway status --failed").ok();
    assert!(said.starts_with("broken\n") && !said.contains("coder"), "{said}");
    assert_eq!(home.says("gateway stop --failed --all").code, Some(100));
}

#[test]
fn ctrl_c_while_gateways_are_waited_for_says_which_have_come_and_which_have_not() {
    let probed = "ready = { http = \"http://127.0.0.1:${PORT:-8700}/health\", interval-ms = 50, timeout-ms = 6000000 }\nstop-timeout-ms";
    let script = "test \"$1\" != coder || exec python3 -u \"$HTTP_AGENT_PROGRAM\" \"$@\"; exec sleep 1000";
    let mut home = Home::with_script(script, &[("stop-timeout-ms", probed)]);
    home.profile("coder");
    home.profile("writer");
    home.up_quietly();
    for (line, verb) in [
        ("gateway start coder writer --ready --timeout 6000", "start"),
        ("--json gateway restart --all --ready --timeout 6000", "restart"),
    ] {
        let before = home.report("coder")["pid"].clone();
        let waiting = home.start_uncounted(line.split(' '));
        home.until_report("coder", "ready", |report| report["state"] == "ready" && report["pid"] != before);
        home.until_report("writer", "begun", |report| report["state"] == "starting");
        waiting.signal(Signal::INT);
        let ran = waiting.ended(WAIT_LIMIT);
        assert_eq!(ran.code, Some(130), "{verb}: {ran:?}");
        assert!(ran.err.contains("interrupted; the request stands"), "{verb}: {ran:?}");
        assert!(ran.err.contains("coder: ready\n"), "{verb}: {ran:?}");
        assert!(ran.err.contains("writer: ") && !ran.err.contains("writer: ready"), "{verb}: {ran:?}");
        assert_eq!(ran.out.contains("interrupted; "), verb == "restart", "{ran:?}");
        assert_eq!(home.report("writer")["wantedup"], true);
    }
}

#[test]
fn ctrl_c_while_a_gateway_does_not_stop_says_that_it_is_stopping() {
    let mut home = Home::with_script(
        "trap '' TERM; echo deaf; while :; do sleep 1; done",
        &[("stop-timeout-ms = 5000", "stop-timeout-ms = 600000")],
    );
    home.profile("coder");
    home.up_quietly();
    home.says("gateway start coder").ok();
    home.until_logged("coder", "deaf");
    let waiting = home.start_uncounted("gateway stop coder --timeout 6000".split(' '));
    home.until_report("coder", "told", |report| report["wantedup"] == false);
    waiting.signal(Signal::INT);
    let ran = waiting.ended(WAIT_LIMIT);
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(ran.err.contains("coder: stopping\n"), "{ran:?}");
    home.kill_everything();
}

#[test]
fn a_person_who_waits_for_a_gateway_is_told_for_whom() {
    let probed =
        "ready = { http = \"http://127.0.0.1:${PORT:-8700}/health\", timeout-ms = 6000000 }\nstop-timeout-ms";
    let mut home = Home::with_script("exec sleep 1000", &[("stop-timeout-ms", probed)]);
    home.profile("coder");
    home.up_quietly();
    let (terminal, side) = terminal();
    let mut command = home.command("start coder --ready --timeout 6000".split(' '));
    let mut child = command.stdout(Stdio::null()).stderr(side).spawn().unwrap();
    until_seen(&terminal, "waiting for coder (starting)");
    child.kill().unwrap();
    child.wait().unwrap();
}
