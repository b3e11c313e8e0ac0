//! How programs of services are started.

use gatevisor_core::Leftover;
use gatevisor_core::entry::ServiceRole::{Logger, Main};
use gatevisor_core::launch::{GroupDecision, GroupRequest, cleanup, descriptor_conflict, group};
use gatevisor_wire::Pid;

#[test]
fn readiness_and_the_lock_cannot_have_the_same_descriptor() {
    for (notification, lock, conflicts) in [
        (None, None, false),
        (Some(3), None, false),
        (None, Some(3), false),
        (Some(3), Some(4), false),
        (Some(3), Some(3), true),
    ] {
        assert_eq!(descriptor_conflict(notification, lock).is_some(), conflicts, "{notification:?} {lock:?}");
    }
}

#[test]
fn a_service_gets_the_group_that_it_asks_for_unless_its_lock_would_be_opened_with_the_wrong_rights() {
    for (role, is_of_other_user, has_lock, asks, is_strict, expected) in [
        (Main, true, false, false, true, "none"),
        (Logger, true, false, true, true, "none"),
        (Main, true, false, true, true, "enter"),
        (Main, false, true, true, true, "enter"),
        (Main, true, true, true, false, "without"),
        (Main, true, true, true, true, "refuse"),
    ] {
        let request = GroupRequest { role, is_of_other_user, has_lock };
        let said = match group(request, || asks, || is_strict) {
            GroupDecision::None => "none",
            GroupDecision::Enter => "enter",
            GroupDecision::Without(_) => "without",
            GroupDecision::Refuse(_) => "refuse",
        };
        assert_eq!(said, expected, "{request:?} {asks} {is_strict}");
    }
}

#[test]
fn what_was_left_behind_has_the_time_that_its_directory_names_or_one_that_fits_what_it_is() {
    let pid = Pid::new(7);
    let process = Leftover::OfProcess(pid.expect("it is one"));
    let supervision = Leftover::OfSupervision(pid);
    for (whose, role, is_of_other_user, own_ms, expected) in [
        (process, Main, false, 900, ("survivors", pid, 2000, 8000, true)),
        (process, Logger, true, 900, ("survivors", pid, 2000, 8000, false)),
        (supervision, Main, true, 900, ("orphan", pid, 900, 6900, true)),
        (supervision, Main, false, 0, ("orphan", pid, 10_000, 16_000, false)),
        (Leftover::OfSupervision(None), Main, false, 0, ("orphan", None, 10_000, 16_000, false)),
        (supervision, Logger, true, 900, ("reader", pid, 15_000, 21_000, false)),
    ] {
        let plan = cleanup(whose, role, is_of_other_user, || own_ms);
        let found = (plan.word, plan.pid, plan.grace_ms, plan.limit_ms, plan.is_logged);
        assert_eq!(found, expected, "{whose:?} {role:?} {is_of_other_user} {own_ms}");
    }
}
