//! What the real `OpenClaw` says is wrong with it: a channel that does not work.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::{WAIT_LIMIT, support, with_openclaw};

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
