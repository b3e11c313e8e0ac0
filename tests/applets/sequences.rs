//! The calls of s6's tools that the manager of today's images makes in the life of a slot, in its
//! order. Here our tools run on our supervisor.

use std::fs;
use std::path::Path;

use rustix::fs::inotify::WatchFlags;

use crate::both::{Ran, our_command, run};
use crate::support::{World, processes, waiting};

/// Runs a tool from any directory, with a variable in its environment that no service may get.
fn asked(name: &str, options: &str, dir: &Path) -> Ran {
    let mut command = our_command(name);
    command.args(options.split_whitespace()).arg(dir).current_dir("/").env("CALLERS", "secret");
    run(command).0
}

#[track_caller]
fn done(name: &str, options: &str, dir: &Path) {
    let ran = asked(name, options, dir);
    assert_eq!(ran, Ran { stdout: String::new(), code: Some(0) }, "{name} {options}");
}

/// Returns what svstat prints, which must begin with this word.
#[track_caller]
fn told(word: &str, slot: &Path) -> String {
    let ran = asked("s6-svstat", "", slot);
    assert!(ran.code == Some(0) && ran.stdout.starts_with(word), "{ran:?}");
    // If the output has these three characters anywhere, the manager believes that the service
    // runs.
    assert_eq!(ran.stdout.contains("up "), word == "up", "{ran:?}");
    ran.stdout
}

/// Returns the process that runs, found as the manager finds it.
fn pid(slot: &Path) -> Option<i32> {
    let ran = asked("s6-svstat", "", slot);
    ran.stdout.split_once("up (pid ")?.1.split_once(')')?.0.parse().ok()
}

#[test]
fn a_slot_is_registered_started_restarted_stopped_and_unregistered_and_its_name_taken_again() {
    let world = World::started();
    let mut neighbour = world.service("neighbour").stays().place();
    neighbour.receive("su");
    // The supervisor and the neighbour. (In the middle of an exec, a process has no environment, by
    // which the test finds it.)
    let alone = 2;
    waiting::polled("the neighbour", || (world.processes().len() == alone).then_some(()));
    let slot = world.scandir().join("gateway-coder");
    for _ in 0..3 {
        let staged = world
            .service("gateway-coder")
            .run("env > env; exec sleep 3600")
            .finish("[ \"$1\" != 78 ] || exit 125")
            .log("exec cat > lines")
            .down();
        fs::rename(staged.path(""), &slot).unwrap();
        done("s6-svscanctl", "-a", &world.scandir());
        told("down", &slot);
        done("s6-svwait", "-D -t 10000", &slot);
        done("s6-svc", "-u", &slot);
        assert_eq!(asked("s6-svstat", "-o wantedup", &slot).stdout, "true\n");
        done("s6-svwait", "-u -t 10000", &slot);
        told("up", &slot);
        let first = pid(&slot).unwrap();
        done("s6-svc", "-t", &slot);
        let again = waiting::polled("another process", || pid(&slot).filter(|&pid| pid != first));
        // Nothing of it writes into the slot any more.
        waiting::polled("its program", || processes::describe(again).contains("sleep 3600").then_some(()));
        let environment = waiting::polled("its environment", || {
            fs::read_to_string(slot.join("env")).ok().filter(|text| text.contains("PATH="))
        });
        assert!(!environment.contains("CALLERS"), "{environment}");
        done("s6-svc", "-d", &slot);
        assert_eq!(asked("s6-svstat", "-o wantedup", &slot).stdout, "false\n");
        done("s6-svwait", "-D -t 10000", &slot);
        let before = told("down", &slot);
        assert!(before.starts_with("down (signal SIGTERM) "), "{before}");
        // While the directory exists, nothing changes, and nothing is written that would disturb
        // its removal.
        let writes = WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::MOVED_TO | WatchFlags::DELETE;
        let watches =
            ["", "supervise", "log", "log/supervise"].map(|at| waiting::watch(&slot.join(at), writes));
        done("s6-svscanctl", "-an", &world.scandir());
        neighbour.send("k");
        neighbour.receive("dDu");
        told("down", &slot);
        assert_eq!(watches.map(|watch| waiting::drain(&watch)).concat(), [""; 0]);
        fs::remove_dir_all(&slot).unwrap();
        // Its logger ends by itself, and its name is free.
        waiting::polled("the end of its processes", || (world.processes().len() == alone).then_some(()));
        assert_eq!(asked("s6-svstat", "", &slot).code, Some(111));
    }
    neighbour.send("k");
    neighbour.receive("dDu");
}
