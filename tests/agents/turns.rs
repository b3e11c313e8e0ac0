//! Turns of the real `OpenClaw` that are under way when its gateway is restarted or stopped. Its
//! definition has no `[gateway.drain]`: it drains by itself.

use std::fs;

use rustix::process::Signal;

use crate::home::Home;
use crate::model::{Model, turn};
use crate::support::processes::{self, Held};
use crate::{WAIT_LIMIT, support, with_openclaw};

/// Returns a home with a profile whose gateway answers turns over HTTP and asks the model, with the
/// gateway's port and token.
fn asking(model: &Model) -> (Home, u16, String) {
    let home = with_openclaw();
    home.run(["profile", "create", "coder"]).ok();
    let slow = r#"{ "id": "slow", "name": "slow", "contextWindow": 196608, "maxTokens": 8192 }"#;
    let url = format!("http://127.0.0.1:{}/v1", model.port.number);
    let local = format!(r#"{{ "baseUrl": "{url}", "apiKey": "none", "models": [ {slow} ] }}"#);
    let config = format!(
        r#"{{ "gateway": {{ "mode": "local", "http": {{ "endpoints": {{ "chatCompletions": {{ "enabled": true }} }} }} }},
              "agents": {{ "defaults": {{ "model": {{ "primary": "local/slow" }} }} }},
              "models": {{ "mode": "merge", "providers": {{ "local": {local} }} }} }}"#
    );
    let directory = home.profile_dir("coder");
    fs::write(directory.join("openclaw.json"), config).unwrap();
    let text = fs::read_to_string(directory.join(".env")).unwrap();
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    let (port, token) = (value("OPENCLAW_GATEWAY_PORT="), value("OPENCLAW_GATEWAY_TOKEN="));
    (home, port.parse().unwrap(), token)
}

#[test]
fn real_openclaw_answers_the_turn_that_is_under_way_before_it_is_restarted_and_before_it_stops() {
    support::set_wait_limit(WAIT_LIMIT);
    let model = Model::start();
    let (mut home, port, token) = asking(&model);
    home.up_quietly();
    let patient = |line: &str| home.start(line.split(' ')).ended(WAIT_LIMIT);
    patient("gateway start coder --ready --timeout 150").ok();
    let old = home.pid("coder");

    // It restarts on this signal, which `gateway restart` sends.
    model.hold();
    let answer = turn(port, token.clone(), "openclaw", "before the restart.".to_owned());
    model.until_asked("before the restart.");
    processes::signal(old, Signal::USR2);
    model.release();
    let answer = answer.join().unwrap();
    assert!(answer.contains(" 200 ") && answer.contains("you said: "), "the turn is lost: {answer:?}");
    home.until_report("coder", "another process that is ready", |report| {
        report["ready"] == true && report["pid"].is_i64() && report["pid"] != old
    });

    model.hold();
    let answer = turn(port, token, "openclaw", "before the stop.".to_owned());
    model.until_asked("before the stop.");
    let held = Held::of(home.pid("coder")).unwrap();
    let stop = home.start(["gateway", "stop", "coder", "--timeout", "150"]);
    home.until_logged("coder", "draining active work before stop");
    assert!(!held.is_gone(), "it has ended in the middle of a turn");
    model.release();
    let answer = answer.join().unwrap();
    assert!(answer.contains(" 200 ") && answer.contains("you said: "), "the turn is lost: {answer:?}");
    stop.ended(WAIT_LIMIT).ok();
    assert!(held.is_gone());
    let ran = home.down();
    assert_eq!(ran.code, Some(0), "{ran:?}");
}
