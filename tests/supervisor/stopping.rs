//! Signals with a meaning, and what happens when a process ignores them.

use std::fs;

use crate::support::World;
use crate::support::processes::Held;

/// Ignores the signals that ask for the end, and records that it runs.
const STUBBORN: &str = "trap '' TERM HUP INT; : > stubborn; exec sleep 3600";

#[test]
fn a_service_that_ignores_the_down_signal_is_killed_when_its_time_is_over() {
    let world = World::started();
    let mut service = world.service("web").run(STUBBORN).file("timeout-kill", "300\n").place();
    service.receive("su");
    service.until_file("stubborn", "the trap", |_| true);
    service.send("d");
    service.receive("dD");
    assert_eq!(service.status().last.signal(), Some(9));
}

#[test]
fn a_service_that_heeds_the_down_signal_is_not_killed() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run("trap 'echo bye > bye; exit 0' TERM; : > ready; sleep 3600 & wait")
        .file("timeout-kill", "15000\n")
        .place();
    service.receive("su");
    service.until_file("ready", "the trap", |_| true);
    service.send("d");
    service.receive("dD");
    assert_eq!(service.status().last.exit_code(), Some(0));
    assert!(service.path("bye").exists());
}

#[test]
fn the_time_to_kill_is_read_when_the_service_is_told_to_go_down() {
    let world = World::started();
    let mut service = world.service("web").run(STUBBORN).place();
    service.receive("su");
    service.until_file("stubborn", "the trap", |_| true);
    // It is not killed, because the slot sets no time for that.
    assert!(!service.send_and_see("d").want_up);
    assert!(service.status().is_up());
    fs::write(service.path("timeout-kill"), "100\n").unwrap();
    service.send("d");
    service.receive("dD");
    assert_eq!(service.status().last.signal(), Some(9));
}

#[test]
fn a_service_wanted_up_again_meanwhile_is_still_killed_and_then_started() {
    let world = World::started();
    let mut service = world.service("web").run(STUBBORN).file("timeout-kill", "300\n").place();
    service.receive("su");
    service.until_file("stubborn", "the trap", |_| true);
    service.send("du");
    service.receive("dDu");
    assert_eq!(service.status().last.signal(), Some(9));
    service.send("k");
}

/// A service with a child in its group. Both ignore requests to end.
const FAMILY: &str = "trap '' TERM HUP INT; sleep 3600 & echo $! > child; exec sleep 3600";

#[test]
fn with_the_flag_for_it_the_whole_group_is_killed_when_the_time_is_over() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run(FAMILY)
        .file("timeout-kill", "300\n")
        .file("flag-timeout-killpg", "")
        .place();
    service.receive("su");
    let held = Held::of(service.until_lines("child", 1)[0].parse().unwrap()).unwrap();
    service.send("d");
    service.receive("dD");
    held.until_gone("the child in the group");
}

#[test]
fn without_the_flag_the_process_alone_is_killed() {
    let world = World::started();
    let mut service = world.service("web").run(FAMILY).file("timeout-kill", "300\n").place();
    service.receive("su");
    let held = Held::of(service.until_lines("child", 1)[0].parse().unwrap()).unwrap();
    service.send("d");
    service.receive("dD");
    assert_eq!(service.status().last.signal(), Some(9));
    assert!(!held.is_gone());
}

#[test]
fn the_down_signal_can_be_another_one_by_name_or_number() {
    let world = World::started();
    for (n, word) in ["USR1", "SIGUSR1", "sigusr1", "10"].into_iter().enumerate() {
        let mut service = world
            .service(format!("s{n}"))
            .run("trap 'exit 7' USR1; trap 'exit 8' TERM; : > ready; sleep 3600 & while :; do wait; done")
            .file("down-signal", &format!("{word}\n"))
            .place();
        service.receive("su");
        service.until_file("ready", "the traps", |_| true);
        service.send("d");
        service.receive("dD");
        assert_eq!(service.status().last.exit_code(), Some(7), "{word}");
    }
}

#[test]
fn r_sends_the_down_signal_and_the_service_is_started_again() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run("trap 'exit 7' USR2; : > ready; sleep 3600 & while :; do wait; done")
        .file("down-signal", "USR2\n")
        .place();
    service.receive("su");
    service.until_file("ready", "the trap", |_| true);
    service.send("r");
    service.receive("dDu");
    assert_eq!(service.status().last.exit_code(), Some(7));
    assert!(service.status().want_up);
}

#[test]
fn l_sends_the_reload_signal_which_is_hangup_unless_the_slot_says_otherwise() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run("trap 'echo hup >> got' HUP; trap 'echo usr1 >> got' USR1; : > ready; sleep 3600 & while :; do wait; done")
        .place();
    service.receive("su");
    service.until_file("ready", "the traps", |_| true);
    service.send("l");
    assert_eq!(service.until_lines("got", 1), ["hup"]);
    fs::write(service.path("reload-signal"), "USR1\n").unwrap();
    service.send("l");
    assert_eq!(service.until_lines("got", 2), ["hup", "usr1"]);
    assert!(service.status().is_up());
}
