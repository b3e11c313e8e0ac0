//! What the supervisor does with a service, told as tables of time, event and decision.

use crate::scenario::{check, check_down};

#[test]
fn the_finish_script_runs_between_two_lives_and_may_declare_the_failure_permanent() {
    check(
        "
        0 deadline              => spawn-run
        0 forked 70             => nothing
        0 spawned               => status-up, u
        10 exited 3             => close-readiness, record-death, spawn-finish 70 (exitcode 3)
        10 finish-forked 71 5000 => status-finishing!, d, until 5010
        20 exited 0             => status-down+!, D, spawn-run
        20 forked 72            => nothing
        20 spawned              => policy-running#1, status-up, u
        30 exited 3             => close-readiness, record-death, spawn-finish 72 (exitcode 3)
        30 finish-forked 73 0   => status-finishing!, d, until never
        40 exited 125           => policy-failed#1 [finish exited 125], status-down+, OD, until never
        ",
    );
}

#[test]
fn a_finish_script_that_takes_too_long_is_killed_and_killed_again() {
    check(
        "
        0 deadline             => spawn-run
        0 forked 70            => nothing
        0 spawned              => status-up, u
        10 exited 0            => close-readiness, record-death, spawn-finish 70 (exitcode 0)
        10 finish-forked 71 100 => status-finishing!, d, until 110
        110 deadline           => signal 71 18, signal 71 9, until 5110
        5110 deadline          => signal 71 18, signal 71 9, until 10110
        5111 killed 9          => status-down+!, D, spawn-run
        ",
    );
}

#[test]
fn a_finish_script_that_cannot_be_executed_counts_as_done() {
    check(
        "
        0 deadline               => spawn-run
        0 forked 70              => nothing
        0 spawned                => status-up, u
        10 exited 0              => close-readiness, record-death, spawn-finish 70 (exitcode 0)
        10 finish-forked 71 5000 => status-finishing!, d
        11 finish-absent         => status-down+!, D, spawn-run
        ",
    );
}

#[test]
fn wanting_it_down_terminates_it_and_kills_it_when_its_time_is_over() {
    check(
        "
        0 deadline          => spawn-run
        0 forked 70         => nothing
        0 spawned           => status-up, u
        100 control d       => terminate 70, status-up!
        100 terminating 300 => until 400
        400 deadline        => kill 70, until 5400
        401 killed 9        => close-readiness, record-death, spawn-finish 70 (signal SIGKILL)
        401 finish-absent   => status-down+, dD, until never
        500 control u       => status-down+!, spawn-run
        ",
    );
}

#[test]
fn without_a_timeout_a_service_that_ignores_the_signal_is_waited_for() {
    check(
        "
        0 deadline        => spawn-run
        0 forked 70       => nothing
        0 spawned         => status-up, u
        100 control d     => terminate 70, status-up!
        100 terminating 0 => until never
        ",
    );
}

#[test]
fn wanting_it_up_again_while_it_goes_down_starts_it_when_it_is_down() {
    check(
        "
        0 deadline        => spawn-run
        0 forked 70       => nothing
        0 spawned         => status-up, u
        100 control d     => terminate 70, status-up!
        100 terminating 0 => nothing
        110 control u     => status-up
        120 killed 15     => close-readiness, record-death, spawn-finish 70 (signal SIGTERM)
        120 finish-absent => status-down+!, dD, spawn-run
        ",
    );
}

#[test]
fn readiness_is_announced_once_and_forgotten_with_the_death() {
    check(
        "
        0 deadline       => spawn-run
        0 forked 70      => nothing
        0 spawned        => status-up, u
        50 ready         => status-up+, U
        60 ready         => nothing
        70 exited 0      => close-readiness, record-death, spawn-finish 70 (exitcode 0)
        70 finish-absent => status-down+!, dD, spawn-run
        ",
    );
}

#[test]
fn readiness_that_is_reported_before_the_exec_counts_from_the_exec_on_and_never_without_one() {
    check(
        "
        0 deadline       => spawn-run
        0 forked 70      => nothing
        1 ready          => nothing
        2 spawned        => status-up, u, status-up+, U
        3 ready          => nothing
        ",
    );
    check(
        "
        0 deadline            => spawn-run
        0 forked 70           => nothing
        1 ready               => nothing
        2 spawn-failed ENOENT => policy-failed-to-start#0 until-252 [ENOENT], until 252
        252 deadline          => spawn-run
        252 forked 71         => nothing
        253 spawned           => policy-running#0, status-up, u
        ",
    );
}

#[test]
fn a_service_killed_before_its_exec_has_died() {
    check(
        "
        0 deadline       => spawn-run
        0 forked 70      => nothing
        1 control d      => terminate 70
        1 killed 15      => close-readiness, record-death, spawn-finish 70 (signal SIGTERM)
        1 finish-absent  => status-down+, dD, until never
        ",
    );
}

#[test]
fn a_service_told_to_go_down_before_its_exec_has_no_more_time_than_any_other() {
    check(
        "
        0 deadline        => spawn-run
        0 forked 70       => nothing
        1 control d       => terminate 70
        1 terminating 300 => until 301
        2 spawned         => status-up!, u, until 301
        301 deadline      => kill 70, until 5301
        ",
    );
    check(
        "
        0 deadline        => spawn-run
        0 forked 70       => nothing
        1 withdraw 5000   => terminate 70
        1 terminating 0   => until 5001
        5001 deadline     => kill 70, until 10001
        5002 killed 9     => close-readiness, record-death, spawn-finish 70 (signal SIGKILL)
        5002 finish-absent => status-down+, dDx, end
        ",
    );
}

const BLOCKED: &str = "policy-failed-to-start#0 [another instance of the service is already running and holds \
                       ./supervise/service-lock; it is started when that has ended]";

/// Plays a scenario in which `BLOCKED` stands for what the policy says of it.
fn check_blocked(scenario: &str) {
    check(&scenario.replace("BLOCKED", BLOCKED));
}

#[test]
fn a_service_whose_earlier_instance_lives_on_is_down_until_that_has_ended() {
    check_blocked(
        "
        0 deadline        => spawn-run
        0 forked 70       => nothing
        1 blocked         => BLOCKED, until never
        2 control t       => nothing
        3 control p       => nothing
        90000 spawned     => policy-running#0, status-up, u
        90001 exited 1    => close-readiness, record-death, spawn-finish 70 (exitcode 1)
        ",
    );
}

#[test]
fn readiness_that_is_reported_before_the_exec_is_not_forgotten_if_the_start_waits_for_the_lock() {
    check_blocked(
        "
        0 deadline        => spawn-run
        0 forked 70       => nothing
        1 blocked         => BLOCKED
        5 ready           => nothing
        6 spawned         => policy-running#0, status-up, u, status-up+, U
        7 ready           => nothing
        ",
    );
    check_blocked(
        "
        0 deadline        => spawn-run
        0 forked 70       => nothing
        1 blocked         => BLOCKED
        5 ready           => nothing
        6 control d       => signal 70 9, policy-running#0, status-down+p, until never
        7 control u       => status-down+!p, spawn-run
        7 forked 71       => nothing
        8 spawned         => status-up, u
        ",
    );
}

#[test]
fn a_start_that_waits_for_the_lock_is_given_up_without_a_death() {
    check_blocked(
        "
        0 deadline        => spawn-run
        0 forked 70       => nothing
        1 blocked         => BLOCKED
        2 control d       => signal 70 9, policy-running#0, status-down+p, until never
        3 control u       => status-down+!p, spawn-run
        3 forked 71       => nothing
        3 blocked         => BLOCKED
        4 spawn-failed killed => policy-failed-to-start#0 until-254 [killed], until 254
        ",
    );
    for end in ["control x", "shutdown", "withdraw 5000", "drain 5000", "kill-now"] {
        check_blocked(&format!(
            "
            0 deadline     => spawn-run
            0 forked 70    => nothing
            1 blocked      => BLOCKED
            2 {end}        => signal 70 9, x, end
            "
        ));
    }
}

#[test]
fn a_request_to_be_down_counts_although_the_start_has_come_to_wait_meanwhile() {
    check_blocked(
        "
        0 deadline     => spawn-run
        0 forked 70    => nothing
        1 control d    => terminate 70
        1 terminating 300 => until 301
        1 blocked      => signal 70 9, status-down+p, until never
        ",
    );
    check_blocked(
        "
        0 deadline     => spawn-run
        0 forked 70    => nothing
        1 shutdown     => terminate 70
        1 blocked      => signal 70 9, x, end
        ",
    );
}

#[test]
fn a_shutdown_ends_what_is_down_at_once_and_what_runs_when_it_is_down() {
    check_down("0 shutdown => x, end");
    check(
        "
        0 deadline        => spawn-run
        0 forked 70       => nothing
        1 spawned         => status-up, u
        5 shutdown        => terminate 70, status-up!
        5 terminating 0   => nothing
        6 control u       => nothing
        7 exited 0        => close-readiness, record-death, spawn-finish 70 (exitcode 0)
        7 finish-forked 71 5000 => status-finishing, d
        8 control u       => nothing
        9 exited 0        => status-down+, Dx, end
        10 control u      => nothing
        ",
    );
}

#[test]
fn kill_now_kills_what_ignores_the_terminating_signal() {
    check(
        "
        0 deadline       => spawn-run
        0 forked 70      => nothing
        1 spawned        => status-up, u
        5 shutdown       => terminate 70, status-up!
        9 kill-now       => kill 70
        9 killed 9       => close-readiness, record-death, spawn-finish 70 (signal SIGKILL)
        9 finish-forked 71 5000 => status-finishing, d
        10 kill-now      => signal 71 9
        10 killed 9      => status-down+, Dx, end
        ",
    );
}

#[test]
fn a_withdrawn_service_is_killed_within_the_time_given_even_if_it_asks_for_more() {
    check(
        "
        0 deadline         => spawn-run
        0 forked 70        => nothing
        1 spawned          => status-up, u
        5 withdraw 5000    => terminate 70, status-up!
        5 terminating 60000 => until 5005
        ",
    );
    check(
        "
        0 deadline         => spawn-run
        0 forked 70        => nothing
        1 spawned          => status-up, u
        5 withdraw 5000    => terminate 70, status-up!
        5 terminating 0    => until 5005
        ",
    );
}

#[test]
fn the_finish_script_of_a_withdrawn_service_is_killed_within_the_time_given_too() {
    check(
        "
        0 deadline          => spawn-run
        0 forked 70         => nothing
        1 spawned           => status-up, u
        5 withdraw 5000     => terminate 70, status-up!
        5 terminating 0     => until 5005
        9 killed 15         => close-readiness, record-death, spawn-finish 70 (signal SIGTERM)
        9 finish-forked 71 0 => status-finishing, d, until 5009
        ",
    );
    check(
        "
        0 deadline          => spawn-run
        0 forked 70         => nothing
        1 spawned           => status-up, u
        9 exited 0          => close-readiness, record-death, spawn-finish 70 (exitcode 0)
        9 finish-forked 71 0 => status-finishing!, d, until never
        10 withdraw 5000    => until 5010
        10 withdraw 9000    => until 5010
        5010 deadline       => signal 71 18, signal 71 9
        5011 killed 9       => status-down+!, Dx, end
        ",
    );
}

#[test]
fn a_logger_may_read_to_its_end_and_is_brought_down_when_that_never_comes() {
    check_down("0 drain 5000 => x, end");
    check(
        "
        0 deadline        => spawn-run
        0 drain 5000      => until never
        0 forked 70       => until 5000
        1 spawned         => status-up, u, until 5000
        9 exited 0        => close-readiness, record-death, spawn-finish 70 (exitcode 0)
        9 finish-absent   => status-down+!, dDx, end
        ",
    );
    check(
        "
        0 deadline        => spawn-run
        0 forked 70       => nothing
        1 spawned         => status-up, u
        5 drain 5000      => until 5005
        5005 deadline     => terminate 70, status-up!
        5005 terminating 0 => until 10005
        10005 deadline    => kill 70
        ",
    );
}

#[test]
fn exit_ends_supervision_when_the_service_is_down() {
    check_down("0 control x => x, end");
    check(
        "
        0 deadline       => spawn-run
        0 forked 70      => nothing
        1 spawned        => status-up, u
        2 control x      => nothing
        9 exited 0       => close-readiness, record-death, spawn-finish 70 (exitcode 0)
        9 finish-absent  => status-down+!, dDx, end
        ",
    );
}

#[test]
fn a_death_because_memory_ran_out_is_reported_until_another_death() {
    check(
        "
        0 deadline           => spawn-run
        0 forked 70          => nothing
        1 spawned            => status-up, u
        100 out-of-memory    => nothing
        100 killed 9         => close-readiness, record-death, spawn-finish 70 (signal SIGKILL)
        100 finish-absent    => policy-running#0 [out of memory], status-down+!, dD, spawn-run
        100 forked 71        => nothing
        101 spawned          => policy-running#1 [out of memory], status-up, u
        200 out-of-memory    => nothing
        200 killed 9         => close-readiness, record-death, spawn-finish 71 (signal SIGKILL)
        200 finish-absent    => policy-backoff#1 until-450 [out of memory], status-down+!, dD, until 450
        450 deadline         => spawn-run
        450 forked 72        => nothing
        451 spawned          => policy-running#2 [out of memory], status-up, u
        500 control d        => terminate 72, status-up!
        501 killed 15        => close-readiness, record-death, spawn-finish 72 (signal SIGTERM)
        501 finish-absent    => policy-running#2, status-down+, dD
        501 out-of-memory    => nothing
        ",
    );
}

#[test]
fn a_plain_kill_does_not_mean_that_memory_ran_out() {
    check(
        "
        0 deadline           => spawn-run
        0 out-of-memory      => nothing
        0 forked 70          => nothing
        1 spawned            => status-up, u
        100 killed 9         => close-readiness, record-death, spawn-finish 70 (signal SIGKILL)
        100 finish-absent    => status-down+!, dD, spawn-run
        ",
    );
}
