//! Deaths: the finish script, its arguments and its time, exit 125, and the tally.

use std::fs;
use std::time::Duration;

use crate::bed::{Bed, cases, is_while_it_rests, state, until_state};
use crate::support::processes::stat;
use crate::support::service::Service;

/// A finish script that records its arguments.
const TELLS: &str = "echo \"$1 $2 $3\" >> told; echo \"$4\" >> group";

fn telling(bed: &Bed, name: &str, run: &str) -> Service {
    let mut service = bed.service(name).run(run).finish(TELLS).gate("go").down().place();
    service.receive("s");
    bed.svc(&service, "-o");
    service.receive("u");
    service
}

fn deaths(service: &Service) -> Vec<(u8, u8)> {
    fs::read(service.path("supervise/death_tally"))
        .unwrap()
        .chunks(14)
        .map(|death| (death[12], death[13]))
        .collect()
}

cases! {
    fn finish_is_told_the_exit_code_the_signal_and_the_name(pairing) {
        let bed = pairing.started();
        for (code, expected) in [("0", "0 0"), ("1", "1 0"), ("255", "255 0")] {
            let name = format!("web{code}");
            let mut service = telling(&bed, &name, "read code < go; exit $code");
            service.pass("go", code);
            service.receive("dD");
            assert_eq!(service.until_lines("told", 1), [format!("{expected} {name}")]);
        }
    }

    #[skip(with_s6_as_supervisor, "s6 2.11 gives finish three arguments: the process group came with 2.12")]
    fn finish_is_told_the_process_group_of_what_died(pairing) {
        let bed = pairing.started();
        let mut service = telling(&bed, "web", "exec sleep 3600");
        let pid = service.pid();
        bed.svc(&service, "-k");
        service.receive("dD");
        assert_eq!(service.until_lines("group", 1), [pid.to_string()]);
    }

    fn finish_is_told_256_where_a_signal_killed(pairing) {
        let bed = pairing.started();
        for (option, number) in [("-k", 9), ("-t", 15), ("-1", 10), ("-a", 14)] {
            let name = format!("web{option}");
            let mut service = telling(&bed, &name, "exec sleep 3600");
            bed.svc(&service, option);
            service.receive("dD");
            assert_eq!(service.until_lines("told", 1), [format!("256 {number} {name}")]);
        }
    }

    fn finish_of_a_logger_is_told_its_two_part_name(pairing) {
        let bed = pairing.started();
        let mut service = bed
            .service("web")
            .stays()
            .log("exec sleep 3600")
            .prepare(|dir| crate::support::script(&dir.join("log/finish"), TELLS))
            .place();
        service.receive("su");
        let logger = service.logger();
        logger.receive("su");
        bed.svc(logger, "-Ok");
        logger.receive("dD");
        assert_eq!(logger.until_lines("told", 1), ["256 9 web/log"]);
    }

    fn finish_runs_in_the_directory_in_a_session_of_its_own(pairing) {
        let bed = pairing.started();
        let mut service = bed
            .service("web")
            .run("read code < go")
            .finish("echo $PWD > place; read code < end")
            .gate("go")
            .gate("end")
            .file("timeout-finish", "0\n")
            .place();
        service.receive("su");
        service.pass("go", "go");
        service.receive("d");
        assert_eq!(service.until_lines("place", 1), [service.dir.path().to_str().unwrap()]);
        let pid = service.pid();
        let found = stat(pid).unwrap();
        assert_eq!((found.group, found.session), (pid, pid));
        service.pass("end", "go");
        service.receive("D");
    }

    fn while_finish_runs_the_status_holds_its_process(pairing) {
        let bed = pairing.started();
        let mut service = bed
            .service("web")
            .run("exit 7")
            .finish("echo $$ > process; read code < end")
            .gate("end")
            .file("timeout-finish", "0\n")
            .down()
            .place();
        service.receive("s");
        bed.svc(&service, "-o");
        service.receive("ud");
        assert_eq!(state(&service), "finishing after 7");
        assert_eq!(service.until_lines("process", 1), [service.pid().to_string()]);
        service.pass("end", "go");
        service.receive("D");
        assert_eq!(state(&service), "down after 7, ready");
    }

    #[skip(with_s6_as_supervisor, "s6 2.11 forks before it knows that there is no finish; newer ones write both events at once")]
    fn without_finish_died_and_finished_come_together(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().place();
        service.receive("su");
        bed.svc(&service, "-d");
        assert_eq!(service.next(), 'd');
        assert_eq!(service.further_events(), "D", "both were written at once");
    }

    fn a_finish_that_cannot_be_executed_is_passed_over(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").run("exit 1").file("finish", "#!/bin/sh\nexit 0\n").down().place();
        service.receive("s");
        bed.svc(&service, "-o");
        service.receive("udD");
        assert_eq!(state(&service), "down after 1, ready");
    }

    fn a_finish_without_an_interpreter_is_passed_over(pairing) {
        let bed = pairing.started();
        let mut service =
            bed.service("web").run("exit 1").executable("finish", "#!/nowhere/at/all\n").down().place();
        service.receive("s");
        bed.svc(&service, "-o");
        service.receive("udD");
        assert_eq!(state(&service), "down after 1, ready");
    }

    fn a_finish_that_takes_longer_than_its_time_is_killed(pairing) {
        let bed = pairing.started();
        let mut service =
            bed.service("web").run("exit 1").finish("exec sleep 3600").file("timeout-finish", "50\n").down().place();
        service.receive("s");
        bed.svc(&service, "-o");
        service.receive("udD");
        assert_eq!(state(&service), "down after 1, ready");
    }

    fn a_paused_finish_is_killed_too(pairing) {
        let bed = pairing.started();
        let mut service =
            bed.service("web").run("exit 1").finish("kill -STOP $$").file("timeout-finish", "50\n").down().place();
        service.receive("s");
        bed.svc(&service, "-o");
        service.receive("udD");
    }

    fn finish_has_five_seconds_where_nothing_is_said(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").run("exit 1").finish("exec sleep 3600").down().place();
        let mut odd =
            bed.service("odd").run("exit 1").finish("exec sleep 3600").file("timeout-finish", "soon\n").down().place();
        for service in [&mut service, &mut odd] {
            service.receive("s");
            bed.svc(service, "-o");
        }
        for service in [&mut service, &mut odd] {
            service.receive("udD");
            let status = service.status();
            let took = status.ready_at.since(status.changed).unwrap();
            assert!(took >= Duration::from_millis(4990), "{took:?}");
        }
    }

    fn exit_125_of_finish_is_a_permanent_failure(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").run("exit 1").finish("exit 125").place();
        service.receive("sudOD");
        assert_eq!(state(&service), "down after 1, ready");
        assert_eq!(bed.svc_and_see(&service, "-d"), "down after 1, ready");
        assert_eq!(service.further_events(), "");
        // The test writes the byte itself: our tool waits until the status shows the request, and
        // here the failure may undo it before that.
        service.send("u");
        service.receive("udOD");
    }

    fn other_exit_codes_of_finish_mean_nothing(pairing) {
        let bed = pairing.started();
        for code in [1, 100, 111, 124, 126, 255] {
            let down = (0..5).any(|n| {
                let name = format!("web{code}.{n}");
                let mut service = bed.service(name).run("exit 1").finish(&format!("exit {code}")).place();
                service.receive("sudD");
                let rests = is_while_it_rests(&service, "down after 1, wanted, ready");
                bed.svc(&service, "-d");
                rests
            });
            assert!(down, "{code}");
        }
    }

    fn a_finish_that_is_killed_by_somebody_is_over(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").run("exit 1").finish("kill -KILL $$").down().place();
        service.receive("s");
        bed.svc(&service, "-o");
        service.receive("udD");
        assert_eq!(state(&service), "down after 1, ready");
    }

    fn a_death_by_a_signal_with_a_core_keeps_its_wait_status(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").run("ulimit -c 0; exec sleep 3600").place();
        service.receive("su");
        bed.svc(&service, "-Oq");
        service.receive("dD");
        until_state(&service, "down after signal 3, ready");
    }

    fn the_tally_holds_each_death(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").run("read code < go; exit $code").gate("go").down().place();
        service.receive("s");
        assert_eq!(deaths(&service), []);
        for code in ["0", "7", "255"] {
            bed.svc(&service, "-o");
            service.receive("u");
            service.pass("go", code);
            service.receive("dD");
        }
        bed.svc(&service, "-o");
        service.receive("u");
        bed.svc(&service, "-k");
        service.receive("dD");
        assert_eq!(deaths(&service), [(0, 0), (7, 0), (255, 0), (137, 9)]);
        let last = service.dir.deaths().pop().unwrap();
        assert_eq!(last.at, service.status().changed);
    }

    fn max_death_tally_bounds_the_tally(pairing) {
        let bed = pairing.started();
        for (content, kept) in [("2\n", 2), ("0\n", 0), ("many\n", 4), ("9999999\n", 4)] {
            let name = format!("web{}", content.trim());
            let mut service = bed.service(name).run("exit 1").file("max-death-tally", content).down().place();
            service.receive("s");
            for _ in 0..4 {
                bed.svc(&service, "-o");
                service.receive("udD");
            }
            assert_eq!(deaths(&service), vec![(1, 0); kept], "{content}");
        }
    }

    fn the_tally_begins_anew_with_supervision(pairing) {
        let mut bed = pairing.started();
        let mut service = bed.service("web").run("exit 1").down().place();
        service.receive("s");
        bed.svc(&service, "-o");
        service.receive("udD");
        assert_eq!(deaths(&service), [(1, 0)]);
        assert_eq!(bed.stop(), Some(0));
        bed.start();
        service.receive("xs");
        assert_eq!(deaths(&service), []);
    }

    fn a_restart_with_readiness_counts_its_second_from_readiness(pairing) {
        let bed = pairing.started();
        let mut service = bed
            .service("web")
            .run("echo >&3; exec sleep 3600")
            .file("notification-fd", "3\n")
            .place();
        service.receive("suU");
        let ready = service.status().ready_at;
        bed.svc(&service, "-k");
        service.receive("dDu");
        let rested = service.status().changed.since(ready).unwrap();
        assert!(rested >= Duration::from_millis(990), "it rested {rested:?}");
    }
}
