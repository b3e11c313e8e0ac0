//! How long a service that keeps dying has to wait, and where this is published.

use gatevisor_wire::policy::{PublishedPolicy, RestartPhase};
use gatevisor_wire::status::Status;

use crate::support::World;
use crate::support::service::Service;

/// Longer than any test runs.
const LONG_MS: u32 = 1_000_000;

/// Dies at once, `times` times, and then again with a maximum delay that is long enough to be
/// observed.
fn dies(times: u32) -> String {
    format!("echo >> lives; [ $(wc -l < lives) -lt {times} ] || echo {LONG_MS} > data/backoff-max; exit 1")
}

/// Returns the milliseconds between the death and the next start, as published.
fn delay_ms(status: &Status, policy: &PublishedPolicy) -> u128 {
    policy.until.expect("a start is due").since(status.changed).expect("after the death").as_millis()
}

#[test]
fn the_first_restart_is_at_once_and_each_further_delay_is_twice_the_one_before() {
    let world = World::started();
    let mut services: Vec<(u32, Service)> = (2..=7)
        .map(|times| {
            let service = world
                .service(format!("s{times}"))
                .run(&dies(times))
                .data("backoff-first", 4000)
                .data("backoff-max", 1)
                .data("backoff-jitter", 0)
                .place();
            (times, service)
        })
        .collect();
    for (times, service) in &mut services {
        service.receive("s");
        for _ in 0..*times {
            service.receive("udD");
        }
        let (status, policy) = (service.status(), service.policy());
        assert_eq!((policy.phase, policy.failures), (RestartPhase::Backoff, *times));
        assert_eq!(policy.restarts, u64::from(*times - 1));
        assert_eq!(delay_ms(&status, &policy), 4000 << (*times - 2), "after {times} deaths");
        assert!(status.want_up && status.pid.is_none(), "{status:?}");
    }
}

#[test]
fn no_delay_is_longer_than_the_cap() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run("echo >> lives; [ $(wc -l < lives) -lt 6 ] || echo 70000 > data/backoff-max; exit 1")
        .data("backoff-first", 60_000)
        .data("backoff-max", 1)
        .data("backoff-jitter", 0)
        .place();
    service.receive("sudDudDudDudDudDudD");
    assert_eq!(delay_ms(&service.status(), &service.policy()), 70_000);
}

#[test]
fn delays_differ_by_a_tenth_at_the_most_and_between_services() {
    let world = World::started();
    let mut services: Vec<Service> = (0..8)
        .map(|n| {
            world
                .service(format!("s{n}"))
                .run("exit 1")
                .data("backoff-first", 100_000)
                .data("backoff-max", LONG_MS)
                .place()
        })
        .collect();
    let mut delays: Vec<u128> = services
        .iter_mut()
        .map(|service| {
            service.receive("sudDudD");
            delay_ms(&service.status(), &service.policy())
        })
        .collect();
    assert!(delays.iter().all(|delay| (90_000..=110_000).contains(delay)), "{delays:?}");
    delays.sort_unstable();
    delays.dedup();
    assert!(delays.len() > 4, "{delays:?}");
}

#[test]
fn the_next_start_does_not_come_before_the_time_that_was_published() {
    let world = World::started();
    let mut service =
        world.service("web").run("exit 1").data("backoff-first", 3000).data("backoff-max", 3000).place();
    service.receive("sudDudD");
    let policy = service.until_policy("the delay", |policy| policy.until.is_some());
    service.receive("u");
    let up_at = service.status().changed;
    assert!(up_at >= policy.until.unwrap(), "{policy:?} {up_at:?}");
    service.send("d");
}

#[test]
fn numbers_are_read_anew_at_each_death() {
    let world = World::started();
    let mut service = world.service("web").run("read code < go; exit 1").gate("go").place();
    service.receive("su");
    service.pass("go", "1");
    service.receive("dDu");
    // Set while it runs.
    service.set("backoff-first", 123_456);
    service.set("backoff-max", LONG_MS);
    service.set("backoff-jitter", 0);
    service.pass("go", "1");
    service.receive("dD");
    assert_eq!(delay_ms(&service.status(), &service.policy()), 123_456);
}

#[test]
fn a_run_as_long_as_the_slot_calls_stable_forgets_earlier_failures() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run("read code < go; exit 1")
        .gate("go")
        .data("backoff-first", LONG_MS)
        .data("backoff-max", LONG_MS)
        .place();
    service.receive("su");
    service.pass("go", "1");
    service.receive("dDu");
    // Any run is longer than this.
    service.set("stable-after", 0);
    service.pass("go", "1");
    service.receive("dDu");
    service.pass("go", "1");
    service.receive("dDu");
    service.set("stable-after", LONG_MS);
    service.pass("go", "1");
    service.receive("dD");
    assert_eq!((service.policy().phase, service.policy().failures), (RestartPhase::Backoff, 2));
}

fn in_back_off(world: &World) -> Service {
    let mut service = world
        .service("web")
        .run("echo >> lives; exit 1")
        .data("backoff-first", LONG_MS)
        .data("backoff-max", LONG_MS)
        .place();
    service.receive("sudDudD");
    assert_eq!(service.policy().phase, RestartPhase::Backoff);
    service
}

#[test]
fn asking_for_it_starts_a_waiting_service_at_once_and_forgets_its_failures() {
    let world = World::started();
    let mut service = in_back_off(&world);
    service.send("u");
    // Again the first failure causes no wait, and the second one does.
    service.receive("udDudD");
    assert_eq!((service.policy().phase, service.policy().failures), (RestartPhase::Backoff, 2));
}

#[test]
fn a_waiting_service_that_is_wanted_down_waits_no_longer() {
    let world = World::started();
    let service = in_back_off(&world);
    assert!(!service.send_and_see("d").want_up);
    assert_eq!((service.policy().phase, service.policy().until), (RestartPhase::Running, None));
}

#[test]
fn a_waiting_service_that_is_not_wanted_again_is_not_said_to_wait() {
    let world = World::started();
    for command in ["O", "Q"] {
        let service = in_back_off(&world);
        assert!(!service.send_and_see(command).want_up);
        assert_eq!(
            (service.policy().phase, service.policy().until),
            (RestartPhase::Running, None),
            "{command}"
        );
        service.hide();
    }
}

#[test]
fn a_death_that_was_asked_for_is_no_failure_and_the_next_one_is() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run("read code < go; exit 1")
        .gate("go")
        .data("backoff-first", LONG_MS)
        .data("backoff-max", LONG_MS)
        .place();
    service.receive("su");
    for command in ["t", "k", "i", "r", "K"] {
        service.send(command);
        service.receive("dDu");
        assert_eq!(service.policy().failures, 0, "{command}");
    }
    // Nobody asked for these deaths.
    service.pass("go", "1");
    service.receive("dDu");
    service.pass("go", "1");
    service.receive("dD");
    assert_eq!((service.policy().phase, service.policy().failures), (RestartPhase::Backoff, 2));
}

#[test]
fn with_the_timing_of_s6_a_dead_service_rests_for_a_second() {
    let mut world = World::with(&["--s6-timing", "--grace-ms", "60000"]);
    world.start();
    let mut service = world.service("web").run("read code < go; exit 1").gate("go").place();
    service.receive("su");
    service.pass("go", "1");
    service.receive("dD");
    let died = service.dir.deaths()[0].at;
    service.receive("u");
    let up = service.status().changed;
    assert!(up.since(died).unwrap().as_millis() >= 1000, "{died:?} {up:?}");
}
