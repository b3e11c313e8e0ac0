//! The pipe between a service and its logger outlives both.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::World;
use crate::support::service::Service;

/// Writes each line before it reads the next one, so it never holds more than one.
const LINE_BY_LINE: &str = "while IFS= read -r line; do echo \"$line\" >> lines; done; echo end >> lines";

/// Writes the lines `PID 1`, `PID 2`, …, and records in `written` each one that it has written.
const COUNTS: &str = "n=0; while :; do n=$((n + 1)); echo \"$$ $n\"; echo \"$$ $n\" > written; done";

/// Returns the numbers of each process, in the order of the file, and checks that lines of
/// different processes are not mixed.
fn lives(text: &str) -> Vec<(String, Vec<u64>)> {
    let mut lives: Vec<(String, Vec<u64>)> = Vec::new();
    for line in text.lines().filter(|line| *line != "end") {
        let (life, number) = line.split_once(' ').unwrap_or_else(|| panic!("a torn line `{line}`"));
        let number = number.parse().unwrap_or_else(|_| panic!("a torn line `{line}`"));
        match lives.last_mut() {
            Some((last, numbers)) if last == life => numbers.push(number),
            _ => {
                assert!(!lives.iter().any(|(earlier, _)| earlier == life), "{life} appears again");
                lives.push((life.to_owned(), vec![number]));
            }
        }
    }
    lives
}

fn is_gapless((_, numbers): &(String, Vec<u64>)) -> bool {
    (1..).zip(numbers).all(|(expected, &number)| expected == number)
}

/// Waits until the present process of the service has written this number of lines.
fn until_it_counts(service: &Service, at_least: u64) {
    let life = service.pid().to_string();
    service.until_file("written", "a few more lines", |text| {
        let noted = text.trim().split_once(' ');
        noted.is_some_and(|(of, n)| of == life && n.parse::<u64>().is_ok_and(|n| n >= at_least))
    });
}

#[test]
fn what_a_service_writes_comes_to_its_logger() {
    let world = World::started();
    let mut service =
        world.service("web").run("echo hello; echo there; exec sleep 3600").log("exec cat >> lines").place();
    service.receive("su");
    service.logger().receive("su");
    assert_eq!(service.logger().until_lines("lines", 2), ["hello", "there"]);
    assert!(!world.said().contains("hello"), "{}", world.said());
}

#[test]
fn what_the_finish_script_writes_comes_to_the_logger_as_well() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run("echo run; exit 1")
        .finish("echo finish $1; exit 125")
        .log("exec cat >> lines")
        .place();
    service.receive("sudOD");
    assert_eq!(service.logger().until_lines("lines", 2), ["run", "finish 1"]);
}

#[test]
fn no_line_is_lost_or_doubled_however_often_the_service_is_killed() {
    let world = World::started();
    let mut service = world.service("web").run(COUNTS).log(LINE_BY_LINE).data("backoff-max", 1).place();
    service.receive("su");
    for _ in 0..15 {
        until_it_counts(&service, 20);
        service.send("k");
        service.receive("dDu");
    }
    service.send("d");
    service.receive("dD");
    // What the service has written is at least in the pipe, and the logger ends only when it has
    // read all of that.
    let written = fs::read_to_string(service.path("written")).unwrap();
    let mut world = world;
    assert!(world.stop().success());
    let text = fs::read_to_string(service.path("log/lines")).unwrap();
    assert!(text.ends_with("end\n"), "the logger was told by the end of its input");
    let lives = lives(&text);
    assert!(lives.len() >= 15, "{} lives", lives.len());
    for life in &lives {
        assert!(is_gapless(life), "{life:?}");
    }
    assert!(written.is_empty() || text.contains(&format!("\n{written}")), "{written}");
}

#[test]
fn a_killed_logger_loses_at_most_the_line_that_it_was_working_on_and_the_service_goes_on() {
    let world = World::started();
    let mut service = world.service("web").run(COUNTS).log(LINE_BY_LINE).place();
    service.logger().set("backoff-max", 1);
    service.receive("su");
    service.logger().receive("su");
    let pid = service.pid();
    let mut reached = 0;
    for _ in 0..10 {
        reached += 200;
        until_it_counts(&service, reached);
        service.logger().send("k");
        service.logger().receive("dDu");
    }
    until_it_counts(&service, reached + 200);
    assert_eq!((service.pid(), service.further_events().as_str()), (pid, ""), "the service ran on");
    let mut world = world;
    assert!(world.stop().success());
    let text = fs::read_to_string(service.path("log/lines")).unwrap();
    // A killed logger loses the line that it was working on, or the beginning of that line. Then
    // the rest comes as a line.
    let life = format!("{pid} ");
    let numbers: Vec<u64> = text.lines().filter_map(|line| line.strip_prefix(&life)?.parse().ok()).collect();
    let last = *numbers.last().unwrap();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "in order and none twice");
    let missing = last - u64::try_from(numbers.len()).unwrap();
    assert!(missing <= 10, "{missing} lines of {last} are lost");
    assert!(last >= reached, "{last}");
}

#[test]
fn no_line_is_lost_when_s6_log_and_its_service_are_restarted_again_and_again() {
    let world = World::started();
    // On SIGTERM s6-log writes what it has read, up to the end of the line, and ends.
    let mut service = world
        .service("web")
        .run(COUNTS)
        .log("exec s6-log -b n1 s100000000 ./dir")
        .data("backoff-max", 1)
        .place();
    service.receive("su");
    service.logger().receive("su");
    for n in 0..12 {
        until_it_counts(&service, 50);
        if n % 3 == 0 {
            service.send("k");
            service.receive("dDu");
        } else {
            service.logger().send("t");
            service.logger().receive("dDu");
        }
    }
    let mut world = world;
    assert!(world.stop().success());
    let text = fs::read_to_string(service.path("log/dir/current")).unwrap();
    let lives = lives(&text);
    assert!(lives.len() >= 4, "{} lives", lives.len());
    for life in &lives {
        assert!(is_gapless(life), "{} of {}", life.0, life.1.len());
    }
}

#[test]
fn the_last_lines_of_a_service_are_in_its_log_after_the_end() {
    let mut world = World::started();
    let mut services: Vec<Service> = (0..10)
        .map(|n| {
            world
                .service(format!("s{n}"))
                .run("trap 'echo last words; exit 0' TERM; : > ready; sleep 3600 & wait")
                .finish("echo very last words")
                .log("while IFS= read -r line; do echo \"$line\" >> lines; done; echo end >> lines")
                .place()
        })
        .collect();
    for service in &mut services {
        service.receive("su");
        service.until_file("ready", "the trap", |_| true);
    }
    assert!(world.stop().success());
    for service in &mut services {
        assert_eq!(
            fs::read_to_string(service.path("log/lines")).unwrap(),
            "last words\nvery last words\nend\n"
        );
        service.receive("dDx");
        service.logger().receive("sudDx");
        assert_eq!(service.logger().status().last.exit_code(), Some(0), "it ended by itself");
    }
}

#[test]
fn lines_written_while_the_logger_is_down_wait_for_it() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run("echo one; echo two; : > written; exec sleep 3600")
        .log(LINE_BY_LINE)
        .prepare(|dir| fs::write(dir.join("log/down"), "").unwrap())
        .place();
    service.receive("su");
    service.logger().receive("s");
    service.until_file("written", "two lines", |_| true);
    service.send("k");
    service.receive("dDu");
    service.logger().send("u");
    service.logger().receive("u");
    assert_eq!(service.logger().until_lines("lines", 4), ["one", "two", "one", "two"]);
}

#[test]
fn a_logger_is_supervised_like_any_service() {
    let world = World::started();
    let mut service = world.service("web").stays().log("exec cat >> lines").place();
    service.receive("su");
    let logger = service.logger();
    logger.receive("su");
    let pid = logger.pid();
    logger.send("k");
    logger.receive("dDu");
    assert_ne!(logger.pid(), pid);
    logger.send("d");
    logger.receive("dD");
    logger.send("u");
    logger.receive("u");
}

#[test]
fn an_x_for_the_service_or_its_logger_keeps_the_pipe() {
    let world = World::started();
    let body = "while read line < go; do echo \"$line\"; done";
    let mut service = world.service("web").run(body).log(LINE_BY_LINE).gate("go").place();
    service.receive("su");
    service.logger().receive("su");
    service.pass("go", "one");
    service.logger().until_lines("lines", 1);
    service.send("xk");
    service.receive("dDxsu");
    service.pass("go", "two");
    service.logger().until_lines("lines", 2);
    service.logger().send("xk");
    service.logger().receive("dDxsu");
    service.pass("go", "three");
    assert_eq!(service.logger().until_lines("lines", 3), ["one", "two", "three"]);
    assert_eq!(service.further_events(), "");
}

#[test]
fn a_log_that_is_no_directory_is_no_logger() {
    let world = World::started();
    let mut service =
        world.service("web").run("echo hello; exec sleep 3600").file("log", "old lines").place();
    service.receive("su");
    world.until_said("hello");
}

#[test]
fn a_service_whose_logger_became_unacceptable_writes_on_until_it_is_fixed() {
    let world = World::started();
    let body = "while read line < go; do echo \"$line\"; done";
    let mut service = world.service("web").run(body).log(LINE_BY_LINE).gate("go").place();
    service.receive("su");
    service.logger().receive("su");
    let log = service.path("log");
    let permit = |mode| fs::set_permissions(&log, fs::Permissions::from_mode(mode)).unwrap();
    permit(0o777);
    service.logger().send("xk");
    service.logger().receive("dDx");
    world.until_said("no longer supervised");
    service.pass("go", "one");
    service.send_and_see("c");
    world.rescan();
    permit(0o755);
    service.pass("go", "two");
    world.rescan();
    service.logger().receive("su");
    assert_eq!(service.logger().until_lines("lines", 2), ["one", "two"]);
    assert_eq!(service.further_events(), "", "its pipe was never closed");
}

#[test]
fn a_service_whose_logger_cannot_be_started_runs_and_its_lines_wait() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run("echo one; exec sleep 3600")
        .log("")
        .prepare(|dir| fs::remove_file(dir.join("log/run")).unwrap())
        .place();
    service.receive("su");
    service.logger().receive("s");
    service.logger().until_policy("a failed start", |policy| policy.reason.is_some());
    service.logger().rewrite_run(LINE_BY_LINE);
    service.logger().send("u");
    service.logger().receive("u");
    assert_eq!(service.logger().until_lines("lines", 1), ["one"]);
}

#[test]
fn standard_error_is_a_stream_of_its_own_where_the_slot_says_so() {
    let mut world = World::started();
    let kept = world.root().join("kept");
    let run = format!("#!{} log\ndirectory = \"{}\"\n", env!("CARGO_BIN_EXE_gatevisor"), kept.display());
    let place = |path: &std::path::Path| {
        fs::create_dir(path.join("log")).unwrap();
        crate::support::executable(&path.join("log/run"), &run);
        fs::write(path.join("log/stderr"), "").unwrap();
    };
    let mut service = world
        .service("web")
        .run("echo out; echo err >&2; printf part; printf 'another err\n' >&2; echo ' of a line'; exec sleep 3600")
        .finish("echo finished >&2")
        .prepare(place)
        .place();
    service.receive("su");
    let said = world.until_said("web | part of a line");
    service.send("d");
    service.receive("dD");
    let said = format!("{said}{}", world.until_said("web ! finished"));
    for line in ["web | out\n", "web ! err\n", "web ! another err\n"] {
        assert!(said.contains(line), "{line} in {said}");
    }
    assert!(world.stop().success());
    let text = fs::read_to_string(kept.join("current")).unwrap();
    let mut lines: Vec<&str> = text.lines().map(|line| line.split_once("  ").unwrap().1).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["[stderr] another err", "[stderr] err", "[stderr] finished", "out", "part of a line"]);
}
