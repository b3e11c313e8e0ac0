//! What a service's process leaves behind when it dies is ended before the next start, if the slot
//! says so.

use std::fs;

use rustix::process::Signal;

use crate::support::World;
use crate::support::processes::{self, Held};

/// Starts five processes, two of them in sessions of their own, and records their numbers.
const FIVE: &str = "for n in 1 2 3; do sleep 3600 & echo $! >>kids; done\n\
    for n in 1 2; do setsid sh -c 'echo $$ >>kids; exec sleep 3600' & done\n\
    while test $(grep -c . kids) -lt 5; do sleep 0.01; done\n\
    mv kids all\nexec sleep 3600";

/// Returns the five processes that the present process has started.
fn five(service: &crate::support::service::Service) -> Vec<Held> {
    let lines = service.until_lines("all", 5);
    fs::remove_file(service.path("all")).unwrap();
    lines.iter().map(|line| Held::of(line.parse().unwrap()).unwrap()).collect()
}

#[test]
fn nothing_that_a_killed_service_left_is_there_when_the_next_one_starts_and_nobody_else_is_touched() {
    let times = std::env::var("GATEVISOR_KILLS").ok().and_then(|times| times.parse().ok()).unwrap_or(20);
    let world = World::started();
    let mut neighbour = world.service("neighbour").run(FIVE).place();
    neighbour.receive("su");
    let bystanders = five(&neighbour);
    let mut service = world.service("web").run(FIVE).file("data/kill-survivors", "").place();
    service.receive("su");
    for _ in 0..times {
        let left = five(&service);
        service.send("u");
        processes::signal(service.pid(), Signal::KILL);
        service.receive("dDu");
        assert!(left.iter().all(Held::is_gone), "something was left");
    }
    assert!(bystanders.iter().all(|held| !held.is_gone()), "an innocent was killed");
    neighbour.send("d");
    neighbour.receive("dD");
    bystanders.iter().for_each(Held::kill);
}

#[test]
fn a_slot_that_says_nothing_keeps_what_its_service_left_as_s6_does() {
    let world = World::started();
    let mut service = world.service("web").run(FIVE).place();
    service.receive("su");
    let left = five(&service);
    service.send("d");
    service.receive("dD");
    assert!(left.iter().all(|held| !held.is_gone()));
    left.iter().for_each(Held::kill);
}

#[test]
fn a_survivor_that_ignores_the_signal_is_killed_after_two_seconds() {
    let world = World::started();
    let deaf = "setsid sh -c 'trap \"\" TERM; echo $$ >deaf; while :; do sleep 3600; done' &\n\
        while ! test -s deaf; do sleep 0.01; done\nexec sleep 3600";
    let mut service = world.service("web").run(deaf).file("data/kill-survivors", "").place();
    service.receive("su");
    let deaf = Held::of(service.until_lines("deaf", 1)[0].parse().unwrap()).unwrap();
    service.send("d");
    service.receive("dD");
    assert!(deaf.is_gone());
}

#[test]
fn a_process_of_the_service_that_asked_for_the_restart_survives_it() {
    let world = World::started();
    let program = env!("CARGO_BIN_EXE_gatevisor");
    // A tool of the service itself: a shell that runs s6-svc and goes on.
    let asks = format!(
        "test -e again && exec sleep 3600\ntouch again\n\
         sh -c '{program} s6 s6-svc -wr -r . && echo done >>answered; exec sleep 3600' &\nexec sleep 3600"
    );
    let mut service = world.service("web").run(&asks).file("data/kill-survivors", "").place();
    service.receive("sudDu");
    assert_eq!(service.until_lines("answered", 1), ["done"]);
    // The tool is spared only this time.
    service.send("d");
    service.receive("dD");
    let left: Vec<i32> = world.processes().into_iter().filter(|&pid| pid != world.pid()).collect();
    assert!(left.is_empty(), "{:?}", left.iter().map(|&pid| processes::describe(pid)).collect::<Vec<_>>());
}

#[test]
fn what_clears_its_environment_and_goes_to_the_background_is_ended_with_its_control_group() {
    let world = World::started();
    let away = "env -i /bin/sh -c 'setsid sh -c \"echo \\$\\$ >away; exec sleep 3600\" &'\n\
        while ! test -s away; do sleep 0.01; done\nexec sleep 3600";
    let slot = world.service("web").run(away).file("data/kill-survivors", "").file("cgroup/pids", "1000\n");
    let mut service = slot.place();
    service.receive("su");
    let away = Held::of(service.until_lines("away", 1)[0].parse().unwrap()).unwrap();
    let is_grouped = fs::read_to_string(format!("/proc/{}/cgroup", service.pid()))
        .is_ok_and(|groups| groups.contains("/gatevisor-") && !groups.contains("/gatevisor-supervisor"));
    service.send("d");
    service.receive("dD");
    // If no group can be made, the process is not known to be the service's.
    assert_eq!(away.is_gone(), is_grouped);
    away.kill();
}
