//! Who is told that a gateway does not work: once, again if that does not arrive, and without
//! telling an address to anybody else.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::disk::{Disk, was_run_in_own_mounts};
use crate::home::Home;
use crate::support::{processes, set_wait_limit, waiting};

/// A secret part of every address here.
const SECRET: &str = "very-secret";
/// Fails for good as long as there is no file `well` in the profile.
const SCRIPT: &str = "[ -e \"$2/well\" ] || exit 78; exec sleep 1000";

/// The file of a home with the problems that were told.
const OPEN_FILE: &str = ".gatevisor-alerts.json";

/// What came: the path that was asked for, and the body.
type Received = Arc<Mutex<Vec<(String, String)>>>;

/// A server of HTTP that keeps what it receives. It refuses the first few requests.
struct Receiver {
    port: u16,
    received: Received,
}

impl Receiver {
    fn new(refused: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let received = Received::default();
        let kept = Arc::clone(&received);
        std::thread::spawn(move || {
            for (count, stream) in listener.incoming().enumerate() {
                let mut reader = BufReader::new(stream.unwrap());
                let (mut head, mut length) = (String::new(), 0);
                while reader.read_line(&mut head).unwrap() > 0 && !head.ends_with("\r\n\r\n") {
                    let last = head.trim_end().lines().last().unwrap_or_default().to_ascii_lowercase();
                    length =
                        last.strip_prefix("content-length: ").map_or(length, |text| text.parse().unwrap());
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                kept.lock().unwrap().push((path, String::from_utf8(body).unwrap()));
                let code = if count < refused { "503 Later" } else { "200 OK" };
                let answer = format!("HTTP/1.1 {code}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                reader.into_inner().write_all(answer.as_bytes()).unwrap();
            }
        });
        Self { port, received }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/{SECRET}", self.port)
    }

    /// Waits for so many requests, and returns all that have come.
    fn until(&self, count: usize) -> Vec<(String, String)> {
        waiting::polled("requests", || {
            let received = self.received.lock().unwrap();
            (received.len() >= count).then(|| received.clone())
        })
    }
}

/// Returns whether a problem of coder counts as told.
fn counts_as_told(home: &Home) -> bool {
    fs::read_to_string(home.path().join(OPEN_FILE)).is_ok_and(|open| open.contains("coder"))
}

/// Writes the settings of a home, whole.
fn write(home: &Home, text: &str) {
    let new = home.path().join("new.toml");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, home.path().join("gatevisor.toml")).unwrap();
}

/// Has a web address told of gateways only: the disk of the machine may be full.
fn webhook(url: &str) -> String {
    webhook_on(url, &["failed", "recovered"])
}

/// Has a web address told of these events.
fn webhook_on(url: &str, events: &[&str]) -> String {
    format!(
        "[alerts]\nname = \"nas\"\n\n[[alerts.to]]\nkind = \"webhook\"\nurl = \"{url}\"\non = {events:?}\n"
    )
}

/// Returns what the alerts of a body are: the event and the gateway.
fn alerts(body: &str) -> Vec<(String, String)> {
    let body: Value = serde_json::from_str(body).unwrap();
    let word =
        |alert: &Value, key: &str| alert.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let all = body.get("alerts").and_then(Value::as_array).unwrap();
    all.iter().map(|alert| (word(alert, "event"), word(alert, "gateway"))).collect()
}

#[test]
fn a_gateway_that_fails_is_told_once_and_once_more_when_it_works_again() {
    set_wait_limit(Duration::from_mins(2));
    let server = Receiver::new(1);
    let mut home = Home::with_script(SCRIPT, &[]);
    home.profile("coder");
    home.want_running("coder");
    write(&home, &webhook(&server.url()));
    home.up_quietly();
    home.until_state("coder", "failed");
    // The first attempt is refused, and the message is sent again.
    let received = server.until(2);
    assert_eq!(received[0].0, format!("/{SECRET}"));
    for (_, body) in &received[..2] {
        assert_eq!(alerts(body), [("failed".to_owned(), "coder".to_owned())], "{body}");
    }
    home.running().until_warns("an alert did not reach webhook at 127.0.0.1:");
    fs::write(home.profile_dir("coder").join("well"), "").unwrap();
    home.says("gateway start coder").ok();
    let received = server.until(3);
    assert_eq!(alerts(&received[2].1), [("recovered".to_owned(), "coder".to_owned())], "{received:?}");
    let said = home.down().err;
    assert_eq!(server.until(3).len(), 3, "nothing was told twice: {said}");
    assert!(!said.contains(SECRET), "{said}");
}

#[test]
fn what_reached_nobody_before_the_supervisor_ended_is_told_by_the_next_one() {
    set_wait_limit(Duration::from_mins(2));
    let server = Receiver::new(usize::MAX);
    let mut home = Home::with_script(SCRIPT, &[]);
    home.profile("coder");
    home.want_running("coder");
    write(&home, &webhook(&server.url()));
    home.up_quietly();
    server.until(1);
    home.down();
    // A disk of the machine may be full, and that counts as told here.
    assert!(!counts_as_told(&home));
    let before = server.until(1).len();
    home.up_quietly();
    let received = server.until(before + 1);
    assert_eq!(alerts(&received[before].1), [("failed".to_owned(), "coder".to_owned())], "{received:?}");
    home.down();
}

#[test]
fn a_supervisor_that_takes_over_does_not_tell_again_what_was_told() {
    set_wait_limit(Duration::from_mins(2));
    let server = Receiver::new(0);
    let mut home = Home::with_script(SCRIPT, &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_state("coder", "failed");
    // Settings that come later count, too.
    write(&home, &webhook(&server.url()));
    server.until(1);
    waiting::polled("that it counts as told", || counts_as_told(&home).then_some(()));
    home.down();
    home.up_quietly();
    home.until_state("coder", "failed");
    fs::write(home.profile_dir("coder").join("well"), "").unwrap();
    home.says("gateway start coder").ok();
    let told: Vec<_> = server.until(2).iter().flat_map(|(_, body)| alerts(body)).collect();
    let expected = [("failed", "coder"), ("recovered", "coder")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(told, expected);
}

#[test]
fn a_gateway_that_does_not_respond_is_told_and_so_is_that_it_works_again() {
    set_wait_limit(Duration::from_mins(2));
    let server = Receiver::new(0);
    let live = "[gateway.live]\npolicy = \"warn\"\ninterval-ms = 300\nmisses = 3\ngrace-ms = 500\n\
                http = { url = \"http://127.0.0.1:${PORT:-8700}/health\" }\n\n[gateway.exit-meanings]";
    let mut home = Home::with_agent(&[("[gateway.exit-meanings]", live)]);
    let _port = home.profile("coder");
    home.want_running("coder");
    write(&home, &webhook_on(&server.url(), &["unresponsive", "recovered"]));
    home.up_quietly();
    home.until_supervised("coder");
    home.says("wait coder --live --timeout 120").ok();
    let pid = home.pid("coder");
    processes::signal(pid, Signal::STOP);
    let received = server.until(1);
    assert_eq!(alerts(&received[0].1), [("unresponsive".to_owned(), "coder".to_owned())], "{received:?}");
    processes::signal(pid, Signal::CONT);
    let received = server.until(2);
    assert_eq!(alerts(&received[1].1), [("recovered".to_owned(), "coder".to_owned())], "{received:?}");
    home.down();
    assert_eq!(server.until(2).len(), 2, "nothing was told twice");
}

#[test]
fn a_gateway_that_ends_again_and_again_is_told_once() {
    set_wait_limit(Duration::from_mins(2));
    let server = Receiver::new(0);
    let mut home = Home::with_script("exit 1", &[]);
    home.profile("coder");
    home.want_running("coder");
    write(&home, &webhook_on(&server.url(), &["crash-loop", "failed"]));
    home.up_quietly();
    let received = server.until(1);
    assert_eq!(alerts(&received[0].1), [("crash-loop".to_owned(), "coder".to_owned())], "{received:?}");
    waiting::polled("that it counts as told", || counts_as_told(&home).then_some(()));
    let restarts = home.report("coder")["restarts"].as_u64().unwrap();
    home.until_report("coder", "another restart", |report| report["restarts"].as_u64() > Some(restarts));
    home.down();
    assert_eq!(server.until(1).len(), 1, "it was told twice");
}

/// Has the process that sends alerts look soon: it does so after an event.
fn have_looked(home: &Home) {
    processes::signal(home.pid("coder"), Signal::KILL);
}

#[test]
fn a_disk_that_is_full_is_told_and_so_is_that_it_has_room_again() {
    if was_run_in_own_mounts() {
        return;
    }
    set_wait_limit(Duration::from_secs(90));
    let server = Receiver::new(0);
    let mut home = Home::with_script("exec sleep 1000", &[]);
    let disk = Disk::mounted(&home, "1m");
    home.move_to(disk.path().join("home"));
    home.profile("coder");
    home.want_running("coder");
    write(&home, &webhook_on(&server.url(), &["disk", "recovered"]));
    home.up_quietly();
    home.until_state("coder", "up");
    disk.fill();
    have_looked(&home);
    let received = server.until(1);
    assert_eq!(alerts(&received[0].1), [("disk".to_owned(), String::new())], "{received:?}");
    assert!(received[0].1.contains(&home.path().display().to_string()), "{received:?}");
    disk.relieve();
    have_looked(&home);
    let received = server.until(2);
    assert_eq!(alerts(&received[1].1), [("recovered".to_owned(), String::new())], "{received:?}");
    home.down();
}

#[test]
fn lines_that_cannot_be_kept_are_told() {
    if was_run_in_own_mounts() {
        return;
    }
    set_wait_limit(Duration::from_secs(90));
    let server = Receiver::new(0);
    let line = "x".repeat(500);
    let to_disk = ("${HTTP_AGENT_HOME}/logs/gateways/", "${LOG_DISK}/");
    let mut home = Home::with_script(&format!("while echo works {line}; do sleep 0.1; done"), &[to_disk]);
    let disk = Disk::mounted(&home, "1m");
    home.set("LOG_DISK", disk.path());
    home.profile("coder");
    home.want_running("coder");
    write(&home, &webhook_on(&server.url(), &["log-gap"]));
    home.up_quietly();
    home.until_state("coder", "up");
    disk.fill();
    home.until_report("coder", "that its lines are not kept", |report| report["log_problem"].is_string());
    have_looked(&home);
    let received = server.until(1);
    assert_eq!(alerts(&received[0].1), [("log-gap".to_owned(), "coder".to_owned())], "{received:?}");
    disk.relieve();
    home.down();
}

#[test]
fn alerts_test_says_of_everybody_whether_a_message_arrived_and_no_address() {
    let server = Receiver::new(0);
    let home = Home::new();
    assert_eq!(home.says("alerts test").code, Some(1));
    let none = home.says("alerts check");
    assert!(none.code == Some(1) && none.err.contains("does not exist"), "{none:?}");
    let file = home.beside("told");
    let command = format!(
        "\n[[alerts.to]]\nkind = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"cat >{}\"]\n\
         \n[[alerts.to]]\nkind = \"slack\"\nurl-file = \"address\"\n",
        file.display()
    );
    write(&home, &format!("{}{command}", webhook(&server.url())));
    let address = home.path().join("address");
    fs::write(&address, format!("http://127.0.0.1:1/{SECRET}\n")).unwrap();
    fs::set_permissions(&address, fs::Permissions::from_mode(0o600)).unwrap();
    let ran = home.says("alerts test");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let webhook = format!("webhook at 127.0.0.1:{}: sent", server.port);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines, [&*webhook, "command /bin/sh: sent", "slack: not sent: nobody answers there"]);
    assert_eq!(alerts(&server.until(1)[0].1)[0].0, "test");
    assert_eq!(alerts(&fs::read_to_string(&file).unwrap())[0].0, "test");
    let json = home.says("--json alerts test").out;
    let first: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(first["sent"], true, "{json}");
    let checked = home.says("alerts check").ok();
    let kinds = "failed, unresponsive, recovered, crash-loop, disk, log-gap";
    assert!(checked.contains(&format!("command /bin/sh: {kinds}\n")), "{checked}");
    assert_eq!(home.says("alerts send gone").code, Some(1));
    assert_eq!(server.until(3)[2].1.matches("\"text\":\"gone\"").count(), 2);
    for text in [&ran.out, &ran.err, &json, &checked] {
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[test]
fn settings_that_others_may_write_or_that_are_wrong_count_for_nothing() {
    let home = Home::new();
    write(&home, "[alerts]\nto = []\nname = 5\n");
    let ran = home.says("alerts check");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("gatevisor.toml:3: "), "{ran:?}");
    let json = home.says("--json alerts check").out;
    let problem: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!((&problem["valid"], &problem["line"]), (&false.into(), &3.into()), "{json}");
    write(&home, &webhook("http://127.0.0.1:1/"));
    fs::set_permissions(home.path().join("gatevisor.toml"), fs::Permissions::from_mode(0o622)).unwrap();
    for verb in ["check", "test"] {
        let ran = home.run(["alerts", verb]);
        assert!(ran.code == Some(100) && ran.err.contains("others may write to it"), "{ran:?}");
    }
}
