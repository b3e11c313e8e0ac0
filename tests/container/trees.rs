//! What root does to an agent's trees, and what the agent leaves there. Each test has a new
//! container.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use crate::engine::{Container, ROOT, container, docker, removed, skipped, unique};
use crate::support::waiting;

/// An image made of what a container holds, removed when it is dropped.
struct Committed(String);

impl Committed {
    fn of(container: &Container) -> Self {
        let name = unique();
        docker(["commit", container.name(), &name]).ok();
        Self(name)
    }
}

impl Drop for Committed {
    fn drop(&mut self) {
        removed(&["rmi", "--force", &self.0]);
    }
}

/// A directory on the host that can be mounted as the agent's home.
fn volume() -> tempfile::TempDir {
    let volume = tempfile::tempdir().unwrap();
    fs::set_permissions(volume.path(), fs::Permissions::from_mode(0o755)).unwrap();
    lchown(volume.path(), Some(10_000), Some(10_000)).unwrap();
    volume
}

fn mounted(what: &Path, on: &str) -> String {
    format!("--volume {}:{on}", what.display())
}

/// Makes nested directories, so deep that no path can name the innermost one.
const DEEP: &str = "import os
os.chdir('/run/service')
for _ in range(600):
    os.mkdir('d'); os.chdir('d')";

fn python(container: &Container, script: &str) {
    container.exec(&["/opt/hermes/.venv/bin/python", "-c", script]).ok();
}

#[test]
fn a_scandir_without_a_bottom_in_a_layer_of_the_image_keeps_no_container_from_starting() {
    if skipped() {
        return;
    }
    let first = container().started();
    python(&first, DEEP);
    let image = Committed::of(&first);
    let second = container().of(&image.0).started();
    second.waits("-u", "main-hermes");
    assert_eq!(second.sh("test -e /run/service/d; echo $?"), "1");
    second.restart();
    second.waits("-u", "main-hermes");
}

#[test]
fn a_scandir_that_takes_longer_to_empty_than_a_step_may_is_left_and_services_are_elsewhere() {
    if skipped() {
        return;
    }
    let first = container().started();
    python(&first, "import os\nfor n in range(20000): os.mkfifo(f'/run/service/{n}')");
    let image = Committed::of(&first);
    let second = container().of(&image.0).env("GATEVISOR_STEP_TIMEOUT", "0.05").started();
    second.says("`/run/service` cannot be used in this life");
    let status = second.exec_as(ROOT, &["gatevisor", "status"]);
    assert!(status.ok().contains("main-hermes") || status.ok().contains("default"), "{status:#?}");
    assert!(second.sh("readlink /run/s6/scandir").starts_with("/run/gatevisor/.service."));
}

#[test]
fn a_request_to_end_is_obeyed_while_a_scandir_is_emptied() {
    if skipped() {
        return;
    }
    let first = container().started();
    python(&first, "import os\nfor n in range(30000): os.mkfifo(f'/run/service/{n}')");
    let image = Committed::of(&first);
    let second = container().of(&image.0).started_as(&["sh", "-c", "echo booted; exec sleep infinity"]);
    // The kernel drops a signal that the first process of a container does not handle yet.
    waiting::polled("the end", || {
        docker(["kill", "--signal", "TERM", second.name()]);
        let running = docker(["inspect", "--format", "{{.State.Running}}", second.name()]);
        (running.ok().trim() == "false").then_some(())
    });
    assert!([0, 143].contains(&second.ended()), "{}", second.said());
}

#[test]
fn what_an_agent_left_in_its_scandir_is_out_of_the_way_at_once_and_gone_soon() {
    if skipped() {
        return;
    }
    let container = container().started();
    python(&container, DEEP);
    python(&container, "import os\nfor n in range(3000): os.mkfifo(f'/run/service/f{n}')");
    container.restart();
    container.waits("-u", "main-hermes");
    assert_eq!(container.sh("ls /run/service | grep -c '^f' || :"), "0");
    // The process that removes it ends when it is gone. It is a fork of the boot, and still has its
    // name.
    let gone =
        "for pid in $(pgrep -f '^/init'); do timeout 60 tail --pid=$pid -f /dev/null; done; ls -A /run";
    let left = container.sh(gone);
    assert!(!left.contains(".old"), "{left}; {}", container.said());
}

#[test]
fn another_volume_below_the_home_keeps_its_owners_and_is_named() {
    if skipped() {
        return;
    }
    let (home, other) = (volume(), volume());
    fs::write(other.path().join("precious"), "x").unwrap();
    lchown(other.path(), Some(0), Some(0)).unwrap();
    let mounts = mounted(home.path(), "/opt/data") + " " + &mounted(other.path(), "/opt/data/mnt");
    let container = container().with(&mounts).started();
    // The agent moves the mount point into a directory in which a boot gives everything to the
    // agent.
    container.sh("cd /opt/data; mkdir -p profiles/p; ls mnt");
    drop(container);
    fs::create_dir_all(home.path().join("profiles/p/mnt")).unwrap();
    lchown(home.path().join("profiles/p/mnt"), Some(10_000), Some(10_000)).unwrap();
    let mounts = mounted(home.path(), "/opt/data") + " " + &mounted(other.path(), "/opt/data/profiles/p/mnt");
    let container = crate::engine::container().with(&mounts).started();
    assert!(
        container.said().contains("`/opt/data/profiles/p/mnt` is another file system"),
        "{}",
        container.said()
    );
    for path in [other.path(), &other.path().join("precious")] {
        assert_eq!(fs::metadata(path).unwrap().uid(), 0, "{}", path.display());
    }
}

#[test]
fn what_is_mounted_in_the_scandir_is_left_alone_and_named() {
    if skipped() {
        return;
    }
    let other = volume();
    fs::create_dir(other.path().join("data")).unwrap();
    fs::write(other.path().join("data/precious"), "x").unwrap();
    let container = container().with(&mounted(other.path(), "/run/service/mounted")).started();
    container.restart();
    let said = container.said();
    assert!(said.contains("`/run/service/mounted` is another file system, and is left alone"), "{said}");
    container.waits("-u", "main-hermes");
    assert_eq!(fs::read_to_string(other.path().join("data/precious")).unwrap(), "x");
}

#[test]
fn a_home_behind_a_link_of_the_agent_s_is_refused_and_nothing_there_changes_hands() {
    if skipped() {
        return;
    }
    let home = volume();
    std::os::unix::fs::symlink("/etc", home.path().join("a")).unwrap();
    lchown(home.path().join("a"), Some(10_000), Some(10_000)).unwrap();
    let start = container().with(&mounted(home.path(), "/opt/data")).env("HERMES_HOME", "/opt/data/a/apt");
    let answer = start.run(&["sh", "-c", "stat -c '%U %n' /etc/apt /etc/apt/*"]);
    assert!(answer.out.lines().any(|line| line == "root /etc/apt"), "{answer:#?}");
    assert!(!answer.out.lines().any(|line| line.starts_with("hermes ")), "{answer:#?}");
    let why = "cannot use the home `/opt/data/a/apt`: `/opt/data/a`: a symbolic link of uid 10000";
    assert!((answer.out + &answer.err).contains(why));
}

#[test]
fn a_home_below_a_directory_of_the_agent_s_is_the_agent_s_to_make_and_root_gives_nothing_away_there() {
    if skipped() {
        return;
    }
    let home = volume();
    fs::create_dir(home.path().join("roots")).unwrap();
    for (path, step) in
        [("/opt/data/new/home", "and is not made"), ("/opt/data/roots", "refusing to change owners")]
    {
        let start = container().with(&mounted(home.path(), "/opt/data")).env("HERMES_HOME", path);
        let answer = start.run(&["sh", "-c", "stat -c %U \"$HERMES_HOME\""]);
        let said = format!("{}{}", answer.out, answer.err);
        assert!(said.contains(step) && said.contains("`/opt/data` belongs to uid 10000"), "{said}");
    }
    assert_eq!(fs::metadata(home.path().join("new/home")).unwrap().uid(), 10_000);
    assert_eq!(fs::metadata(home.path().join("roots")).unwrap().uid(), 0);
}

#[test]
fn what_root_does_in_a_home_behind_root_s_own_link_is_done_as_the_agent() {
    if skipped() {
        return;
    }
    let container = container().started();
    container.root_sh("ln -s /opt/data /srv/short; mkdir -p /srv/roots");
    container.sh("cd /opt/data; mv profiles aside; ln -s /srv/roots profiles");
    let made = container.exec_as(ROOT, &["gatevisor", "--home", "/srv/short", "profile", "create", "evil"]);
    assert_ne!(made.code, 0, "{made:#?}");
    assert_eq!(container.root_sh("ls /srv/roots | wc -l"), "0");
    container.sh("cd /opt/data; rm profiles; mv aside profiles");
    container.exec_as(ROOT, &["gatevisor", "--home", "/srv/short", "profile", "create", "good"]).ok();
    assert_eq!(container.sh("stat -c %U /opt/data/profiles/good"), "hermes");
    // A home of root in which an agent has put a link in the place of the profiles.
    container.root_sh(
        "mkdir -p /srv/home; ln -s /srv/roots /srv/home/profiles; chown -h 10000:10000 /srv/home/profiles",
    );
    let made = container.exec_as(ROOT, &["gatevisor", "--home", "/srv/home", "profile", "create", "evil"]);
    assert!(made.fails(111).contains("a symbolic link of uid 10000"), "{made:#?}");
    assert_eq!(container.root_sh("ls /srv/roots | wc -l"), "0");
}
