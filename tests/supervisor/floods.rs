//! Too much of everything: the user who makes it is refused or waits, and all others are served as
//! usual.
//!
//! Nothing is timed here. The tests of `gatevisor_core::fair` count what a loop iteration does for
//! each user.

use std::fs;
use std::io::Write;
use std::os::unix::fs::lchown;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use gatevisor_client::ScanDir;
use gatevisor_wire::name::ServiceName;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::ioctl_fionread;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::service::{Service, give, neighbour, still_served};
use crate::support::{World, need_root, output, processes, waiting};

/// A user that no system has.
const OWNER: u32 = 23_460;

/// Makes a service of the owner that is down, with as few files as possible.
fn small_service(scandir: &Path, name: &str) {
    let hidden = scandir.join(format!(".{name}"));
    fs::create_dir(&hidden).unwrap();
    fs::write(hidden.join("down"), "").unwrap();
    lchown(&hidden, Some(OWNER), Some(OWNER)).unwrap();
    fs::rename(hidden, scandir.join(name)).unwrap();
}

fn refusal(world: &World, name: &str) -> Option<String> {
    ScanDir::new(world.scandir()).refusal(&ServiceName::new(name.as_bytes()).unwrap())
}

fn is_supervised(world: &World, name: &str) -> bool {
    world.scandir().join(name).join("supervise/status").exists()
}

#[test]
fn a_user_has_as_many_services_as_allowed_and_others_have_theirs() {
    need_root();
    let mut world = World::with(&["--grace-ms", "60000", "--max-services-of-user", "20"]);
    world.start();
    let mut neighbour = neighbour(&world);
    for n in 0..30 {
        small_service(&world.scandir(), &format!("s{n:02}"));
    }
    world.rescan();
    let count = || (0..30).filter(|n| is_supervised(&world, &format!("s{n:02}"))).count();
    waiting::polled("all to be looked at", || {
        let refused = (0..30).filter(|n| refusal(&world, &format!("s{n:02}")).is_some()).count();
        (refused == 10).then_some(())
    });
    assert_eq!(count(), 20);
    let names: Vec<String> = (0..30).map(|n| format!("s{n:02}")).collect();
    let refused = names.iter().find(|name| refusal(&world, name).is_some()).unwrap();
    let reason = refusal(&world, refused).unwrap();
    assert!(
        reason.contains("uid 23460 has 20 services already") && reason.contains("--max-services-of-user"),
        "{reason}"
    );
    assert!(world.said().contains(&format!("{refused} is not supervised: uid 23460")));
    still_served(&mut neighbour);
    let mut late = world.service("late").stays().place();
    late.receive("su");
    // When one service goes, another one is accepted.
    let gone = names.iter().find(|name| is_supervised(&world, name)).unwrap();
    fs::rename(world.scandir().join(gone), world.scandir().join(".gone")).unwrap();
    waiting::polled("another one in its place", || (count() == 20).then_some(()));
}

#[test]
fn all_users_have_as_many_services_as_allowed() {
    need_root();
    let mut world = World::with(&["--grace-ms", "60000", "--max-services", "3"]);
    world.start();
    let mut neighbour = neighbour(&world);
    for name in ["a", "b", "c"] {
        small_service(&world.scandir(), name);
        world.rescan();
    }
    let reason =
        waiting::polled("a refusal", || ["a", "b", "c"].iter().find_map(|name| refusal(&world, name)));
    assert!(reason.contains("there are 3 services already") && reason.contains("--max-services"), "{reason}");
    still_served(&mut neighbour);
}

#[test]
fn twenty_thousand_services_of_one_user_leave_the_others_untouched() {
    need_root();
    let world = World::started();
    let mut neighbour = neighbour(&world);
    for n in 0..20_000 {
        small_service(&world.scandir(), &format!("a{n}"));
        if n % 1000 == 0 {
            world.rescan();
            still_served(&mut neighbour);
        }
    }
    world.rescan();
    still_served(&mut neighbour);
    let mut late = world.service("zzz").stays().place();
    late.receive("su");
    for _ in 0..20 {
        world.rescan();
        still_served(&mut neighbour);
        still_served(&mut late);
    }
    world.until_said("has 1024 refused entries");
    let said = world.said().lines().count();
    assert!(said < 1200, "{said} lines");
    let refused = fs::read_dir(world.scandir().join(".s6-svscan/refused")).unwrap().count();
    assert!(refused <= 1024, "{refused}");
    // All of them are removed, and nothing is left of them.
    for n in 0..20_000 {
        let name = world.scandir().join(format!("a{n}"));
        fs::rename(&name, world.scandir().join(format!(".a{n}"))).unwrap();
    }
    world.rescan();
    waiting::polled("no refusals", || {
        world.rescan();
        still_served(&mut neighbour);
        fs::read_dir(world.scandir().join(".s6-svscan/refused")).unwrap().next().is_none().then_some(())
    });
}

#[test]
fn commands_to_two_hundred_services_of_one_user_without_end_keep_no_other_service_waiting() {
    need_root();
    let world = World::started();
    let mut neighbour = neighbour(&world);
    let mut flooded: Vec<Service> =
        (0..200).map(|n| world.service(format!("a{n}")).stays().down().owned_by(OWNER).place()).collect();
    for service in &mut flooded {
        service.receive("s");
    }
    let mut sibling = world.service("sibling").stays().owned_by(OWNER).place();
    sibling.receive("su");
    let mut fifos: Vec<fs::File> =
        flooded.iter().map(|service| waiting::open_fifo(&service.dir.control_path())).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // A full FIFO shows that it is not read as fast as it is written to.
                for fifo in &mut fifos {
                    let _ = fifo.write(&[b'd'; 4096]);
                }
            }
        });
        for n in 0..30 {
            still_served(&mut neighbour);
            if n % 10 == 0 {
                still_served(&mut sibling);
                world.service(format!("z{n}")).stays().place().receive("su");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    // The commands that are left in them must not be obeyed.
    for service in &flooded {
        service.hide();
    }
    for service in &mut flooded {
        service.receive_until('x');
    }
}

/// Commands without effect, so that only reading them costs something.
#[test]
fn a_flood_of_commands_is_rate_limited_and_the_supervisor_sleeps_meanwhile() {
    const FLOOD: usize = 32_768;
    let world = World::started();
    let mut flooded = world.service("flooded").stays().down().place();
    flooded.receive("s");
    let fifo = waiting::open_fifo(&flooded.dir.control_path());
    let sleeps = || -> usize {
        let line = processes::status_line(world.pid(), "voluntary_ctxt_switches");
        line.split_whitespace().last().unwrap().parse().unwrap()
    };
    let before = sleeps();
    assert_eq!((&fifo).write(&vec![b'h'; FLOOD]).unwrap(), FLOOD);
    waiting::polled("the flood to be over", || (ioctl_fionread(&fifo).unwrap() == 0).then_some(()));
    let slept = sleeps() - before;
    // 256 commands are read in a period. If the supervisor does not get the processor for a period,
    // it need not sleep as well.
    assert!(slept >= FLOOD / 256 / 8, "it slept {slept} times");
}

#[test]
fn a_hundred_thousand_subscribers_keep_nobody_waiting_and_are_removed_bit_by_bit() {
    need_root();
    let world = World::started();
    let mut neighbour = neighbour(&world);
    let mut service = world.service("web").stays().owned_by(OWNER).place();
    service.receive("su");
    let event = service.path("event");
    for n in 100_000..200_000 {
        waiting::stale_fifo(&event.join(format!("ftrig1:@400000000000002500{n}:stale1")));
    }
    service.send("dudududu");
    still_served(&mut neighbour);
    world.until_said("web: `event` has more than");
    waiting::polled("an end of the stale ones", || {
        service.send("k");
        still_served(&mut neighbour);
        (fs::read_dir(&event).unwrap().count() < 10).then_some(())
    });
    assert_eq!(world.said().matches("`event` has more than").count(), 1);
}

#[test]
fn a_thousand_subscribers_receive_an_event_and_the_log_says_that_there_are_more() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let world = World::started();
    let mut neighbour = neighbour(&world);
    let mut service = world.service("web").stays().place();
    service.receive("su");
    let event = service.path("event");
    let listen = |n: usize| waiting::fifo(&event.join(format!("ftrig1:@40000000000000250000{n}:living")));
    let mut subscribers: Vec<fs::File> = (1000..1900).map(listen).collect();
    service.send("k");
    // The events come in their order, whenever each is sent.
    service.receive("dDu");
    for subscriber in &mut subscribers {
        let mut received = Vec::new();
        while received.len() < 3 {
            assert!(waiting::readable(&*subscriber, crate::support::soon()), "{received:?}");
            let mut bytes = [0; 8];
            let count = std::io::Read::read(subscriber, &mut bytes).unwrap();
            received.extend_from_slice(&bytes[..count]);
        }
        assert_eq!(received, b"dDu");
    }
    assert!(!world.said().contains("`event` has"), "{}", world.said());
    subscribers.extend((1900..2200).map(listen));
    service.send("k");
    world.until_said("web: `event` has more than 1000 subscribers");
    still_served(&mut neighbour);
}

#[test]
fn names_that_change_without_end_keep_nobody_waiting() {
    need_root();
    let world = World::started();
    let mut neighbour = neighbour(&world);
    let (a, b) = (world.scandir().join("aa"), world.scandir().join("ab"));
    for service in [&a, &b] {
        fs::create_dir(service).unwrap();
        fs::write(service.join("down"), "").unwrap();
        give(service, OWNER);
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).unwrap();
            }
        });
        for n in 0..50 {
            world.rescan();
            still_served(&mut neighbour);
            if n % 10 == 0 {
                let mut late = world.service(format!("z{n}")).stays().place();
                late.receive("su");
                late.hide();
                late.receive("dDx");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn names_of_every_kind_are_shown_and_none_controls_a_terminal() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let world = World::started();
    let names: [&[u8]; 4] = [b"new\nline", b"\x1b[31mred", b"not \xff\xfe text", &[b'n'; 255]];
    for name in names {
        let path = world.scandir().join(OsStr::from_bytes(name));
        fs::create_dir(&path).unwrap();
        // Invalid names are refused for being invalid, and the others for this file.
        fs::write(path.join("supervise"), "").unwrap();
    }
    world.rescan();
    let refused = world.scandir().join(".s6-svscan/refused");
    // The directory may not be there yet, and a file that is being written has a leading dot.
    let is_whole = |entry: &std::io::Result<fs::DirEntry>| {
        entry.as_ref().is_ok_and(|entry| !entry.file_name().as_bytes().starts_with(b"."))
    };
    waiting::polled("four refusals", || {
        (fs::read_dir(&refused).ok()?.filter(is_whole).count() == 4).then_some(())
    });
    let said = world.said();
    assert!(said.contains("new\\nline is not") && said.contains("\\u{1b}[31mred is not"), "{said}");
    assert!(said.contains("not \u{fffd}\u{fffd} text is not"), "{said}");
    assert!(said.contains("at most 251 bytes, and this one has 255"), "{said}");
    assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{said}");
}

#[test]
fn a_start_that_the_limit_of_processes_prevents_succeeds_when_the_limit_is_raised() {
    need_root();
    // For root, there is no limit on processes.
    let mut world = World::new().prelude(
        "exec 9< \"$0\"; exec setpriv --reuid=23461 --regid=23461 --clear-groups /proc/self/fd/9 \"$@\"",
    );
    give(&world.scandir(), 23_461);
    let control = ScanDir::new(world.scandir()).control_path();
    drop(waiting::fifo(&control));
    lchown(&control, Some(23_461), Some(23_461)).unwrap();
    world.start();
    let limit = |most: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=23461", "--regid=23461", "--clear-groups", "prlimit"]);
        command.args([format!("--pid={}", world.pid()), format!("--nproc={most}:")]);
        assert!(output(&mut command).unwrap().status.success());
    };
    let before = getrlimit(Resource::Nproc).current.map_or("unlimited".to_owned(), |most| most.to_string());
    limit("1");
    let mut service = world
        .service("web")
        .stays()
        .log("exec cat > lines")
        .data("backoff-first", 1)
        .data("backoff-max", 50)
        .owned_by(23_461)
        .place();
    service.receive("s");
    service.logger().receive("s");
    let policy = service.until_policy("failed starts", |policy| policy.failures > 2);
    assert!(policy.reason.as_ref().is_some_and(|why| why.contains("forking ./run")), "{policy:?}");
    limit(&before);
    service.receive("u");
    service.logger().receive("u");
    still_served(&mut service);
}

#[test]
fn events_that_wait_for_earlier_ones_hold_no_descriptor_each() {
    let world = World::started();
    let mut neighbour = neighbour(&world);
    let mut service = world
        .service("crowded")
        .run("echo >> lives; exit 1")
        .data("backoff-first", 1)
        .data("backoff-max", 1)
        .place_after(|dir| {
            for n in 0..16_000 {
                fs::write(dir.join(format!("event/nobody-{n}")), "").unwrap();
            }
        });
    service.until_lines("lives", 100);
    let held =
        processes::descriptors(world.pid()).into_iter().filter(|path| path.ends_with("/event")).count();
    assert!(held <= 1, "{held}");
    still_served(&mut neighbour);
    service.further_events();
}
