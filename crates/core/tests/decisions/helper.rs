//! When a helper of the supervisor is started again: each line is a time, what happens, and when
//! the next helper is started.

use gatevisor_core::Tick;
use gatevisor_core::helper::{HelperHistory, HelperRestart};
use gatevisor_wire::wait::WaitStatus;

/// Plays a table: `TIME EVENT… => RESTART`.
///
/// `FIRST..END:STEP` is a line for each of these times. RESTART is what follows from the last
/// event: `now`, `never`, or `in LEAST..MOST` milliseconds; `again` if it works and a failure was
/// reported; otherwise `-`. Behind it is `failing` if no helper can work as far as is known, or
/// `reported` if that is to be reported now.
fn check(table: &str) {
    let mut history = HelperHistory::new(7);
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (left, expected) = line.split_once(" => ").expect("well formed");
        let words: Vec<&str> = left.split_ascii_whitespace().collect();
        let (times, events) = words.split_first().expect("well formed");
        for time in times_of(times) {
            let mut said = "-".to_owned();
            for event in events {
                said = play(&mut history, Tick(time), event, expected);
            }
            assert_eq!(said + state(&mut history, events), expected, "at {time} in `{line}`");
        }
    }
}

fn times_of(times: &str) -> Vec<u64> {
    let number = |text: &str| text.parse::<u64>().expect("milliseconds");
    match times.split_once("..").and_then(|(first, rest)| Some((first, rest.split_once(':')?))) {
        Some((first, (end, step))) => {
            (number(first)..number(end)).step_by(step.parse().expect("a step")).collect()
        }
        None => vec![number(times)],
    }
}

fn play(history: &mut HelperHistory, now: Tick, event: &str, expected: &str) -> String {
    let exited = |code: &str| WaitStatus::exited(code.parse().expect("a code"));
    let killed = |number: &str| WaitStatus::killed(number.parse().expect("a signal")).expect("a signal");
    match event.split_once(':').unwrap_or((event, "")) {
        ("begins", _) => history.begins(now),
        ("works", _) if history.works() => return "again".to_owned(),
        ("works", _) => {}
        ("looks-old", _) => history.works_if_it_ran_long(now),
        ("give-up", _) => history.give_up(),
        ("failed", _) => return within(now, history.failed(now), expected),
        ("exited", code) => return restart(now, history.ended(now, exited(code), false), expected),
        ("killed", number) => return restart(now, history.ended(now, killed(number), false), expected),
        ("exited-in-shutdown", code) => {
            return restart(now, history.ended(now, exited(code), true), expected);
        }
        _ => unreachable!("{event}"),
    }
    "-".to_owned()
}

fn restart(now: Tick, restart: HelperRestart, expected: &str) -> String {
    match restart {
        HelperRestart::Never => "never".to_owned(),
        HelperRestart::Now => "now".to_owned(),
        HelperRestart::At(at) => within(now, at, expected),
    }
}

/// Returns the expected range if the time is within it, and otherwise the milliseconds until then.
fn within(now: Tick, at: Tick, expected: &str) -> String {
    let number = |text: &str| text.parse::<u64>().expect("milliseconds");
    let delay = at.since(now);
    let range = expected.split(',').next().and_then(|range| range.strip_prefix("in ")?.split_once(".."));
    match range {
        Some((least, most)) if (number(least)..=number(most)).contains(&delay) => {
            format!("in {least}..{most}")
        }
        _ => format!("in {delay}"),
    }
}

fn state(history: &mut HelperHistory, events: &[&str]) -> &'static str {
    let has_ended = events.last().is_some_and(|last| !["begins", "works", "give-up"].contains(last));
    match has_ended && history.must_report() {
        true => ", reported",
        false if history.is_failing() => ", failing",
        false => "",
    }
}

#[test]
fn one_that_is_killed_all_the_time_is_restarted_soon_and_never_given_up() {
    check(
        "
        0..1000:10 begins works killed:9 => in 0..275
        ",
    );
}

#[test]
fn one_that_is_killed_before_it_works_is_restarted_soon_and_counts_as_failing_after_a_minute() {
    check(
        "
        0..59000:100  begins killed:9  => in 0..275
        61000         begins killed:9  => in 0..11000
        62000         begins killed:9  => in 0..11000
        63000         begins killed:9  => in 0..11000
        64000         begins killed:9  => in 9000..11000, reported
        70000         begins works     => again
        ",
    );
}

#[test]
fn a_fault_of_its_own_counts_from_the_first_time_on() {
    check(
        "
        80000 begins killed:11 => in 0..275
        80001 begins exited:1  => in 0..275
        80002 begins killed:11 => in 0..275
        80003 begins killed:11 => in 0..275, reported
        ",
    );
}

#[test]
fn one_that_cannot_work_is_restarted_less_and_less_often() {
    check(
        "
        0    begins failed => in 0..0
        0    begins failed => in 5..25
        0    begins failed => in 5..50
        0    begins failed => in 5..50, reported
        0..9:1 begins failed => in 20..11000, failing
        9    begins failed => in 9000..11000, failing
        ",
    );
}

#[test]
fn failures_are_forgotten_when_it_works_and_later_ones_are_reported_again() {
    check(
        "
        0    begins failed => in 0..0
        10   begins failed => in 0..275
        20   begins failed => in 0..275
        50   begins failed => in 0..275, reported
        100  begins failed => in 0..275, failing
        300  begins failed => in 0..275, failing
        900  begins works  => again
        900  works         => -
        910  failed        => in 0..275
        1300 begins failed => in 0..11000
        1700 begins failed => in 0..11000
        2100 begins failed => in 0..11000
        2500 begins failed => in 0..11000, reported
        ",
    );
}

#[test]
fn one_that_does_not_report_works_when_it_has_run_for_half_a_minute() {
    check(
        "
        0      begins           => -
        29999  looks-old failed => in 0..275
        30000  begins           => -
        59999  looks-old failed => in 0..275
        60000  begins           => -
        89999  looks-old failed => in 0..275
        90000  begins           => -
        119999 looks-old failed => in 0..275, reported
        120000 begins           => -, failing
        150000 looks-old failed => in 0..275
        160000 begins           => -
        ",
    );
}

#[test]
fn in_a_shutdown_a_failing_one_is_restarted_three_times_at_most() {
    check(
        "
        0 exited-in-shutdown:0 => never
        0 exited-in-shutdown:1 => now
        0 exited-in-shutdown:1 => now
        0 exited-in-shutdown:1 => now
        0 exited-in-shutdown:1 => never
        ",
    );
    check(
        "
        0 give-up              => -
        0 exited-in-shutdown:1 => never
        ",
    );
}
