//! Control groups: what a service as a whole may use.
//!
//! If this machine's control groups cannot be written, each test checks that a message says so, and
//! that a strict service is refused.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use gatevisor_wire::policy::RestartPhase;

use crate::support::processes::Held;
use crate::support::service::{Builder, STAY, Service};
use crate::support::waiting::polled;
use crate::support::{World, need_root, output};

/// A user that no system has.
const OWNER: u32 = 12_345;

/// Records that it runs, and as whom.
const SAY: &str = "id -u > who";

/// Returns a service of [`OWNER`] that asks for a group with these bounds.
fn bounded<'a>(world: &'a World, body: &str, bounds: &[(&str, &str)]) -> Builder<'a> {
    let mut builder = world.service("web").run(&format!("{SAY}; {body}")).owned_by(OWNER);
    for (name, content) in bounds {
        builder = builder.file(&format!("cgroup/{name}"), content);
    }
    builder
}

/// Returns the lines of `/proc/PID/cgroup` that name a group of ours.
fn groups_of(pid: i32) -> Vec<String> {
    let all = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    all.lines()
        .filter(|line| line.contains("/gatevisor-") && !line.ends_with("-supervisor"))
        .map(String::from)
        .collect()
}

/// Returns the directory of the group of a process that bounds what `controller` counts.
fn place_of(pid: i32, controller: &str) -> Option<PathBuf> {
    let groups = groups_of(pid);
    let line =
        groups.iter().find(|line| line.split(':').nth(1).is_some_and(|names| names.contains(controller)));
    let (mount, line) = match line {
        Some(line) => (PathBuf::from("/sys/fs/cgroup").join(line.split(':').nth(1)?), line),
        None => (PathBuf::from("/sys/fs/cgroup"), groups.iter().find(|line| line.starts_with("0::"))?),
    };
    let mut rest = line.splitn(3, ':').nth(2)?.trim_start_matches('/');
    // A container may see its own group as the root.
    loop {
        let place = mount.join(rest);
        if place.is_dir() {
            return Some(place);
        }
        rest = rest.split_once('/')?.1;
    }
}

/// Starts it, and returns the directory of its group, or `None`, with a warning in the log, if
/// there can be no group.
fn started(world: &World, service: &mut Service, controller: &str) -> Option<PathBuf> {
    service.receive("su");
    assert_eq!(service.until_lines("who", 1), [OWNER.to_string()]);
    let place = place_of(service.pid(), controller);
    if place.is_none() {
        world.until_said("warning: it runs without `cgroup/");
    }
    place
}

#[test]
fn a_fork_bomb_ends_at_the_bound_of_its_own_service() {
    need_root();
    let world = World::started();
    let mut neighbour = world.service("neighbour").stays().place();
    neighbour.receive("su");
    // A shell ends if it cannot fork, so the service itself forks only once, before there are many
    // processes.
    let bomb = format!("bomb() {{ bomb | bomb & }}; (bomb) 2>/dev/null & {STAY}");
    let mut service = bounded(&world, "read line < go; exec ./bomb", &[("pids", "20\n")])
        .executable("bomb", &format!("#!/bin/sh\n{bomb}\n"))
        .gate("go")
        .place();
    let Some(group) = started(&world, &mut service, "pids") else { return };
    service.pass("go", "now");
    let events = group.join("pids.events");
    polled("a fork that is refused", || {
        let refused = fs::read_to_string(&events).ok()?;
        refused.lines().any(|line| line.strip_prefix("max ").is_some_and(|count| count != "0")).then_some(())
    });
    let current: u32 = fs::read_to_string(group.join("pids.current")).unwrap().trim().parse().unwrap();
    assert!(current <= 20, "{current}");
    neighbour.send("k");
    neighbour.receive("dDu");
    // The fork bomb ends with its service, because the group is killed.
    service.hide();
    world.rescan();
    service.receive("dDx");
    polled("the end of the group", || (!group.exists()).then_some(()));
}

#[test]
fn bounds_are_set_on_the_group_and_the_command_runs_as_the_owner() {
    need_root();
    let world = World::started();
    let bounds = [("pids", "33"), ("memory", "67108864\n"), ("cpu-percent", "50"), ("strict", "")];
    let mut service = bounded(&world, STAY, &bounds[..3]).place();
    if started(&world, &mut service, "pids").is_none() {
        return;
    }
    let value = |controller: &str, files: [&str; 2]| {
        let place = place_of(service.pid(), controller).unwrap();
        files.iter().find_map(|file| fs::read_to_string(place.join(file)).ok()).unwrap().trim().to_owned()
    };
    assert_eq!(value("pids", ["pids.max", "pids.max"]), "33");
    assert_eq!(value("memory", ["memory.limit_in_bytes", "memory.max"]), "67108864");
    let cpu = value("cpu", ["cpu.cfs_quota_us", "cpu.max"]);
    assert!(["50000", "50000 100000"].contains(&cpu.as_str()), "{cpu}");
    // A restart uses the same group, and a changed bound counts from then on.
    let before = place_of(service.pid(), "pids").unwrap();
    fs::write(service.path("cgroup/pids"), "34\n").unwrap();
    service.send("k");
    service.receive("dDu");
    service.until_file("who", "the second start", |_| place_of(service.pid(), "pids").is_some());
    let after = polled("the group of the second start", || place_of(service.pid(), "pids"));
    assert_eq!(before, after);
    assert_eq!(fs::read_to_string(after.join("pids.max")).unwrap(), "34\n");
}

#[test]
fn what_a_service_leaves_in_its_group_ends_with_its_slot() {
    need_root();
    let mut world = World::started();
    let orphan = "setsid sleep 3601 & echo $! > orphan; exec sleep 3600";
    let mut service = bounded(&world, orphan, &[("pids", "10")]).place();
    let Some(group) = started(&world, &mut service, "pids") else { return };
    let orphan: i32 = service.until_lines("orphan", 1)[0].parse().unwrap();
    let held = Held::of(orphan).unwrap();
    service.hide();
    world.rescan();
    service.receive("dDx");
    held.until_gone("what was left in the group");
    polled("the end of the group", || (!group.exists()).then_some(()));

    // All groups go with the supervisor.
    let mut second = bounded(&world, STAY, &[("pids", "10")]).place();
    let group = started(&world, &mut second, "pids").unwrap();
    assert!(world.stop().success());
    polled("the end of the last group", || (!group.exists()).then_some(()));
}

#[test]
fn the_next_supervisor_removes_the_groups_of_one_that_was_killed() {
    need_root();
    let mut world = World::started();
    let mut service = bounded(&world, STAY, &[("pids", "10")]).place();
    let Some(left) = started(&world, &mut service, "pids") else { return };
    let held = Held::of(service.pid()).unwrap();
    world.kill();
    held.kill();
    held.until_gone("the orphan of the killed supervisor");
    assert!(left.exists());
    fs::remove_file(service.path("who")).unwrap();
    world.start();
    service.receive_until('u');
    service.until_lines("who", 1);
    let group = polled("the new group", || place_of(service.pid(), "pids"));
    assert_ne!(group, left);
    polled("the end of the old group", || (!left.exists()).then_some(()));
}

#[test]
fn a_bound_that_cannot_be_set_is_a_warning_and_a_strict_service_does_not_start() {
    need_root();
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "4711secret\n").unwrap();
    fs::set_permissions(secret.path(), fs::Permissions::from_mode(0o600)).unwrap();
    for (name, content, why) in [
        ("pids", "many\n", "`cgroup/pids`: the file must hold one number"),
        ("pids", "0\n", "`cgroup/pids`: must be at least 1"),
        ("cpu-percent", "9999999\n", "`cgroup/cpu-percent`: must be a number of percent from 1 on"),
        ("memory", "", "`cgroup/memory`: Too many levels of symbolic links; it must be a file"),
    ] {
        let world = World::started();
        let link = |path: &std::path::Path| {
            if content.is_empty() {
                fs::remove_file(path.join("cgroup").join(name)).unwrap();
                symlink(secret.path(), path.join("cgroup").join(name)).unwrap();
            }
        };
        let mut lax = bounded(&world, STAY, &[(name, content)]).prepare(link).place();
        lax.receive("su");
        assert_eq!(lax.until_lines("who", 1), [OWNER.to_string()]);
        let said = world.until_said(why);
        assert!(
            said.contains("gatevisor: web: warning: it runs without `cgroup/") && !said.contains("4711"),
            "{said}"
        );
        lax.hide();
        world.rescan();
        lax.receive("dDx");
        let mut strict = bounded(&world, STAY, &[(name, content), ("strict", "")])
            .file("data/x", "")
            .prepare(link)
            .place();
        strict.receive("s");
        strict.until_policy("a failed start", |policy| policy.phase == RestartPhase::Backoff);
        assert!(!strict.path("who").exists());
        let left = strict.until_file("data/start-error", "why it is not started", |text| !text.is_empty());
        assert!(left.starts_with(&format!("confining: {why}")), "{left}");
        fs::remove_dir_all(strict.path("cgroup")).unwrap();
        fs::create_dir(strict.path("cgroup")).unwrap();
        strict.send("u");
        strict.until_file("who", "a start without bounds", |text| !text.is_empty());
        assert!(!strict.path("data/start-error").exists());
    }
}

#[test]
fn a_service_of_another_user_cannot_have_both_a_lock_and_a_group() {
    need_root();
    let world = World::started();
    let mut lax = bounded(&world, STAY, &[("pids", "10")]).file("lock-fd", "9\n").place();
    lax.receive("su");
    assert_eq!(lax.until_lines("who", 1), [OWNER.to_string()]);
    assert!(groups_of(lax.pid()).is_empty());
    world.until_said(
        "warning: web: it runs without its control group: lock-fd and cgroup/ cannot both be had",
    );
    lax.hide();
    world.rescan();
    lax.receive("dDx");
    let mut strict = bounded(&world, STAY, &[("pids", "10"), ("strict", "")]).file("lock-fd", "9\n").place();
    strict.receive("s");
    let because = |reason: &String| reason.contains("lock-fd and cgroup/ cannot both be had");
    strict.until_policy("why it is not started", |policy| policy.reason.as_ref().is_some_and(because));
}

#[test]
fn a_supervisor_that_may_not_make_groups_reports_that() {
    need_root();
    let world = World::new();
    let dir = world.root().join("slot");
    fs::create_dir_all(dir.join("cgroup")).unwrap();
    fs::write(dir.join("cgroup/pids"), "10\n").unwrap();
    let in_group = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatevisor"));
        command.args(["in-group", "gatevisor-1.1-1-0-web", "-", "/bin/echo", "echo", "web"]);
        output(command.current_dir(&dir).uid(OWNER).gid(OWNER)).unwrap()
    };
    let lax = in_group();
    let said = String::from_utf8_lossy(&lax.stdout).into_owned();
    assert!(said.starts_with("gatevisor: web: warning: it runs without `cgroup/pids`: "), "{said}");
    assert!(
        said.contains("a container needs `/sys/fs/cgroup` mounted writable") && said.ends_with("\nweb\n"),
        "{said}"
    );
    fs::write(dir.join("cgroup/strict"), "").unwrap();
    let strict = in_group();
    let said = String::from_utf8_lossy(&strict.stderr).into_owned();
    assert_eq!(strict.status.code(), Some(111));
    assert!(said.starts_with("gatevisor: web: confining: `cgroup/pids`: "), "{said}");
}
