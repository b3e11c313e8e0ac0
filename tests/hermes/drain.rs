//! Draining the real Hermes: turns that are under way are answered before it is restarted.
//!
//! The turns go through the API server of Hermes to a model of our own, which answers when the test
//! lets it. So each restart is asked for in the middle of turns, whatever the machine does.

use std::fs;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::home::{Home, Port};
use crate::model::{Model, turn};
use crate::support::processes::Held;
use crate::support::{set_wait_limit, waiting};
use crate::topology::hermes_022;
use crate::{WAIT_LIMIT, hermes, patient, stopped, with_hermes, with_program};

const KEY: &str = "0123456789abcdef0123456789abcdef";
/// What it is called in requests.
const AGENT: &str = "hermes-agent";
/// Longer than Hermes gives a turn that it interrupts.
const LONG: Duration = Duration::from_secs(8);
const GATEWAYS: [&str; 4] = ["one", "two", "three", "four"];

/// Makes a profile whose gateway answers over HTTP and asks the model.
fn profile(home: &Home, name: &str, model: &Model) -> Port {
    home.run(["profile", "create", name]).ok();
    // Once it is told to end, so that no turn is kept by anything but the drain.
    configure(home, name, model, "agent:\n  restart_drain_timeout: 1\n")
}

/// Gives a profile's gateway the model, a port, and more settings.
fn configure(home: &Home, name: &str, model: &Model, settings: &str) -> Port {
    let (directory, port) = (home.profile_dir(name), Port::free());
    let number = port.number;
    let env = format!(
        "API_SERVER_ENABLED=true\nAPI_SERVER_HOST=127.0.0.1\nAPI_SERVER_PORT={number}\nAPI_SERVER_KEY={KEY}\n"
    );
    fs::write(directory.join(".env"), env).unwrap();
    let config = format!(
        "model:\n  default: slow\n  provider: custom\n  base_url: http://127.0.0.1:{}/v1\n  api_key: none\n  \
         context_length: 200000\n{settings}",
        model.port.number
    );
    fs::write(directory.join("config.yaml"), config).unwrap();
    port
}

/// Begins the first turn of a gateway, and waits until the model is asked for it.
///
/// That of Hermes 0.22 fails if it parses its tools while its start does so in another thread,
/// which Python 3.11 cannot. So a turn that ends without a question is begun anew.
fn first_turn(model: &Model, port: &Port, words: &str) -> JoinHandle<String> {
    let begin = || turn(port.number, KEY.to_owned(), AGENT, words.to_owned());
    let mut answer = begin();
    waiting::polled(&format!("the question `{words}`"), || {
        let is_asked = model.is_asked(words);
        if !is_asked && answer.is_finished() {
            answer = begin();
        }
        is_asked.then_some(())
    });
    answer
}

fn marker(home: &Home, name: &str) -> PathBuf {
    home.profile_dir(name).join(".drain_request.json")
}

/// Returns how many rounds of restarts there are; each restarts all gateways.
fn rounds() -> usize {
    let wanted = std::env::var("GATEVISOR_RESTARTS").ok().and_then(|number| number.parse::<usize>().ok());
    wanted.unwrap_or(20).div_ceil(GATEWAYS.len())
}

#[test]
fn real_hermes_loses_no_turn_in_twenty_restarts_in_the_middle_of_turns() {
    set_wait_limit(Duration::from_mins(1));
    let model = Model::start();
    let mut home = with_hermes();
    home.up_quietly();
    let ports: Vec<Port> = GATEWAYS.iter().map(|name| profile(&home, name, &model)).collect();
    patient(&home, &format!("gateway start {} --ready --timeout 60", GATEWAYS.join(" "))).ok();
    for round in 0..rounds() {
        model.hold();
        let words = |name: &str| format!("round {round} of {name}.");
        let turns: Vec<_> = GATEWAYS
            .iter()
            .zip(&ports)
            .map(|(name, port)| turn(port.number, KEY.to_owned(), AGENT, words(name)))
            .collect();
        for name in GATEWAYS {
            model.until_asked(&words(name));
        }
        let before = GATEWAYS.map(|name| home.pid(name));
        let line = format!("gateway restart {} --drain=3m --ready --timeout 120", GATEWAYS.join(" "));
        let restart = home.start(line.split(' '));
        for name in GATEWAYS {
            waiting::polled("a turn that is seen", || {
                (home.report(name)["drain"]["turns"] == 1).then_some(())
            });
        }
        assert_eq!(GATEWAYS.map(|name| home.pid(name)), before, "it was restarted in the middle of turns");
        model.release();
        for (name, turn) in GATEWAYS.iter().zip(turns) {
            let answer = turn.join().unwrap();
            assert!(answer.contains(&format!("you said: {}", words(name))), "a turn is lost: {answer:?}");
        }
        let ran = restart.ended(WAIT_LIMIT + WAIT_LIMIT + WAIT_LIMIT);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        for (name, pid) in GATEWAYS.iter().zip(before) {
            assert!(ran.err.contains(&format!("{name}: idle after ")), "{ran:?}");
            assert!(home.pid(name) != pid && !marker(&home, name).exists(), "{ran:?}");
        }
    }
    stopped(&mut home);
}

#[test]
fn real_hermes_is_cut_off_at_the_limit_and_told_so_and_takes_work_again_after_a_killed_drain() {
    set_wait_limit(Duration::from_mins(1));
    let model = Model::start();
    let mut home = with_hermes();
    home.up_quietly();
    let port = profile(&home, "coder", &model);
    patient(&home, "gateway start coder --ready --timeout 60").ok();

    // A killed command leaves its request. The gateway takes work again soon.
    let command = home.start(["gateway", "drain", "coder", "--for", "1h"]);
    waiting::polled("that it takes no work", || {
        (home.report("coder")["drain"]["stage"] == "idle").then_some(())
    });
    let refused = turn(port.number, KEY.to_owned(), AGENT, "refused".to_owned()).join().unwrap();
    assert!(refused.contains(" 503 ") && refused.contains("drain"), "{refused}");
    command.signal(Signal::KILL);
    command.ended(WAIT_LIMIT);
    let state = || home.state("coder")["gateway_state"] == "running" && !marker(&home, "coder").exists();
    waiting::polled("that it takes work again", || state().then_some(()));

    // A turn that takes too long is cut off, and that is told.
    model.hold();
    let cut = turn(port.number, KEY.to_owned(), AGENT, "too long.".to_owned());
    model.until_asked("too long.");
    let old = home.pid("coder");
    let ran = patient(&home, "gateway restart coder --drain=3s --ready --timeout 120");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.err.contains("coder: 1 turn still under way after ") && ran.err.contains("cut off"),
        "{ran:?}"
    );
    assert!(home.pid("coder") != old && !marker(&home, "coder").exists());
    model.release();
    let answer = cut.join().unwrap();
    assert!(!answer.contains("you said: too long."), "{answer}");
    stopped(&mut home);
}

/// A supervisor that ends asks for no drain. The gateway drains by itself, and has the grace of the
/// supervisor for it, without a setting of its own.
fn answers_before_the_supervisor_ends(program: PathBuf, settings: &str) {
    set_wait_limit(Duration::from_mins(1));
    let model = Model::start();
    let mut home = with_program(program);
    let port = configure(&home, "default", &model, settings);
    home.want_running("default");
    home.up_quietly();
    home.until_supervised("default");
    patient(&home, "wait --ready --timeout 100 default").ok();
    model.hold();
    let words = "before the end.";
    let answer = first_turn(&model, &port, words);
    let held = Held::of(home.pid("default")).unwrap();
    home.running().signal(Signal::INT);
    waiting::polled("that it drains", || {
        (home.state("default")["gateway_state"] == "draining").then_some(())
    });
    // One that it interrupts has five seconds.
    assert!(!held.gone_by(Instant::now() + LONG), "it has ended in the middle of a turn");
    model.release();
    let answer = answer.join().unwrap();
    assert!(answer.contains("you said: before the end."), "the turn is lost: {answer:?}");
    let ran = home.ended();
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn real_hermes_019_answers_the_turn_that_is_under_way_before_the_supervisor_ends() {
    answers_before_the_supervisor_ends(hermes(), "");
}

#[test]
fn real_hermes_022_answers_the_turn_that_is_under_way_before_the_supervisor_ends() {
    // It waits for turns of the API for a time of its own otherwise, whatever it is told.
    answers_before_the_supervisor_ends(hermes_022(), "agent:\n  cron_drain_timeout: 0\n");
}

#[test]
fn real_hermes_022_answers_the_turn_that_is_under_way_before_a_drained_restart() {
    set_wait_limit(Duration::from_mins(1));
    let model = Model::start();
    let mut home = with_program(hermes_022());
    // It interrupts at once when it is told to end, so that nothing but the drain keeps the turn.
    let settings = "agent:\n  cron_drain_timeout: 0\n  restart_drain_timeout: 0\n";
    let port = configure(&home, "default", &model, settings);
    home.want_running("default");
    home.up_quietly();
    home.until_supervised("default");
    patient(&home, "wait --ready --timeout 100 default").ok();
    let old = home.pid("default");
    model.hold();
    let words = "before the restart.";
    let answer = first_turn(&model, &port, words);
    let restart = home.start("gateway restart default --drain=5m --timeout 100".split(' '));
    home.until_report("default", "that a turn is left", |report| report["drain"]["turns"] == 1);
    assert_eq!(home.pid("default"), old);
    model.release();
    let answer = answer.join().unwrap();
    assert!(answer.contains("you said: before the restart."), "the turn is lost: {answer:?}");
    let ran = restart.ended(WAIT_LIMIT);
    assert!(ran.code == Some(0) && ran.err.contains("default: idle after "), "{ran:?}");
    assert_ne!(home.pid("default"), old);
    stopped(&mut home);
}
