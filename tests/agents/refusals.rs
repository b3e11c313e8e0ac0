//! What the real `OpenClaw` says is wrong: a channel that does not work, and a handoff that is not
//! of the process that ended.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;

use crate::{WAIT_LIMIT, openclaw, openclaw_restart, support, with_openclaw};

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

#[test]
fn real_openclaw_with_a_channel_that_does_not_work_is_degraded_with_its_name() {
    support::set_wait_limit(WAIT_LIMIT);
    let mut home = with_openclaw();
    home.run(["profile", "create", "coder"]).ok();
    let root = format!("http://127.0.0.1:{}", telegram_that_refuses());
    let telegram = format!(r#"{{ "enabled": true, "botToken": "1:none", "apiRoot": "{root}" }}"#);
    let config =
        format!(r#"{{ "gateway": {{ "mode": "local" }}, "channels": {{ "telegram": {telegram} }} }}"#);
    fs::write(home.profile_dir("coder").join("openclaw.json"), config).unwrap();
    home.want_running("coder");
    home.up_quietly();
    home.until_report("coder", "the channel", |report| {
        report["state"] == "degraded" && report["reason"] == "failing: telegram"
    });
    let said = home.says("explain coder").ok();
    assert!(said.contains("(degraded): failing: telegram"), "{said}");
    let ran = home.down();
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn real_openclaw_behind_a_script_leaves_a_handoff_of_another_process_which_restarts_nothing_and_is_named() {
    support::set_wait_limit(WAIT_LIMIT);
    let mut home = with_openclaw();
    // The process that Gatevisor started is the shell, and the handoff is of Node.
    let script = home.beside("claw");
    let text = format!("#!/bin/sh\n'{}' \"$@\"\n", openclaw().join("openclaw").display());
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    home.set("OPENCLAW_BIN", &script);
    home.run(["profile", "create", "coder"]).ok();
    home.up_quietly();
    home.start(["gateway", "start", "coder", "--ready", "--timeout", "150"]).ended(WAIT_LIMIT).ok();
    openclaw_restart(&home, "coder", "it ended on purpose (`/status` is `rejected` in {");
    home.until_logged("coder", r#""reason":"pid-mismatch","handoffPid":"#);
    let report = home.until_report("coder", "an end on purpose", |report| report["state"] == "down");
    assert_eq!((&report["exitcode"], &report["desired_state"]), (&0.into(), &"running".into()), "{report}");
    assert_eq!(home.down().code, Some(0));
}
