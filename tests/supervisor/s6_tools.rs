//! Debian's own s6 tools on a scandir of ours.

use std::fs;
use std::process::{Command, Output};

use rustix::process::Signal;

use crate::support::service::Service;
use crate::support::{World, output, processes, spawn};

fn tool(name: &str, arguments: &[&str], dir: &std::path::Path) -> Output {
    output(Command::new(name).args(arguments).arg(dir)).unwrap_or_else(|error| {
        panic!("cannot run {name}: {error}; these tests need s6 (Debian's package `s6`)")
    })
}

fn succeeds(name: &str, arguments: &[&str], service: &Service) -> String {
    let output = tool(name, arguments, service.dir.path());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name} {arguments:?}: {:?} {said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn svstat(service: &Service) -> String {
    succeeds("s6-svstat", &[], service).trim_end().to_owned()
}

/// Replaces every number by `N`, because ages do not matter here.
fn without_numbers(line: &str) -> String {
    let mut out = String::new();
    for part in line.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        if rest.len() < part.len() {
            out.push('N');
        }
        out.push_str(rest);
    }
    out
}

#[test]
fn s6_svstat_understands_what_our_supervisor_writes() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run("read line < go; echo >&3; exec sleep 3600")
        .finish("read line < stay")
        .file("notification-fd", "3\n")
        .file("timeout-finish", "0\n")
        .gate("go")
        .gate("stay")
        .place();
    service.receive("su");
    let pid = service.pid();
    let line = svstat(&service);
    assert!(line.starts_with(&format!("up (pid {pid}")), "{line}");
    assert_eq!(without_numbers(&line), "up (pid N) N seconds");
    // The age is right, so our time has the offset with which s6 was built.
    let age = succeeds("s6-svstat", &["-t"], &service);
    assert!(age.trim().parse::<u64>().unwrap() < 3600, "{age}");
    service.pass("go", "go");
    service.receive("U");
    assert_eq!(without_numbers(&svstat(&service)), "up (pid N) N seconds, ready N seconds");
    service.send_and_see("p");
    assert_eq!(without_numbers(&svstat(&service)), "up (pid N) N seconds, paused, ready N seconds");
    service.send_and_see("c");
    service.send_and_see("O");
    assert_eq!(without_numbers(&svstat(&service)), "up (pid N) N seconds, want down, ready N seconds");
    service.send("k");
    service.receive("d");
    let line = svstat(&service);
    assert!(line.starts_with("down (signal SIGKILL) "), "{line}");
    service.pass("stay", "go");
    service.receive("D");
    assert_eq!(
        without_numbers(&svstat(&service)),
        "down (signal SIGKILL) N seconds, normally up, ready N seconds"
    );
    assert_eq!(
        succeeds("s6-svstat", &["-o", "up,wantedup,normallyup,ready,paused,pid,exitcode,signal"], &service)
            .trim(),
        "false false true false false -1 -1 SIGKILL"
    );
}

#[test]
fn s6_svstat_shows_an_exit_code_and_a_request_that_waits() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run("exit 3")
        .data("backoff-first", 1_000_000)
        .data("backoff-max", 1_000_000)
        .place();
    service.receive("sudDudD");
    assert_eq!(
        without_numbers(&svstat(&service)),
        "down (exitcode N) N seconds, normally up, want up, ready N seconds"
    );
    assert!(svstat(&service).starts_with("down (exitcode 3) "));
}

#[test]
fn s6_svdt_lists_the_deaths_and_s6_svdt_clear_forgets_them() {
    let world = World::started();
    let mut service =
        world.service("web").run("read code < go; exit $code").gate("go").data("backoff-max", 1).place();
    service.receive("su");
    for code in ["1", "2"] {
        service.pass("go", code);
        service.receive("dDu");
    }
    service.send("k");
    service.receive("dDu");
    let listed = succeeds("s6-svdt", &[], &service);
    let deaths: Vec<&str> = listed.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(deaths, ["exitcode 1", "exitcode 2", "signal SIGKILL"], "{listed}");
    succeeds("s6-svdt-clear", &[], &service);
    assert_eq!(succeeds("s6-svdt", &[], &service), "");
    service.send("k");
    service.receive("dDu");
    assert_eq!(succeeds("s6-svdt", &[], &service).lines().count(), 1);
}

#[test]
fn s6_svok_says_whether_the_service_is_supervised() {
    let mut world = World::new();
    let mut service = world.service("web").stays().place();
    assert_eq!(tool("s6-svok", &[], service.dir.path()).status.code(), Some(1));
    world.start();
    service.receive("su");
    assert_eq!(tool("s6-svok", &[], service.dir.path()).status.code(), Some(0));
    assert!(world.stop().success());
    assert_eq!(tool("s6-svok", &[], service.dir.path()).status.code(), Some(1));
}

#[test]
fn s6_svc_waits_for_up_ready_down_and_finished() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run("echo >&3; exec sleep 3600")
        .finish("exit 0")
        .file("notification-fd", "3\n")
        .down()
        .place();
    service.receive("s");
    for (arguments, events) in [
        ("-wu -T 20000 -u", "uU"),
        ("-wd -T 20000 -d", "dD"),
        ("-wU -T 20000 -u", "uU"),
        ("-wD -T 20000 -d", "dD"),
        ("-wU -T 20000 -o", "uU"),
    ] {
        succeeds("s6-svc", &arguments.split(' ').collect::<Vec<_>>(), &service);
        service.receive(events);
    }
}

#[test]
fn s6_svc_waits_for_a_restart() {
    let world = World::started();
    // s6 starts nothing within a second of an end, and its tool relies on that: it forgets events
    // that it reads together with the end. So the policy makes a pause here, or the service itself
    // makes one before it is ready.
    let mut service = world
        .service("web")
        .run("[ ! -e slow ] || { rm slow; sleep 3; }; echo >&3; exec sleep 3600")
        .file("notification-fd", "3\n")
        .data("backoff-first", 3000)
        .data("backoff-jitter", 0)
        .place();
    service.receive("suU");
    processes::signal(service.pid(), Signal::KILL);
    service.receive("dDuU");
    // This signal does not count as a request to end, so the death is a failure, the second one.
    succeeds("s6-svc", &["-wr", "-T", "20000", "-h"], &service);
    service.receive("dDuU");
    fs::write(service.path("slow"), "").unwrap();
    succeeds("s6-svc", &["-wR", "-T", "20000", "-t"], &service);
    service.receive("dDuU");
}

#[test]
fn s6_svwait_waits_for_several_services() {
    let world = World::started();
    let mut one = world.service("one").stays().place();
    let mut two = world.service("two").stays().down().place();
    one.receive("su");
    two.receive("s");
    let svwait = |how: &str| {
        let mut command = Command::new("s6-svwait");
        command.args([how, "-u", "-t", "20000"]).args([one.dir.path(), two.dir.path()]);
        command
    };
    // With "any of them", the first service is already up.
    let any = output(&mut svwait("-o")).unwrap();
    assert!(any.status.success(), "{any:?}");
    // With "all of them", the tool learns of it, whether it subscribes before or after the command.
    let mut all = spawn(&mut svwait("-a")).unwrap();
    two.send("u");
    assert!(all.wait().unwrap().success());
    two.receive("u");
}

#[test]
fn s6_svwait_learns_that_a_failure_is_permanent() {
    let world = World::started();
    let mut service = world.service("web").run("exit 78").down().place();
    service.receive("s");
    let output = tool("s6-svc", &["-wu", "-T", "20000", "-u"], service.dir.path());
    // The service may have been up for an instant before it failed, but it is never a timeout.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    service.receive("udOD");
}

#[test]
fn s6_svscanctl_asks_for_a_rescan_and_for_the_end() {
    let mut world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    let hidden = service.hide();
    service.receive("dDx");
    fs::rename(hidden, service.dir.path()).unwrap();
    assert!(tool("s6-svscanctl", &["-a"], &world.scandir()).status.success());
    service.receive("su");
    assert!(tool("s6-svscanctl", &["-t"], &world.scandir()).status.success());
    service.receive("dDx");
    assert_eq!(world.ended().code(), Some(0));
}

#[test]
fn s6_svc_says_so_where_no_supervisor_listens() {
    let mut world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    assert!(world.stop().success());
    let output = tool("s6-svc", &["-u"], service.dir.path());
    assert_eq!(output.status.code(), Some(100), "{output:?}");
}

#[test]
fn a_listener_that_s6_makes_receives_every_event() {
    let world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    let mut command = Command::new("s6-ftrig-listen1");
    command.args(["-t", "20000"]).arg(service.path("event")).arg(".*d.*D.*u");
    command.args(["s6-svc", "-k"]).arg(service.dir.path());
    let listener = output(&mut command).unwrap();
    assert!(listener.status.success(), "{listener:?}");
    service.receive("dDu");
}
