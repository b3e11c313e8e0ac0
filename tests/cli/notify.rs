//! What gateways report by `sd_notify`, sent by a real program in Python.

use std::fs;

use serde_json::Value;

use crate::home::Home;
use crate::support::{set_wait_limit, waiting};

/// Whenever there is a file `say`, sends its content to the given socket, or ends if that is `end`.
const SPEAKER: &str = "exec python3 -u -c 'import os, pathlib, socket, sys, time
home = pathlib.Path(sys.argv[1])
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ[\"NOTIFY_SOCKET\"])
s.send(b\"STATUS=loading 3 chats\")
while True:
    try:
        words = (home / \"say\").read_bytes()
        (home / \"say\").unlink()
        if words == b\"end\":
            sys.exit(3)
        s.send(words)
    except FileNotFoundError:
        time.sleep(0.05)' \"$2\"";

const LIVE: &str = "[gateway.live]\nnotify = true\ninterval-ms = 300\nmisses = 3\n\n[gateway.exit-meanings]";

/// Returns a home whose gateway coder sends the messages that the test chooses.
fn speaking() -> Home {
    set_wait_limit(std::time::Duration::from_mins(1));
    let mut home = Home::with_script(SPEAKER, &[("[gateway.exit-meanings]", LIVE)]);
    home.profile("coder");
    home.want_running("coder");
    // The supervisor may have a `NOTIFY_SOCKET` of its own, which its gateways must not inherit.
    home.set("NOTIFY_SOCKET", home.beside("nobody"));
    home.up_quietly();
    home.until_supervised("coder");
    home
}

/// Makes the gateway send this.
fn say(home: &Home, words: &str) {
    let profile = home.profile_dir("coder");
    fs::write(profile.join("say.new"), words).unwrap();
    fs::rename(profile.join("say.new"), profile.join("say")).unwrap();
}

fn until(home: &Home, what: &str, expected: impl Fn(&Value) -> bool) -> Value {
    waiting::polled(what, || Some(home.report("coder")).filter(|report| expected(report)))
}

#[test]
fn a_gateway_is_ready_when_it_says_so_and_what_it_does_is_shown_in_its_own_words() {
    let home = speaking();
    let report = until(&home, "what it does", |report| report["live"]["status"] == "loading 3 chats");
    assert_eq!((&report["state"], &report["ready"]), (&"starting".into(), &false.into()), "{report}");
    let waiting = home.start(["wait", "coder", "--ready", "--timeout", "60"]);
    // It says no more for long, and a machine may be slow.
    say(&home, "READY=1\nEXTEND_TIMEOUT_USEC=3600000000\nSTATUS=3 chats \u{1b}[31m");
    waiting.ended(crate::support::WAIT_LIMIT + crate::support::WAIT_LIMIT).ok();
    let report = until(&home, "what it does", |report| report["live"]["status"] == "3 chats  [31m");
    assert_eq!((&report["state"], &report["ready"]), (&"ready".into(), &true.into()), "{report}");
    let details = home.says("gateway status coder").ok();
    assert!(details.contains("it says: 3 chats"), "{details}");
    say(&home, "STOPPING=1");
    let report = until(&home, "that it is about to end", |report| report["state"] == "draining");
    assert_eq!((&report["up"], &report["live"]["state"]), (&true.into(), &"draining".into()), "{report}");
    // A restart returns when the new process has reported readiness too.
    let restarting = home.start(["gateway", "restart", "coder", "--timeout", "60"]);
    let pid = report["pid"].clone();
    until(&home, "another process", |report| {
        report["pid"] != pid && report["live"]["status"] == "loading 3 chats"
    });
    say(&home, "READY=1");
    assert!(restarting.ended(crate::support::WAIT_LIMIT + crate::support::WAIT_LIMIT).ok().contains("ready"));
}

#[test]
fn a_gateway_that_says_it_is_ready_and_ends_within_its_start_window_is_a_failed_start() {
    let window = ("stop-timeout-ms", "start-window-ms = 60000\nstop-timeout-ms");
    let mut home = Home::with_script(SPEAKER, &[("[gateway.exit-meanings]", LIVE), window]);
    home.profile("coder");
    home.up_quietly();
    for option in ["--window=60", "--ready"] {
        let starting = home.start(["gateway", "start", "coder", option]);
        until(&home, "what it does", |report| report["live"]["status"] == "loading 3 chats");
        say(&home, "READY=1\nEXTEND_TIMEOUT_USEC=3600000000");
        until(&home, "that it is ready", |report| report["ready"] == true);
        say(&home, "end");
        let said = starting.ended(crate::support::WAIT_LIMIT).refused(1);
        assert!(said.contains("coder") && said.contains("exit 3"), "{option}: {said}");
        home.says("gateway stop coder").ok();
    }
}

#[test]
fn a_gateway_that_asks_for_time_is_not_expected_to_say_more_before_that() {
    let home = speaking();
    say(&home, "READY=1\nEXTEND_TIMEOUT_USEC=3600000000");
    until(&home, "that it works", |report| report["live"]["state"] == "live");
    // A shorter message does not take it back, and only what the gateway reports counts.
    say(&home, "WATCHDOG=1");
    let looks = home.scandir().join(".live/.watcher");
    let beat = || fs::read_to_string(&looks).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    waiting::polled("many looks", || (seen.insert(beat()) && seen.len() > 12).then_some(()));
    assert_eq!(home.report("coder")["live"]["state"], "live");
    say(&home, "WATCHDOG=trigger");
    until(&home, "that it does not work", |report| report["live"]["state"] == "unresponsive");
    say(&home, "WATCHDOG=1");
    until(&home, "that it works", |report| report["live"]["state"] == "live");
}

#[test]
fn a_gateway_that_is_not_to_say_how_it_is_does_not_inherit_the_socket_of_its_supervisor() {
    let script = "env >\"$2/env.new\"; mv \"$2/env.new\" \"$2/env\"; exec sleep 1000";
    let mut home = Home::with_script(script, &[]);
    home.profile("coder");
    home.want_running("coder");
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "KEPT"] {
        home.set(name, home.beside("nobody"));
    }
    home.up_quietly();
    let file = home.profile_dir("coder").join("env");
    let environment = waiting::polled("the environment", || fs::read_to_string(&file).ok());
    assert!(environment.contains("\nKEPT="), "{environment}");
    for name in ["NOTIFY_SOCKET", "WATCHDOG_"] {
        assert!(!environment.contains(name), "{environment}");
    }
}
