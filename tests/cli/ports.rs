//! Ports that another process has, and profiles that another gateway serves, are reported as such.

use std::fs;
use std::process::{Child, Command, Stdio};

use crate::home::{Home, Port};
use crate::support::waiting;

const READY: &str =
    "ready = { http = \"http://127.0.0.1:${PORT:-8700}/health\", interval-ms = 50, timeout-ms = 600000 }\n";
/// Only one attempt, so that the report about it stays the same.
const PATIENT: (&str, &str) =
    ("[gateway.exit-meanings]", "[gateway.restart]\nbackoff-first-ms = 600000\n\n[gateway.exit-meanings]");

/// A gateway that somebody started by hand.
struct ByHand(Child);

impl ByHand {
    fn on(home: &Home, port: &Port) -> Self {
        let place = home.beside("by-hand");
        fs::create_dir(&place).unwrap();
        fs::write(place.join(".env"), format!("PORT={}\n", port.number)).unwrap();
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/http-agent.py");
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-u", program, "hand"]).arg(&place).stdin(Stdio::null()).stdout(Stdio::null());
        let started = Self(command.spawn().unwrap());
        waiting::polled("the one that was started by hand", || port.healthy().then_some(()));
        started
    }

    fn called(&self) -> String {
        format!("process {} (python3 http-agent.py)", self.0.id())
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the messages of a failed start, with the last lines of the gateway.
#[track_caller]
fn failed(home: &Home, line: &str) -> String {
    let ran = home.says(line);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    ran.err
}

#[test]
fn an_older_process_that_answers_on_the_port_makes_no_gateway_ready() {
    let probed = format!("{READY}stop-timeout-ms");
    let mut home = Home::with_script("exec sleep 1000", &[("stop-timeout-ms", &probed)]);
    let port = home.profile("coder");
    let older = ByHand::on(&home, &port);
    home.up_quietly();
    home.says("gateway start coder --no-wait").ok();
    let held = format!("port {} is held by {}, and not by this service", port.number, older.called());
    let report = home.until_report("coder", "a reason", |report| report["reason"] == *held);
    assert_eq!((&report["state"], &report["ready"]), (&"starting".into(), &false.into()), "{report}");
    let said = home.says("gateway start coder --ready --timeout 1").refused(99);
    assert!(said.contains(&format!("it is starting ({held})")), "{said}");
    for line in ["status", "gateway status coder"] {
        let said = home.says(line).ok();
        assert!(said.contains(&format!("starting: {held}")), "{line}: {said}");
    }
    let found = home.says("doctor").out;
    assert!(found.contains(&held), "{found}");
    home.says("wait --ready coder --timeout 1").refused(99);
    assert!(!home.running().err().contains("ready"));
}

#[test]
fn a_gateway_whose_port_is_taken_is_told_with_the_holder_and_so_is_the_advice() {
    let mut home = Home::with_agent(&[PATIENT]);
    let port = home.profile("coder");
    let older = ByHand::on(&home, &port);
    home.up_quietly();
    let held = format!("port {} is held by {}", port.number, older.called());
    let said = failed(&home, "gateway start coder");
    assert!(
        said.contains("failed to start: it ended") && said.contains(&format!("{held}; exit 1")),
        "{said}"
    );
    // The first death is answered at once, so there may be a second one.
    let report =
        home.until_report("coder", "a pause", |report| report["next_start_in_ms"].as_u64().is_some());
    assert_eq!((&report["port_held"], &report["port_holder"]), (&held.clone().into(), &older.0.id().into()));
    for line in ["status", "gateway status coder"] {
        let said = home.says(line).ok();
        assert!(said.contains(&format!(": {held}; exit 1")), "{line}: {said}");
    }
    let found = home.says("doctor --json").out;
    let found = found.lines().find(|line| line.contains(&held)).unwrap_or_else(|| panic!("{found}"));
    assert!(found.contains(&format!("ps -o pid,ppid,user,lstart,args -p {}", older.0.id())), "{found}");
    assert!(!found.contains("gateway start coder"), "{found}");
    // When its port is free, the gateway can be started, and the report does not mention the port
    // any more.
    drop(older);
    home.says("gateway start coder --ready").ok();
    assert_eq!(home.report("coder")["port_held"], serde_json::Value::Null);
}

#[test]
fn a_port_that_another_profiles_gateway_has_is_told_with_that_profile() {
    let mut home = Home::with_agent(&[PATIENT]);
    let port = home.profile("writer");
    home.profile("coder");
    fs::write(home.profile_dir("coder").join(".env"), format!("PORT={}\n", port.number)).unwrap();
    home.up_quietly();
    home.says("gateway start writer --ready").ok();
    let said = failed(&home, "gateway start coder");
    let held =
        format!("port {} is held by the gateway of writer, process {} (", port.number, home.pid("writer"));
    assert!(said.contains(&held), "{said}");
}

#[test]
fn a_profile_that_another_gateway_serves_is_said_to_be_served_and_not_to_be_down() {
    let script = r#"
        test "$1" = default || exit 78
        printf '{"desired_state": "running", "pid": %d, "served_profiles": ["default", "coder"]}' $$ > "$2/state.new"
        mv "$2/state.new" "$2/gateway_state.json"
        exec sleep 1000
    "#;
    let served = "served-profiles = \"served_profiles\"\nstop-timeout-ms";
    let mut home = Home::with_script(script, &[("stop-timeout-ms", served)]);
    home.profile("coder");
    home.profile("writer");
    home.up_quietly();
    home.says("gateway start default").ok();
    let said = failed(&home, "gateway start coder");
    assert!(said.contains("exit 78: the gateway of default serves it"), "{said}");
    let report = home.report("coder");
    let by = format!("by default (pid {})", home.pid("default"));
    assert_eq!((&report["state"], &report["reason"]), (&"served".into(), &by.into()), "{report}");
    let table = home.says("status").ok();
    assert!(table.contains("served by default"), "{table}");
    let found = home.says("doctor").out;
    assert!(!found.contains("coder failed"), "{found}");
    // It serves only the profiles that it names, and none after its end.
    assert_eq!(home.report("writer")["state"], "down");
    home.says("gateway stop default").ok();
    assert_eq!(home.report("coder")["state"], "failed");
}

/// Returns a home whose gateways are asked in this way whether they work.
fn asked(kind: &str, script: &str) -> Home {
    let live = format!(
        "[gateway.live]\ninterval-ms = 100\nmisses = 2\nstart-deadline-ms = 200\n\
         {kind} = {{ url = \"http://127.0.0.1:${{PORT:-8700}}/health\" }}\n\n[gateway.exit-meanings]"
    );
    Home::with_script(script, &[("[gateway.exit-meanings]", &live)])
}

/// Returns the report once the watcher has looked, and what answered did not count.
fn looked_at(home: &Home, held: &str) -> serde_json::Value {
    waiting::polled("a look", || {
        let report = home.report("coder");
        let is_told = report
            .pointer("/live/reason")
            .and_then(serde_json::Value::as_str)
            .is_some_and(|reason| reason.contains(held));
        let is_unresponsive = report.pointer("/live/state").is_some_and(|state| state == "unresponsive");
        (is_told && is_unresponsive).then_some(report)
    })
}

#[test]
fn a_gateway_that_is_up_beside_the_holder_of_its_port_is_never_said_to_live_by_it_and_the_holder_is_told() {
    for kind in ["http", "tcp"] {
        let mut home = asked(kind, "exec sleep 1000");
        let port = home.profile("coder");
        let older = ByHand::on(&home, &port);
        home.up_quietly();
        let held = format!("port {} is held by {}", port.number, older.called());
        assert!(home.says("gateway start coder").err.contains(&held));
        let report = looked_at(&home, &held);
        let (known, pid) = ((&report["port_held"], &report["port_holder"]), older.0.id());
        assert_eq!(known, (&held.clone().into(), &pid.into()), "{report}");
        assert_eq!(
            (&report["up"], &report["live"]["state"]),
            (&true.into(), &"unresponsive".into()),
            "{report}"
        );
        for line in ["status", "gateway status coder", "doctor", "explain coder"] {
            let said = home.says(line).out;
            assert!(said.contains(&held), "{line}: {said}");
        }
        let page = home.says("explain coder").ok();
        assert!(
            page.starts_with("coder: it is up without its port") && page.contains("(port-not-its-own)"),
            "{page}"
        );
        home.down();
    }
}

#[test]
fn a_gateway_that_is_up_beside_another_profiles_gateway_on_its_port_is_told_with_that_profile() {
    let agent = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/http-agent.py");
    let script =
        format!("test \"$1\" != writer || exec /usr/bin/python3 -u {agent} \"$1\" \"$2\"\nexec sleep 1000");
    let mut home = asked("http", &script);
    let port = home.profile("writer");
    home.profile("coder");
    fs::write(home.profile_dir("coder").join(".env"), format!("PORT={}\n", port.number)).unwrap();
    home.up_quietly();
    // A slow start is called unresponsive for a while, and then the command fails.
    home.says("gateway start writer --no-wait").ok();
    waiting::polled("the port of writer", || port.healthy().then_some(()));
    home.says("gateway start coder --no-wait").ok();
    let held =
        format!("port {} is held by the gateway of writer, process {} (", port.number, home.pid("writer"));
    let report = looked_at(&home, &held);
    assert!(report["port_held"].as_str().is_some_and(|said| said.contains(&held)), "{report}");
    assert_eq!(home.report("writer")["port_held"], serde_json::Value::Null);
    waiting::polled("evidence", || (home.report("writer")["live"]["state"] == "live").then_some(()));
    home.down();
}
