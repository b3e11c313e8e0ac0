//! What an owner can leave behind to delay the end without limit: processes of the owner that the
//! supervisor would wait for.

use std::fs;

use rustix::process::Signal;

use crate::support::processes::{self, Held};
use crate::support::service::{Service, neighbour};
use crate::support::{World, need_root};

/// A user that no system has.
const OWNER: u32 = 23_456;

/// The common part of the programs below: leaving the service, and setting the process name.
const PRELUDE: &str = r#"#!/usr/bin/env python3
import ctypes, os, signal, sys, time
libc = ctypes.CDLL(None, use_errno=True)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)

def escape():
    """Returns True in a process that no service has any more, and False in the service."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return False
    os.setsid()
    if os.fork():
        os._exit(0)
    return True

def note(name):
    # Several processes may note the same: each writes a file of its own.
    own = f"{name}.{os.getpid()}"
    with open(own, "w") as file:
        file.write(str(os.getpid()))
    os.rename(own, name)

def stay():
    while True:
        signal.pause()

def leave():
    """The service itself is an ordinary one."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    stay()

"#;

/// Returns a world with a short grace, in which a service of root runs.
fn world() -> World {
    need_root();
    let mut world = World::with(&["--grace-ms", "500"]);
    world.start();
    world
}

/// Places a service of the owner whose `run` is this program, and returns it when it has made the
/// file.
fn attacker(world: &World, program: &str, noted: &str) -> Service {
    let run = format!("{PRELUDE}{program}");
    let mut service = world.service("attacker").executable("run", &run).owned_by(OWNER).place();
    service.receive("su");
    service.until_file(noted, "what it does", |text| !text.is_empty());
    service
}

fn noted(service: &Service, name: &str) -> i32 {
    fs::read_to_string(service.path(name)).unwrap().parse().unwrap()
}

#[test]
fn a_log_daemon_that_its_owner_stops_holds_nobody_up() {
    let mut world = world();
    let daemon_log = format!("#!{} log\ndirectory = \"lines\"\n", env!("CARGO_BIN_EXE_gatevisor"));
    let log = |name: &str, owner: u32| {
        let mut service = world
            .service(name)
            .run("echo hello; exec sleep 3600")
            .prepare(|dir| fs::create_dir_all(dir.join("log/lines")).unwrap())
            .executable("log/run", &daemon_log)
            .owned_by(owner)
            .place();
        service.receive("su");
        service.until_file("log/lines/current", "its line", |text| text.contains("hello"));
        service
    };
    let mut own = log("attacker", OWNER);
    let mut other = log("other", OWNER + 1);
    let daemon = processes::children(world.pid())
        .into_iter()
        .find(|&pid| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"gatevisor\0logd\0"))
                && processes::status_line(pid, "Uid").contains(&OWNER.to_string())
        })
        .expect("the owner has a log daemon");
    processes::signal(daemon, Signal::STOP);
    assert_eq!(world.stop().code(), Some(0));
    own.receive("dDx");
    other.receive("dDx");
}

#[test]
fn a_service_that_an_escaped_process_traces_ends_when_the_grace_is_over() {
    let mut world = world();
    let mut neighbour = neighbour(&world);
    // A traced process cannot be waited for until its tracer has detached.
    let program = r#"
service = os.getpid()
libc.prctl(0x59616D61, -1, 0, 0, 0)
if escape():
    if libc.ptrace(0x4206, service, 0, 0) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    note("traced")
    stay()
leave()
"#;
    let service = attacker(&world, program, "traced");
    let tracer = Held::of(noted(&service, "traced")).unwrap();
    assert_eq!(world.stop().code(), Some(0));
    assert!(tracer.is_gone());
    neighbour.receive("dDx");
}

/// Checks that what a service leaves behind ends with the supervisor. The program makes a file when
/// it is there.
fn ends_with_the_supervisor(program: &str, told_by: &str) {
    let mut world = world();
    let service = attacker(&world, program, told_by);
    let leftover = Held::of(noted(&service, told_by)).unwrap();
    assert_eq!(world.stop().code(), Some(0));
    assert!(leftover.is_gone());
}

#[test]
fn a_process_whose_name_is_no_text_is_ended_too() {
    let program = r#"
if escape():
    libc.prctl(15, b"\xff) \xfe", 0, 0, 0)
    note("named")
    stay()
leave()
"#;
    ends_with_the_supervisor(program, "named");
}

#[test]
fn a_long_line_of_descent_is_ended_as_a_whole() {
    let program = r#"
if escape():
    for n in range(60):
        if os.fork():
            stay()
    note("last")
    stay()
leave()
"#;
    ends_with_the_supervisor(program, "last");
}

#[test]
fn processes_that_replace_each_one_that_dies_are_ended() {
    let mut world = world();
    // When a child dies, its parent makes another one. When the parent dies, the child does.
    let program = r#"
if escape():
    for _ in range(3):
        if os.fork() == 0:
            if os.fork() == 0:
                libc.prctl(1, signal.SIGUSR1, 0, 0, 0)
                signal.signal(signal.SIGUSR1, lambda *_: os.fork())
                note("watching")
                stay()
            while True:
                try:
                    os.waitpid(-1, 0)
                except OSError:
                    pass
                if os.fork() == 0:
                    libc.prctl(1, signal.SIGUSR1, 0, 0, 0)
                    signal.signal(signal.SIGUSR1, lambda *_: os.fork())
                    stay()
    stay()
leave()
"#;
    let service = attacker(&world, program, "watching");
    assert!(noted(&service, "watching") > 0);
    assert_eq!(world.stop().code(), Some(0));
}

#[test]
fn chains_of_processes_each_of_which_forks_and_ends_are_ended() {
    let mut world = world();
    let program = r#"
if escape():
    for _ in range(4):
        if os.fork() == 0:
            while True:
                if os.fork():
                    os._exit(0)
    note("begun")
    stay()
leave()
"#;
    let service = attacker(&world, program, "begun");
    assert!(noted(&service, "begun") > 0);
    assert_eq!(world.stop().code(), Some(0));
}

#[test]
fn chains_each_link_of_which_is_a_session_of_its_own_are_ended() {
    let mut world = world();
    let program = r#"
if escape():
    for _ in range(4):
        if os.fork() == 0:
            while True:
                os.setsid()
                if os.fork():
                    os._exit(0)
    note("begun")
    stay()
leave()
"#;
    let service = attacker(&world, program, "begun");
    assert!(noted(&service, "begun") > 0);
    assert_eq!(world.stop().code(), Some(0));
}
