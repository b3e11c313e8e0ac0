//! What each byte of `supervise/control` does.

use crate::bed::{cases, is_while_it_rests, state, until_state};
use crate::support::processes::{self, Held, signal};
use rustix::process::Signal;
use std::time::Duration;

cases! {
    fn each_signal_byte_reaches_the_process(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").notes_signals();
        let names = ["HUP", "INT", "QUIT", "ABRT", "USR1", "USR2", "ALRM", "TERM", "CONT", "WINCH"];
        for (n, byte) in "hiqb12atcy".chars().enumerate() {
            bed.svc(&service, &format!("-{byte}"));
            assert_eq!(service.until_lines("received", n + 1)[n], names[n], "`{byte}`");
        }
        assert_eq!(state(&service), "up, wanted");
        bed.svc(&service, "-Ok");
        service.receive("dD");
        assert_eq!(state(&service), "down after signal 9, ready");
    }

    fn r_sends_the_down_signal_and_the_service_stays_wanted(pairing) {
        let bed = pairing.started();
        let down = (0..5).any(|n| {
            let mut service = bed.service(format!("web{n}")).stays().file("down-signal", "USR1\n").place();
            service.receive("su");
            bed.svc(&service, "-r");
            service.receive("dD");
            is_while_it_rests(&service, "down after signal a, wanted, ready")
        });
        assert!(down);
    }

    fn p_pauses_and_c_continues_and_the_status_shows_it(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().place();
        service.receive("su");
        let pid = service.pid();
        assert_eq!(bed.svc_and_see(&service, "-p"), "up, paused, wanted");
        processes::until_state(pid, "T");
        assert_eq!(bed.svc_and_see(&service, "-c"), "up, wanted");
        processes::until_state(pid, "SR");
        assert_eq!((service.pid(), service.further_events().as_str()), (pid, ""));
    }

    #[skip(with_s6_as_supervisor, "s6 2.11 does not know P, C, K and l: they came with 2.12")]
    #[skip(with_s6_tools, "s6-svc 2.11 has no -P, -C, -K and -l: they came with 2.12")]
    fn capital_p_c_and_k_reach_the_whole_group(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").run("sleep 3600 & echo $! > child; exec sleep 3600").place();
        service.receive("su");
        let child: i32 = service.until_lines("child", 1)[0].parse().unwrap();
        bed.svc(&service, "-P");
        processes::until_state(child, "T");
        bed.svc(&service, "-C");
        processes::until_state(child, "SR");
        let held = Held::of(child).unwrap();
        bed.svc(&service, "-K");
        held.until_gone("the child in the group");
        service.receive("dD");
    }

    #[skip(with_s6_as_supervisor, "s6 2.11 does not know P, C, K and l: they came with 2.12")]
    #[skip(with_s6_tools, "s6-svc 2.11 has no -P, -C, -K and -l: they came with 2.12")]
    fn l_sends_the_reload_signal(pairing) {
        let bed = pairing.started();
        let service = bed.service("web").notes_signals();
        bed.svc(&service, "-l");
        assert_eq!(service.until_lines("received", 1), ["HUP"]);
        std::fs::write(service.path("reload-signal"), "USR2\n").unwrap();
        bed.svc(&service, "-l");
        assert_eq!(service.until_lines("received", 2), ["HUP", "USR2"]);
        bed.svc(&service, "-dk");
    }

    fn d_sends_the_down_signal_and_then_cont_and_the_service_stays_down(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").notes_signals();
        // A stopped process receives the two signals in this order only if TERM was sent first.
        bed.svc_and_see(&service, "-p");
        bed.svc(&service, "-d");
        let mut received = service.until_lines("received", 2);
        received.sort();
        assert_eq!(received, ["CONT", "TERM"]);
        until_state(&service, "up");
        bed.svc(&service, "-k");
        service.receive("dD");
        assert_eq!(state(&service), "down after signal 9, ready");
        assert_eq!(bed.svc_and_see(&service, "-d"), "down after signal 9, ready");
        assert_eq!(service.further_events(), "");
    }

    fn a_service_goes_down_and_up_again_without_rest_when_it_is_told(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().place();
        service.receive("su");
        for _ in 0..10 {
            bed.svc(&service, "-d");
            service.receive("dD");
            assert_eq!(state(&service), "down after signal f, ready");
            bed.svc(&service, "-u");
            service.receive("u");
            assert_eq!(state(&service), "up after signal f, wanted");
        }
    }

    fn once_starts_a_service_that_is_down_and_it_is_not_wanted(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").run("read line < go; exit 4").gate("go").down().place();
        service.receive("s");
        bed.svc(&service, "-o");
        service.receive("u");
        assert_eq!(state(&service), "up");
        service.pass("go", "go");
        service.receive("dD");
        assert_eq!(state(&service), "down after 4, ready");
        assert_eq!(bed.svc_and_see(&service, "-O"), "down after 4, ready");
        assert_eq!(service.further_events(), "");
    }

    fn once_and_no_restart_let_a_service_that_is_up_run_to_its_end(pairing) {
        let bed = pairing.started();
        for byte in ["o", "O"] {
            let mut service = bed.service(format!("web{byte}")).run("read line < go").gate("go").place();
            service.receive("su");
            let pid = service.pid();
            assert_eq!(bed.svc_and_see(&service, &format!("-{byte}")), "up");
            assert_eq!(service.pid(), pid);
            service.pass("go", "go");
            service.receive("dD");
            assert_eq!(state(&service), "down, ready");
            assert_eq!(bed.svc_and_see(&service, "-d"), "down, ready");
            assert_eq!(service.further_events(), "");
        }
    }

    fn capital_u_d_and_q_keep_the_down_file_in_step_with_the_request(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().down().place();
        service.receive("s");
        bed.svc(&service, "-U");
        service.receive("u");
        assert_eq!(service.dir.normally_up(), Some(true));
        bed.svc(&service, "-D");
        service.receive("dD");
        assert_eq!(service.dir.normally_up(), Some(false));
        bed.svc(&service, "-U");
        service.receive("u");
        assert_eq!(service.dir.normally_up(), Some(true));
        assert_eq!(bed.svc_and_see(&service, "-Q"), "up after signal f");
        assert_eq!(service.dir.normally_up(), Some(false));
        bed.svc(&service, "-k");
        service.receive("dD");
        assert_eq!(state(&service), "down after signal 9, ready");
    }

    fn commands_in_lower_case_leave_the_down_file_alone(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().down().place();
        service.receive("s");
        bed.svc(&service, "-u");
        service.receive("u");
        assert_eq!(service.dir.normally_up(), Some(false));
        bed.svc(&service, "-d");
        service.receive("dD");
        std::fs::remove_file(service.path("down")).unwrap();
        bed.svc_and_see(&service, "-d");
        assert_eq!(service.dir.normally_up(), Some(true));
    }

    fn x_ends_supervision_of_a_service_that_is_down_and_it_is_supervised_anew(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().down().place();
        service.receive("s");
        bed.svc(&service, "-x");
        service.receive("xs");
        assert_eq!(state(&service), "down, ready");
    }

    fn x_lets_a_service_that_is_up_run_to_its_end(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").run("read line < go; exit 2").gate("go").place();
        service.receive("su");
        let pid = service.pid();
        bed.svc(&service, "-x");
        assert_eq!(bed.svc_and_see(&service, "-c"), "up, wanted");
        assert_eq!(service.pid(), pid);
        service.pass("go", "go");
        service.receive("dDxsu");
        assert_eq!(state(&service), "up, wanted");
        assert!(service.dir.deaths().is_empty(), "the tally begins anew");
    }

    fn signals_reach_a_service_whose_supervision_ends_with_it(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").notes_signals();
        bed.svc(&service, "-x");
        bed.svc(&service, "-1");
        service.until_lines("received", 1);
        assert_eq!(bed.svc_and_see(&service, "-p"), "up, paused, wanted");
        assert_eq!(bed.svc_and_see(&service, "-c"), "up, wanted");
        assert_eq!(bed.svc_and_see(&service, "-Q"), "up");
        bed.svc(&service, "-k");
        service.receive("dDxs");
    }

    fn down_and_exit_in_one_command_end_both(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().place();
        service.receive("su");
        bed.svc(&service, "-Dx");
        service.receive("dDxs");
        assert_eq!(state(&service), "down, ready");
    }

    fn several_commands_in_one_call_are_obeyed_in_order(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().place();
        service.receive("su");
        bed.svc(&service, "-Op");
        until_state(&service, "up, paused");
        bed.svc(&service, "-kd");
        service.receive("dD");
        assert_eq!(state(&service), "down after signal 9, ready");
    }

    fn bytes_without_a_meaning_are_ignored(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().place();
        service.receive("su");
        let pid = service.pid();
        service.send("\0\n zZ%~gwWT");
        assert_eq!(bed.svc_and_see(&service, "-p"), "up, paused, wanted");
        assert_eq!(bed.svc_and_see(&service, "-c"), "up, wanted");
        assert_eq!((service.pid(), service.further_events().as_str()), (pid, ""));
    }

    fn a_thousand_bytes_in_one_write_are_all_obeyed(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().place();
        service.receive("su");
        service.send(&("Oc".repeat(500) + "d"));
        service.receive("dD");
        assert_eq!(state(&service), "down after signal f, ready");
    }

    fn a_service_that_was_killed_by_somebody_else_is_started_again_a_second_after_its_death(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().place();
        service.receive("su");
        signal(service.pid(), Signal::KILL);
        service.receive("dD");
        let died = service.dir.deaths()[0].at;
        service.receive("u");
        let rested = service.status().changed.since(died).unwrap();
        assert!(rested >= Duration::from_millis(990), "it rested {rested:?}");
    }
}
