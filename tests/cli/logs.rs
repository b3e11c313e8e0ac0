//! Logs: the output of a gateway is in its file, in the supervisor's output, and in
//! `gatevisor logs`.

use std::fs;
use std::path::PathBuf;

use insta::assert_snapshot;
use rustix::process::Signal;

use crate::home::{Home, until_entries};
use crate::support::processes::{self, Held};
use crate::support::{WAIT_LIMIT, waiting};

/// Writes each line that it reads from the FIFO `lines` in the profile's home.
const PARROT: &str = "echo \"begins\"\nexec cat 0<>\"$2/lines\"";

/// A gateway that writes the lines that the test sends.
struct Parrot {
    lines: fs::File,
}

impl Parrot {
    fn new(home: &Home, name: &str) -> Self {
        home.profile(name);
        let lines = waiting::fifo(&home.profile_dir(name).join("lines"));
        rustix::fs::fcntl_setfl(&lines, rustix::fs::OFlags::empty()).unwrap();
        home.want_running(name);
        Self { lines }
    }

    fn write(&self, text: &str) {
        use std::io::Write;
        (&self.lines).write_all(text.as_bytes()).unwrap();
    }
}

fn parrots<const N: usize>(names: [&str; N]) -> (Home, [Parrot; N]) {
    let mut home = Home::with_script(PARROT, &[]);
    let parrots = names.map(|name| Parrot::new(&home, name));
    home.up();
    (home, parrots)
}

/// Returns the lines of a log without their stamps.
#[track_caller]
fn bare(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.split_once("  ").unwrap_or_else(|| panic!("no stamp: {line:?}")).1).collect()
}

#[test]
fn each_line_of_the_file_begins_with_a_stamp_of_nanoseconds_and_two_spaces() {
    let (home, [coder]) = parrots(["coder"]);
    coder.write("one\n\n  two \n");
    let log = home.until_logged("coder", "two \n");
    let stamps: Vec<&str> = log.lines().map(|line| line.split_at(29).0).collect();
    for stamp in &stamps {
        let shape: String = stamp.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00 00:00:00.000000000", "{log}");
        let parsed: jiff::civil::DateTime = stamp.replace(' ', "T").parse().unwrap();
        let age = jiff::Timestamp::now()
            .duration_since(parsed.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp());
        assert!((0..120).contains(&age.as_secs()), "it is no time of now in UTC: {stamp}");
    }
    assert!(stamps.is_sorted(), "{log}");
    assert_eq!(bare(&log), ["begins", "one", "", "  two "]);
}

#[test]
fn what_gateways_write_is_on_the_supervisors_output_line_by_line_with_their_names() {
    let (home, [coder, writer]) = parrots(["coder", "writer"]);
    coder.write("half of a ");
    for number in 0..100 {
        writer.write(&format!("line {number}\n"));
    }
    coder.write("line\n");
    home.running().until_says("coder | half of a line\n");
    let out = home.running().until_says("writer | line 99\n");
    let theirs = |name: &str| {
        let label = format!("{name} | ");
        out.lines().filter_map(|line| line.strip_prefix(&label)).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(theirs("coder"), ["begins", "half of a line"]);
    let expected: Vec<String> = (0..100).map(|number| format!("line {number}")).collect();
    assert_eq!(theirs("writer")[1..], expected);
}

#[test]
fn stderr_is_in_the_log_as_well() {
    let mut home = Home::with_script("echo to stderr >&2\nexec sleep 1000", &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up();
    home.until_logged("coder", "to stderr\n");
}

#[test]
fn logs_prints_as_many_last_lines_as_asked_for() {
    let (home, [coder]) = parrots(["coder"]);
    for number in 1..=30 {
        coder.write(&format!("line {number}\n"));
    }
    home.until_logged("coder", "line 30\n");
    assert_eq!(bare(&home.says("logs coder").ok()).len(), 10);
    assert_eq!(bare(&home.says("logs -n 2 coder").ok()), ["line 29", "line 30"]);
    assert_eq!(bare(&home.says("-p coder logs -n 1").ok()), ["line 30"]);
    assert_eq!(home.says("logs -n 0 coder").ok(), "");
    assert_eq!(bare(&home.says("logs -n all coder").ok()).len(), 31);
    assert_eq!(bare(&home.says("logs -n 1000000 coder").ok()).len(), 31);
    let object = home.says("logs -n 1 --json coder").ok();
    let object: serde_json::Value = serde_json::from_str(&object).unwrap();
    let keys: Vec<&String> = object.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["time", "profile", "service", "stream", "text"]);
    assert_eq!((&object["profile"], &object["service"]), (&"coder".into(), &"gateway-coder".into()));
    assert_eq!((&object["stream"], &object["text"]), (&"stdout".into(), &"line 30".into()));
    let time = object["time"].as_str().unwrap();
    assert_eq!((time.len(), &time[29..]), (30, "Z"));
    let line = home.says("logs -n 1 coder").ok();
    assert_eq!(line[..29], time[..29].replace('T', " "));
}

#[test]
fn logs_of_several_are_labelled_and_in_the_order_of_time() {
    let (home, [a, b]) = parrots(["a", "long-name"]);
    for number in 0..5 {
        a.write(&format!("a{number}\n"));
        home.until_logged("a", &format!("a{number}\n"));
        b.write(&format!("b{number}\n"));
        home.until_logged("long-name", &format!("b{number}\n"));
    }
    let out = home.says("logs -n 4 a long-name").ok();
    let shown: Vec<String> = out
        .lines()
        .map(|line| {
            let (label, rest) = line.split_once(" | ").unwrap();
            format!("{label}|{}", rest.split_once("  ").unwrap().1)
        })
        .collect();
    assert_eq!(
        shown,
        [
            "a        |a1",
            "long-name|b1",
            "a        |a2",
            "long-name|b2",
            "a        |a3",
            "long-name|b3",
            "a        |a4",
            "long-name|b4",
        ]
    );
}

#[test]
fn logs_of_nobody_and_of_a_wrong_number_are_refused() {
    let home = Home::new();
    assert_snapshot!(home.says("logs").refused(1), @"gatevisor: error: no gateway has written anything yet");
    home.profile("coder");
    assert_snapshot!(home.redact(&home.says("logs coder").refused(1)), @"gatevisor: error: coder has no log yet; it would be in `HOME/logs/gateways/coder`");
    assert_snapshot!(home.redact(&home.says("logs nope").refused(1)), @"gatevisor: error: there is no profile `nope` in `HOME/profiles`; `gatevisor profile list` shows those that exist");
    assert_snapshot!(home.says("logs -n some coder").refused(100), @"gatevisor: error: -n takes a number of lines or `all`, not `some`");
}

#[test]
fn following_goes_on_across_a_restart_of_the_gateway() {
    let (home, [coder]) = parrots(["coder"]);
    home.until_logged("coder", "begins\n");
    let following = home.start(["logs", "-f", "-n", "1", "coder"]);
    following.until_says("begins\n");
    coder.write("before\n");
    following.until_says("before\n");
    home.says("gateway restart coder").ok();
    coder.write("after\n");
    let out = following.until_says("after\n");
    assert_eq!(bare(&out), ["begins", "before", "begins", "after"]);
}

#[test]
fn following_goes_on_across_a_restart_of_the_supervisor() {
    let (mut home, [coder]) = parrots(["coder"]);
    coder.write("one\n");
    home.until_logged("coder", "one\n");
    let following = home.start_uncounted(["logs", "-f", "-n", "all", "coder"]);
    following.until_says("one\n");
    for round in ["two", "three"] {
        home.down();
        home.up();
        coder.write(&format!("{round}\n"));
        following.until_says(&format!("{round}\n"));
    }
    assert_eq!(bare(&following.out()), ["begins", "one", "begins", "two", "begins", "three"]);
}

#[test]
fn following_goes_on_across_a_rotation_and_loses_nothing() {
    let (home, [coder]) = parrots(["coder"]);
    home.until_logged("coder", "begins\n");
    let following = home.start(["logs", "-f", "-n", "0", "coder"]);
    let padding = "x".repeat(180);
    // The reader prints nothing before the first line, so the test writes lines until one arrives.
    let mut first = 0;
    waiting::polled("the first followed line", || {
        coder.write(&format!("{first:06} {padding}\n"));
        first += 1;
        (!following.out().is_empty()).then_some(())
    });
    // About 1.2 MB, because `current` is rotated at 1 MB.
    let total = first + 6000;
    for number in first..total {
        coder.write(&format!("{number:06} {padding}\n"));
    }
    let last = format!("{:06} ", total - 1);
    let out = following.until_out("the last line", |out| {
        (out.contains(&last) && out.ends_with('\n')).then(|| out.to_owned())
    });
    let numbers: Vec<usize> = bare(&out).iter().map(|line| line[..6].parse().unwrap()).collect();
    let expected: Vec<usize> = (numbers[0]..total).collect();
    assert_eq!(numbers, expected, "lines were lost, doubled or shuffled");
    assert!(numbers[0] <= first);
    let directory = home.log_file("coder").parent().unwrap().to_owned();
    let files =
        until_entries(&directory, "an archive", |names| names.iter().any(|name| name.starts_with('@')));
    let archive: Vec<&String> = files.iter().filter(|name| name.starts_with('@')).collect();
    assert!(archive.len() == 1 && archive[0].len() == 27 && &archive[0][25..] == ".s", "{files:?}");
    assert!(fs::metadata(directory.join(archive[0])).unwrap().len() <= 1_000_000);
    // The older lines are complete too, and the archive comes first.
    let all = home.says("logs -n all coder").ok();
    assert_eq!(bare(&all).len(), total + 1);
}

#[test]
fn a_killed_log_daemon_is_started_again_and_goes_on_where_it_was() {
    let (home, [coder]) = parrots(["coder"]);
    coder.write("before\n");
    home.until_logged("coder", "before\n");
    for round in 0..3 {
        let daemon = log_daemon(&home);
        let held = Held::of(daemon).unwrap();
        processes::signal(daemon, Signal::KILL);
        held.until_gone("the log daemon");
        coder.write(&format!("after {round}\n"));
        home.until_logged("coder", &format!("after {round}\n"));
        assert_ne!(log_daemon(&home), daemon);
    }
    let all = home.says("logs -n all coder").ok();
    assert_eq!(bare(&all), ["begins", "before", "after 0", "after 1", "after 2"]);
    assert_eq!(home.report("coder")["restarts"], 0, "the gateway noticed");
    let directory = home.log_file("coder").parent().unwrap().to_owned();
    let files = until_entries(&directory, "its files", |names| names.contains("current"));
    assert!(!files.iter().any(|name| name.starts_with('@')), "{files:?}");
}

fn log_daemon(home: &Home) -> i32 {
    let is_daemon = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).nth(1) == Some(b"logd")
    };
    waiting::polled("the log daemon", || {
        processes::children(home.running().pid()).into_iter().find(is_daemon)
    })
}

#[test]
fn what_a_gateway_writes_while_it_is_being_stopped_is_in_its_log() {
    let script = "trap 'echo last words; exit 0' TERM\necho begins\nwhile :; do sleep 1000 & wait; done";
    let mut home = Home::with_script(script, &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up();
    home.until_logged("coder", "begins\n");
    let ran = home.down();
    assert!(ran.out.contains("coder | last words\n"), "{ran:?}");
    let log = fs::read_to_string(home.log_file("coder")).unwrap();
    assert_eq!(bare(&log), ["begins", "last words"]);
}

#[test]
fn logs_stay_when_their_profile_goes() {
    let (home, [_coder]) = parrots(["coder"]);
    home.until_logged("coder", "begins\n");
    home.says("profile delete --yes coder").ok();
    let file: PathBuf = home.log_file("coder");
    assert_eq!(bare(&fs::read_to_string(file).unwrap()), ["begins"]);
    let following = home.start(["logs", "-n", "5", "coder"]);
    assert_eq!(bare(&following.ended(WAIT_LIMIT).ok()), ["begins"]);
}
