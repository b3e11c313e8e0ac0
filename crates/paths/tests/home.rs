//! The path to a home, and which user decides in it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it cannot show"
)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use common::{Bed, bind, give, is_ordinary, is_root, link, may_mount, mute, write};
use gatevisor_paths::{Authority, HomeError, OpenHome, RefusalReason};
use rustix::fs::Mode;

const AGENT: u32 = 12_345;
const MODE: Mode = Mode::from_raw_mode(0o755);

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn authority(path: &Path) -> Authority {
    OpenHome::open(path).unwrap().authority(&["profiles"]).unwrap()
}

#[test]
fn a_home_is_found_through_what_is_roots_and_its_owner_decides_in_it() {
    if !is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let home = temp.path().join("data/home");
    fs::create_dir_all(&home).unwrap();
    let found = OpenHome::open(&home).unwrap();
    assert_eq!((found.above(), found.seen().inode), (Ok(()), inode(&home)));
    assert_eq!(authority(&home), Authority::Ours);
    give(&home, AGENT);
    assert_eq!(OpenHome::open(&home).unwrap().above(), Ok(()));
    assert_eq!(authority(&home), Authority::User(AGENT));
    assert!(OpenHome::open(&home.join("none")).unwrap_err().is_missing());
}

#[test]
fn a_step_that_is_somebody_elses_is_named_and_that_user_decides() {
    if !is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let home = data.join("a/apt");
    fs::create_dir_all(&home).unwrap();
    give(&data, AGENT);
    let above = OpenHome::open(&home).unwrap().above().unwrap_err();
    assert_eq!(above.to_string(), format!("`{}` belongs to uid {AGENT}", data.display()));
    // Also where the home itself is root's, or another user's, who did not decide that it is here.
    assert_eq!(authority(&home), Authority::User(AGENT));
    give(&home, 54_321);
    assert_eq!(authority(&home), Authority::User(AGENT));
    let refused = OpenHome::open_or_make(&data.join("b/new"), MODE).unwrap_err();
    assert!(matches!(refused, HomeError::NotMade { .. }));
    let text = refused.to_string();
    assert!(text.starts_with(&format!("`{}` does not exist and is not made", data.join("b").display())));
    assert!(text.ends_with(&format!("because `{}` belongs to uid {AGENT}", data.display())), "{text}");
    assert!(!data.join("b").exists());
}

#[test]
fn a_link_that_an_agent_puts_on_the_way_leads_root_nowhere() {
    if !is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let at = |path: &str| temp.path().join(path);
    fs::create_dir_all(at("data")).unwrap();
    fs::create_dir_all(at("etc/apt")).unwrap();
    give(&at("data"), AGENT);
    link(at("etc"), &at("data/a"), AGENT);
    for result in [OpenHome::open(&at("data/a/apt")), OpenHome::open_or_make(&at("data/a/new"), MODE)] {
        let HomeError::Way(error) = result.unwrap_err() else { panic!("another error") };
        assert_eq!((error.path, error.reason), (at("data/a"), RefusalReason::Link(AGENT)));
    }
    assert!(!at("etc/new").exists());
}

#[test]
fn a_link_of_roots_leads_to_the_home_and_the_home_is_judged_not_the_link() {
    if !is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let at = |path: &str| temp.path().join(path);
    fs::create_dir_all(at("data/home")).unwrap();
    give(&at("data/home"), AGENT);
    link(at("data/home"), &at("shortcut"), 0);
    link("data", &at("d"), 0);
    for path in ["shortcut", "d/home", "d/../shortcut"] {
        assert_eq!(OpenHome::open(&at(path)).unwrap().seen().inode, inode(&at("data/home")), "{path}");
        assert_eq!(authority(&at(path)), Authority::User(AGENT), "{path}");
    }
    // What the link leads through is looked at as well.
    give(&at("data"), 54_321);
    assert_eq!(authority(&at("shortcut")), Authority::User(54_321));
}

#[test]
fn the_owner_of_the_profiles_decides_if_the_home_is_roots() {
    if !is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let home = temp.path().join("home");
    fs::create_dir_all(home.join("profiles")).unwrap();
    give(&home.join("profiles"), AGENT);
    assert_eq!(authority(&home), Authority::User(AGENT));
    fs::remove_dir(home.join("profiles")).unwrap();
    fs::create_dir(temp.path().join("roots")).unwrap();
    link(temp.path().join("roots"), &home.join("profiles"), AGENT);
    let error = OpenHome::open(&home).unwrap().authority(&["profiles"]).unwrap_err();
    assert_eq!(error.reason, RefusalReason::Link(AGENT));
}

#[test]
fn a_directory_that_several_may_write_to_is_nobodys_unless_only_owners_may_rename() {
    if !is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let (shared, home) = (temp.path().join("shared"), temp.path().join("shared/home"));
    fs::create_dir_all(&home).unwrap();
    set_mode(&shared, 0o775);
    let above = OpenHome::open(&home).unwrap().above().unwrap_err();
    let open = format!("others than its owner may write to `{}`", shared.display());
    assert_eq!(above.to_string(), open);
    assert_eq!(authority(&home), Authority::Nobody(above));
    // As /tmp is: what is root's in it, others cannot move; what is theirs, they can.
    set_mode(&shared, 0o1777);
    assert_eq!((OpenHome::open(&home).unwrap().above(), authority(&home)), (Ok(()), Authority::Ours));
    OpenHome::open_or_make(&shared.join("new/home"), MODE).unwrap().above().unwrap();
    give(&home, AGENT);
    let above = OpenHome::open(&home).unwrap().above().unwrap_err();
    let theirs =
        format!("everybody may write to `{}`, and what is there belongs to uid {AGENT}", shared.display());
    assert_eq!((above.to_string(), authority(&home)), (theirs, Authority::User(AGENT)));
    // The home itself.
    set_mode(temp.path(), 0o755);
    let group = temp.path().join("group");
    fs::create_dir(&group).unwrap();
    set_mode(&group, 0o2775);
    assert!(matches!(authority(&group), Authority::Nobody(_)));
}

#[test]
fn the_user_who_controls_the_parent_decides_about_a_home_that_is_still_to_be_made() {
    if !is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let over = |path: &str| OpenHome::authority_over(&temp.path().join(path), &["profiles"]).unwrap();
    assert_eq!(over("a/b/home"), Authority::Ours);
    fs::create_dir(temp.path().join("a")).unwrap();
    set_mode(&temp.path().join("a"), 0o1777);
    assert_eq!(over("a/b/home"), Authority::Ours);
    set_mode(&temp.path().join("a"), 0o777);
    assert!(matches!(over("a/b/home"), Authority::Nobody(_)));
    give(&temp.path().join("a"), AGENT);
    assert_eq!(over("a/b/home"), Authority::User(AGENT));
    // So does who could replace what is in its place.
    write(&temp.path().join("file"), "x");
    write(&temp.path().join("a/file"), "x");
    assert_eq!([over("file"), over("a/file")], [Authority::Ours, Authority::User(AGENT)]);
}

#[test]
fn missing_directories_are_made_whatever_the_umask_is() {
    let temp = tempfile::tempdir().unwrap();
    let home = temp.path().join("a/b/home");
    let made = OpenHome::open_or_make(&home, Mode::from_raw_mode(0o751)).unwrap();
    assert_eq!(made.seen().inode, inode(&home));
    for path in [&home, &temp.path().join("a")] {
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o751);
    }
    OpenHome::open_or_make(&home, MODE).unwrap();
    write(&temp.path().join("file"), "x");
    let error = OpenHome::open_or_make(&temp.path().join("file/home"), MODE).unwrap_err();
    assert!(error.to_string().ends_with("file`: not a directory"), "{error}");
    assert!(OpenHome::open(Path::new("relative")).is_err());
}

#[test]
fn a_process_with_only_its_own_rights_follows_every_link_but_those_of_proc() {
    if !is_ordinary("a_process_with_only_its_own_rights_follows_every_link_but_those_of_proc") {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let home = temp.path().join("home");
    fs::create_dir(&home).unwrap();
    std::os::unix::fs::symlink(&home, temp.path().join("link")).unwrap();
    let found = OpenHome::open(&temp.path().join("link")).unwrap();
    assert_eq!((found.seen().inode, found.above()), (inode(&home), Ok(())));
    let HomeError::Way(error) = OpenHome::open(Path::new("/proc/self/cwd")).unwrap_err() else { panic!() };
    assert_eq!(error.reason, RefusalReason::MagicLink);
}

#[test]
fn an_operator_may_name_a_home_in_the_root_of_a_process_of_root_s_and_of_nobody_else_s() {
    let temp = tempfile::tempdir().unwrap();
    let path = format!("/proc/{}/root{}", std::process::id(), temp.path().display());
    assert_eq!(OpenHome::open(Path::new(&path)).unwrap().seen().inode, inode(temp.path()));
    let path = format!("/proc/{}/cwd", std::process::id());
    assert!(OpenHome::open(Path::new(&path)).is_err());
}

#[test]
fn a_home_may_be_a_mount_of_the_operators_and_not_of_a_user() {
    if !may_mount("a_home_may_be_a_mount_of_the_operators_and_not_of_a_user") {
        return;
    }
    let temp = Bed::new();
    let at = |path: &str| temp.path().join(path);
    fs::create_dir_all(at("volume/home")).unwrap();
    fs::create_dir_all(at("data")).unwrap();
    bind(&at("volume"), &at("data"));
    OpenHome::open(&at("data/home")).unwrap().above().unwrap();
    if let Some(_answers) = mute(&at("data/home"), AGENT, ",allow_other") {
        let HomeError::Way(error) = OpenHome::open(&at("data/home")).unwrap_err() else { panic!() };
        assert_eq!(error.reason, RefusalReason::OtherMount);
    }
}
