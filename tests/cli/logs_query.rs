//! Which lines `gatevisor logs` prints: by time, by text, by profile. There is no supervisor.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Stdio;

use insta::assert_snapshot;
use rustix::event::{Timespec, poll};

use crate::home::Home;
use crate::support::{WAIT_LIMIT, processes, waiting};

/// Writes a log by hand, as a writer would have left it.
fn log(home: &Home, profile: &str, file: &str, text: &str) -> PathBuf {
    let directory = home.log_file(profile).parent().unwrap().to_owned();
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join(file);
    fs::write(&file, text).unwrap();
    file
}

/// A log in two files with stamps of both kinds, lines without any, and one from standard error.
fn written(home: &Home) {
    home.plant("coder");
    // 2026-11-20 10:00:30 UTC, the time of the rotation.
    let archive = "@400000006b001a6300000000.s";
    log(
        home,
        "coder",
        archive,
        "2026-11-20 10:00:00.000000000  begins\n\
         2026-11-20 10:00:10.000000000  Traceback\n  File x\n\
         @400000006b001a5900000000 by TAI64N\n",
    );
    log(
        home,
        "coder",
        "current",
        "2026-11-20 10:01:00.000000001  [stderr] an error\n\
         2026-11-20 10:02:00.000000000  Error: last\n",
    );
}

/// Returns the last word of each line.
fn texts(out: &str) -> Vec<&str> {
    out.lines().map(|line| line.rsplit(' ').next().unwrap()).collect()
}

#[test]
fn lines_are_chosen_by_time_and_text() {
    let mut home = Home::new();
    home.set("TZ", "UTC");
    written(&home);
    for (arguments, expected) in [
        ("", &["begins", "Traceback", "x", "TAI64N", "error", "last"][..]),
        ("--since 2026-11-20T10:00:10Z", &["Traceback", "x", "TAI64N", "error", "last"]),
        ("--since 2026-11-20T10:00:11+00:00", &["TAI64N", "error", "last"]),
        ("--since 2026-11-20T10:00:31Z", &["error", "last"]),
        ("--until 2026-11-20T10:00:10Z", &["begins", "Traceback", "x"]),
        ("--until 2026-11-20T10:00:59Z", &["begins", "Traceback", "x", "TAI64N"]),
        ("--since 2026-11-20T10:00:05 --until 2026-11-20T10:00:15", &["Traceback", "x"]),
        ("--since @400000006b001a5900000000", &["TAI64N", "error", "last"]),
        ("--since 2026-11-20 --until 2026-11-21 -n 2", &["error", "last"]),
        ("--until 2026-11-20T10:00:59Z -n 2", &["x", "TAI64N"]),
        ("--since 2030-01-01", &[]),
        ("--until 1h --since 1999-01-01 -n 0", &[]),
        ("--grep rror", &["error", "last"]),
        ("-g ^Error", &["last"]),
        ("-g error", &["error"]),
        ("-i -g error", &["error", "last"]),
        ("-g (?i)ERROR -n 1", &["last"]),
        ("-g stderr", &[]),
        ("-g 2026", &[]),
        ("-g [a-z]{6}", &["begins", "Traceback"]),
    ] {
        assert_eq!(texts(&home.says(&format!("logs coder {arguments}")).ok()), expected, "{arguments}");
    }
    let streams: Vec<String> = home
        .says("logs coder --json")
        .ok()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|object| format!("{} {} {}", object["time"], object["stream"], object["text"]))
        .collect();
    assert_eq!(
        streams,
        [
            r#""2026-11-20T10:00:00.000000000Z" "stdout" "begins""#,
            r#""2026-11-20T10:00:10.000000000Z" "stdout" "Traceback""#,
            r#"null "stdout" "  File x""#,
            r#""2026-11-20T10:00:20.000000000Z" "stdout" "by TAI64N""#,
            r#""2026-11-20T10:01:00.000000001Z" "stderr" "an error""#,
            r#""2026-11-20T10:02:00.000000000Z" "stdout" "Error: last""#,
        ]
    );
}

#[test]
fn a_time_without_a_zone_is_in_the_zone_of_whoever_asks() {
    let mut home = Home::new();
    written(&home);
    // Five and a half hours ahead of UTC, without a database of zones.
    home.set("TZ", "IST-5:30");
    assert_eq!(texts(&home.says("logs coder --since 2026-11-20T15:31:30").ok()), ["last"]);
    assert_eq!(texts(&home.says("logs coder --since 2026-11-20T10:01:30Z").ok()), ["last"]);
}

#[test]
fn a_log_in_local_time_is_read_as_such_where_its_slot_says_so() {
    let mut home = Home::new();
    home.set("TZ", "IST-5:30");
    home.plant("coder");
    home.run(["reconcile"]).ok();
    let file = home.slot("coder").path().join("log/run");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}\ntimestamp = \"iso-local\"\n")).unwrap();
    log(&home, "coder", "current", "2026-11-20 15:30:00.000000000  one\n");
    let object: serde_json::Value = serde_json::from_str(&home.says("logs coder --json").ok()).unwrap();
    assert_eq!(object["time"], "2026-11-20T10:00:00.000000000Z");
}

#[test]
fn an_invalid_time_or_expression_is_refused_with_examples() {
    let home = Home::new();
    written(&home);
    assert_snapshot!(home.says("logs coder --since soon").refused(100), @"gatevisor: error: --since takes a date and time (`2026-11-20`, `2026-11-20 10:00`, `2026-11-20T10:00:00Z`), a time of today (`10:00`), `today`, `yesterday`, how long ago (`10m`, `2h30m`, `1d`), or a line's own stamp, not `soon`");
    assert_snapshot!(home.says("logs coder --until 10").refused(100), @"gatevisor: error: --until takes a date and time (`2026-11-20`, `2026-11-20 10:00`, `2026-11-20T10:00:00Z`), a time of today (`10:00`), `today`, `yesterday`, how long ago (`10m`, `2h30m`, `1d`), or a line's own stamp, not `10`");
    assert_snapshot!(home.says("logs coder --since 10m --until 20m").refused(100), @"gatevisor: error: --since is later than --until, so there is nothing between");
    assert_snapshot!(home.says("logs coder --grep a(b").refused(100), @"gatevisor: error: --grep takes a regular expression, and `a(b` is none: unclosed group");
    assert_eq!(home.says("logs -f --until 10m").code, Some(100));
    assert_eq!(home.says("logs -i").code, Some(100));
}

#[test]
fn a_slots_own_log_directory_is_the_one_that_is_read() {
    let home = Home::new();
    home.plant("coder");
    home.run(["reconcile"]).ok();
    let slot = home.slot("coder").path().to_owned();
    let text = fs::read_to_string(slot.join("log/run")).unwrap();
    let first = text.lines().next().unwrap();
    fs::write(slot.join("log/run"), format!("{first}\ndirectory = \"kept here\"\n")).unwrap();
    fs::create_dir_all(slot.join("log/kept here")).unwrap();
    fs::write(slot.join("log/kept here/current"), "here\n").unwrap();
    assert_eq!(home.says("logs coder").ok(), "here\n");
    assert_eq!(home.says("logs").ok(), "here\n");
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let home = Home::new();
    home.plant("coder");
    let file = log(&home, "coder", "current", "");
    let mut file = fs::File::options().append(true).open(file).unwrap();
    for number in 0..100_000 {
        writeln!(file, "line {number}").unwrap();
    }
    for arguments in [&["logs", "coder", "-n", "all"][..], &["logs", "coder", "-f", "-n", "all"]] {
        let mut command = home.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut some = [0; 100];
        child.stdout.take().unwrap().read_exact(&mut some).unwrap();
        let ended = child.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), &*ended.stderr), (Some(0), &b""[..]), "{arguments:?}");
    }
}

#[test]
fn logs_that_follow_fifty_gateways_run_only_when_one_of_them_writes() {
    let home = Home::new();
    let files: Vec<PathBuf> = (0..50)
        .map(|number| {
            let name = format!("p{number:02}");
            home.plant(&name);
            log(&home, &name, "current", &format!("2026-11-20 10:00:{number:02}.000000000  first {number}\n"))
        })
        .collect();
    let following = home.start(["logs", "-f"]);
    let out = following.until_says("first 49\n");
    assert!(out.starts_with("p00     | ") && out.lines().count() == 50, "{out}");
    let pid = following.pid();
    let switches = || {
        (
            processes::status_line(pid, "voluntary_ctxt_switches"),
            processes::status_line(pid, "nonvoluntary_ctxt_switches"),
        )
    };
    waiting::polled("the follower asleep", || processes::stat(pid).filter(|stat| stat.state == 'S'));
    // No event tells that a process does not wake up, so these pauses are the measurement. The
    // first one is for a follower that has not come to rest yet.
    let pause = Timespec { tv_sec: 1, tv_nsec: 0 };
    let _ = poll(&mut [], Some(&pause));
    let before = switches();
    let _ = poll(&mut [], Some(&pause));
    assert_eq!(switches(), before, "it was woken by nobody and ran all the same");
    for (number, file) in files.iter().enumerate().rev() {
        let mut file = fs::File::options().append(true).open(file).unwrap();
        file.write_all(format!("more from {number}\n").as_bytes()).unwrap();
        following.until_says(&format!("p{number:02}     | more from {number}\n"));
    }
    following.signal(rustix::process::Signal::TERM);
    following.ended(WAIT_LIMIT);
}

#[test]
fn nothing_is_read_of_a_large_log_but_its_end() {
    let home = Home::new();
    home.plant("coder");
    let path = log(&home, "coder", "current", "");
    // A hole of a terabyte: reading all of it would take most of an hour.
    let file = fs::File::options().append(true).open(path).unwrap();
    file.set_len(1 << 40).unwrap();
    (&file).write_all(b"\n2026-11-20 10:00:00.000000000  one\n2026-11-20 10:00:01.000000000  two\n").unwrap();
    assert_eq!(texts(&home.says("logs coder -n 1").ok()), ["two"]);
    assert_eq!(texts(&home.says("logs coder -n 1 -g one").ok()), ["one"]);
    assert_eq!(texts(&home.says("logs coder --since 2026-11-20T10:00:00.5Z -n 5").ok()), ["two"]);
}

#[test]
fn a_stamp_that_was_printed_finds_its_lines_again_whatever_the_zone() {
    let mut home = Home::new();
    written(&home);
    home.set("TZ", "IST-5:30");
    let printed = home.says("logs coder").ok();
    let stamp = printed.lines().last().unwrap().split("  ").next().unwrap();
    assert_eq!(stamp, "2026-11-20 10:02:00.000000000Z");
    assert_eq!(texts(&home.run(["logs", "coder", "--since", stamp]).ok()), ["last"]);
    // A stamp that was copied from the file, without a zone, works too.
    let in_file = stamp.trim_end_matches('Z');
    assert_eq!(texts(&home.run(["logs", "coder", "--since", in_file]).ok()), ["last"]);
}

#[test]
fn a_stamp_of_a_log_in_local_time_finds_its_lines_again() {
    let mut home = Home::new();
    home.set("TZ", "IST-5:30");
    home.plant("coder");
    home.run(["reconcile"]).ok();
    let file = home.slot("coder").path().join("log/run");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}\ntimestamp = \"iso-local\"\n")).unwrap();
    let lines = "2026-11-20 15:30:00.000000000  one\n2026-11-20 15:31:00.000000000  two\n";
    log(&home, "coder", "current", lines);
    let printed = home.says("logs coder").ok();
    let stamp = printed.lines().last().unwrap().split("  ").next().unwrap();
    assert_eq!(stamp, "2026-11-20 15:31:00.000000000+05:30");
    assert_eq!(texts(&home.run(["logs", "coder", "--since", stamp]).ok()), ["two"]);
    let in_file = stamp.trim_end_matches("+05:30");
    assert_eq!(texts(&home.run(["logs", "coder", "--since", in_file]).ok()), ["two"]);
}
