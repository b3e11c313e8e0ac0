//! The static services, and how the container's role affects the gateways.

use crate::engine::{Volume, container, skipped};
use crate::support::waiting;

#[test]
fn the_dashboard_is_up_where_it_is_asked_for_and_comes_back() {
    if skipped() {
        return;
    }
    let container = container().env("HERMES_DASHBOARD", "1").env("HERMES_DASHBOARD_PORT", "9555").started();
    container.waits("-u", "dashboard");
    // The dashboard reports this itself on the container's output, with only its name before the
    // line.
    let said = container.says("HERMES_DASHBOARD_READY");
    assert_eq!(said.trim_start_matches("dashboard | "), "HERMES_DASHBOARD_READY port=9555");
    let answers = "exec 3<>/dev/tcp/127.0.0.1/9555; printf 'GET / HTTP/1.1\\r\\nHost: 127.0.0.1:9555\\r\\nConnection: close\\r\\n\\r\\n' >&3; head -n1 <&3";
    assert!(container.sh(answers).starts_with("HTTP/1.1 "));
    let first = container.pid("dashboard");
    let line = container.sh(&format!(
        "tr '\\0' ' ' < /proc/{first}/cmdline; stat -c %u /proc/{first}; readlink /proc/{first}/cwd"
    ));
    assert!(line.contains("dashboard --host 127.0.0.1 --port 9555 --no-open"), "{line}");
    assert!(line.ends_with("10000\n/opt/data") && !line.contains("--insecure"), "{line}");
    container.exec(&["/command/s6-svc", "-wr", "-T", "45000", "-k", "/run/service/dashboard"]).ok();
    assert_ne!(container.pid("dashboard"), first);

    // A dashboard that refuses its configuration is not tried again.
    let run = "/run/service/dashboard/run";
    container
        .sh(&format!("printf '#!/bin/sh\\nexit 78\\n' >{run}.new; chmod 755 {run}.new; mv {run}.new {run}"));
    container.exec(&["/command/s6-svc", "-k", "/run/service/dashboard"]).ok();
    waiting::polled_slowly("the dashboard that is left down", || {
        let all = container.exec(&["gatevisor", "status"]);
        let is_failed = |line: &str| line.starts_with("dashboard ") && line.contains(" failed");
        all.out.lines().any(is_failed).then_some(())
    });
}

#[test]
fn the_page_is_served_where_it_is_asked_for_and_comes_back() {
    if skipped() {
        return;
    }
    let container = container().env("GATEVISOR_WEB", "1").env("PUID", "70000").started();
    container.says("PUID=`70000` is no number from 1 to 65534, and is ignored");
    container.waits("-u", "gatevisor-web");
    container.says("the page is at http://0.0.0.0:9466/");
    let answers = "exec 3<>/dev/tcp/127.0.0.1/9466; printf 'GET / HTTP/1.1\\r\\nHost: 127.0.0.1:9466\\r\\nConnection: close\\r\\n\\r\\n' >&3; head -n1 <&3";
    assert!(container.sh(answers).starts_with("HTTP/1.1 200"));
    let first = container.pid("gatevisor-web");
    assert_eq!(container.sh(&format!("stat -c %u /proc/{first}")), "10000");
    container.exec(&["/command/s6-svc", "-wr", "-T", "45000", "-k", "/run/service/gatevisor-web"]).ok();
    assert_ne!(container.pid("gatevisor-web"), first);
}

#[test]
fn the_command_starts_when_every_slot_answers() {
    if skipped() {
        return;
    }
    let volume = Volume::new();
    let with = || volume.home_of(container());
    let make = "cd /opt/data/profiles; for i in $(seq 30); do mkdir p$i; touch p$i/SOUL.md; done; echo made";
    // The watcher may speak of the new profiles meanwhile.
    let ran = with().run(&["sh", "-c", make]);
    assert!(ran.ok().lines().any(|line| line == "made"), "{ran:#?}");
    let ask = "n=0; for s in /run/service/*; do /command/s6-svok $s && n=$((n+1)); done; echo $n of $(ls /run/service | wc -l)";
    // The slots are: the default profile's, thirty others, main-hermes, the dashboard and the
    // watcher.
    assert_eq!(with().run(&["sh", "-c", ask]).last_line(), "34 of 34");
}

#[test]
fn words_that_are_not_yes_leave_the_dashboard_down() {
    if skipped() {
        return;
    }
    let ask = "/command/s6-svstat /run/service/dashboard; pgrep -fc '[h]ermes dashboard'; true";
    for no in ["0", "tRue", "on", ""] {
        let answer = container().env("HERMES_DASHBOARD", no).run(&["sh", "-c", ask]);
        let lines: Vec<&str> = answer.ok().lines().rev().take(2).collect();
        assert_eq!(lines.first(), Some(&"0"), "{no}: {answer:#?}");
        assert!(
            lines.get(1).is_some_and(|line| line.starts_with("down") && !line.contains("up ")),
            "{no}: {answer:#?}"
        );
    }
}

#[test]
fn a_container_for_the_dashboard_has_no_gateways() {
    if skipped() {
        return;
    }
    let container = container().started_as(&["dashboard", "--no-open", "--port", "9556"]);
    container.says("dashboard");
    container.waits("-u", "main-hermes");
    container.sh("! ls -d /run/service/gateway-* 2>/dev/null; ! test -e /opt/data/logs/container-boot.log");
    container.kill("KILL");
}

#[test]
fn a_gateway_answers_on_a_published_port_once_it_is_ready() {
    if skipped() {
        return;
    }
    let container = container()
        .with("--publish 127.0.0.1::8642")
        .env("HERMES_GATEWAY_BOOTSTRAP_STATE", "running")
        .env("API_SERVER_ENABLED", "true")
        .env("API_SERVER_HOST", "0.0.0.0")
        .env("API_SERVER_KEY", "0123456789abcdef0123456789abcdef")
        .started();
    container.waits("-U", "gateway-default");
    let port = crate::engine::docker(["port", container.name(), "8642"]).ok().to_owned();
    let mut stream = std::net::TcpStream::connect(port.lines().next().unwrap()).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /health HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.contains(" 200 ") && answer.contains("hermes-agent"), "{answer}");
}
