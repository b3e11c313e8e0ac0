//! A gateway that listens before it has started, and says what of it does not work.

use std::fs;

use crate::home::{Home, until_file};
use crate::support::set_wait_limit;

/// Answers 503 at `/startupz` until there is a file `started`, and at `/readyz` while there is a
/// file `failing`, with its names.
const SERVER: &str = "exec python3 -u -c 'import http.server, json, pathlib, sys
home = pathlib.Path(sys.argv[1])
port = int((home / \".env\").read_text().split(\"=\")[1])
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        fails = home / \"failing\"
        names = fails.read_text().split() if fails.exists() else []
        bad = {\"/startupz\": not (home / \"started\").exists(), \"/readyz\": bool(names)}.get(self.path)
        self.send_response(503 if bad else 200)
        self.end_headers()
        self.wfile.write(json.dumps({\"failing\": names}).encode())
    def log_message(self, *words): print(self.path)
http.server.HTTPServer((\"127.0.0.1\", port), Answers).serve_forever()' \"$2\"";

const LIVE: &str = "[gateway.live]\ninterval-ms = 200\n\
    startup = { url = \"http://127.0.0.1:${PORT}/startupz\" }\n\
    http = { url = \"http://127.0.0.1:${PORT}/healthz\" }\n\
    health = { url = \"http://127.0.0.1:${PORT}/readyz\", failing = \"failing\" }\n\n[gateway.exit-meanings]";

/// Puts a file into the profile's home, whole.
fn put(home: &Home, name: &str, content: &str) {
    let profile = home.profile_dir("coder");
    fs::write(profile.join("new"), content).unwrap();
    fs::rename(profile.join("new"), profile.join(name)).unwrap();
}

fn until(home: &Home, what: &str, state: &str) -> serde_json::Value {
    crate::support::waiting::polled(what, || {
        Some(home.report("coder"))
            .filter(|report| report.pointer("/live/state").is_some_and(|found| found == state))
    })
}

#[test]
fn a_gateway_that_listens_is_starting_until_it_says_so_and_degraded_with_the_names_of_what_fails() {
    set_wait_limit(std::time::Duration::from_mins(1));
    let mut home = Home::with_script(SERVER, &[("[gateway.exit-meanings]", LIVE)]);
    let _port = home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    let is_asked_twice = |text: &str| text.matches("/startupz").count() > 1;
    let log = until_file(&home.log_file("coder"), "two questions", is_asked_twice);
    assert!(!log.contains("/healthz"), "it was asked more before it had started: {log}");
    until(&home, "a start", "starting");
    put(&home, "started", "");
    until(&home, "a start that is over", "live");
    put(&home, "failing", "telegram discord");
    let report = until(&home, "channels that do not work", "degraded");
    assert_eq!(report["live"]["reason"], "failing: telegram, discord", "{report}");
    let table = home.says("status").ok();
    assert!(table.contains("failing: telegram, discord"), "{table}");
    fs::remove_file(home.profile_dir("coder").join("failing")).unwrap();
    until(&home, "channels that work again", "live");
}

#[test]
fn a_gateway_whose_channels_never_worked_is_degraded_with_their_names_and_ready_once_they_work() {
    set_wait_limit(std::time::Duration::from_mins(1));
    let ready = "restart-codes = [75]\n\
        ready = { http = \"http://127.0.0.1:${PORT}/readyz\", interval-ms = 200 }";
    // A busy machine answers some looks too late.
    let live = LIVE.replace("interval-ms", "misses = 100\ninterval-ms");
    let changes = [("[gateway.exit-meanings]", &*live), ("restart-codes = [75]", ready)];
    let mut home = Home::with_script(SERVER, &changes);
    let _port = home.profile("coder");
    put(&home, "started", "");
    put(&home, "failing", "telegram");
    home.want_running("coder");
    home.up_quietly();
    let report = until(&home, "channels that do not work", "degraded");
    let said = (&report["state"], &report["reason"], &report["ready"]);
    assert_eq!(said, (&"degraded".into(), &"failing: telegram".into(), &false.into()), "{report}");
    let ran = home.says("gateway start coder --ready --timeout 1");
    assert!(ran.code == Some(99) && ran.err.contains("it is degraded (failing: telegram)"), "{ran:?}");
    assert_eq!(home.says("health coder").ok(), "coder: degraded: failing: telegram\n");
    let page = home.says("explain coder").ok();
    assert!(page.contains("(degraded): failing: telegram; since "), "{page}");
    let found = home.says("doctor").out;
    assert!(found.contains("coder works, and says itself that something is wrong"), "{found}");
    fs::remove_file(home.profile_dir("coder").join("failing")).unwrap();
    home.until_report("coder", "that it is ready", |report| report["state"] == "ready");
}

#[test]
fn a_gateway_that_was_ended_because_it_did_not_respond_is_started_again_although_it_ends_as_if_on_purpose() {
    set_wait_limit(std::time::Duration::from_mins(1));
    let script = "echo begins; : > \"$2/alive\"; trap 'kill $!; exit 0' TERM; sleep 1000 & wait";
    let live = "[gateway.live]\npolicy = \"restart\"\ninterval-ms = 200\nmisses = 2\n\
        command = { argv = [\"test\", \"-e\", \"alive\"] }\n\n[gateway.exit-meanings]";
    let handoff = "restart-codes = [75]\n\
        handoff = { after-exit-codes = [0], command = [\"echo\", '{\"status\": \"none\"}'] }";
    let exit_0_is_final = "fail-codes = [0, 78]";
    for change in [("restart-codes = [75]", handoff), ("fail-codes = [78]", exit_0_is_final)] {
        let mut home = Home::with_script(script, &[("[gateway.exit-meanings]", live), change]);
        home.run(["profile", "create", "coder"]).ok();
        home.want_running("coder");
        home.up_quietly();
        until(&home, "that it works", "live");
        let old = home.pid("coder");
        fs::remove_file(home.profile_dir("coder").join("alive")).unwrap();
        let report = crate::support::waiting::polled("another process", || {
            Some(home.report("coder")).filter(|it| it["live"]["state"] == "live" && it["pid"] != old)
        });
        assert_eq!(report["deaths"][0]["exitcode"], 0, "{report}");
    }
}
