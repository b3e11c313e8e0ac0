//! Draining the real Hermes: turns that are under way are answered before it is restarted.
//!
//! The turns go through the API server of Hermes to a model of our own, which answers when the test
//! lets it. So each restart is asked for in the middle of turns, whatever the machine does.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Signal;

use crate::home::{Home, Port};
use crate::support::{set_wait_limit, waiting};
use crate::{WAIT_LIMIT, patient, stopped, with_hermes};

const KEY: &str = "0123456789abcdef0123456789abcdef";
const GATEWAYS: [&str; 4] = ["one", "two", "three", "four"];

/// The model, which ends with this value.
struct Model {
    process: Child,
    directory: tempfile::TempDir,
    port: Port,
}

impl Model {
    fn start() -> Self {
        let (directory, port) = (tempfile::tempdir().unwrap(), Port::free());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/hermes/model.py");
        let number = port.number.to_string();
        let mut command = Command::new("/usr/bin/env");
        command.arg("python3").arg(script).arg(number).arg(directory.path()).stdin(Stdio::null());
        let process = command.stdout(Stdio::null()).spawn().unwrap();
        waiting::polled("the model", || TcpStream::connect((Ipv4Addr::LOCALHOST, port.number)).ok());
        Self { process, directory, port }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Lets it answer nothing until `release`.
    fn hold(&self) {
        fs::write(self.file("hold"), "").unwrap();
    }

    fn release(&self) {
        fs::remove_file(self.file("hold")).unwrap();
    }

    /// Waits until somebody has said this to it.
    fn until_asked(&self, words: &str) {
        let asked = || fs::read_to_string(self.file("asked")).unwrap_or_default();
        waiting::polled(&format!("the question `{words}`"), || {
            asked().lines().any(|line| line.contains(words)).then_some(())
        });
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Makes a profile whose gateway answers over HTTP and asks the model.
fn profile(home: &Home, name: &str, model: &Model) -> Port {
    home.run(["profile", "create", name]).ok();
    let (directory, port) = (home.profile_dir(name), Port::free());
    let number = port.number;
    let env = format!(
        "API_SERVER_ENABLED=true\nAPI_SERVER_HOST=127.0.0.1\nAPI_SERVER_PORT={number}\nAPI_SERVER_KEY={KEY}\n"
    );
    fs::write(directory.join(".env"), env).unwrap();
    let config = format!(
        "model:\n  default: slow\n  provider: custom\n  base_url: http://127.0.0.1:{}/v1\n  api_key: none\n  \
         context_length: 200000\nagent:\n  restart_drain_timeout: 1\n",
        model.port.number
    );
    fs::write(directory.join("config.yaml"), config).unwrap();
    port
}

/// Begins a turn; its end is what the gateway answered.
fn turn(port: u16, words: String) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let body = format!(
            "{{\"model\": \"hermes-agent\", \"messages\": [{{\"role\": \"user\", \"content\": \"{words}\"}}]}}"
        );
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(3))).unwrap();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut answer = String::new();
        let sent = stream.write_all(format!("{head}{body}").as_bytes());
        let _ = sent.and_then(|()| stream.read_to_string(&mut answer));
        answer
    })
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
        let turns: Vec<_> =
            GATEWAYS.iter().zip(&ports).map(|(name, port)| turn(port.number, words(name))).collect();
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
    let refused = turn(port.number, "refused".to_owned()).join().unwrap();
    assert!(refused.contains(" 503 ") && refused.contains("drain"), "{refused}");
    command.signal(Signal::KILL);
    command.ended(WAIT_LIMIT);
    let state = || home.state("coder")["gateway_state"] == "running" && !marker(&home, "coder").exists();
    waiting::polled("that it takes work again", || state().then_some(()));

    // A turn that takes too long is cut off, and that is told.
    model.hold();
    let cut = turn(port.number, "too long.".to_owned());
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
