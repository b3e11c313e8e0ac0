//! What commands cost: the system calls of a look at all gateways, of those whose number does not
//! depend on what else runs on the machine; that no command waits for the end of its watches; and
//! that a link on the way to the home costs the steps up to it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use gatevisor_client::Condition;

use crate::home::{Home, Ran};
use crate::support::{WAIT_LIMIT, waiting};

/// The most system calls on files of the home for each gateway.
///
/// A change that needs more must have a reason, and change this number.
const CALLS_A_GATEWAY: usize = 75;

/// The most times that a start goes into the scandir step by step.
const STEPS_INTO_SCANDIR: usize = 3;

/// Returns how many system calls on files of a home `status --json` makes; `None` where tracing is
/// not allowed.
fn calls(gateways: usize) -> Option<usize> {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    let names: Vec<String> = (0..gateways).map(|n| format!("g{n}")).collect();
    for name in &names {
        home.plant_state(name, r#"{"desired_state":"running"}"#);
    }
    home.up_quietly();
    for name in &names {
        home.until(name, Condition::Up);
    }
    // A gateway's process may still be the interpreter, of which more is looked at.
    let up = |said: &str| said.matches(r#""state":"up""#).count();
    waiting::polled("commands that were executed", || {
        (up(&home.says("status --json").ok()) == gateways).then_some(())
    });
    let (ran, trace) = traced(&home, &["status", "--json"])?;
    assert_eq!(up(&ran.ok()), gateways);
    let counted = counted(&trace, home.path());
    home.down();
    Some(counted)
}

/// Runs a command to its end, and returns it with the system calls of all its processes, each after
/// the process; `None` where tracing is not allowed.
fn traced(home: &Home, words: &[&str]) -> Option<(Ran, String)> {
    let (trace, command) = (home.beside("trace"), home.command(words));
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-qq", "-o"]).arg(&trace).arg("--");
    strace.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    let ran = home.spawn(strace).ended(WAIT_LIMIT * 3);
    let is_refused = ran.err.contains("not permitted");
    (!is_refused).then(|| (ran, fs::read_to_string(trace).unwrap()))
}

/// Starts a supervisor, and returns what a command calls that makes and starts a gateway; `None` if
/// it may not be traced.
fn traced_start(home: &mut Home) -> Option<String> {
    // The watcher of profiles would make the slot.
    home.up_alone();
    home.plant("coder");
    let (ran, trace) = traced(home, &["gateway", "register", "coder", "--start"])?;
    assert!(ran.ok().starts_with("coder: registered, up"));
    Some(trace)
}

/// Returns how many of the traced calls are on files below a directory. A debug build also checks
/// descriptors, which is not counted.
fn counted(trace: &str, home: &Path) -> usize {
    let home = home.to_str().unwrap();
    trace.lines().filter(|line| line.contains(home) && !line.contains("F_GETFD")).count()
}

#[test]
fn a_look_at_all_gateways_takes_no_more_system_calls_for_each_than_it_must() {
    let [Some(few), Some(many)] = [10, 50].map(calls) else {
        eprintln!("skipped: strace may not trace here");
        return;
    };
    let each = (many - few) / 40;
    println!("{each} system calls for each gateway");
    // If the tracer saw nothing, a look would seem to cost nothing.
    assert!((20..=CALLS_A_GATEWAY).contains(&each), "{each} system calls for each gateway: {few}, {many}");
}

/// Returns how many system calls on files of a home a new profile takes beside so many others;
/// `None` where tracing is not allowed.
fn calls_of_new(others: usize) -> Option<usize> {
    let home = Home::with_script("exec sleep 1000", &[]);
    for n in 0..others {
        home.plant(format!("g{n}"));
    }
    let (ran, trace) = traced(&home, &["profile", "create", "coder"])?;
    ran.ok();
    Some(counted(&trace, home.path()))
}

#[test]
fn a_new_profile_does_not_look_at_the_others() {
    let [Some(alone), Some(beside_others)] = [0, 40].map(calls_of_new) else {
        eprintln!("skipped: strace may not trace here");
        return;
    };
    println!("{alone} system calls, {beside_others} beside 40 other profiles");
    // If the tracer saw nothing, everything would cost the same.
    assert!(alone > 20 && beside_others < alone + 40, "{alone}, {beside_others}");
}

#[test]
fn a_start_leaves_the_end_of_its_watches_to_a_child() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    let Some(trace) = traced_start(&mut home) else {
        eprintln!("skipped: strace may not trace here");
        return;
    };
    let count = |words: &[&str]| {
        let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
        trace.lines().filter(has_all).count()
    };
    // The tests of one user share a limit of instances.
    let made = count(&["inotify_init1("]) - count(&["inotify_init1(", "EMFILE"]);
    // Each is kept by a further descriptor before it is closed, up to `inotify::MOST_KEPT`, and a
    // child closes all but those. A wait on a busy machine may need more than one.
    let kept = count(&["<anon_inode:inotify>, F_DUPFD_CLOEXEC"]);
    assert!(made > 0 && kept == made.min(4), "{made} made, {kept} kept: {trace}");
    let own = trace.split_ascii_whitespace().next().unwrap();
    let closing: Vec<&str> = trace.lines().filter(|line| line.contains("close_range(")).collect();
    let is_childs = |line: &&str| line.split_ascii_whitespace().next() != Some(own);
    assert!(!closing.is_empty() && closing.iter().all(is_childs), "{closing:#?}");
    home.down();
}

#[test]
fn behind_a_link_of_roots_the_kernel_goes_the_rest_of_the_way_at_once() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    let (real, link) = (home.beside("real"), home.beside("link"));
    fs::create_dir(&real).unwrap();
    symlink(&real, &link).unwrap();
    home.move_to(link.join("home"));
    let Some(trace) = traced_start(&mut home) else {
        eprintln!("skipped: strace may not trace here");
        return;
    };
    let has_openat2 = trace.lines().any(|line| line.contains("openat2(") && !line.contains("ENOSYS"));
    let is_step =
        |line: &&str| line.contains("\"service\", ") && line.contains("O_NOFOLLOW|O_CLOEXEC|O_PATH");
    let steps: Vec<&str> = trace.lines().filter(is_step).filter(|line| line.contains("openat(")).collect();
    // Whose a scandir is, only steps tell.
    assert!(!has_openat2 || steps.len() <= STEPS_INTO_SCANDIR, "{steps:#?}");
    home.down();
}
