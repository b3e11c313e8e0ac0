//! Many services, many cycles, and an idle supervisor.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use gatevisor_wire::scan::ScanCommand;
use rustix::event::{Timespec, poll};
use rustix::process::Signal;

use crate::support::processes::{self, children};
use crate::support::service::Service;
use crate::support::{World, waiting};

#[test]
fn two_hundred_services_are_all_up_at_once_and_all_gone_after_the_end() {
    let mut world = World::new();
    let mut services: Vec<Service> = (0..200)
        .map(|n| {
            let builder = world.service(format!("s{n}")).stays();
            if n % 10 == 0 { builder.log("exec cat > lines").place() } else { builder.place() }
        })
        .collect();
    world.start();
    for service in &mut services {
        service.receive("su");
        assert!(service.status().is_up());
    }
    let pids: std::collections::HashSet<i32> = services.iter().map(Service::pid).collect();
    assert_eq!(pids.len(), 200);
    assert!(world.stop().success());
    for service in &mut services {
        service.receive("dDx");
        assert_eq!((service.status().pid, service.dir.supervised().unwrap()), (None, false));
        assert!(service.try_send("u").is_err());
    }
}

#[test]
fn two_hundred_services_killed_at_once_are_all_up_again() {
    let mut world = World::new();
    let mut services: Vec<Service> =
        (0..200).map(|n| world.service(format!("s{n}")).stays().place()).collect();
    world.start();
    for service in &mut services {
        service.receive("su");
    }
    for service in &services {
        processes::signal(service.pid(), Signal::KILL);
    }
    for service in &mut services {
        service.receive("dDu");
    }
    let mut running: Vec<i32> = services.iter().map(Service::pid).collect();
    running.sort_unstable();
    let mut children = children(world.pid());
    children.sort_unstable();
    assert_eq!(children, running, "no zombie, and nothing runs twice");
}

/// Waits until the supervisor has no more descriptors than before. Work that is still going on
/// opens and closes some.
fn no_more_descriptors(world: &World, before: &[String]) {
    waiting::polled(&format!("no more descriptors than {before:#?}"), || {
        (processes::descriptors(world.pid()).len() <= before.len()).then_some(())
    });
}

#[test]
fn fifty_lives_of_a_service_leave_no_descriptor_behind() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run("echo >&3; exec sleep 3600")
        .finish("exit 0")
        .log("exec cat > lines")
        .file("notification-fd", "3\n")
        .place();
    service.receive("suU");
    service.logger().receive("su");
    service.send_and_see("c");
    service.logger().send_and_see("c");
    let before = processes::descriptors(world.pid());
    for n in 0..50 {
        if n % 5 == 0 {
            service.logger().send("k");
            service.logger().receive("dDu");
        }
        service.send("k");
        service.receive("dDuU");
    }
    service.send_and_see("c");
    service.logger().send_and_see("c");
    no_more_descriptors(&world, &before);
}

#[test]
fn fifty_failed_starts_leave_no_descriptor_behind() {
    let world = World::started();
    let mut service =
        world.service("web").stays().file("notification-fd", "3\n").data("backoff-max", 1).place();
    service.receive("su");
    service.send_and_see("c");
    let before = processes::descriptors(world.pid());
    fs::rename(service.path("run"), service.path("not-run")).unwrap();
    service.send("k");
    service.receive("dD");
    service.until_policy("many failed starts", |policy| policy.failures > 50);
    fs::rename(service.path("not-run"), service.path("run")).unwrap();
    service.receive("u");
    service.send_and_see("c");
    no_more_descriptors(&world, &before);
}

#[test]
fn fifty_slots_that_came_and_went_leave_no_descriptor_behind() {
    let world = World::started();
    let mut other = world.service("other").stays().place();
    other.receive("su");
    other.send_and_see("c");
    let before = processes::descriptors(world.pid());
    for n in 0..50 {
        let builder = world.service("web").stays().file("notification-fd", "3\n");
        let mut service = if n % 2 == 0 { builder.place() } else { builder.log("exec cat > lines").place() };
        service.receive("su");
        if n % 2 == 1 {
            service.logger().receive("su");
        }
        let hidden = service.hide();
        service.receive("dDx");
        if n % 2 == 1 {
            service.logger().receive("dDx");
        }
        fs::remove_dir_all(hidden).unwrap();
    }
    other.send_and_see("c");
    no_more_descriptors(&world, &before);
}

#[test]
fn fifty_refused_slots_leave_no_descriptor_behind() {
    let world = World::started();
    let mut other = world.service("other").stays().place();
    other.receive("su");
    other.send_and_see("c");
    let before = processes::descriptors(world.pid());
    let mut services = Vec::new();
    for n in 0..50 {
        let builder = world.service(format!("s{n}")).stays();
        services.push(match n % 3 {
            0 => builder.file("supervise", "a file").place(),
            1 => builder.file("supervise/control", "a file").place(),
            _ => builder.log("").file("log/supervise", "a file").place(),
        });
    }
    world.until_said("s49 is not supervised");
    other.send_and_see("c");
    no_more_descriptors(&world, &before);
}

#[test]
fn with_too_few_descriptors_for_all_services_it_serves_as_many_as_it_can() {
    let mut world = World::new().prelude("ulimit -n 160");
    let mut services: Vec<Service> = (0..60)
        .map(|n| world.service(format!("s{n}")).stays().file("notification-fd", "3\n").place())
        .collect();
    world.start();
    world.until_said("is not supervised");
    // Every service that is supervised works.
    let mut served: Vec<&mut Service> = Vec::new();
    for service in &mut services {
        if service.dir.supervised().unwrap() {
            service.receive("su");
            service.send("k");
            service.receive("dDu");
            served.push(service);
        }
    }
    assert!((5..60).contains(&served.len()), "{}", served.len());
    // When some go, others are accepted. The exact number depends on what was open when each was
    // looked at.
    let before = served.len();
    let places: Vec<_> = served.iter().map(|service| service.hide()).collect();
    for service in served {
        service.receive("dDx");
    }
    waiting::polled("half as many others", || {
        let is_served = |service: &&Service| service.dir.supervised().unwrap();
        (services.iter().filter(is_served).count() >= before.div_ceil(2)).then_some(())
    });
    drop(places);
}

#[test]
fn a_supervisor_with_nothing_to_do_does_nothing() {
    let mut world = World::new();
    let mut services: Vec<Service> = (0..100)
        .map(|n| {
            let builder = world.service(format!("s{n}")).stays();
            match n % 4 {
                0 => builder.down().place(),
                1 => builder.log("exec cat > lines").place(),
                2 => builder.file("notification-fd", "3\n").file("timeout-kill", "1000\n").place(),
                _ => builder.place(),
            }
        })
        .collect();
    world.start();
    for (n, service) in services.iter_mut().enumerate() {
        service.receive(if n % 4 == 0 { "s" } else { "su" });
        if n % 4 == 1 {
            service.logger().receive("su");
        }
    }
    world.scan_command(ScanCommand::Reap);
    services[1].send_and_see("c");
    // When the supervisor sleeps, it has finished its work.
    let pid = world.pid();
    waiting::polled("the supervisor asleep", || processes::stat(pid).filter(|stat| stat.state == 'S'));
    let switches = |pid| {
        (
            processes::status_line(pid, "voluntary_ctxt_switches"),
            processes::status_line(pid, "nonvoluntary_ctxt_switches"),
        )
    };
    // No event tells that a process only waits for events, so this pause is the measurement. It is
    // made twice, because the process may not have come to rest at the first time.
    let pause = Timespec { tv_sec: 1, tv_nsec: 0 };
    let _ = poll(&mut [], Some(&pause));
    let before = switches(pid);
    let _ = poll(&mut [], Some(&pause));
    assert_eq!(switches(pid), before, "it was woken by nobody and ran all the same");
}

#[test]
fn a_busy_neighbour_does_not_keep_the_events_of_others_from_arriving() {
    let world = World::started();
    let mut busy =
        world.service("busy").run("exit 75").data("backoff-max", 1).file("data/restart-codes", "").place();
    let mut calm = world.service("calm").stays().place();
    busy.receive("sudDudD");
    calm.receive("su");
    for _ in 0..20 {
        calm.send("k");
        calm.receive("dDu");
    }
    busy.send("d");
}

#[test]
fn tens_of_thousands_of_refused_names_take_hardly_any_memory() {
    let mut world = World::started();
    let mut first = world.service("first").stays().place();
    first.receive("su");
    let memory = || {
        let line = processes::status_line(world.pid(), "VmRSS");
        line.split_whitespace().find_map(|word| word.parse::<u64>().ok()).unwrap()
    };
    let before = memory();
    for n in 0..20_000 {
        let path = world.scandir().join(format!("{n}-{}", "x".repeat(200)));
        fs::create_dir(&path).unwrap();
        // Others may write to it, so it is refused.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    world.rescan();
    let mut last = world.service("last").stays().place();
    last.receive("su");
    world.scan_command(ScanCommand::Rescan);
    first.send("p");
    first.send("c");
    let grown = memory().saturating_sub(before);
    assert!(grown < 4096, "{grown} kB for names that are refused");
    assert_eq!(world.stop().code(), Some(0));
}
