//! A supervisor that was killed leaves its services running. The next one ends them first, and
//! starts none beside them.

use std::fs;
use std::process::Command;

use gatevisor_wire::policy::RestartPhase;
use rustix::process::Signal;

use crate::support::processes::{self, Held};
use crate::support::{World, output, soon, waiting};

/// Holds a lock for its life; a second one beside it is noted in `twice`.
const ALONE: &str = "exec 9>>alone\nflock -n 9 || { echo $$ >>twice; exit 1; }\nexec sleep 3600";

/// Ends when it is told to and a file allows it. What it has started could hide it.
const TAKES_TIME: &str =
    "trap 'read word <go; exit 0' TERM\nsleep 3600 &\necho begun >begun\nwhile :; do wait; done";

#[test]
fn an_orphan_is_ended_before_another_one_is_started_and_a_message_says_so() {
    let mut world = World::started();
    let mut service = world.service("web").run(ALONE).place();
    service.receive("su");
    let orphan = service.pid();
    waiting::polled("its program", || processes::describe(orphan).contains("sleep 3600").then_some(()));
    let held = Held::of(orphan).unwrap();
    world.kill();
    assert!(!held.is_gone(), "a service does not end with its supervisor");
    world.start();
    service.receive("sDu");
    assert!(held.is_gone());
    assert_ne!(service.pid(), orphan);
    assert!(!service.path("twice").exists(), "two ran at one time");
    world.until_said(&format!("web: ended process {orphan} (sleep 3600), left by an earlier supervisor"));
}

#[test]
fn an_orphan_has_the_time_that_its_slot_names_and_the_policy_says_what_is_waited_for() {
    let mut world = World::started();
    let mut service = world
        .service("web")
        .gate("go")
        .file("timeout-kill", "600000\n")
        .file("data/kill-survivors", "")
        .run(TAKES_TIME)
        .place();
    service.receive("su");
    service.until_file("begun", "the trap", |text| text == "begun\n");
    let orphan = service.pid();
    world.kill();
    world.start();
    service.receive("s");
    let policy = service.until_policy("a reason", |policy| policy.phase == RestartPhase::Clearing);
    let reason = policy.reason.unwrap();
    assert!(reason.contains(&format!("if it left process {orphan} of it running")), "{reason}");
    assert!(!service.status().is_up());
    service.pass("go", "on");
    service.receive("Du");
    assert_eq!(service.policy().phase, RestartPhase::Running);
    service.send("d");
    service.pass("go", "on");
    service.receive("dD");
}

#[test]
fn an_orphan_of_a_service_that_is_down_now_is_ended_as_well() {
    let mut world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    let held = Held::of(service.pid()).unwrap();
    world.kill();
    fs::write(service.path("down"), "").unwrap();
    world.start();
    service.receive("sD");
    assert!(held.is_gone());
    assert!(!service.status().is_up());
    service.send("u");
    service.receive("u");
}

#[test]
fn an_orphan_that_has_cleared_its_environment_is_known_by_its_number_and_its_beginning() {
    let mut world = World::started();
    let mut service = world.service("web").run("exec env -i /bin/sleep 3600").place();
    service.receive("su");
    let orphan = service.pid();
    let held = Held::of(orphan).unwrap();
    let environment = format!("/proc/{orphan}/environ");
    waiting::polled("an empty environment", || fs::read(&environment).unwrap().is_empty().then_some(()));
    world.kill();
    world.start();
    service.receive("sDu");
    assert!(held.is_gone());
    assert_ne!(service.pid(), orphan);
}

#[test]
fn a_process_that_has_the_number_of_an_orphan_and_is_none_is_left_alone() {
    let mut world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    let orphan = Held::of(service.pid()).unwrap();
    world.kill();
    orphan.kill();
    // Now a process of another service has the number.
    let other = World::started();
    let mut innocent = other.service("web").stays().place();
    innocent.receive("su");
    let mut status = fs::read(service.path("supervise/status")).unwrap();
    status[24..32].copy_from_slice(&u64::try_from(innocent.pid()).unwrap().to_be_bytes());
    fs::write(service.path("supervise/status"), status).unwrap();
    world.start();
    service.receive("sDu");
    assert!(innocent.status().is_up());
    assert_eq!(innocent.further_events(), "");
}

#[test]
fn after_an_end_in_order_nothing_is_looked_for() {
    let mut world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    world.stop();
    service.receive_until('x');
    world.start();
    service.receive("su");
}

#[test]
fn an_orphan_that_ignores_what_it_is_told_is_not_left_behind_by_a_stop() {
    let mut world = World::with(&["--grace-ms", "500"]);
    world.start();
    let mut service = world
        .service("web")
        .file("timeout-kill", "600000\n")
        .file("data/kill-survivors", "")
        .run("trap '' TERM\necho begun >begun\nwhile :; do sleep 3600; done")
        .place();
    service.receive("su");
    service.until_file("begun", "the trap", |text| text == "begun\n");
    let held = Held::of(service.pid()).unwrap();
    world.kill();
    world.start();
    service.until_status("what ends it", |status| status.finishing);
    world.signal(Signal::TERM);
    assert!(held.gone_by(soon()), "the orphan survived the stop");
    world.ended();
}

#[test]
fn a_logger_of_an_earlier_supervisor_reads_to_the_end_before_another_one_begins() {
    let mut world = World::started();
    let mut service = world
        .service("web")
        .run("trap 'echo goodbye; exit 0' TERM\necho begins\nsleep 3600 >/dev/null &\nwait")
        .file("data/kill-survivors", "")
        .log("exec 9>>alone\nflock -n 9 || { echo $$ >>twice; exit 1; }\nexec cat >>lines")
        .place();
    service.receive("su");
    service.logger().receive("su");
    service.until_lines("log/lines", 1);
    world.kill();
    world.start();
    service.receive("sDu");
    service.logger().receive("sDu");
    assert!(!service.path("log/twice").exists(), "two loggers ran at one time");
    assert_eq!(service.until_lines("log/lines", 3), ["begins", "goodbye", "begins"]);
}

#[test]
fn a_start_in_flight_whose_supervisor_was_killed_ends_before_its_exec() {
    let world = World::started();
    let program = env!("CARGO_BIN_EXE_gatevisor");
    let run = format!(
        "#!{program} service\ncommand = [\"/bin/sh\", \"-c\", \"echo ran >>ran; exec sleep 3600\"]\n"
    );
    let mut service = world.service("web").executable("run", &run).place();
    service.receive("su");
    service.until_lines("ran", 1);
    // In the middle of an exec, a process has no environment.
    let mark = waiting::polled("its mark", || {
        let environment = fs::read(format!("/proc/{}/environ", service.pid())).ok()?;
        let mut variables = environment.split(|byte| *byte == 0);
        let mark = variables.find_map(|one| one.strip_prefix(b"GATEVISOR_SERVICE="))?;
        Some(String::from_utf8(mark.to_vec()).unwrap())
    });
    // The process has no parent that waits for it, like a process whose supervisor was killed.
    let mut late = Command::new("./run");
    late.arg("web").current_dir(service.dir.path()).env("GATEVISOR_SERVICE", mark);
    let ended = output(&mut late).unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(111), "{said}");
    let why = format!("the supervisor that started this, process {}, has gone", world.pid());
    assert!(said.contains(&why), "{said}");
    assert_eq!(service.until_lines("ran", 1), ["ran"]);
    // Started by hand, without a supervisor, it runs.
    let mut by_hand = Command::new("./run");
    by_hand.arg("web").current_dir(service.dir.path()).env_remove("GATEVISOR_SERVICE");
    let mut by_hand = by_hand.spawn().unwrap();
    assert_eq!(service.until_lines("ran", 2).len(), 2);
    by_hand.kill().unwrap();
    by_hand.wait().unwrap();
}
