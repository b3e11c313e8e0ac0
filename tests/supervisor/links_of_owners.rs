//! An owner of the scandir and everything in it tries to reach root's files, through links of
//! either kind and through renamed directories.
//!
//! The tests run as root, so they can make hard links to files of others. Other users can if
//! `fs.protected_hardlinks` is 0.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, inotify::WatchFlags, renameat_with};
use rustix::process::Signal;

use crate::support::service::{STAY, give, neighbour, still_served};
use crate::support::{World, need_root, output, script, waiting};

/// A user that no system has.
const OWNER: u32 = 23_456;

/// Returns a world whose scandir belongs to the owner, and whose `.s6-svscan` belongs to root.
fn world() -> World {
    need_root();
    let mut world = World::new();
    lchown(world.scandir(), Some(OWNER), Some(OWNER)).unwrap();
    world.start();
    world
}

/// A file that only root may read.
fn secret(world: &World, content: &[u8]) -> PathBuf {
    let path = world.root().join("secret");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// A service directory of root that shall not be supervised.
fn of_root(world: &World) -> PathBuf {
    let path = world.root().join("roots");
    fs::create_dir(&path).unwrap();
    script(&path.join("run"), &format!(": > executed; {STAY}"));
    path
}

/// Returns the names in a directory, in order.
fn names(path: &Path) -> Vec<String> {
    let name =
        |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().to_string_lossy().into_owned();
    let mut names: Vec<String> = fs::read_dir(path).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn a_hard_link_to_a_link_of_roots_is_not_supervised() {
    let world = world();
    let mut neighbour = neighbour(&world);
    let roots = of_root(&world);
    symlink(&roots, world.root().join("link")).unwrap();
    fs::hard_link(world.root().join("link"), world.scandir().join("planted")).unwrap();
    world.rescan();
    world.until_said("planted is not supervised");
    assert_eq!(names(&roots), ["run"]);
    still_served(&mut neighbour);
}

#[test]
fn a_link_of_the_owner_tells_nothing_about_places_that_are_closed_to_the_owner() {
    let world = world();
    of_root(&world);
    let mut reasons = Vec::new();
    for (name, target) in [("there", "../roots"), ("not-there", "../nothing"), ("a-file", "../roots/run")] {
        let link = world.scandir().join(name);
        symlink(target, &link).unwrap();
        lchown(&link, Some(OWNER), Some(OWNER)).unwrap();
        world.rescan();
        let said = world.until_said(&format!("{name} is not supervised"));
        let refusal = said.lines().find(|line| line.contains(&format!(" {name} is not"))).unwrap();
        reasons.push(refusal.split_once("supervised: ").unwrap().1.to_owned());
    }
    reasons.dedup();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
}

#[test]
fn a_slot_that_turns_into_a_link_while_it_is_taken_leads_to_no_directory_of_roots() {
    let world = world();
    let mut neighbour = neighbour(&world);
    let roots = of_root(&world);
    let (slot, link) = (world.scandir().join("racer"), world.scandir().join(".link"));
    fs::create_dir(&slot).unwrap();
    script(&slot.join("run"), STAY);
    fs::write(slot.join("down"), "").unwrap();
    give(&slot, OWNER);
    symlink(&roots, &link).unwrap();
    lchown(&link, Some(OWNER), Some(OWNER)).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &slot, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        for n in 0..1000 {
            world.rescan();
            if n % 100 == 0 {
                still_served(&mut neighbour);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    still_served(&mut neighbour);
    assert_eq!(names(&roots), ["run"]);
}

#[test]
fn an_owner_who_keeps_swapping_files_for_links_to_roots_files_changes_none_of_roots() {
    let world = world();
    let mut neighbour = neighbour(&world);
    let precious = world.root().join("precious");
    fs::create_dir(&precious).unwrap();
    for file in ["lock", "status", "death_tally", "policy", "down", "status.new"] {
        fs::write(precious.join(file), "precious").unwrap();
    }
    let state = |path: &Path| {
        let meta = fs::symlink_metadata(path).unwrap();
        (meta.uid(), meta.mode(), meta.ino(), meta.modified().unwrap(), names(path))
    };
    let before = state(&precious);
    let service = world.service("victim").stays().finish("exit 0").data("backoff-first", 1).owned_by(OWNER);
    let mut service = service.log("exec cat > lines").place();
    service.receive("su");
    let stop = AtomicBool::new(false);
    let slot = fs::File::open(service.dir.path()).unwrap();
    std::thread::scope(|scope| {
        for entry in ["supervise", "event", "log", "data"] {
            let aside = format!(".{entry}");
            symlink(&precious, service.path(&aside)).unwrap();
            lchown(service.path(&aside), Some(OWNER), Some(OWNER)).unwrap();
            let (stop, slot) = (&stop, &slot);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    renameat_with(slot, entry, slot, &aside, RenameFlags::EXCHANGE).unwrap();
                }
            });
        }
        let (there, aside) = (service.dir.path().to_owned(), world.scandir().join(".victim"));
        symlink(&precious, &aside).unwrap();
        lchown(&aside, Some(OWNER), Some(OWNER)).unwrap();
        for n in 0..400 {
            // Some commands find no reader.
            let _ = service.try_send("kDUrx");
            if n % 20 == 0 {
                renameat_with(CWD, &there, CWD, &aside, RenameFlags::EXCHANGE).unwrap();
                world.rescan();
                still_served(&mut neighbour);
                renameat_with(CWD, &there, CWD, &aside, RenameFlags::EXCHANGE).unwrap();
            }
            world.rescan();
        }
        stop.store(true, Ordering::Relaxed);
    });
    still_served(&mut neighbour);
    assert_eq!(state(&precious), before);
    for file in names(&precious) {
        assert_eq!(fs::read(precious.join(file)).unwrap(), b"precious");
    }
}

#[test]
fn events_do_not_reach_a_fifo_that_has_another_name() {
    let world = world();
    let mut service = world.service("victim").stays().owned_by(OWNER).place();
    service.receive("su");
    // A process reads commands from this FIFO, and some events are commands.
    let fifo = world.root().join("fifo");
    let mut commands = waiting::fifo(&fifo);
    fs::hard_link(&fifo, service.path("event/ftrig1:@400000000000002500000001:linked")).unwrap();
    service.send("k");
    service.receive("dDu");
    let received = commands.read(&mut [0; 10]);
    assert!(received.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "{received:?}");
    assert!(fifo.exists() && service.path("event/ftrig1:@400000000000002500000001:linked").exists());
}

#[test]
fn a_lock_or_a_control_fifo_that_is_a_second_name_of_roots_is_refused() {
    let world = world();
    let mut neighbour = neighbour(&world);
    let file = secret(&world, b"secret");
    let fifo = world.root().join("fifo");
    drop(waiting::fifo(&fifo));
    for (name, entry, target) in [("a", "lock", &file), ("b", "control", &fifo)] {
        let mut service = world
            .service(name)
            .stays()
            .prepare(|dir| fs::create_dir(dir.join("supervise")).unwrap())
            .owned_by(OWNER)
            .place_after(|dir| fs::hard_link(target, dir.join("supervise").join(entry)).unwrap());
        world.until_said(&format!("{name} is not supervised"));
        assert_eq!(service.further_events(), "");
        still_served(&mut neighbour);
    }
}

#[test]
fn the_content_of_a_hard_link_to_roots_file_does_not_appear_in_a_file_of_the_slot() {
    let world = world();
    let mut service = world.service("victim").stays().owned_by(OWNER).place();
    service.receive("su");
    // These bytes could be read as two deaths.
    let file = secret(&world, b"@\0secret\0\0\0\0\x01\0@\0secret\0\0\0\0\x01\0");
    let opened = waiting::watch(&file, WatchFlags::ACCESS | WatchFlags::MODIFY);
    for entry in
        ["supervise/death_tally", "max-death-tally", "timeout-kill", "down-signal", "data/backoff-first"]
    {
        let path = service.path(entry);
        let _ = fs::remove_file(&path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        lchown(path.parent().unwrap(), Some(OWNER), Some(OWNER)).unwrap();
        fs::hard_link(&file, path).unwrap();
    }
    service.send("r");
    service.receive("dDu");
    service.send("k");
    service.receive("dDu");
    assert!(!fs::read(service.path("supervise/death_tally")).unwrap().windows(6).any(|w| w == b"secret"));
    waiting::drain(&opened);
    assert!(!world.said().contains("secret"), "{}", world.said());
    assert_eq!(fs::metadata(&file).unwrap().nlink(), 5, "the tally is begun anew");
}

#[test]
fn a_down_file_that_is_there_is_not_opened() {
    let world = world();
    let file = secret(&world, b"#!/bin/sh\n");
    let mut service = world.service("victim").stays().owned_by(OWNER).place();
    service.receive("su");
    fs::hard_link(&file, service.path("down")).unwrap();
    let opened = waiting::watch(&file, WatchFlags::OPEN);
    service.send_and_see("D");
    assert!(!waiting::readable(&opened, std::time::Instant::now()), "it could not be executed meanwhile");
    assert!(!world.said().contains("down"), "{}", world.said());
    service.receive("dD");
}

#[test]
fn a_directory_of_roots_that_the_owner_names_log_is_not_used_as_a_log() {
    let world = world();
    let mut neighbour = neighbour(&world);
    let mut service =
        world.service("victim").stays().log(": > executed; exec cat").owned_by(OWNER).place_after(|dir| {
            lchown(dir.join("log"), Some(0), Some(0)).unwrap();
            lchown(dir.join("log/run"), Some(0), Some(0)).unwrap();
        });
    let said = world.until_said("victim is not supervised");
    assert!(said.contains("its log belongs to uid 0"), "{said}");
    assert!(!service.path("log/executed").exists() && !service.path("log/supervise").exists());
    assert_eq!(service.further_events(), "");
    still_served(&mut neighbour);
    give(&service.path("log"), OWNER);
    world.rescan();
    service.receive("su");
    service.logger().receive("su");
}

#[test]
fn a_script_in_a_scandir_of_an_owner_is_not_run_as_root() {
    for (program, signal) in [("SIGUSR1", Some(Signal::USR1)), ("finish", None)] {
        let mut world = world();
        let path = world.scandir().join(".s6-svscan").join(program);
        script(&path, "exec touch \"$GATEVISOR_TEST_WORLD/executed\"");
        if let Some(signal) = signal {
            world.signal(signal);
            world.until_said(&format!("{program}` is not run"));
        }
        assert_eq!(world.stop().code(), Some(0));
        assert!(world.said().contains(&format!("{program}` is not run")), "{}", world.said());
        assert!(!world.root().join("executed").exists());
    }
}

#[test]
fn a_user_who_may_write_to_roots_control_fifo_cannot_end_the_supervisor() {
    let mut world = world();
    let mut neighbour = neighbour(&world);
    let control = world.scandir().join(".s6-svscan/control");
    lchown(&control, Some(0), Some(OWNER)).unwrap();
    fs::set_permissions(&control, fs::Permissions::from_mode(0o620)).unwrap();
    let mut fifo = waiting::open_fifo(&control);
    for command in ["t", "i", "q", "b"] {
        fifo.write_all(command.as_bytes()).unwrap();
    }
    world.until_said("it is not obeyed");
    let mut late = world.service("late").stays().place();
    late.receive("su");
    still_served(&mut neighbour);
    assert_eq!(world.said().matches("it is not obeyed").count(), 1);
    assert_eq!(world.stop().code(), Some(0));
}

#[test]
fn a_directory_that_gets_another_owner_while_it_is_supervised_starts_nothing_as_the_old_one() {
    let world = world();
    let mut service = world.service("web").stays().finish(": > finished").data("backoff-max", 1).place();
    service.receive("su");
    let pid = service.pid();
    give(service.dir.path(), OWNER);
    script(&service.path("run"), ": > executed; exec sleep 3600");
    lchown(service.path("run"), Some(OWNER), Some(OWNER)).unwrap();
    crate::support::processes::signal(pid, Signal::KILL);
    service.receive("dD");
    let policy = service.until_policy("a refusal", |policy| policy.reason.is_some());
    assert!(policy.reason.unwrap().contains("was given to uid 23456"));
    assert!(!service.path("executed").exists() && !service.path("finished").exists());
}

#[test]
fn the_control_directory_of_the_supervisor_is_no_slot_whatever_its_name() {
    let world = world();
    let mut neighbour = neighbour(&world);
    let svscan = world.scandir().join("renamed");
    fs::rename(world.scandir().join(".s6-svscan"), &svscan).unwrap();
    let link = world.scandir().join("itself");
    symlink(".", &link).unwrap();
    lchown(&link, Some(OWNER), Some(OWNER)).unwrap();
    world.signal(Signal::HUP);
    for name in ["renamed", "itself"] {
        let said = world.until_said(&format!("{name} is not supervised"));
        assert!(said.contains("it is what directs this supervisor"), "{said}");
    }
    assert!(!svscan.join("supervise").exists() && !world.scandir().join("supervise").exists());
    still_served(&mut neighbour);
    fs::rename(&svscan, world.scandir().join(".s6-svscan")).unwrap();
}

#[test]
fn root_without_the_capability_to_signal_brings_services_of_others_down() {
    need_root();
    let mut world = World::new().prelude(
        "command -v setpriv > /dev/null && exec setpriv --bounding-set=-kill --inh-caps=-kill \"$0\" \"$@\"",
    );
    let mut service = world
        .service("web")
        .run("trap '' TERM; sleep 3600 & wait; wait")
        .file("timeout-kill", "1\n")
        .file("flag-timeout-killpg", "")
        .owned_by(OWNER)
        .place();
    world.start();
    service.receive("su");
    service.send("k");
    service.receive("dDu");
    service.send("d");
    service.receive("dD");
    assert_eq!(world.stop().code(), Some(0));
}

#[test]
fn a_slot_that_its_owner_broke_does_not_delay_a_rescan_that_others_ask_for() {
    let world = world();
    let mut broken = world.service("broken").stays().owned_by(OWNER).place();
    broken.receive("su");
    fs::rename(broken.path("supervise"), broken.path("taken-away")).unwrap();
    symlink("nowhere", broken.path("supervise")).unwrap();
    // A directory that exists before the attack.
    let fresh = world.scandir().join("fresh");
    fs::create_dir(&fresh).unwrap();
    script(&fresh.join("run"), STAY);
    let mut rescan = std::process::Command::new(env!("CARGO_BIN_EXE_gatevisor"));
    let ended = output(rescan.args(["s6", "s6-svscanctl", "-a"]).arg(world.scandir())).unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!((ended.status.code(), said.contains("broken")), (Some(0), true), "{said}");
    assert!(fresh.join("supervise/status").exists());
}
