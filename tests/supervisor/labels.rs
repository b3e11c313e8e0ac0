//! The output of services without a log, under a supervisor that labels it: no line looks like one
//! of the supervisor's own.

use crate::support::{World, need_root};

/// A user that no system has; root may print as it likes.
const OWNER: u32 = 23_456;

/// Prints, on both outputs, a line that looks like one of the supervisor's.
const FORGES: &str = r"printf 'gatevisor: FORGED %s\033[2J\n' $0; printf 'gatevisor: FORGED too\n' >&2";

fn world() -> World {
    need_root();
    let mut world = World::new().option("--label-output");
    world.start();
    world
}

/// Checks that every line with this word has the label.
fn are_labelled(said: &str, label: &str, at_least: usize) {
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("FORGED")).collect();
    assert!(lines.len() >= at_least, "{said}");
    for line in lines {
        assert!(line.starts_with(&format!("{label} | ")) && !line.contains('\x1b'), "{line:?}");
    }
}

#[test]
fn what_a_service_without_a_logger_prints_bears_its_name() {
    let mut world = world();
    let mut service = world
        .service("web")
        .run(&format!("{FORGES}; exec sleep 3600"))
        .finish(FORGES)
        .owned_by(OWNER)
        .place();
    service.receive("su");
    world.until_said("FORGED too");
    service.send("d");
    service.receive("dD");
    assert_eq!(world.stop().code(), Some(0));
    are_labelled(&world.said(), "web", 4);
}

#[test]
fn what_a_logger_prints_and_what_a_service_prints_beside_its_log_bear_its_name() {
    let mut world = world();
    let mut service = world
        .service("web")
        .run(&format!("{FORGES}; exec sleep 3600"))
        .log(&format!("{FORGES}; cat > lines; {FORGES}"))
        .owned_by(OWNER)
        .place();
    service.receive("su");
    service.logger().receive("su");
    assert_eq!(service.logger().until_lines("lines", 1).len(), 1, "what is logged is what it was");
    // One line is the service's, which could be ended before it prints its second line. The other
    // one is its logger's.
    world.until_said_times("FORGED too", 2);
    assert_eq!(world.stop().code(), Some(0));
    // The lines come on standard error of the service, and on both outputs of its logger, also at
    // its end.
    are_labelled(&world.said(), "web", 5);
    service.receive("dDx");
    service.logger().receive("dDx");
}

#[test]
fn what_a_logged_service_prints_on_standard_error_is_logged() {
    let mut world = world();
    let log = format!("#!{} log\ndirectory = \"lines\"\n", env!("CARGO_BIN_EXE_gatevisor"));
    let mut service = world
        .service("web")
        .run(&format!("{FORGES}; exec sleep 3600"))
        .prepare(|dir| std::fs::create_dir_all(dir.join("log/lines")).unwrap())
        .executable("log/run", &log)
        .owned_by(OWNER)
        .place();
    service.receive("su");
    service.until_file("log/lines/current", "both lines", |text| text.contains("FORGED too"));
    assert_eq!(world.stop().code(), Some(0));
    are_labelled(&world.said(), "web", 2);
}

#[test]
fn slots_come_and_go_with_what_they_print() {
    let world = world();
    for n in 0..5 {
        let name = format!("web{n}");
        let mut builder = world.service(&name).run(&format!("{FORGES}; exec sleep 3600"));
        if n % 2 == 1 {
            builder = builder.log("exec cat > lines");
        }
        let mut service = builder.owned_by(OWNER).place();
        service.receive("su");
        std::fs::rename(service.path(""), world.scandir().join(format!(".{name}"))).unwrap();
        service.receive("dDx");
    }
}
