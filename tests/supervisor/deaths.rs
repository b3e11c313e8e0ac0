//! What happens when a service ends: the events, the finish script, the next process.

use std::io::{Read, Write};

use gatevisor_wire::policy::RestartPhase;
use gatevisor_wire::wait::WaitStatus;
use rustix::pipe::fcntl_setpipe_size;
use rustix::process::Signal;

use crate::support::processes::{self, Held};
use crate::support::{World, waiting};

/// Runs until the test lets it end, with the exit code that the test chooses.
const UNTIL_TOLD: &str = "read code < go; exit $code";

#[test]
fn a_service_killed_by_a_signal_is_running_again_as_a_new_process() {
    let world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    let (old, before) = (service.pid(), service.status());
    let held = Held::of(old).unwrap();
    processes::signal(old, Signal::KILL);
    service.receive("dDu");
    held.until_gone("the old process");
    let status = service.status();
    assert_ne!(status.pid, before.pid);
    assert_eq!(status.last, WaitStatus::killed(9).unwrap());
    assert!(status.want_up && !status.ready && !status.finishing && !status.paused, "{status:?}");
    assert!(status.changed > before.changed);
    let deaths = service.dir.deaths();
    assert_eq!(deaths.len(), 1, "{deaths:?}");
    assert_eq!(service.policy().restarts, 1);
}

#[test]
fn a_service_that_ends_by_itself_is_running_again_as_well() {
    let world = World::started();
    let mut service = world.service("web").run(UNTIL_TOLD).gate("go").place();
    service.receive("su");
    service.pass("go", "0");
    service.receive("dDu");
    assert_eq!(service.status().last, WaitStatus::exited(0));
}

/// A subscriber's FIFO with room for one byte. A write of two events does not fit, and is dropped
/// as a whole.
fn almost_full(event: &std::path::Path) -> (std::fs::File, usize) {
    let mut fifo = waiting::fifo(&event.join("ftrig1:@400000000000002500000001:onebyt"));
    let size = fcntl_setpipe_size(&fifo, 4096).unwrap();
    fifo.write_all(&vec![b'.'; size - 1]).unwrap();
    (fifo, size - 1)
}

fn what_fitted((mut fifo, filled): (std::fs::File, usize)) -> String {
    let mut bytes = vec![0; filled + 100];
    let count = fifo.read(&mut bytes).unwrap();
    String::from_utf8(bytes[filled..count].to_vec()).unwrap()
}

#[test]
fn without_a_finish_script_the_two_events_of_a_death_come_in_one_write() {
    let world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    // The service shall not run again, so that nothing is written after the death.
    service.send_and_see("O");
    let fifo = almost_full(&service.path("event"));
    service.send("k");
    service.receive("dD");
    assert_eq!(what_fitted(fifo), "");
}

#[test]
fn with_a_finish_script_the_first_event_comes_at_the_death_and_the_second_after_the_script() {
    let world = World::started();
    let mut service = world
        .service("web")
        .stays()
        .finish("read line < go; exit 0")
        .file("timeout-finish", "0\n")
        .gate("go")
        .place();
    service.receive("su");
    service.send_and_see("O");
    let fifo = almost_full(&service.path("event"));
    let pid = service.pid();
    service.send("k");
    service.receive("d");
    let status = service.status();
    assert!(
        status.finishing && !status.ready && status.pid.is_some_and(|now| now.get() != pid),
        "{status:?}"
    );
    assert_eq!(service.further_events(), "");
    service.pass("go", "go");
    service.receive("D");
    assert_eq!(what_fitted(fifo), "d");
    let status = service.status();
    assert!(!status.finishing && status.ready && status.pid.is_none(), "{status:?}");
}

#[test]
fn finish_is_told_the_exit_code_no_signal_the_name_and_the_group() {
    let world = World::started();
    let mut service =
        world.service("web").run(UNTIL_TOLD).finish("echo \"$#:$*\" >> told").gate("go").place();
    service.receive("su");
    let pid = service.pid();
    service.pass("go", "7");
    service.receive("dDu");
    assert_eq!(service.until_lines("told", 1), [format!("4:7 0 web {pid}")]);
}

#[test]
fn finish_is_told_256_and_the_signal_that_killed_the_service() {
    let world = World::started();
    let mut service = world.service("web").stays().finish("echo \"$#:$*\" >> told").place();
    service.receive("su");
    let pid = service.pid();
    processes::signal(pid, Signal::TERM);
    service.receive("dDu");
    assert_eq!(service.until_lines("told", 1), [format!("4:256 15 web {pid}")]);
}

#[test]
fn finish_leads_a_session_of_its_own_and_stands_in_the_service_directory() {
    let world = World::started();
    let body =
        "{ cut -d ' ' -f 5,6 /proc/$$/stat; echo $$ $$; pwd -P; readlink /proc/$$/fd/0; } > told; exit 125";
    let mut service = world.service("web").run("exit 0").finish(body).place();
    service.receive("sudOD");
    let told = service.until_lines("told", 4);
    assert_eq!(told[0], told[1]);
    assert_eq!(told[2], std::fs::canonicalize(service.path("")).unwrap().to_str().unwrap());
    assert_eq!(told[3], "/dev/null");
}

#[test]
fn a_finish_script_that_exits_125_makes_the_failure_permanent() {
    let world = World::started();
    let mut service = world.service("web").stays().finish("exit 125").place();
    service.receive("su");
    processes::signal(service.pid(), Signal::KILL);
    service.receive("dOD");
    let (status, policy) = (service.status(), service.policy());
    assert!(!status.want_up && status.pid.is_none(), "{status:?}");
    assert_eq!((policy.phase, policy.reason.as_deref()), (RestartPhase::Failed, Some("finish exited 125")));
    // After a request, the service is started, and the reason is forgotten.
    service.send("u");
    service.receive("u");
    assert_eq!((service.policy().phase, service.policy().reason), (RestartPhase::Running, None));
}

#[test]
fn a_finish_script_that_takes_too_long_is_killed() {
    let world = World::started();
    let mut service = world
        .service("web")
        .stays()
        .finish("trap '' TERM HUP INT; echo $$ > pid; read line < never")
        .file("timeout-finish", "3000\n")
        .gate("never")
        .place();
    service.receive("su");
    service.send("k");
    service.receive("dDu");
    // The script had begun, so the limit was not too short for it to run at all.
    service.until_lines("pid", 1);
}

#[test]
fn a_paused_finish_script_is_killed_when_its_time_is_over_as_well() {
    let world = World::started();
    let mut service =
        world.service("web").stays().finish("kill -STOP $$; exit 0").file("timeout-finish", "200\n").place();
    service.receive("su");
    service.send("k");
    service.receive("dDu");
}

#[test]
fn a_finish_script_that_cannot_be_executed_counts_as_done_and_is_complained_about() {
    let world = World::started();
    let mut service =
        world.service("web").stays().executable("finish", "#!/nonexistent/interpreter\n").place();
    service.receive("su");
    service.send("k");
    service.receive("dDu");
    let said = world.said();
    assert!(said.contains("web") && said.contains("finish") && said.contains("errno 2"), "{said}");
}

#[test]
fn a_finish_that_is_no_file_is_not_run_and_is_complained_about() {
    let world = World::started();
    let mut service = world.service("web").stays().file("finish/file", "").place();
    service.receive("su");
    service.send("k");
    service.receive("dDu");
    assert!(world.said().contains("`finish` is not run"), "{}", world.said());
}

#[test]
fn commands_while_the_finish_script_runs_are_requests_for_after_it() {
    let world = World::started();
    let mut service = world
        .service("web")
        .stays()
        .finish("read line < go; exit 0")
        .file("timeout-finish", "0\n")
        .gate("go")
        .place();
    service.receive("su");
    service.send("k");
    service.receive("d");
    assert!(!service.send_and_see("d").want_up);
    assert!(service.send_and_see("u").want_up);
    // The script is no service, so no signal reaches it.
    service.send("ktiqab12hp");
    assert!(!service.send_and_see("d").want_up);
    service.pass("go", "go");
    service.receive("D");
    assert_eq!(service.send_and_see("d").pid, None);
    service.send("u");
    service.receive("u");
    service.send("d");
    service.receive("d");
    service.pass("go", "go");
    service.receive("D");
}

#[test]
fn exit_78_is_a_permanent_failure_with_a_reason_until_a_start_is_requested() {
    let world = World::started();
    let mut service = world.service("web").run("exit 78").place();
    service.receive("sudOD");
    let (status, policy) = (service.status(), service.policy());
    assert_eq!((status.want_up, status.last), (false, WaitStatus::exited(78)));
    assert_eq!(policy.phase, RestartPhase::Failed);
    assert!(policy.reason.as_deref().is_some_and(|reason| reason.contains("78")), "{policy:?}");
    service.rewrite_run("exec sleep 3600");
    service.send("u");
    service.receive("u");
    assert!(service.status().want_up);
}

#[test]
fn a_single_run_after_a_permanent_failure_is_not_blamed_for_it() {
    let world = World::started();
    let mut service = world.service("web").run("exit 78").place();
    service.receive("sudOD");
    service.rewrite_run("exit 0");
    service.send("o");
    service.receive("udD");
    assert_eq!((service.policy().phase, service.policy().reason), (RestartPhase::Running, None));
}

#[test]
fn exit_75_is_a_requested_restart_at_once_and_no_failure() {
    let world = World::started();
    let body = "echo >> lives; [ $(wc -l < lives) -ge 4 ] || exit 75; exec sleep 3600";
    let mut service = world.service("web").run(body).data("backoff-first", 1_000_000).place();
    service.receive("sudDudDudDu");
    let policy = service.policy();
    assert_eq!((policy.phase, policy.failures), (RestartPhase::Running, 0));
    assert_eq!((policy.restarts, policy.commanded), (0, 3));
}

#[test]
fn a_service_that_asks_for_nothing_but_restarts_is_slowed_down() {
    let world = World::started();
    let mut service = world.service("web").run("exit 75").place();
    service.receive("sudDudDudDudDudDudD");
    // The sixth quick request has to wait, and the next start comes after the published time.
    let policy = service.until_policy("a wait of a requested restart", |policy| policy.until.is_some());
    let until = policy.until.unwrap();
    service.receive("u");
    assert!(service.status().changed >= until, "{policy:?}");
    service.send("d");
}

#[test]
fn so_many_failures_in_a_row_as_the_slot_names_are_a_permanent_failure() {
    let world = World::started();
    let mut service =
        world.service("web").run("exit 3").data("give-up-after", 3).data("backoff-first", 1).place();
    service.receive("sudDudDudOD");
    let policy = service.policy();
    assert_eq!(policy.phase, RestartPhase::Failed);
    assert_eq!(policy.reason.as_deref(), Some("given up after 3 failures in a row (exitcode 3)"));
    assert!(!service.status().want_up);
}

#[test]
fn the_status_is_written_before_the_event_that_announces_it() {
    let world = World::started();
    let mut service = world
        .service("web")
        .stays()
        .finish("read line < go")
        .file("timeout-finish", "0\n")
        .gate("go")
        .place();
    service.receive("su");
    for _ in 0..20 {
        assert!(service.status().is_up());
        service.send_and_see("O");
        service.send("k");
        service.receive("d");
        assert!(service.status().finishing);
        service.pass("go", "go");
        service.receive("D");
        assert_eq!(service.status().pid, None);
        service.send("u");
        service.receive("u");
    }
    service.send("O");
    service.send("k");
    service.receive("d");
    service.pass("go", "go");
    service.receive("D");
}
