//! A supervisor in the background: `up --detach`, and `down`, which ends any supervisor in order.

use std::fs;

use crate::home::Home;
use crate::support::WAIT_LIMIT;
use crate::support::processes::{self, Held};

#[test]
fn up_in_the_background_returns_when_it_supervises_and_down_ends_it_in_order() {
    let script = "(exec sleep 1000) &\ntrap 'echo goodbye; kill $(jobs -p); exit 0' TERM\necho begins\nwait";
    let home = Home::with_script(script, &[]);
    home.plant("coder");
    home.want_running("coder");
    let said = home.says("up --detach").ok();
    let begun = "supervising in the background (pid ";
    assert!(said.contains(begun), "{said}");
    assert!(said.contains("PROFILE") && said.trim_end().ends_with("comes back at the next start."), "{said}");
    assert_eq!(home.report("coder")["state"], "up");
    let (_, pid) = said.split_once(begun).unwrap();
    let pid: i32 = pid.split_once(')').unwrap().0.parse().unwrap();
    let stat = processes::stat(pid).unwrap();
    assert_eq!(stat.session, pid, "it has a session of its own, which no terminal ends");
    let supervisor = Held::of(pid).unwrap();
    home.until_logged("coder", "begins");
    let ran = home.says("down");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.starts_with("the supervisor has ended, and every gateway before it"), "{ran:?}");
    assert!(supervisor.is_gone());
    home.until_logged("coder", "goodbye");
    assert_eq!(home.state("coder")["desired_state"], "running", "the desired state is kept");
    assert_eq!(home.says("down").ok(), "no supervisor was running\n");
    // The messages of a supervisor that nobody looks at are kept.
    let log = fs::read_to_string(home.path().join("logs/supervisor.log")).unwrap();
    assert!(!log.contains("goodbye"), "lines of gateways are in their logs only: {log}");
}

#[test]
fn up_in_the_background_returns_when_each_gateway_is_supervised_also_if_it_prints_nothing() {
    let home = Home::with_script("exec sleep 1000", &[]);
    // The supervisor takes some at a time.
    let names: Vec<String> = (0..60).map(|number| format!("g{number}")).collect();
    for name in &names {
        home.plant(name);
    }
    home.says("up --detach --quiet").ok();
    let left: Vec<&String> =
        names.iter().filter(|name| home.slot(name).supervised().ok() != Some(true)).collect();
    assert_eq!(left, Vec::<&String>::new());
    home.says("down --json").ok();
}

#[test]
fn up_in_the_background_that_cannot_supervise_fails_with_the_reason() {
    let home = Home::with_script("exec sleep 1000", &[]);
    fs::create_dir_all(home.path().join("logs/supervisor.log")).unwrap();
    let ran = home.says("up --detach --quiet");
    assert_eq!(ran.code, Some(111), "{ran:?}");
    assert!(ran.err.contains("cannot open `"), "{ran:?}");
}

#[test]
fn down_ends_a_supervisor_in_the_foreground_and_its_exit_code_is_0() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.plant("coder");
    home.want_running("coder");
    home.up_quietly();
    let ran = home.says("--json down");
    let object: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &object["supervisor"]), (Some(0), &home.running().pid().into()), "{ran:?}");
    assert_eq!(home.ended().code, Some(0));
}

#[test]
fn ctrl_c_while_down_waits_says_who_is_still_there_and_the_supervisor_goes_on() {
    let mut home = Home::with_script("trap '' TERM; echo deaf; while :; do sleep 1; done", &[]);
    home.plant("coder");
    home.want_running("coder");
    home.up_with(["up", "--quiet", "--grace", "6000"]);
    home.until_supervised("coder");
    home.until_logged("coder", "deaf");
    let waiting = home.start_uncounted(["down"]);
    home.until_report("coder", "told", |report| report["wantedup"] == false);
    waiting.signal(rustix::process::Signal::INT);
    let ran = waiting.ended(WAIT_LIMIT);
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(ran.err.contains("interrupted; the supervisor goes on stopping: coder (stopping)"), "{ran:?}");
    let ran = home.says("down --timeout 0");
    assert_eq!(ran.code, Some(99), "{ran:?}");
    home.kill_everything();
}
