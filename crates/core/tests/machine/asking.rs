//! A service whose exit code says nothing is asked what it wants before that is decided.

use std::fmt::Write as _;

use crate::scenario::{play, policy};
use gatevisor_core::restart::{RestartPolicy, Rules};

const ASKED: &str = "exit code 0: it is asked whether it wants to be started";
const AGAIN: &str = "exit code 0: it is asked again whether it wants to be started";
const SILENT: &str = "the handoff command did not end in time";

/// Plays a scenario of a service that is asked after exit code 0, from the moment it is up.
fn check(scenario: &str) {
    check_with(&RestartPolicy { handoff_codes: vec![0], ..policy() }, scenario);
}

fn check_with(policy: &RestartPolicy, scenario: &str) {
    let up = "0 deadline => spawn-run\n0 forked 70 => nothing\n1 spawned => status-up, u\n";
    play(Rules::Native, true, policy, &format!("{up}{scenario}"));
}

/// The lines from its end with 0 to the process that asks.
fn asked() -> String {
    format!(
        "
        2000 exited 0            => close-readiness, record-death, spawn-finish 70 (exitcode 0)
        2000 finish-absent       => ask 70 0
        2000 ask-forked 71 30000 => policy-asking#0 [{ASKED}], status-finishing!, d, until 32000
        "
    )
}

#[test]
fn a_service_that_left_a_handoff_is_started_again_at_once() {
    check(&format!(
        "{}
        5000 exited 0  => policy-running#0, status-down+!, D, spawn-run
        5000 forked 72 => nothing
        5001 spawned   => policy-running#0+1, status-up, u
        ",
        asked()
    ));
}

#[test]
fn a_service_that_left_no_handoff_has_ended_on_purpose_and_stays_down() {
    check(&format!(
        "{}
        5000 exited 1  => policy-running#0 [it ended on purpose: it left no handoff that counts], status-down+, D, until never
        6000 control u => status-down+!, spawn-run
        ",
        asked()
    ));
}

#[test]
fn a_question_without_an_answer_is_asked_again_later_each_time_and_nothing_is_guessed() {
    check(&format!(
        "{}
        5000 exited 99           => policy-asking#0 until-5250 [{AGAIN}: {SILENT}], status-down+!, D, until 5250
        5250 deadline            => ask 70 0
        5250 ask-forked 73 30000 => policy-asking#0 [{AGAIN}: {SILENT}], status-finishing+!
        6000 killed 9            => policy-asking#0 until-6500 [{AGAIN}: what asks for the handoff was ended or failed], status-down+!, D, until 6500
        6500 deadline            => ask 70 0
        6500 ask-failed fork     => policy-asking#0 until-7500 [{AGAIN}: what asks for the handoff was ended or failed], status-down+!, D, until 7500
        7500 deadline            => ask 70 0
        7500 ask-forked 74 30000 => policy-asking#0 [{AGAIN}: what asks for the handoff was ended or failed], status-finishing+!
        8000 exited 0            => policy-running#0, status-down+!, D, spawn-run
        ",
        asked()
    ));
}

#[test]
fn a_service_whose_earlier_question_had_no_answer_is_not_said_to_have_ended_on_purpose() {
    check(&format!(
        "{}
        5000 exited 99           => policy-asking#0 until-5250 [{AGAIN}: {SILENT}], status-down+!, D, until 5250
        5250 deadline            => ask 70 0
        5250 ask-forked 73 30000 => policy-asking#0 [{AGAIN}: {SILENT}], status-finishing+!
        9000 exited 1            => policy-running#0 [it left no handoff that counts, but an earlier question had no answer: it may have wanted a restart], status-down+, D, until never
        9500 control u           => status-down+!, spawn-run
        ",
        asked()
    ));
}

#[test]
fn a_service_with_a_limit_of_failures_is_given_up_after_as_many_questions_without_an_answer() {
    let once = RestartPolicy { handoff_codes: vec![0], give_up_after: 1, ..policy() };
    check_with(
        &once,
        &format!(
            "{}
            5000 exited 2 => policy-failed#0 [exit code 0, and given up: the handoff command gave no answer that can be understood], status-down+, OD, until never
            ",
            asked()
        ),
    );
}

#[test]
fn a_request_decides_and_what_asks_is_ended() {
    check(&format!(
        "{}
        2500 control d   => signal 71 18, signal 71 15, status-finishing
        2501 killed 15   => policy-running#0, status-down+, D, until never
        ",
        asked()
    ));
    check(&format!(
        "{}
        2500 control u   => signal 71 18, signal 71 15, status-finishing!
        2501 killed 15   => policy-running#0, status-down+!, D, spawn-run
        ",
        asked()
    ));
    for (control, then) in [("O", "nothing"), ("o", "nothing")] {
        check(&format!(
            "{}
            2500 control {control} => signal 71 18, signal 71 15, status-finishing
            2501 exited 0          => policy-running#0, status-down+, D, until never
            2502 deadline          => {then}
            ",
            asked()
        ));
    }
}

#[test]
fn a_request_between_two_questions_decides_too() {
    let failed = format!(
        "{}
        5000 exited 99 => policy-asking#0 until-5250 [{AGAIN}: {SILENT}], status-down+!, D, until 5250
        ",
        asked()
    );
    check(&format!("{failed}\n5100 control u => status-down+!, spawn-run"));
    check(&format!("{failed}\n5100 control d => policy-running#0, status-down+, until never"));
    check(&format!("{failed}\n5100 shutdown => x, end"));
}

#[test]
fn supervision_that_ends_does_not_wait_for_an_answer() {
    for (end, more) in
        [("shutdown", "until 32000"), ("withdraw 100", "until 2600"), ("drain 100", "until 2600")]
    {
        check(
            &format!(
                "{}
            2500 {end}     => signal 71 18, signal 71 15, {more}
            2501 killed 15 => policy-running#0, status-down+, Dx, end
            ",
                asked()
            )
            .replace("status-down+, Dx, end", "status-down+!, Dx, end"),
        );
    }
}

#[test]
fn an_asking_process_that_does_not_end_is_killed() {
    check(&format!(
        "{}
        32000 deadline => signal 71 18, signal 71 9, until 37000
        37000 deadline => signal 71 18, signal 71 9, until 42000
        ",
        asked()
    ));
}

#[test]
fn nobody_is_asked_about_a_stop_a_signal_or_another_exit_code() {
    check(
        "
        100 control d            => terminate 70, status-up!
        110 exited 0             => close-readiness, record-death, spawn-finish 70 (exitcode 0)
        110 finish-absent        => status-down+, dD, until never
        ",
    );
    check(
        "
        100 control t            => signal 70 15
        110 exited 0             => close-readiness, record-death, spawn-finish 70 (exitcode 0)
        110 finish-absent        => status-down+!, dD, spawn-run
        ",
    );
    check(
        "
        100 exited 1             => close-readiness, record-death, spawn-finish 70 (exitcode 1)
        100 finish-absent        => status-down+!, dD, spawn-run
        ",
    );
    check(
        "
        100 exited 78            => close-readiness, record-death, spawn-finish 70 (exitcode 78)
        100 finish-absent        => policy-failed#0 [exit code 78 means that a restart cannot help], status-down+, dOD
        ",
    );
}

#[test]
fn a_request_while_the_finish_script_runs_comes_before_the_question() {
    check(
        "
        2000 exited 0            => close-readiness, record-death, spawn-finish 70 (exitcode 0)
        2000 finish-forked 71 0  => status-finishing!, d
        2010 control d           => status-finishing
        2020 exited 0            => status-down+, D, until never
        ",
    );
}

#[test]
fn what_the_service_left_behind_is_ended_after_the_question() {
    let kill = RestartPolicy { handoff_codes: vec![0], kill_survivors: true, ..policy() };
    check_with(
        &kill,
        &format!(
            "{}
            5000 exited 0             => clear-survivors 70
            5000 clear-forked 72 9000 => status-finishing!
            5100 exited 0             => policy-running#0, status-down+!, D, spawn-run
            ",
            asked()
        ),
    );
}

#[test]
fn a_service_that_only_asks_for_restarts_is_slowed() {
    let mut scenario = String::new();
    for n in 0..6 {
        let wait = if n == 5 { 1000 } else { 0 };
        let (start, asker) = (100 + n * 10, 70 + n * 2);
        let next = asker + 2;
        let end = if wait == 0 {
            format!("policy-running#0{}, status-down+!, D, spawn-run", plus(n))
        } else {
            format!(
                "policy-backoff#0+5 until-{} [{}], status-down+!, D, until {}",
                start + 2 + wait,
                gatevisor_wire::policy::ASKS_TOO_OFTEN,
                start + 2 + wait
            )
        };
        let _ = write!(
            scenario,
            "
            {start} exited 0            => close-readiness, record-death, spawn-finish {asker} (exitcode 0)
            {start} finish-absent       => ask {asker} 0
            {start} ask-forked {} 30000 => policy-asking#0{} [{ASKED}], status-finishing!, d
            {} exited 0                 => {end}
            ",
            asker + 1,
            plus(n),
            start + 2
        );
        if wait == 0 {
            let _ = write!(
                scenario,
                "
                {} forked {next} => nothing
                {} spawned       => policy-running#0+{}, status-up, u
                ",
                start + 3,
                start + 4,
                n + 1
            );
        }
    }
    check(&scenario);
}

fn plus(commanded: u32) -> String {
    if commanded == 0 { String::new() } else { format!("+{commanded}") }
}

#[test]
fn a_question_without_an_answer_after_a_long_life_waits_as_after_the_first_failure() {
    check(&format!(
        "
        10 exited 1               => close-readiness, record-death, spawn-finish 70 (exitcode 1)
        10 finish-absent          => status-down+!, dD, spawn-run
        10 forked 71              => nothing
        10 spawned                => policy-running#1, status-up, u
        40000 exited 0            => close-readiness, record-death, spawn-finish 71 (exitcode 0)
        40000 finish-absent       => ask 71 0
        40000 ask-forked 72 30000 => policy-asking#1 [{ASKED}], status-finishing!, d, until 70000
        41000 exited 99           => policy-asking#1 until-41250 [{AGAIN}: {SILENT}], status-down+!, D, until 41250
        ",
    ));
}
