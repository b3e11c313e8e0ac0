//! A gateway's logger as today's images write it: a shell script that becomes `s6-log` by our
//! applets.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use gatevisor_wire::files;
use rustix::process::Signal;
use tempfile::tempdir_in;

use crate::support::service::Service;
use crate::support::{World, need_root, processes, waiting};

/// A user that every system has.
const USER: &str = "nobody";
const UID: u32 = 65_534;

/// The variable that the applets need: where the container's environment is.
const PRELUDE: &str = "export GATEVISOR_CONTENV_DIR=\"$GATEVISOR_TEST_WORLD/environment\"";

/// Becomes the logger as another user, and removes what an earlier logger left.
const SHELL: &str = "#!COMMAND/with-contenv sh
: \"${HERMES_HOME:=/opt/data}\"
dir=\"$HERMES_HOME/logs/gateways/coder\"
if [ \"$(id -u)\" = 0 ]; then
    s6-setuidgid nobody mkdir -p \"$dir\"
    s6-setuidgid nobody rm -f \"$dir/lock\"
    exec s6-setuidgid nobody s6-log 1 n10 s1000000 T \"$dir\"
fi
mkdir -p \"$dir\"
rm -f \"$dir/lock\"
exec s6-log 1 n10 s1000000 T \"$dir\"
";

/// The same without a shell.
const EXECLINE: &str = "#!COMMAND/execlineb -P
COMMAND/with-contenv s6-setuidgid nobody s6-log 1 n10 s1000000 T HOME/logs/gateways/coder
";

fn install(program: &Path, command: &Path) {
    // The directory of the binary may be closed to that user. A separate process copies the binary,
    // because a file that this process holds open for writing could not be executed.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_gatevisor")).arg(program).status().unwrap();
    assert!(copied.success());
    let installed = Command::new(program).args(["applets", "install"]).arg(command).output().unwrap();
    assert!(installed.status.success(), "{installed:?}");
}

/// Returns a world with the applets, the container's environment and a home of that user.
fn world(programs: &Path) -> World {
    let world = World::new().prelude(PRELUDE);
    let [environment, home] = ["environment", "home"].map(|name| world.root().join(name));
    let command = programs.join("command");
    fs::set_permissions(programs, fs::Permissions::from_mode(0o755)).unwrap();
    install(&programs.join("gatevisor"), &command);
    fs::create_dir(&environment).unwrap();
    let path = format!("{}:/usr/bin:/bin", command.display());
    let (root, data) = (world.root().display().to_string(), home.display().to_string());
    // By the first variable, the test finds the processes of a world.
    for (name, value) in [("GATEVISOR_TEST_WORLD", root), ("PATH", path), ("HERMES_HOME", data)] {
        fs::write(environment.join(name), format!("{value}\n")).unwrap();
    }
    fs::create_dir(&home).unwrap();
    chown(&home, Some(UID), Some(UID)).unwrap();
    world
}

fn until_holds(current: &Path, words: &str) -> String {
    waiting::polled(words, || fs::read_to_string(current).ok().filter(|text| text.contains(words)))
}

fn check(script: &str) {
    need_root();
    // Root looks for programs only in directories where nobody else may write.
    let programs = tempdir_in("/var").unwrap();
    let mut world = world(programs.path());
    let command = programs.path().join("command").display().to_string();
    let home = world.root().join("home");
    world.start();
    let script = script.replace("COMMAND", &command).replace("HOME/", &format!("{}/", home.display()));
    if !script.contains("mkdir") {
        // As the image's boot does.
        for dir in ["logs", "logs/gateways", "logs/gateways/coder"] {
            fs::create_dir(home.join(dir)).unwrap();
            chown(home.join(dir), Some(UID), Some(UID)).unwrap();
        }
    }
    let mut service: Service = world
        .service("gateway-coder")
        .run("echo hello; while read line < go; do echo \"$line\"; done")
        .gate("go")
        .log("")
        .executable("log/run", &script)
        .place();
    service.receive("su");
    let logger = service.logger();
    logger.receive("su");
    let current = home.join("logs/gateways/coder/current");
    let text = until_holds(&current, "hello\n");
    let (stamp, line) = text.split_once("  ").unwrap();
    assert_eq!((line, stamp.len()), ("hello\n", "2026-01-01 00:00:00.000000000".len()), "{text}");
    world.until_said("hello\n");
    // The logger is a process of its own, of that user, and not part of the log daemon.
    let pid = service.logger().pid();
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let dir = home.join("logs/gateways/coder").display().to_string();
    let expected = ["s6-log", "1", "n10", "s1000000", "T", &*dir, ""].join("\0");
    assert_eq!(String::from_utf8(words).unwrap(), expected);
    let id = UID.to_string();
    for key in ["Uid", "Gid"] {
        let ids = processes::status_line(pid, key);
        assert!(ids.split(' ').all(|one| one == id), "{USER} has {key} {ids}");
    }
    assert!(service.path("log").join(files::STATUS).exists());
    // Killed, it is started again on the same pipe, and takes its directory over.
    processes::signal(pid, Signal::KILL);
    service.logger().receive("dDu");
    service.pass("go", "again");
    until_holds(&current, "again\n");
    world.until_said("again\n");
    service.send("d");
    service.receive("dD");
    assert_eq!(world.stop().code(), Some(0));
    service.logger().receive_until('x');
}

#[test]
fn a_shell_script_that_becomes_s6_log_as_another_user_keeps_a_gateways_log() {
    check(SHELL);
}

#[test]
fn a_script_of_execlineb_that_becomes_s6_log_as_another_user_keeps_a_gateways_log() {
    check(EXECLINE);
}
