//! What a service finds when it is started.

use std::fs;

use crate::support::service::Service;
use crate::support::{World, processes};

/// Lines that a `run` collects and puts into the file `out` at once.
fn telling(lines: &str) -> String {
    format!("{{ {lines}\n}} > out.new\nmv out.new out\nexec cat > /dev/null")
}

fn told(service: &mut Service) -> Vec<String> {
    service.hear("su");
    service.until_file("out", "what the service tells", |_| true).lines().map(str::to_owned).collect()
}

#[test]
fn run_gets_the_name_of_the_service_as_its_only_argument() {
    let world = World::started();
    for name in ["web", "a b'c\"d$e", "-x", "ümläut"] {
        let mut service = world.service(name).run(&telling("echo $#; echo \"$1\"")).place();
        assert_eq!(told(&mut service), ["1", name]);
    }
}

#[test]
fn the_logger_of_a_service_is_called_as_its_service_with_log_behind_it() {
    let world = World::started();
    let mut service = world.service("web").stays().log(&telling("echo $#; echo \"$1\"")).place();
    assert_eq!(told(service.logger()), ["1", "web/log"]);
    service.hear("su");
}

#[test]
fn run_leads_a_session_of_its_own_without_a_terminal() {
    let world = World::started();
    let mut services: Vec<Service> =
        ["one", "two"].map(|name| world.service(name).stays().place()).into_iter().collect();
    for service in &mut services {
        service.hear("su");
        let pid = service.pid();
        let stat = processes::stat(pid).unwrap();
        assert_eq!((stat.session, stat.group, stat.terminal), (pid, pid, 0));
        assert_eq!(stat.parent, world.pid());
    }
}

#[test]
fn run_stands_in_its_service_directory_and_reads_dev_null() {
    let world = World::started();
    let mut service =
        world.service("web").run(&telling("pwd -P; readlink /proc/$$/fd/0; cat; echo end")).place();
    let expected = fs::canonicalize(service.path("")).unwrap();
    assert_eq!(told(&mut service), [expected.to_str().unwrap(), "/dev/null", "end"]);
}

#[test]
fn run_writes_where_the_supervisor_writes() {
    let world = World::started();
    let mut service = world.service("web").run("echo one line; echo another >&2; exec sleep 3600").place();
    service.hear("su");
    let said = world.until_said("another");
    assert!(said.contains("one line\n"), "{said}");
}

#[test]
fn run_starts_with_umask_022_whatever_the_supervisor_was_started_with() {
    let mut world = World::new().prelude("umask 077");
    let mut service = world.service("web").run(&telling("umask")).place();
    world.start();
    assert_eq!(told(&mut service), ["0022"]);
}

#[test]
fn run_starts_with_no_signal_blocked_or_ignored_whatever_the_supervisor_was_started_with() {
    let mut world = World::new().prelude("trap '' HUP INT QUIT PIPE TERM USR1 USR2");
    // Not every shell leaves the mask alone that it was started with; this one does.
    let bash = |body: &str| format!("#!/bin/bash\n{body}\n");
    let mut service =
        world.service("web").executable("run", &bash("cat /proc/self/status > out; exec sleep 3600")).place();
    let mut other = world
        .service("finished")
        .run("exit 0")
        .executable("finish", &bash("cat /proc/self/status > out; exit 125"))
        .place();
    world.start();
    service.hear("su");
    other.hear("sudOD");
    for service in [&service, &other] {
        let status = service.until_file("out", "the last line", |text| text.contains("nonvoluntary"));
        for mask in ["SigBlk", "SigIgn"] {
            let line = status.lines().find(|line| line.starts_with(mask)).unwrap();
            let mask = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
            // Real-time signals are whatever the test itself was given.
            assert_eq!(mask & 0x7fff_ffff, 0, "{line}");
        }
    }
}

#[test]
fn run_keeps_the_limit_of_open_files_that_the_supervisor_was_given() {
    let mut world = World::new().prelude("ulimit -S -n 200");
    let mut service = world.service("web").run(&telling("ulimit -S -n")).place();
    world.start();
    assert_eq!(told(&mut service), ["200"]);
}

#[test]
fn run_and_finish_have_no_descriptors_beyond_the_three_standard_ones() {
    // The shell's own copies close when `ls` replaces it; 3 is the directory that `ls` reads.
    const LIST: &str = "exec ls /proc/self/fd > $0.fds";
    let mut world = World::new();
    let mut services: Vec<Service> = (0..12)
        .map(|n| {
            let builder =
                world.service(format!("s{n}")).run(LIST).finish(LIST).file("notification-fd", "3\n");
            let builder = if n % 2 == 0 { builder } else { builder.log("exec cat > lines") };
            builder.prepare(|path| {
                if n % 3 == 0 {
                    fs::remove_file(path.join("notification-fd")).unwrap();
                }
            })
        })
        .map(|builder| builder.data("backoff-first", 1_000_000).place())
        .collect();
    world.start();
    for (n, service) in services.iter_mut().enumerate() {
        service.hear("sudDudD");
        let run = fs::read_to_string(service.path("run.fds")).unwrap();
        // `ls` takes the lowest number that is free.
        let expected = if n % 3 == 0 { "0 1 2 3" } else { "0 1 2 3 4" };
        assert_eq!(run.split_whitespace().collect::<Vec<_>>().join(" "), expected, "run of {n}");
        let finish = fs::read_to_string(service.path("finish.fds")).unwrap();
        assert_eq!(finish.split_whitespace().collect::<Vec<_>>().join(" "), "0 1 2 3", "finish of {n}");
    }
}

#[test]
fn what_the_supervisor_inherited_by_accident_does_not_reach_the_services() {
    let mut world = World::new().prelude("exec 7</dev/null 9</dev/zero");
    let mut service =
        world.service("web").run("exec ls /proc/self/fd > fds").data("backoff-first", 1_000_000).place();
    world.start();
    service.hear("sudDudD");
    let listed = fs::read_to_string(service.path("fds")).unwrap();
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>().join(" "), "0 1 2 3");
}

#[test]
fn the_environment_of_the_supervisor_is_the_environment_of_the_service() {
    let mut world = World::new().prelude("A_VARIABLE='with a value'; export A_VARIABLE");
    let mut service = world.service("web").run(&telling("echo \"$A_VARIABLE\"")).place();
    world.start();
    assert_eq!(told(&mut service), ["with a value"]);
}
