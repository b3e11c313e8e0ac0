//! Which entries of the scandir are supervised, and when.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use gatevisor_wire::scan::ScanCommand;
use rustix::process::Signal;

use crate::support::service::Service;
use crate::support::{World, output, spawn, waiting};

/// A way to send a request to the supervisor.
type Ask = fn(&World);

#[test]
fn services_that_are_there_at_the_start_and_those_that_come_later_are_supervised() {
    let mut world = World::new();
    let mut early = world.service("early").stays().place();
    world.start();
    early.receive("su");
    let mut late = world.service("late").stays().place();
    late.receive("su");
    assert_eq!(early.further_events(), "", "a rescan does nothing to what is there already");
}

#[test]
fn a_service_that_came_unannounced_is_found_by_the_next_rescan_however_that_is_requested() {
    let world = World::started();
    let asks: [(&str, Ask); 5] = [
        ("hangup", |world| world.signal(Signal::HUP)),
        ("a", |world| world.scan_command(ScanCommand::Rescan)),
        ("h", |world| world.scan_command(ScanCommand::Hangup)),
        ("hangup-again", |world| world.signal(Signal::HUP)),
        ("a-again", |world| world.scan_command(ScanCommand::Rescan)),
    ];
    for (name, ask) in asks {
        // The service is placed under a name that is skipped, and then renamed without a request.
        let mut service = world.service(format!(".{name}")).stays().place();
        fs::rename(service.dir.path(), world.scandir().join(name)).unwrap();
        ask(&world);
        service.receive("su");
    }
}

#[test]
fn entries_with_a_dot_and_entries_that_are_no_directories_are_skipped() {
    let mut world = World::new();
    let mut hidden = world.service(".hidden").stays().place();
    fs::write(world.scandir().join("a-file"), "").unwrap();
    symlink("/nonexistent", world.scandir().join("dangling")).unwrap();
    drop(waiting::fifo(&world.scandir().join("a-fifo")));
    let mut seen = world.service("seen").stays().place();
    world.start();
    seen.receive("su");
    world.signal(Signal::HUP);
    seen.send("k");
    seen.receive("dDu");
    assert_eq!(hidden.further_events(), "");
    assert!(!hidden.path("supervise").exists());
}

#[test]
fn a_slot_may_be_a_symbolic_link() {
    let mut world = World::new();
    let mut service = world.service(".real").run("pwd -P > at; exec sleep 3600").place();
    let elsewhere = world.root().join("elsewhere");
    fs::rename(service.dir.path(), &elsewhere).unwrap();
    symlink("../elsewhere", world.scandir().join("linked")).unwrap();
    world.start();
    service.receive("su");
    let at = waiting::until(&elsewhere, "the place", || {
        fs::read_to_string(elsewhere.join("at")).ok().filter(|text| text.ends_with('\n'))
    });
    assert_eq!(at.trim_end(), fs::canonicalize(&elsewhere).unwrap().to_str().unwrap());
    // Without the link, the supervisor lets go of the service and leaves its directory unchanged.
    fs::remove_file(world.scandir().join("linked")).unwrap();
    service.receive("dDx");
    assert!(elsewhere.join("run").exists());
}

#[test]
fn a_link_that_was_dangling_is_supervised_when_its_target_is_there_at_the_next_rescan() {
    let world = World::started();
    symlink("../elsewhere", world.scandir().join("linked")).unwrap();
    world.rescan();
    let mut other = world.service("other").stays().place();
    other.receive("su");
    let mut service = world.service(".real").stays().place();
    fs::rename(service.dir.path(), world.root().join("elsewhere")).unwrap();
    world.rescan();
    service.receive("su");
}

#[test]
fn a_linked_slot_whose_target_is_gone_is_let_go_at_the_next_rescan() {
    let world = World::started();
    let mut service = world.service(".real").stays().place();
    let elsewhere = world.root().join("elsewhere");
    fs::rename(service.dir.path(), &elsewhere).unwrap();
    symlink("../elsewhere", world.scandir().join("linked")).unwrap();
    world.rescan();
    service.receive("su");
    fs::rename(&elsewhere, world.root().join("moved")).unwrap();
    world.rescan();
    service.receive("dDx");
}

#[test]
fn a_link_that_points_elsewhere_now_is_another_service() {
    let world = World::started();
    let mut slots: Vec<Service> = ["one", "two"]
        .map(|name| {
            let service = world.service(format!(".{name}")).stays().place();
            fs::rename(service.dir.path(), world.root().join(name)).unwrap();
            service
        })
        .into_iter()
        .collect();
    let point_at = |name: &str| {
        symlink(format!("../{name}"), world.scandir().join(".link")).unwrap();
        fs::rename(world.scandir().join(".link"), world.scandir().join("linked")).unwrap();
        world.rescan();
    };
    point_at("one");
    slots[0].receive("su");
    point_at("two");
    slots[0].receive("dDx");
    slots[1].receive("su");
}

#[test]
fn a_directory_that_is_there_under_two_names_is_supervised_once() {
    let world = World::started();
    let mut service = world.service(".real").run("echo \"$1\" >> lives; exec sleep 3600").place();
    let elsewhere = world.root().join("elsewhere");
    fs::rename(service.dir.path(), &elsewhere).unwrap();
    let lives = |wanted: &str| {
        waiting::until(&elsewhere, wanted, || {
            fs::read_to_string(elsewhere.join("lives")).ok().filter(|lives| lives == wanted)
        });
    };
    symlink("../elsewhere", world.scandir().join("one")).unwrap();
    world.rescan();
    service.receive("su");
    lives("one\n");
    symlink("../elsewhere", world.scandir().join("two")).unwrap();
    world.rescan();
    let said = world.until_said("two is not supervised");
    assert!(said.contains("directory of `one`"), "{said}");
    world.signal(Signal::HUP);
    // When the first name goes, the second one is supervised.
    fs::remove_file(world.scandir().join("one")).unwrap();
    service.receive("dDxsu");
    lives("one\ntwo\n");
}

#[test]
fn the_directory_of_a_logger_is_no_service_of_its_own() {
    let world = World::started();
    let mut service = world.service("web").stays().log("exec cat > lines").place();
    service.receive("su");
    service.logger().receive("su");
    symlink("web/log", world.scandir().join("logger")).unwrap();
    world.rescan();
    world.until_said("logger is not supervised");
    service.logger().send("k");
    service.logger().receive("dDu");
}

#[test]
fn a_slot_that_became_unacceptable_is_let_go_with_its_logger_after_an_x_and_taken_again_when_it_is_fixed() {
    let world = World::started();
    let mut service = world.service("web").stays().log("exec cat > lines").place();
    service.receive("su");
    service.logger().receive("su");
    fs::set_permissions(service.dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    service.send("xk");
    service.receive("dDx");
    service.logger().receive("dDx");
    world.until_said("web is not supervised");
    assert_eq!(service.logger().further_events(), "");
    fs::set_permissions(service.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    world.rescan();
    service.receive("su");
    service.logger().receive("su");
}

#[test]
fn names_of_251_bytes_work_and_longer_ones_are_skipped_with_a_warning() {
    let mut world = World::new();
    let longest = "n".repeat(251);
    let mut service = world.service(&longest).stays().log("echo \"$1\" > name; exec cat").place();
    // The name with a leading dot would be too long for some file systems, so the service is made
    // under a shorter name.
    let too_long = "m".repeat(252);
    let mut refused = world.service(".refused").stays().place();
    fs::rename(refused.dir.path(), world.scandir().join(&too_long)).unwrap();
    world.start();
    service.receive("su");
    service.logger().receive("su");
    assert_eq!(service.logger().until_lines("name", 1), [format!("{longest}/log")]);
    let said = world.until_said("at most 251 bytes");
    assert!(said.contains(&too_long), "{said}");
    assert_eq!(refused.further_events(), "");
    assert!(!world.scandir().join(too_long).join("supervise").exists());
}

#[test]
fn a_name_that_is_no_text_is_a_name_all_the_same() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::started();
    let mut service = world
        .service(std::ffi::OsStr::from_bytes(b"a\xff\n\x1b[31m"))
        .run("echo \"$1\" > name; exec sleep 3600")
        .place();
    service.receive("su");
    waiting::until(service.dir.path(), "the name", || {
        fs::read(service.path("name")).ok().filter(|name| name == b"a\xff\n\x1b[31m\n")
    });
    fs::remove_file(service.path("run")).unwrap();
    service.send("k");
    service.receive("dD");
    // The supervisor's message about it stays on one line and does not change a terminal's colour.
    let said = world.until_said("cannot start");
    assert!(!said.contains('\u{1b}'), "{said:?}");
    assert!(said.lines().all(|line| line.starts_with("gatevisor: ")), "{said:?}");
}

#[test]
fn the_files_that_clients_need_are_made_with_the_modes_of_s6() {
    let world = World::started();
    let service = world.service("web").stays().place_without_subscriber();
    // The status is there before the FIFO.
    waiting::polled("a supervisor", || service.dir.supervised().is_ok_and(|is| is).then_some(()));
    let mode = |entry: &str| fs::metadata(service.path(entry)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("event"), 0o3730);
    assert_eq!(mode("supervise"), 0o700);
    assert_eq!(mode("supervise/control"), 0o600);
    assert_eq!(mode("supervise/status"), 0o644);
    assert_eq!(mode("supervise/death_tally"), 0o644);
}

#[test]
fn what_is_there_already_keeps_its_mode() {
    let world = World::started();
    let mut service = world
        .service("web")
        .stays()
        .prepare(|dir| {
            fs::create_dir(dir.join("supervise")).unwrap();
            fs::set_permissions(dir.join("supervise"), fs::Permissions::from_mode(0o711)).unwrap();
            drop(waiting::fifo(&dir.join("supervise/control")));
            fs::set_permissions(dir.join("supervise/control"), fs::Permissions::from_mode(0o660)).unwrap();
            fs::set_permissions(dir.join("event"), fs::Permissions::from_mode(0o1733)).unwrap();
        })
        .place();
    service.receive("su");
    let mode = |entry: &str| fs::metadata(service.path(entry)).unwrap().permissions().mode() & 0o7777;
    assert_eq!([mode("supervise"), mode("supervise/control"), mode("event")], [0o711, 0o660, 0o1733]);
}

#[test]
fn a_second_supervisor_on_the_same_scandir_says_so_and_exits_100() {
    let world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    let second = output(&mut world.command()).unwrap();
    assert_eq!(second.status.code(), Some(100));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(
        said.contains("another supervisor") && said.contains(world.scandir().to_str().unwrap()),
        "{said}"
    );
    service.send("k");
    service.receive("dDu");
}

#[test]
fn a_service_of_another_supervisor_is_not_taken_from_it() {
    let world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    // A second scandir has a link to a service of the first one.
    let mut second = World::new();
    symlink(service.dir.path(), second.scandir().join("web")).unwrap();
    second.start();
    let said = second.until_said("web is not supervised");
    assert!(said.contains("lock"), "{said}");
    service.send("k");
    service.receive("dDu");
    assert!(second.stop().success());
}

#[test]
fn a_scandir_that_is_missing_is_made() {
    let mut world = World::new();
    let scandir = world.scandir();
    fs::remove_dir_all(&scandir).unwrap();
    // The test does not use `start`, which makes the control FIFO beforehand.
    let made = waiting::watch(world.root(), rustix::fs::inotify::WatchFlags::CREATE);
    let mut child = spawn(world.command().stdin(Stdio::null()).stderr(Stdio::null())).unwrap();
    assert!(waiting::readable(&made, crate::support::soon()));
    waiting::polled("the supervisor", || {
        gatevisor_client::ScanDir::new(&scandir).running().unwrap().then_some(())
    });
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    world.start();
}

#[test]
fn a_slot_that_was_refused_is_looked_at_again_at_the_next_rescan() {
    let world = World::started();
    let mut service = world
        .service("web")
        .stays()
        .prepare(|dir| fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap())
        .place();
    world.until_said("web is not supervised");
    fs::set_permissions(service.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    world.rescan();
    service.receive("su");
}

#[test]
fn a_supervisor_that_was_killed_leaves_a_tree_that_the_next_one_can_take() {
    let mut world = World::started();
    let mut service = world.service("web").run("exec sleep 3600").log("exec cat >> lines").place();
    service.receive("su");
    service.logger().receive("su");
    world.kill();
    assert!(!service.dir.supervised().unwrap());
    // No supervisor ends what it left; an operator would.
    for pid in world.processes() {
        if let Some(held) = crate::support::processes::Held::of(pid) {
            held.kill();
        }
    }
    world.start();
    // The supervisor first checks whether anything is left.
    service.receive("sDu");
    service.logger().receive("sDu");
    assert!(service.status().is_up());
}
