//! Ownership is authority: the owner of a directory is the user whom its programs run as, and who
//! may command it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;
use std::process::Command;

use gatevisor_wire::policy::RestartPhase;

use crate::support::processes::Held;
use crate::support::service::{STAY, give, neighbour, still_served};
use crate::support::{World, need_root, output, script, spawn};

/// Users that no system has.
const OWNER: u32 = 12_345;
const THIRD: u32 = 54_321;

const WHO: &str = "echo $(id -u) $(id -g) $(id -G)";

fn owner_of(path: &Path) -> (u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.uid(), meta.gid())
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn everything_in_a_slot_runs_as_its_owner_with_the_owners_groups() {
    need_root();
    let world = World::started();
    let mut service = world
        .service("web")
        .run(&format!("{WHO} > run.who; {STAY}"))
        .finish(&format!("{WHO} > finish.who"))
        .log(&format!("{WHO} > log.who; exec cat > lines"))
        .owned_by(OWNER)
        .place();
    service.receive("su");
    service.logger().receive("su");
    service.until_lines("run.who", 1);
    service.send("k");
    service.receive("dDu");
    service.logger().until_lines("log.who", 1);
    for who in ["run.who", "finish.who", "log/log.who"] {
        service.until_file(who, "its user", |text| text == "12345 12345 12345\n");
    }
}

#[test]
fn what_the_supervisor_makes_in_a_slot_belongs_to_its_owner() {
    need_root();
    let world = World::started();
    let mut service = world.service("web").stays().log("exec cat > lines").owned_by(OWNER).place();
    service.receive("su");
    for entry in ["event", "supervise", "supervise/control", "log/supervise", "log/supervise/control"] {
        assert_eq!(owner_of(&service.path(entry)), (OWNER, OWNER), "{entry}");
    }
    let mode = |entry: &str| fs::metadata(service.path(entry)).unwrap().mode() & 0o7777;
    assert_eq!([mode("event"), mode("supervise"), mode("supervise/control")], [0o3730, 0o700, 0o600]);
}

#[test]
fn an_event_directory_that_the_supervisor_makes_belongs_to_the_owner_and_has_its_mode() {
    need_root();
    let world = World::started();
    let service = world.service("web").stays().owned_by(OWNER).place_without_subscriber();
    crate::support::waiting::polled("the first status", || service.dir.status().ok());
    assert_eq!(owner_of(&service.path("event")), (OWNER, OWNER));
    assert_eq!(fs::metadata(service.path("event")).unwrap().mode() & 0o7777, 0o3730);
}

#[test]
fn the_owner_may_command_its_service_and_others_may_not() {
    need_root();
    let world = World::started();
    let mut service = world.service("web").stays().owned_by(OWNER).place();
    service.receive("su");
    let tell = |uid: u32, byte: &str| {
        let mut command = Command::new("setpriv");
        command
            .args([format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".into()])
            .args(["sh", "-c", &format!("printf {byte} > supervise/control")])
            .current_dir(service.dir.path());
        output(&mut command).unwrap()
    };
    assert!(!tell(THIRD, "k").status.success());
    assert!(tell(OWNER, "k").status.success());
    service.receive("dDu");
    service.send_and_see("c");
    assert_eq!(service.further_events(), "");
}

#[test]
fn what_is_there_already_keeps_its_owner() {
    need_root();
    let world = World::started();
    let mut service = world
        .service("web")
        .stays()
        .prepare(|dir| {
            fs::create_dir(dir.join("supervise")).unwrap();
            drop(crate::support::waiting::fifo(&dir.join("supervise/control")));
        })
        .owned_by(OWNER)
        .place_after(|dir| give(&dir.join("supervise"), THIRD));
    service.receive("su");
    for entry in ["supervise", "supervise/control"] {
        assert_eq!(owner_of(&service.path(entry)), (THIRD, THIRD), "{entry}");
    }
}

#[test]
fn a_slot_that_others_may_write_to_is_refused_with_the_reason_and_no_effect_on_others() {
    need_root();
    let world = World::started();
    let mut neighbour = neighbour(&world);
    for (n, (owner, group, bits)) in
        [(0, 0, 0o777), (OWNER, OWNER, 0o757), (OWNER, THIRD, 0o775), (0, OWNER, 0o770)]
            .into_iter()
            .enumerate()
    {
        let name = format!("open{n}");
        let mut service = world.service(&name).stays().place_after(|dir| {
            give(dir, owner);
            lchown(dir, Some(owner), Some(group)).unwrap();
            mode(dir, bits);
        });
        let said = world.until_said(&format!("{name} is not supervised"));
        let line = said.lines().find(|line| line.contains(&name)).unwrap();
        assert!(line.contains("may write") && line.contains(&format!("{bits:04o}")), "{line}");
        assert_eq!(service.further_events(), "");
        assert!(!service.path("supervise").exists());
        still_served(&mut neighbour);
    }
}

#[test]
fn a_slot_that_the_owners_own_group_may_write_to_is_served() {
    need_root();
    let world = World::started();
    let mut service = world.service("web").stays().owned_by(OWNER).place_after(|dir| mode(dir, 0o775));
    service.receive("su");
}

#[test]
fn a_run_of_a_third_user_is_not_executed_and_the_policy_file_has_the_reason() {
    need_root();
    let world = World::started();
    let mut neighbour = neighbour(&world);
    for (name, owner) in [("roots", 0), ("owners", OWNER)] {
        let mut service = world
            .service(name)
            .run(": > executed; exec sleep 3600")
            .data("backoff-first", 1_000_000)
            .data("backoff-max", 1_000_000)
            .place_after(|dir| {
                give(dir, owner);
                lchown(dir.join("run"), Some(THIRD), Some(THIRD)).unwrap();
            });
        service.receive("s");
        let policy = service.until_policy("a refusal", |policy| policy.reason.is_some());
        assert!(matches!(policy.phase, RestartPhase::FailedToStart | RestartPhase::Refused), "{policy:?}");
        let reason = policy.reason.unwrap();
        assert!(reason.contains("./run") && reason.contains("54321"), "{reason}");
        assert!(!service.path("executed").exists());
        // Once corrected, it runs.
        lchown(service.path("run"), Some(owner), Some(owner)).unwrap();
        service.send("u");
        service.receive("u");
        still_served(&mut neighbour);
    }
}

#[test]
fn a_run_or_finish_that_others_may_write_to_is_not_executed() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run(": > executed; exec sleep 3600")
        .finish(": > finished")
        .data("backoff-first", 1_000_000)
        .data("backoff-max", 1_000_000)
        .place_after(|dir| mode(&dir.join("run"), 0o757));
    service.receive("s");
    let policy = service.until_policy("a refusal", |policy| policy.reason.is_some());
    let reason = policy.reason.unwrap();
    assert!(reason.contains("./run") && reason.contains("may write") && reason.contains("0757"), "{reason}");
    assert!(!service.path("executed").exists());
    mode(&service.path("run"), 0o755);
    mode(&service.path("finish"), 0o757);
    service.send("u");
    service.receive("u");
    service.send("k");
    service.receive("dDu");
    assert!(!service.path("finished").exists());
}

#[test]
fn a_finish_of_a_third_user_is_not_executed() {
    need_root();
    let world = World::started();
    let mut service = world
        .service("web")
        .stays()
        .finish(": > executed")
        .place_after(|dir| lchown(dir.join("finish"), Some(THIRD), Some(THIRD)).unwrap());
    service.receive("su");
    service.send("k");
    service.receive("dDu");
    assert!(!service.path("executed").exists());
    assert!(world.said().contains("`finish` is not run"), "{}", world.said());
}

#[test]
fn a_run_of_root_in_the_slot_of_a_user_runs_as_the_user() {
    need_root();
    let world = World::started();
    let mut service = world
        .service("web")
        .run(&format!("{WHO} > who; {STAY}"))
        .owned_by(OWNER)
        .place_after(|dir| lchown(dir.join("run"), Some(0), Some(0)).unwrap());
    service.receive("su");
    assert_eq!(service.until_lines("who", 1), ["12345 12345 12345"]);
}

#[test]
fn a_link_that_somebody_else_planted_is_refused() {
    need_root();
    let world = World::started();
    let mut service = world.service(".real").stays().place();
    let elsewhere = world.root().join("elsewhere");
    fs::rename(service.dir.path(), &elsewhere).unwrap();
    symlink(&elsewhere, world.scandir().join(".planted")).unwrap();
    lchown(world.scandir().join(".planted"), Some(THIRD), Some(THIRD)).unwrap();
    fs::rename(world.scandir().join(".planted"), world.scandir().join("planted")).unwrap();
    world.rescan();
    let said = world.until_said("planted is not supervised");
    assert!(said.contains("54321"), "{said}");
    assert!(!elsewhere.join("supervise").exists());
    assert_eq!(service.further_events(), "");
}

#[test]
fn a_link_of_root_or_of_the_targets_owner_is_followed() {
    need_root();
    let world = World::started();
    for (name, link_owner) in [("by-root", 0), ("by-owner", OWNER)] {
        let mut service =
            world.service(format!(".{name}")).run(&format!("{WHO} > who; {STAY}")).owned_by(OWNER).place();
        let elsewhere = world.root().join(name);
        fs::rename(service.dir.path(), &elsewhere).unwrap();
        symlink(&elsewhere, world.scandir().join(".link")).unwrap();
        lchown(world.scandir().join(".link"), Some(link_owner), Some(link_owner)).unwrap();
        fs::rename(world.scandir().join(".link"), world.scandir().join(name)).unwrap();
        world.rescan();
        service.receive("su");
    }
}

/// A world whose supervisor is an ordinary user.
fn ordinary() -> World {
    // The directory of the binary may be closed to that user, so the test opens the binary.
    let world = World::new().prelude(
        "exec 9< \"$0\"; exec setpriv --reuid=12345 --regid=12345 --clear-groups /proc/self/fd/9 \"$@\"",
    );
    give(&world.scandir(), OWNER);
    world
}

#[test]
fn an_ordinary_user_supervises_its_own_services() {
    need_root();
    let mut world = ordinary();
    let mut service = world
        .service("web")
        .run(&format!("{WHO} > who; {STAY}"))
        .log("exec cat > lines")
        .owned_by(OWNER)
        .place();
    let control = gatevisor_client::ScanDir::new(world.scandir()).control_path();
    drop(crate::support::waiting::fifo(&control));
    lchown(&control, Some(OWNER), Some(OWNER)).unwrap();
    world.start();
    service.receive("su");
    assert_eq!(service.until_lines("who", 1), ["12345 12345 12345"]);
    still_served(&mut service);
    assert_eq!(world.stop().code(), Some(0));
}

#[test]
fn an_ordinary_user_does_not_supervise_services_of_others() {
    need_root();
    let mut world = ordinary();
    let mut own = world.service("own").stays().owned_by(OWNER).place();
    let mut strange = world.service("strange").stays().owned_by(THIRD).place();
    let control = gatevisor_client::ScanDir::new(world.scandir()).control_path();
    drop(crate::support::waiting::fifo(&control));
    lchown(&control, Some(OWNER), Some(OWNER)).unwrap();
    world.start();
    own.receive("su");
    let said = world.until_said("strange is not supervised");
    assert!(said.contains("54321") && said.contains("12345"), "{said}");
    assert_eq!(strange.further_events(), "");
}

#[test]
fn an_owner_who_keeps_changing_its_slot_while_it_is_taken_gains_nothing() {
    need_root();
    let world = World::started();
    let mut neighbour = neighbour(&world);
    let precious = world.root().join("precious");
    fs::create_dir(&precious).unwrap();
    mode(&precious, 0o700);
    // A program of the owner that replaces what the supervisor makes, as fast as possible.
    script(
        &world.root().join("attack"),
        &format!(
            "cd \"$1\" || exit; while :; do for e in event supervise; do rm -rf $e; ln -sfn {} $e; rm -f $e; done; done",
            precious.display()
        ),
    );
    for n in 0..30 {
        let name = format!("s{n}");
        let service = world.service(format!(".{name}")).stays().owned_by(OWNER).place_without_subscriber();
        let mut attack = Command::new("setpriv");
        attack
            .args([format!("--reuid={OWNER}"), format!("--regid={OWNER}"), "--clear-groups".into()])
            .arg(world.root().join("attack"))
            .arg(service.dir.path())
            .stderr(std::process::Stdio::null());
        let mut attacker = spawn(&mut attack).unwrap();
        let at = world.scandir().join(&name);
        fs::rename(service.dir.path(), &at).unwrap();
        for _ in 0..10 {
            world.rescan();
            still_served(&mut neighbour);
        }
        let held = Held::of(i32::try_from(attacker.id()).unwrap()).unwrap();
        held.kill();
        attacker.wait().unwrap();
        let hidden = world.scandir().join(format!(".gone-{name}"));
        fs::rename(&at, &hidden).unwrap();
        assert_eq!(owner_of(&precious), (0, 0));
        assert_eq!(fs::metadata(&precious).unwrap().mode() & 0o7777, 0o700);
        assert_eq!(fs::read_dir(&precious).unwrap().count(), 0);
    }
}
