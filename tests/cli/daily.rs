//! A daily restart that the agent definition wants.

use std::fs;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::home::{Home, until_file};
use crate::support::{set_wait_limit, waiting};

/// Writes down why it was started.
const SCRIPT: &str = "printf '%s\\n' \"$GATEVISOR_RESTART_REASON\" >\"$2/reason\"; exec sleep 1000";

#[test]
fn a_gateway_is_restarted_at_the_time_of_the_day_that_the_definition_names_and_says_so() {
    set_wait_limit(Duration::from_mins(3));
    let mut home = Home::with_script(SCRIPT, &[]);
    home.set("TZ", "UTC0");
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_supervised("coder");
    home.says("wait coder --up --timeout 60").ok();
    let first = home.pid("coder");
    // The definition counts also if it is edited later.
    let at = Timestamp::now().checked_add(SignedDuration::from_secs(2)).unwrap();
    let at = at.strftime("%H:%M:%S").to_string();
    let file = home.agent().unwrap().to_owned();
    let text = fs::read_to_string(&file).unwrap();
    let edited = text.replace("restart-signal", &format!("restart-at = \"{at}\"\nrestart-signal"));
    assert_ne!(text, edited);
    fs::write(file.with_extension("new"), edited).unwrap();
    fs::rename(file.with_extension("new"), &file).unwrap();
    let report = waiting::polled("a restart that is over", || {
        let report = home.report("coder");
        (report.pointer("/asked_restart/stage").is_some_and(|stage| stage == "done")).then_some(report)
    });
    assert!(report.pointer("/asked_restart/scheduled").is_some_and(serde_json::Value::is_string), "{report}");
    let reason = format!("scheduled for {at}");
    assert!(report.pointer("/asked_restart/reason").is_some_and(|said| *said == *reason), "{report}");
    assert_ne!(home.pid("coder"), first);
    until_file(&home.profile_dir("coder").join("reason"), "the reason", |said| said.contains(&reason));
    let explained = home.says("explain coder").ok();
    assert!(explained.contains(&format!("its daily restart: {reason}")), "{explained}");
    let shown = home.says("gateway status coder").ok();
    assert!(shown.contains("scheduled") && shown.contains("its daily restart"), "{shown}");
}

#[test]
fn a_definition_whose_time_is_none_is_refused_with_its_line() {
    let home = Home::with_agent(&[("restart-signal", "restart-at = \"4.30\"\nrestart-signal")]);
    let file = home.agent().unwrap();
    let line =
        fs::read_to_string(file).unwrap().lines().position(|line| line.contains("restart-at")).unwrap() + 1;
    let ran = home.run(["agents", "check", file.to_str().unwrap()]);
    let expected = format!(":{line}:");
    assert!(ran.code == Some(1) && ran.out.contains(&expected), "{ran:?}");
    assert!(ran.out.contains("`4.30` is not a time of the day such as `04:30`"), "{ran:?}");
}
