//! The manager on a tree of genuine s6: s6-svscan supervises, s6-log or our own logger writes.

use std::fs;
use std::process::Command;

use gatevisor_client::Condition;
use gatevisor_wire::control::{Control, ControlSignal};
use rustix::process::Signal;

use crate::home::Home;
use crate::support::{PATIENCE, soon, waiting};

/// Writes what it is told to, through a FIFO in the profile's home.
const PARROT: &str = "echo \"begins\"\nexec cat 0<>\"$2/lines\"";

/// Returns a home whose scandir s6-svscan supervises, with a gateway that is up.
fn under_s6() -> (Home, fs::File) {
    let mut home = Home::with_script(PARROT, &[]);
    home.profile("coder");
    let lines = waiting::fifo(&home.profile_dir("coder").join("lines"));
    rustix::fs::fcntl_setfl(&lines, rustix::fs::OFlags::empty()).unwrap();
    fs::create_dir_all(home.scandir()).unwrap();
    let ours = home.command(["up"]);
    let mut command = Command::new("s6-svscan");
    command.arg(home.scandir()).env("HTTP_AGENT_HOME", home.path());
    for (name, value) in ours.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    let supervisor = home.spawn(command);
    home.adopt(supervisor);
    let scandir = gatevisor_client::ScanDir::new(home.scandir());
    waiting::polled("s6-svscan", || scandir.running().then_some(()));
    home.says("gateway start coder").ok();
    (home, lines)
}

fn write(mut lines: &fs::File, text: &str) {
    use std::io::Write;
    lines.write_all(text.as_bytes()).unwrap();
}

#[test]
fn status_wait_and_logs_work_and_status_says_who_supervises() {
    let (home, lines) = under_s6();
    home.says("wait coder --up --timeout 20").ok();
    assert_eq!(home.says("wait coder --down --timeout 0").code, Some(99));
    let report = home.until_report("coder", "it is up", |report| report["up"] == true);
    assert_eq!(report["supervisor"], "s6-svscan", "{report}");
    let ran = home.says("status");
    assert!(ran.err.contains("s6-svscan supervises `"), "{ran:?}");
    assert!(ran.out.contains("coder") && ran.code == Some(0), "{ran:?}");
    let details = home.says("gateway status coder").ok();
    assert!(details.contains("gateway-coder, under s6-svscan\n"), "{details}");
    // Our own logger, as a process of its own under s6-supervise.
    write(&lines, "one\n");
    home.until_logged("coder", "one\n");
    let following = home.start(["logs", "-f", "coder"]);
    following.until_says("one\n");
    home.says("gateway restart coder").ok();
    write(&lines, "two\n");
    let out = following.until_says("two\n");
    let texts: Vec<&str> = out.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(texts, ["begins", "one", "begins", "two"]);
    following.signal(Signal::TERM);
    following.ended(PATIENCE);
    home.says("gateway stop coder").ok();
    home.says("wait coder --down --timeout 20").ok();
}

#[test]
fn a_directory_that_s6_log_writes_is_printed_and_followed() {
    let (home, lines) = under_s6();
    // Upstream's way: a script that becomes s6-log, at the place where upstream has the logs.
    let slot = home.slot("coder").path().to_owned();
    let directory = home.log_file("coder").parent().unwrap().to_owned();
    home.until_logged("coder", "begins\n");
    let script = format!("#!/bin/sh\nexec s6-log n20 s4096 T '{}'\n", directory.display());
    fs::write(slot.join("log/run"), script).unwrap();
    let logger = gatevisor_client::ServiceDir::new(slot.join("log"));
    let end = [Control::Signal(ControlSignal::Kill)];
    gatevisor_client::restart(&logger, &end, Condition::Up, Some(soon())).unwrap();
    let following = home.start(["logs", "-f", "-n", "all", "coder"]);
    following.until_says("begins\n");
    let count = 300;
    for number in 0..count {
        write(&lines, &format!("line {number:04} {}\n", "x".repeat(60)));
    }
    let out = following.until_says(&format!("line {:04} ", count - 1));
    let numbers: Vec<usize> =
        out.lines().filter_map(|line| line.split_once("line ")?.1.split(' ').next()?.parse().ok()).collect();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    let archives = fs::read_dir(&directory).unwrap().flatten();
    assert!(archives.filter(|entry| entry.file_name().to_string_lossy().starts_with('@')).count() > 3);
    let all = home.says("logs coder -n all --grep ^line").ok();
    assert_eq!(all.lines().count(), count);
    following.signal(Signal::TERM);
    following.ended(PATIENCE);
}
