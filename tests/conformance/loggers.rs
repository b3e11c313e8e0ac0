//! Loggers and their pipes, across the death of either side.

use std::fs;

use crate::bed::{Bed, cases, state};
use crate::support::service::Service;

/// A service that prints what it receives through `go`, and a logger that keeps it in `log/kept`.
fn logged(bed: &Bed) -> Service {
    let mut service = bed
        .service("web")
        .run("while read line < go; do echo $line; done")
        .log("exec 9>> kept; while read line; do echo $line >&9; done; echo end >&9")
        .gate("go")
        .place();
    service.receive("su");
    service.logger().receive("su");
    service
}

fn kept(service: &Service, count: usize) -> Vec<String> {
    service.logger.as_ref().unwrap().until_lines("kept", count)
}

cases! {
    fn what_a_service_prints_reaches_its_logger(pairing) {
        let bed = pairing.started();
        let service = logged(&bed);
        service.pass("go", "one");
        service.pass("go", "two");
        assert_eq!(kept(&service, 2), ["one", "two"]);
    }

    fn a_logger_is_started_with_a_two_part_name(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().log("echo \"$# $* $PWD\" > told; exec cat > /dev/null").place();
        service.receive("su");
        let place = service.logger().dir.path().to_str().unwrap().to_owned();
        assert_eq!(service.logger().until_lines("told", 1), [format!("1 web/log {place}")]);
    }

    fn the_pipe_outlives_the_service(pairing) {
        let bed = pairing.started();
        let mut service = logged(&bed);
        for n in 0..3 {
            service.pass("go", &format!("life {n}"));
            kept(&service, n + 1);
            bed.svc(&service, "-d");
            service.receive("dD");
            bed.svc(&service, "-u");
            service.receive("u");
        }
        service.pass("go", "last");
        assert_eq!(kept(&service, 4), ["life 0", "life 1", "life 2", "last"]);
        assert_eq!(service.logger().further_events(), "", "the logger saw no end");
    }

    fn the_pipe_outlives_the_logger_and_what_is_printed_meanwhile_is_kept(pairing) {
        let bed = pairing.started();
        let mut service = logged(&bed);
        service.pass("go", "before");
        kept(&service, 1);
        let pid = service.pid();
        bed.svc(service.logger(), "-Ok");
        service.logger().receive("dD");
        service.pass("go", "meanwhile");
        bed.svc(service.logger(), "-u");
        service.logger().receive("u");
        service.pass("go", "after");
        assert_eq!(kept(&service, 3), ["before", "meanwhile", "after"]);
        assert_eq!((service.pid(), service.further_events().as_str()), (pid, ""));
    }

    fn the_pipe_outlives_the_supervision_of_either_side(pairing) {
        let bed = pairing.started();
        let mut service = logged(&bed);
        service.pass("go", "one");
        kept(&service, 1);
        bed.svc(service.logger(), "-xk");
        service.logger().receive("dDxsu");
        service.pass("go", "two");
        kept(&service, 2);
        bed.svc(&service, "-xk");
        service.receive("dDxsu");
        service.pass("go", "three");
        assert_eq!(kept(&service, 3), ["one", "two", "three"]);
    }

    fn what_finish_prints_is_logged_too(pairing) {
        let bed = pairing.started();
        let mut service = bed
            .service("web")
            .run("echo from run; exit 1")
            .finish("echo from finish")
            .log("exec 9>> kept; while read line; do echo $line >&9; done")
            .down()
            .place();
        service.receive("s");
        bed.svc(&service, "-o");
        service.receive("udD");
        assert_eq!(kept(&service, 2), ["from run", "from finish"]);
    }

    fn a_logger_is_a_service_of_its_own(pairing) {
        let bed = pairing.started();
        let mut service = logged(&bed);
        let logger = service.logger();
        assert_eq!(bed.svc_and_see(logger, "-p"), "up, paused, wanted");
        assert_eq!(bed.svc_and_see(logger, "-c"), "up, wanted");
        bed.svc(logger, "-d");
        logger.receive("dD");
        assert_eq!(state(logger), "down after signal f, ready");
        assert_eq!(bed.svstat(logger, ""), "down (signal SIGTERM) N seconds, normally up, ready N seconds");
        bed.svc(logger, "-u");
        logger.receive("u");
    }

    fn a_logger_with_a_down_file_is_down_and_the_service_is_not(pairing) {
        let bed = pairing.started();
        let mut service = bed
            .service("web")
            .run("echo early; exec sleep 3600")
            .log("read line; echo $line > kept; exec sleep 3600")
            .prepare(|dir| fs::write(dir.join("log/down"), "").unwrap())
            .place();
        service.receive("su");
        service.logger().receive("s");
        assert_eq!(state(service.logger()), "down, ready");
        bed.svc(service.logger(), "-u");
        service.logger().receive("u");
        assert_eq!(kept(&service, 1), ["early"]);
        bed.svc(service.logger(), "-d");
        service.logger().receive("dD");
    }

    fn a_logger_of_what_is_gone_reads_to_the_end_and_ends(pairing) {
        let bed = pairing.started();
        let mut service = logged(&bed);
        service.pass("go", "one");
        kept(&service, 1);
        let hidden = service.hide();
        bed.svscanctl("-an");
        service.receive("dDx");
        service.logger().receive("dDx");
        assert_eq!(fs::read_to_string(hidden.join("log/kept")).unwrap(), "one\nend\n");
    }

    fn at_the_end_a_logger_reads_to_the_end(pairing) {
        let mut bed = pairing.started();
        let mut service = logged(&bed);
        service.pass("go", "one");
        kept(&service, 1);
        bed.svscanctl("-t");
        service.receive("dDx");
        service.logger().receive("dDx");
        assert_eq!(bed.ended(), Some(0));
        assert_eq!(kept(&service, 2), ["one", "end"]);
    }

    fn a_file_called_log_is_no_logger(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().file("log", "").place();
        service.receive("su");
    }

    fn s6_log_serves_as_a_logger(pairing) {
        let bed = pairing.started();
        let mut service = bed
            .service("web")
            .run("while read line < go; do echo $line; done")
            .log("exec s6-log n3 s4096 ./kept.d")
            .prepare(|dir| fs::create_dir(dir.join("log/kept.d")).unwrap())
            .gate("go")
            .place();
        service.receive("su");
        service.logger().receive("su");
        service.logger().until_file("kept.d/current", "the log", |_| true);
        service.pass("go", "one");
        assert_eq!(service.logger().until_lines("kept.d/current", 1), ["one"]);
    }
}
