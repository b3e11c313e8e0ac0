//! That nothing else in the project walks a tree, and that root is led by whole paths nowhere else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// What follows links, crosses mounts or recurses on its own.
const FORBIDDEN: [&str; 4] = ["remove_dir_all", "create_dir_all", ".recursive(true)", "walkdir"];

/// Who makes directories along a path all the same, and why that is no danger.
const ALLOWED: [(&str, &str, &str); 8] = [
    ("gatevisor/src/up.rs", ".recursive(true)", "done as the user who decides what is in the home"),
    ("init/src/directory.rs", "create_dir_all", "an operator's own directory, named on the command line"),
    ("applets/src/links.rs", "create_dir_all", "an operator's own directory, named on the command line"),
    (
        "gateways/src/reconcile/execute.rs",
        "create_dir_all",
        "done as the user who decides what is in the home",
    ),
    (
        "gateways/src/reconcile/boot_log.rs",
        "create_dir_all",
        "done as the user who decides what is in the home",
    ),
    ("gatevisor/src/reconcile.rs", "create_dir_all", "done as the user who decides what is in the home"),
    ("gatevisor/src/host_service/mod.rs", "create_dir_all", "a directory of systemd's, or the user's own"),
    ("gatevisor/src/import.rs", "create_dir_all", "above a new home, where nobody decides but its maker"),
];

/// The programs that root runs where others own what is there.
const LED_BY_PATHS: [&str; 9] =
    ["applets", "boot", "client", "doctor", "gateways", "gatevisor", "init", "logd", "logreader"];

/// What goes where a whole path leads: by links and mounts of whoever owns a directory on the way.
/// `by_path` goes there, too.
const BY_PATH: [&str; 32] = [
    "fs::metadata(",
    "fs::symlink_metadata(",
    "fs::read_dir(",
    "fs::read_link(",
    "fs::canonicalize(",
    "fs::read(",
    "fs::read_to_string(",
    "fs::remove_file(",
    "fs::remove_dir(",
    "fs::rename(",
    "fs::create_dir(",
    "fs::write(",
    "fs::copy(",
    "fs::hard_link(",
    "fs::set_permissions(",
    "OpenOptions",
    "DirBuilder",
    "File::open(",
    "File::create(",
    ".canonicalize()",
    ".symlink_metadata()",
    ".exists()",
    ".read_dir()",
    ".read_link()",
    "path.is_dir()",
    "path().is_dir()",
    "(CWD,",
    "fs::CWD,",
    "inotify::add_watch(",
    ".add_by_path(",
    " statvfs(",
    "fs::open(",
];

/// What nobody but root and the kernel puts anything into.
const ROOTS_OWN: [&str; 4] = ["/proc", "/dev/", "/sys/", "/etc/"];

/// Who goes where a whole path leads all the same, and why that is no danger.
const LED_ALL_THE_SAME: [(&str, &str); 31] = [
    ("applets/src/contenv.rs", "a directory that is named on the command line, as s6 defines it"),
    ("applets/src/exec_line.rs", "a script that is executed as whoever runs it"),
    ("applets/src/links.rs", "an operator's own directory, named on the command line"),
    ("boot/src/accounts.rs", "files of /etc, named by a constant"),
    ("boot/src/hooks.rs", "the image's hooks, in a directory that is judged by a descriptor first"),
    ("boot/src/presence.rs", "a directory of root's in /run, which nobody else may write to"),
    ("boot/src/seed.rs", "what the image has, of which a copy is made"),
    (
        "boot/src/runtime_directories/mod.rs",
        "the place of an unprivileged user, and markers of root's in /run and /",
    ),
    ("gatevisor/src/container_scandir.rs", "a link in /run that counts only where it is root's"),
    ("gatevisor/src/host_service/former.rs", "a directory of systemd's, or as no root in the user's own"),
    ("gatevisor/src/host_service/mod.rs", "a directory of systemd's, or as no root in the user's own"),
    ("gatevisor/src/import.rs", "a new home, where root decides or a user makes what is the user's"),
    ("gatevisor/src/init.rs", "files of /etc, named by a constant"),
    ("gatevisor/src/init/become_supervisor.rs", "this program, and the one that the command names"),
    ("gatevisor/src/init/home.rs", "done as the agent"),
    ("gatevisor/src/planned_stop.rs", "what the kernel tells of a process"),
    ("gatevisor/src/reconcile.rs", "done as the user who decides what is in the home"),
    ("gatevisor/src/up.rs", "done as the user who decides what is in the home"),
    ("gateways/src/agent/remember.rs", "a definition that an operator names, or noted as this user"),
    ("doctor/src/gather/booting.rs", "this program, compared with the one that process 1 names"),
    ("doctor/src/gather/lost.rs", "what the kernel tells of a process"),
    ("doctor/src/gather/memory.rs", "what the kernel tells of a control group"),
    ("doctor/src/gather/mod.rs", "this program, and marks of the image's in /"),
    ("gateways/src/incidents/processes.rs", "what the kernel tells of a process"),
    ("gateways/src/reconcile/boot_log.rs", "done as the user who decides what is in the home"),
    ("init/src/limits.rs", "what the kernel tells of this process"),
    ("init/src/memory.rs", "what the kernel tells of a control group"),
    (
        "init/src/scanner.rs",
        "the scandir that is held, by its number, or where there is no /proc by its path",
    ),
    ("logd/src/pipeline/sink.rs", "the working directory, from which a path is resolved"),
    (
        "logd/src/script/directory.rs",
        "a directory that is named on the command line of s6-log, as s6 defines it",
    ),
    (
        "logd/src/script/action_output.rs",
        "a file that is named on the command line of s6-log, as s6 defines it",
    ),
];

#[test]
fn where_others_own_what_is_on_the_way_root_is_led_by_the_resolver_alone() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for name in LED_BY_PATHS {
        sources(&crates.join(name).join("src"), &mut files);
    }
    let mut unused: Vec<_> = LED_ALL_THE_SAME.iter().map(|(name, _)| *name).collect();
    let mut wrong = Vec::new();
    for file in &files {
        let name = file.strip_prefix(crates).unwrap().to_string_lossy().into_owned();
        for line in program(file) {
            let is_led = BY_PATH.iter().any(|word| line.contains(word));
            if !is_led || line.starts_with("use ") || ROOTS_OWN.iter().any(|place| line.contains(place)) {
                continue;
            }
            if LED_ALL_THE_SAME.iter().any(|(allowed, _)| *allowed == name) {
                unused.retain(|allowed| *allowed != name);
            } else {
                wrong.push(format!("{name}: {}", line.trim()));
            }
        }
    }
    assert_eq!(wrong, [""; 0], "use gatevisor_paths::by_path, or say here why not");
    assert_eq!(unused, [""; 0], "these are not needed any more");
}

/// Returns the files of programs, without those of tests.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && !["tests", "examples", "target"].iter().any(|name| path.ends_with(name)) {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// Returns the lines of a program, without its comments and its tests, which are at the end.
fn program(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().take_while(|line| *line != "#[cfg(test)]");
    lines.filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned).collect()
}

#[test]
fn nothing_but_the_walk_recurses_and_nothing_but_the_way_to_a_home_makes_what_is_missing() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    sources(crates, &mut files);
    assert!(files.len() > 100, "where are the programs?");
    let mut unused: Vec<_> = ALLOWED.to_vec();
    for file in &files {
        let name = file.strip_prefix(crates).unwrap().to_string_lossy().into_owned();
        for line in program(file) {
            for word in FORBIDDEN.iter().filter(|word| line.contains(**word)) {
                let is_allowed = ALLOWED.iter().any(|(path, allowed, _)| *path == name && allowed == word);
                assert!(is_allowed, "{name} has `{word}`: use gatevisor-paths, or say here why not: {line}");
                unused.retain(|(path, allowed, _)| !(*path == name && allowed == word));
            }
        }
    }
    assert_eq!(unused, [], "these are not needed any more");
}
