//! Desired states on disk: what is kept, what is refused, and what a failure leaves.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use common::entries;
use gatevisor_gateways::desired::{
    Desired, DesiredState, MAX_BYTES, Provenance, RecordError, migrate, overwritten, read, read_commanded,
    record, record_for_another, record_now, record_unless_newer,
};
use gatevisor_wire::exit::ExitError as _;
use insta::assert_snapshot;
use jiff::Timestamp;
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};

const FILE: &str = "gateway_state.json";

fn desired_state(desired: Desired) -> DesiredState {
    let by = Provenance {
        uid: 1000,
        user: "alice".to_owned(),
        command: "gatevisor stop".to_owned(),
        pid: 42,
        login_uid: None,
    };
    DesiredState { desired, by, reason: None, at: Timestamp::from_millisecond(1_780_000_000_123).unwrap() }
}

fn text(dir: &Path) -> String {
    fs::read_to_string(dir.join(FILE)).unwrap()
}

/// Returns the text, with a word for the mark of the profile's directory.
fn masked(dir: &Path) -> String {
    let (text, key) = (text(dir), "\"profile_mark\":\"");
    let Some((before, rest)) = text.split_once(key) else { return text };
    let (_, after) = rest.split_once('"').unwrap();
    format!("{before}{key}MARK\"{after}")
}

#[test]
fn a_first_desired_state_makes_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let recording = record(dir.path(), FILE, &desired_state(Desired::Running)).unwrap();
    assert_eq!(recording.warning, None);
    assert_snapshot!(masked(dir.path()), @r#"{"desired_state":"running","desired_by":{"uid":1000,"user":"alice","command":"gatevisor stop","pid":42,"state":"running","profile":"default","profile_mark":"MARK"},"desired_at":"2026-05-28T20:26:40.123Z","updated_at":1780000000}"#);
    assert_eq!(entries(dir.path()), [".gateway_state.json.lock", FILE]);
}

#[test]
fn desired_states_have_times_in_the_order_in_which_they_were_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let record = |desired| record_now(dir.path(), FILE, desired_state(desired), true).unwrap().0;
    let all: Vec<Timestamp> = (0..50).map(|_| record(Desired::Running).at).collect();
    assert!(all.is_sorted_by(|one, next| one.as_millisecond() < next.as_millisecond()), "{all:?}");
    // A time far in the future is nobody's of now.
    let far = Timestamp::now().checked_add(jiff::SignedDuration::from_hours(1)).unwrap();
    drop(gatevisor_gateways::desired::record(
        dir.path(),
        FILE,
        &DesiredState { at: far, ..desired_state(Desired::Running) },
    ));
    assert!(record(Desired::Stopped).at < far);
}

#[test]
fn an_older_desired_state_does_not_replace_a_newer_one_of_a_command() {
    let dir = tempfile::tempdir().unwrap();
    let old = desired_state(Desired::Stopped);
    let newer = DesiredState { at: Timestamp::from_millisecond(1_780_000_000_124).unwrap(), ..old.clone() };
    drop(record(dir.path(), FILE, &DesiredState { desired: Desired::Running, ..newer.clone() }).unwrap());
    assert_eq!(record_unless_newer(dir.path(), FILE, &old).unwrap(), None);
    assert!(!record_for_another(dir.path(), FILE, Desired::Stopped, old.at).unwrap());
    assert_eq!(read_commanded(dir.path(), FILE).unwrap(), (Desired::Running, newer.at));
    assert!(record_unless_newer(dir.path(), FILE, &newer).unwrap().is_some());
    assert!(record_for_another(dir.path(), FILE, Desired::Running, newer.at).unwrap());
    assert_eq!(read_commanded(dir.path(), FILE), None, "another program said so");
}

#[test]
fn a_desired_state_counts_as_overwritten_only_by_an_older_one() {
    let dir = tempfile::tempdir().unwrap();
    let ours = desired_state(Desired::Running);
    drop(record(dir.path(), FILE, &ours).unwrap());
    assert!(!overwritten(dir.path(), FILE, &ours));
    let newer = DesiredState {
        at: Timestamp::from_millisecond(1_780_000_000_124).unwrap(),
        ..desired_state(Desired::Stopped)
    };
    assert!(overwritten(dir.path(), FILE, &newer));
    drop(record(dir.path(), FILE, &newer).unwrap());
    assert!(!overwritten(dir.path(), FILE, &ours), "a newer desired state of somebody else's stands");
    fs::write(dir.path().join(FILE), r#"{"gateway_state":"running"}"#).unwrap();
    assert!(overwritten(dir.path(), FILE, &ours));
    fs::write(dir.path().join(FILE), "garbage").unwrap();
    assert!(!overwritten(dir.path(), FILE, &ours));
}

#[test]
fn keys_of_others_their_order_and_the_spelling_of_numbers_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let before = r#"{"pid": 7, "gateway_state":"running","load":1.50,"big":123456789012345678901234567890,"exp":1e+2,
        "desired_state":"running","platforms":{"z":1,"a":[null,true]},"desired_reason":"old","updated_at":"2026-01-01"}"#;
    fs::write(dir.path().join(FILE), before).unwrap();
    fs::set_permissions(dir.path().join(FILE), fs::Permissions::from_mode(0o640)).unwrap();
    drop(record(dir.path(), FILE, &desired_state(Desired::Stopped)).unwrap());
    assert_snapshot!(masked(dir.path()), @r#"{"pid":7,"gateway_state":"running","load":1.50,"big":123456789012345678901234567890,"exp":1e+2,"desired_state":"stopped","platforms":{"z":1,"a":[null,true]},"updated_at":1780000000,"desired_by":{"uid":1000,"user":"alice","command":"gatevisor stop","pid":42,"state":"stopped","profile":"default","profile_mark":"MARK"},"desired_at":"2026-05-28T20:26:40.123Z"}"#);
    let reason = DesiredState { reason: Some("token revoked".to_owned()), ..desired_state(Desired::Stopped) };
    drop(record(dir.path(), FILE, &reason).unwrap());
    assert!(text(dir.path()).contains(r#""desired_reason":"token revoked""#));
    assert_eq!(fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(entries(dir.path()), [".gateway_state.json.lock", FILE]);
}

#[test]
fn an_invalid_file_is_moved_aside_and_never_destroyed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let mut warnings = Vec::new();
    let mut expected = || {
        let recording = record(dir.path(), FILE, &desired_state(Desired::Running)).unwrap();
        warnings.push(recording.warning.unwrap());
        assert_eq!(read(dir.path(), FILE).unwrap().unwrap().desired_state.as_deref(), Some("running"));
    };
    for bytes in [&b"[1,2]"[..], b"\xff", b"{\"a\":", &vec![b'x'; 10 << 20]] {
        fs::write(&path, bytes).unwrap();
        expected();
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    expected();
    fs::remove_file(&path).unwrap();
    symlink(FILE, &path).unwrap();
    expected();
    fs::remove_file(&path).unwrap();
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
    expected();
    assert_snapshot!(warnings.join("\n"), @r#"
        `gateway_state.json` holds a list where an object is expected, so it was moved aside to `gateway_state.json.invalid` and begun afresh
        `gateway_state.json` is not UTF-8, so it was moved aside to `gateway_state.json.invalid.1` and begun afresh
        `gateway_state.json` is not JSON: EOF while parsing a value at line 1 column 5, so it was moved aside to `gateway_state.json.invalid.2` and begun afresh
        `gateway_state.json`: it is longer than 1048576 bytes, so it was moved aside to `gateway_state.json.invalid.3` and begun afresh
        `gateway_state.json`: it is a directory, not a file, so it was moved aside to `gateway_state.json.invalid.4` and begun afresh
        `gateway_state.json`: Too many levels of symbolic links, so it was moved aside to `gateway_state.json.invalid.5` and begun afresh
        `gateway_state.json`: it is a FIFO, not a file, so it was moved aside to `gateway_state.json.invalid.6` and begun afresh
        "#);
    assert_eq!(fs::read(dir.path().join("gateway_state.json.invalid")).unwrap(), b"[1,2]");
    assert_eq!(fs::metadata(dir.path().join("gateway_state.json.invalid.3")).unwrap().len(), 10 << 20);
}

#[test]
fn a_home_that_is_not_there_and_a_file_that_would_grow_too_long_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let say = |error: RecordError| {
        format!("{} {error}", error.exit_code()).replace(&dir.path().display().to_string(), "DIR")
    };
    let missing =
        say(record(&dir.path().join("missing"), FILE, &desired_state(Desired::Running)).unwrap_err());
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_BYTES - 20));
    fs::write(dir.path().join(FILE), &long).unwrap();
    let too_long = say(record(dir.path(), FILE, &desired_state(Desired::Running)).unwrap_err());
    assert_snapshot!([missing, too_long].join("\n"), @r#"
        1 there is no profile home `DIR/missing` to record the desired state in
        1 `DIR/gateway_state.json` would grow over 1048576 bytes; it is as it was
        "#);
    assert_eq!(text(dir.path()), long);
}

#[test]
fn a_writer_waits_for_the_lock_and_then_says_that_it_is_held() {
    let dir = tempfile::tempdir().unwrap();
    drop(record(dir.path(), FILE, &desired_state(Desired::Running)).unwrap());
    let lock = fs::File::open(dir.path().join(".gateway_state.json.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let error = record(dir.path(), FILE, &desired_state(Desired::Stopped)).unwrap_err();
    assert_eq!(error.exit_code(), 99);
    assert_snapshot!(error.to_string().replace(&dir.path().display().to_string(), "DIR"), @"another command has been writing `DIR/gateway_state.json` for 5 s; try again");
    assert!(text(dir.path()).contains("running"));
}

#[test]
fn a_writer_behind_many_others_on_a_slow_disk_waits_for_its_turn() {
    let dir = tempfile::tempdir().unwrap();
    drop(record(dir.path(), FILE, &desired_state(Desired::Running)).unwrap());
    let lock = fs::File::options().write(true).open(dir.path().join(".gateway_state.json.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| record(dir.path(), FILE, &desired_state(Desired::Stopped)));
        // For longer than one writer may hold it, it is taken again and again, as writers do that
        // are before this one.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(7) && !waiting.is_finished() {
            lock.set_modified(SystemTime::now()).unwrap();
            thread::park_timeout(Duration::from_millis(50));
        }
        drop(lock);
        drop(waiting.join().unwrap().unwrap());
    });
    assert!(text(dir.path()).contains("stopped"));
}

#[test]
fn of_many_writers_at_once_none_loses_another_ones_keys() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE), r#"{"kept":true}"#).unwrap();
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| drop(record(dir.path(), FILE, &desired_state(Desired::Running)).unwrap()));
        }
    });
    let value: serde_json::Value = serde_json::from_str(&text(dir.path())).unwrap();
    assert_eq!((&value["kept"], &value["desired_state"]), (&true.into(), &"running".into()));
    assert_eq!(entries(dir.path()), [".gateway_state.json.lock", FILE]);
}

#[test]
fn an_old_style_container_command_is_recorded_once_and_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let now = Timestamp::from_second(1_780_000_000).unwrap();
    assert!(migrate(dir.path(), FILE, "legacy-container-cmd", now).unwrap());
    assert_snapshot!(text(dir.path()), @r#"{"gateway_state":"running","desired_state":"running","timestamp":1780000000,"migrated_from":"legacy-container-cmd"}"#);
    fs::write(dir.path().join(FILE), "garbage").unwrap();
    assert!(!migrate(dir.path(), FILE, "legacy-container-cmd", now).unwrap());
    assert_eq!(text(dir.path()), "garbage");
}

/// The second half of the test below, in a process that may not write a byte into any file.
#[test]
fn in_a_process_that_may_not_write() {
    let Some(dir) = std::env::var_os("GATEVISOR_TEST_FULL") else { return };
    let dir = Path::new(&dir);
    let before = text(dir);
    let error = record(dir, FILE, &desired_state(Desired::Stopped)).unwrap_err();
    assert!(matches!(error, RecordError::Write { .. }) && error.exit_code() == 111, "{error}");
    assert_eq!(text(dir), before);
    assert_eq!(entries(dir), [".gateway_state.json.lock", FILE]);
}

#[test]
fn on_a_full_disk_nothing_is_acknowledged_and_nothing_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    drop(record(dir.path(), FILE, &desired_state(Desired::Running)).unwrap());
    // A limit on the size of files fails a write as a full disk does, and needs no privilege.
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$1\" --exact in_a_process_that_may_not_write", "sh"])
        .arg(gatevisor_sys::process::own_program().unwrap())
        .env("GATEVISOR_TEST_FULL", dir.path())
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn invariant_a_desired_state_changes_our_keys_only(
        others in prop::collection::btree_map("[a-z_]{1,12}", any_json(), 0..6),
        stopped in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let before: serde_json::Map<_, _> = others.into_iter().collect();
        fs::write(dir.path().join(FILE), serde_json::to_vec(&before).unwrap()).unwrap();
        let desired_state = desired_state(if stopped { Desired::Stopped } else { Desired::Running });
        drop(record(dir.path(), FILE, &desired_state).unwrap());
        let mut after: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text(dir.path())).unwrap();
        let recorded = read(dir.path(), FILE).unwrap().unwrap();
        prop_assert_eq!(recorded.origin.desired_by.as_ref(), Some(&desired_state.by));
        prop_assert_eq!(recorded.prior.starts(), !stopped);
        let ours = ["desired_state", "desired_by", "desired_reason", "desired_at", "updated_at"];
        for key in ours {
            after.shift_remove(key);
        }
        let mut before = before;
        for key in ours {
            before.shift_remove(key);
        }
        prop_assert_eq!(before, after);
    }
}

/// Does what the agent's own command does: it writes a state, and keeps the keys that it does not
/// know.
fn written_by_another(dir: &Path, state: &str, second: i64) {
    let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text(dir)).unwrap();
    object.insert("desired_state".to_owned(), state.into());
    object.insert("updated_at".to_owned(), second.into());
    fs::write(dir.join(FILE), serde_json::to_string(&object).unwrap()).unwrap();
}

#[test]
fn what_another_program_wrote_is_not_attributed_to_our_last_command() {
    let dir = tempfile::tempdir().unwrap();
    let request = DesiredState { reason: Some("deploy 12".to_owned()), ..desired_state(Desired::Running) };
    drop(record(dir.path(), FILE, &request).unwrap());
    for (state, second) in
        [("stopped", 1_780_000_000), ("stopped", 1_780_000_060), ("running", 1_780_000_090)]
    {
        written_by_another(dir.path(), state, second);
        let recorded = read(dir.path(), FILE).unwrap().unwrap();
        assert!(recorded.origin.desired_by_another, "{state} {second}");
        assert_eq!((recorded.origin.desired_by, recorded.origin.desired_reason), (None, None));
        // Of the second in which ours was written, it is not known whose it is.
        let at = recorded.origin.desired_at.map(|at| at.parse::<Timestamp>().unwrap().as_second());
        assert_eq!(at, (second > 1_780_000_000).then_some(second));
    }
    // Our next command is ours again. What the gateway writes about itself does not change that.
    drop(record(dir.path(), FILE, &request).unwrap());
    let ours = text(dir.path());
    let written = ours.replace("\"updated_at\":1780000000", "\"updated_at\":\"2026-12-01T00:00:00+00:00\"");
    assert_ne!(written, ours);
    fs::write(dir.path().join(FILE), written).unwrap();
    let recorded = read(dir.path(), FILE).unwrap().unwrap();
    assert_eq!((recorded.origin.desired_by, recorded.origin.desired_by_another), (Some(request.by), false));
}

#[test]
fn a_record_that_does_not_fit_the_desired_state_beside_it_accuses_nobody() {
    let home = tempfile::tempdir().unwrap();
    let place = home.path().join("profiles/coder");
    fs::create_dir_all(&place).unwrap();
    drop(record(&place, FILE, &desired_state(Desired::Running)).unwrap());
    let ours = text(&place);
    let origin = |text: &str| {
        fs::write(place.join(FILE), text).unwrap();
        read(&place, FILE).unwrap().unwrap().origin
    };
    let stopped = r#""desired_state":"stopped""#;
    let changed = ours.replace(r#""desired_state":"running""#, stopped);
    assert!(origin(&changed).desired_by_another, "somebody changed what we had written");
    let strange = ours.replace(r#""uid":1000"#, r#""uid":"ann""#);
    for (text, why) in [
        (changed.replace("1780000000", "1770000000"), "older than the record beside it"),
        (strange, "cannot be understood"),
        (format!("{{{stopped}}}"), "no record beside"),
        (format!("{{{stopped},\"updated_at\":\"2026-05-28T20:26:40+00:00\"}}"), "no record beside"),
        (format!("{{{stopped},\"migrated_from\":\"legacy\"}}"), "an earlier container"),
    ] {
        let origin = origin(&text);
        assert!(origin.desired_unknown.as_ref().is_some_and(|said| said.contains(why)), "{text}: {origin:?}");
        let whole = (origin.desired_by.is_none(), origin.desired_by_another, origin.to_string());
        assert!(whole.0 && !whole.1 && !whole.2.contains("program"), "{text}: {origin:?}");
    }
}

#[test]
fn who_wanted_a_profile_is_known_under_its_new_name_and_not_of_a_copy() {
    let home = tempfile::tempdir().unwrap();
    let place = |name: &str| home.path().join("profiles").join(name);
    for name in ["coder", "copy"] {
        fs::create_dir_all(place(name)).unwrap();
    }
    let request = desired_state(Desired::Running);
    drop(record(&place("coder"), FILE, &request).unwrap());
    fs::copy(place("coder").join(FILE), place("copy").join(FILE)).unwrap();
    fs::rename(place("coder"), place("writer")).unwrap();
    let origin = |name: &str| read(&place(name), FILE).unwrap().unwrap().origin;
    let is_told = fs::metadata(place("writer")).unwrap().created().is_ok();
    if is_told {
        let renamed = origin("writer");
        assert_eq!(
            (renamed.desired_by.as_ref(), renamed.desired_as.as_deref()),
            (Some(&request.by), Some("coder"))
        );
        assert!(renamed.to_string().contains("when the profile was called coder"), "{renamed}");
        // Its next order is of its new name.
        drop(record(&place("writer"), FILE, &request).unwrap());
        assert_eq!(origin("writer").desired_as, None);
    }
    let copied = origin("copy");
    assert_eq!((copied.desired_by, copied.desired_at, copied.desired_by_another), (None, None, false));
    assert!(copied.desired_unknown.unwrap().contains("of the profile coder"));
}

#[test]
fn nobody_is_said_to_have_written_a_state_that_says_nothing_of_it() {
    let dir = tempfile::tempdir().unwrap();
    for (text, is_written, at) in [
        (
            r#"{"gateway_state":"running","desired_by":{"uid":1,"user":"a","command":"b","pid":2}}"#,
            false,
            None,
        ),
        (r#"{"desired_state":null,"desired_reason":"old"}"#, false, None),
        (r#"{"desired_state":"running","updated_at":"2026-05-28T20:26:40+00:00"}"#, false, None),
        (r#"{"desired_state":"running"}"#, false, None),
        (r#"{"desired_state":"running","updated_at":1780000000}"#, true, Some("2026-05-28T20:26:40Z")),
        (r#"{"desired_state":"running","migrated_from":"legacy","timestamp":5}"#, false, None),
    ] {
        fs::write(dir.path().join(FILE), text).unwrap();
        let recorded = read(dir.path(), FILE).unwrap().unwrap();
        assert_eq!(recorded.origin.desired_by_another, is_written, "{text}");
        assert_eq!((recorded.origin.desired_by, recorded.origin.desired_reason), (None, None), "{text}");
        assert_eq!(recorded.origin.desired_at.as_deref(), at, "{text}");
    }
}
