//! `s6-svc`: every command byte arrives, and the request is recorded when the tool returns.
//!
//! **Source:** B.5-2.

use std::fs;

use gatevisor_wire::control::Control;
use gatevisor_wire::{Pid, status::Status, tai::Tai64n, wait::WaitStatus};
use tempfile::tempdir;

use crate::both::{Fake, Supervisor, agree, agree_on_waiting, our_code, our_command, ours, theirs, words};
use crate::support::World;

/// The commands of s6 2.11.
const DEBIAN: &str = "abqhkti12pcyroduDUxOQ";

fn status(want_up: bool) -> Vec<u8> {
    let status = Status {
        changed: Tai64n::EPOCH,
        ready_at: Tai64n::EPOCH,
        pid: Pid::new(4711),
        last: WaitStatus::default(),
        paused: false,
        finishing: false,
        want_up,
        ready: false,
    };
    status.encode().to_vec()
}

/// Runs our s6-svc while the test records the request. Returns the bytes that arrived and the exit
/// code.
fn sent(fake: &Fake, options: &str, want_up: bool) -> (String, i32) {
    let mut child = our_command("s6-svc").args(words(options, &fake.dir)).spawn().unwrap();
    let received = fake.received();
    fake.publish(&status(want_up));
    (received, child.wait().unwrap().code().unwrap())
}

#[test]
fn every_command_arrives_as_its_byte() {
    let root = tempdir().unwrap();
    let fake = Fake::service(root.path().join("web"));
    fake.publish(&status(true));
    for command in Control::ALL {
        let byte = char::from(command.byte());
        let want_up = matches!(command, Control::Up | Control::UpAndEnable);
        assert_eq!(sent(&fake, &format!("-{byte}"), want_up), (byte.to_string(), 0), "-{byte}");
        if DEBIAN.contains(byte) {
            assert_eq!(theirs("s6-svc", &words(&format!("-{byte}"), &fake.dir)).code, Some(0));
            assert_eq!(fake.received(), byte.to_string());
        }
    }
    for (options, bytes) in [("-dx", "dx"), ("-a -h -1", "ah1"), ("-s HUP", "h"), ("-s SIGUSR1 -s 9", "1k")] {
        assert_eq!(sent(&fake, options, false), (bytes.to_owned(), 0), "{options}");
    }
}

#[test]
fn a_request_that_nobody_records_is_not_acknowledged() {
    let root = tempdir().unwrap();
    let fake = Fake::service(root.path().join("web"));
    fake.publish(&status(false));
    let (ran, said) = ours("s6-svc", &words("-u", &fake.dir));
    assert_eq!(ran.code, Some(99), "{said}");
    assert!(said.starts_with("s6-svc: fatal: the command was sent, but"), "{said}");
}

#[test]
fn wrong_command_lines_are_refused_as_s6_refuses_them() {
    let root = tempdir().unwrap();
    let fake = Fake::service(root.path().join("web"));
    fake.publish(&status(true));
    let many = format!("-{}", "h".repeat(63));
    for options in ["-wZ -u", "-w", "-T x", "-T", "-z", "--up", many.as_str()] {
        assert_eq!(agree("s6-svc", &words(options, &fake.dir)).code, Some(100), "{options}");
    }
    assert_eq!(agree("s6-svc", &["-u".into(), String::new()]).code, Some(100));
    assert_eq!(our_code("s6-svc", &words("-s FOO", &fake.dir)), 100);
    assert_eq!(our_code("s6-svc", &words("-s CHLD", &fake.dir)), 100);
    // Without a command, the tool only checks for a reader. It ignores what follows the directory.
    assert_eq!(agree("s6-svc", &words("", &fake.dir)).code, Some(0));
    assert_eq!(agree("s6-svc", &words("--", &fake.dir)).code, Some(0));
    let mut extra = words("-h", &fake.dir);
    extra.push("-d".into());
    assert_eq!(agree("s6-svc", &extra).code, Some(0));
    assert_eq!(fake.received(), "hh");
}

#[test]
fn a_missing_supervisor_and_a_missing_directory_are_distinguished() {
    let root = tempdir().unwrap();
    let dir = root.path().join("web");
    fs::create_dir(&dir).unwrap();
    // s6 2.11 exits with 100; s6 since 2.14, and ours, with 102.
    for options in ["-u", "-wu -u", "-wd -T 1000 -d", ""] {
        assert_eq!(our_code("s6-svc", &words(options, &dir)), 102, "{options}");
    }
    assert_eq!(theirs("s6-svc", &words("-u", &dir)).code, Some(100));
    for options in ["-u", "-wu -u", "-wD -T 1000 -d"] {
        assert_eq!(agree("s6-svc", &words(options, &root.path().join("none"))).code, Some(111), "{options}");
    }
    let (_, said) = ours("s6-svc", &words("-u", &dir));
    assert!(said.starts_with("s6-svc: fatal: no supervisor is reading `"), "{said}");
    fs::create_dir(dir.join("supervise")).unwrap();
    fs::write(dir.join("supervise/control"), "").unwrap();
    assert_eq!(our_code("s6-svc", &words("-u", &dir)), 111, "a file is no FIFO");
    assert_eq!(fs::read(dir.join("supervise/control")).unwrap(), b"");
}

/// Sends every request in every lasting state, and checks the status as soon as each is
/// acknowledged.
fn every_request_shows_at_once(world: &World, start: impl FnOnce(&World) -> Supervisor) {
    let mut service =
        world.service("web").run("trap '' TERM; echo >&3; read line < go").file("notification-fd", "3\n");
    service = service.gate("go");
    let mut service = service.down().place();
    let _supervisor = start(world);
    service.receive("s");
    let shows = |byte: char, wanted: &str| {
        assert_eq!(our_code("s6-svc", &words(&format!("-{byte}"), service.dir.path())), 0, "-{byte}");
        let told = theirs("s6-svstat", &words("-w", service.dir.path()));
        assert_eq!(told.stdout, format!("{wanted}\n"), "after -{byte}");
    };
    for byte in "dDOQ".chars() {
        shows(byte, "false");
    }
    shows('U', "true");
    service.receive("uU");
    let shows = |byte: char, wanted: &str| {
        assert_eq!(our_code("s6-svc", &words(&format!("-{byte}"), service.dir.path())), 0, "-{byte}");
        let told = theirs("s6-svstat", &words("-w", service.dir.path()));
        assert_eq!(told.stdout, format!("{wanted}\n"), "after -{byte}");
    };
    for (byte, wanted) in [
        ('d', "false"),
        ('d', "false"),
        ('u', "true"),
        ('u', "true"),
        ('o', "false"),
        ('D', "false"),
        ('U', "true"),
        ('O', "false"),
        ('Q', "false"),
    ] {
        shows(byte, wanted);
    }
    assert_eq!(our_code("s6-svc", &words("-wD -T 20000 -dk", service.dir.path())), 0);
    service.receive("dD");
}

#[test]
fn every_request_shows_at_once_under_a_genuine_s6_svscan() {
    every_request_shows_at_once(&World::new(), Supervisor::genuine);
}

#[test]
fn every_request_shows_at_once_under_our_s6_svscan() {
    every_request_shows_at_once(&World::new(), Supervisor::ours);
}

/// Waits for each thing that can be waited for.
fn waits(world: &World, start: impl FnOnce(&World) -> Supervisor) {
    let mut service = world
        .service("web")
        .run("echo >&3; exec sleep 3600")
        .finish("exit 0")
        .file("notification-fd", "3\n")
        .down()
        .place();
    let mut mute = world.service("mute").stays().down().place();
    let _supervisor = start(world);
    service.receive("s");
    mute.receive("s");
    for (options, events) in [
        ("-wU -T 20000 -u", "uU"),
        ("-wu -T 20000 -u", ""),
        ("-wd -T 20000 -d", "dD"),
        ("-wD -T 20000 -d", ""),
        ("-wr -T 20000 -u", "uU"),
        ("-wr -T 20000 -r", "dDuU"),
        ("-wR -T20000 -t", "dDuU"),
        ("-wR -T 20000 -k", "dDuU"),
        ("-wD -T 20000 -d", "dD"),
        ("-T 20000 -wU -o", "uU"),
        ("-wD -T 20000", "dD"),
    ] {
        if options == "-wD -T 20000" {
            service.send("d");
        }
        let (ran, said) = ours("s6-svc", &words(options, service.dir.path()));
        assert_eq!((ran.code, said.as_str()), (Some(0), ""), "{options}");
        service.receive(events);
    }
    // Both wait for the given time for an event that never comes.
    assert_eq!(agree_on_waiting("s6-svc", &words("-wu -T 100 -d", service.dir.path())).code, Some(99));
    // The tool does not wait for readiness that a service never reports.
    let (ran, said) = ours("s6-svc", &words("-wU -T 20000 -u", mute.dir.path()));
    assert_eq!(ran.code, Some(0));
    assert!(said.starts_with("s6-svc: warning: ") && said.contains("notification-fd"), "{said}");
    mute.receive("u");
    let said_to_live = agree_on_waiting("s6-svc", &words("-wd -T 100 -u", mute.dir.path()));
    assert_eq!(said_to_live.code, Some(99));
}

#[test]
fn s6_svc_waits_under_a_genuine_s6_svscan() {
    waits(&World::new(), Supervisor::genuine);
}

#[test]
fn s6_svc_waits_under_our_s6_svscan() {
    waits(&World::new(), Supervisor::ours);
}
