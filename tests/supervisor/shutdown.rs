//! The end of the supervisor: in order, within the grace, and without leftovers.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::ExitStatusExt;

use gatevisor_wire::scan::ScanCommand;
use rustix::process::Signal;

use crate::support::processes::{self, Held, children};
use crate::support::service::{STAY, Service};
use crate::support::{World, need_root, waiting};

/// A user that no system has.
const OWNER: u32 = 23_456;

/// A way to ask the supervisor to end.
type Ask = fn(&World);

/// Ignores the signals that ask for the end, and records that it runs.
const STUBBORN: &str = "trap '' TERM HUP INT; : > stubborn; sleep 3600 & while :; do wait; done";

fn stubborn(world: &World, name: &str) -> Service {
    let mut service = world.service(name).run(STUBBORN).place();
    service.receive("su");
    service.until_file("stubborn", "the trap", |_| true);
    service
}

#[test]
fn each_way_to_ask_for_the_end_stops_the_supervisor_in_order_with_0() {
    let asks: [(&str, Ask); 6] = [
        ("TERM", |world| world.signal(Signal::TERM)),
        ("INT", |world| world.signal(Signal::INT)),
        ("QUIT", |world| world.signal(Signal::QUIT)),
        ("t", |world| world.scan_command(ScanCommand::Terminate)),
        ("i", |world| world.scan_command(ScanCommand::Interrupt)),
        ("q", |world| world.scan_command(ScanCommand::Quit)),
    ];
    for (name, ask) in asks {
        let mut world = World::started();
        let mut service = world.service("web").stays().log("exec cat > lines").place();
        service.receive("su");
        service.logger().receive("su");
        ask(&world);
        assert_eq!(world.ended().code(), Some(0), "{name}");
        service.receive("dDx");
        service.logger().receive("dDx");
        if !["QUIT", "q"].contains(&name) {
            assert_eq!(service.logger().status().last.exit_code(), Some(0), "{name}: it read to the end");
        }
    }
}

#[test]
fn asked_to_quit_it_tells_loggers_at_once_and_no_service_finds_its_pipe_broken() {
    let mut world = World::started();
    let body =
        "trap 'read line < go; echo last words; echo $? > wrote; exit 0' TERM; : > ready; sleep 3600 & wait";
    let mut service = world.service("web").run(body).log("exec cat > lines").gate("go").place();
    service.receive("su");
    service.logger().receive("su");
    service.until_file("ready", "the trap", |_| true);
    world.signal(Signal::QUIT);
    service.logger().receive("dDx");
    assert_eq!(service.further_events(), "");
    service.pass("go", "go");
    service.receive("dDx");
    assert_eq!(world.ended().code(), Some(0));
    assert_eq!(fs::read_to_string(service.path("wrote")).unwrap(), "0\n");
    assert_eq!(service.status().last.exit_code(), Some(0));
}

#[test]
fn a_service_that_ignores_the_signal_delays_only_what_its_own_user_stops_later() {
    need_root();
    let mut world = World::new().option("--command-fd").option("5").option("--stop-first").option("gateway-");
    world = world.prelude("exec 5< \"$GATEVISOR_TEST_WORLD/command\"");
    let note = world.root().join("command-runs");
    let command = format!("/bin/sh\0-c\0: > {}; exec sleep 3600\0", note.display());
    fs::write(world.root().join("command"), command).unwrap();
    world.start();
    chown(world.scandir(), Some(OWNER), Some(OWNER)).unwrap();
    let place = |name: &str, owner: u32, run: &str| {
        let mut service = world.service(name).run(run).owned_by(owner).place();
        service.receive("su");
        service
    };
    let mut deaf = place("gateway-deaf", OWNER, STUBBORN);
    deaf.until_file("stubborn", "the trap", |_| true);
    let mut later = place("later", OWNER, STAY);
    let mut others = [
        place("gateway-of-another", OWNER + 1, STAY),
        place("of-another", OWNER + 1, STAY),
        place("of-root", 0, STAY),
    ];
    waiting::polled("the command", || note.exists().then_some(()));
    world.signal(Signal::TERM);
    for service in &mut others {
        service.receive("dDx");
    }
    assert_eq!((deaf.further_events(), later.further_events()), (String::new(), String::new()));
    let supervisor = world.pid();
    let runs =
        |pid: i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x003600\0");
    waiting::polled("the processes of `later` and of the command", || {
        (children(supervisor).into_iter().filter(|&pid| runs(pid)).count() == 2).then_some(())
    });
    world.signal(Signal::TERM);
    assert_eq!(world.ended().code(), Some(0));
}

/// A session and a process group whose leaders are in another namespace have the number 0.
#[test]
fn a_supervisor_whose_session_is_led_from_outside_its_namespace_runs_the_command() {
    need_root();
    let world = World::new();
    fs::write(world.root().join("command"), "/bin/sh\0-c\0exit 7\0").unwrap();
    let words = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut command = std::process::Command::new("unshare");
    command.args(words).arg(env!("CARGO_BIN_EXE_gatevisor")).args(["supervise", "--command-fd", "0"]);
    command.arg(world.scandir()).stdin(fs::File::open(world.root().join("command")).unwrap());
    let ended = command.output().unwrap();
    assert_eq!(ended.status.code(), Some(7), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn a_supervisor_without_services_ends_at_once() {
    let mut world = World::started();
    assert_eq!(world.stop().code(), Some(0));
}

#[test]
fn the_end_writes_no_down_file_and_the_next_supervisor_brings_back_what_was_wanted() {
    let mut world = World::started();
    let mut wanted = world.service("wanted").stays().place();
    let mut unwanted = world.service("unwanted").stays().down().place();
    wanted.receive("su");
    unwanted.receive("s");
    for _ in 0..3 {
        assert!(world.stop().success());
        assert_eq!(wanted.dir.normally_up(), Some(true));
        world.start();
        wanted.receive("dDxsu");
        unwanted.receive("xs");
    }
}

#[test]
fn finish_scripts_run_to_their_end() {
    let mut world = World::started();
    let mut service = world.service("web").stays().finish("echo \"$*\" > finished; exit 0").place();
    service.receive("su");
    let pid = service.pid();
    assert!(world.stop().success());
    assert_eq!(fs::read_to_string(service.path("finished")).unwrap(), format!("256 15 web {pid}\n"));
    service.receive("dDx");
}

#[test]
fn services_go_down_at_the_same_time_not_one_after_the_other() {
    let mut world = World::started();
    // Each service waits until the other has received the signal.
    let run = |other: &str| {
        format!(
            "trap ': > ../signalled-$1; read line < ../signalled-fifo-{other}; exit 0' TERM; : > ready; sleep 3600 & wait"
        )
    };
    let mut gates = Vec::new();
    for name in ["one", "two"] {
        gates.push(waiting::fifo(&world.scandir().join(format!("signalled-fifo-{name}"))));
    }
    let mut services: Vec<Service> = [("one", "two"), ("two", "one")]
        .map(|(name, other)| world.service(name).run(&run(other)).place())
        .into_iter()
        .collect();
    for service in &mut services {
        service.receive("su");
        service.until_file("ready", "the trap", |_| true);
    }
    world.signal(Signal::TERM);
    waiting::until(&world.scandir(), "both signals", || {
        let signalled = |name: &str| world.scandir().join(format!("signalled-{name}")).exists();
        (signalled("one") && signalled("two")).then_some(())
    });
    for gate in &mut gates {
        std::io::Write::write_all(gate, b"go\n").unwrap();
    }
    assert_eq!(world.ended().code(), Some(0));
}

#[test]
fn a_service_that_ignores_the_signal_is_killed_after_the_grace() {
    let mut world = World::with(&["--grace-ms", "3000"]);
    world.start();
    let mut service = stubborn(&world, "web");
    let mut decent = world.service("decent").stays().place();
    decent.receive("su");
    assert_eq!(world.stop().code(), Some(0));
    service.receive("dDx");
    assert_eq!(service.status().last.signal(), Some(9));
    assert_eq!(decent.status().last.signal(), Some(15));
    assert!(world.said().contains("web"), "{}", world.said());
    assert!(!world.said().contains("decent"), "{}", world.said());
}

#[test]
fn a_second_signal_kills_at_once() {
    let mut world = World::started();
    let mut service = stubborn(&world, "web");
    let mut decent = world.service("decent").stays().place();
    decent.receive("su");
    world.signal(Signal::TERM);
    decent.receive("dDx");
    assert_eq!(service.further_events(), "");
    world.signal(Signal::TERM);
    assert_eq!(world.ended().code(), Some(0));
    service.receive("dDx");
    assert_eq!(service.status().last.signal(), Some(9));
}

#[test]
fn the_timeout_kill_of_a_service_holds_at_the_end_too() {
    let mut world = World::started();
    let mut service = world.service("web").run(STUBBORN).file("timeout-kill", "200\n").place();
    service.receive("su");
    service.until_file("stubborn", "the trap", |_| true);
    assert_eq!(world.stop().code(), Some(0));
    service.receive("dDx");
}

#[test]
fn a_paused_service_goes_down_at_the_end() {
    let mut world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    service.send_and_see("p");
    assert_eq!(world.stop().code(), Some(0));
    service.receive("dDx");
}

#[test]
fn a_service_that_waits_for_its_next_start_is_not_started_again() {
    let mut world = World::started();
    let mut service = world
        .service("web")
        .run("exit 1")
        .data("backoff-first", 1_000_000)
        .data("backoff-max", 1_000_000)
        .place();
    service.receive("sudDudD");
    assert_eq!(world.stop().code(), Some(0));
    service.receive("x");
}

#[test]
fn services_that_crash_all_the_time_do_not_delay_the_end() {
    let mut world = World::started();
    let mut services: Vec<Service> = (0..20)
        .map(|n| world.service(format!("s{n}")).run("exit 1").finish("exit 0").data("backoff-max", 1).place())
        .collect();
    for service in &mut services {
        service.receive("sudDudDudD");
    }
    assert_eq!(world.stop().code(), Some(0));
    for service in &mut services {
        service.receive_until('x');
        assert_eq!(service.further_events(), "");
    }
}

#[test]
fn the_end_may_come_while_everything_is_being_started() {
    for n in 0..10 {
        let mut world = World::new();
        let mut services: Vec<Service> =
            (0..60).map(|n| world.service(format!("s{n}")).stays().place()).collect();
        world.start();
        if n > 0 {
            services[0].receive("s");
        }
        if n > 5 {
            services[n].receive("su");
        }
        assert_eq!(world.stop().code(), Some(0));
        for service in &services {
            // None of them is still supervised, whether or not it ever was.
            assert!(!service.dir.supervised().unwrap());
        }
    }
}

#[test]
fn nothing_is_adopted_any_more_when_the_end_has_begun() {
    let mut world = World::started();
    let mut slow = world
        .service("slow")
        .run("trap 'read line < go; exit 0' TERM; : > ready; sleep 3600 & wait")
        .gate("go")
        .place();
    slow.receive("su");
    slow.until_file("ready", "the trap", |_| true);
    let mut quick = world.service("quick").stays().place();
    quick.receive("su");
    world.signal(Signal::TERM);
    quick.receive("dDx");
    let mut late = world.service("late").stays().place();
    world.signal(Signal::HUP);
    // The supervisor still reads commands, but the service shall be down, and no request changes
    // that.
    slow.send("u");
    slow.pass("go", "go");
    assert_eq!(world.ended().code(), Some(0));
    slow.receive("dDx");
    assert_eq!(late.further_events(), "");
    assert!(!late.path("supervise").exists());
}

/// Leaves an orphan behind in a session of its own, and records its process number.
const DAEMONIZES: &str =
    "setsid sh -c 'sleep 3600 & echo $! > orphan.new; mv orphan.new orphan' & wait; exec sleep 3600";

fn orphan(service: &Service) -> i32 {
    service.until_lines("orphan", 1)[0].parse().unwrap()
}

#[test]
fn orphans_come_to_the_supervisor_and_are_reaped_when_they_end() {
    let world = World::started();
    let mut service = world.service("web").run(DAEMONIZES).place();
    service.receive("su");
    let pid = orphan(&service);
    waiting::polled("the orphan's new parent", || {
        processes::stat(pid).filter(|stat| stat.parent == world.pid())
    });
    let held = Held::of(pid).unwrap();
    held.kill();
    // The supervisor reaps it without announcing that.
    waiting::polled("no zombie", || processes::stat(pid).is_none().then_some(()));
    assert_eq!(children(world.pid()), [service.pid()]);
    assert_eq!(service.further_events(), "");
}

#[test]
fn orphans_are_ended_with_the_supervisor() {
    let mut world = World::started();
    let mut service = world.service("web").run(DAEMONIZES).place();
    service.receive("su");
    let held = Held::of(orphan(&service)).unwrap();
    assert_eq!(world.stop().code(), Some(0));
    assert!(held.is_gone());
    service.receive("dDx");
}

#[test]
fn an_orphan_that_ignores_the_signal_is_killed() {
    let mut world = World::started();
    let body = "(trap '' TERM HUP INT; sleep 3600 & echo $! > orphan.new; mv orphan.new orphan) & wait; exec sleep 3600";
    let mut service = world.service("web").run(body).place();
    service.receive("su");
    let held = Held::of(orphan(&service)).unwrap();
    assert_eq!(world.stop().code(), Some(0));
    assert!(held.is_gone());
}

#[test]
fn an_orphan_that_holds_the_log_pipe_is_told_to_end_and_its_last_lines_are_logged() {
    let mut world = World::started();
    let body = "setsid sh -c 'trap \"echo last words; exit\" TERM; echo $$ > orphan; sleep 3600 & wait' &
        until [ -s orphan ]; do :; done
        exec sleep 3600";
    let mut service = world.service("web").run(body).log("cat > lines; echo end >> lines").place();
    service.receive("su");
    service.logger().receive("su");
    let held = Held::of(orphan(&service)).unwrap();
    // The grace is longer than the tests' deadline.
    assert_eq!(world.stop().code(), Some(0));
    assert!(held.is_gone());
    service.receive("dDx");
    assert_eq!(fs::read_to_string(service.path("log/lines")).unwrap(), "last words\nend\n");
}

#[test]
fn children_of_children_without_end_are_ended_too() {
    let mut world = World::started();
    // Each process leaves another one behind when it is told to end.
    let body = "sh -c 'trap \"(trap : TERM; sleep 3600 & echo > second; wait) & exit\" TERM; : > first; sleep 3600 & wait' & exec sleep 3600";
    let mut service = world.service("web").run(body).place();
    service.receive("su");
    service.until_file("first", "the first generation", |_| true);
    assert_eq!(world.stop().code(), Some(0));
}

#[test]
fn b_ends_the_supervisor_and_leaves_its_services_alone() {
    let mut world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    let held = Held::of(service.pid()).unwrap();
    let supervisor = Held::of(world.pid()).unwrap();
    world.scan_command(ScanCommand::Abort);
    supervisor.until_gone("the supervisor");
    assert!(!held.is_gone());
    held.kill();
    assert_eq!(world.ended().into_raw(), 0);
}
