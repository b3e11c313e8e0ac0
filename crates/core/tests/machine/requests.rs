//! What the bytes of the control FIFO do, told as tables of time, event and decision.

use crate::scenario::{check, check_down};

#[test]
fn a_down_file_keeps_it_down_until_it_is_wanted() {
    check_down(
        "
        0 deadline    => nothing
        10 control u  => status-down+!p, spawn-run
        10 forked 70  => nothing
        11 spawned    => status-up, u
        ",
    );
}

#[test]
fn once_runs_it_once() {
    check_down(
        "
        0 control o      => status-down+p, spawn-run
        0 forked 70      => nothing
        1 spawned        => status-up!, u
        9 exited 0       => close-readiness, record-death, spawn-finish 70 (exitcode 0)
        9 finish-absent  => status-down+, dD, until never
        ",
    );
}

#[test]
fn no_restart_lets_it_run_to_its_end() {
    check(
        "
        0 deadline       => spawn-run
        0 forked 70      => nothing
        1 spawned        => status-up, u
        2 control O      => status-up!
        9 exited 1       => close-readiness, record-death, spawn-finish 70 (exitcode 1)
        9 finish-absent  => status-down+, dD, until never
        ",
    );
}

#[test]
fn the_capital_commands_keep_the_down_file_in_step() {
    check(
        "
        0 deadline       => spawn-run
        0 forked 70      => nothing
        1 spawned        => status-up, u
        2 control D      => make-down-file, terminate 70, status-up!
        3 control U      => remove-down-file, status-up
        4 control Q      => make-down-file, status-up!
        ",
    );
}

#[test]
fn signals_reach_a_service_that_runs_and_nothing_else() {
    check(
        "
        0 control t     => nothing
        0 deadline      => spawn-run
        0 control t     => nothing
        0 forked 70     => nothing
        0 control h     => signal 70 1
        1 spawned       => status-up, u
        2 control t     => signal 70 15
        2 control p     => signal 70 19, status-upp
        ",
    );
}

#[test]
fn pausing_and_continuing_show_in_the_status() {
    check(
        "
        0 deadline      => spawn-run
        0 forked 70     => nothing
        1 spawned       => status-up, u
        2 control p     => signal 70 19, status-upp
        3 control c     => signal 70 18, status-up
        4 control P     => signal-group 70 19, status-upp
        5 control C     => signal-group 70 18, status-up
        6 control K     => signal-group 70 9
        7 control r     => down-signal 70
        8 control l     => reload-signal 70
        ",
    );
}

#[test]
fn wanting_it_down_while_it_waits_for_its_next_start_stays_down() {
    check(
        "
        0 deadline            => spawn-run
        0 spawn-failed EAGAIN => policy-failed-to-start#0 until-250 [EAGAIN], until 250
        9 control d           => policy-running#0, status-down+p, until never
        ",
    );
}

#[test]
fn a_start_that_is_due_is_cancelled_when_no_restart_is_wanted() {
    check(
        "
        0 deadline            => spawn-run
        0 spawn-failed EAGAIN => policy-failed-to-start#0 until-250 [EAGAIN], until 250
        9 control O           => policy-running#0, status-down+p, until never
        10 control O          => status-down+p
        ",
    );
}

#[test]
fn a_service_is_not_paused_before_its_exec() {
    check(
        "
        0 deadline      => spawn-run
        0 forked 70     => nothing
        0 control p     => nothing
        0 control P     => nothing
        1 spawned       => status-up, u
        2 control p     => signal 70 19, status-upp
        ",
    );
}

#[test]
fn a_service_wanted_down_before_it_was_forked_is_not_started() {
    check(
        "
        0 deadline   => spawn-run
        0 control d  => status-down+p, until never
        1 forked 70  => signal 70 9
        ",
    );
}

#[test]
fn a_long_life_that_ends_by_request_forgets_the_failures_before_it() {
    check(
        "
        0 deadline          => spawn-run
        0 forked 70         => nothing
        0 spawned           => status-up, u
        10 exited 1         => close-readiness, record-death, spawn-finish 70 (exitcode 1)
        10 finish-absent    => status-down+!, dD, spawn-run
        10 forked 71        => nothing
        10 spawned          => policy-running#1, status-up, u
        20 exited 1         => close-readiness, record-death, spawn-finish 71 (exitcode 1)
        20 finish-absent    => policy-backoff#1 until-270, status-down+!, dD, until 270
        270 deadline        => spawn-run
        270 forked 72       => nothing
        270 spawned         => policy-running#2, status-up, u
        40000 control t     => signal 72 15
        40001 killed 15     => close-readiness, record-death, spawn-finish 72 (signal SIGTERM)
        40001 finish-absent => status-down+!, dD, spawn-run
        40001 forked 73     => nothing
        40001 spawned       => policy-running#2+1, status-up, u
        40010 exited 1      => close-readiness, record-death, spawn-finish 73 (exitcode 1)
        40010 finish-absent => status-down+!, dD, spawn-run
        ",
    );
}
