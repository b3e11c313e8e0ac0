//! When the supervisor starts a service again, told as tables of time, event and decision.

use crate::scenario::{check, check_s6, play, policy};
use gatevisor_core::restart::{RestartPolicy, Rules};
use gatevisor_wire::fail_code::FailCode;

#[test]
fn a_service_that_dies_is_started_again_at_once_and_then_ever_later() {
    check(
        "
        0 deadline           => spawn-run
        0 forked 70          => nothing
        1 spawned            => status-up, u
        100 exited 1         => close-readiness, record-death, spawn-finish 70 (exitcode 1)
        100 finish-absent    => status-down+!, dD, spawn-run
        100 forked 71        => nothing
        101 spawned          => policy-running#1, status-up, u
        200 exited 1         => close-readiness, record-death, spawn-finish 71 (exitcode 1)
        200 finish-absent    => policy-backoff#1 until-450, status-down+!, dD, until 450
        449 deadline         => until 450
        450 deadline         => spawn-run
        450 forked 72        => nothing
        451 spawned          => policy-running#2, status-up, u
        460 killed 9         => close-readiness, record-death, spawn-finish 72 (signal SIGKILL)
        460 finish-absent    => policy-backoff#2 until-960, status-down+!, dD
        960 deadline         => spawn-run
        ",
    );
}

#[test]
fn thirty_seconds_of_health_forget_earlier_failures() {
    check(
        "
        0 deadline          => spawn-run
        0 forked 70         => nothing
        0 spawned           => status-up, u
        10 exited 1         => close-readiness, record-death, spawn-finish 70 (exitcode 1)
        10 finish-absent    => status-down+!, dD, spawn-run
        10 forked 71        => nothing
        10 spawned          => policy-running#1, status-up, u
        30010 exited 1      => close-readiness, record-death, spawn-finish 71 (exitcode 1)
        30010 finish-absent => status-down+!, dD, spawn-run
        ",
    );
}

#[test]
fn a_requested_restart_comes_at_once_however_often_it_failed_before() {
    check(
        "
        0 deadline          => spawn-run
        0 forked 70         => nothing
        0 spawned           => status-up, u
        10 exited 1         => close-readiness, record-death, spawn-finish 70 (exitcode 1)
        10 finish-absent    => status-down+!, dD, spawn-run
        10 forked 71        => nothing
        10 spawned          => policy-running#1, status-up, u
        20 exited 75        => close-readiness, record-death, spawn-finish 71 (exitcode 75)
        20 finish-absent    => status-down+!, dD, spawn-run
        ",
    );
}

#[test]
fn a_service_that_asks_for_restarts_without_end_waits_longer_each_time_and_that_is_said() {
    let asks = |at: u32, pid: u32, then: &str| {
        format!(
            "{at} forked {pid}     => nothing
            {at} spawned           => {}
            {at} exited 75         => close-readiness, record-death, spawn-finish {pid} (exitcode 75)
            {at} finish-absent     => {then}\n",
            if at == 0 {
                "status-up, u".to_owned()
            } else {
                format!("policy-running#0+{}, status-up, u", pid - 70)
            },
        )
    };
    let free: String =
        (0..5).map(|life| asks(life * 10, 70 + life, "status-down+!, dD, spawn-run")).collect();
    let why = "it asks for a restart again and again, so each one waits longer";
    let waits = format!("policy-backoff#0+5 until-1050 [{why}], status-down+!, dD, until 1050");
    let braked = asks(50, 75, &waits);
    check(&format!(
        "0 deadline => spawn-run
        {free}{braked}
        1050 deadline  => spawn-run
        1050 forked 76 => nothing
        1050 spawned   => policy-running#0+6 [{why}], status-up, u
        1060 control 1 => signal 76 10
        1061 exited 75 => close-readiness, record-death, spawn-finish 76 (exitcode 75)
        1061 finish-absent => policy-running#0+6, status-down+!, dD, spawn-run
        "
    ));
}

#[test]
fn a_restart_that_any_signal_may_have_asked_for_does_not_count_as_asked_again_and_again() {
    // SIGSTOP and SIGCONT to the group are here, too: a program may act when it goes on.
    for (byte, sent) in
        [('h', "signal PID 1"), ('l', "reload-signal PID"), ('C', "signal-group PID 18, status-up")]
    {
        let mut scenario = String::from("0 deadline => spawn-run\n");
        for pid in 70..90 {
            let policy = if pid == 70 { String::new() } else { format!("policy-running#0+{}, ", pid - 70) };
            let sent = sent.replace("PID", &pid.to_string());
            let life = format!(
                "0 forked {pid}     => nothing
                0 spawned           => {policy}status-up, u
                0 control {byte}    => {sent}
                0 exited 75         => close-readiness, record-death, spawn-finish {pid} (exitcode 75)
                0 finish-absent     => status-down+!, dD, spawn-run\n",
            );
            scenario.push_str(&life);
        }
        check(&scenario);
    }
}

#[test]
fn a_death_that_somebody_asked_for_is_no_failure() {
    check(
        "
        0 deadline          => spawn-run
        0 forked 70         => nothing
        0 spawned           => status-up, u
        10 control t        => signal 70 15
        11 killed 15        => close-readiness, record-death, spawn-finish 70 (signal SIGTERM)
        11 finish-absent    => status-down+!, dD, spawn-run
        11 forked 71        => nothing
        11 spawned          => policy-running#0+1, status-up, u
        20 control r        => down-signal 71
        21 exited 0         => close-readiness, record-death, spawn-finish 71 (exitcode 0)
        21 finish-absent    => status-down+!, dD, spawn-run
        21 forked 72        => nothing
        21 spawned          => policy-running#0+2, status-up, u
        22 killed 9         => close-readiness, record-death, spawn-finish 72 (signal SIGKILL)
        22 finish-absent    => status-down+!, dD, spawn-run
        ",
    );
}

#[test]
fn a_death_that_somebody_asked_for_does_not_excuse_the_next_one() {
    check(
        "
        0 deadline          => spawn-run
        0 forked 70         => nothing
        0 spawned           => status-up, u
        10 control t        => signal 70 15
        11 killed 15        => close-readiness, record-death, spawn-finish 70 (signal SIGTERM)
        11 finish-absent    => status-down+!, dD, spawn-run
        11 forked 71        => nothing
        11 spawned          => policy-running#0+1, status-up, u
        20 exited 1         => close-readiness, record-death, spawn-finish 71 (exitcode 1)
        20 finish-absent    => status-down+!, dD, spawn-run
        20 forked 72        => nothing
        20 spawned          => policy-running#1+1, status-up, u
        30 exited 1         => close-readiness, record-death, spawn-finish 72 (exitcode 1)
        30 finish-absent    => policy-backoff#1+1 until-280, status-down+!, dD
        ",
    );
}

#[test]
fn commanded_restarts_are_counted_separately() {
    check(
        "
        0 deadline          => spawn-run
        0 forked 70         => nothing
        0 spawned           => status-up, u
        10 control d        => terminate 70, status-up!
        20 killed 15        => close-readiness, record-death, spawn-finish 70 (signal SIGTERM)
        20 finish-absent    => status-down+, dD, until never
        50 control u        => status-down+!, spawn-run
        50 forked 71        => nothing
        50 spawned          => policy-running#0+1, status-up, u
        60 exited 75        => close-readiness, record-death, spawn-finish 71 (exitcode 75)
        60 finish-absent    => status-down+!, dD, spawn-run
        60 forked 72        => nothing
        60 spawned          => policy-running#0+2, status-up, u
        70 exited 1         => close-readiness, record-death, spawn-finish 72 (exitcode 1)
        70 finish-absent    => status-down+!, dD, spawn-run
        70 forked 73        => nothing
        70 spawned          => policy-running#1+2, status-up, u
        ",
    );
}

#[test]
fn an_exit_code_of_permanent_failure_keeps_it_down_with_a_reason_until_a_start_is_requested() {
    check(
        "
        0 deadline          => spawn-run
        0 forked 70         => nothing
        0 spawned           => status-up, u
        10 exited 78        => close-readiness, record-death, spawn-finish 70 (exitcode 78)
        10 finish-absent    => policy-failed#0 [exit code 78 means that a restart cannot help], status-down+, dOD, until never
        99 deadline         => nothing
        100 control u       => status-down+!, spawn-run
        100 forked 71       => nothing
        101 spawned         => policy-running#1, status-up, u
        ",
    );
}

#[test]
fn a_life_after_a_permanent_failure_is_not_blamed_for_it() {
    check(
        "
        0 deadline          => spawn-run
        0 forked 70         => nothing
        0 spawned           => status-up, u
        10 exited 78        => close-readiness, record-death, spawn-finish 70 (exitcode 78)
        10 finish-absent    => policy-failed#0 [exit code 78 means that a restart cannot help], status-down+, dOD
        100 control o       => status-down+, spawn-run
        100 forked 71       => nothing
        101 spawned         => policy-running#1, status-up!, u
        110 exited 0        => close-readiness, record-death, spawn-finish 71 (exitcode 0)
        110 finish-absent   => status-down+, dD, until never
        ",
    );
}

#[test]
fn a_service_is_given_up_after_as_many_failures_as_the_slot_names() {
    play(
        Rules::Native,
        true,
        &RestartPolicy { give_up_after: 2, ..policy() },
        "
        0 deadline       => spawn-run
        0 forked 70      => nothing
        0 spawned        => status-up, u
        5 exited 1       => close-readiness, record-death, spawn-finish 70 (exitcode 1)
        5 finish-absent  => status-down+!, dD, spawn-run
        5 forked 71      => nothing
        5 spawned        => policy-running#1, status-up, u
        9 exited 1       => close-readiness, record-death, spawn-finish 71 (exitcode 1)
        9 finish-absent  => policy-failed#1 [given up after 2 failures in a row (exitcode 1)], status-down+, dOD, until never
        ",
    );
}

#[test]
fn an_exit_code_that_is_final_after_some_failures_counts_those_of_other_kinds() {
    play(
        Rules::Native,
        true,
        &RestartPolicy { fail_codes: vec![FailCode { code: 78, after: 3 }], ..policy() },
        "
        0 deadline       => spawn-run
        0 forked 70      => nothing
        0 spawned        => status-up, u
        5 exited 78      => close-readiness, record-death, spawn-finish 70 (exitcode 78)
        5 finish-absent  => status-down+!, dD, spawn-run
        5 forked 71      => nothing
        5 spawned        => policy-running#1, status-up, u
        9 exited 1       => close-readiness, record-death, spawn-finish 71 (exitcode 1)
        9 finish-absent  => policy-backoff#1 until-259, status-down+!, dD, until 259
        259 deadline     => spawn-run
        259 forked 72    => nothing
        259 spawned      => policy-running#2, status-up, u
        270 exited 78    => close-readiness, record-death, spawn-finish 72 (exitcode 78)
        270 finish-absent => policy-failed#2 [exit code 78 means that a restart cannot help], status-down+, dOD, until never
        ",
    );
}

#[test]
fn a_start_that_fails_is_tried_again_with_ever_longer_pauses_and_says_why() {
    check(
        "
        0 deadline            => spawn-run
        0 forked 70           => nothing
        1 spawn-failed ENOENT => policy-failed-to-start#0 until-251 [ENOENT], until 251
        251 deadline          => spawn-run
        251 spawn-failed EAGAIN => policy-failed-to-start#0 until-751 [EAGAIN], until 751
        751 deadline          => spawn-run
        751 forked 71         => nothing
        752 spawned           => policy-running#0, status-up, u
        ",
    );
}

#[test]
fn with_the_timing_of_s6_a_service_rests_for_a_second_after_each_death() {
    check_s6(
        "
        0 deadline           => spawn-run
        0 forked 70          => nothing
        1 spawned            => status-up, u
        5000 exited 1        => close-readiness, record-death, spawn-finish 70 (exitcode 1)
        5000 finish-absent   => status-down+!, dD, until 6000
        6000 deadline        => spawn-run
        ",
    );
}

#[test]
fn with_the_timing_of_s6_the_second_counts_from_readiness() {
    check_s6(
        "
        0 deadline           => spawn-run
        0 forked 70          => nothing
        1 spawned            => status-up, u
        100 ready            => status-up+, U
        5000 exited 1        => close-readiness, record-death, spawn-finish 70 (exitcode 1)
        5000 finish-absent   => status-down+!, dD, spawn-run
        5000 forked 71       => nothing
        5001 spawned         => policy-running#1, status-up, u
        5100 ready           => status-up+, U
        5500 exited 1        => close-readiness, record-death, spawn-finish 71 (exitcode 1)
        5500 finish-absent   => status-down+!, dD, until 6100
        ",
    );
}

#[test]
fn with_the_timing_of_s6_a_failed_exec_is_tried_again_after_ten_seconds() {
    check_s6(
        "
        0 deadline            => spawn-run
        0 spawn-failed ENOENT => policy-failed-to-start#0 until-10000 [ENOENT], until 10000
        ",
    );
}

#[test]
fn with_the_timing_of_s6_a_service_killed_before_its_exec_rests_from_its_death_and_was_never_ready() {
    check_s6(
        "
        0 deadline           => spawn-run
        0 forked 70          => nothing
        100 ready            => nothing
        500 killed 9         => close-readiness, record-death, spawn-finish 70 (signal SIGKILL)
        500 finish-absent    => status-down+!, dD, until 1500
        ",
    );
}
