//! A service whose exit code does not say what it wants is asked before that is decided.
//!
//! The command that answers is a script that waits at a gate, so a test decides when it answers.

use std::fs;

use gatevisor_wire::policy::RestartPhase;
use rustix::process::Signal;

use crate::support::processes::{self, Held};
use crate::support::service::Service;
use crate::support::{World, waiting};

/// Records its arguments, waits for a word from the test, and answers with that word.
const ANSWERS: &str = "echo \"$1\" >>asked; echo $$ >asking; read word <answer; \
     printf '{\"status\":\"%s\"}\\n' \"$word\"";

/// Ends when the test says so, with the code that it gives.
const WAITS: &str = "echo $$ >began; read code <end; exit $code";

/// Places a service which is asked after exit code 0, with this command and these lines of
/// `[handoff]`.
fn asked(world: &World, name: &str, command: &str, more: &str) -> Service {
    // `run` expands `$`.
    let (waits, command) = (WAITS.replace('$', "$$"), command.replace('$', "$$"));
    let run = format!(
        "#!{} service\ncommand = [\"/bin/sh\", \"-c\", '''{waits}''']\n[handoff]\n\
         command = [\"/bin/sh\", \"-c\", '''{command}''', \"ask\", \"${{GATEVISOR_HANDOFF_PID}}\"]\n{more}",
        env!("CARGO_BIN_EXE_gatevisor"),
    );
    let builder = world.service(name).gate("answer").gate("end").executable("run", &run);
    builder.data("backoff-first", 10).file("data/restart-codes", "75 0?\n").place()
}

/// Waits until the service runs, and returns its process.
fn running(service: &Service) -> i32 {
    let text = service.until_file("began", "a line", |text| text.ends_with('\n'));
    fs::remove_file(service.path("began")).unwrap();
    text.trim().parse().unwrap()
}

/// Waits until the command asks, and returns its process.
fn asking(service: &Service) -> Held {
    let text = service.until_file("asking", "a line", |text| text.ends_with('\n'));
    fs::remove_file(service.path("asking")).unwrap();
    Held::of(text.trim().parse().unwrap()).unwrap()
}

fn until_asking(service: &Service) -> String {
    let policy = service.until_policy("a question", |policy| policy.phase == RestartPhase::Asking);
    policy.reason.unwrap()
}

#[test]
fn a_handoff_that_is_accepted_is_a_restart_and_the_question_names_the_process_that_ended() {
    let world = World::started();
    let mut service = asked(&world, "web", ANSWERS, "");
    service.receive("su");
    let first = running(&service);
    service.pass("end", "0");
    service.receive("d");
    asking(&service);
    assert_eq!(until_asking(&service), "exit code 0: it is asked whether it wants to be started");
    let status = service.status();
    assert!(status.finishing && status.want_up, "{status:?}");
    service.pass("answer", "accepted");
    service.receive("Du");
    assert_ne!(running(&service), first);
    assert_eq!(fs::read_to_string(service.path("asked")).unwrap(), format!("{first}\n"));
    let policy = service.policy();
    assert_eq!((policy.commanded, policy.restarts), (1, 0), "{policy:?}");
    world.until_said(&format!(
        "web: asked after exit code 0 of process {first}: it wants to be started again"
    ));
    service.send("d");
    service.receive("dD");
}

#[test]
fn a_service_without_a_handoff_has_ended_on_purpose_and_is_started_when_somebody_asks() {
    let world = World::started();
    let mut service = asked(&world, "web", ANSWERS, "");
    service.receive("su");
    running(&service);
    service.pass("end", "0");
    service.receive("d");
    asking(&service);
    service.pass("answer", "none");
    service.receive("D");
    let (status, policy) = (service.status(), service.policy());
    assert!(!status.want_up && status.pid.is_none(), "{status:?}");
    assert_eq!(policy.reason.as_deref(), Some("it ended on purpose: it left no handoff that counts"));
    service.send("u");
    service.receive("u");
    running(&service);
    service.send("d");
    service.receive("dD");
}

/// Accepts a handoff that names the process, and answers as `OpenClaw` does.
const CONSUMES: &str = "read left <handoff; case $left in \
     $1) rm handoff; echo '{\"status\":\"accepted\"}';; \
     *) echo '{\"status\":\"rejected\",\"reason\":\"pid-mismatch\",\"handoffPid\":'$left'}';; esac";

#[test]
fn a_handoff_of_another_process_restarts_nothing_and_is_named() {
    let world = World::started();
    let mut service = asked(&world, "web", CONSUMES, "");
    service.receive("su");
    let first = running(&service);
    let other = std::process::id();
    fs::write(service.path("handoff"), format!("{other}\n")).unwrap();
    service.pass("end", "0");
    service.receive("dD");
    let (status, policy) = (service.status(), service.policy());
    assert!(!status.want_up && status.pid.is_none(), "{status:?}");
    assert_eq!(policy.reason.as_deref(), Some("it ended on purpose: it left no handoff that counts"));
    world.until_said(&format!("web: asked after exit code 0 of process {first}: it ended on purpose"));
    for part in ["\"reason\":\"pid-mismatch\"", &format!("\"handoffPid\":{other}")] {
        world.until_said(part);
    }
    // Its next process leaves one of its own.
    service.send("u");
    service.receive("u");
    let second = running(&service);
    fs::write(service.path("handoff"), format!("{second}\n")).unwrap();
    service.pass("end", "0");
    service.receive("dDu");
    running(&service);
    service.send("d");
    service.receive("dD");
}

#[test]
fn another_exit_code_and_a_stop_are_not_asked_about() {
    let world = World::started();
    let mut service = asked(&world, "web", ANSWERS, "");
    service.receive("su");
    running(&service);
    for code in ["1", "75"] {
        service.pass("end", code);
        service.receive("dDu");
        running(&service);
    }
    service.send("d");
    service.receive("dD");
    assert!(!service.path("asked").exists());
}

#[test]
fn a_command_that_takes_too_long_is_killed_with_all_that_it_started_and_asked_again() {
    let world = World::started();
    let hangs = "sleep 3600 & echo $! >child; test -e twice || { echo >twice; \
         echo '{\"status\":\"none\"}'; wait; }; kill $!; wait; \
         echo '{\"status\":\"accepted\"}'";
    let mut service = asked(&world, "web", hangs, "timeout-ms = 5000\n");
    service.receive("su");
    running(&service);
    service.pass("end", "0");
    service.receive("d");
    let child = service.until_file("child", "a line", |text| text.ends_with('\n'));
    let child = Held::of(child.trim().parse().unwrap());
    service.receive("D");
    let said = "exit code 0: it is asked again whether it wants to be started: \
         the handoff command did not end in time";
    world.until_said("the handoff command did not end in time (it was killed after 5000 ms)");
    if let Some(child) = child {
        child.until_gone("what the command had started");
    }
    // The second question may have been answered by now.
    let policy = service.policy();
    assert!(policy.phase != RestartPhase::Asking || policy.reason.as_deref() == Some(said), "{policy:?}");
    service.receive_until('u');
    running(&service);
    service.send("d");
    service.receive("dD");
}

#[test]
fn an_answer_that_was_printed_before_the_time_was_over_counts() {
    let world = World::started();
    let prints = "echo '{\"status\":\"accepted\"}'; exec sleep 3600";
    let mut service = asked(&world, "web", prints, "timeout-ms = 5000\n");
    service.receive("su");
    running(&service);
    service.pass("end", "0");
    service.receive_until('u');
    running(&service);
    world.until_said("it wants to be started again (`/status` is `accepted`; it was killed after 5000 ms)");
    service.send("d");
    service.receive("dD");
}

#[test]
fn an_invalid_answer_is_named_and_decides_nothing() {
    let world = World::started();
    let command = "echo >>times; cat answers";
    let mut service = asked(&world, "web", command, "");
    service.receive("su");
    for (answer, why) in [
        (
            "accepted",
            "gave no answer that can be understood (no JSON object with `/status`; it ended with exit code 0)",
        ),
        ("{\"status\": 1}", "gave no answer that can be understood"),
    ] {
        running(&service);
        fs::write(service.path("answers"), answer).unwrap();
        service.pass("end", "0");
        service.receive("d");
        service.until_lines("times", 3);
        world.until_said(why);
        let policy = service.until_policy("a reason", |policy| policy.phase == RestartPhase::Asking);
        assert!(policy.reason.unwrap().contains("whether it wants to be started"));
        let better = service.path("better");
        fs::write(&better, "{\"status\": \"accepted\"}").unwrap();
        fs::rename(&better, service.path("answers")).unwrap();
        service.receive_until('u');
        fs::remove_file(service.path("times")).unwrap();
    }
    running(&service);
    service.send("d");
    service.receive("dD");
}

#[test]
fn a_command_that_does_not_exist_is_named() {
    let world = World::started();
    let mut service = asked(&world, "web", ANSWERS, "");
    let text = fs::read_to_string(service.path("run")).unwrap();
    let (before, after) = text.split_once("[handoff]\ncommand = [\"/bin/sh\"").unwrap();
    let run = format!("{before}[handoff]\ncommand = [\"/no/such/program\"{after}");
    crate::support::executable(&service.path("run"), &run);
    service.receive("su");
    running(&service);
    service.pass("end", "0");
    world.until_said("`/no/such/program`: ");
    service.receive("dD");
    assert!(until_asking(&service).ends_with("the handoff command cannot be executed"));
    service.send("d");
    service.until_status("a stop", |status| !status.want_up && status.pid.is_none());
}

#[test]
fn a_request_decides_and_the_command_is_ended() {
    let world = World::started();
    let mut service = asked(&world, "web", ANSWERS, "");
    service.receive("su");
    running(&service);
    service.pass("end", "0");
    service.receive("d");
    let command = asking(&service);
    service.send("d");
    service.receive("D");
    command.until_gone("the command");
    assert!(!service.status().want_up);
    service.send("u");
    service.receive("u");
    running(&service);
    service.pass("end", "0");
    service.receive("d");
    let command = asking(&service);
    service.send("u");
    service.receive("Du");
    command.until_gone("the command");
    running(&service);
    service.send("d");
    service.receive("dD");
}

#[test]
fn a_supervisor_that_ends_does_not_wait_for_the_answer() {
    let mut world = World::started();
    let mut service = asked(&world, "web", ANSWERS, "");
    service.receive("su");
    running(&service);
    service.pass("end", "0");
    service.receive("d");
    let command = asking(&service);
    assert_eq!(world.stop().code(), Some(0));
    command.until_gone("the command");
    service.receive("Dx");
}

#[test]
fn a_supervisor_that_is_killed_while_it_is_asked_leaves_no_question_and_the_service_is_started_once() {
    let mut world = World::started();
    let mut service = asked(&world, "web", ANSWERS, "");
    service.receive("su");
    running(&service);
    service.pass("end", "0");
    service.receive("d");
    let command = asking(&service);
    let asker = Held::of(service.pid()).unwrap();
    world.kill();
    world.start();
    service.receive_until('u');
    asker.until_gone("what asked");
    command.until_gone("the command");
    running(&service);
    service.send("d");
    service.receive("dD");
}

#[test]
fn a_frozen_asking_process_does_not_keep_a_stop_waiting() {
    let world = World::started();
    let mut service = asked(&world, "web", ANSWERS, "");
    service.receive("su");
    running(&service);
    service.pass("end", "0");
    service.receive("d");
    let command = asking(&service);
    let asker = service.pid();
    processes::signal(asker, Signal::STOP);
    waiting::polled("a process that is stopped", || {
        processes::stat(asker).is_some_and(|stat| stat.state == 'T').then_some(())
    });
    service.send("d");
    service.receive("D");
    command.until_gone("the command");
}
