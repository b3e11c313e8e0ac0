//! `s6-svscanctl`: every command byte arrives, and a rescan is over when the tool returns.
//!
//! **Source:** B.5-1.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use gatevisor_client::ServiceDir;
use gatevisor_wire::{files, scan::ScanCommand};
use tempfile::tempdir;

use crate::both::{Fake, Supervisor, agree, our_code, ours, theirs, words};
use crate::support::{World, script};

#[test]
fn every_scandir_command_arrives_as_its_byte() {
    let root = tempdir().unwrap();
    let fake = Fake::at(root.path().join("scan"), files::SVSCAN_CONTROL);
    for command in ScanCommand::ALL {
        let byte = char::from(command.byte());
        assert_eq!(our_code("s6-svscanctl", &words(&format!("-{byte}"), &fake.dir)), 0, "-{byte}");
        assert_eq!(theirs("s6-svscanctl", &words(&format!("-{byte}"), &fake.dir)).code, Some(0));
        assert_eq!(fake.received(), format!("{byte}{byte}"));
    }
    assert_eq!(agree("s6-svscanctl", &words("-an", &fake.dir)).code, Some(0));
    assert_eq!(fake.received(), "anan");
    assert_eq!(agree("s6-svscanctl", &words("", &fake.dir)).code, Some(0));
    assert_eq!(agree("s6-svscanctl", &words("-x", &fake.dir)).code, Some(100));
}

#[test]
fn no_supervisor_is_100_and_no_directory_is_111() {
    let root = tempdir().unwrap();
    let scandir = root.path().join("scan");
    for options in ["-a", "-an", "-t"] {
        assert_eq!(agree("s6-svscanctl", &words(options, &scandir)).code, Some(111), "{options}");
    }
    fs::create_dir(&scandir).unwrap();
    assert_eq!(agree("s6-svscanctl", &words("-a", &scandir)).code, Some(100));
    fs::create_dir(scandir.join(".s6-svscan")).unwrap();
    assert_eq!(agree("s6-svscanctl", &words("-a", &scandir)).code, Some(100));
    drop(Fake::at(scandir.clone(), files::SVSCAN_CONTROL));
    assert_eq!(agree("s6-svscanctl", &words("-a", &scandir)).code, Some(100));
    let (_, said) = ours("s6-svscanctl", &words("-a", &scandir));
    assert!(said.starts_with("s6-svscanctl: fatal: no supervisor is reading `"), "{said}");
}

#[test]
fn a_rescan_that_leaves_a_service_alone_is_a_failure_that_names_it() {
    let root = tempdir().unwrap();
    let fake = Fake::at(root.path().join("scan"), files::SVSCAN_CONTROL);
    for name in ["web", ".hidden"] {
        fs::create_dir(fake.dir.join(name)).unwrap();
    }
    fs::write(fake.dir.join("a-file"), "").unwrap();
    let (ran, said) = ours("s6-svscanctl", &words("-a", &fake.dir));
    assert_eq!(ran.code, Some(111), "{said}");
    assert!(said.contains("/web`") && !said.contains("hidden") && !said.contains("a-file"), "{said}");
    // A command that brings everything down returns at once.
    assert_eq!(our_code("s6-svscanctl", &words("-at", &fake.dir)), 0);
}

fn service(scandir: &Path, name: &str) -> ServiceDir {
    let staged = scandir.join(format!(".{name}"));
    fs::create_dir(&staged).unwrap();
    script(&staged.join("run"), "exec sleep 3600");
    fs::write(staged.join("down"), "").unwrap();
    fs::rename(&staged, scandir.join(name)).unwrap();
    ServiceDir::new(scandir.join(name))
}

/// Registers services one by one and all together. Each must be supervised when the rescan returns.
fn supervised_on_return(world: &World, start: impl FnOnce(&World) -> Supervisor) {
    let _supervisor = start(world);
    let scandir = world.scandir();
    for round in 0..8 {
        let heap: Vec<ServiceDir> =
            (0..=round).map(|n| service(&scandir, &format!("web-{round}-{n}"))).collect();
        let options = ["-a", "-an", "-h"].into_iter().cycle().nth(round).unwrap();
        let (ran, said) = ours("s6-svscanctl", &words(options, &scandir));
        assert_eq!(ran.code, Some(0), "{said}");
        for dir in heap {
            assert!(dir.supervised().unwrap() && dir.status().is_ok(), "{}", dir.path().display());
            assert_eq!(theirs("s6-svstat", &words("", dir.path())).code, Some(0));
            assert_eq!(our_code("s6-svc", &words("-d", dir.path())), 0);
        }
    }
    // If nothing is new, the tool returns at once. A service that exists and shall be down is left
    // unchanged.
    assert_eq!(our_code("s6-svscanctl", &words("-an", &scandir)), 0);
}

#[test]
fn a_rescan_is_over_when_it_returns_under_a_genuine_s6_svscan() {
    supervised_on_return(&World::new(), Supervisor::genuine);
}

#[test]
fn a_rescan_is_over_when_it_returns_under_our_s6_svscan() {
    supervised_on_return(&World::new(), Supervisor::ours);
}

#[test]
fn a_skeleton_that_was_made_beforehand_is_waited_for_too() {
    let world = World::new();
    let _supervisor = Supervisor::genuine(&world);
    let mut service = world.service("web").stays().down().prepare(|dir| {
        fs::create_dir(dir.join("supervise")).unwrap();
        drop(crate::support::waiting::fifo(&dir.join(files::CONTROL)));
        // An old status, which does not tell whether there is a supervisor.
        fs::write(dir.join(files::STATUS), [0; 35]).unwrap();
    });
    service = service.file("data/x", "");
    let service = service.place();
    assert_eq!(our_code("s6-svscanctl", &words("-a", &world.scandir())), 0);
    assert!(service.dir.supervised().unwrap());
    assert_eq!(theirs("s6-svstat", &words("", service.dir.path())).code, Some(0));
}

#[test]
fn a_service_that_is_refused_is_warned_of_and_keeps_nobody_waiting() {
    let world = World::new();
    let _supervisor = Supervisor::ours(&world);
    let scandir = world.scandir();
    let open = service(&scandir, "open");
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let web = service(&scandir, "web");
    let path = open.path().display();
    let warning =
        format!("s6-svscanctl: warning: `{path}` is not supervised: others than its owner may write");
    // The second time, the refusal is not new for the supervisor, but it is new for the tool.
    for _ in 0..2 {
        let (ran, said) = ours("s6-svscanctl", &words("-a", &scandir));
        assert_eq!(ran.code, Some(0), "{said}");
        assert!(said.starts_with(&warning), "{said}");
        assert!(web.supervised().unwrap());
        assert!(!open.supervised().unwrap());
    }
    // The tool waits for a service that was fixed, although its refusal is still published at the
    // beginning.
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(ours("s6-svscanctl", &words("-a", &scandir)).1, "");
    assert!(open.supervised().unwrap());
    // The file goes an instant after the service is supervised.
    let refused = scandir.join(files::SVSCAN_REFUSED).join("open");
    crate::support::waiting::polled("no refusal", || (!refused.exists()).then_some(()));
}
