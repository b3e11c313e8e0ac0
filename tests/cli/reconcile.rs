//! What happens to the slots before a supervisor starts.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use insta::assert_snapshot;

use crate::home::Home;
use crate::support::waiting;

/// Reconciles with and without `--dry-run`, which must print the same, and returns that.
#[track_caller]
fn reconciled(home: &Home) -> String {
    let before = snapshot(home.path());
    let planned = home.says("reconcile --dry-run").ok();
    let objects = home.says("reconcile --dry-run --json").ok();
    assert_eq!(snapshot(home.path()), before, "a dry run touched something");
    assert_eq!(objects.lines().count(), planned.lines().count());
    let done = home.says("reconcile").ok();
    assert_eq!(planned, done, "a dry run says something else than what is done");
    home.redact(&done)
}

/// Returns every path below a directory, with its content.
fn snapshot(top: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut open = vec![top.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let meta = entry.metadata().unwrap();
            let content =
                if meta.is_file() { fs::read(entry.path()).unwrap_or_default() } else { Vec::new() };
            let what = format!(
                "{:?} {:?} {}",
                meta.permissions(),
                meta.file_type(),
                String::from_utf8_lossy(&content)
            );
            all.insert(entry.path().display().to_string(), what);
            if meta.is_dir() {
                open.push(entry.path());
            }
        }
    }
    all
}

fn slots(home: &Home) -> Vec<String> {
    let entries = fs::read_dir(home.scandir()).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    // The directory in which a supervisor will have its lock.
    names.retain(|name| name != ".s6-svscan");
    names.sort();
    names
}

#[test]
fn an_empty_home_gets_the_default_slot_and_it_is_down() {
    let home = Home::built_in();
    assert_snapshot!(reconciled(&home), @"reconcile: profile=default prior_state=None action=registered");
    assert_eq!(slots(&home), ["gateway-default"]);
    assert_eq!(home.slot("default").normally_up(), Some(false));
}

#[test]
fn every_directory_with_the_marker_gets_a_slot_in_the_order_of_their_names() {
    let home = Home::built_in();
    for name in ["zeta", "alpha", "beta-2", "0"] {
        home.plant(name);
    }
    fs::create_dir(home.profile_dir("no-marker")).unwrap();
    fs::write(home.profile_dir("no-marker").join("config.yaml"), "").unwrap();
    fs::write(home.profile_dir("a-file"), "").unwrap();
    assert_snapshot!(reconciled(&home), @"
    reconcile: profile=default prior_state=None action=registered
    reconcile: profile=0 prior_state=None action=registered
    reconcile: profile=alpha prior_state=None action=registered
    reconcile: profile=beta-2 prior_state=None action=registered
    reconcile: profile=zeta prior_state=None action=registered
    ");
    assert_eq!(
        slots(&home),
        ["gateway-0", "gateway-alpha", "gateway-beta-2", "gateway-default", "gateway-zeta"]
    );
}

#[test]
fn a_profile_called_default_is_skipped_by_name() {
    let home = Home::built_in();
    home.plant_state("default", r#"{"desired_state":"stopped"}"#);
    fs::create_dir_all(home.path().join("profiles/default")).unwrap();
    fs::write(home.path().join("profiles/default/SOUL.md"), "").unwrap();
    fs::write(home.path().join("profiles/default/gateway_state.json"), r#"{"desired_state":"running"}"#)
        .unwrap();
    assert_snapshot!(reconciled(&home), @"
    reconcile: profile=default prior_state=stopped action=registered
    reconcile: profile=profiles/default/ prior_state=None action=skipped reason=the name `default` means the home itself; rename the directory
    ");
    assert_eq!(home.slot("default").normally_up(), Some(false));
}

#[test]
fn broken_profiles_are_skipped_with_their_reasons_and_stop_no_other() {
    let home = Home::built_in();
    for name in ["Upper", "with space", "_under", "tab\there", "new\nline", &"x".repeat(244)] {
        home.plant(name);
    }
    home.plant(std::os::unix::ffi::OsStrExt::from_bytes(b"b\xffd") as &std::ffi::OsStr);
    home.plant_state("list", "[]");
    home.plant_state("not-utf8", b"\xff\xfe");
    home.plant_state("not-json", "{");
    home.plant_state("zeta", r#"{"desired_state":"running"}"#);
    assert_snapshot!(reconciled(&home), @r"
    reconcile: profile=default prior_state=None action=registered
    reconcile: profile=Upper prior_state=None action=skipped reason=profile name `Upper` has the upper-case letter `U`; write `u`
    reconcile: profile=_under prior_state=None action=skipped reason=profile name `_under` begins with `_`; begin with a letter or a digit
    reconcile: profile=b�d prior_state=None action=skipped reason=profile name `b\xffd` is not UTF-8; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit
    reconcile: profile=list prior_state=None action=skipped reason=gateway_state.json holds a list where an object is expected
    reconcile: profile=new\nline prior_state=None action=skipped reason=profile name `new\nline` has the character `\n`; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit
    reconcile: profile=not-json prior_state=None action=registered reason=gateway_state.json is not JSON: EOF while parsing an object at line 1 column 1
    reconcile: profile=not-utf8 prior_state=None action=skipped reason=gateway_state.json is not UTF-8
    reconcile: profile=tab\there prior_state=None action=skipped reason=profile name `tab\there` has the character `\t`; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit
    reconcile: profile=with space prior_state=None action=skipped reason=profile name `with space` has the character ` `; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit
    reconcile: profile=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx… prior_state=None action=skipped reason=profile name `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…` has 244 bytes, and 243 is the limit; choose a shorter one
    reconcile: profile=zeta prior_state=running action=started
    ");
    assert_eq!(slots(&home), ["gateway-default", "gateway-not-json", "gateway-zeta"]);
    assert_eq!(home.slot("zeta").normally_up(), Some(true));
    let log = fs::read_to_string(home.path().join("logs/container-boot.log")).unwrap();
    assert_eq!(log.lines().count(), 12, "{log}");
    assert!(log.lines().next().unwrap().contains(" profile=default "), "{log}");
}

#[test]
fn the_desired_state_decides_and_without_one_the_last_state() {
    let home = Home::built_in();
    for (name, state) in [
        ("a", r#"{"desired_state":"running","gateway_state":"startup_failed"}"#),
        ("b", r#"{"desired_state":"stopped","gateway_state":"running"}"#),
        ("c", r#"{"desired_state":null,"gateway_state":"running"}"#),
        ("d", r#"{"gateway_state":"draining"}"#),
        ("e", r#"{"gateway_state":"degraded"}"#),
        ("f", r#"{"gateway_state":"starting"}"#),
        ("g", r#"{"gateway_state":"startup_failed"}"#),
        ("h", r#"{"gateway_state":"stopped"}"#),
        ("i", r#"{"desired_state":"draining"}"#),
        ("j", r#"{"desired_state":"Running"}"#),
        ("k", "{}"),
        ("l", "not JSON"),
        ("m", r#"{"desired_state":"running\nprofile=evil action=started"}"#),
    ] {
        home.plant_state(name, state);
    }
    home.plant("n");
    home.plant_state("default", r#"{"gateway_state":"running"}"#);
    assert_snapshot!(reconciled(&home), @r#"
    reconcile: profile=default prior_state=running action=started
    reconcile: profile=a prior_state=running action=started
    reconcile: profile=b prior_state=stopped action=registered
    reconcile: profile=c prior_state=running action=started
    reconcile: profile=d prior_state=running action=started
    reconcile: profile=e prior_state=running action=started
    reconcile: profile=f prior_state=starting action=registered
    reconcile: profile=g prior_state=startup_failed action=registered
    reconcile: profile=h prior_state=stopped action=registered
    reconcile: profile=i prior_state=draining action=registered
    reconcile: profile=j prior_state=Running action=registered
    reconcile: profile=k prior_state=None action=registered
    reconcile: profile=l prior_state=None action=registered reason=gateway_state.json is not JSON: expected ident at line 1 column 2
    reconcile: profile=m prior_state="running\nprofile=evil action=started" action=registered
    reconcile: profile=n prior_state=None action=registered
    "#);
    let up: Vec<_> =
        slots(&home).into_iter().filter(|slot| !home.scandir().join(slot).join("down").exists()).collect();
    assert_eq!(up, ["gateway-a", "gateway-c", "gateway-d", "gateway-default", "gateway-e"]);
}

#[test]
fn where_one_gateway_serves_all_profiles_only_the_default_one_is_started() {
    for (word, starts) in
        [("true", false), ("ON", false), ("1", false), ("yes", false), ("0", true), ("", true)]
    {
        let mut home = Home::built_in();
        home.set("GATEWAY_MULTIPLEX_PROFILES", word);
        home.plant_state("default", r#"{"desired_state":"running"}"#);
        home.plant_state("coder", r#"{"desired_state":"running"}"#);
        reconciled(&home);
        assert_eq!(home.slot("default").normally_up(), Some(true), "{word}");
        assert_eq!(home.slot("coder").normally_up(), Some(starts), "{word}");
    }
}

#[test]
fn no_desired_state_is_invented_for_the_default_profile() {
    let home = Home::built_in();
    home.plant("coder");
    reconciled(&home);
    assert!(!home.state_file("default").exists() && !home.state_file("coder").exists());
}

#[test]
fn stale_runtime_files_go_and_locks_stay() {
    let home = Home::built_in();
    for profile in ["default", "coder"] {
        home.plant_state(profile, "{}");
        for file in ["gateway.pid", "processes.json", "gateway.lock"] {
            fs::write(home.profile_dir(profile).join(file), "{\"pid\": 1}").unwrap();
        }
    }
    reconciled(&home);
    for profile in ["default", "coder"] {
        let there = |file| home.profile_dir(profile).join(file).exists();
        assert_eq!(
            ["gateway.pid", "processes.json", "gateway.lock"].map(there),
            [false, false, true],
            "{profile}"
        );
    }
}

#[test]
fn slots_are_made_anew_and_leftovers_are_swept() {
    let home = Home::built_in();
    home.plant_state("coder", r#"{"desired_state":"running"}"#);
    let scandir = home.scandir();
    for old in ["gateway-coder", "gateway-gone", ".gateway-coder.tmp", ".new-0123456789abcdef", ".gone-1"] {
        fs::create_dir_all(scandir.join(old).join("sub/deep")).unwrap();
        fs::write(scandir.join(old).join("stale"), "").unwrap();
        fs::write(scandir.join(old).join("down"), "").unwrap();
        fs::set_permissions(scandir.join(old).join("sub"), fs::Permissions::from_mode(0o500)).unwrap();
        fs::set_permissions(scandir.join(old), fs::Permissions::from_mode(0o700)).unwrap();
    }
    for kept in ["dashboard", ".mine"] {
        fs::create_dir_all(scandir.join(kept)).unwrap();
    }
    reconciled(&home);
    assert_eq!(slots(&home), [".mine", "dashboard", "gateway-coder", "gateway-default"]);
    let slot = scandir.join("gateway-coder");
    assert!(!slot.join("stale").exists() && !slot.join("down").exists(), "the old slot is still there");
    assert_eq!(fs::read_to_string(slot.join("type")).unwrap(), "longrun\n");
    assert!(scandir.join("gateway-default/down").exists());
    for program in ["run", "finish", "log/run"] {
        assert_eq!(
            fs::metadata(slot.join(program)).unwrap().permissions().mode() & 0o7777,
            0o755,
            "{program}"
        );
    }
}

#[test]
fn a_running_supervisor_keeps_its_slots_and_a_dry_run_works_beside_it() {
    let mut home = Home::new();
    home.plant("coder");
    home.up();
    assert_snapshot!(home.redact(&home.says("reconcile").refused(1)), @"gatevisor: error: a supervisor is running on `HOME/run/service`; reconciliation is for the time before it starts (--dry-run works at any time)");
    assert_snapshot!(home.says("reconcile --dry-run").ok(), @"
    reconcile: profile=default prior_state=None action=registered
    reconcile: profile=coder prior_state=None action=registered
    ");
}

fn boot_log_of(bytes: usize) -> (Home, std::path::PathBuf) {
    let home = Home::built_in();
    fs::create_dir_all(home.path().join("logs")).unwrap();
    let log = home.path().join("logs/container-boot.log");
    fs::write(&log, vec![b'x'; bytes]).unwrap();
    (home, log)
}

#[test]
fn the_boot_log_has_one_line_a_profile_with_the_local_time() {
    let mut home = Home::built_in();
    home.set("TZ", "Asia/Kathmandu");
    home.plant("coder");
    reconciled(&home);
    reconciled(&home);
    let log = fs::read_to_string(home.path().join("logs/container-boot.log")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 4, "{log}");
    for (line, profile) in lines.iter().zip(["default", "coder", "default", "coder"]) {
        let (stamp, rest) = line.split_at("2026-01-01T00:00:00".len());
        let digits: String = stamp.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(digits, "0000-00-00T00:00:00", "{line}");
        assert_eq!(rest, format!("+0545 profile={profile} prior_state=None action=registered"));
    }
}

#[test]
fn a_boot_log_of_262144_bytes_is_set_aside_in_the_place_of_an_older_one() {
    let (home, log) = boot_log_of(262_144);
    let aside = log.with_extension("log.1");
    fs::write(&aside, "older").unwrap();
    reconciled(&home);
    assert_eq!(fs::metadata(&aside).unwrap().len(), 262_144);
    assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 1);
}

#[test]
fn a_boot_log_of_one_byte_less_is_appended_to() {
    let (home, log) = boot_log_of(262_143);
    reconciled(&home);
    assert!(!log.with_extension("log.1").exists());
    assert!(fs::metadata(&log).unwrap().len() > 262_143);
}

#[test]
fn a_boot_log_that_cannot_be_set_aside_is_appended_to_all_the_same() {
    let (home, log) = boot_log_of(262_144);
    fs::create_dir_all(log.with_extension("log.1").join("full")).unwrap();
    let out = home.says("reconcile").ok();
    assert!(out.contains("warning: cannot rotate the boot log"), "{out}");
    assert!(fs::metadata(&log).unwrap().len() > 262_144);
}

#[test]
fn a_boot_log_that_is_a_fifo_or_a_directory_stops_nothing() {
    let make: [fn(&Path); 2] = [|path| drop(waiting::fifo(path)), |path| fs::create_dir_all(path).unwrap()];
    for make in make {
        let home = Home::built_in();
        fs::create_dir_all(home.path().join("logs")).unwrap();
        make(&home.path().join("logs/container-boot.log"));
        home.plant("coder");
        let out = home.says("reconcile").ok();
        assert!(out.contains("warning: cannot write the boot log"), "{out}");
        assert_eq!(slots(&home), ["gateway-coder", "gateway-default"]);
    }
}
