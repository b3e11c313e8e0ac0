//! The command line on slots that hold what no supervisor wrote.
//!
//! Whatever is in place of a file, each command ends by itself with a documented code, says in one
//! line what is wrong, and reports the other gateways correctly.

use std::fs;

use serde_json::Value;

use crate::home::{Home, Ran};
use crate::support::wrong::{EVERY, PRECIOUS, Wrong, remove};

const SLEEPER: &str = "exec sleep 1000";

/// Returns a home with two gateways that are up.
fn two() -> Home {
    let mut home = Home::with_script(SLEEPER, &[]);
    for name in ["coder", "writer"] {
        home.profile(name);
        home.want_running(name);
    }
    home.up();
    home.until_state("coder", "up");
    home.until_state("writer", "up");
    home
}

/// Runs a line on the damaged slot. The exit code must be documented, and the messages short.
fn asked(home: &Home, line: &str, wrong: Wrong, entry: &str) -> Ran {
    let ran = home.says(line);
    let what = format!("`{line}` with {wrong:?} as {entry}: {ran:?}");
    assert!(matches!(ran.code, Some(0 | 1 | 99 | 102 | 111)), "{what}");
    assert!(!ran.err.contains("panicked") && ran.err.lines().count() <= 2, "{what}");
    if ran.code != Some(0) {
        assert!(ran.err.starts_with("gatevisor: "), "{what}");
    }
    ran
}

/// Damages one entry of a slot in every way, and runs every command that only reads.
fn check(entry: &str) {
    let home = two();
    let slot = home.slot("coder").path().to_owned();
    let (file, aside) = (slot.join(entry), slot.join(".aside"));
    for wrong in EVERY {
        fs::rename(&file, &aside).unwrap();
        let held = wrong.replace(&file);
        for line in [
            "gateway status coder",
            "wait coder --up --timeout 0",
            "wait coder --down --timeout 0",
            "wait writer --up --timeout 0",
        ] {
            asked(&home, line, wrong, entry);
        }
        // The undamaged gateway is reported as usual.
        let ran = asked(&home, "status --json", wrong, entry);
        let mut reports = ran.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let is = |report: &Value, key: &str, value: &str| report.get(key).is_some_and(|found| found == value);
        let well = reports.any(|report| is(&report, "profile", "writer") && is(&report, "state", "up"));
        assert!(well, "{wrong:?} as {entry}: {ran:?}");
        let table = asked(&home, "status", wrong, entry);
        assert!(table.out.contains("coder") && table.code == Some(0), "{wrong:?} as {entry}: {table:?}");
        if wrong == Wrong::File {
            assert_eq!(fs::read_to_string(&file).unwrap(), PRECIOUS, "{entry}");
        }
        remove(&file);
        drop(held);
        fs::rename(&aside, &file).unwrap();
    }
    // Once it is corrected, commands work as usual.
    let before = home.pid("coder");
    home.says("gateway restart coder").ok();
    assert_ne!(home.pid("coder"), before);
}

#[test]
fn a_status_file_that_is_none_hides_no_other_gateway() {
    check("supervise/status");
}

#[test]
fn a_death_tally_that_is_none_hides_no_other_gateway() {
    check("supervise/death_tally");
}

#[test]
fn a_control_fifo_that_is_none_hides_no_other_gateway() {
    check("supervise/control");
}

#[test]
fn an_event_directory_that_is_none_hides_no_other_gateway() {
    check("event");
}

/// Damages one entry of a slot in every way, and commands it.
fn check_commands(entry: &str) {
    let home = two();
    let slot = home.slot("coder").path().to_owned();
    let (file, aside) = (slot.join(entry), slot.join(".aside"));
    for wrong in EVERY {
        fs::rename(&file, &aside).unwrap();
        let held = wrong.replace(&file);
        // Commands wait for ten seconds for a slot that seems not to be supervised yet.
        let seems_new = matches!(wrong, Wrong::Missing | Wrong::Fifo | Wrong::Socket);
        let commands = if seems_new { &["stop"][..] } else { &["stop", "start", "restart"] };
        for command in commands {
            for limit in ["--timeout 0", "--no-wait"] {
                let ran = asked(&home, &format!("gateway {command} coder {limit}"), wrong, entry);
                if entry == "supervise/control" && wrong != Wrong::HeldFifo {
                    assert!(matches!(ran.code, Some(102 | 111)), "{command} with {wrong:?}: {ran:?}");
                }
            }
        }
        home.until_state("writer", "up");
        // The supervisor may have written its own status meanwhile.
        remove(&file);
        drop(held);
        fs::rename(&aside, &file).unwrap();
    }
    for command in ["start", "stop", "start"] {
        home.says(&format!("gateway {command} coder")).ok();
    }
    home.until_state("coder", "up");
}

#[test]
fn commands_to_a_gateway_without_a_status_end_with_a_documented_code() {
    check_commands("supervise/status");
}

#[test]
fn commands_to_a_gateway_without_a_control_fifo_end_with_an_error_line() {
    check_commands("supervise/control");
}

#[test]
fn commands_to_a_gateway_without_events_end_with_a_documented_code() {
    check_commands("event");
}

/// A user that no system has.
const OWNER: u32 = 23_457;

#[test]
fn a_verb_of_roots_in_somebody_elses_home_is_that_users() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
    crate::support::need_root();
    let temp = tempfile::TempDir::new().unwrap();
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (home, closed) = (temp.path().join("home"), temp.path().join("closed"));
    for (path, owner) in [(&home, OWNER), (&closed, 0)] {
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        lchown(path, Some(owner), Some(owner)).unwrap();
    }
    let create = |name: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gatevisor"));
        command.arg("--home").arg(&home).args(["profile", "create", name]);
        crate::support::output(&mut command).unwrap()
    };
    create("coder");
    assert_eq!(fs::metadata(home.join("profiles/coder")).unwrap().uid(), OWNER);
    fs::rename(home.join("profiles"), home.join("elsewhere")).unwrap();
    symlink(&closed, home.join("profiles")).unwrap();
    assert!(!create("writer").status.success());
    assert_eq!(fs::read_dir(&closed).unwrap().count(), 0);
}
