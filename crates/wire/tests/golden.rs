//! Files that real s6 wrote, and what s6's own tools said of them. `golden/make.sh` made both.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic in a test says what is wrong")]

use gatevisor_wire::{
    Pid,
    status::Status,
    tai::Tai64n,
    tally::{self, Death},
    wait::WaitStatus,
};
use std::{collections::HashMap, fs, path::PathBuf};

const STATES: [&str; 9] = [
    "never-started",
    "never-started-down",
    "up",
    "ready",
    "paused",
    "finishing",
    "down-exit-3",
    "down-sigkill",
    "wanted-down",
];

fn golden(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn lines(name: &str) -> Vec<String> {
    String::from_utf8(golden(name)).unwrap().lines().map(String::from).collect()
}

/// What `s6-svstat -o` printed for each state, by field.
fn said() -> HashMap<String, HashMap<String, String>> {
    let lines = lines("svstat.txt");
    let fields: Vec<&str> = lines[0].split(' ').collect();
    let said = |line: &String| {
        let values: Vec<&str> = line.split(' ').collect();
        assert_eq!(values.len(), fields.len(), "{line}");
        let by_field =
            fields.iter().zip(&values).map(|(field, value)| (String::from(*field), String::from(*value)));
        (String::from(values[0]), by_field.collect())
    };
    lines[1..].iter().map(said).collect()
}

/// The same fields as s6-svstat prints them, from what we decoded.
///
/// **Source:** s6 2.11 `s6-svstat.c`: a service that is not up has no pid and no readiness, and one
/// that is up has no last exit.
fn field(status: &Status, name: &str) -> String {
    let number = |value: Option<i32>| value.unwrap_or(-1).to_string();
    let last = (!status.is_up()).then_some(status.last);
    match name {
        "up" => status.is_up().to_string(),
        "wantedup" => status.want_up.to_string(),
        "ready" => (status.pid.is_some() && status.ready).to_string(),
        "paused" => status.paused.to_string(),
        "pid" => number(status.pid.filter(|_| status.is_up()).map(Pid::get)),
        "exitcode" => number(last.and_then(WaitStatus::exit_code).map(i32::from)),
        "signum" => number(last.and_then(WaitStatus::signal).map(i32::from)),
        "updownsince" => status.changed.to_string(),
        "readysince" => status.ready_at.to_string(),
        other => panic!("s6-svstat was asked for `{other}`, and this test does not know it"),
    }
}

#[test]
fn every_field_of_a_golden_status_is_what_s6_svstat_said() {
    let said = said();
    assert_eq!(said.len(), STATES.len());
    for state in STATES {
        let status = Status::decode(&golden(&format!("{state}.status"))).unwrap();
        for (name, value) in said[state].iter().filter(|(name, _)| *name != "name") {
            assert_eq!(&field(&status, name), value, "{state}: {name}");
        }
    }
}

#[test]
fn every_golden_status_is_encoded_to_the_same_bytes() {
    for state in STATES {
        let bytes = golden(&format!("{state}.status"));
        assert_eq!(Status::decode(&bytes).unwrap().encode()[..], bytes, "{state}");
    }
}

#[test]
fn golden_states_are_what_they_are_called() {
    // pid set, finishing, wanted up, ready, paused
    for (state, expected) in [
        ("never-started", [false, false, true, true, false]),
        ("never-started-down", [false, false, false, true, false]),
        ("up", [true, false, true, false, false]),
        ("ready", [true, false, true, true, false]),
        ("paused", [true, false, true, false, true]),
        ("finishing", [true, true, true, false, false]),
        ("down-exit-3", [false, false, false, true, false]),
        ("down-sigkill", [false, false, false, true, false]),
        ("wanted-down", [true, false, false, true, false]),
    ] {
        let status = Status::decode(&golden(&format!("{state}.status"))).unwrap();
        let flags = [status.pid.is_some(), status.finishing, status.want_up, status.ready, status.paused];
        assert_eq!(flags, expected, "{state}");
        // s6 2.11 has no mark for "never started"; newer versions pair "paused" with "no process"
        // for it.
        assert!(!status.never_started(), "{state}");
    }
}

#[test]
fn golden_times_lie_between_the_unix_times_of_the_first_and_the_last_file() {
    let unix: Vec<i64> = lines("unix.txt").iter().map(|line| line.parse().unwrap()).collect();
    let [from, to] = unix[..] else { panic!("unix.txt has two lines") };
    for state in STATES {
        let status = Status::decode(&golden(&format!("{state}.status"))).unwrap();
        for stamp in [status.changed, status.ready_at] {
            let (secs, _) = stamp.to_unix();
            assert!((from..=to).contains(&secs), "{state}: {stamp} is {secs}, not in {from}..={to}");
        }
    }
}

#[test]
fn the_golden_death_tally_is_what_s6_svdt_said() {
    let bytes = golden("several.death_tally");
    let deaths = tally::decode_all(&bytes).unwrap();
    let said: Vec<String> = deaths.iter().map(|death| format!("{} {}", death.at, death.how())).collect();
    assert_eq!(said, lines("svdt.txt"));
    assert_eq!(tally::encode_all(&deaths), bytes);

    let codes: Vec<(u8, u8)> = deaths.iter().map(|death| (death.exit_code, death.signal)).collect();
    assert_eq!(codes, [(0, 0), (7, 0), (255, 0), (143, 15), (137, 9), (139, 11), (125, 0)]);
    assert!(deaths.is_sorted_by_key(|death: &Death| -> Tai64n { death.at }));
}
