//! The stages of the shutdown: each line is a time, what happens, what is left, and what is done.

use gatevisor_core::Tick;
use gatevisor_core::shutdown::{
    ChildKind, Remaining, Shutdown, ShutdownAction, ShutdownActions, ShutdownStage,
};
use gatevisor_core::stop::Rank;

/// Plays a table whose lines are `TIME EVENT [WHAT IS LEFT] => ACTION, ACTION…`, with `until N` for
/// the deadline and the name of the stage where they matter. What is left is `1f 1c 1l` for a
/// user's services of the first rank, the command and the others, `entries`, `daemons` and
/// `no-proc` where no process can be found.
fn check(grace_ms: u64, is_container: bool, table: &str) {
    let mut shutdown = Shutdown::new(grace_ms, is_container);
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (left, expected) = line.split_once("=>").expect("well formed");
        let (time, rest) = left.trim().split_once(' ').expect("well formed");
        let (event, remaining) = rest.trim().split_once('[').unwrap_or((rest, "]"));
        let mut actions = ShutdownActions::new();
        let now = Tick(time.parse().expect("well formed"));
        let (has_proc, remaining) = (!remaining.contains("no-proc"), parse(remaining.trim_end_matches(']')));
        match event.trim() {
            "ask" => shutdown.ask(now, &remaining, &mut actions),
            "quit" => shutdown.quit(now, &remaining, &mut actions),
            "abandon" => shutdown.abandon(),
            "due" => shutdown.due(now, &remaining, &mut actions),
            "look" => while shutdown.look(now, &remaining, || has_proc, &mut actions) {},
            "no-child" => shutdown.no_child_is_left(true, &mut actions),
            "no-child-of-those-known" => shutdown.no_child_is_left(false, &mut actions),
            other => panic!("no event `{other}`"),
        }
        let mut said: Vec<String> = actions.iter().map(show).collect();
        for word in expected.split(", ").map(str::trim).skip(said.len()) {
            if word.starts_with("until") {
                let deadline = shutdown.deadline().map_or("never".to_owned(), |at| at.0.to_string());
                said.push(format!("until {deadline}"));
            } else {
                said.push(stage(shutdown.stage()).to_owned());
            }
        }
        assert_eq!(said.join(", "), expected.trim(), "in `{line}`");
    }
}

fn parse(words: &str) -> Remaining {
    let mut remaining = Remaining::default();
    for word in words.split_ascii_whitespace() {
        match word {
            "entries" => remaining.has_entries = true,
            "daemons" => remaining.has_log_daemons = true,
            "no-proc" => {}
            whose => {
                let (user, rank) = whose.split_at(whose.len() - 1);
                let rank = match rank {
                    "f" => Rank::First,
                    "c" => Rank::Command,
                    "l" => Rank::Last,
                    _ => panic!("no rank `{rank}`"),
                };
                remaining.ranks.insert((user.parse().expect("well formed"), rank));
            }
        }
    }
    remaining
}

fn stage(stage: ShutdownStage) -> &'static str {
    match stage {
        ShutdownStage::Running => "Running",
        ShutdownStage::Services => "Services",
        ShutdownStage::Loggers => "Loggers",
        ShutdownStage::Logs => "Logs",
        ShutdownStage::Orphans => "Orphans",
        ShutdownStage::Over => "Over",
    }
}

fn show(action: &ShutdownAction) -> String {
    match action {
        ShutdownAction::Begin => "begin".to_owned(),
        ShutdownAction::Stop(whom) => {
            let shown = |rank| match rank {
                Rank::First => 'f',
                Rank::Command => 'c',
                Rank::Last => 'l',
            };
            let whom: Vec<String> =
                whom.iter().map(|&(user, rank)| format!("{user}{}", shown(rank))).collect();
            format!("stop {}", whom.join(" "))
        }
        ShutdownAction::StopLoggers => "stop-loggers".to_owned(),
        ShutdownAction::SayKilling => "say-killing".to_owned(),
        ShutdownAction::Kill => "kill".to_owned(),
        ShutdownAction::SayLeftBehind => "say-left-behind".to_owned(),
        ShutdownAction::QuitLogDaemons => "quit-logs".to_owned(),
        ShutdownAction::KillLateLogDaemons => "kill-late-logs".to_owned(),
        ShutdownAction::GiveUpLogDaemons => "give-up-logs".to_owned(),
        ShutdownAction::AskOrphans => "ask-orphans".to_owned(),
        ShutdownAction::KillOrphans => "kill-orphans".to_owned(),
        ShutdownAction::Collect => "collect".to_owned(),
        ShutdownAction::SayKnownStopped => "say-known-stopped".to_owned(),
        ShutdownAction::SayStopped => "say-stopped".to_owned(),
    }
}

#[test]
fn each_stage_begins_when_the_one_before_has_ended_and_nothing_waits_for_a_time() {
    check(
        8000,
        false,
        "
        100 ask  [0l entries daemons] => begin, stop 0l, until 8100
        150 look [0l entries daemons] => Services
        200 look [entries daemons]    => ask-orphans, Loggers
        250 look [daemons]            => quit-logs, Logs
        300 look []                   => ask-orphans, collect, Orphans, until 2300
        310 no-child                  => say-stopped, Over
        ",
    );
}

#[test]
fn where_nothing_is_left_everything_is_over_at_once() {
    check(
        8000,
        false,
        "
        100 ask  []  => begin, until 8100
        100 look []  => quit-logs, ask-orphans, collect, Orphans
        100 no-child => say-stopped, Over
        ",
    );
}

#[test]
fn in_a_container_each_users_services_stop_in_order_and_all_are_asked_after_three_quarters_of_the_grace() {
    check(
        8000,
        true,
        "
        0    ask  [1f 1c 1l 2l entries] => begin, stop 1f 2l, until 6000
        10   look [1f 1c 1l entries]    => Services
        20   look [1c 1l entries]       => stop 1c
        30   look [1c 1l entries]       => Services, until 6000
        6000 due  [1c 1l entries]       => stop 1l, until 8000
        8000 due  [1c 1l entries]       => say-killing, kill, kill-orphans, until 8500
        8500 due  [1c 1l entries]       => kill, kill-orphans, kill-late-logs, until 9000
        9000 due  [1c 1l entries]       => kill, kill-orphans, kill-late-logs, until 9500
        9500 due  [1c 1l entries]       => say-left-behind, quit-logs, Logs, until 10000
        ",
    );
}

#[test]
fn without_a_container_nobody_is_asked_before_its_turn_and_killing_goes_on_for_ten_seconds() {
    check(
        1000,
        false,
        "
        0     ask  [0l entries] => begin, stop 0l, until 1000
        1000  due  [0l entries] => say-killing, kill, kill-orphans, until 1500
        11000 due  [0l entries] => kill, kill-orphans, kill-late-logs, until 11500
        11500 due  [0l entries] => say-left-behind, quit-logs, Logs
        ",
    );
}

#[test]
fn a_second_request_to_shut_down_kills_everything_at_once() {
    check(
        8000,
        true,
        "
        0   ask [1f 1l entries] => begin, stop 1f
        100 ask [1f 1l entries] => stop 1l, say-killing, kill, kill-orphans, until 600
        200 ask [1f 1l entries] => kill, kill-orphans, kill-late-logs, until 600
        ",
    );
}

#[test]
fn quitting_stops_loggers_at_once_and_only_the_first_time() {
    check(
        8000,
        false,
        "
        0  quit [0l entries] => begin, stop 0l, stop-loggers
        10 quit [0l entries] => say-killing, kill, kill-orphans
        ",
    );
}

#[test]
fn an_orphan_that_holds_a_log_pipe_is_asked_to_end_and_then_killed_again_and_again() {
    check(
        60000,
        false,
        "
        0    ask  [0l entries] => begin, stop 0l
        10   look [entries]    => ask-orphans, Loggers, until 2010
        2010 due  [entries]    => kill-orphans, until 4010
        4010 due  [entries]    => kill-orphans, until 6010
        4020 look []           => quit-logs, ask-orphans, collect, Orphans, until 6020
        6020 due  []           => kill-orphans, until 6040
        ",
    );
}

#[test]
fn log_daemons_that_do_not_end_are_given_up_and_what_they_leave_is_not_waited_for() {
    check(
        1000,
        true,
        "
        0    ask  [daemons] => begin
        0    look [daemons] => quit-logs, Logs, until 750
        750  due  [daemons] => Logs, until 1000
        1000 due  [daemons] => give-up-logs, until 1500
        2000 due  [daemons] => give-up-logs, until 2500
        2500 due  [daemons] => give-up-logs, kill-orphans, Orphans, until 3000
        3000 due  []        => Over
        ",
    );
}

#[test]
fn once_the_grace_is_over_orphans_of_a_container_are_killed_unasked() {
    check(
        1000,
        true,
        "
        0    ask  [1l]      => begin, stop 1l
        750  due  [1l]      => Services
        1000 due  [1l]      => say-killing, kill, kill-orphans, until 1500
        1010 look []        => quit-logs, kill-orphans, collect, Orphans, until 1500
        1500 due  []        => kill-orphans, until 1520
        1520 due  []        => kill-orphans, until 1540
        2540 due  []        => Over
        ",
    );
}

#[test]
fn where_no_process_can_be_found_nobody_else_is_waited_for() {
    check(
        8000,
        false,
        "
        0 ask  [no-proc] => begin
        0 look [no-proc] => quit-logs, say-known-stopped, Over
        ",
    );
}

#[test]
fn abandoning_leaves_everything_as_it_is() {
    check(
        8000,
        false,
        "
        0 abandon       => Over, until never
        1 look [0l]     => Over
        2 ask  [0l]     => Over
        3 no-child      => Over
        ",
    );
}

#[test]
fn where_orphans_go_elsewhere_only_what_is_known_is_said_to_have_stopped() {
    check(
        8000,
        false,
        "
        100 ask  []                  => begin, until 8100
        100 look []                  => quit-logs, ask-orphans, collect, Orphans
        100 no-child-of-those-known  => say-known-stopped, Over
        ",
    );
}

#[test]
fn scripts_and_helpers_have_until_everything_else_is_down_and_what_ends_groups_until_there_is_no_time() {
    let mut shutdown = Shutdown::new(8000, false);
    let kinds = [ChildKind::Known, ChildKind::Helper, ChildKind::GroupEnder, ChildKind::Stranger];
    let orphans = |shutdown: &Shutdown, kills| kinds.map(|kind| shutdown.is_orphan(kind, kills));
    shutdown.ask(Tick(0), &parse("entries"), &mut ShutdownActions::new());
    assert_eq!(orphans(&shutdown, false), [false, false, false, true]);
    assert_eq!(orphans(&shutdown, true), [false, false, false, true]);
    while shutdown.look(Tick(1), &parse(""), || true, &mut ShutdownActions::new()) {}
    assert_eq!(shutdown.stage(), ShutdownStage::Orphans);
    assert_eq!(orphans(&shutdown, false), [false, true, false, true]);
    assert_eq!(orphans(&shutdown, true), [false, true, true, true]);
}
