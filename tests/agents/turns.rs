//! Turns of the real `OpenClaw` that are under way when its gateway is restarted or stopped: by its
//! own drain, and by one that Gatevisor asks for.

use std::fs;
use std::thread::JoinHandle;

use rustix::process::Signal;

use crate::home::{Home, Port};
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

fn is_answered(turn: JoinHandle<String>) {
    let answer = turn.join().unwrap();
    assert!(answer.contains(" 200 ") && answer.contains("you said: "), "the turn is lost: {answer:?}");
}

/// Runs `gatevisor` with the variables of the gateway, as a program that it starts does.
fn run_within(home: &Home, words: &[&str]) -> std::process::Output {
    let variables = fs::read(format!("/proc/{}/environ", home.pid("coder"))).unwrap();
    let variables = String::from_utf8(variables).unwrap();
    let variables = variables.split('\0').filter_map(|variable| variable.split_once('='));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gatevisor"));
    command.args(words).env_clear().envs(variables).output().unwrap()
}

/// A gateway that runs, whose turns ask the model.
struct Drained {
    home: Home,
    model: Model,
    port: u16,
    token: String,
    /// The port of the home's own gateway.
    _free: Port,
}

impl Drained {
    fn start() -> Self {
        Self::started(&["coder"])
    }

    /// Starts a second gateway with it, which is that of the home itself, and is asked for nothing.
    fn start_with_default() -> Self {
        Self::started(&["coder", "default"])
    }

    fn started(names: &[&str]) -> Self {
        support::set_wait_limit(WAIT_LIMIT);
        let model = Model::start();
        let (mut home, port, token) = asking(&model);
        let free = Port::free();
        if names.contains(&"default") {
            // As `openclaw onboard` leaves it: the secret is in its configuration alone.
            let auth =
                format!(r#""auth": {{ "mode": "token", "token": "{}" }}"#, "0123456789abcdef".repeat(2));
            let config = format!(r#"{{ "gateway": {{ "mode": "local", {auth} }} }}"#);
            fs::write(home.path().join("openclaw.json"), config).unwrap();
            fs::write(home.path().join(".env"), format!("OPENCLAW_GATEWAY_PORT={}\n", free.number)).unwrap();
        }
        home.up_quietly();
        let words = ["gateway", "start", "--ready", "--timeout", "150"].iter().chain(names);
        home.start(words).ended(WAIT_LIMIT).ok();
        Self { home, model, port, token, _free: free }
    }

    /// Begins a turn, which the model has when this returns.
    fn ask(&self, words: &str) -> JoinHandle<String> {
        let turn = turn(self.port, self.token.clone(), "openclaw", words.to_owned());
        self.model.until_asked(words);
        turn
    }

    fn until_drained(&self, turns: u32) {
        let report = self.home.until_report("coder", "its turns", |report| report["drain"]["turns"] == turns);
        assert_eq!(report["state"], "draining", "{report}");
    }
}

#[test]
fn real_openclaw_ends_its_turns_before_a_drained_restart_and_a_drained_stop() {
    let drained = Drained::start();
    let Drained { home, model, port, token, .. } = &drained;
    // A drain that is cancelled lets it take work again, while the turn goes on.
    let old = home.pid("coder");
    model.hold();
    let first = drained.ask("before the cancel.");
    let drain = home.start(["gateway", "drain", "coder", "--for", "10m"]);
    drained.until_drained(1);
    let refused = turn(*port, token.clone(), "openclaw", "meanwhile.".to_owned()).join().unwrap();
    assert!(refused.contains(" 503 "), "it takes new work: {refused:?}");
    drain.signal(Signal::INT);
    let ran = drain.ended(WAIT_LIMIT);
    assert!(ran.code == Some(130) && ran.err.contains("it takes work again"), "{ran:?}");
    let second = drained.ask("after the cancel.");
    let restart = home.start("gateway restart coder --drain=10m --ready --timeout 150".split(' '));
    drained.until_drained(2);
    assert_eq!(home.pid("coder"), old);
    model.release();
    is_answered(first);
    is_answered(second);
    let ran = restart.ended(WAIT_LIMIT);
    assert!(ran.code == Some(0) && ran.err.contains("coder: idle after "), "{ran:?}");
    assert_ne!(home.pid("coder"), old);

    model.hold();
    let third = drained.ask("before the stop.");
    let stop = home.start("gateway stop coder --drain=10m --timeout 150".split(' '));
    drained.until_drained(1);
    model.release();
    is_answered(third);
    let ran = stop.ended(WAIT_LIMIT);
    assert!(ran.code == Some(0) && ran.err.contains("coder: idle after "), "{ran:?}");
    assert_eq!(home.report("coder")["state"], "down");
    let Drained { mut home, .. } = drained;
    assert_eq!(home.down().code, Some(0));
}

#[test]
fn real_openclaw_ends_its_turns_before_its_own_restart_and_before_the_supervisor_ends() {
    let drained = Drained::start_with_default();
    let Drained { home, model, .. } = &drained;
    let old = home.pid("coder");
    model.hold();
    let first = drained.ask("before its own restart.");
    let answer =
        run_within(home, &["gateway", "restart", "--self", "--after-turn", "--reason", "new skills"]);
    assert!(answer.status.success(), "{answer:?}");
    drained.until_drained(1);
    model.release();
    is_answered(first);
    home.until_report("coder", "another process that is ready", |report| {
        report["ready"] == true && report["pid"].is_i64() && report["pid"] != old
    });
    let variables = fs::read(format!("/proc/{}/environ", home.pid("coder"))).unwrap();
    let reason = String::from_utf8_lossy(&variables).into_owned();
    assert!(reason.contains("GATEVISOR_RESTART_REASON=") && reason.contains("new skills"), "{reason}");
    home.until_report("coder", "the outcome", |report| report["asked_restart"]["stage"] == "done");

    // The grace of the supervisor is shorter than a turn may be.
    model.hold();
    let second = drained.ask("before the end of all.");
    let down = home.start(["down", "--drain=10m"]);
    drained.until_drained(1);
    // The gateway of the home is idle, and takes no new work as long as the other one is busy.
    home.until_report("default", "that it is idle", |report| report["drain"]["stage"] == "idle");
    model.release();
    is_answered(second);
    let ran = down.ended(WAIT_LIMIT);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for name in ["coder", "default"] {
        assert!(ran.err.contains(&format!("{name}: idle after ")), "{ran:?}");
    }
    let Drained { mut home, .. } = drained;
    home.ended();
}
