//! What the real `OpenClaw` says is wrong with it: a channel that does not work, and a database of
//! a newer version.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{WAIT_LIMIT, say, support, with_openclaw};

/// Answers like Telegram does to a token that it does not know, and returns the port. It ends with
/// the test.
fn telegram_that_refuses() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || refuse(stream));
        }
    });
    port
}

/// Refuses one request. Whoever asks may go away meanwhile.
fn refuse(mut stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).ok()? > 0 && line != "\r\n" {
        let header = line.trim_end().to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        line.clear();
    }
    reader.take(length).read_to_end(&mut Vec::new()).ok()?;
    let body = r#"{"ok": false, "error_code": 401, "description": "Unauthorized"}"#;
    let head = "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nConnection: close\r\n";
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).ok()
}

/// Makes a database look as if a version had written it that nobody has made yet.
fn make_newer(database: &Path) {
    let script = "import sqlite3, sys; it = sqlite3.connect(sys.argv[1]); \
        it.execute('pragma user_version = 999'); it.commit(); it.close()";
    let mut command = Command::new("python3");
    let status = command.args(["-c", script]).arg(database).stdin(Stdio::null()).status().unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn real_openclaw_is_degraded_with_the_name_of_its_channel_and_refuses_a_newer_database_for_good() {
    support::set_wait_limit(WAIT_LIMIT);
    let mut home = with_openclaw();
    home.run(["profile", "create", "coder"]).ok();
    say(&home, "coder", "GATEVISOR_LIVE_INTERVAL_MS=1000\n");
    let root = format!("http://127.0.0.1:{}", telegram_that_refuses());
    let telegram = format!(r#"{{ "enabled": true, "botToken": "1:none", "apiRoot": "{root}" }}"#);
    let config =
        format!(r#"{{ "gateway": {{ "mode": "local" }}, "channels": {{ "telegram": {telegram} }} }}"#);
    fs::write(home.profile_dir("coder").join("openclaw.json"), config).unwrap();
    home.want_running("coder");
    home.up_quietly();
    let patient = |line: &str| home.start(line.split(' ')).ended(WAIT_LIMIT);
    let report = home.until_report("coder", "the channel", |report| report["state"] == "degraded");
    assert_eq!(report["reason"], "failing: telegram", "{report}");
    assert_eq!(report["ready"], false, "{report}");
    let said = home.says("explain coder").ok();
    assert!(said.contains("(degraded): failing: telegram"), "{said}");
    patient("gateway stop coder --timeout 150").ok();

    make_newer(&home.profile_dir("coder").join("state/openclaw.sqlite"));
    let ran = patient("gateway start coder --ready --timeout 150");
    assert!(ran.code == Some(1) && ran.err.contains("failed for good: exit 78"), "{ran:?}");
    let report = home.report("coder");
    assert_eq!((&report["state"], &report["exitcode"]), (&"failed".into(), &78.into()), "{report}");
    let ran = home.down();
    assert_eq!(ran.code, Some(0), "{ran:?}");
}
