//! `s6-svwait`, beside s6's.
//!
//! **Source:** B.5-3.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::fs::inotify::WatchFlags;
use tempfile::tempdir;

use crate::both::{Supervisor, agree, agree_on_waiting, our_code, our_command, ours, words};
use crate::support::service::Service;
use crate::support::{World, soon, waiting};

fn line(options: &str, dirs: &[&Service]) -> Vec<String> {
    let dirs = dirs.iter().map(|service| service.dir.path().to_str().unwrap().to_owned());
    options.split_whitespace().map(str::to_owned).chain(dirs).collect()
}

/// Starts a waiting tool, and returns when it has subscribed to the service, which has no other
/// subscriber.
fn listening(mut command: Command, service: &Service) -> Child {
    let event = service.path("event");
    let watch = waiting::watch(&event, WatchFlags::MOVED_TO);
    let child = command.stdin(Stdio::null()).spawn().unwrap();
    assert!(waiting::readable(&watch, soon()), "it does not listen");
    child
}

fn compare(world: &World, start: impl FnOnce(&World) -> Supervisor) {
    let mut up = world.service("up").run("echo >&3; exec sleep 3600").file("notification-fd", "3\n").place();
    let mut mute = world.service("mute").stays().place();
    let mut down = world.service("down").stays().down().place();
    let supervisor = start(world);
    up.receive("suU");
    mute.receive("su");
    down.receive("s");
    for condition in ["-u", "-U", "-d", "-D", ""] {
        for all in ["", "-a", "-o"] {
            for dirs in [&[&up][..], &[&mute], &[&down], &[&up, &mute], &[&up, &down], &[&mute, &down, &up]] {
                agree_on_waiting("s6-svwait", &line(&format!("{condition} {all} -t 150"), dirs));
            }
        }
    }
    for (condition, events) in [("-r", "dDuU"), ("-R", "dDuU")] {
        let theirs = Command::new("s6-svwait");
        for mut command in [our_command("s6-svwait"), theirs] {
            command.args(line(&format!("{condition} -t 20000"), &[&up]));
            let mut child = listening(command, &up);
            up.send("k");
            assert_eq!(child.wait().unwrap().code(), Some(0), "{condition}");
            up.receive(events);
        }
        assert_eq!(
            agree_on_waiting("s6-svwait", &line(&format!("{condition} -t 150"), &[&down])).code,
            Some(99)
        );
        assert_eq!(
            agree_on_waiting("s6-svwait", &line(&format!("{condition} -t 150"), &[&up])).code,
            Some(99)
        );
    }
    for (condition, byte, events) in
        [("-D", "d", "dD"), ("-U", "u", "uU"), ("-d", "d", "dD"), ("-u", "u", "uU")]
    {
        let mut command = our_command("s6-svwait");
        command.args(line(&format!("-a {condition} -t 20000"), &[&up]));
        let mut child = listening(command, &up);
        up.send(byte);
        assert_eq!(child.wait().unwrap().code(), Some(0), "{condition}");
        up.receive(events);
    }
    // If the supervisor ends, a wait ends that only the supervisor could have fulfilled.
    let mut command = our_command("s6-svwait");
    command.args(line("-u -t 20000", &[&down]));
    let mut child = listening(command, &down);
    drop(supervisor);
    assert_eq!(child.wait().unwrap().code(), Some(102));
    assert_eq!(our_code("s6-svwait", &line("-u -t 20000", &[&down])), 102);
}

#[test]
fn every_condition_under_a_genuine_s6_svscan() {
    compare(&World::new(), Supervisor::genuine);
}

#[test]
fn every_condition_under_our_s6_svscan() {
    compare(&World::new(), Supervisor::ours);
}

#[test]
fn a_slot_that_is_down_already_is_finished_at_once() {
    let mut world = World::new();
    let mut never = world.service("never").stays().down().place();
    let mut stopped = world.service("stopped").stays().place();
    world.start();
    never.receive("s");
    stopped.receive("su");
    stopped.send("d");
    stopped.receive("dD");
    // Without a deadline: it must not wait.
    assert_eq!(our_code("s6-svwait", &line("-D", &[&never, &stopped])), 0);
    assert_eq!(our_code("s6-svwait", &line("-d", &[&never])), 0);
}

#[test]
fn services_that_failed_for_good_are_counted() {
    let mut world = World::new();
    let mut one = world.service("one").run("exit 78").place();
    let mut two = world.service("two").run("exit 78").place();
    world.start();
    one.receive("sudOD");
    two.receive("sudOD");
    assert_eq!(our_code("s6-svwait", &line("-u -t 20000", &[&one])), 1);
    let (ran, said) = ours("s6-svwait", &line("-u -t 20000", &[&one, &two]));
    assert_eq!(ran.code, Some(2), "{said}");
    assert_eq!(our_code("s6-svwait", &line("-D -t 20000", &[&one, &two])), 0);
}

#[test]
fn a_missing_supervisor_a_missing_directory_and_a_usage_error_are_distinguished() {
    let root = tempdir().unwrap();
    let never: PathBuf = root.path().join("never");
    fs::create_dir(&never).unwrap();
    assert_eq!(our_code("s6-svwait", &words("-u -t 1000", &never)), 102);
    for (options, code) in [("-u -t 1000", 111), ("-t x", 100), ("-z", 100), ("-t", 100)] {
        assert_eq!(
            agree("s6-svwait", &words(options, &root.path().join("none"))).code,
            Some(code),
            "{options}"
        );
    }
}
