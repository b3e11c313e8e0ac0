//! Slots that are removed while they are supervised, and names that are used again.
//!
//! **Source:** B.5-4, B.5-5.

use std::fs;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::Signal;

use crate::support::processes::Held;
use crate::support::service::Service;
use crate::support::{World, waiting};

/// Deletes a directory into which the supervisor may still write.
fn remove(path: &std::path::Path) {
    while let Err(error) = fs::remove_dir_all(path) {
        assert_eq!(error.kind(), std::io::ErrorKind::DirectoryNotEmpty, "{}", path.display());
    }
}

fn up(world: &World) -> Service {
    let mut service = world.service("web").stays().place();
    service.receive("su");
    service
}

#[test]
fn a_service_whose_directory_is_renamed_away_is_brought_down_without_a_command() {
    let world = World::started();
    let mut service = up(&world);
    let held = Held::of(service.pid()).unwrap();
    let hidden = service.hide();
    service.receive("dDx");
    assert!(held.is_gone());
    // Its last state is recorded in the moved directory.
    let moved = gatevisor_client::ServiceDir::new(hidden);
    assert_eq!(moved.status().unwrap().last.signal(), Some(15));
    // The event comes an instant before the supervisor lets go.
    waiting::polled("the end of supervision", || (!moved.supervised().unwrap()).then_some(()));
}

#[test]
fn a_service_whose_directory_is_deleted_is_brought_down_without_a_command() {
    let world = World::started();
    let service = up(&world);
    let held = Held::of(service.pid()).unwrap();
    remove(service.dir.path());
    held.until_gone("the service");
    let mut next = up(&world);
    next.send("k");
    next.receive("dDu");
}

#[test]
fn a_service_that_ignores_the_down_signal_is_killed_when_its_directory_is_gone() {
    let world = World::started();
    let mut service = world.service("web").run("trap '' TERM; : > stubborn; exec sleep 3600").place();
    service.receive("su");
    service.until_file("stubborn", "the trap", |_| true);
    // The slot sets no time after which it is killed, so the supervisor's own limit counts.
    service.hide();
    service.receive("dDx");
}

#[test]
fn a_finish_script_that_never_ends_does_not_keep_the_name_of_a_slot_that_is_gone() {
    let world = World::started();
    let mut service = world
        .service("web")
        .stays()
        .finish("read line < never")
        .file("timeout-finish", "0\n")
        .gate("never")
        .place();
    service.receive("su");
    service.send("k");
    service.receive("d");
    service.hide();
    service.receive("Dx");
    up(&world);
}

#[test]
fn a_finish_script_that_begins_after_the_slot_is_gone_has_no_more_time_than_the_service() {
    let world = World::started();
    let mut service = world
        .service("web")
        .stays()
        .finish("read line < never")
        .file("timeout-finish", "0\n")
        .gate("never")
        .place();
    service.receive("su");
    service.hide();
    service.receive("dDx");
}

#[test]
fn a_slot_that_waits_for_its_next_start_is_gone_at_once() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run("exit 1")
        .data("backoff-first", 1_000_000)
        .data("backoff-max", 1_000_000)
        .place();
    service.receive("sudDudD");
    service.hide();
    service.receive("x");
    up(&world);
}

#[test]
fn a_name_is_taken_again_only_when_the_old_process_is_gone() {
    let world = World::started();
    // Ends only when the test says so.
    let mut old = world
        .service("web")
        .run("trap '' TERM; : > stubborn; read line < go")
        .file("timeout-kill", "15000\n")
        .gate("go")
        .place();
    old.receive("su");
    old.until_file("stubborn", "the trap", |_| true);
    let held = Held::of(old.pid()).unwrap();
    old.hide();
    let mut new = world.service("web").stays().place();
    let mut other = world.service("other").stays().place();
    other.receive("su");
    assert!(!held.is_gone());
    assert_eq!(new.further_events(), "");
    old.pass("go", "go");
    old.receive("dDx");
    new.receive("su");
    assert!(held.is_gone());
    assert_eq!(new.policy().restarts, 0);
}

#[test]
fn a_service_that_is_being_withdrawn_is_signalled_once_however_often_the_scandir_is_scanned() {
    let world = World::started();
    let body = "trap 'echo told >> told' TERM; : > ready; sleep 3600 & until read line < go; do :; done";
    let mut old = world.service("web").run(body).file("timeout-kill", "15000\n").gate("go").place();
    old.receive("su");
    old.until_file("ready", "the trap", |_| true);
    let hidden = old.hide();
    waiting::until(&hidden, "the signal", || {
        fs::read_to_string(hidden.join("told")).ok().filter(|t| !t.is_empty())
    });
    let mut new = world.service("web").stays().place();
    let mut other = world.service("other").stays().place();
    other.receive("su");
    for _ in 0..5 {
        world.signal(Signal::HUP);
        world.rescan();
        other.send("k");
        other.receive("dDu");
    }
    old.pass("go", "go");
    old.receive("dDx");
    new.receive("su");
    assert_eq!(fs::read_to_string(hidden.join("told")).unwrap(), "told\n");
}

#[test]
fn a_logger_that_takes_its_time_keeps_the_name_too() {
    let world = World::started();
    let mut old = world.service("web").stays().log("cat > /dev/null; read line < go").place();
    old.receive("su");
    old.logger().receive("su");
    // The FIFO is made in the logger's directory.
    let mut go = waiting::fifo(&old.path("log/go"));
    let hidden = old.hide();
    old.receive("dDx");
    let mut new = world.service("web").stays().place();
    let mut other = world.service("other").stays().place();
    other.receive("su");
    assert_eq!(new.further_events(), "");
    std::io::Write::write_all(&mut go, b"go\n").unwrap();
    old.logger().receive("dDx");
    new.receive("su");
    drop(hidden);
}

#[test]
fn an_orphan_that_holds_the_log_pipe_does_not_keep_the_name_for_ever() {
    let world = World::started();
    let mut old = world
        .service("web")
        .run("setsid sh -c 'sleep 3600 & echo $! > orphan.new; mv orphan.new orphan' & wait; exec sleep 3600")
        .log("exec cat > lines")
        .place();
    old.receive("su");
    old.logger().receive("su");
    let orphan = Held::of(old.until_lines("orphan", 1)[0].parse().unwrap()).unwrap();
    old.hide();
    old.receive("dDx");
    // The logger has a while to read what comes, and is then asked to end.
    old.logger().receive("dDx");
    up(&world);
    assert!(!orphan.is_gone());
}

#[test]
fn a_slot_that_was_exchanged_for_another_is_replaced_by_it() {
    let world = World::started();
    let mut old = up(&world);
    let mut new = world.service(".next").stays().place();
    renameat_with(CWD, old.dir.path(), CWD, new.dir.path(), RenameFlags::EXCHANGE).unwrap();
    world.rescan();
    old.receive("dDx");
    new.receive("su");
}

#[test]
fn a_name_can_be_given_up_and_taken_again_many_times() {
    let world = World::started();
    let mut before = None;
    for _ in 0..30 {
        let mut service = world.service("web").run("echo \"$1\" >&2; exec sleep 3600").place();
        service.receive("su");
        let pid = service.pid();
        assert_ne!(before, Some(pid));
        before = Some(pid);
        remove(&service.hide());
        // There is no wait in between, so the next service of the name may come while the last one
        // goes.
    }
}

#[test]
fn deleting_a_slot_and_making_it_again_at_once_leaves_exactly_the_new_one() {
    let world = World::started();
    let mut service = up(&world);
    for _ in 0..20 {
        let held = Held::of(service.pid()).unwrap();
        remove(service.dir.path());
        service = world.service("web").stays().place();
        service.receive("su");
        assert!(held.is_gone(), "two of one name at the same time");
    }
}

#[test]
fn a_slot_that_is_renamed_is_a_new_service_under_its_new_name() {
    let world = World::started();
    let mut service = up(&world);
    fs::rename(service.dir.path(), world.scandir().join("renamed")).unwrap();
    world.rescan();
    // The new name waits for the old one, because a directory is supervised only once at a time.
    service.receive("dDxsu");
    assert_eq!(service.further_events(), "");
}

#[test]
fn a_slot_renamed_away_and_back_is_supervised_again() {
    let world = World::started();
    let mut service = up(&world);
    for _ in 0..20 {
        let hidden = service.hide();
        fs::rename(hidden, service.dir.path()).unwrap();
        world.rescan();
    }
    // The supervisor may not have noticed its absence, or may have let go of it and supervised it
    // again.
    world.signal(Signal::HUP);
    let mut other = world.service("other").stays().place();
    other.receive("su");
    waiting::polled("it is up again", || {
        service.try_send("c").ok()?;
        service.dir.status().ok().filter(|status| status.is_up() && status.want_up)
    });
    let _ = service.further_events();
    service.send("k");
    service.receive_until('u');
}

#[test]
fn a_scandir_that_is_deleted_with_everything_in_it_takes_the_services_with_it_and_not_the_supervisor() {
    let mut world = World::started();
    let services: Vec<Service> = (0..20)
        .map(|n| {
            let mut service = world.service(format!("s{n}")).stays().place();
            service.receive("su");
            service
        })
        .collect();
    let held: Vec<Held> = services.iter().map(|service| Held::of(service.pid()).unwrap()).collect();
    remove(&world.scandir());
    for held in held {
        held.until_gone("a service");
    }
    world.signal(Signal::HUP);
    assert_eq!(world.stop().code(), Some(0));
}

#[test]
fn a_slot_that_goes_in_the_midst_of_more_changes_than_the_kernel_counts_is_missed_all_the_same() {
    let world = World::started();
    let mut service = up(&world);
    let mut other = world.service("other").stays().place();
    other.receive("su");
    let counted: usize =
        fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    // The supervisor reads no events meanwhile, so the kernel's queue overflows, and the removal is
    // not in the queue.
    world.signal(Signal::STOP);
    for n in 0..=counted / 2 {
        let file = world.scandir().join(format!("file{n}"));
        fs::write(&file, "").unwrap();
        fs::remove_file(&file).unwrap();
    }
    service.hide();
    world.signal(Signal::CONT);
    service.receive("dDx");
    other.send_and_see("c");
    assert_eq!(other.further_events(), "");
}

#[test]
fn others_are_not_disturbed_when_a_slot_goes() {
    let world = World::started();
    let mut service = up(&world);
    let mut other = world.service("other").stays().place();
    other.receive("su");
    let pid = other.pid();
    service.hide();
    service.receive("dDx");
    world.signal(Signal::HUP);
    other.send_and_see("c");
    assert_eq!((other.pid(), other.further_events().as_str()), (pid, ""));
}

#[test]
fn a_slot_that_goes_while_it_is_being_started_is_gone() {
    let world = World::started();
    for n in 0..40 {
        let mut service = world.service(format!("s{n}")).run("trap '' TERM; exec sleep 3600").place();
        // The test does not wait, so the service may be unknown, starting or up.
        let hidden = service.hide();
        world.rescan();
        let held = service.dir.status().ok().and_then(|status| Held::of(status.pid?.get()));
        drop(held);
        remove(&hidden);
        let _ = service.further_events();
    }
    // At its end, the world checks that nothing of them is left.
    up(&world);
}
