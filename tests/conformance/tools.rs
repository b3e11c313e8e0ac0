//! What the tools print, answer and wait for.

use crate::bed::{Bed, cases, state};
use crate::support::service::Service;
use crate::support::waiting;

fn ready_on_request(bed: &Bed) -> Service {
    let mut service = bed
        .service("web")
        .run("read line < go; echo >&3; exec sleep 3600")
        .finish("read line < end")
        .file("notification-fd", "3\n")
        .file("timeout-finish", "0\n")
        .gate("go")
        .gate("end")
        .place();
    service.receive("su");
    service
}

/// Makes a service ready, and waits for the events that follow a command with these options.
fn waits_for(bed: &Bed, service: &mut Service, options: &str, events: &str) {
    bed.tool("s6-svc", &format!("-T 20000 {options}"), service.dir.path()).ok();
    service.receive(events);
}

cases! {
    fn svstat_tells_the_life_of_a_service(pairing) {
        let bed = pairing.started();
        let mut service = ready_on_request(&bed);
        let line = bed.tool("s6-svstat", "", service.dir.path()).ok();
        assert!(line.starts_with(&format!("up (pid {}) ", service.pid())), "{line}");
        assert_eq!(bed.svstat(&service, ""), "up (pid N) N seconds");
        service.pass("go", "go");
        service.receive("U");
        assert_eq!(bed.svstat(&service, ""), "up (pid N) N seconds, ready N seconds");
        bed.svc_and_see(&service, "-p");
        assert_eq!(bed.svstat(&service, ""), "up (pid N) N seconds, paused, ready N seconds");
        bed.svc_and_see(&service, "-c");
        bed.svc_and_see(&service, "-Q");
        assert_eq!(bed.svstat(&service, ""), "up (pid N) N seconds, normally down, want down, ready N seconds");
        bed.svc(&service, "-k");
        service.receive("d");
        assert_eq!(bed.svstat(&service, ""), "down (signal SIGKILL) N seconds");
        service.pass("end", "end");
        service.receive("D");
        assert_eq!(bed.svstat(&service, ""), "down (signal SIGKILL) N seconds, ready N seconds");
    }

    fn svstat_tells_of_a_service_that_was_never_started(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().down().place();
        service.receive("s");
        // s6 2.11 does not print this.
        assert_eq!(bed.svstat(&service, ""), "down (exitcode N) N seconds, ready N seconds");
    }

    fn svstat_tells_an_exit_code_and_what_is_wanted(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").run("exit 3").finish("read line < end").gate("end").file("timeout-finish", "0\n").place();
        service.receive("sud");
        assert_eq!(bed.tool("s6-svstat", "-o exitcode,signal,signum", service.dir.path()).ok(), "3 NA -1");
        assert_eq!(bed.svstat(&service, ""), "down (exitcode N) N seconds, normally up, want up");
        bed.svc(&service, "-d");
        service.pass("end", "end");
        service.receive("D");
        assert_eq!(bed.svstat(&service, ""), "down (exitcode N) N seconds, normally up, ready N seconds");
    }

    fn svstat_prints_single_fields(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().place();
        service.receive("su");
        let pid = service.pid();
        let all = "up,wantedup,normallyup,ready,paused,pid,exitcode,signal,signum";
        let fields = |service: &Service| bed.tool("s6-svstat", &format!("-o {all}"), service.dir.path()).ok();
        assert_eq!(fields(&service), format!("true true true false false {pid} -1 NA -1"));
        for (option, expected) in [("-u", "true"), ("-w", "true"), ("-N", "true"), ("-r", "false"), ("-p", &*pid.to_string()), ("-e", "-1"), ("-s", "NA")] {
            assert_eq!(bed.tool("s6-svstat", option, service.dir.path()).ok(), expected, "{option}");
        }
        let age: u64 = bed.tool("s6-svstat", "-t", service.dir.path()).ok().parse().unwrap();
        assert!(age < 600, "the stamps are TAI with the offset that s6 was built with");
        bed.svc(&service, "-d");
        service.receive("dD");
        assert_eq!(fields(&service), "false false true false false -1 -1 SIGTERM 15");
    }

    fn tools_say_that_nothing_is_supervised(pairing) {
        let mut bed = pairing.started();
        let mut service = bed.service("web").stays().place();
        service.receive("su");
        assert_eq!(bed.tool("s6-svok", "", service.dir.path()).code, Some(0));
        assert_eq!(bed.stop(), Some(0));
        for (name, options, code) in [("s6-svok", "", 1), ("s6-svstat", "", 1), ("s6-svscanctl", "-a", 100)] {
            let dir = if name == "s6-svscanctl" { bed.scandir() } else { service.dir.path().to_owned() };
            let ran = bed.tool(name, options, &dir);
            assert_eq!(ran.code, Some(code), "{name}: {ran:?}");
        }
    }

    #[skip(with_our_tools, "s6-svc said 100 up to 2.13; ours says 102, as newer ones do")]
    fn svc_says_100_where_nothing_is_supervised(pairing) {
        let mut bed = pairing.started();
        let mut service = bed.service("web").stays().place();
        service.receive("su");
        assert_eq!(bed.stop(), Some(0));
        let ran = bed.tool("s6-svc", "-u", service.dir.path());
        assert_eq!(ran.code, Some(100), "{ran:?}");
    }

    fn tools_say_that_there_is_no_such_directory(pairing) {
        let bed = pairing.started();
        // Its supervisor handles signals by then.
        bed.service("first").stays().place().receive("su");
        let nowhere = bed.scandir().join("nowhere");
        for (name, options) in [("s6-svc", "-u"), ("s6-svwait", "-u"), ("s6-svdt", "")] {
            let ran = bed.tool(name, options, &nowhere);
            assert_eq!(ran.code, Some(111), "{name}: {ran:?}");
        }
    }

    #[skip(with_our_tools, "s6-svstat 2.11 says 1, as where nothing is supervised; newer ones say 111, and so does ours")]
    fn svstat_says_1_where_there_is_no_such_directory(pairing) {
        let bed = pairing.started();
        // Its supervisor handles signals by then.
        bed.service("first").stays().place().receive("su");
        assert_eq!(bed.tool("s6-svstat", "", &bed.scandir().join("nowhere")).code, Some(1));
    }

    fn tools_say_how_they_are_used(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().place();
        service.receive("su");
        for name in ["s6-svc", "s6-svstat", "s6-svwait", "s6-svscanctl"] {
            let ran = bed.tool(name, "-=", service.dir.path());
            assert_eq!(ran.code, Some(100), "{name}: {ran:?}");
        }
    }

    fn svc_waits_for_what_it_is_told_to(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").run("echo >&3; exec sleep 3600").finish("exit 0").file("notification-fd", "3\n").down().place();
        service.receive("s");
        for (options, events) in [("-wu -u", "uU"), ("-wd -d", "dD"), ("-wU -u", "uU"), ("-wD -d", "dD"), ("-wU -o", "uU"), ("-wD -k", "dD")] {
            waits_for(&bed, &mut service, options, events);
        }
        waits_for(&bed, &mut service, "-wU -u", "uU");
        waits_for(&bed, &mut service, "-wR -r", "dDuU");
    }

    fn svc_says_99_when_its_time_is_over(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().down().place();
        service.receive("s");
        let ran = bed.tool("s6-svc", "-wU -T 2000 -d", service.dir.path());
        assert_eq!(ran.code, Some(99), "{ran:?}");
    }

    fn svc_answers_0_for_what_was_so_even_if_it_is_overtaken_at_once(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").run("exit 1").finish("exit 125").down().place();
        service.receive("s");
        for options in ["-u", "-wu -u", "-wd -u", "-wD -u", "-wu -o", "-o"] {
            waits_for(&bed, &mut service, options, "udOD");
            assert_eq!(state(&service), "down after 1, ready");
        }
    }

    fn svc_answers_0_while_the_end_of_supervision_is_due(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().place();
        service.receive("su");
        for options in ["-wd -d", "-wD -d", "-d", "-wd -k", "-wD -dx"] {
            bed.svc(&service, "-x");
            waits_for(&bed, &mut service, "-u", "");
            waits_for(&bed, &mut service, options, "dDx");
            service.receive("su");
        }
    }

    fn svc_answers_0_at_once_for_what_is_so(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().down().place();
        service.receive("s");
        for (options, events) in
            [("-wd -d", ""), ("-wD -O", ""), ("-wu -u", "u"), ("-wu -u", ""), ("-wu -t", "dDu"), ("-wr -d", "dD")]
        {
            let (code, ms) = if options == "-wr -d" { (99, 3000) } else { (0, 20_000) };
            let ran = bed.tool("s6-svc", &format!("-T {ms} {options}"), service.dir.path());
            assert_eq!(ran.code, Some(code), "{options}: {ran:?}");
            service.receive(events);
        }
    }

    fn svwait_returns_at_once_where_nothing_has_to_happen(pairing) {
        let bed = pairing.started();
        let mut up = bed.service("up").run("echo >&3; exec sleep 3600").file("notification-fd", "3\n").place();
        up.receive("suU");
        let mut down = bed.service("down").stays().down().place();
        down.receive("s");
        for (service, options) in [(&up, "-u"), (&up, "-U"), (&down, "-d"), (&down, "-D")] {
            bed.tool("s6-svwait", &format!("{options} -t 20000"), service.dir.path()).ok();
        }
        // The timeout is long enough for all tools to have begun to wait at the same time.
        let wait = |service: &Service, options: &str| {
            bed.command_of("s6-svwait", &format!("{options} -t 2000")).arg(service.dir.path()).spawn().unwrap()
        };
        let waiters = [wait(&up, "-d"), wait(&up, "-D"), wait(&down, "-u"), wait(&down, "-U")];
        for mut waiter in waiters {
            assert_eq!(waiter.wait().unwrap().code(), Some(99));
        }
    }

    fn svwait_waits_for_all_or_for_any(pairing) {
        let bed = pairing.started();
        let mut one = bed.service("one").stays().place();
        let mut two = bed.service("two").stays().down().place();
        one.receive("su");
        two.receive("s");
        let any = bed.command_of("s6-svwait", "-o -u -t 20000").args([one.dir.path(), two.dir.path()]).status();
        assert!(any.unwrap().success());
        let event = two.path("event");
        let mut all = bed.command_of("s6-svwait", "-a -u -t 20000").args([one.dir.path(), two.dir.path()]).spawn().unwrap();
        // The command is sent once the tool has subscribed: its FIFO is the second one, beside the
        // test's.
        waiting::until(&event, "a second listener", || (std::fs::read_dir(&event).unwrap().count() >= 2).then_some(()));
        bed.svc(&two, "-u");
        assert!(all.wait().unwrap().success());
        two.receive("u");
    }

    fn svc_learns_that_a_failure_is_permanent(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").run("exit 1").finish("exit 125").file("notification-fd", "3\n").down().place();
        service.receive("s");
        let ran = bed.tool("s6-svc", "-wU -T 20000 -u", service.dir.path());
        assert_eq!(ran.code, Some(1), "{ran:?}");
        service.receive("udOD");
    }

    fn svdt_lists_deaths(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").run("read code < go; exit $code").gate("go").down().place();
        service.receive("s");
        for code in ["1", "2"] {
            bed.svc(&service, "-o");
            service.receive("u");
            service.pass("go", code);
            service.receive("dD");
        }
        bed.svc(&service, "-o");
        service.receive("u");
        bed.svc(&service, "-k");
        service.receive("dD");
        let listed = bed.tool("s6-svdt", "", service.dir.path()).ok();
        let deaths: Vec<&str> = listed.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(deaths, ["exitcode 1", "exitcode 2", "signal SIGKILL"]);
        assert_eq!(bed.tool("s6-svdt", "-n 1", service.dir.path()).ok().lines().count(), 1);
    }

    fn svdt_clear_forgets_deaths(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").run("exit 1").down().place();
        service.receive("s");
        bed.svc(&service, "-o");
        service.receive("udD");
        bed.tool("s6-svdt-clear", "", service.dir.path()).ok();
        assert_eq!(bed.tool("s6-svdt", "", service.dir.path()).ok(), "");
    }
}
