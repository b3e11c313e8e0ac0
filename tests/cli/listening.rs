//! Following what happens: `status --watch`, `events`, `wait`.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use gatevisor_wire::control::{Control, ControlSignal};
use rustix::process::Signal;
use rustix::termios::Winsize;
use serde_json::Value;

use crate::home::{Home, Running};
use crate::support::{WAIT_LIMIT, processes, waiting};
use crate::terminal::{terminal, until_seen};

const SLEEPER: &str = "exec sleep 1000";

fn sleeping(names: &[&str]) -> Home {
    let mut home = Home::with_script(SLEEPER, &[]);
    for name in names {
        home.profile(name);
        home.want_running(name);
    }
    home.up();
    home
}

/// Waits until a command that runs has subscribed to a gateway. `up` and the watcher of gateways
/// are subscribers too, so it is not enough that there is one.
pub fn until_subscribed(running: &Running, home: &Home, profile: &str) {
    let events = home.slot(profile).event_path();
    waiting::polled("a subscription", || {
        let subscriptions = events.canonicalize().ok()?.join("ftrig1");
        let subscriptions = subscriptions.to_str()?;
        processes::descriptors(running.pid()).iter().any(|fd| fd.contains(subscriptions)).then_some(())
    });
}

#[track_caller]
fn objects(text: &str) -> Vec<Value> {
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))).collect()
}

fn until_event(running: &Running, profile: &str, event: &str) -> Value {
    running.until_out(event, |out| {
        objects(out).into_iter().find(|object| object["profile"] == profile && object["event"] == event)
    })
}

#[test]
fn a_watched_table_shows_a_change_when_it_happens() {
    let home = sleeping(&["coder"]);
    let watching = home.start(["status", "--watch"]);
    let pid = home.pid("coder").to_string();
    watching.until_out("the first table", |out| out.contains(&pid).then_some(()));
    until_subscribed(&watching, &home, "coder");
    home.says("gateway stop coder").ok();
    watching.until_out("the change", |out| {
        let last = out.rsplit("\n\n").next()?;
        last.lines().find(|line| line.starts_with("coder") && line.contains(" down ")).map(drop)
    });
    watching.signal(Signal::INT);
    let out = watching.ended(WAIT_LIMIT).out;
    assert!(!out.contains('\x1b'), "a file is no terminal: {out:?}");
}

#[test]
fn a_watched_table_that_is_longer_than_the_screen_has_pages_which_enter_turns_and_keeps_its_head() {
    let home = Home::with_script(SLEEPER, &[]);
    for number in 0..20 {
        home.plant(format!("p{number:02}"));
    }
    home.run(["reconcile"]).ok();
    let (terminal, side) = terminal();
    let ten_rows = Winsize { ws_row: 10, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&side, ten_rows).unwrap();
    let mut command = home.command(["status", "--watch"]);
    command.stdin(side.try_clone().unwrap());
    let mut child = command.stdout(side).stderr(Stdio::null()).spawn().unwrap();
    let seen = until_seen(&terminal, "Enter shows the next");
    // The table is shown once more as soon as changes are followed.
    let rows: Vec<&str> = seen.split("\x1b[H\x1b[J").next().unwrap().lines().collect();
    assert!(rows[0].contains("21 gateways: 21 not supervised"), "{seen}");
    assert!(rows[1].contains("PROFILE") && rows[2].contains("default") && rows[3].contains("p00"), "{seen}");
    assert_eq!((rows.len(), rows[7].contains("page 1 of 5")), (8, true), "{seen}");
    (&terminal).write_all(b"\n").unwrap();
    let seen = until_seen(&terminal, "page 2 of 5");
    let second = seen.split("\x1b[H\x1b[J").find(|frame| frame.contains("page 2 of 5")).unwrap();
    assert!(second.contains("PROFILE") && second.contains("p04") && !second.contains("p03"), "{second}");
    (&terminal).write_all(b"q\n").unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_watched_table_of_objects_has_one_a_line_and_no_escape_codes() {
    let home = sleeping(&["coder"]);
    let watching = home.start(["status", "--watch", "--json", "coder"]);
    watching.until_out("the first object", |out| (!objects(out).is_empty()).then_some(()));
    until_subscribed(&watching, &home, "coder");
    home.says("gateway stop coder").ok();
    let out = watching.until_out("the change", |out| {
        objects(out).iter().any(|object| object["state"] == "down").then(|| out.to_owned())
    });
    assert!(!out.contains('\x1b'), "{out}");
}

#[test]
fn events_name_each_death_and_each_start() {
    let home = sleeping(&["coder", "writer"]);
    let all = home.start(["events", "--json"]);
    let writer = home.start(["events", "writer"]);
    // Both commands must have subscribed: a stop and a start of writer appear in each.
    until_subscribed(&all, &home, "coder");
    until_subscribed(&all, &home, "writer");
    until_subscribed(&writer, &home, "writer");
    processes::signal(home.pid("coder"), Signal::KILL);
    let died = until_event(&all, "coder", "died");
    assert_eq!((&died["service"], &died["byte"]), (&"gateway-coder".into(), &"d".into()), "{died}");
    died["time"].as_str().unwrap().parse::<jiff::Timestamp>().expect("the time is RFC 3339");
    let up = until_event(&all, "coder", "up");
    assert_eq!(up["byte"], "u", "{up}");
    home.says("gateway stop writer").ok();
    let said = writer.until_says(" writer down\n");
    assert!(said.contains(" writer died\n") && !said.contains("coder"), "{said}");
    until_event(&all, "writer", "down");
}

#[test]
fn events_shows_gateways_that_come_later() {
    let home = sleeping(&[]);
    let all = home.start(["events", "--json"]);
    until_subscribed(&all, &home, "default");
    home.run(["profile", "create", "late"]).ok();
    until_subscribed(&all, &home, "late");
    home.says("gateway start late").ok();
    until_event(&all, "late", "up");
    home.slot("late").send(&[Control::Signal(ControlSignal::Stop)]).unwrap();
    until_event(&all, "late", "paused");
    home.slot("late").send(&[Control::Signal(ControlSignal::Continue)]).unwrap();
    until_event(&all, "late", "continued");
    home.says("profile delete --yes late").ok();
    until_event(&all, "late", "down");
}

#[test]
fn wait_ends_with_0_once_it_is_so() {
    let home = sleeping(&["coder"]);
    home.says("wait --up coder").ok();
    home.says("-p coder wait --up").ok();
    let down = home.start(["wait", "--down", "coder"]);
    until_subscribed(&down, &home, "coder");
    home.says("gateway stop coder").ok();
    assert_eq!(down.ended(WAIT_LIMIT).code, Some(0));
    let up = home.start(["wait", "--up", "coder", "--timeout", "20"]);
    until_subscribed(&up, &home, "coder");
    home.says("gateway start coder").ok();
    assert_eq!(up.ended(WAIT_LIMIT).code, Some(0));
}

#[test]
fn wait_without_an_option_waits_until_it_is_up_and_its_help_names_all() {
    let home = sleeping(&["coder"]);
    home.says("wait coder --timeout 20").ok();
    let help = home.says("wait --help").ok();
    for option in ["--up ", "--ready ", "--live ", "--down "] {
        assert!(help.contains(option), "{help}");
    }
}

#[test]
fn wait_for_ready_takes_until_the_gateway_answers() {
    let mut home = Home::new();
    let port = home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_supervised("coder");
    home.says("wait --ready coder").ok();
    assert!(port.healthy());
}

#[test]
fn wait_ends_with_1_when_the_gateway_failed_for_good() {
    let mut home = Home::with_script("exit 78", &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_state("coder", "failed");
    let said = home.says("wait --up coder").refused(1);
    insta::assert_snapshot!(said, @"gatevisor: error: the gateway of coder does not come up: exit code 78 means that a restart cannot help");
}

#[test]
fn wait_says_that_nobody_starts_what_is_down_and_goes_on_waiting() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.profile("coder");
    home.up_quietly();
    home.until_state("coder", "down");
    let waiting = home.start(["--json", "wait", "coder"]);
    waiting.until_warns("the gateway of coder is down, and nobody has started it; waiting");
    home.says("gateway start coder").ok();
    let ended = waiting.ended(WAIT_LIMIT);
    assert_eq!((ended.code, &*ended.out, ended.err.lines().count()), (Some(0), "", 1), "{ended:?}");
    home.says("gateway stop coder").ok();
    let late = home.says("wait coder --timeout 3");
    assert_eq!(late.code, Some(99), "{late:?}");
    insta::assert_snapshot!(late.err, @r"
    gatevisor: the gateway of coder is down, and its desired state is stopped; waiting
    gatevisor: error: the gateway of coder did not get there in time; it is down, and its desired state is stopped
    ");
    // Whoever asks whether it is up at this moment is told once.
    let said = home.says("wait coder --timeout 0").refused(99);
    assert!(said.ends_with("in time; it is down, and its desired state is stopped"), "{said}");
}

#[test]
fn a_switched_off_probe_is_waited_for_in_vain_and_the_wait_says_that_nobody_starts_it() {
    let probe = "ready = { http = \"http://127.0.0.1:1/\", when = \"no\" }\nstop-timeout-ms";
    let mut home = Home::with_script("exec sleep 1000", &[("stop-timeout-ms", probe)]);
    home.profile("coder");
    home.up_quietly();
    home.until_state("coder", "down");
    let waiting = home.start(["wait", "--ready", "coder"]);
    waiting.until_warns("the gateway of coder is down, and nobody has started it; waiting");
    home.says("gateway start coder").ok();
    let ended = waiting.ended(WAIT_LIMIT);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("nothing tells whether it is ready"), "{ended:?}");
}

#[test]
fn wait_ends_with_99_when_the_time_is_over() {
    let home = sleeping(&["coder"]);
    let said = home.says("wait --down coder --timeout 0").refused(99);
    insta::assert_snapshot!(said, @"gatevisor: error: the gateway of coder did not get there in time; it is up");
    let began = std::time::Instant::now();
    home.says("wait --down coder --timeout 1").refused(99);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn wait_ends_with_102_when_the_supervisor_goes() {
    let mut home = sleeping(&["coder"]);
    home.says("gateway stop coder").ok();
    let up = home.start(["wait", "--up", "coder"]);
    until_subscribed(&up, &home, "coder");
    home.down();
    let said = home.redact(&up.ended(WAIT_LIMIT).refused(102));
    insta::assert_snapshot!(said, @"gatevisor: error: no supervisor is running for `coder` (`HOME/run/service`); `gatevisor up` starts one");
    home.says("wait --up coder").refused(102);
}

#[test]
fn events_say_that_a_supervisor_that_goes_releases_its_gateways() {
    let mut home = sleeping(&["coder"]);
    let all = home.start(["events", "--json"]);
    until_subscribed(&all, &home, "coder");
    home.running().signal(Signal::INT);
    until_event(&all, "coder", "died");
    until_event(&all, "coder", "released");
    drop(all);
    home.ended();
}
