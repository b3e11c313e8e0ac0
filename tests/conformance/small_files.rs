//! The small files of a service directory: valid, missing, invalid, absurdly long.

use std::fs;

use crate::bed::{Bed, cases, state, until_state};
use crate::support::service::Service;

/// More than any supervisor reads.
fn long() -> String {
    "1".repeat(5000) + "\n"
}

/// A service that TERM does not end.
fn stubborn(bed: &Bed, name: &str, timeout_kill: Option<&str>) -> Service {
    let run = "trap '' TERM; : > deaf; exec sleep 3600";
    let mut builder = bed.service(name).run(run);
    if let Some(content) = timeout_kill {
        builder = builder.file("timeout-kill", content);
    }
    let mut service = builder.place();
    service.receive("su");
    service.until_file("deaf", "the trap", |_| true);
    service
}

cases! {
    fn timeout_kill_says_when_a_service_that_stays_is_killed(pairing) {
        let bed = pairing.started();
        for content in ["50\n", "50", "50\nwhatever comes after the first line\n"] {
            let mut service = stubborn(&bed, &format!("web{}", content.len()), Some(content));
            bed.svc(&service, "-d");
            service.receive("dD");
            assert_eq!(state(&service), "down after signal 9, ready");
        }
    }

    fn without_a_valid_timeout_kill_a_service_is_never_killed(pairing) {
        let bed = pairing.started();
        let long = long();
        let contents = [None, Some("0\n"), Some("soon\n"), Some("\n"), Some(""), Some("-5\n"), Some(&*long)];
        let mut services = Vec::new();
        for (n, content) in contents.into_iter().enumerate() {
            let service = stubborn(&bed, &format!("web{n}"), content);
            bed.svc(&service, "-d");
            until_state(&service, "up");
            services.push(service);
        }
        // Another service that is killed after 100 ms shows that there was enough time.
        let mut other = stubborn(&bed, "other", Some("100\n"));
        bed.svc(&other, "-d");
        other.receive("dD");
        for service in &mut services {
            assert_eq!((state(service).as_str(), service.further_events().as_str()), ("up", ""));
            bed.svc(service, "-k");
            service.receive("dD");
        }
    }

    fn timeout_kill_is_read_when_the_service_is_brought_down(pairing) {
        let bed = pairing.started();
        let mut service = stubborn(&bed, "web", None);
        fs::write(service.path("timeout-kill"), "50\n").unwrap();
        bed.svc(&service, "-d");
        service.receive("dD");
    }

    fn timeout_finish_of_zero_gives_finish_all_the_time_it_wants(pairing) {
        let bed = pairing.started();
        let mut service = bed
            .service("web")
            .run("exit 1")
            .finish("read code < end")
            .file("timeout-finish", "0\n")
            .gate("end")
            .down()
            .place();
        let mut other =
            bed.service("other").run("exit 1").finish("exec sleep 99").file("timeout-finish", "100\n").down().place();
        for service in [&mut service, &mut other] {
            service.receive("s");
            bed.svc(service, "-o");
        }
        service.receive("ud");
        other.receive("udD");
        assert_eq!(state(&service), "finishing after 1");
        service.pass("end", "0");
        service.receive("D");
    }

    fn down_signal_is_a_name_or_a_number(pairing) {
        let bed = pairing.started();
        for (content, signal) in [("USR1\n", "a"), ("SIGUSR2\n", "c"), ("14\n", "e"), ("hup", "1"), ("SIGINT", "2")] {
            let name = format!("web{}", content.trim());
            let mut service = bed.service(name).stays().file("down-signal", content).place();
            service.receive("su");
            bed.svc(&service, "-d");
            service.receive("dD");
            assert_eq!(state(&service), format!("down after signal {signal}, ready"), "{content}");
        }
    }

    fn an_invalid_down_signal_counts_as_term(pairing) {
        let bed = pairing.started();
        for (n, content) in ["NONSENSE\n", "", "\n", &*long()].into_iter().enumerate() {
            let mut service = bed.service(format!("web{n}")).stays().file("down-signal", content).place();
            service.receive("su");
            bed.svc(&service, "-d");
            service.receive("dD");
            assert_eq!(state(&service), "down after signal f, ready", "{content:.9}");
        }
    }

    fn an_invalid_notification_fd_counts_as_missing(pairing) {
        let bed = pairing.started();
        for (n, content) in ["three\n", "", "-3\n", &*long()].into_iter().enumerate() {
            let run = "(echo >&3) 2> /dev/null || echo none > said; exec sleep 3600";
            let mut service = bed.service(format!("web{n}")).run(run).file("notification-fd", content).place();
            service.receive("su");
            assert_eq!(service.until_lines("said", 1), ["none"], "{content:.9}");
        }
    }

    fn a_down_file_of_any_kind_keeps_a_service_down(pairing) {
        let bed = pairing.started();
        let mut plain = bed.service("plain").stays().file("down", "up, please\n").place();
        let mut directory = bed.service("directory").stays().prepare(|dir| fs::create_dir(dir.join("down")).unwrap()).place();
        for service in [&mut plain, &mut directory] {
            service.receive("s");
            assert_eq!(state(service), "down, ready");
        }
    }

    fn run_is_started_with_the_name_of_the_service_as_its_argument(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").run("echo \"$# $*\" > told; exec sleep 3600").place();
        service.receive("su");
        assert_eq!(service.until_lines("told", 1), ["1 web"]);
    }

    fn run_has_a_session_of_its_own_and_its_directory(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").run("echo $PWD > place; exec sleep 3600").place();
        service.receive("su");
        let pid = service.pid();
        let found = crate::support::processes::stat(pid).unwrap();
        assert_eq!((found.group, found.session), (pid, pid));
        assert_eq!(service.until_lines("place", 1), [service.dir.path().to_str().unwrap()]);
    }

    fn data_and_env_are_left_alone(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().file("data/mine", "1").file("env/NAME", "2").place();
        service.receive("su");
        bed.svc(&service, "-d");
        service.receive("dD");
        for (entry, expected) in [("data", "mine"), ("env", "NAME")] {
            let names: Vec<_> = fs::read_dir(service.path(entry)).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(names, [expected]);
        }
    }

    #[skip(with_s6_as_supervisor, "s6 2.11 does not know the reload-signal file: it came with l in 2.12")]
    #[skip(with_s6_tools, "s6-svc 2.11 has no -l: it came with 2.12")]
    fn an_invalid_reload_signal_counts_as_hup(pairing) {
        let bed = pairing.started();
        for (n, content) in ["SIGNONE", "", "0", "99999999999999999999", &"1".repeat(5000)].into_iter().enumerate() {
            let mut service = bed.service(format!("web{n}")).stays().file("reload-signal", content).place();
            service.receive("su");
            bed.svc(&service, "-O");
            bed.svc(&service, "-l");
            service.receive("dD");
            assert_eq!(state(&service), "down after signal 1, ready", "{content:.10}");
        }
    }

    fn an_invalid_max_death_tally_counts_as_missing(pairing) {
        let bed = pairing.started();
        for (n, content) in ["many", "-1", "99999999999999999999", &"x".repeat(5000)].into_iter().enumerate() {
            let mut service =
                bed.service(format!("web{n}")).run("exit 1").down().file("max-death-tally", content).place();
            service.receive("s");
            for _ in 0..2 {
                bed.svc(&service, "-o");
                service.receive("udD");
            }
            assert_eq!(std::fs::read(service.path("supervise/death_tally")).unwrap().len(), 28, "{content:.10}");
        }
    }

    #[skip(with_s6_as_supervisor, "s6 2.11 does not know flag-timeout-killpg: it came with 2.12")]
    fn flag_timeout_killpg_has_the_whole_group_killed(pairing) {
        let bed = pairing.started();
        let mut service = bed
            .service("web")
            .run("trap '' TERM; sleep 3600 & echo $! > child; exec sleep 3600")
            .file("timeout-kill", "50\n")
            .file("flag-timeout-killpg", "")
            .place();
        service.receive("su");
        let child = service.until_lines("child", 1)[0].parse().unwrap();
        let held = crate::support::processes::Held::of(child).unwrap();
        bed.svc(&service, "-d");
        held.until_gone("the child in the group");
        service.receive("dD");
    }
}
