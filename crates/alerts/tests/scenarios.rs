//! What is told, as a table: the second, what was seen, and what is told.

#![expect(clippy::expect_used, reason = "a panic in a test says what is wrong")]

use gatevisor_alerts::{
    AlertEvent, AlertFinding, AlertMachine, AlertProblem, AlertSubject, Sighting, fullness,
};

/// Carries out lines of `SECOND NAME FINDING [RESTARTS] => NEWS`.
fn check(table: &str) {
    check_with(&mut AlertMachine::default(), table);
}

fn check_with(machine: &mut AlertMachine, table: &str) {
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (seen, expected) = line.split_once("=>").unwrap_or((line, ""));
        let words: Vec<&str> = seen.split_whitespace().collect();
        let (second, seen) = words.split_first().expect("a second");
        let now_ms = second.parse::<u64>().expect("a number") * 1_000;
        let seen = seen.chunks(3).map(sighting).collect();
        let news = machine.step(now_ms, seen);
        let told: Vec<String> = news.iter().map(|news| told(&news.subject, &news.what)).collect();
        assert_eq!(told.join(", "), expected.trim(), "{line}");
    }
}

fn sighting(words: &[&str]) -> Sighting {
    let [name, finding, restarts] = words else { panic!("{words:?}") };
    let wrong = |problem| AlertFinding::Wrong(problem, None);
    let name = (*name).to_owned();
    let (subject, finding) = match *finding {
        "works" => (AlertSubject::Gateway(name), AlertFinding::Works),
        "failed" => (AlertSubject::Gateway(name), wrong(AlertProblem::Failed)),
        "silent" => (AlertSubject::Gateway(name), wrong(AlertProblem::Unresponsive)),
        "restarting" => (AlertSubject::Gateway(name), AlertFinding::Restarting(None)),
        "off" => (AlertSubject::Gateway(name), AlertFinding::Off),
        "unclear" => (AlertSubject::Gateway(name), AlertFinding::Unclear),
        "unkept" => (AlertSubject::Log(name), wrong(AlertProblem::LogGap)),
        "kept" => (AlertSubject::Log(name), AlertFinding::Works),
        "full" => (AlertSubject::Disk(name), wrong(AlertProblem::Disk)),
        "roomy" => (AlertSubject::Disk(name), AlertFinding::Works),
        other => panic!("{other}"),
    };
    Sighting { subject, finding, restarts: restarts.parse().ok() }
}

fn told(subject: &AlertSubject, what: &AlertEvent) -> String {
    let name = match subject {
        AlertSubject::Gateway(name) | AlertSubject::Log(name) | AlertSubject::Disk(name) => name.as_str(),
        AlertSubject::Nothing => "",
    };
    let word = what.kind().map_or("test", |kind| kind.word());
    format!("{name} {word}")
}

#[test]
fn a_gateway_that_fails_is_told_once_and_so_is_that_it_works_again() {
    check(
        "
        0  coder works 0
        1  coder failed 0   => coder failed
        2  coder failed 0
        90 coder failed 0
        91 coder unclear 0
        92 coder works 0
        94 coder works 0
        95 coder works 0    => coder recovered
        96 coder works 0
        ",
    );
}

#[test]
fn a_gateway_that_ends_once_and_works_again_is_no_news() {
    check(
        "
        0  coder works 0
        1  coder restarting 0
        2  coder works 1
        99 coder works 1
        ",
    );
}

#[test]
fn three_restarts_in_ten_minutes_are_a_crash_loop_until_there_was_none_for_a_minute() {
    check(
        "
        0   coder works 5
        10  coder restarting 5
        11  coder works 6
        20  coder restarting 6
        21  coder works 7
        30  coder restarting 7
        31  coder works 8      => coder crash-loop
        40  coder restarting 8
        41  coder works 9
        100 coder works 9
        101 coder works 9
        160 coder works 9
        161 coder works 9      => coder recovered
        ",
    );
}

#[test]
fn rare_restarts_are_no_crash_loop() {
    check(
        "
        0   coder works 0
        301 coder works 1
        602 coder works 2
        903 coder works 3
        ",
    );
}

#[test]
fn restarts_before_the_first_look_do_not_count_and_a_counter_that_begins_anew_is_no_restart() {
    check(
        "
        0 coder works 100
        1 coder works 100
        2 coder works 0
        3 coder works 1
        4 coder works 2
        5 coder works 3  => coder crash-loop
        ",
    );
}

#[test]
fn a_gateway_that_waits_long_for_its_restart_is_told() {
    check(
        "
        0   coder restarting 0
        119 coder restarting 0
        120 coder restarting 0 => coder crash-loop
        300 coder restarting 0
        301 coder failed 0     => coder failed
        ",
    );
}

#[test]
fn what_does_not_respond_for_a_moment_is_no_news() {
    check(
        "
        0 coder silent 0
        1 coder works 0
        2 coder silent 0
        3 coder silent 0
        4 coder silent 0 => coder unresponsive
        5 coder unclear 0
        6 coder works 1
        8 coder unclear 1
        9 coder works 1
        12 coder works 1 => coder recovered
        ",
    );
}

#[test]
fn a_problem_that_comes_and_goes_is_told_again_after_ten_minutes_at_the_earliest() {
    check(
        "
        0   coder failed 0 => coder failed
        10  coder works 0
        13  coder works 0  => coder recovered
        20  coder failed 0
        30  coder works 0
        40  coder works 0
        50  coder failed 0
        599 coder failed 0
        600 coder failed 0 => coder failed
        ",
    );
}

#[test]
fn what_somebody_stops_is_no_news_and_neither_is_what_is_removed() {
    check(
        "
        0 coder failed 0 writer failed 0 => coder failed, writer failed
        1 coder off 0
        2 coder works 0
        9 coder works 0 writer works 0
        ",
    );
}

#[test]
fn lines_and_file_systems_have_problems_of_their_own() {
    check(
        "
        0  coder failed 0 coder unkept - /data full - => coder failed, /data disk
        5  coder failed 0 coder unkept - /data full - => coder log-gap
        6  coder failed 0 coder kept -   /data roomy - => /data recovered
        35 coder failed 0 coder kept -
        36 coder failed 0 coder kept -   => coder recovered
        ",
    );
}

#[test]
fn who_takes_over_tells_nothing_twice_and_the_end_of_what_was_told() {
    let mut first = AlertMachine::default();
    check_with(&mut first, "0 coder failed 0 writer silent 0 => coder failed");
    let open = first.open();
    assert_eq!(open.len(), 1);
    check_with(
        &mut AlertMachine::new(open),
        "
        0 coder failed 0
        1 coder works 0
        4 coder works 0 => coder recovered
        ",
    );
}

#[test]
fn it_says_when_it_has_to_look_again() {
    let mut machine = AlertMachine::default();
    for (line, due) in [
        ("0 coder works 0", None),
        ("1 coder silent 0", Some(3_000)),
        ("3 coder silent 0 => coder unresponsive", None),
        ("4 coder works 0", Some(7_000)),
        ("7 coder works 0 => coder recovered", None),
        ("8 coder restarting 0", Some(128_000)),
        ("9 coder works 3 => coder crash-loop", Some(69_000)),
        ("69 coder works 3", Some(129_000)),
    ] {
        check_with(&mut machine, line);
        assert_eq!(machine.due_ms(), due, "{line}");
    }
}

#[test]
fn a_file_system_is_full_from_the_limit_on_and_has_room_a_little_below_it() {
    let words = |used| match fullness(used, 90) {
        AlertFinding::Wrong(AlertProblem::Disk, Some(reason)) => reason,
        other => format!("{other:?}"),
    };
    for (used, expected) in [
        (100, "100 % are in use"),
        (90, "90 % are in use"),
        (89, "Unclear"),
        (88, "Unclear"),
        (87, "Works"),
        (0, "Works"),
    ] {
        assert_eq!(words(used), expected, "{used}");
    }
}
