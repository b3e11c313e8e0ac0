//! What the supervisor and its clients meet in place of FIFOs and files that somebody replaced
//! while it runs.

use std::fs;
use std::process::{Command, Stdio};

use gatevisor_client::{ScanDir, ServiceDir};
use gatevisor_wire::scan::ScanCommand;
use rustix::process::Signal;

use crate::support::processes::{self, Held};
use crate::support::service::{neighbour, still_served};
use crate::support::wrong::{EVERY, PRECIOUS, Wrong, remove};
use crate::support::{World, soon};

/// Runs one of our applets, which must end by itself, and returns its exit code.
#[track_caller]
fn asked(world: &World, words: &str, path: &std::path::Path) -> i32 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatevisor"));
    command.arg("s6").args(words.split(' ')).arg(path).current_dir(world.root());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let held = Held::of(i32::try_from(child.id()).unwrap()).expect("it is our child");
    if !held.gone_by(soon()) {
        held.kill();
        panic!("`{words}` does not end");
    }
    child.wait().unwrap().code().unwrap_or_else(|| panic!("`{words}` was killed"))
}

#[test]
fn a_control_fifo_that_was_replaced_costs_that_service_its_commands_until_it_is_supervised_anew() {
    let world = World::started();
    let mut neighbour = neighbour(&world);
    for (n, wrong) in EVERY.into_iter().enumerate() {
        let mut service = world.service(format!("victim-{n}")).stays().place();
        service.receive("su");
        let control = service.dir.control_path();
        let held = wrong.replace(&control);
        if wrong != Wrong::HeldFifo {
            assert!(service.dir.send(&[]).is_err(), "{wrong:?}");
            for words in ["s6-svok", "s6-svstat", "s6-svc -wd -T 20 -d", "s6-svwait -t 20 -d"] {
                let code = asked(&world, words, service.dir.path());
                assert!([1, 102, 111].contains(&code), "`{words}` with {wrong:?}: {code}");
            }
        }
        if wrong == Wrong::File {
            assert_eq!(fs::read_to_string(&control).unwrap(), PRECIOUS);
        }
        // The service is supervised as before.
        processes::signal(service.pid(), Signal::KILL);
        service.receive("dDu");
        still_served(&mut neighbour);
        // A service that is moved out of the scandir, fixed and moved back is supervised again.
        let hidden = service.hide();
        service.receive("dDx");
        drop(held);
        remove(&hidden.join("supervise/control"));
        fs::rename(hidden, service.dir.path()).unwrap();
        world.rescan();
        service.receive("su");
        still_served(&mut service);
        service.hide();
        service.receive("dDx");
    }
}

#[test]
fn a_slot_with_something_else_for_a_control_fifo_is_refused_until_it_is_fixed() {
    let world = World::started();
    let mut neighbour = neighbour(&world);
    for (n, wrong) in EVERY.into_iter().enumerate() {
        if matches!(wrong, Wrong::Missing | Wrong::Fifo | Wrong::HeldFifo) {
            continue;
        }
        let name = format!("victim-{n}");
        let mut service = world
            .service(&name)
            .stays()
            .prepare(|dir| {
                fs::create_dir(dir.join("supervise")).unwrap();
                // The value that holds a socket is not needed here.
                drop(wrong.replace(&dir.join("supervise/control")));
            })
            .place();
        world.until_said(&format!("{name} is not supervised"));
        assert_eq!(service.further_events(), "", "{wrong:?}");
        still_served(&mut neighbour);
        remove(&service.dir.control_path());
        world.rescan();
        service.receive("su");
        still_served(&mut service);
        service.hide();
        service.receive("dDx");
    }
}

#[test]
fn files_of_a_running_service_that_were_replaced_are_written_anew_or_cost_only_that_service() {
    let world = World::started();
    let mut neighbour = neighbour(&world);
    for entry in ["status", "death_tally", "policy", "lock"] {
        for (n, wrong) in EVERY.into_iter().enumerate() {
            let mut service = world.service(format!("victim-{entry}-{n}")).stays().place();
            service.receive("su");
            let file = service.path("supervise").join(entry);
            let held = wrong.replace(&file);
            for words in ["s6-svok", "s6-svstat", "s6-svdt", "s6-svwait -t 20 -u"] {
                let code = asked(&world, words, service.dir.path());
                assert!([0, 1, 99, 102, 111].contains(&code), "`{words}` with {wrong:?}: {code}");
            }
            service.send("k");
            service.receive("dDu");
            let replaced = matches!(wrong, Wrong::Directory | Wrong::FullDirectory);
            if entry == "status" && !replaced {
                assert!(service.status().is_up(), "{wrong:?}");
            }
            still_served(&mut neighbour);
            service.hide();
            service.receive("dDx");
            drop(held);
        }
    }
}

#[test]
fn a_scandir_without_its_control_fifo_serves_on_and_obeys_signals() {
    for wrong in EVERY {
        let mut world = World::started();
        let mut neighbour = neighbour(&world);
        let scandir = ScanDir::new(world.scandir());
        let held = wrong.replace(&scandir.control_path());
        if wrong != Wrong::HeldFifo {
            assert!(scandir.send(&[ScanCommand::Rescan]).is_err(), "{wrong:?}");
            let code = asked(&world, "s6-svscanctl -a", scandir.path());
            assert!([100, 102, 111].contains(&code), "{wrong:?}: {code}");
        }
        if wrong == Wrong::File {
            assert_eq!(fs::read_to_string(scandir.control_path()).unwrap(), PRECIOUS);
        }
        still_served(&mut neighbour);
        // A request by a signal needs no FIFO.
        let hidden = neighbour.hide();
        neighbour.receive("dDx");
        fs::rename(hidden, neighbour.dir.path()).unwrap();
        world.signal(Signal::HUP);
        neighbour.receive("su");
        still_served(&mut neighbour);
        assert_eq!(world.stop().code(), Some(0), "{wrong:?}");
        neighbour.receive("dDx");
        drop(held);
    }
}

#[test]
fn a_scandir_with_something_else_for_a_control_fifo_is_refused_and_nothing_in_it_is_touched() {
    for wrong in EVERY {
        if matches!(wrong, Wrong::Missing | Wrong::Fifo | Wrong::HeldFifo) {
            continue;
        }
        let mut world = World::new();
        let scandir = ScanDir::new(world.scandir());
        let held = wrong.replace(&scandir.control_path());
        let service = world.service("web").stays().place();
        let mut child = world.command().stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let process = Held::of(i32::try_from(child.id()).unwrap()).expect("it is our child");
        let in_time = process.gone_by(soon());
        if !in_time {
            process.kill();
        }
        let code = child.wait().unwrap().code();
        assert!(in_time && matches!(code, Some(100 | 111)), "{wrong:?}: {code:?}");
        assert!(!service.path("supervise").exists(), "{wrong:?}");
        if wrong == Wrong::File {
            assert_eq!(fs::read_to_string(scandir.control_path()).unwrap(), PRECIOUS);
        }
        drop(held);
        // Once corrected, it is supervised.
        remove(&scandir.control_path());
        world.start();
        assert!(ServiceDir::new(service.dir.path()).path().is_dir());
        drop(service);
        assert_eq!(world.stop().code(), Some(0));
    }
}
