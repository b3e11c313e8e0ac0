//! What an earlier life has left behind is ended before the next one begins.

use crate::scenario::{check_inherited, play, policy};
use gatevisor_core::restart::{RestartPolicy, Rules};

const LEFT: &str = "an earlier supervisor was killed: if it left";
const SURVIVORS: &str = gatevisor_wire::policy::ENDING_SURVIVORS;
const FIRST: &str = "of it running, that is ended first";

#[test]
fn nothing_is_started_while_a_process_of_an_earlier_supervisor_lives() {
    check_inherited(
        Some(70),
        true,
        &format!(
            "
            begin => policy-clearing#0 [{LEFT} process 70 {FIRST}], clear-orphan 70
            0 clear-forked 80 9000 => status-finishing+!p, until 9000
            5 control u            => status-finishing+!p
            10 deadline            => nothing
            900 exited 0           => policy-running#0, status-down+!p, D, spawn-run
            900 forked 81          => nothing
            901 spawned            => status-up, u
            "
        ),
    );
}

#[test]
fn an_orphan_of_a_service_that_is_wanted_down_is_ended_too_and_nothing_takes_its_place() {
    check_inherited(
        None,
        false,
        &format!(
            "
            begin => policy-clearing#0 [{LEFT} processes {FIRST}], clear-orphans
            0 clear-forked 80 9000 => status-finishing+p
            900 exited 0           => policy-running#0, status-down+p, D, until never
            950 control u          => status-down+!p, spawn-run
            "
        ),
    );
}

#[test]
fn an_orphan_that_cannot_be_ended_is_a_failed_start_and_tried_again() {
    let failed = "what an earlier supervisor may have left of it could not be ended (exitcode 1)";
    check_inherited(
        Some(70),
        true,
        &format!(
            "
            begin => policy-clearing#0 [{LEFT} process 70 {FIRST}], clear-orphan 70
            0 clear-forked 80 9000 => status-finishing+!p
            900 exited 1           => status-down+!p, policy-failed-to-start#0 until-1150 [{failed}], until 1150
            1150 deadline          => policy-clearing#0 [{LEFT} process 70 {FIRST}], clear-orphan 70
            1150 clear-failed fork => status-down+!p, policy-failed-to-start#0 until-1650 [fork], until 1650
            "
        ),
    );
}

#[test]
fn at_a_forced_shutdown_the_end_of_an_orphan_is_hastened_and_supervision_ends_after_it() {
    check_inherited(
        Some(70),
        true,
        &format!(
            "
            begin => policy-clearing#0 [{LEFT} process 70 {FIRST}], clear-orphan 70
            0 clear-forked 80 9000 => status-finishing+!p
            5 shutdown             => nothing
            10 kill-now            => signal 80 18, signal 80 15, until 5010
            5010 deadline          => signal 80 18, signal 80 9
            5011 exited 0          => policy-running#0, status-down+!p, Dx, end
            "
        ),
    );
}

#[test]
fn survivors_of_a_death_are_ended_before_the_next_start_where_the_slot_says_so() {
    let kill = RestartPolicy { kill_survivors: true, ..policy() };
    play(
        Rules::Native,
        true,
        &kill,
        &format!(
            "
            0 deadline             => spawn-run
            0 forked 70            => nothing
            1 spawned              => status-up, u
            100 killed 9           => close-readiness, record-death, spawn-finish 70 (signal SIGKILL)
            100 finish-absent      => policy-clearing#0 asked-0 ran-99 failures-1 [{SURVIVORS}], clear-survivors 70
            100 clear-forked 71 10 => status-finishing!, d, until 110
            110 deadline           => signal 71 18, signal 71 15, until 5110
            115 exited 0           => policy-running#0, status-down+!, D, spawn-run
            115 forked 72          => nothing
            116 spawned            => policy-running#1, status-up, u
            200 control d          => terminate 72, status-up!
            210 exited 0           => close-readiness, record-death, spawn-finish 72 (exitcode 0)
            210 finish-forked 73 0 => status-finishing, d
            220 exited 0           => clear-survivors 72
            220 clear-forked 74 10 => status-finishing
            225 exited 1           => status-down+, D, until never
            "
        ),
    );
}

#[test]
fn survivors_that_cannot_be_ended_do_not_keep_the_service_down() {
    let kill = RestartPolicy { kill_survivors: true, ..policy() };
    play(
        Rules::Native,
        true,
        &kill,
        &format!(
            "
            0 deadline            => spawn-run
            0 forked 70           => nothing
            1 spawned             => status-up, u
            100 killed 9          => close-readiness, record-death, spawn-finish 70 (signal SIGKILL)
            100 finish-absent     => policy-clearing#0 asked-0 ran-99 failures-1 [{SURVIVORS}], clear-survivors 70
            100 clear-failed fork => policy-running#0, status-down+!, dD, spawn-run
            "
        ),
    );
}
