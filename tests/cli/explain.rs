//! `gatevisor explain`: each test breaks one thing in a home, and the first cause names it.
//!
//! Each row of the table is a test: its name, what it does to a home, and the first cause.
#![expect(clippy::indexing_slicing, reason = "a panic in a test says what is wrong")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::disk::{Disk, was_run_in_own_mounts};
use crate::home::Home;
use crate::support::{executable, processes, waiting};
use crate::terminal::{terminal, until_seen};

pub const SLEEPER: &str = "exec sleep 1000";
pub const MEANINGS: &str = "[gateway.exit-meanings]";
/// Attempts follow each other without a pause.
const EAGER: (&str, &str) =
    (MEANINGS, "[gateway.restart]\nbackoff-first-ms = 1\nbackoff-max-ms = 500\n\n[gateway.exit-meanings]");
/// The second attempt is the last one for a minute.
const PATIENT: (&str, &str) =
    (MEANINGS, "[gateway.restart]\nbackoff-first-ms = 60000\n\n[gateway.exit-meanings]");
/// A gateway has started when its command was executed.
const NO_WINDOW: (&str, &str) = ("stop-timeout-ms", "start-window-ms = 0\nstop-timeout-ms");
const READY: (&str, &str) = (
    "stop-timeout-ms",
    "ready = { http = \"http://127.0.0.1:${PORT:-8700}/health\", interval-ms = 50, timeout-ms = 20000 }\nstop-timeout-ms",
);

/// Makes a test of each row, and the number of rows.
macro_rules! table {
    ($($name:ident: $inject:expr => $cause:literal, $words:literal;)+) => {
        $(
            #[test]
            fn $name() {
                if let Some(home) = $inject() {
                    assert_first(&home, $cause, $words);
                }
            }
        )+
        pub const ROWS: &[&str] = &[$($cause),+];
    };
}

table! {
    a_command_that_does_not_exist: || Some(broken("/nonexistent/agent")) => "command-missing", "`/nonexistent/agent`: No such file";
    an_interpreter_that_does_not_exist: || Some(broken_script("#!/nonexistent/sh\n", 0o755)) => "command-missing", "is the path right, and the interpreter";
    a_command_that_may_not_be_executed: || Some(broken_script("#!/bin/sh\n", 0o644)) => "permission-denied", "errno 13";
    a_variable_that_is_not_set: || Some(broken("${NO_SUCH_VARIABLE}")) => "environment-bad", "NO_SUCH_VARIABLE is not set";
    a_nul_in_the_environment: || Some(nul()) => "environment-bad", "NUL byte";
    a_directory_that_does_not_exist: || Some(no_directory()) => "cannot-start", "changing directory: `/proc/nowhere`";
    a_run_file_with_the_line_ends_of_windows: || Some(windows()) => "windows-text", "line ends of Windows";
    a_port_that_somebody_else_has: || Some(port_taken()) => "port-taken", "is held by process";
    a_gateway_that_is_up_without_its_port: || Some(beside_its_port()) => "port-not-its-own", "is held by process";
    a_key_that_is_not_accepted: || Some(ends("echo 'HTTP 401 Unauthorized: the bot token is invalid'; exit 1", "token is invalid")) => "key-refused", "it printed: HTTP 401";
    a_disk_that_the_gateway_found_full: || Some(ends("echo 'OSError: No space left on device'; exit 1", "No space")) => "disk-full", "it printed: OSError";
    memory_that_ran_out: out_of_memory => "out-of-memory", "the kernel killed it";
    a_process_that_is_stopped_by_a_signal: || Some(frozen()) => "frozen", "it is stopped";
    a_gateway_that_is_paused: || Some(told(SLEEPER, "-p", "paused")) => "paused", "SIGSTOP";
    a_gateway_that_was_killed_by_hand: || Some(killed()) => "killed", "its supervisor did not send it";
    a_gateway_that_was_killed_through_its_supervisor: || Some(killed_by_command()) => "commanded", "its supervisor was told to send";
    a_gateway_that_was_killed_by_hand_after_it_was_through_its_supervisor: || Some(killed_both_ways(true)) => "killed", "its supervisor did not send it";
    a_gateway_that_was_killed_through_its_supervisor_after_it_was_by_hand: || Some(killed_both_ways(false)) => "commanded", "its supervisor was told to send";
    a_gateway_that_was_told_to_stop_and_does_not: stopping => "stopping", "is still there";
    a_gateway_that_runs_and_does_nothing: || Some(unresponsive()) => "unresponsive", "heartbeat: ";
    a_gateway_that_crashes: || Some(ends("echo falls; kill -SEGV $$", "falls")) => "crashed", "SIGSEGV";
    a_gateway_that_was_stopped_with_a_reason: || Some(stopped()) => "stopped-on-purpose", "deploy 12";
    a_gateway_that_another_program_stopped: || Some(stopped_by_another()) => "stopped-by-another-program", "says so, set by another program";
    a_gateway_whose_stop_nobody_signed: || Some(stopped_by_nobody_knows()) => "stopped-by-unknown", "no record beside";
    a_gateway_that_its_supervisor_was_told_to_keep_down: || Some(told(SLEEPER, "-d", "down")) => "told-down", "nothing records by whom";
    a_down_file: || Some(down_file()) => "down-file", "gateway-coder/down";
    a_gateway_that_nobody_ever_asked_for: || Some(never_asked()) => "never-asked-for", "records no desired state";
    a_gateway_that_was_started_behind_its_desired_state: || Some(behind()) => "runs-though-stopped", "says stopped";
    a_state_file_without_a_desired_state_is_found: || Some(unreadable()) => "desired-state-unreadable", "is not JSON";
    a_full_disk: full_disk => "disk-full", "inodes are left";
    a_gateway_that_dies_again_and_again: crash_loop => "keeps-dying", "with exit 3";
    a_gateway_that_ends_at_once: || Some(ends("echo hm; exit 5", "hm")) => "ended-at-once", "exit 5";
    an_exit_code_that_means_configuration: || Some(fails(78)) => "failed-for-good", "exit 78: no valid PORT";
    another_exit_code_after_which_nothing_is_tried: || Some(fails(42)) => "failed-for-good", "exit 42";
    a_gateway_that_ended_and_waits: || Some(waits()) => "died", "with exit 4";
    a_lock_that_another_container_has_now: || Some(lock_lost()) => "lock-lost", "was replaced by another file";
    a_lock_that_this_container_never_had: || Some(lock_never_held()) => "runs-elsewhere", "does not hold";
    an_orphan: orphan => "orphan", "(sleep 1000)";
    a_supervisor_that_does_not_run: || Some(no_supervisor()) => "no-supervisor", "there is no scandir";
    a_profile_that_was_never_registered: || Some(unregistered()) => "not-registered", "there is no `gateway-coder`";
    a_profile_that_has_gone: || Some(vanished()) => "profile-gone", "there is no profile coder";
    a_directory_that_nobody_asked_to_scan: || Some(not_taken()) => "not-taken", "nobody asked for a scan";
    a_directory_that_others_may_write_to: || Some(refused()) => "refused", "others than its owner may write";
    a_profile_that_another_gateway_serves: || Some(served()) => "served-by-another", "the gateway of default serves it";
    a_service_directory_that_is_older_than_the_definition: || Some(older()) => "older-than-definition", "the directory counts";
    a_finish_script_that_does_not_end: || Some(finishing()) => "finish-runs", "the next start comes after it";
    a_gateway_that_does_not_answer_yet: || Some(silent()) => "not-ready-yet", "nothing has said that it is ready";
    a_log_whose_lines_are_not_kept_is_found: || Some(not_logged()) => "not-logged", "/dev/null/log";
    a_gateway_that_is_well: || Some(wanted(Home::with_script(SLEEPER, &[]), "up")) => "well", "running is desired";
}

#[test]
fn at_least_thirty_causes_are_told_from_each_other() {
    let mut kinds = ROWS.to_vec();
    kinds.sort_unstable();
    kinds.dedup();
    assert!(kinds.len() >= 30 && ROWS.len() >= 40, "{} rows, {} kinds", ROWS.len(), kinds.len());
}

#[track_caller]
pub fn explained(home: &Home) -> Value {
    serde_json::from_str(&home.says("--json explain coder").ok()).expect("it is JSON")
}

#[track_caller]
pub fn assert_first(home: &Home, cause: &str, words: &str) {
    let said = explained(home);
    let first = &said["causes"][0];
    let text = format!("{}; {}", first["what"].as_str().unwrap(), first["evidence"].as_str().unwrap());
    assert_eq!(first["cause"], cause, "{said:#}");
    assert!(text.contains(words), "no `{words}` in: {text}");
    // The page for people has the same cause, in its first line and with its word.
    let page = home.says("explain coder").ok();
    assert!(page.contains(&format!("({cause})")), "{page}");
    assert!(page.starts_with("coder: "), "{page}");
}

/// Returns a home whose gateway has the desired state running and is in this state, with the
/// supervisor up.
pub fn wanted(mut home: Home, state: &str) -> Home {
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_state("coder", state);
    home
}

/// Waits until the long pause has begun.
fn until_resting(home: &Home) {
    home.until_report("coder", "a long pause", |report| {
        report["next_start_in_ms"].as_u64().is_some_and(|left| left > 30_000)
    });
}

/// Returns a home whose gateway has this command.
fn with_command(command: &str) -> Home {
    let script = |who: &str| format!("[\"/bin/sh\", \"${{AGENT_SCRIPT}}\", \"{who}\", \"{{profile-home}}\"]");
    let word = format!("[\"{command}\"]");
    let all = [script("default"), script("{profile}")];
    Home::with_script("", &[(&*all[0], &*word), (&*all[1], &*word), PATIENT])
}

fn broken(command: &str) -> Home {
    let home = wanted(with_command(command), "failed-to-start");
    until_resting(&home);
    home
}

fn broken_script(text: &str, mode: u32) -> Home {
    let mut home = with_command("${AGENT}");
    let agent = home.beside("agent");
    executable(&agent, text);
    fs::set_permissions(&agent, fs::Permissions::from_mode(mode)).unwrap();
    home.set("AGENT", &agent);
    let home = wanted(home, "failed-to-start");
    until_resting(&home);
    home
}

fn nul() -> Home {
    let changes = [PATIENT, ("environment = { ", "environment = { TEXT = \"${TEXT}\", ")];
    let mut home = Home::with_script(SLEEPER, &changes);
    home.profile("coder");
    fs::write(home.profile_dir("coder").join(".env"), b"TEXT=a\0b\n").unwrap();
    home.want_running("coder");
    home.up_quietly();
    until_resting(&home);
    home
}

fn no_directory() -> Home {
    let change = ("directory = \"{profile-home}\"", "directory = \"/proc/nowhere\"");
    let home = wanted(Home::with_script(SLEEPER, &[PATIENT, change]), "failed-to-start");
    until_resting(&home);
    home
}

fn windows() -> Home {
    let home = wanted(Home::with_script(SLEEPER, &[PATIENT]), "up");
    let run = home.slot("coder").path().join("run");
    fs::write(&run, fs::read_to_string(&run).unwrap().replace('\n', "\r\n")).unwrap();
    processes::signal(home.pid("coder"), Signal::KILL);
    until_resting(&home);
    home
}

/// Returns a home whose gateway prints its last words, ends, and is not started again for a minute.
fn ends(script: &str, last_words: &str) -> Home {
    let mut home = Home::with_script(script, &[PATIENT]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    until_resting(&home);
    until_logged_twice(&home, last_words);
    home
}

/// Waits for the lines of both attempts, because the first death is answered at once.
fn until_logged_twice(home: &Home, words: &str) {
    crate::home::until_file(&home.log_file("coder"), words, |text| text.matches(words).count() >= 2);
}

fn port_taken() -> Home {
    let home = beside_another(Home::with_agent(&[PATIENT]));
    until_resting(&home);
    crate::home::until_file(&home.log_file("coder"), "the port", |text| {
        text.to_lowercase().matches("in use").count() >= 2
    });
    home
}

/// Returns a home whose gateway is up and does not need the port that it wants.
fn beside_its_port() -> Home {
    let home = beside_another(Home::with_script(SLEEPER, &[READY]));
    home.until_report("coder", "the command", |report| report["up"] == true && report["state"] == "starting");
    home
}

/// Starts a gateway whose port this process has until the test ends.
fn beside_another(mut home: Home) -> Home {
    home.profile("coder");
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    std::mem::forget(held);
    fs::write(home.profile_dir("coder").join(".env"), format!("PORT={port}\n")).unwrap();
    home.want_running("coder");
    home.up_quietly();
    home
}

/// A control group with a limit of memory.
struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Makes the kernel kill a gateway because memory ran out, in a control group of its own. Returns
/// none if no such group can be made.
#[expect(clippy::print_stderr, reason = "it is said that this was not tried")]
fn out_of_memory() -> Option<Home> {
    let path = PathBuf::from(format!("/sys/fs/cgroup/memory/gatevisor-test-{}", std::process::id()));
    if fs::create_dir(&path).is_err() {
        eprintln!("skipped: no control group with a limit of memory can be made here");
        return None;
    }
    let group = Group(path);
    fs::write(group.0.join("memory.limit_in_bytes"), "134217728").unwrap();
    let mut home = Home::with_script("echo grows; exec tail /dev/zero", &[PATIENT]);
    home.profile("coder");
    home.want_running("coder");
    let up = home.command(["up", "--quiet"]);
    let mut inside = Command::new("sh");
    inside.args(["-c", "echo $$ >\"$1/cgroup.procs\" && shift && exec \"$@\"", "sh"]).arg(&group.0);
    inside.arg(up.get_program()).args(up.get_args());
    inside.envs(up.get_envs().filter_map(|(name, value)| Some((name, value?))));
    home.adopt(home.spawn(inside));
    until_resting(&home);
    assert_first(&home, "out-of-memory", "the kernel killed it");
    home.down();
    None
}

fn frozen() -> Home {
    let home = wanted(Home::with_script(SLEEPER, &[]), "up");
    let pid = home.pid("coder");
    processes::signal(pid, Signal::STOP);
    waiting::polled("the process to stop", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.contains(") T ").then_some(())
    });
    home
}

fn svc(home: &Home, option: &str) {
    let slot = home.slot("coder").path().display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatevisor"));
    let status = command.args(["s6", "s6-svc", option, &slot]).status().unwrap();
    assert!(status.success(), "s6-svc {option}");
}

/// Sends the supervisor a command by hand.
fn told(script: &str, option: &str, state: &str) -> Home {
    let home = wanted(Home::with_script(script, &[]), "up");
    svc(&home, option);
    home.until_state("coder", state);
    home
}

fn killed() -> Home {
    let home = wanted(Home::with_script(SLEEPER, &[]), "up");
    let pid = home.pid("coder");
    processes::signal(pid, Signal::KILL);
    home.until_report("coder", "another process", |report| {
        report["state"] == "up" && report["pid"] != pid && report["restarts"] == 1
    });
    home
}

fn killed_by_command() -> Home {
    let home = wanted(Home::with_script(SLEEPER, &[]), "up");
    let pid = home.pid("coder");
    svc(&home, "-k");
    home.until_report("coder", "another process", |report| {
        report["state"] == "up" && report["pid"] != pid && report["commanded_restarts"] == 1
    });
    home
}

/// Has a gateway killed by hand and through its supervisor, in one life of the supervisor.
fn killed_both_ways(by_hand_last: bool) -> Home {
    let home = wanted(Home::with_script(SLEEPER, &[]), "up");
    for (deaths, by_hand) in [(1, !by_hand_last), (2, by_hand_last)] {
        let pid = home.pid("coder");
        if by_hand {
            processes::signal(pid, Signal::KILL);
        } else {
            svc(&home, "-k");
        }
        home.until_report("coder", "another process", |report| {
            let all = report["deaths"].as_array().is_some_and(|all| all.len() == deaths);
            all && report["state"] == "up" && report["pid"] != pid
        });
    }
    home
}

fn stopping() -> Option<Home> {
    // It tells when it does not obey any more, so that the signal does not come before that.
    let script = "trap '' TERM; touch \"$2/deaf\"; until test -e \"$2/obey\"; do sleep 0.1; done";
    let change = ("stop-timeout-ms = 5000", "stop-timeout-ms = 600000");
    let home = wanted(Home::with_script(script, &[change]), "up");
    let profile = home.profile_dir("coder");
    waiting::polled("the trap", || profile.join("deaf").exists().then_some(()));
    svc(&home, "-d");
    home.until_state("coder", "stopping");
    assert_first(&home, "stopping", "is still there");
    fs::write(profile.join("obey"), "").unwrap();
    None
}

/// Returns a home whose gateway has shown once that it works, and nothing since.
fn unresponsive() -> Home {
    let live = "[gateway.live]\ninterval-ms = 200\nmisses = 2\n\
                heartbeat = { file = \"{profile-home}/beat\", max-age-ms = 500 }\n\n[gateway.exit-meanings]";
    let script = "until test -e \"$2/seen\"; do date +%s%N >\"$2/beat\"; sleep 0.1; done; exec sleep 1000";
    let home = wanted(Home::with_script(script, &[(MEANINGS, live)]), "up");
    waiting::polled("a sign of life", || (home.report("coder")["live"]["state"] == "live").then_some(()));
    fs::write(home.profile_dir("coder").join("seen"), "").unwrap();
    // The watcher says so, which nothing of the supervisor's announces.
    waiting::polled("that it does not respond", || {
        (home.report("coder")["state"] == "unresponsive").then_some(())
    });
    home
}

fn stopped() -> Home {
    let home = wanted(Home::with_script(SLEEPER, &[]), "up");
    home.run(["gateway", "stop", "coder", "--reason", "deploy 12"]).ok();
    home
}

fn stopped_by_another() -> Home {
    let home = wanted(Home::with_script(SLEEPER, &[]), "up");
    svc(&home, "-d");
    home.until_state("coder", "down");
    fs::write(home.state_file("coder"), r#"{"desired_state": "stopped", "updated_at": 1780000000}"#).unwrap();
    home
}

fn stopped_by_nobody_knows() -> Home {
    let home = stopped_by_another();
    fs::write(home.state_file("coder"), r#"{"desired_state": "stopped"}"#).unwrap();
    home
}

fn down_file() -> Home {
    let mut home = Home::with_script(SLEEPER, &[]);
    home.profile("coder");
    home.up_quietly();
    home.until_state("coder", "down");
    fs::write(home.state_file("coder"), r#"{"desired_state": "running"}"#).unwrap();
    home
}

fn never_asked() -> Home {
    let mut home = Home::with_script(SLEEPER, &[]);
    home.profile("coder");
    home.up_quietly();
    home.until_state("coder", "down");
    home
}

fn behind() -> Home {
    let home = stopped();
    svc(&home, "-u");
    home.until_state("coder", "up");
    home
}

fn unreadable() -> Home {
    let home = never_asked();
    fs::write(home.state_file("coder"), "{").unwrap();
    home
}

fn full_disk() -> Option<Home> {
    if was_run_in_own_mounts() {
        return None;
    }
    let mut home = Home::with_script(SLEEPER, &[]);
    let disk = Disk::mounted(&home, "1m");
    home.move_to(disk.path().join("home"));
    let mut home = wanted(home, "up");
    disk.fill();
    assert_first(&home, "disk-full", "inodes are left");
    disk.relieve();
    home.down();
    None
}

fn crash_loop() -> Option<Home> {
    let mut home = Home::with_script("exit 3", &[EAGER]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_report("coder", "many deaths", |report| {
        report["deaths"].as_array().is_some_and(|deaths| deaths.len() > 3)
    });
    // The observed state changes all the time, but most of the time it is this one.
    waiting::polled("the cause", || {
        let first = &explained(&home)["causes"][0];
        (first["cause"] == "keeps-dying" && first["evidence"].as_str()?.contains("with exit 3")).then_some(())
    });
    None
}

fn fails(code: u8) -> Home {
    let codes = ("fail-codes = [78]", "fail-codes = [78, 42]");
    wanted(Home::with_script(&format!("exit {code}"), &[codes]), "failed")
}

pub fn waits() -> Home {
    // The gateway ends when the test tells it to, so that the pause comes after the second death.
    let script = "until test -e \"$2/end\"; do sleep 0.05; done; exit 4";
    let home = wanted(Home::with_script(script, &[PATIENT, NO_WINDOW]), "up");
    fs::write(home.profile_dir("coder").join("end"), "").unwrap();
    until_resting(&home);
    home
}

/// Records which lock it holds, as the boot of a container does.
fn holding(held: &str) -> Home {
    let home = wanted(Home::with_script(SLEEPER, &[]), "up");
    fs::write(home.path().join(".gatevisor.lock"), "").unwrap();
    let said = format!("{held}\n{}", home.path().display());
    fs::write(home.scandir().join(".s6-svscan/home-lock"), said).unwrap();
    home
}

fn lock_lost() -> Home {
    holding("1:2")
}

fn lock_never_held() -> Home {
    holding("nothing")
}

fn orphan() -> Option<Home> {
    let mut home = wanted(Home::with_script(SLEEPER, &[]), "up");
    home.until_last_command("coder", b"sleep\x001000\0");
    home.kill_supervisor();
    assert_first(&home, "orphan", "(sleep 1000)");
    home.kill_everything();
    None
}

fn no_supervisor() -> Home {
    let home = Home::with_script(SLEEPER, &[]);
    home.profile("coder");
    home.want_running("coder");
    home
}

/// Returns a home with a supervisor, and a profile without a service directory.
fn unregistered() -> Home {
    let mut home = Home::with_script(SLEEPER, &[]);
    home.up_alone();
    home.plant("coder");
    home
}

fn vanished() -> Home {
    let mut home = no_supervisor();
    home.up_alone();
    home.until_state("coder", "up");
    fs::rename(home.profile_dir("coder"), home.beside("gone")).unwrap();
    home
}

fn make_slot(home: &Home, mode: u32) -> PathBuf {
    let slot = home.scandir().join(".coder");
    fs::create_dir(&slot).unwrap();
    executable(&slot.join("run"), "#!/bin/sh\nexec sleep 1000\n");
    fs::set_permissions(&slot, fs::Permissions::from_mode(mode)).unwrap();
    slot
}

fn not_taken() -> Home {
    let home = unregistered();
    want(&home);
    fs::rename(make_slot(&home, 0o755), home.slot("coder").path()).unwrap();
    home
}

fn want(home: &Home) {
    fs::write(home.state_file("coder"), r#"{"desired_state": "running"}"#).unwrap();
}

fn refused() -> Home {
    let home = unregistered();
    want(&home);
    let slot = make_slot(&home, 0o777);
    fs::rename(slot, home.slot("coder").path()).unwrap();
    home.rescan();
    let refused = home.scandir().join(".s6-svscan/refused/gateway-coder");
    waiting::polled("the refusal", || refused.exists().then_some(()));
    home
}

fn served() -> Home {
    let script = "if test \"$1\" = default; then exec sleep 1000; fi\n\
                  echo 'coder does not get a gateway of its own'; exit 78";
    let key = ("state-file = ", "served-profiles = \"served_profiles\"\nstate-file = ");
    let mut home = Home::with_script(script, &[key]);
    home.profile("coder");
    home.want_running("coder");
    home.want_running("default");
    home.up_quietly();
    home.until_state("coder", "failed");
    home.until_state("default", "up");
    let mut state = home.state("default");
    state["pid"] = home.pid("default").into();
    state["served_profiles"] = serde_json::json!(["default", "coder"]);
    fs::write(home.state_file("default"), state.to_string()).unwrap();
    home
}

fn older() -> Home {
    let home = wanted(Home::with_script(SLEEPER, &[]), "up");
    let agent = home.agent().unwrap();
    let text = fs::read_to_string(agent).unwrap();
    fs::write(agent, text.replace("stop-timeout-ms = 5000", "stop-timeout-ms = 4000")).unwrap();
    home
}

fn finishing() -> Home {
    let home = wanted(Home::with_script(SLEEPER, &[]), "up");
    executable(&home.slot("coder").path().join("finish"), "#!/bin/sh\nexec sleep 1000\n");
    fs::write(home.slot("coder").path().join("timeout-finish"), "10000\n").unwrap();
    processes::signal(home.pid("coder"), Signal::KILL);
    home.until_state("coder", "finishing");
    home
}

fn silent() -> Home {
    let mut home = Home::with_script(SLEEPER, &[READY]);
    // Nobody else may answer there.
    std::mem::forget(home.profile("coder"));
    home.want_running("coder");
    home.up_quietly();
    home.until_report("coder", "the command", |report| report["up"] == true && report["state"] == "starting");
    home
}

fn not_logged() -> Home {
    let change = (
        "log-directory = \"${HTTP_AGENT_HOME}/logs/gateways/{profile}\"",
        "log-directory = \"/dev/null/log\"",
    );
    let mut home = Home::with_script("echo begins; exec sleep 1000", &[change]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_state("coder", "up");
    let log_error = home.slot("coder").path().join("log/error");
    waiting::polled("the note", || Path::new(&log_error).exists().then_some(()));
    home
}

#[test]
fn a_name_that_nobody_has_is_refused_with_what_was_probably_meant() {
    let home = Home::with_script(SLEEPER, &[]);
    home.profile("coder");
    home.profile("writer");
    let said = home.says("explain codre").refused(1);
    assert!(said.contains("there is no profile `codre`"), "{said}");
    assert!(said.contains("did you mean `coder`?") && !said.contains("writer"), "{said}");
}

#[test]
fn a_user_who_may_not_look_is_told_so_and_not_that_nothing_is_there() {
    use std::os::unix::process::CommandExt;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = wanted(Home::with_script(SLEEPER, &[]), "up");
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    open(&home.beside(""), 0o755);
    open(home.path(), 0o755);
    open(&home.scandir(), 0o700);
    let mut command = home.command(["explain", "coder"]);
    command.uid(23_456).gid(23_456);
    let ran = home.spawn(command).ended(crate::support::WAIT_LIMIT);
    let said = format!("{}{}", ran.out, ran.err);
    assert_eq!(ran.code, Some(111), "{said}");
    assert!(said.contains("Permission denied"), "{said}");
    assert!(!said.contains("no supervisor") && !said.contains("not registered"), "{said}");
}

#[test]
fn what_a_boot_did_with_an_earlier_profile_of_a_name_is_nothing_about_a_new_one() {
    let home = Home::with_script(SLEEPER, &[]);
    home.profile("coder");
    let log = home.path().join("logs/boot.log");
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    let is_told = |year: u32| {
        let line = format!("{year}-06-01T00:00:00+0000 profile=coder prior_state=running action=started\n");
        fs::write(&log, line).unwrap();
        explained(&home)["events"].to_string().contains("action=started")
    };
    assert!(!is_told(2001), "the profile was not there yet");
    assert!(is_told(2101));
}

#[test]
fn events_are_listed_newest_first_and_the_commands_to_run_harm_nothing() {
    let home = killed();
    let said = explained(&home);
    let events = said["events"].as_array().unwrap();
    let times: Vec<&str> = events.iter().map(|event| event["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "{said:#}");
    let words: Vec<&str> = events.iter().map(|event| event["what"].as_str().unwrap()).collect();
    let place = |word: &str| words.iter().position(|what| what.contains(word));
    let (started, ended, desired) =
        (place("it was started"), place("it ended by SIGKILL"), place("running was desired"));
    assert!(started < ended && ended < desired && started.is_some(), "{said:#}");
    let commands = said["commands"].as_array().unwrap();
    assert!((1..=2).contains(&commands.len()), "{said:#}");
    assert!(!commands.iter().any(|command| command.as_str().unwrap().contains("kill ")), "{said:#}");
}

/// Returns the lines of a page, sorted, without what differs between runs: times, numbers, and who
/// ran it.
///
/// A boot is recorded to the second, so other events of that second may stand before or after it.
fn plain(page: &str) -> Vec<String> {
    let plain_line = |line: &str| {
        let mut line = line.to_owned();
        if line.starts_with("is ") {
            line.truncate(line.find(", for ").unwrap_or(line.len()));
        }
        while let Some((before, after)) = line.split_once("said by ") {
            let (_, after) = after.split_once(" (uid ").unwrap();
            line = format!("{before}said BY (uid {after}");
        }
        let digits = |c: char| c.is_ascii_digit();
        line.split(digits).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("0")
    };
    let mut lines: Vec<String> = page.replace("history ", "        ").lines().map(plain_line).collect();
    lines.sort_unstable();
    lines
}

/// Asserts that the document shows exactly this page.
#[track_caller]
fn assert_documented(home: &Home, name: &str) {
    let document = include_str!("../../docs/reference/explain.md");
    let (_, rest) = document.split_once(&format!("<!-- {name}:begin -->\n```console\n")).unwrap();
    let (shown, _) = rest.split_once("```\n").unwrap();
    let shown = shown.strip_prefix("$ gatevisor explain coder\n").unwrap();
    let page = home.redact(&home.says("explain coder").ok());
    let page = page.replace("GATEVISOR --home HOME --agent TMP/agent.toml", "gatevisor");
    assert_eq!(plain(&page), plain(shown), "docs/reference/explain.md shows another page than:\n{page}");
}

#[test]
fn the_status_of_a_gateway_that_fails_points_to_its_explanation() {
    let home = broken("/nonexistent/agent");
    let shown = home.says("gateway status coder").ok();
    assert!(shown.contains("`gatevisor explain coder` says what led there"), "{shown}");
    home.says("gateway stop coder").ok();
    let shown = home.says("gateway status coder").ok();
    assert!(!shown.contains("gatevisor explain"), "{shown}");
}

#[test]
fn a_start_that_fails_points_to_the_explanation_where_a_person_reads_it() {
    let home = broken("/nonexistent/agent");
    let (terminal, side) = terminal();
    let mut command = home.command(["gateway", "start", "coder"]);
    let mut child = command.stderr(Stdio::from(side.try_clone().unwrap())).spawn().unwrap();
    let seen = until_seen(&terminal, "`gatevisor explain coder` says what led there");
    assert_eq!(child.wait().unwrap().code(), Some(1), "{seen}");
    drop(side);
    // The hint is useless for a program that reads the output.
    let said = home.says("gateway start coder").refused(1);
    assert!(!said.contains("gatevisor explain"), "{said}");
    let found = home.says("doctor").out;
    assert!(found.contains("  more: `gatevisor explain coder` says what led there"), "{found}");
}

#[test]
fn evidence_that_was_collected_is_told() {
    let home = frozen();
    let reason = ["incidents", "coder", "--collect", "--reason", "it does not answer"];
    home.run(reason).ok();
    let said = explained(&home);
    let events = said["events"].as_array().unwrap();
    let told = |event: &Value| event["what"].as_str().unwrap().contains("logs/incidents/");
    assert!(events.iter().any(told), "{said:#}");
}

#[test]
fn the_document_shows_the_page_of_a_gateway_that_was_killed() {
    assert_documented(&killed(), "killed");
}

#[test]
fn the_document_shows_the_page_of_a_gateway_whose_command_is_missing() {
    assert_documented(&broken("/opt/agent/bin/agent"), "missing");
}
