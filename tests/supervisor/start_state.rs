//! The state in which a service is started.

use std::fs;

use rustix::process::Signal;

use crate::support::service::{STAY, Service};
use crate::support::{World, executable, is_root, processes, script, waiting};

/// A `run` that collects these lines and writes them into the file `out` at once.
fn telling(lines: &str) -> String {
    format!("{{ {lines}\n}} > out.new\nmv out.new out\nexec cat > /dev/null")
}

fn told(service: &mut Service) -> Vec<String> {
    service.receive("su");
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
    service.receive("su");
}

#[test]
fn run_leads_a_session_of_its_own_without_a_terminal() {
    let world = World::started();
    let mut services: Vec<Service> =
        ["one", "two"].map(|name| world.service(name).stays().place()).into_iter().collect();
    for service in &mut services {
        service.receive("su");
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
    service.receive("su");
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
    let mut world =
        World::new().prelude("n=1; while [ $n -le 64 ]; do trap '' $n 2>/dev/null; n=$((n+1)); done");
    // Not every shell keeps the signal mask that it was started with, but bash does.
    let bash = |body: &str| format!("#!/bin/bash\n{body}\n");
    let mut service =
        world.service("web").executable("run", &bash("cat /proc/self/status > out; exec sleep 3600")).place();
    let mut other = world
        .service("finished")
        .run("exit 0")
        .executable("finish", &bash("cat /proc/self/status > out; exit 125"))
        .place();
    world.start();
    service.receive("su");
    other.receive("sudOD");
    for service in [&service, &other] {
        finds_clean_signals(
            &service.until_file("out", "the last line", |text| text.contains("nonvoluntary")),
        );
    }
}

/// Checks that the process of this `/proc/PID/status` was started with no signal blocked and none
/// ignored.
fn finds_clean_signals(status: &str) {
    for mask in ["SigBlk", "SigIgn"] {
        let line = status.lines().find(|line| line.starts_with(mask)).unwrap();
        let mask = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
        // A C library reserves some real-time signals.
        assert_eq!(mask & !0x3_8000_0000, 0, "{line} of {status}");
    }
}

/// Records in a file how it was started.
const TELLS: &str = "cp /proc/self/status told.new && mv told.new told";

#[test]
fn each_of_our_ways_to_become_a_program_gives_it_clean_signals() {
    let gatevisor = env!("CARGO_BIN_EXE_gatevisor");
    let mut world = World::new();
    script(&world.scandir().join(".s6-svscan/SIGUSR1"), &format!("mkdir usr1; cd usr1; {TELLS}"));
    script(&world.scandir().join(".s6-svscan/finish"), &format!("mkdir last; cd last; {TELLS}"));
    let run = format!("#!{gatevisor} service\ncommand = [\"sh\", \"-c\", \"{TELLS}; exec sleep 3600\"]\n");
    let interpreted = world.service("interpreted").executable("run", &run).place();
    let becomes = format!("exec {gatevisor} s6 s6-setuidgid $(id -u):$(id -g)");
    let chained = world.service("chained").run(&format!("{becomes} sh -c '{TELLS}; {STAY}'")).place();
    let processor = "s6-log s4096 '?cp /proc/self/status \"$DIR/told\"; cat' ./lines";
    let writes = "n=0; while [ $n -lt 200 ]; do echo 'a line of some thirty bytes'; n=$((n + 1)); done";
    let mut logged = world
        .service("logged")
        .run(&format!("{writes}; {STAY}"))
        .log(&format!("export DIR=$PWD; exec {gatevisor} s6 {processor}"))
        .place();
    world.start();
    world.signal(Signal::USR1);
    let is_whole = |text: &str| text.contains("nonvoluntary");
    for service in [&interpreted, &chained, logged.logger()] {
        finds_clean_signals(&service.until_file("told", "what it tells", is_whole));
    }
    let told = world.scandir().join("usr1/told");
    waiting::polled("what the script tells", || told.exists().then_some(()));
    finds_clean_signals(&fs::read_to_string(told).unwrap());
    assert_eq!(world.stop().code(), Some(0));
    finds_clean_signals(&fs::read_to_string(world.scandir().join("last/told")).unwrap());
}

#[test]
fn run_keeps_the_limit_of_open_files_that_the_supervisor_was_given() {
    let mut world = World::new().prelude("ulimit -S -n 200");
    let mut service = world.service("web").run(&telling("ulimit -S -n")).place();
    world.start();
    assert_eq!(told(&mut service), ["200"]);
}

/// Returns the soft and the hard limit in the line of `/proc/PID/limits` that begins so.
fn limit(pid: i32, name: &str) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().take(2).collect::<Vec<_>>().join(":")
}

/// Prints the limits of open files and of core files, and the OOM score.
const LIMITS: &str = "echo $(ulimit -S -n) $(ulimit -S -c) $(cat /proc/self/oom_score_adj)";

#[test]
fn the_supervisor_has_limits_of_its_own_and_everything_it_starts_has_those_it_was_given() {
    let mut world =
        World::new().prelude("ulimit -S -n 200; ulimit -S -c 7; echo 123 > /proc/self/oom_score_adj");
    script(&world.scandir().join(".s6-svscan/SIGUSR1"), &format!("{LIMITS} > signal"));
    let mut service = world
        .service("web")
        .run(&format!("{LIMITS} > run.out; exec sleep 3600"))
        .finish(&format!("{LIMITS} > finish.out"))
        .log(&format!("{LIMITS} > log.out; exec cat > lines"))
        .place();
    let stranger = if is_root() { 23_458 } else { rustix::process::geteuid().as_raw() };
    let mut other = world
        .service("others")
        .run(&format!("{LIMITS} > run.out; exec sleep 3600"))
        .owned_by(stranger)
        .place();
    let log_run = format!("#!{} log\n", env!("CARGO_BIN_EXE_gatevisor"));
    let mut logged = world
        .service("logged")
        .stays()
        .prepare(|dir| {
            fs::create_dir(dir.join("log")).unwrap();
            executable(&dir.join("log/run"), &log_run);
        })
        .place();
    world.start();
    for service in [&mut service, &mut other, &mut logged] {
        service.receive("su");
    }
    service.logger().receive("su");
    let hard = |pid, name| limit(pid, name).split_once(':').unwrap().1.to_owned();
    let files = hard(world.pid(), "Max open files");
    assert_eq!(limit(world.pid(), "Max open files"), format!("{files}:{files}"));
    assert!(limit(world.pid(), "Max core file size").starts_with("1:"));
    let score = |pid: i32| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    // It depends on a capability whether the score may be lowered.
    assert!(["-1000\n", "123\n"].contains(&score(world.pid()).as_str()), "{}", score(world.pid()));
    service.send("k");
    service.receive("dDu");
    world.signal(rustix::process::Signal::USR1);
    let signal = world.scandir().join("signal");
    let of_signal = waiting::until(&world.scandir(), "what the script tells", || {
        fs::read_to_string(&signal).ok().filter(|text| text.ends_with('\n'))
    });
    let told = [
        of_signal.trim_end().to_owned(),
        service.until_lines("run.out", 1).remove(0),
        service.until_lines("finish.out", 1).remove(0),
        service.logger().until_lines("log.out", 1).remove(0),
        other.until_lines("run.out", 1).remove(0),
    ];
    assert!(told.iter().all(|line| line == "200 7 123"), "{told:?}");
    // A log daemon has the files of many services open.
    let is_daemon = |pid: &i32| processes::describe(*pid).contains("logd");
    let daemon =
        waiting::polled("a log daemon", || processes::children(world.pid()).into_iter().find(is_daemon));
    assert_eq!(limit(daemon, "Max open files"), format!("{files}:{files}"));
    assert!(!limit(daemon, "Max core file size").starts_with("1:"));
    assert_eq!(score(daemon), "123\n");
}

#[test]
fn run_and_finish_have_no_descriptors_beyond_the_three_standard_ones() {
    // The shell's own descriptors close when `ls` replaces it. Descriptor 3 is the directory that
    // `ls` reads.
    const LIST: &str = "exec ls /proc/self/fd > $0.fds";
    let mut world = World::new();
    let mut services: Vec<Service> = (0..12)
        .map(|n| {
            // A busy machine may need more than the five seconds that a finish script has.
            let builder = world
                .service(format!("s{n}"))
                .run(LIST)
                .finish(LIST)
                .file("timeout-finish", "0\n")
                .file("notification-fd", "3\n");
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
        service.receive("sudDudD");
        let run = fs::read_to_string(service.path("run.fds")).unwrap();
        // `ls` takes the lowest free number.
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
    service.receive("sudDudD");
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
