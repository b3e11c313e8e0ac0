//! A log daemon that can hardly work, or not at all: no service stands still because of that.

use std::fs;

use gatevisor_wire::log_error::LogError;

use crate::refused_calls::world_that_refuses;
use crate::support::service::Service;
use crate::support::{World, waiting};

/// Places a service that writes this number of lines of some thirty bytes, and then makes a file.
fn writer(world: &World, lines: u32) -> Service {
    let log = format!("#!{} log\ndirectory = \"lines\"\nkeep = 1000\n", env!("CARGO_BIN_EXE_gatevisor"));
    let run = format!("seq -f 'a line of thirty bytes, %06g' {lines}; : > written; exec sleep 3600");
    let mut service = world
        .service("web")
        .run(&run)
        .prepare(|dir| fs::create_dir_all(dir.join("log/lines")).unwrap())
        .executable("log/run", &log)
        .place();
    service.receive("su");
    service
}

fn until_all_is_kept(service: &Service, lines: u32) {
    service.until_file("log/lines/current", "the last line", |text| {
        text.contains(&format!("bytes, {lines:06}"))
    });
    let files = fs::read_dir(service.path("log/lines")).unwrap().map(|entry| entry.unwrap().path());
    let kept: usize =
        files.filter_map(|file| Some(fs::read_to_string(file).ok()?.matches("thirty").count())).sum();
    assert_eq!(kept, usize::try_from(lines).unwrap());
}

#[test]
fn a_limit_of_the_size_of_files_keeps_no_line_from_its_log() {
    // The unit is 512 or 1024 bytes. This is less than what is written, and much less than the
    // usual size of a journal.
    let mut world = World::new().prelude("ulimit -f 60");
    world.start();
    let mut service = writer(&world, 20_000);
    until_all_is_kept(&service, 20_000);
    assert!(!world.said().contains("a log daemon ended"), "{}", world.said());
    assert_eq!(world.stop().code(), Some(0));
    service.receive("dDx");
}

#[test]
fn without_files_in_memory_lines_are_kept_as_well() {
    let mut world = world_that_refuses("memfd");
    let mut service = writer(&world, 20_000);
    until_all_is_kept(&service, 20_000);
    assert!(!world.said().contains("a log daemon ended"), "{}", world.said());
    assert_eq!(world.stop().code(), Some(0));
    service.receive("dDx");
}

#[test]
fn where_no_log_daemon_can_work_a_warning_says_so_and_no_service_is_blocked() {
    let mut world = world_that_refuses("threads");
    // Far more than a pipe holds.
    let mut service = writer(&world, 20_000);
    service.until_file("written", "the end of its lines", |_| true);
    let said = world.until_said("cannot work");
    assert!(said.matches("a log daemon ended").count() <= 4, "{said}");
    let uid = rustix::process::geteuid().as_raw();
    // It is said an instant before it is noted.
    let note = world.scandir().join(format!(".s6-svscan/logging/{uid}"));
    let note = waiting::polled("the note", || fs::read(&note).ok());
    let reason = LogError::decode(&note).unwrap().reason;
    assert!(reason.contains("cannot work: it ended"), "{reason}");
    // The end does not wait for work that nobody can do. The grace is longer than the tests'
    // deadline.
    assert_eq!(world.stop().code(), Some(0));
    service.receive("dDx");
    let said = world.said();
    assert!(said.contains("bytes in the log pipe are lost"), "{said}");
}

#[test]
fn what_an_earlier_supervisor_noted_of_log_daemons_is_gone() {
    let mut world = World::started();
    assert_eq!(world.stop().code(), Some(0));
    let notes = world.scandir().join(".s6-svscan/logging");
    fs::create_dir(&notes).unwrap();
    fs::write(notes.join("7"), "").unwrap();
    world.start();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    assert!(fs::read_dir(&notes).unwrap().next().is_none());
    assert_eq!(world.stop().code(), Some(0));
}
