//! Services whose `run` cannot be executed: what is reported about them, and that they can be
//! fixed.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use gatevisor_wire::policy::{PublishedPolicy, RestartPhase};

use crate::support::service::{Builder, Service};
use crate::support::{World, executable};

/// Longer than any test runs.
const LONG_MS: u32 = 1_000_000;

fn patient(builder: Builder<'_>) -> Service {
    builder.data("backoff-first", LONG_MS).data("backoff-max", LONG_MS).place()
}

fn failed(service: &mut Service) -> PublishedPolicy {
    service.receive("s");
    service.until_policy("a failed start", |policy| policy.phase == RestartPhase::FailedToStart)
}

/// Checks how it failed, that it waits, and that it runs once it is fixed and requested.
fn check(world: &World, mut service: Service, errno: i32) {
    let policy = failed(&mut service);
    let reason = policy.reason.clone().unwrap();
    assert!(reason.contains("executing") && reason.contains("./run"), "{reason}");
    assert!(reason.contains(&format!("errno {errno}")), "{reason}");
    assert!(policy.until.is_some_and(|until| until > service.status().changed), "{policy:?}");
    let status = service.status();
    assert!(status.want_up && status.pid.is_none() && !status.finishing, "{status:?}");
    assert!(world.said().contains(&reason), "{}", world.said());
    assert_eq!(service.further_events(), "");
    if service.path("run").is_dir() {
        fs::remove_dir(service.path("run")).unwrap();
    }
    service.rewrite_run("exec sleep 3600");
    service.send("u");
    service.receive("u");
    assert!(service.status().is_up());
    assert_eq!((service.policy().phase, service.policy().reason), (RestartPhase::Running, None));
}

#[test]
fn a_service_without_run_says_that_it_is_missing_and_starts_when_it_is_there_and_asked_for() {
    let world = World::started();
    check(&world, patient(world.service("web")), 2);
}

#[test]
fn a_run_that_is_not_executable_says_so_and_starts_when_it_is_fixed_and_asked_for() {
    let world = World::started();
    let service = world.service("web").file("run", "#!/bin/sh\nexec sleep 3600\n");
    check(&world, patient(service), 13);
}

#[test]
fn a_run_whose_interpreter_is_missing_says_so_and_starts_when_it_is_fixed_and_asked_for() {
    let world = World::started();
    let service = world.service("web").executable("run", "#!/nonexistent/interpreter\n");
    check(&world, patient(service), 2);
}

#[test]
fn a_run_of_an_unknown_format_says_so_and_starts_when_it_is_fixed_and_asked_for() {
    let world = World::started();
    let service = world.service("web").executable("run", "no first line that anybody knows\n");
    check(&world, patient(service), 8);
}

#[test]
fn a_run_that_is_a_directory_says_so_and_starts_when_it_is_fixed_and_asked_for() {
    let world = World::started();
    let service = world.service("web").prepare(|dir| fs::create_dir(dir.join("run")).unwrap());
    check(&world, patient(service), 13);
}

#[test]
fn a_service_that_cannot_be_started_is_tried_again_by_itself() {
    let world = World::started();
    let mut service = world.service("web").data("backoff-first", 10).data("backoff-max", 10).place();
    failed(&mut service);
    service.rewrite_run("exec sleep 3600");
    service.receive("u");
    // No start has succeeded before, so this is not a restart.
    assert_eq!((service.policy().phase, service.policy().restarts), (RestartPhase::Running, 0));
}

#[test]
fn a_service_that_cannot_be_started_any_more_says_so_after_its_death() {
    let world = World::started();
    let mut service = patient(world.service("web").stays());
    service.receive("su");
    fs::set_permissions(service.path("run"), fs::Permissions::from_mode(0o644)).unwrap();
    service.send("k");
    service.receive("dD");
    service.until_policy("a failed start", |policy| policy.phase == RestartPhase::FailedToStart);
    fs::set_permissions(service.path("run"), fs::Permissions::from_mode(0o755)).unwrap();
    service.send("u");
    service.receive("u");
}

#[test]
fn a_service_that_cannot_be_started_is_given_up_after_as_many_failures_as_the_slot_names() {
    let world = World::started();
    let mut service = world.service("web").data("give-up-after", 3).data("backoff-first", 1).place();
    service.receive("s");
    service.until_status("no request", |status| !status.want_up);
    let policy = service.until_policy("the last failure", |policy| policy.failures == 3);
    assert_eq!((policy.until, policy.reason.is_some()), (None, true), "{policy:?}");
    service.rewrite_run("exec sleep 3600");
    service.send("u");
    service.receive("u");
}

#[test]
fn a_failed_start_that_is_no_longer_wanted_is_not_tried_again() {
    let world = World::started();
    let mut service = patient(world.service("web"));
    failed(&mut service);
    assert!(!service.send_and_see("d").want_up);
    assert_eq!((service.policy().phase, service.policy().until), (RestartPhase::Running, None));
    service.rewrite_run("exec sleep 3600");
    service.send("o");
    service.receive("u");
}

#[test]
fn a_single_run_that_cannot_be_started_is_not_tried_again() {
    let world = World::started();
    let mut service = world.service("web").down().place();
    service.receive("s");
    service.send("o");
    let policy = service.until_policy("a failed start", |policy| policy.phase == RestartPhase::FailedToStart);
    assert_eq!(policy.until, None);
}

#[test]
fn a_descriptor_number_beyond_the_limit_is_a_failed_start_and_says_at_which_step() {
    let world = World::started();
    let mut service = patient(world.service("web").stays().file("notification-fd", "2000000000\n"));
    let reason = failed(&mut service).reason.unwrap();
    assert!(reason.contains("passing descriptors"), "{reason}");
    fs::write(service.path("notification-fd"), "3\n").unwrap();
    service.send("u");
    service.receive("u");
}

#[test]
fn a_failed_start_is_told_from_a_death_whatever_number_the_readiness_descriptor_has() {
    let world = World::started();
    let mut service = patient(world.service("web").executable("run", "#!/nonexistent/interpreter\n"));
    let mut until = failed(&mut service).until;
    // One of these numbers is the descriptor on which the supervisor receives the failure.
    for fd in 3..60 {
        fs::write(service.path("notification-fd"), format!("{fd}\n")).unwrap();
        service.send("u");
        let policy = service.until_policy("the next failed start", |policy| policy.until != until);
        assert_eq!(policy.phase, RestartPhase::FailedToStart, "{fd}");
        until = policy.until;
    }
    assert_eq!(service.further_events(), "");
}

#[test]
fn a_run_that_is_a_link_to_a_program_is_executed() {
    let world = World::started();
    executable(&world.root().join("program"), "#!/bin/sh\nexec sleep 3600\n");
    let mut service = world
        .service("web")
        .prepare(|dir| std::os::unix::fs::symlink(world.root().join("program"), dir.join("run")).unwrap())
        .place();
    service.receive("su");
}

#[test]
fn many_services_that_cannot_be_started_do_not_keep_others_from_starting() {
    let world = World::started();
    let broken: Vec<Service> = (0..60)
        .map(|n| world.service(format!("broken{n}")).data("backoff-first", 1).data("backoff-max", 5).place())
        .collect();
    let mut good = world.service("good").stays().place();
    good.receive("su");
    good.send("k");
    good.receive("dDu");
    for service in broken {
        service.until_policy("a failed start", |policy| policy.failures > 1);
    }
}
