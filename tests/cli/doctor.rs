//! `gatevisor doctor`: each test breaks something for real, lets doctor find it, runs exactly the
//! printed command, and checks that the finding is gone.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use gatevisor_client::Condition;
use gatevisor_wire::control::Control;
use serde_json::Value;

use crate::disk::{Disk, was_run_in_own_mounts};
use crate::home::{Home, Ran};
use crate::support::service::give;
use crate::support::{WAIT_LIMIT, executable, is_root, need_root, waiting};

pub const NOBODY: u32 = 65_534;

/// A gateway that obeys a file in its home, so that a test can fix it.
const OBEDIENT: &str = "echo \"begins\"\ntest -e \"$2/code\" && exit $(cat \"$2/code\")\nexec sleep 1000";

/// Short pauses, so that several deaths come soon.
const EAGER: (&str, &str) = (
    "[gateway.exit-meanings]",
    "[gateway.restart]\nbackoff-first-ms = 20\nstable-after-ms = 3000\n\n[gateway.exit-meanings]",
);

/// Pauses so long that there is only one attempt, and the state stays the same.
const PATIENT: (&str, &str) =
    (EAGER.0, "[gateway.restart]\nbackoff-first-ms = 60000\n\n[gateway.exit-meanings]");

/// Returns what doctor finds, except findings about the machine's own disk, which a test does not
/// control.
#[track_caller]
pub fn findings(home: &Home) -> Vec<Value> {
    let ran = home.says("doctor --json");
    assert!(matches!(ran.code, Some(0 | 1)) && ran.err.is_empty(), "{ran:?}");
    let all: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let errors = all.iter().filter(|finding| finding["severity"] == "error").count();
    assert_eq!(ran.code, Some(i32::from(errors > 0)), "{ran:?}");
    all.into_iter().filter(|finding| finding["check"] != "disk").collect()
}

pub fn matching(findings: &[Value], check: &str, profile: Option<&str>) -> Option<Value> {
    let is_it = |finding: &&Value| finding["check"] == check && finding["profile"].as_str() == profile;
    findings.iter().find(is_it).cloned()
}

/// Returns the one finding of this check about this profile, and checks that the output for people
/// says the same.
#[track_caller]
pub fn finding(home: &Home, check: &str, profile: Option<&str>) -> Value {
    let all = findings(home);
    let found =
        matching(&all, check, profile).unwrap_or_else(|| panic!("no {check} of {profile:?}: {all:#?}"));
    let ran = home.says("doctor");
    let text = |key: &str| found.get(key).and_then(Value::as_str).unwrap_or_default();
    let fix = if text("fix").is_empty() { String::new() } else { format!("  fix:  {}\n", text("fix")) };
    let block = format!("{}: {}\n  why:  {}\n{fix}", text("severity"), text("what"), text("why"));
    assert!(ran.out.contains(&block), "{block} is not in {}", ran.out);
    found
}

#[track_caller]
pub fn gone(home: &Home, check: &str, profile: Option<&str>) {
    let all = findings(home);
    assert_eq!(matching(&all, check, profile), None, "{all:#?}");
}

/// Returns a shell that runs the printed command in the environment that commands of this home
/// have.
pub fn shell(home: &Home, before: &str, finding: &Value) -> Command {
    let fix = finding["fix"].as_str().unwrap_or_else(|| panic!("it has no remedy: {finding}"));
    let like = home.command(["doctor"]);
    let mut command = Command::new("bash");
    command.args(["-c", &format!("{before}{fix}")]).stdin(Stdio::null());
    command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

/// Runs the printed command.
#[track_caller]
pub fn fix(home: &Home, finding: &Value) {
    let ran = home.spawn(shell(home, "", finding)).ended(WAIT_LIMIT + WAIT_LIMIT);
    assert_eq!(ran.code, Some(0), "{finding}: {ran:?}");
}

/// Runs the printed command, after which doctor must not find the problem any more.
#[track_caller]
pub fn fixes(home: &Home, check: &str, profile: Option<&str>, severity: &str) -> Value {
    let found = finding(home, check, profile);
    assert_eq!(text(&found, "severity"), severity, "{found}");
    fix(home, &found);
    gone(home, check, profile);
    found
}

pub fn text<'a>(finding: &'a Value, key: &str) -> &'a str {
    finding[key].as_str().unwrap()
}

/// Returns a home with a gateway that is up.
pub fn up_with(script: &str, changes: &[(&str, &str)]) -> Home {
    let mut home = Home::with_script(script, changes);
    home.profile("coder");
    home.want_running("coder");
    home.up_alone();
    home.until("coder", Condition::Up);
    home
}

pub fn sleeping() -> Home {
    up_with("exec sleep 1000", &[])
}

pub fn chmod(path: impl AsRef<std::path::Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn where_all_is_well_one_line_says_what_was_looked_at() {
    if was_run_in_own_mounts() {
        return;
    }
    let mut home = Home::new();
    let disk = Disk::mounted(&home, "64m");
    home.move_to(disk.path().join("home"));
    let _port = home.profile("coder");
    home.want_running("coder");
    home.up();
    // The directory of its log is made at its first byte.
    home.until_logged("coder", "answers on port");
    let pulse = home.scandir().join(".live/.watcher");
    waiting::polled("the watcher", || pulse.exists().then_some(()));
    // Doctor subscribes to nothing; the subscriptions of the watchers come and go.
    let listing = || -> Vec<_> {
        let is_subscription = |path: &PathBuf| path.to_string_lossy().contains("/event/ftrig1");
        home.listing().into_iter().filter(|path| !is_subscription(path)).collect()
    };
    let before = listing();
    let ran = home.says("doctor");
    assert_eq!((ran.code, &*ran.err), (Some(0), ""), "{ran:?}");
    let said = home.redact(&ran.out);
    let pid = home.running().pid();
    assert_eq!(
        said,
        format!(
            "all well: looked at the supervisor (gatevisor, process {pid}), the home `HOME`, 2 profiles, 2 slots, owners, \
             secrets, desired states, ports, tokens, logs, deaths, disks and locks\n"
        )
    );
    assert_eq!(home.says("doctor --json").ok(), "", "no finding, no line");
    assert_eq!(listing(), before, "it left something behind");
}

#[test]
fn a_home_that_nobody_supervises_is_supervised_again() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.profile("coder");
    let found = finding(&home, "supervisor", None);
    assert_eq!(found["severity"], "warning", "nothing is desired: {found}");
    assert!(text(&found, "what").starts_with("there is no scandir `"), "{found}");
    home.want_running("coder");
    let found = finding(&home, "supervisor", None);
    assert_eq!(
        (&found["severity"], &found["path"]),
        (&"error".into(), &home.scandir().to_str().unwrap().into())
    );
    // The command supervises in the foreground, so it does not end.
    home.adopt(home.spawn(shell(&home, "exec ", &found)));
    home.until("coder", Condition::Up);
    let pulse = home.scandir().join(".live/.watcher");
    waiting::polled("the watcher", || pulse.exists().then_some(()));
    gone(&home, "supervisor", None);
    home.down();
    let found = finding(&home, "supervisor", None);
    assert!(text(&found, "what").starts_with("no supervisor runs on the scandir `"), "{found}");
}

#[test]
fn a_home_that_is_missing_or_something_else_is_fixed() {
    let home = Home::missing();
    fixes(&home, "home", None, "error");
    assert!(home.path().is_dir());
    fs::remove_dir_all(home.path()).unwrap();
    fs::write(home.path(), "kept").unwrap();
    let found = finding(&home, "home", None);
    fix(&home, &found);
    assert!(text(&finding(&home, "home", None), "what").starts_with("there is no home"), "{found}");
    assert_eq!(fs::read_to_string(home.beside("home.aside")).unwrap(), "kept");
}

#[test]
fn a_home_that_its_owner_cannot_write_to_is_opened() {
    let home = Home::new();
    home.profile("coder");
    if is_root() {
        // Run by root, doctor becomes the owner, for whom permissions hold.
        chmod(home.beside(""), 0o755);
        give(home.path(), NOBODY);
    }
    chmod(home.path(), 0o500);
    let found = fixes(&home, "home", None, "error");
    assert!(text(&found, "why").contains("Permission denied"), "{found}");
    chmod(home.profile_dir("coder"), 0o500);
    fixes(&home, "home", Some("coder"), "error");
    let mut entries: Vec<_> =
        fs::read_dir(home.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    entries.sort();
    assert_eq!(entries, [".gatevisor-agent", "profiles"], "trying left something behind");
}

#[test]
fn what_root_left_behind_in_a_users_home_is_given_back() {
    need_root();
    let home = Home::with_script("exec sleep 1000", &[]);
    chmod(home.beside(""), 0o755);
    home.profile("coder");
    home.want_running("coder");
    give(home.path(), NOBODY);
    gone(&home, "owner", None);
    give(&home.state_file("coder"), 0);
    let found = fixes(&home, "owner", Some("coder"), "error");
    assert_eq!(found["path"], home.state_file("coder").to_str().unwrap());
    give(&home.profile_dir("coder"), 0);
    fixes(&home, "owner", Some("coder"), "error");
    let owner = |path: &std::path::Path| std::os::unix::fs::MetadataExt::uid(&fs::metadata(path).unwrap());
    assert_eq!(owner(&home.state_file("coder")), NOBODY);
    assert_eq!(owner(&home.profile_dir("coder").join(".env")), NOBODY);
}

#[test]
fn secrets_that_others_may_read_are_closed() {
    let home = Home::new();
    home.profile("coder");
    let file = home.profile_dir("coder").join(".env");
    chmod(&file, 0o644);
    let found = finding(&home, "secret", Some("coder"));
    assert!(text(&found, "what").contains("open to others (mode 0644)"), "{found}");
    fix(&home, &found);
    gone(&home, "secret", Some("coder"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_profile_without_a_slot_gets_one_and_a_slot_without_a_profile_goes() {
    let home = sleeping();
    home.plant("late");
    fixes(&home, "slot", Some("late"), "warning");
    home.plant_state("desired", "{\"desired_state\": \"running\"}");
    fixes(&home, "slot", Some("desired"), "error");
    home.until("desired", Condition::Up);
    fs::remove_dir_all(home.profile_dir("desired")).unwrap();
    let found = fixes(&home, "slot", Some("desired"), "error");
    assert!(text(&found, "what").contains("belongs to no profile"), "{found}");
    assert!(!home.slot("desired").path().exists());
}

#[test]
fn a_slot_that_the_supervisor_refuses_is_made_anew() {
    let home = sleeping();
    home.plant("open");
    let open = home.scandir().join(".open");
    fs::create_dir(&open).unwrap();
    executable(&open.join("run"), "#!/bin/sh\nexec sleep 1000\n");
    chmod(&open, 0o777);
    fs::rename(open, home.scandir().join("gateway-open")).unwrap();
    home.rescan();
    let refused = home.scandir().join(".s6-svscan/refused/gateway-open");
    waiting::polled("the refusal", || refused.exists().then_some(()));
    let found = fixes(&home, "slot", Some("open"), "error");
    assert!(text(&found, "why").starts_with("others than its owner may write to it (mode 0777)"), "{found}");
    home.until_state("open", "down");
}

#[test]
fn a_service_that_nobody_supervises_yet_is_taken() {
    let home = sleeping();
    let other = home.scandir().join("other");
    fs::create_dir(&other).unwrap();
    executable(&other.join("run"), "#!/bin/sh\nexec sleep 1000\n");
    fs::write(other.join("down"), "").unwrap();
    let found = finding(&home, "slot", None);
    assert!(text(&found, "what").contains("nobody supervises other"), "{found}");
    fix(&home, &found);
    waiting::polled("the supervisor of it", || {
        gatevisor_client::ServiceDir::new(&other).supervised().unwrap().then_some(())
    });
    gone(&home, "slot", None);
}

#[test]
fn lines_that_cannot_be_kept_are_kept_again() {
    let mut home = Home::with_script("echo \"begins\"\nexec cat 0<>\"$2/lines\"", &[]);
    home.profile("coder");
    home.want_running("coder");
    let mut lines = waiting::fifo(&home.profile_dir("coder").join("lines"));
    fs::create_dir_all(home.path().join("logs/gateways")).unwrap();
    fs::write(home.path().join("logs/gateways/coder"), "in the way").unwrap();
    home.up_quietly();
    home.until("coder", Condition::Up);
    let log = home.slot("coder").path().join("log");
    waiting::until(&log, "the note of the error", || log.join("error").exists().then_some(()));
    let found = finding(&home, "log", Some("coder"));
    assert_eq!(found["severity"], "error", "{found}");
    fix(&home, &found);
    // The log daemon tries again when lines come, at most once a second.
    waiting::polled("the end of the problem", || {
        lines.write_all(b"another\n").unwrap();
        (!log.join("error").exists()).then_some(())
    });
    home.until_logged("coder", "another");
    gone(&home, "log", Some("coder"));
}

#[test]
fn two_gateways_that_share_a_port_get_different_ones_and_the_port_is_not_shown() {
    let home = Home::new();
    let port = home.profile("coder");
    home.profile("writer");
    let number = port.number.to_string();
    fs::write(home.profile_dir("writer").join(".env"), format!("PORT={number}")).unwrap();
    let found = finding(&home, "port", Some("writer"));
    assert_eq!(text(&found, "what"), "profiles coder and writer listen on the same port: PORT and PORT");
    for line in ["doctor", "doctor --json"] {
        assert!(!home.says(line).out.contains(&format!("={number}")), "{}", home.says(line).out);
    }
    fixes(&home, "port", Some("writer"), "warning");
    // A profile without a setting listens on the agent's default port.
    home.plant("third");
    home.plant("fourth");
    gone(&home, "port", Some("coder"));
    fixes(&home, "port", Some("third"), "warning");
    let file = home.profile_dir("third").join(".env");
    assert_eq!(
        fs::metadata(file).unwrap().permissions().mode() & 0o777,
        0o600,
        "it will hold secrets one day"
    );
}

#[test]
fn two_gateways_that_share_a_token_get_different_ones_and_nothing_of_it_is_shown() {
    const SECRET: &str = "8123456789:AAFqqzzxw-vvkkwwq_zzqqjjx-0xDEADBEEF";
    let mut home = Home::with_script("exec sleep 1000", &[]);
    for name in ["coder", "writer"] {
        home.run(["profile", "create", name]).ok();
        let quote = if name == "coder" { "\"" } else { "" };
        let text = format!("# keys\nexport BOT_TOKEN = {quote}{SECRET}{quote}\nOTHER=1\n");
        fs::write(home.profile_dir(name).join(".env"), text).unwrap();
    }
    let found = finding(&home, "token", Some("writer"));
    assert_eq!(found["severity"], "warning", "neither runs: {found}");
    home.want_running("coder");
    home.want_running("writer");
    home.up_quietly();
    home.until("writer", Condition::Up);
    let first = home.pid("writer");
    let length = SECRET.len().to_string();
    for line in ["doctor", "doctor --json"] {
        let ran = home.says(line);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let said = ran.out.clone() + &ran.err;
        assert!(said.contains("profiles coder and writer have the same BOT_TOKEN"), "{said}");
        // Neither a part of the secret nor its length is shown.
        for part in SECRET.split([':', '-', '_']) {
            assert!(!said.contains(part), "{said}");
        }
        assert!(!said.contains(&format!(" {length} ")), "{said}");
    }
    fixes(&home, "token", Some("writer"), "error");
    assert_eq!(fs::read_to_string(home.profile_dir("writer").join(".env")).unwrap(), "# keys\nOTHER=1\n");
    assert!(fs::read_to_string(home.profile_dir("coder").join(".env")).unwrap().contains(SECRET));
    assert_ne!(home.pid("writer"), first, "it was started again, without the token");
}

#[test]
fn a_gateway_that_failed_for_good_is_started_once_its_cause_is_fixed() {
    let mut home = Home::with_script(OBEDIENT, &[]);
    home.profile("coder");
    home.want_running("coder");
    let code = home.profile_dir("coder").join("code");
    fs::write(&code, "78").unwrap();
    home.up_quietly();
    home.until_state("coder", "failed");
    let found = finding(&home, "crash", Some("coder"));
    assert_eq!(found["severity"], "error");
    assert!(
        text(&found, "why").starts_with("exit 78: no valid PORT in its .env, will not be retried"),
        "{found}"
    );
    fs::remove_file(&code).unwrap();
    fixes(&home, "crash", Some("coder"), "error");
    home.until_state("coder", "up");
}

#[test]
fn a_crash_loop_is_found_with_how_it_ends_each_time() {
    let mut home = Home::with_script(OBEDIENT, &[EAGER]);
    home.profile("coder");
    home.want_running("coder");
    let code = home.profile_dir("coder").join("code");
    fs::write(&code, "3").unwrap();
    home.up_quietly();
    home.until_report("coder", "several deaths", |report| report["deaths"].as_array().unwrap().len() >= 5);
    // Meanwhile the gateway keeps dying, so two looks see different states.
    let all = findings(&home);
    let found = matching(&all, "crash", Some("coder")).unwrap_or_else(|| panic!("{all:#?}"));
    assert_eq!(found["severity"], "error");
    assert!(text(&found, "what").contains("keeps dying"), "{found}");
    assert!(text(&found, "why").starts_with("the last time with exit 3"), "{found}");
    // Only its log helps, and then the cause must be fixed.
    fix(&home, &found);
    fs::remove_file(&code).unwrap();
    home.says("gateway start coder").ok();
    waiting::polled("a life that is long enough", || {
        matching(&findings(&home), "crash", Some("coder")).is_none().then_some(())
    });
}

#[test]
fn a_command_that_cannot_be_executed_is_found_with_the_reason() {
    let home = up_with("exec sleep 1000", &[PATIENT]);
    let run = home.slot("coder").path().join("run");
    let good = fs::read_to_string(&run).unwrap();
    executable(&run, &good.replace("/bin/sh", "/nonexistent/sh"));
    let said = home.says("gateway restart coder").refused(1);
    assert!(said.contains("failed to start"), "{said}");
    home.until_report("coder", "a long pause", |report| {
        report["state"] == "failed-to-start"
            && report["next_start_in_ms"].as_u64().is_some_and(|left| left > 30_000)
    });
    let found = finding(&home, "crash", Some("coder"));
    assert!(text(&found, "why").contains("`/nonexistent/sh`: No such file or directory"), "{found}");
    executable(&run, &good);
    fixes(&home, "crash", Some("coder"), "error");
}

#[test]
fn a_gateway_that_is_down_or_paused_against_the_desired_state_is_up_again() {
    let home = sleeping();
    home.slot("coder").send(&[Control::Down]).unwrap();
    home.until_state("coder", "down");
    fixes(&home, "crash", Some("coder"), "warning");
    let svc = Command::new(env!("CARGO_BIN_EXE_gatevisor"))
        .args(["s6", "s6-svc", "-p"])
        .arg(home.slot("coder").path())
        .status();
    assert!(svc.unwrap().success());
    home.until_state("coder", "paused");
    let found = finding(&home, "crash", Some("coder"));
    fix(&home, &found);
    home.until_state("coder", "up");
    gone(&home, "crash", Some("coder"));
}

#[test]
fn a_state_file_that_says_nothing_is_begun_afresh() {
    let home = Home::new();
    home.profile("coder");
    fs::write(home.state_file("coder"), "[1, 2").unwrap();
    let found = finding(&home, "desired-state", Some("coder"));
    assert!(text(&found, "why").starts_with("gateway_state.json is not JSON"), "{found}");
    // The desired state is recorded. That there is no supervisor is another finding.
    assert_eq!(home.spawn(shell(&home, "", &found)).ended(WAIT_LIMIT).code, Some(102));
    gone(&home, "desired-state", Some("coder"));
    assert_eq!(
        fs::read_to_string(home.profile_dir("coder").join("gateway_state.json.invalid")).unwrap(),
        "[1, 2"
    );
}

#[test]
fn a_full_disk_is_found_until_there_is_room() {
    if was_run_in_own_mounts() {
        return;
    }
    let mut home = Home::new();
    let disk = Disk::mounted(&home, "4m");
    home.move_to(disk.path().join("home"));
    home.profile("coder");
    disk.fill();
    let full = |home: &Home| {
        let out = home.says("doctor --json").out;
        let all: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        all.into_iter()
            .find(|finding| text(finding, "what").contains("disk of") && finding["severity"] == "error")
    };
    let found = full(&home).expect("it is full");
    assert!(text(&found, "what").ends_with("is full"), "{found}");
    assert_eq!(home.says("doctor").code, Some(1));
    // The command shows what takes the space. The operator decides what to remove.
    let shown = home.spawn(shell(&home, "", &found)).ended(WAIT_LIMIT);
    assert!(shown.code == Some(0) && shown.out.contains("/home"), "{shown:?}");
    disk.relieve();
    assert_eq!(full(&home), None);
}

#[test]
fn whatever_is_in_place_of_a_file_doctor_ends_and_the_terminal_is_safe() {
    let home = sleeping();
    let plant = |name: &str| home.plant(name);
    let fifo = plant("fifo");
    waiting::stale_fifo(&fifo.join(".env"));
    waiting::stale_fifo(&fifo.join("gateway_state.json"));
    waiting::stale_fifo(&fifo.join("gateway.pid"));
    waiting::stale_fifo(&fifo.join(".gateway_state.json.lock"));
    let giant = plant("giant");
    for name in [".env", "gateway_state.json", "gateway.pid"] {
        fs::File::create(giant.join(name)).unwrap().set_len(1 << 40).unwrap();
    }
    let linked = plant("linked");
    for name in [".env", "gateway_state.json"] {
        std::os::unix::fs::symlink("/dev/zero", linked.join(name)).unwrap();
    }
    plant("Bad\u{1b}[31mname\n");
    let service = home.scandir().join("evil\u{1b}]0;title\u{7}\nname");
    fs::create_dir(&service).unwrap();
    let ran = home.says("doctor");
    assert_eq!((ran.code, &*ran.err), (Some(1), ""), "{ran:?}");
    let is_safe = |text: &str| !text.replace('\n', "").contains(char::is_control);
    assert!(is_safe(&ran.out), "{:?}", ran.out);
    for line in ran.out.lines() {
        let is_ours = ["error: ", "warning: ", "note: ", "  why:  ", "  fix:  ", "  more: "]
            .iter()
            .any(|b| line.starts_with(b));
        assert!(is_ours || line.is_empty() || line.contains("; looked at "), "{line}");
    }
    let all = findings(&home);
    for name in ["fifo", "giant", "linked"] {
        for check in ["secret", "desired-state"] {
            assert!(matching(&all, check, Some(name)).is_some(), "{check} of {name}: {all:#?}");
        }
    }
    // The commands are quoted, and change exactly what they name.
    let found =
        all.iter().find(|found| found["path"].as_str().is_some_and(|path| path.contains("evil"))).unwrap();
    assert!(is_safe(text(found, "fix")) && is_safe(text(found, "path")), "{found}");
    fix(&home, &matching(&all, "secret", Some("fifo")).unwrap());
    assert!(fifo.join(".env.aside").exists());
    fs::remove_dir(service).unwrap();
}

#[test]
fn a_user_without_rights_is_told_what_that_user_may_know() {
    need_root();
    let home = sleeping();
    chmod(home.beside(""), 0o755);
    let line = home.command(["doctor"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatevisor"));
    command.args(["s6", "s6-setuidgid", "nobody"]).arg(line.get_program()).args(line.get_args());
    command.envs(line.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let Ran { code, out, err } = home.spawn(command).ended(WAIT_LIMIT);
    assert_eq!((code, &*err), (Some(1), ""), "{out}");
    assert!(out.contains("cannot write to the home") && out.contains("cannot be told as uid 65534"), "{out}");
}

#[test]
fn a_token_behind_a_byte_order_mark_is_taken_out_as_well() {
    let mut home = Home::with_script(OBEDIENT, &[]);
    let file = |home: &Home, name: &str| home.profile_dir(name).join(".env");
    for (name, before) in [("coder", ""), ("writer", "\u{feff}")] {
        home.profile(name);
        fs::write(file(&home, name), format!("{before}BOT_TOKEN=1234567890\r\nOTHER=1\r\n")).unwrap();
    }
    home.up_quietly();
    for locale in ["C", "C.UTF-8"] {
        home.set("LC_ALL", locale);
        fs::write(file(&home, "writer"), "\u{feff}BOT_TOKEN=1234567890\r\nOTHER=1\r\n").unwrap();
        fixes(&home, "token", Some("writer"), "warning");
        assert_eq!(fs::read_to_string(file(&home, "writer")).unwrap(), "OTHER=1\r\n", "{locale}");
    }
}

#[test]
fn what_file_systems_and_file_servers_put_beside_profiles_is_nobodys_business() {
    const FOREIGN: [&str; 8] = [
        "lost+found",
        "@eaDir",
        "#recycle",
        "#snapshot",
        ".snapshots",
        ".Trash-1000",
        "~snapshot",
        "$RECYCLE.BIN",
    ];
    let home = Home::new();
    home.profile("coder");
    if is_root() {
        chmod(home.beside(""), 0o755);
        give(home.path(), NOBODY);
    }
    for name in FOREIGN {
        let path = home.path().join("profiles").join(name);
        fs::create_dir(&path).unwrap();
        // Whatever the directory holds, it cannot be a profile.
        fs::write(path.join("agent.conf"), "").unwrap();
        chmod(&path, 0o700);
    }
    let all = findings(&home);
    for name in FOREIGN {
        assert!(!all.iter().any(|finding| finding.to_string().contains(name)), "{name}: {all:#?}");
    }
    let listed = home.says("profile list");
    assert_eq!((&*listed.out, &*listed.err), ("coder\n", ""));
    let planned = home.says("reconcile --dry-run").ok();
    assert_eq!(planned.lines().count(), 2, "{planned}");
}
