//! What becomes of a drain, with time as a column.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic in a test says what is wrong")]

use gatevisor_liveness::{Drain, DrainEffect, DrainEnd, DrainEvent, DrainSettings, DrainStage, WorkShown};
use proptest::prelude::*;

const SETTINGS: DrainSettings = DrainSettings { limit_ms: 30_000, look_ms: 1_000, holds: false };

fn shown(words: &[&str]) -> WorkShown {
    let turns = words.get(1).map(|turns| turns.parse().unwrap());
    match words[0] {
        "accepting" => WorkShown::Accepting(turns),
        "busy" => WorkShown::Busy(turns),
        "idle" => WorkShown::Idle,
        "unknown" => WorkShown::Unknown("no answer".into()),
        other => panic!("{other}"),
    }
}

fn event(words: &[&str]) -> DrainEvent {
    match words[0] {
        "begin" => DrainEvent::Begin,
        "unmarkable" => DrainEvent::NotMarked("no space".into()),
        "ended" => DrainEvent::Ended,
        "cancel" => DrainEvent::Cancel,
        "followed" => DrainEvent::Followed,
        "time" => DrainEvent::Time,
        _ => DrainEvent::Seen(shown(words)),
    }
}

/// Each line: milliseconds, what happens, and after `=>` what follows.
fn check(settings: DrainSettings, lines: &str) -> Drain {
    let mut drain = Drain::new(settings, 0);
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (left, expected) = line.split_once("=>").unwrap_or((line, ""));
        let words: Vec<&str> = left.split_whitespace().collect();
        let mut out = Vec::new();
        drain.step(words[0].parse().unwrap(), event(&words[1..]), &mut out);
        let said: Vec<String> = out.iter().map(|effect| format!("{effect:?}").to_lowercase()).collect();
        assert_eq!(said.join(", "), expected.trim(), "{line}");
    }
    drain
}

#[test]
fn a_gateway_is_asked_and_looked_at_until_it_is_idle_and_the_request_is_taken_back_after_what_follows() {
    let drain = check(
        SETTINGS,
        "
            0 begin       => mark, look
           10 accepting 2 => tell
         1000 time        => look
         1010 busy 2      => tell
         1500 time        =>
         2000 time        => look
         2010 busy 2      =>
         3000 time        => look
         3010 busy 1      => tell
         4010 idle        => tell, follow
         4020 time        =>
         9000 followed    => unmark
         9001 followed    =>
        ",
    );
    assert_eq!((drain.end(), drain.due_ms()), (Some(&DrainEnd::Idle), None));
}

#[test]
fn a_gateway_that_takes_new_work_is_not_idle_whatever_it_counts() {
    let drain = check(
        SETTINGS,
        "
            0 begin       => mark, look
           10 accepting 0 => tell
        30000 time        => follow
        ",
    );
    assert_eq!(drain.end(), Some(&DrainEnd::Limit(Some(0), DrainStage::Asked)));
}

#[test]
fn the_limit_ends_it_and_says_which_turns_are_cut() {
    let drain = check(
        SETTINGS,
        "
            0 begin    => mark, look
           10 busy 0   => tell
           20 busy 3   => tell
        29999 time     => look
        30000 time     => follow
        30001 idle     =>
        31000 followed => unmark
        ",
    );
    assert_eq!(drain.end(), Some(&DrainEnd::Limit(Some(3), DrainStage::Draining)));
}

#[test]
fn the_limit_ends_the_drain_of_a_gateway_whose_work_cannot_be_seen() {
    let drain = check(
        SETTINGS,
        "
            0 begin    => mark, look
           10 unknown  => tell
         1000 time     => look
         1001 unknown  =>
        30000 time     => follow
        ",
    );
    assert_eq!(drain.end(), Some(&DrainEnd::Limit(None, DrainStage::Unknown)));
    assert_eq!(drain.why_unknown(), Some("no answer"));
}

#[test]
fn a_cancelled_drain_is_undone_and_nothing_follows() {
    let drain = check(
        SETTINGS,
        "
            0 cancel   =>
            0 begin    => mark, look
           10 busy 1   => tell
           20 cancel   => unmark
           30 followed =>
        ",
    );
    assert_eq!(drain.end(), Some(&DrainEnd::Cancelled));
}

#[test]
fn a_request_that_could_not_be_made_is_taken_back_as_far_as_it_was() {
    check(SETTINGS, "0 begin => mark, look\n 1 unmarkable => unmark");
}

#[test]
fn the_next_step_is_done_after_a_process_that_ended_by_itself() {
    let drain = check(SETTINGS, "0 begin => mark, look\n 9 ended => follow\n 10 followed => unmark");
    assert_eq!(drain.end(), Some(&DrainEnd::Ended));
}

#[test]
fn where_nothing_follows_an_idle_gateway_is_kept_from_new_work_until_the_limit() {
    let drain = check(
        DrainSettings { holds: true, ..SETTINGS },
        "
            0 begin    => mark, look
           10 idle     => tell
         1000 time     => look
         1001 busy 1   => tell
         2000 time     => look
         2001 idle     => tell
        30000 time     => follow
        30001 followed => unmark
        ",
    );
    assert_eq!(drain.end(), Some(&DrainEnd::Idle));
}

fn any_event() -> impl Strategy<Value = DrainEvent> {
    let turns = || proptest::option::of(0..3u32);
    prop_oneof![
        Just(DrainEvent::Begin),
        Just(DrainEvent::NotMarked(String::new())),
        Just(DrainEvent::Ended),
        Just(DrainEvent::Cancel),
        Just(DrainEvent::Followed),
        Just(DrainEvent::Time),
        Just(DrainEvent::Time),
        turns().prop_map(|turns| DrainEvent::Seen(WorkShown::Accepting(turns))),
        turns().prop_map(|turns| DrainEvent::Seen(WorkShown::Busy(turns))),
        Just(DrainEvent::Seen(WorkShown::Idle)),
        Just(DrainEvent::Seen(WorkShown::Unknown(String::new()))),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_what_was_marked_is_unmarked_once_and_the_limit_ends_it(
        holds: bool, events in proptest::collection::vec((0..3_000u64, any_event()), 0..40),
    ) {
        let mut drain = Drain::new(DrainSettings { holds, ..SETTINGS }, 0);
        let (mut now_ms, mut all) = (0, Vec::new());
        for (after, event) in events {
            now_ms += after;
            drain.step(now_ms, event, &mut all);
            if let Some(due) = drain.due_ms() {
                prop_assert!(due <= SETTINGS.limit_ms, "it would go on beyond its limit");
            }
        }
        drain.step(SETTINGS.limit_ms, DrainEvent::Time, &mut all);
        prop_assert!(!drain.is_under_way());
        drain.step(SETTINGS.limit_ms, DrainEvent::Followed, &mut all);
        let count = |wanted| all.iter().filter(|effect| **effect == wanted).count();
        prop_assert_eq!(count(DrainEffect::Mark), count(DrainEffect::Unmark));
        prop_assert!(count(DrainEffect::Mark) <= 1 && count(DrainEffect::Follow) <= 1);
    }
}
