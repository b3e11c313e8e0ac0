//! Evidence about gateways: collected by hand, listed, shown.

use std::fs;

use serde_json::Value;

use crate::home::Home;
use crate::support::processes;

const TALKER: &str = "sleep 3600 &\necho begins with 123456:telegram\nexec sleep 3601";

fn talking() -> Home {
    let mut home = Home::with_script(TALKER, &[]);
    home.profile("coder");
    fs::write(home.profile_dir("coder").join(".env"), "TELEGRAM_BOT_TOKEN=123456:telegram\n").unwrap();
    home.want_running("coder");
    home.up();
    home.until_logged("coder", "begins with");
    home.until_last_command("coder", b"sleep\x003601\0");
    home
}

#[test]
fn evidence_that_is_collected_by_hand_is_listed_and_shown_and_the_gateway_goes_on() {
    let home = talking();
    let pid = home.pid("coder");
    assert_eq!(home.says("incidents").ok(), "");
    let said = home.says("--json incidents --collect coder --reason it_looks_odd").ok();
    let incident: Value = serde_json::from_str(&said).unwrap();
    let path = incident["path"].as_str().unwrap();
    assert!(path.starts_with(home.profile_dir("coder").join("logs/incidents").to_str().unwrap()), "{path}");
    assert_eq!((&incident["pid"], &incident["reason"]), (&pid.into(), &"it_looks_odd".into()));
    let id = incident["id"].as_str().unwrap();
    let table = home.says("incidents").ok();
    assert!(table.contains(id) && table.contains("it_looks_odd"), "{table}");
    assert_eq!(home.says("incidents default").ok(), "");
    let shown = home.says(&format!("incidents --show {id}")).ok();
    for part in ["processes.txt", "threads.txt", "files.txt", "log.txt", "sleep 3601", "begins with"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    assert_eq!(home.pid("coder"), pid);
    assert!(processes::stat(pid).is_some());
}

#[test]
fn no_secret_of_a_profile_is_in_the_evidence() {
    let home = talking();
    home.says("incidents --collect coder").ok();
    let incidents = home.profile_dir("coder").join("logs/incidents");
    let incident = fs::read_dir(&incidents).unwrap().next().unwrap().unwrap().path();
    let mut parts = 0;
    for part in fs::read_dir(&incident).unwrap() {
        let bytes = fs::read(part.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("123456:telegram"));
        parts += 1;
    }
    assert!(parts >= 9, "{parts}");
    let log = fs::read_to_string(incident.join("log.txt")).unwrap();
    assert!(log.contains("begins with [TELEGRAM_BOT_TOKEN]"), "{log}");
}

#[test]
fn what_is_down_or_not_there_has_no_evidence_and_is_said() {
    let home = talking();
    home.profile("writer");
    let ran = home.says("incidents --collect writer");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("writer has no process to collect evidence about"), "{ran:?}");
    let ran = home.says("incidents --show 20261128T100000.000Z-coder");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("there is no incident") && ran.err.contains("lists them"), "{ran:?}");
}
