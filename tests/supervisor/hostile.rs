//! Hostile service directories: whatever they hold, the supervisor lives and others are served.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};

use gatevisor_wire::status::Status;
use rustix::fs::OFlags;

use crate::support::processes::Held;
use crate::support::service::{Service, neighbour, still_served};
use crate::support::{World, waiting};

/// The same bytes every time.
fn random_bytes() -> impl Iterator<Item = u8> {
    let mut state: u64 = 0x5eed_0006;
    std::iter::from_fn(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(u8::try_from(state >> 56).unwrap())
    })
}

#[test]
fn a_megabyte_of_random_commands_hurts_neither_the_supervisor_nor_other_services() {
    let world = World::started();
    let mut neighbour = neighbour(&world);
    let mut service = world.service("victim").stays().data("backoff-max", 1).place();
    service.receive("su");
    let mut bytes: Vec<u8> = random_bytes().filter(|byte| *byte != b'x').take(1_000_000).collect();
    let nonblock = OFlags::NONBLOCK.bits().cast_signed();
    let mut fifo = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nonblock)
        .open(service.dir.control_path())
        .unwrap();
    while !bytes.is_empty() {
        match fifo.write(&bytes[..bytes.len().min(20_000)]) {
            Ok(count) => drop(bytes.drain(..count)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                // During the flood, commands of others are obeyed.
                still_served(&mut neighbour);
                let mut fds = [rustix::event::PollFd::new(&fifo, rustix::event::PollFlags::OUT)];
                let limit = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
                assert_eq!(rustix::event::poll(&mut fds, Some(&limit)), Ok(1), "the flood is not taken in");
            }
            Err(error) => panic!("{error}"),
        }
    }
    drop(fifo);
    // The last command counts, also for a service that the flood paused.
    service.send("dcC");
    service.until_status("down", |status| !status.want_up && status.pid.is_none());
    let _ = service.further_events();
    service.send("U");
    service.receive_until('u');
    service.until_status("up", |status| status.is_up() && status.want_up);
    still_served(&mut neighbour);
}

#[test]
fn a_flood_of_x_hurts_nobody() {
    let world = World::started();
    let mut neighbour = neighbour(&world);
    let mut service = world.service("victim").stays().place();
    service.receive("su");
    for _ in 0..100 {
        // Between two supervisions, the FIFO may have no reader.
        let _ = service.try_send("xkux");
    }
    still_served(&mut neighbour);
    waiting::polled("the service up again", || {
        let _ = service.further_events();
        service.dir.status().ok().filter(Status::is_up)
    });
}

#[test]
fn commands_to_a_supervision_that_has_ended_are_not_obeyed_by_the_next() {
    let world = World::started();
    let mut service = world.service("web").stays().down().place();
    service.receive("s");
    // As long as a process holds the FIFO, its content stays.
    let mut control = waiting::open_fifo(&service.dir.control_path());
    let mut bytes = b"x".to_vec();
    bytes.resize(5000, b'?');
    bytes.push(b'u');
    control.write_all(&bytes).unwrap();
    service.receive("xs");
    assert!(!service.send_and_see("d").is_up());
    assert_eq!(service.further_events(), "");
}

#[test]
fn a_flood_of_rescans_hurts_nobody() {
    let world = World::started();
    let mut neighbour = neighbour(&world);
    let nonblock = OFlags::NONBLOCK.bits().cast_signed();
    let control = world.scandir().join(".s6-svscan/control");
    let mut fifo = fs::OpenOptions::new().write(true).custom_flags(nonblock).open(control).unwrap();
    for _ in 0..200 {
        // Everything except the commands that end the supervisor.
        let _ = fifo.write(b"ahnNzahnNz\0\xff?");
    }
    still_served(&mut neighbour);
}

#[test]
fn a_control_fifo_that_was_deleted_or_replaced_costs_only_that_service() {
    let world = World::started();
    let mut neighbour = neighbour(&world);
    for kind in ["nothing", "file", "directory", "fifo", "link"] {
        let mut service = world.service(format!("victim-{kind}")).stays().place();
        service.receive("su");
        let control = service.dir.control_path();
        fs::remove_file(&control).unwrap();
        match kind {
            "file" => fs::write(&control, "x").unwrap(),
            "directory" => fs::create_dir(&control).unwrap(),
            "fifo" => drop(waiting::fifo(&control)),
            "link" => symlink("/etc/passwd", &control).unwrap(),
            _ => {}
        }
        // The service is supervised as before.
        crate::support::processes::signal(service.pid(), rustix::process::Signal::KILL);
        service.receive("dDu");
        still_served(&mut neighbour);
        service.hide();
        service.receive("dDx");
    }
}

#[test]
fn a_supervise_directory_that_is_deleted_costs_only_that_service() {
    let world = World::started();
    let mut neighbour = neighbour(&world);
    let mut service = world.service("victim").stays().place();
    service.receive("su");
    let pid = service.pid();
    fs::remove_dir_all(service.path("supervise")).unwrap();
    crate::support::processes::signal(pid, rustix::process::Signal::KILL);
    service.receive("dDu");
    assert!(world.said().contains("victim"), "{}", world.said());
    still_served(&mut neighbour);
    service.hide();
    service.receive("dDx");
}

#[test]
fn a_supervise_that_is_a_link_is_refused_and_its_target_is_not_touched() {
    let world = World::started();
    let mut neighbour = neighbour(&world);
    let target = world.root().join("target");
    fs::create_dir(&target).unwrap();
    let mut service = world
        .service("victim")
        .stays()
        .prepare(|dir| symlink(&target, dir.join("supervise")).unwrap())
        .place();
    let said = world.until_said("victim is not supervised");
    assert!(said.contains("supervise"), "{said}");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    assert_eq!(service.further_events(), "");
    still_served(&mut neighbour);
}

#[test]
fn links_in_place_of_the_supervisors_files_are_not_followed() {
    for entry in
        ["status", "status.new", "death_tally", "death_tally.new", "policy", "policy.new", "lock", "control"]
    {
        let world = World::started();
        let mut neighbour = neighbour(&world);
        let target = world.root().join("target");
        fs::write(&target, "precious").unwrap();
        let mut service = world
            .service("victim")
            .run("exit 78")
            .prepare(|dir| {
                fs::create_dir(dir.join("supervise")).unwrap();
                symlink(&target, dir.join("supervise").join(entry)).unwrap();
            })
            .place();
        if matches!(entry, "lock" | "control") {
            world.until_said("victim is not supervised");
        } else {
            service.receive("sudOD");
        }
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious", "{entry}");
        still_served(&mut neighbour);
    }
}

#[test]
fn directories_in_place_of_the_supervisors_files_cost_only_that_service() {
    let world = World::started();
    let mut neighbour = neighbour(&world);
    for entry in ["status", "status.new", "death_tally", "policy", "policy.new", "lock", "control"] {
        let mut service = world
            .service(format!("victim-{entry}"))
            .stays()
            .prepare(|dir| fs::create_dir_all(dir.join("supervise").join(entry).join("more")).unwrap())
            .place();
        still_served(&mut neighbour);
        let _ = service.further_events();
    }
}

#[test]
fn a_down_file_that_is_a_link_is_not_written_through() {
    let world = World::started();
    let target = world.root().join("target");
    let mut service =
        world.service("web").stays().prepare(|dir| symlink(&target, dir.join("down")).unwrap()).place();
    service.receive("s");
    service.send_and_see("D");
    assert!(!target.exists());
    service.send("U");
    service.receive("u");
    assert!(service.path("down").symlink_metadata().is_err());
}

#[test]
fn stale_subscribers_are_removed_and_other_files_are_left_alone() {
    const LISTENER: &str = "ftrig1:@4000000000000025000000";
    let world = World::started();
    let precious = world.root().join("precious");
    fs::write(&precious, "precious").unwrap();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    let event = service.path("event");
    for n in 10..40 {
        drop(waiting::fifo(&event.join(format!("{LISTENER}{n}:stale{}", n % 10))));
        fs::write(event.join(format!("{LISTENER}{n}:file_{}", n % 10)), "a file").unwrap();
        fs::write(event.join(format!("a-file-{n}")), "a file").unwrap();
        drop(waiting::fifo(&event.join(format!("a-fifo-{n}"))));
    }
    fs::hard_link(&precious, event.join(format!("{LISTENER}aa:linked"))).unwrap();
    symlink(&precious, event.join(format!("{LISTENER}ab:linked"))).unwrap();
    fs::create_dir(event.join(format!("{LISTENER}ac:direct"))).unwrap();
    let mut alive = waiting::fifo(&event.join(format!("{LISTENER}ad:alive1")));
    service.send("k");
    service.receive("dDu");
    let mut received = [0; 10];
    let count = alive.read(&mut received).unwrap();
    assert_eq!(&received[..count], b"dDu");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    let names: Vec<String> = fs::read_dir(&event)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert!(!names.iter().any(|name| name.contains("stale")), "{names:?}");
    let count = |word: &str| names.iter().filter(|name| name.contains(word)).count();
    assert_eq!([count(":file_"), count("a-file-"), count("a-fifo-")], [30, 30, 30], "{names:?}");
    assert!(
        names
            .iter()
            .filter(|name| name.contains(":file_"))
            .all(|name| fs::read_to_string(event.join(name)).unwrap() == "a file")
    );
    assert_eq!([count(":linked"), count(":direct")], [2, 1]);
}

#[test]
fn a_subscriber_that_does_not_read_costs_nobody_anything() {
    let world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    let mut deaf = waiting::fifo(&service.path("event/ftrig1:@400000000000002500000001:deaf01"));
    while deaf.write(&[b'.'; 4096]).is_ok() {}
    for _ in 0..5 {
        service.send("k");
        service.receive("dDu");
    }
    assert!(service.path("event/ftrig1:@400000000000002500000001:deaf01").exists(), "it has a reader");
}

#[test]
fn an_event_directory_that_is_a_file_or_missing_costs_only_its_subscribers() {
    let world = World::started();
    let mut neighbour = neighbour(&world);
    let mut service = world.service("victim").stays().place();
    service.receive("su");
    fs::remove_dir_all(service.path("event")).unwrap();
    fs::write(service.path("event"), "a file").unwrap();
    let pid = service.pid();
    service.send("k");
    let next = service.until_status("the next life", |status| {
        status.is_up() && status.pid.is_some_and(|now| now.get() != pid)
    });
    still_served(&mut neighbour);
    let held = Held::of(next.pid.unwrap().get()).unwrap();
    service.hide();
    held.until_gone("the service");
}

#[test]
fn a_standard_error_that_nobody_reads_does_not_stop_supervision() {
    // The supervisor's output goes into a pipe that is full and held open by a shell that never
    // reads.
    let mut world = World::new().prelude(
        "mkfifo \"$GATEVISOR_TEST_WORLD/full\"; exec 3<>\"$GATEVISOR_TEST_WORLD/full\"; yes | dd bs=4096 count=16 of=\"$GATEVISOR_TEST_WORLD/full\" 2>/dev/null; exec >&3 2>&3",
    );
    let mut services: Vec<Service> = (0..20)
        .map(|n| {
            world
                .service(format!("{}{n}", "n".repeat(240)))
                .data("backoff-first", 1)
                .data("backoff-max", 1)
                .place()
        })
        .collect();
    world.start();
    for service in &mut services {
        service.receive("s");
        service.until_policy("failed starts", |policy| policy.failures > 3);
    }
    let mut good = world.service("good").stays().place();
    good.receive("su");
}

#[test]
fn ten_thousand_stale_subscribers_are_removed_and_the_living_receive_events() {
    let world = World::started();
    let mut neighbour = neighbour(&world);
    let mut service = world.service("web").stays().place();
    service.receive("su");
    let event = service.path("event");
    for n in 10_000..20_000 {
        waiting::stale_fifo(&event.join(format!("ftrig1:@4000000000000025000{n}:stale1")));
    }
    service.send("k");
    service.receive("dDu");
    still_served(&mut neighbour);
    let stale = |name: &str| name.contains("stale");
    let left = fs::read_dir(&event)
        .unwrap()
        .filter(|entry| stale(&entry.as_ref().unwrap().file_name().to_string_lossy()));
    assert_eq!(left.count(), 0);
}

#[test]
fn a_hundred_subscribers_that_never_read_cost_nobody_anything() {
    let world = World::started();
    let mut neighbour = neighbour(&world);
    let mut service = world.service("web").stays().place();
    service.receive("su");
    let deaf: Vec<fs::File> = (100..200)
        .map(|n| {
            let mut deaf =
                waiting::fifo(&service.path(&format!("event/ftrig1:@400000000000002500000{n}:deaf01")));
            while deaf.write(&[b'.'; 4096]).is_ok() {}
            deaf
        })
        .collect();
    for _ in 0..3 {
        service.send("k");
        service.receive("dDu");
    }
    still_served(&mut neighbour);
    assert_eq!(deaf.len(), 100);
}

#[test]
fn a_megabyte_of_random_commands_for_the_scandir_hurts_nobody_until_one_ends_it() {
    let mut world = World::started();
    let mut neighbour = neighbour(&world);
    let mut control = waiting::open_fifo(&world.scandir().join(".s6-svscan/control"));
    let ends = |byte: &u8| b"biqt".contains(byte);
    let bytes: Vec<u8> = random_bytes().filter(|byte| !ends(byte)).take(1_000_000).collect();
    // Up to 4096 bytes are written as a whole or not at all.
    let mut flood = |chunk: &[u8]| {
        while control.write(chunk).is_err() {
            assert!(waiting::writable(&control, crate::support::soon()), "the flood is not taken in");
        }
    };
    for (n, chunk) in bytes.chunks(4096).enumerate() {
        flood(chunk);
        if n % 50 == 0 {
            still_served(&mut neighbour);
        }
    }
    still_served(&mut neighbour);
    // With the commands that end it, it ends as it should.
    let bytes: Vec<u8> = random_bytes().filter(|byte| *byte != b'b').take(4095).chain(*b"t").collect();
    flood(&bytes);
    neighbour.receive_until('x');
    assert_eq!(world.ended().code(), Some(0));
}
