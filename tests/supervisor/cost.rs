//! The cost of a start: the supervisor's system calls, without those whose number depends on how
//! busy the machine is. The cost of an end: what the supervisor does not wait for.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};

use gatevisor_client::ServiceDir;
use gatevisor_wire::status::Status;
use rustix::process::Signal;

use crate::support::{self, World, processes, waiting};

/// The most system calls of the supervisor for a service whose log the daemon writes, from the look
/// at its name to the last event.
///
/// A change that needs more must have a reason, and change this number. docs/design/benchmarks.md
/// cites it.
const CALLS_A_START: usize = 72;

/// The most system calls of the supervisor for the end of such a service, when the supervisor ends.
const CALLS_AN_END: usize = 49;

/// Calls that are not counted. How often the supervisor waits, finds nothing yet, must try again or
/// needs memory depends on the kernel's scheduling.
const UNCOUNTED: [&str; 10] =
    ["epoll_wait", "epoll_pwait", "epoll_ctl", "poll", "read", "sendmsg", "recvmsg", "mmap", "munmap", "brk"];

/// A tracer of one process, without its children.
struct Tracer {
    strace: Child,
    said: BufReader<ChildStderr>,
    calls: std::path::PathBuf,
}

impl Tracer {
    /// Returns a tracer that already traces, or `None` if tracing is not allowed.
    fn of(world: &World, name: &str) -> Option<Self> {
        let calls = world.root().join(name);
        let mut command = Command::new("strace");
        command.arg("-o").arg(&calls).arg("-p").arg(world.pid().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut strace =
            support::spawn(&mut command).expect("strace is installed; run: scripts/setup.sh test");
        let mut said = BufReader::new(strace.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        if line.contains("attached") {
            return Some(Self { strace, said, calls });
        }
        strace.wait().unwrap();
        None
    }

    /// Detaches from the process, and returns the number of its counted calls.
    fn count(self) -> usize {
        processes::signal(i32::try_from(self.strace.id()).unwrap(), Signal::TERM);
        self.calls().lines().filter(|line| counts(line)).count()
    }

    /// Returns the calls of a process that has ended, or that is traced no longer.
    fn calls(mut self) -> String {
        // The output is read to its end, so that the tracer never finds the pipe full.
        std::io::copy(&mut self.said, &mut std::io::sink()).unwrap();
        self.strace.wait().unwrap();
        fs::read_to_string(&self.calls).unwrap()
    }
}

/// Returns whether a line of a trace is a call that is counted.
fn counts(line: &str) -> bool {
    let name = line.split_once('(').map(|(name, _)| name);
    name.is_some_and(|name| !name.starts_with(['-', '+', '<']) && !UNCOUNTED.contains(&name))
}

/// Adds services with these names at once, and returns when all are up.
fn add(world: &World, names: &[String]) {
    for name in names {
        let log = world.root().join(format!("logs-{name}"));
        let script = format!(
            "#!{} log\ndirectory = \"{}\"\nforward = \"off\"\n",
            env!("CARGO_BIN_EXE_gatevisor"),
            log.display()
        );
        // The service is made under a name that the supervisor ignores.
        world
            .service(format!(".{name}"))
            .stays()
            .prepare(|dir| {
                fs::create_dir(dir.join("log")).unwrap();
                support::executable(&dir.join("log/run"), &script);
            })
            .place_without_subscriber();
    }
    for name in names {
        fs::rename(world.scandir().join(format!(".{name}")), world.scandir().join(name)).unwrap();
    }
    world.rescan();
    for name in names {
        let service = ServiceDir::new(world.scandir().join(name));
        waiting::polled("a service that is up", || service.status().ok().filter(Status::is_up));
        assert!(!world.scandir().join(name).join("log/supervise").exists(), "the daemon writes its log");
    }
}

#[test]
fn a_start_takes_no_more_system_calls_than_it_must() {
    let world = World::started();
    let names = |first: usize, count: usize| -> Vec<String> {
        (first..first + count).map(|n| format!("s{n}")).collect()
    };
    // The first services start the log daemon, and cause calls that happen only once.
    add(&world, &names(0, 10));
    let mut counted = Vec::new();
    for (file, first, count) in [("few", 10, 10), ("many", 20, 30)] {
        let Some(tracer) = Tracer::of(&world, file) else {
            eprintln!("skipped: strace may not trace here");
            return;
        };
        add(&world, &names(first, count));
        counted.push(tracer.count());
    }
    let calls = (counted[1] - counted[0]) / 20;
    println!("{calls} system calls a start");
    // If the tracer saw nothing, a start would seem to cost nothing.
    assert!((20..=CALLS_A_START).contains(&calls), "{calls} system calls a start: {counted:?}");
}

#[test]
fn an_end_takes_no_more_system_calls_than_it_must() {
    let counted = [5, 25].map(|count| {
        let mut world = World::started();
        add(&world, &(0..count).map(|n| format!("s{n}")).collect::<Vec<_>>());
        let tracer = Tracer::of(&world, "end")?;
        world.stop();
        Some(tracer.calls().lines().filter(|line| counts(line)).count())
    });
    let [Some(few), Some(many)] = counted else {
        eprintln!("skipped: strace may not trace here");
        return;
    };
    let calls = (many - few) / 20;
    println!("{calls} system calls an end");
    // If the tracer saw nothing, an end would seem to cost nothing.
    assert!((20..=CALLS_AN_END).contains(&calls), "{calls} system calls an end: {few}, {many}");
}

#[test]
fn the_kernel_dismantles_the_watch_while_the_last_processes_end() {
    let mut world = World::started();
    add(&world, &["s".to_owned()]);
    let Some(tracer) = Tracer::of(&world, "end") else {
        eprintln!("skipped: strace may not trace here");
        return;
    };
    world.stop();
    let calls = tracer.calls();
    let position = |what: &str| calls.lines().position(|line| line.contains(what));
    let (ended, no_child) = (position("inotify_rm_watch("), position("ECHILD"));
    assert!(ended.is_some() && ended < no_child, "{calls}");
}
