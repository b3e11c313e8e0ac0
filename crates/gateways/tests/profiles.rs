//! Profiles on disk: made whole or not at all, gone at once, listed with what is wrong with them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use common::{entries, name};
use gatevisor_gateways::profile::{self, Candidate, CreateError, DeleteError};
use gatevisor_gateways::{AgentDefinition, Home};
use gatevisor_wire::exit::ExitError as _;
use insta::assert_snapshot;

fn hermes() -> AgentDefinition {
    AgentDefinition::built_in().unwrap()
}

fn home(dir: &Path) -> Home {
    Home::new(&dir.join("home")).unwrap()
}

fn say(dir: &Path, code: u8, error: &dyn std::error::Error) -> String {
    let text = format!("{code} {}", gatevisor_wire::exit::error_chain(error));
    text.replace(&dir.display().to_string(), "DIR")
}

#[test]
fn a_new_profile_holds_what_the_agent_puts_into_one() {
    let dir = tempfile::tempdir().unwrap();
    let home = home(dir.path());
    let created = profile::create(&home, &hermes(), &name("coder")).unwrap();
    assert_eq!(created.warning, None);
    assert_eq!(created.profile.path, home.profile_dir(&name("coder")));
    let mode =
        |file: &str| fs::metadata(created.profile.path.join(file)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(""), mode("SOUL.md"), mode(".env"), mode("skills")), (0o700, 0o644, 0o600, 0o700));
    assert_snapshot!(entries(&created.profile.path).join(" "), @".env SOUL.md cron home logs memories plans sessions skills skins workspace");
    assert_eq!(entries(&home.profiles_dir()), ["coder"]);
}

#[test]
fn the_longest_name_is_made_listed_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (home, agent) = (home(dir.path()), hermes());
    let long = name(&"x".repeat(243));
    let created = profile::create(&home, &agent, &long).unwrap();
    assert_snapshot!(created.warning.unwrap(), @"the name has 243 bytes, and hermes itself takes at most 64");
    assert_eq!(profile::list(&home, &agent).unwrap()[1].name, long);
    profile::delete(&home, &long).unwrap();
    assert!(entries(&home.profiles_dir()).is_empty());
}

#[test]
fn what_cannot_be_made_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (home, agent) = (home(dir.path()), hermes());
    let refuse = |text: &str| {
        let error = profile::create(&home, &agent, &name(text)).unwrap_err();
        say(dir.path(), error.exit_code(), &error)
    };
    let mut lines = vec![refuse("default"), refuse("root")];
    assert!(!home.root().exists(), "a refusal must not even make the home");
    profile::create(&home, &agent, &name("coder")).unwrap();
    lines.push(refuse("coder"));
    fs::write(home.profiles_dir().join("file"), "").unwrap();
    lines.push(refuse("file"));
    symlink("nowhere", home.profiles_dir().join("link")).unwrap();
    lines.push(refuse("link"));
    assert_snapshot!(lines.join("\n"), @r#"
        100 profile `default` is the home itself and always exists; choose another name
        100 profile name `root` is reserved for the agent `hermes` and common programs; choose another name
        1 profile `coder` already exists in `DIR/home/profiles`
        1 profile `file` already exists in `DIR/home/profiles`
        1 profile `link` already exists in `DIR/home/profiles`
        "#);
    assert_eq!(entries(&home.profiles_dir()), ["coder", "file", "link"]);
}

#[test]
fn a_home_that_cannot_be_written_says_why_and_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("home"), "a file").unwrap();
    let home = home(dir.path());
    let error = profile::create(&home, &hermes(), &name("coder")).unwrap_err();
    assert!(matches!(error, CreateError::Write { .. }));
    assert_snapshot!(say(dir.path(), error.exit_code(), &error), @"111 cannot make profile `coder` in `DIR/home/profiles`; nothing of it remains: Not a directory");
    assert_eq!(entries(dir.path()), ["home"]);
}

#[test]
fn a_profile_whose_content_cannot_be_made_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let home = home(dir.path());
    let mut agent = hermes();
    // A file where another needs a directory.
    agent.profile.files[1].path = "SOUL.md/inner".to_owned();
    let error = profile::create(&home, &agent, &name("coder")).unwrap_err();
    assert_eq!(error.exit_code(), 111);
    assert!(!home.root().exists());
}

/// The second half of the test below, in a process that may not write a byte into any file.
#[test]
fn in_a_process_that_may_not_write() {
    let Some(dir) = std::env::var_os("GATEVISOR_TEST_FULL") else { return };
    let home = home(Path::new(&dir));
    let error = profile::create(&home, &hermes(), &name("coder")).unwrap_err();
    assert!(matches!(error, CreateError::Write { .. }) && error.exit_code() == 111, "{error}");
    assert!(!home.root().exists(), "nothing of it may remain");
}

#[test]
fn on_a_full_disk_nothing_of_a_profile_remains() {
    let dir = tempfile::tempdir().unwrap();
    // A limit on the size of files fails a write as a full disk does, and needs no privilege.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$1\" --exact in_a_process_that_may_not_write", "sh"])
        .arg(gatevisor_sys::process::own_program().unwrap())
        .env("GATEVISOR_TEST_FULL", dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_deleted_profile_is_gone_and_what_earlier_deletions_left_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let (home, agent) = (home(dir.path()), hermes());
    for text in ["a", "b"] {
        profile::create(&home, &agent, &name(text)).unwrap();
    }
    fs::create_dir(home.profiles_dir().join(".gone-left")).unwrap();
    let cache = home.profile_dir(&name("a")).join("home/cache");
    fs::create_dir(&cache).unwrap();
    fs::write(cache.join("file"), "").unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o500)).unwrap();
    profile::delete(&home, &name("a")).unwrap();
    assert_eq!(entries(&home.profiles_dir()), ["b"]);
}

#[test]
fn deleting_a_link_leaves_what_it_points_to() {
    let dir = tempfile::tempdir().unwrap();
    let home = home(dir.path());
    fs::create_dir_all(home.profiles_dir()).unwrap();
    fs::create_dir(dir.path().join("elsewhere")).unwrap();
    symlink(dir.path().join("elsewhere"), home.profiles_dir().join("link")).unwrap();
    profile::delete(&home, &name("link")).unwrap();
    assert!(entries(&home.profiles_dir()).is_empty() && dir.path().join("elsewhere").exists());
}

#[test]
fn what_cannot_be_deleted_or_shown_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let (home, agent) = (home(dir.path()), hermes());
    let refuse = |text: &str| {
        let error = profile::delete(&home, &name(text)).unwrap_err();
        say(dir.path(), error.exit_code(), &error)
    };
    let shown = profile::show(&home, &agent, &name("coder")).unwrap_err();
    let lines = [refuse("default"), refuse("coder"), say(dir.path(), shown.exit_code(), &shown)];
    assert_snapshot!(lines.join("\n"), @r#"
        100 profile `default` is the home itself and cannot be deleted
        1 there is no profile `coder` in `DIR/home/profiles`; `gatevisor profile list` shows those that exist
        1 there is no profile `coder` in `DIR/home/profiles`; `gatevisor profile list` shows those that exist
        "#);
    let source = std::io::Error::from_raw_os_error(30);
    let left = "DIR/.gone-1".into();
    let remove = DeleteError::Remove { name: name("coder"), left, source };
    let source = std::io::Error::from_raw_os_error(30);
    let rename = DeleteError::Rename { name: name("coder"), path: "DIR".into(), source };
    assert_snapshot!(
        [say(dir.path(), remove.exit_code(), &remove), say(dir.path(), rename.exit_code(), &rename)].join("\n"),
        @r#"
        111 profile `coder` is deleted, but not all of its files; remove `DIR/.gone-1` by hand: Read-only file system
        111 cannot delete profile `coder` in `DIR`; it is as it was: Read-only file system
        "#
    );
}

#[test]
fn directories_with_the_marker_are_profiles_and_strange_names_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (home, agent) = (home(dir.path()), hermes());
    assert_eq!(profile::scan(&home, &agent).unwrap(), []);
    assert_eq!(profile::list(&home, &agent).unwrap().len(), 1);
    for text in ["writer", "coder", "Bad", "default", "has space", ".hidden", "no-marker"] {
        fs::create_dir_all(home.profiles_dir().join(text)).unwrap();
        if text != "no-marker" {
            fs::write(home.profiles_dir().join(text).join("SOUL.md"), "").unwrap();
        }
    }
    fs::write(home.profiles_dir().join("file"), "").unwrap();
    symlink(home.profiles_dir().join("coder"), home.profiles_dir().join("zlink")).unwrap();
    let show = |candidate: Candidate| match candidate {
        Candidate::Profile(profile) => profile.name.to_string(),
        Candidate::Misnamed { shown, reason } => format!("{shown}: {reason}"),
    };
    let lines: Vec<String> = profile::scan(&home, &agent).unwrap().into_iter().map(show).collect();
    assert_snapshot!(lines.join("\n"), @r#"
        Bad: profile name `Bad` has the upper-case letter `B`; write `b`
        coder
        profiles/default/: the name `default` means the home itself; rename the directory
        has space: profile name `has space` has the character ` `; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit
        writer
        zlink
        "#);
    let names: Vec<_> =
        profile::list(&home, &agent).unwrap().into_iter().map(|p| p.name.to_string()).collect();
    assert_eq!(names, ["default", "coder", "writer", "zlink"]);
}
