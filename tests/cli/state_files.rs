//! State files that no agent would write: they are reported, survived, moved aside, and never
//! destroyed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use insta::assert_snapshot;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::home::Home;

/// Something unusual in the place of a state file.
struct Oddity {
    what: &'static str,
    make: fn(&Path),
}

const ODDITIES: [Oddity; 8] = [
    Oddity { what: "a list", make: |path| fs::write(path, "[1, 2]").unwrap() },
    Oddity { what: "not UTF-8", make: |path| fs::write(path, b"{\"desired_state\":\"\xff\"}").unwrap() },
    Oddity { what: "not JSON", make: |path| fs::write(path, "{\"desired_state\":").unwrap() },
    Oddity { what: "empty", make: |path| fs::write(path, "").unwrap() },
    Oddity { what: "10 MB", make: |path| fs::write(path, vec![b' '; 10_000_000]).unwrap() },
    Oddity { what: "a directory", make: |path| fs::create_dir_all(path.join("inside")).unwrap() },
    Oddity {
        what: "a FIFO",
        make: |path| mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap(),
    },
    Oddity { what: "a link to itself", make: |path| symlink(path, path).unwrap() },
];

fn planted(oddity: &Oddity) -> Home {
    let home = Home::with_script("exec sleep 1000", &[]);
    home.plant("coder");
    home.plant_state("writer", r#"{"desired_state":"running"}"#);
    (oddity.make)(&home.state_file("coder"));
    home
}

#[test]
fn whatever_a_state_file_is_status_says_what_is_wrong_with_it() {
    let mut all = Vec::new();
    for oddity in &ODDITIES {
        let home = planted(oddity);
        let before = home.listing();
        let report = home.report("coder");
        assert_eq!(
            (&report["state"], &report["desired_state"]),
            (&"not-supervised".into(), &None::<&str>.into())
        );
        all.push(format!("{}: {}", oddity.what, home.redact(report["problem"].as_str().unwrap())));
        let details = home.says("gateway status coder").ok();
        assert!(details.contains("problem"), "{details}");
        home.says("status").ok();
        assert_eq!(home.listing(), before);
    }
    assert_snapshot!(all.join("\n"), @"
    a list: gateway_state.json holds a list where an object is expected
    not UTF-8: gateway_state.json is not UTF-8
    not JSON: gateway_state.json is not JSON: EOF while parsing a value at line 1 column 17
    empty: gateway_state.json is not JSON: EOF while parsing a value at line 1 column 0
    10 MB: gateway_state.json: it is longer than 1048576 bytes
    a directory: gateway_state.json: it is a directory, not a file
    a FIFO: gateway_state.json: it is a FIFO, not a file
    a link to itself: gateway_state.json: Too many levels of symbolic links
    ");
}

#[test]
fn whatever_a_state_file_is_the_others_are_reconciled() {
    let mut all = Vec::new();
    for oddity in &ODDITIES {
        let mut home = planted(oddity);
        let planned = home.says("reconcile --dry-run").ok();
        home.up();
        let log = home.boot_log();
        let coder = planned.lines().find(|line| line.contains("profile=coder")).unwrap();
        assert!(log.contains(coder.strip_prefix("reconcile: ").unwrap()), "{log}\n{coder}");
        assert!(planned.starts_with("reconcile: profile=default "), "{planned}");
        assert_eq!(home.report("writer")["state"], "up", "{planned}");
        all.push(format!("{}: {coder}", oddity.what));
    }
    assert_snapshot!(all.join("\n"), @"
    a list: reconcile: profile=coder prior_state=None action=skipped reason=gateway_state.json holds a list where an object is expected
    not UTF-8: reconcile: profile=coder prior_state=None action=skipped reason=gateway_state.json is not UTF-8
    not JSON: reconcile: profile=coder prior_state=None action=registered reason=gateway_state.json is not JSON: EOF while parsing a value at line 1 column 17
    empty: reconcile: profile=coder prior_state=None action=registered reason=gateway_state.json is not JSON: EOF while parsing a value at line 1 column 0
    10 MB: reconcile: profile=coder prior_state=None action=skipped reason=gateway_state.json: it is longer than 1048576 bytes
    a directory: reconcile: profile=coder prior_state=None action=skipped reason=gateway_state.json: it is a directory, not a file
    a FIFO: reconcile: profile=coder prior_state=None action=skipped reason=gateway_state.json: it is a FIFO, not a file
    a link to itself: reconcile: profile=coder prior_state=None action=skipped reason=gateway_state.json: Too many levels of symbolic links
    ");
}

#[test]
fn whatever_a_state_file_is_a_desired_state_is_recorded_and_the_file_is_kept_aside() {
    let mut all = Vec::new();
    for oddity in &ODDITIES {
        let mut home = planted(oddity);
        home.up();
        let kind = fs::symlink_metadata(home.state_file("coder")).unwrap().file_type();
        // Reading a FIFO would wait for a writer.
        let content = kind.is_file().then(|| fs::read(home.state_file("coder")).unwrap());
        let ran = home.says("gateway start coder");
        assert_eq!((ran.code, ran.err.matches('\n').count()), (Some(0), 1), "{ran:?}");
        all.push(format!("{}: {}", oddity.what, home.redact(ran.err.trim_end())));
        assert_eq!(home.state("coder")["desired_state"], "running");
        assert_eq!(home.report("coder")["state"], "up");
        let aside = home.profile_dir("coder").join("gateway_state.json.invalid");
        assert_eq!(fs::symlink_metadata(&aside).unwrap().file_type(), kind, "{}", oddity.what);
        assert!(content.is_none_or(|content| fs::read(aside).unwrap() == content), "{}", oddity.what);
    }
    assert_snapshot!(all.join("\n"), @"
    a list: gatevisor: warning: `gateway_state.json` holds a list where an object is expected, so it was moved aside to `gateway_state.json.invalid` and begun afresh
    not UTF-8: gatevisor: warning: `gateway_state.json` is not UTF-8, so it was moved aside to `gateway_state.json.invalid` and begun afresh
    not JSON: gatevisor: warning: `gateway_state.json` is not JSON: EOF while parsing a value at line 1 column 17, so it was moved aside to `gateway_state.json.invalid` and begun afresh
    empty: gatevisor: warning: `gateway_state.json` is not JSON: EOF while parsing a value at line 1 column 0, so it was moved aside to `gateway_state.json.invalid` and begun afresh
    10 MB: gatevisor: warning: `gateway_state.json`: it is longer than 1048576 bytes, so it was moved aside to `gateway_state.json.invalid` and begun afresh
    a directory: gatevisor: warning: `gateway_state.json`: it is a directory, not a file, so it was moved aside to `gateway_state.json.invalid` and begun afresh
    a FIFO: gatevisor: warning: `gateway_state.json`: it is a FIFO, not a file, so it was moved aside to `gateway_state.json.invalid` and begun afresh
    a link to itself: gatevisor: warning: `gateway_state.json`: Too many levels of symbolic links, so it was moved aside to `gateway_state.json.invalid` and begun afresh
    ");
}

#[test]
fn a_state_file_that_is_a_link_elsewhere_is_replaced_and_its_target_left_alone() {
    let home = Home::new();
    home.plant("coder");
    let elsewhere = home.beside("elsewhere.json");
    let content = r#"{"desired_state":"stopped","mine":1}"#;
    fs::write(&elsewhere, content).unwrap();
    symlink(&elsewhere, home.state_file("coder")).unwrap();
    home.want_running("coder");
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), content, "a file outside of the profile was written");
    assert!(fs::symlink_metadata(home.state_file("coder")).unwrap().is_file());
    assert_eq!(home.state("coder")["desired_state"], "running");
}

#[test]
fn a_state_file_that_is_a_link_to_nothing_is_replaced_and_nothing_appears_elsewhere() {
    let home = Home::new();
    home.plant("coder");
    let elsewhere = home.beside("elsewhere.json");
    symlink(&elsewhere, home.state_file("coder")).unwrap();
    home.want_running("coder");
    assert!(!elsewhere.exists(), "a file outside of the profile was made");
    assert_eq!(home.state("coder")["desired_state"], "running");
}
