//! What Prometheus reads, once and over HTTP.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustix::process::Signal;

use crate::home::Home;
use crate::support::running::Running;
use crate::support::{WAIT_LIMIT, processes, set_wait_limit, waiting};

/// Returns a home with a ready gateway that has died once, one that is down, and the default one.
fn two() -> (Home, crate::home::Port) {
    let mut home = Home::new();
    let port = home.profile("coder");
    home.profile("writer");
    home.want_running("coder");
    home.up();
    let old = home.pid("coder");
    processes::signal(old, Signal::KILL);
    home.until_report("coder", "another process that is ready", |report| {
        report["state"] == "ready" && report["pid"] != old
    });
    (home, port)
}

/// Asks a server; returns the whole answer.
fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT_LIMIT)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(address: &str, headers: &str) -> String {
    ask(address, &format!("GET /metrics HTTP/1.1\r\nConnection: close\r\n{headers}\r\n"))
}

/// Starts a server with these words; returns it and its address.
fn serve(home: &Home, words: impl IntoIterator<Item = String>) -> (Running, String) {
    let server = home.start(words);
    let said = server.until_warns("/metrics\n");
    let address = said.split_once("http://").unwrap().1.split_once('/').unwrap().0.to_owned();
    (server, address)
}

#[test]
fn the_metrics_say_what_status_says_and_leave_out_what_is_not_known() {
    let (home, _port) = two();
    let text = home.says("metrics").ok();
    for line in [
        "gatevisor_supervisor_up 1.0",
        "gatevisor_gateways{state=\"ready\"} 1.0",
        "gatevisor_gateways{state=\"down\"} 2.0",
        "gatevisor_gateways{state=\"unresponsive\"} 0.0",
        "gatevisor_gateway_incidents{profile=\"coder\"} 0.0",
        "gatevisor_service_state{service=\"gateway-coder\",profile=\"coder\",state=\"ready\"} 1.0",
        "gatevisor_service_wanted{service=\"gateway-coder\",profile=\"coder\"} 1.0",
        "gatevisor_service_draining{service=\"gateway-coder\",profile=\"coder\"} 0.0",
        "gatevisor_service_ready{service=\"gateway-coder\",profile=\"coder\"} 1.0",
        "gatevisor_service_works{service=\"gateway-writer\",profile=\"writer\"} 0.0",
        "gatevisor_service_restarts_total{service=\"gateway-coder\",profile=\"coder\",cause=\"itself\"} 1.0",
        "gatevisor_service_restarts_total{service=\"gateway-coder\",profile=\"coder\",cause=\"command\"} 0.0",
        "# TYPE gatevisor_service_restarts_total counter",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let of_writer = |name: &str| text.lines().any(|line| line.starts_with(name) && line.contains("writer"));
    assert!(!of_writer("gatevisor_service_memory_bytes"), "it has no process: {text}");
    assert!(!of_writer("gatevisor_service_live"), "nobody follows it: {text}");
    let open = home.says("metrics --open-metrics").ok();
    assert!(
        open.ends_with("# EOF\n") && open.contains("# TYPE gatevisor_service_restarts counter"),
        "{open}"
    );
    assert!(!text.contains("# EOF"), "{text}");
    let of_coder = |name: &str| text.lines().any(|line| line.starts_with(name) && line.contains("coder"));
    assert!(of_coder("gatevisor_service_ready_after_seconds{"), "{text}");
    assert!(!of_writer("gatevisor_service_ready_after_seconds"), "it is not ready: {text}");
    assert!(!text.contains("gatevisor_service_exits"), "one look counts nothing: {text}");
    assert!(!text.contains("gatevisor_service_drains"), "this agent cannot be drained: {text}");
    let refused = home.says("--json metrics");
    assert_eq!(refused.code, Some(100), "{refused:?}");
}

#[test]
fn a_server_answers_whoever_means_it_and_in_the_format_that_is_wanted() {
    let (home, _port) = two();
    let (server, address) = serve(&home, ["metrics", "--listen", "127.0.0.1:0"].map(str::to_owned));
    let answer = get(&address, "Host: localhost\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(body.contains("gatevisor_supervisor_up 1.0\n"), "{body}");
    let open = get(&address, "Host: localhost\r\nAccept: application/openmetrics-text;version=1.0.0\r\n");
    assert!(
        open.contains("content-type: application/openmetrics-text;") && open.ends_with("# EOF\n"),
        "{open}"
    );
    assert!(get(&address, "Host: evil.example\r\n").starts_with("HTTP/1.1 403 "));
    let post = "POST /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert!(ask(&address, post).starts_with("HTTP/1.1 405 "));
    let elsewhere = "GET /elsewhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert!(ask(&address, elsewhere).starts_with("HTTP/1.1 404 "));
    assert!(ask(&address, "no request at all\r\n\r\n").starts_with("HTTP/1.1 400 "));
    server.signal(Signal::TERM);
    assert_eq!(server.ended(WAIT_LIMIT).code, None, "a signal ends it");
}

#[test]
fn a_server_counts_how_gateways_end_from_its_first_answer_on() {
    let (home, _port) = two();
    let (server, address) = serve(&home, ["metrics", "--listen", "127.0.0.1:0"].map(str::to_owned));
    let own = "service=\"gateway-coder\",profile=\"coder\"";
    let killed =
        |count: u32| format!("\ngatevisor_service_exits_total{{{own},signal=\"SIGKILL\"}} {count}.0\n");
    let before = get(&address, "Host: localhost\r\n");
    assert!(before.contains(&killed(0)), "it has died once before: {before}");
    assert!(before.contains("\n# TYPE gatevisor_service_exits_total counter\n"), "{before}");
    let old = home.pid("coder");
    processes::signal(old, Signal::KILL);
    home.until_report("coder", "another death", |report| {
        report["deaths"].as_array().is_some_and(|deaths| deaths.len() == 2)
    });
    for _ in 0..2 {
        let after = get(&address, "Host: localhost\r\n");
        assert!(after.contains(&killed(1)), "{after}");
    }
    server.signal(Signal::TERM);
    assert_eq!(server.ended(WAIT_LIMIT).code, None, "a signal ends it");
}

#[test]
fn the_token_comes_from_a_file_that_only_its_owner_reads() {
    let home = Home::new();
    let file = home.beside("the token");
    fs::write(&file, "0123456789abcdef\n").unwrap();
    let with_token = |address: &str| {
        let words = ["metrics", "--listen", address, "--token-file", file.to_str().unwrap()];
        words.map(str::to_owned)
    };
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = home.run(with_token("127.0.0.1:0"));
    let remedy = format!("chmod 600 '{}'", file.display());
    assert!(refused.code == Some(100) && refused.err.contains(&remedy), "{refused:?}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let (server, address) = serve(&home, with_token("127.0.0.1:0"));
    assert!(get(&address, "Host: localhost\r\n").starts_with("HTTP/1.1 401 "));
    let right = get(&address, "Host: localhost\r\nAuthorization: Bearer 0123456789abcdef\r\n");
    assert!(right.starts_with("HTTP/1.1 200 ") && right.contains("gatevisor_supervisor_up 0.0"), "{right}");
    server.signal(Signal::TERM);
    assert_eq!(server.ended(WAIT_LIMIT).code, None, "a signal ends it");
    let open = home.says("metrics --listen 0.0.0.0:0");
    assert!(open.code == Some(100) && open.err.contains("--token-file"), "{open:?}");
}

#[test]
fn questions_to_gateways_are_counted_with_whether_they_were_answered() {
    set_wait_limit(Duration::from_mins(1));
    for outcome in ["answered", "failed"] {
        let live = "[gateway.live]\npolicy = \"warn\"\ninterval-ms = 300\nmisses = 3\ngrace-ms = 500\n\
             http = { url = \"http://127.0.0.1:${PORT:-8700}/health\" }\n\n[gateway.exit-meanings]";
        let changes = [("[gateway.exit-meanings]", live)];
        let mut home = match outcome {
            "answered" => Home::with_agent(&changes),
            // Nobody listens at its port.
            _ => Home::with_script("exec sleep 1000", &changes),
        };
        let _port = home.profile("coder");
        home.want_running("coder");
        home.up_quietly();
        let begins = format!(
            "gatevisor_service_probes_total{{service=\"gateway-coder\",profile=\"coder\",outcome=\"{outcome}\"}} "
        );
        // No event tells when the watcher has asked.
        waiting::polled_slowly("a question that is counted", || {
            let text = home.says("metrics").ok();
            let count: f64 = text.lines().find_map(|line| line.strip_prefix(&*begins))?.parse().unwrap();
            (count >= 1.0).then_some(())
        });
    }
}
