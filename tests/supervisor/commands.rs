//! Every byte of `supervise/control`.

use rustix::process::Signal;

use crate::support::World;
use crate::support::processes::{self, Held};

#[test]
fn each_signal_byte_reaches_the_process() {
    let world = World::started();
    let service = world.service("web").notes_signals();
    let bytes = "hiqb12atcy";
    let names = ["HUP", "INT", "QUIT", "ABRT", "USR1", "USR2", "ALRM", "TERM", "CONT", "WINCH"];
    for (n, byte) in bytes.chars().enumerate() {
        service.send(&byte.to_string());
        let received = service.until_lines("received", n + 1);
        assert_eq!(received[n], names[n], "`{byte}`");
    }
    assert_eq!(service.until_lines("received", 10), names);
    assert!(service.status().is_up());
    service.send("dk");
}

#[test]
fn k_kills_the_process_and_the_next_one_is_started() {
    let world = World::started();
    let mut service = world.service("web").notes_signals();
    service.send("k");
    service.receive("dDu");
    assert_eq!(service.status().last.signal(), Some(9));
    service.send("dk");
}

#[test]
fn a_paused_service_shows_it_in_its_status_until_it_is_continued() {
    let world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    let pid = service.pid();
    for (pause, resume) in [("p", "c"), ("P", "C")] {
        assert!(service.send_and_see(pause).paused, "{pause}");
        processes::until_state(pid, "T");
        assert!(!service.send_and_see(resume).paused, "{resume}");
        processes::until_state(pid, "SR");
    }
    assert_eq!((service.pid(), service.further_events().as_str()), (pid, ""));
}

#[test]
fn signals_in_upper_case_reach_the_whole_group() {
    let world = World::started();
    let mut service = world.service("web").run("sleep 3600 & echo $! > child; exec sleep 3600").place();
    service.receive("su");
    let child: i32 = service.until_lines("child", 1)[0].parse().unwrap();
    service.send("P");
    processes::until_state(child, "T");
    service.send("C");
    processes::until_state(child, "SR");
    let held = Held::of(child).unwrap();
    service.send("K");
    held.until_gone("the child in the group");
    service.receive("dDu");
}

#[test]
fn signals_in_lower_case_reach_the_process_alone() {
    let world = World::started();
    let mut service = world.service("web").run("sleep 3600 & echo $! > child; exec sleep 3600").place();
    service.receive("su");
    let held = Held::of(service.until_lines("child", 1)[0].parse().unwrap()).unwrap();
    service.send("k");
    service.receive("dDu");
    assert!(!held.is_gone());
}

#[test]
fn down_brings_a_service_down_and_leaves_it_down_and_up_starts_it_again() {
    let world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    service.send("d");
    service.receive("dD");
    let status = service.status();
    assert!(!status.want_up && status.pid.is_none() && status.last.signal() == Some(15), "{status:?}");
    // Nothing happens to the service, but the request is confirmed.
    service.send_and_see("d");
    assert_eq!(service.further_events(), "");
    service.send("u");
    service.receive("u");
    assert!(service.status().want_up);
    // It is up already.
    service.send_and_see("u");
    assert_eq!(service.further_events(), "");
}

#[test]
fn a_paused_service_can_be_brought_down() {
    let world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    service.send_and_see("p");
    service.send("d");
    service.receive("dD");
    assert!(!service.status().paused);
}

#[test]
fn down_and_up_in_one_write_is_a_restart() {
    let world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    let pid = service.pid();
    for _ in 0..20 {
        service.send("du");
        service.receive("dDu");
    }
    assert_ne!(service.pid(), pid);
    assert!(service.status().want_up);
}

#[test]
fn up_and_down_in_one_write_leaves_it_down() {
    let world = World::started();
    let mut service = world.service("web").stays().down().place();
    service.receive("s");
    for _ in 0..20 {
        // The third byte ends the supervision of a service that is down, so its events show that
        // nothing happened before.
        service.send("udx");
        service.receive("xs");
    }
}

#[test]
fn a_service_whose_down_comes_while_it_is_being_started_goes_down() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run("trap '' TERM; sleep 3600 & while :; do wait; done")
        .file("timeout-kill", "50\n")
        .down()
        .place();
    service.receive("s");
    for _ in 0..60 {
        // There are two writes, so the supervisor may have forked in between.
        service.send("u");
        service.send("d");
        service.until_status("down", |status| status.pid.is_none() && !status.want_up);
        // A process that was being started has died too, so the next one is new.
        service.send("o");
        service.receive_until('u');
        service.send("d");
        service.receive_until('D');
    }
}

#[test]
fn a_service_with_a_down_file_waits_until_it_is_wanted() {
    let world = World::started();
    let mut service = world.service("web").stays().down().place();
    let mut other = world.service("xyz").stays().place();
    other.receive("su");
    service.receive("s");
    let status = service.status();
    assert!(!status.want_up && status.never_started(), "{status:?}");
    service.send("u");
    service.receive("u");
    // The present request does not change the normal state.
    assert_eq!(service.dir.normally_up(), Some(false));
}

#[test]
fn capital_u_d_and_q_keep_the_down_file_in_step_with_the_request() {
    let world = World::started();
    let mut service = world.service("web").stays().down().place();
    service.receive("s");
    service.send("U");
    service.receive("u");
    assert_eq!(service.dir.normally_up(), Some(true));
    service.send("D");
    service.receive("dD");
    assert_eq!(service.dir.normally_up(), Some(false));
    // Once more, when the file already exists.
    service.send_and_see("D");
    assert_eq!(service.dir.normally_up(), Some(false));
    service.send("U");
    service.receive("u");
    assert_eq!(service.dir.normally_up(), Some(true));
    assert!(!service.send_and_see("Q").want_up);
    assert!(service.dir.normally_up() == Some(false) && service.status().is_up());
    service.send("k");
    service.receive("dD");
    service.send("UU");
    service.receive("u");
    assert_eq!(service.dir.normally_up(), Some(true));
}

#[test]
fn a_down_file_made_by_command_holds_over_a_restart_of_the_supervisor() {
    let mut world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    service.send("D");
    service.receive("dD");
    assert!(world.stop().success());
    world.start();
    service.receive("xs");
    assert!(!service.status().want_up);
    service.send("U");
    service.receive("u");
    assert!(world.stop().success());
    world.start();
    service.receive("dDxsu");
}

#[test]
fn once_starts_a_service_that_is_down_and_does_not_start_it_again() {
    let world = World::started();
    let mut service = world.service("web").run("read line < go").gate("go").down().place();
    service.receive("s");
    service.send("o");
    service.receive("u");
    assert!(!service.status().want_up);
    service.pass("go", "go");
    service.receive("dD");
    service.send_and_see("O");
    assert_eq!(service.further_events(), "");
}

#[test]
fn once_lets_a_service_that_is_up_run_to_its_end() {
    let world = World::started();
    for command in ["o", "O"] {
        let mut service = world.service(format!("web{command}")).run("read line < go").gate("go").place();
        service.receive("su");
        let pid = service.pid();
        let status = service.send_and_see(command);
        assert!(!status.want_up && status.is_up(), "{status:?}");
        assert_eq!(service.pid(), pid);
        service.pass("go", "go");
        service.receive("dD");
        service.send_and_see("O");
        assert_eq!(service.further_events(), "");
    }
}

#[test]
fn bytes_without_a_meaning_are_ignored() {
    let world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    let pid = service.pid();
    service.send("\0\n zZ%~g");
    // The commands after them are obeyed.
    assert!(service.send_and_see("\u{7f}p").paused);
    service.send_and_see("c");
    assert_eq!((service.pid(), service.further_events().as_str()), (pid, ""));
}

#[test]
fn signals_to_a_service_that_is_down_are_nothing() {
    let world = World::started();
    let mut service = world.service("web").stays().down().place();
    service.receive("s");
    service.send("abqhkti12pcyrlPCKO");
    service.send_and_see("d");
    assert_eq!(service.further_events(), "");
    assert!(service.status().never_started());
    service.send("u");
    service.receive("u");
    assert!(!service.status().paused);
}

#[test]
fn x_ends_supervision_of_a_service_that_is_down_and_a_new_one_begins_with_its_directory_still_there() {
    let world = World::started();
    let mut service = world.service("web").stays().down().place();
    service.receive("s");
    for _ in 0..10 {
        service.send("x");
        service.receive("xs");
    }
    assert!(service.status().never_started());
    service.send("u");
    service.receive("u");
}

#[test]
fn x_lets_a_service_that_is_up_run_to_its_end_and_then_begins_anew() {
    let world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    let pid = service.pid();
    service.send("x");
    // The service is supervised as before until it dies.
    let status = service.send_and_see("c");
    assert!(status.is_up() && status.pid.is_some_and(|now| now.get() == pid), "{status:?}");
    processes::signal(pid, Signal::TERM);
    service.receive("dDxsu");
    assert!(service.dir.deaths().is_empty(), "the death tally begins anew");
}

#[test]
fn down_and_x_in_one_write_bring_it_down_and_begin_anew_as_its_down_file_says() {
    let world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    service.send("Dx");
    service.receive("dDxs");
    assert!(!service.status().want_up);
    service.send("U");
    service.receive("u");
}

#[test]
fn a_thousand_commands_in_one_write_are_all_obeyed_in_order() {
    let world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    // Many contradicting requests, of which the last one is to be down.
    let bytes = "Oc".repeat(500) + "d";
    service.send(&bytes);
    service.receive("dD");
    assert!(!service.status().want_up);
}
