//! Slots whose `log/run` is a script of s6-log which the log daemon executes itself.

use std::fs;
use std::path::Path;

use gatevisor_client::ServiceDir;

use crate::home::Home;
use crate::support::{executable, waiting};

/// Returns a supervised home with a gateway that is down, and that prints hello when it is started.
fn silent() -> Home {
    let mut home = Home::with_script("echo \"hello from $1\"; exec sleep 1000", &[]);
    home.up_quietly();
    home.profile("coder");
    home.until_supervised("coder");
    home
}

/// Replaces the logger of the gateway by a script of s6-log, as a tool that makes slots would.
fn log_by(home: &Home, arguments: &str) {
    let slot = home.slot("coder");
    let hidden = slot.path().with_file_name(".coder");
    fs::rename(slot.path(), &hidden).unwrap();
    waiting::polled("the end of its supervision", || (!slot_is_held(&hidden)).then_some(()));
    executable(&hidden.join("log/run"), &format!("#!/command/s6-log {arguments}\n"));
    fs::rename(hidden, slot.path()).unwrap();
    home.rescan();
    home.until_supervised("coder");
}

fn slot_is_held(path: &Path) -> bool {
    ServiceDir::new(path).supervised().unwrap()
}

fn until_holds(log: &Path, words: &str) -> String {
    waiting::polled(words, || {
        fs::read_to_string(log.join("current")).ok().filter(|text| text.contains(words))
    })
}

#[test]
fn logs_are_found_where_a_script_of_s6_log_keeps_them() {
    let mut home = silent();
    for (stamp, place) in [("T", "T-dir"), ("t", "t-dir"), ("", "plain-dir"), ("T", "./relative")] {
        let (log, written) = match place.strip_prefix("./") {
            None => (home.beside(place), home.beside(place).display().to_string()),
            Some(name) => (home.slot("coder").path().join("log").join(name), place.to_owned()),
        };
        log_by(&home, &format!("1 n10 s1000000 {stamp} {written}"));
        home.says("gateway start coder").ok();
        let text = until_holds(&log, "hello from coder\n");
        match stamp {
            "" => assert_eq!(text, "hello from coder\n"),
            "t" => assert!(text.starts_with("@4000"), "{text}"),
            _ => assert!(text.starts_with("20") && text.ends_with("  hello from coder\n"), "{text}"),
        }
        // The logger costs no process.
        assert!(!home.slot("coder").path().join("log/supervise").exists(), "the log daemon has it");
        let shown = home.says("logs coder").ok();
        assert!(shown.ends_with("hello from coder\n"), "{shown}");
        let report = home.until_state("coder", "up");
        assert_eq!(report["supervisor"], "gatevisor", "{report}");
        assert!(report.get("log_problem").is_none_or(serde_json::Value::is_null), "{report}");
        home.says("gateway stop coder").ok();
    }
    home.down();
}

#[test]
fn status_tells_of_a_log_that_a_script_of_s6_log_cannot_keep() {
    let mut home = silent();
    log_by(&home, "n10 s1000000 T /dev/null/log");
    home.says("gateway start coder").ok();
    let report = home.until_report("coder", "the log problem", |report| report["log_problem"].is_string());
    assert!(report["log_problem"].as_str().unwrap().contains("/dev/null/log"), "{report}");
    assert_eq!((&report["state"], &report["supervisor"]), (&"up".into(), &"gatevisor".into()), "{report}");
    home.says("gateway stop coder").ok();
    home.down();
}
