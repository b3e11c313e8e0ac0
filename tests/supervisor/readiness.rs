//! Services that report their readiness themselves.

use std::fs;

use rustix::process::Signal;

use crate::support::service::STAY;
use crate::support::{World, processes, waiting};

#[test]
fn a_service_is_ready_when_it_writes_a_newline_to_its_descriptor_whatever_number_that_has() {
    let world = World::started();
    // bash accepts descriptor numbers of more than one digit.
    let run = "#!/bin/bash\nread fd < notification-fd\nread line < go\necho ready >&$fd\nexec sleep 3600\n";
    let mut service =
        world.service("web").executable("run", run).file("notification-fd", "3\n").gate("go").place();
    service.receive("su");
    for fd in (4..40).chain([100, 255]) {
        assert!(!service.status().ready, "{fd}");
        service.pass("go", "go");
        service.receive("U");
        let status = service.status();
        assert!(status.ready && status.is_up() && status.ready_at >= status.changed, "{fd}: {status:?}");
        fs::write(service.path("notification-fd"), format!("{fd}\n")).unwrap();
        service.send("k");
        service.receive("dDu");
    }
}

#[test]
fn only_the_newline_counts() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run("printf 'not yet' >&3; : > begun; read line < go; printf ' but now\\n and more' >&3; exec sleep 3600")
        .file("notification-fd", "3\n")
        .gate("go")
        .place();
    service.receive("su");
    service.until_file("begun", "the first write", |_| true);
    assert!(!service.send_and_see("c").ready);
    assert_eq!(service.further_events(), "");
    service.pass("go", "go");
    service.receive("U");
    assert!(service.send_and_see("c").ready);
    assert_eq!(service.further_events(), "");
}

#[test]
fn a_service_that_never_says_so_is_never_ready() {
    let world = World::started();
    let mut service = world.service("web").stays().file("notification-fd", "3\n").place();
    service.receive("su");
    assert!(!service.send_and_see("c").ready);
    service.send("k");
    service.receive("dDu");
}

#[test]
fn a_service_that_closes_its_descriptor_without_a_word_is_never_ready_and_costs_nothing() {
    let world = World::started();
    let mut other = world.service("other").stays().place();
    other.receive("su");
    other.send_and_see("c");
    let pipes = || {
        let descriptors = processes::descriptors(world.pid());
        descriptors.into_iter().filter(|line| line.contains("pipe:")).collect::<Vec<_>>()
    };
    let before = pipes();
    let mut service = world
        .service("web")
        .run("exec 3>&-; : > closed; exec sleep 3600")
        .file("notification-fd", "3\n")
        .place();
    service.receive("su");
    service.until_file("closed", "the end of the descriptor", |_| true);
    assert!(!service.send_and_see("c").ready);
    // The supervisor has closed the pipe too, and does not look at it again and again.
    other.send_and_see("c");
    waiting::polled("the pipe to be closed", || (pipes() == before).then_some(()));
}

#[test]
fn a_service_without_notification_fd_is_never_ready() {
    let world = World::started();
    let mut service = world.service("web").run(&format!("echo ready >&3\n{STAY}")).place();
    // The shell complains that there is no such descriptor, and goes on.
    service.receive("su");
    assert!(!service.send_and_see("c").ready);
    assert_eq!(service.further_events(), "");
}

#[test]
fn readiness_counts_only_for_the_process_that_reported_it() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run("read line < go; echo >&3; exec sleep 3600")
        .file("notification-fd", "3\n")
        .gate("go")
        .place();
    service.receive("su");
    for _ in 0..10 {
        service.pass("go", "go");
        service.receive("U");
        service.send("k");
        service.receive("dDu");
        assert!(!service.status().ready);
    }
    service.pass("go", "go");
    service.receive("U");
}

#[test]
fn the_events_of_a_service_that_is_ready_and_dies_at_once_arrive_in_order() {
    let world = World::started();
    let mut service =
        world.service("web").run("echo >&3; exit 75").finish("exit 0").file("notification-fd", "3\n").place();
    service.receive("s");
    for _ in 0..5 {
        service.receive("uU");
        service.receive("dD");
    }
    service.send("d");
}

/// Waits until a process is dead, although its parent has not reaped it yet.
fn until_dead(pid: i32) {
    waiting::polled("its death", || processes::stat(pid).filter(|stat| stat.state == 'Z'));
}

#[test]
fn readiness_is_announced_before_the_death_however_late_the_supervisor_sees_both() {
    let world = World::started();
    let mut other = world.service("other").stays().place();
    let mut service = world
        .service("web")
        .run("read line < go; echo >&3; exit 75")
        .file("notification-fd", "3\n")
        .gate("go")
        .place();
    other.receive("su");
    service.receive("su");
    let (pid, other_pid) = (service.pid(), other.pid());
    world.signal(Signal::STOP);
    processes::until_state(world.pid(), "T");
    // A death comes first, so that the supervisor begins with reaping when it goes on.
    processes::signal(other_pid, Signal::KILL);
    until_dead(other_pid);
    service.pass("go", "go");
    until_dead(pid);
    world.signal(Signal::CONT);
    service.receive("UdDu");
}

#[test]
fn the_number_is_read_at_each_start() {
    let world = World::started();
    let mut service =
        world.service("web").run("echo >&5; exec sleep 3600").file("notification-fd", "4\n").place();
    service.receive("su");
    assert!(!service.send_and_see("c").ready);
    fs::write(service.path("notification-fd"), "5\n").unwrap();
    service.send("k");
    service.receive("dDuU");
}

#[test]
fn what_a_service_writes_after_it_is_ready_hurts_nobody() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run("echo >&3; yes >&3 2>/dev/null; echo $? > yes; exec sleep 3600")
        .file("notification-fd", "3\n")
        .place();
    service.receive("suU");
    // The supervisor closes its end of the pipe, so the writer receives a signal and ends.
    service.until_lines("yes", 1);
    assert!(service.send_and_see("c").ready);
    assert_eq!(service.further_events(), "");
}
