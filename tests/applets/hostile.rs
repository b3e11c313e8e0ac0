//! The applets on service directories that hold what no supervisor wrote.
//!
//! Whatever is in place of a file, each tool ends by itself, prints at most one line of messages,
//! and writes only to a FIFO.
#![expect(clippy::match_same_arms, reason = "the tables are read tool by tool")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::{TempDir, tempdir};

use crate::both::{Fake, our_command};
use crate::support::wrong::{EVERY, PRECIOUS, Wrong};
use crate::support::{need_root, processes::Held, soon};

/// Every tool that looks at a service directory, with its options; each has a deadline.
const ASKED: [(&str, &str); 14] = [
    ("s6-svok", ""),
    ("s6-svstat", ""),
    ("s6-svstat", "-uwNrpgest"),
    ("s6-svstat", "-o signum,updownsince,readysince,updownfor,readyfor"),
    ("s6-svdt", ""),
    ("s6-svdt", "-s -n 3"),
    ("s6-svwait", "-t 20 -U"),
    ("s6-svwait", "-t 20 -D"),
    ("s6-svwait", "-t 20 -o -r"),
    ("s6-svc", "-a"),
    ("s6-svc", "-T 20 -wU -u"),
    ("s6-svc", "-T 20 -wD -d"),
    ("s6-svc", "-T 20 -wr -r"),
    ("s6-svdt-clear", ""),
];

/// A warning that is correct for these services.
const NO_READINESS: &str = "has no notification-fd";

/// A service as a supervisor left it, held by the test as a supervisor holds it.
fn supervised() -> (TempDir, Fake) {
    let root = tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let fake = Fake::service(root.path().join("web"));
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/tests/golden");
    fs::copy(golden.join("up.status"), fake.dir.join("supervise/status")).unwrap();
    fs::copy(golden.join("several.death_tally"), fake.dir.join("supervise/death_tally")).unwrap();
    fs::create_dir(fake.dir.join("event")).unwrap();
    (root, fake)
}

/// Runs a tool, which must end by itself as documented. Returns its exit code.
#[track_caller]
fn ends(mut command: Command, name: &str, what: &str) -> i32 {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let held = Held::of(i32::try_from(child.id()).unwrap()).expect("it is our child");
    if !held.gone_by(soon()) {
        held.kill();
        panic!("{what}: it does not end");
    }
    let output = child.wait_with_output().unwrap();
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let code = output.status.code().unwrap_or_else(|| panic!("{what}: {:?}: {stderr}", output.status));
    match code {
        0 => assert!(stderr.is_empty() || stderr.contains(NO_READINESS), "{what}: {stderr}"),
        1 => assert!(stdout.is_empty() && stderr.lines().count() <= 1, "{what}: {stdout} {stderr}"),
        99 | 102 | 111 => {
            let said: Vec<&str> = stderr.lines().filter(|line| !line.contains(NO_READINESS)).collect();
            assert_eq!((&*stdout, said.len()), ("", 1), "{what}: {stderr}");
            assert!(said.concat().starts_with(&format!("{name}: fatal: ")), "{what}: {stderr}");
        }
        _ => panic!("{what}: exit code {code}: {stderr}"),
    }
    code
}

/// Puts every wrong thing in place of `entry` and runs every tool. `expected` gives the exit codes
/// that are allowed for `asked`.
fn check(entry: &str, expected: impl Fn(Wrong, &str) -> &'static [i32]) {
    for wrong in EVERY {
        let (_root, fake) = supervised();
        let path = fake.dir.join(entry);
        let _held = wrong.replace(&path);
        for (name, options) in ASKED {
            let mut command = our_command(name);
            command.args(options.split_whitespace()).arg(&fake.dir);
            let what = format!("{name} {options} with {wrong:?} as {entry}");
            let code = ends(command, name, &what);
            let allowed = expected(wrong, name);
            assert!(allowed.contains(&code), "{what}: {code} is not among {allowed:?}");
            if wrong == Wrong::File && name != "s6-svdt-clear" {
                assert_eq!(fs::read_to_string(&path).unwrap(), PRECIOUS, "{what}");
            }
        }
    }
}

#[test]
fn a_status_that_is_none_is_an_error_line_of_every_tool_that_needs_one() {
    check("supervise/status", |wrong, name| match name {
        "s6-svok" | "s6-svdt" | "s6-svdt-clear" => &[0],
        "s6-svstat" if wrong.may_be_right() => &[0, 111],
        "s6-svstat" => &[111],
        // Some commands succeed once they are sent. Nothing answers the others here.
        "s6-svc" => &[0, 99, 111],
        _ if wrong.may_be_right() => &[0, 99, 111],
        _ => &[111],
    });
}

#[test]
fn a_death_tally_that_is_none_is_an_error_line_of_the_tool_that_reads_it() {
    check("supervise/death_tally", |wrong, name| match (name, wrong) {
        ("s6-svok" | "s6-svstat", _) => &[0],
        // This is read as no deaths, or as one or two deaths long ago.
        ("s6-svdt", Wrong::Missing | Wrong::Empty | Wrong::DanglingLink) => &[0],
        ("s6-svdt", Wrong::Random(..)) => &[0, 111],
        ("s6-svdt", _) => &[111],
        ("s6-svdt-clear", Wrong::Directory | Wrong::FullDirectory) => &[111],
        ("s6-svdt-clear", _) => &[0],
        _ => &[0, 99],
    });
}

#[test]
fn a_control_fifo_that_is_none_is_not_supervised_and_never_written_to() {
    check("supervise/control", |wrong, name| match (name, wrong) {
        ("s6-svdt" | "s6-svdt-clear", _) => &[0],
        // The FIFO has a reader.
        ("s6-svok" | "s6-svstat", Wrong::HeldFifo) => &[0],
        (_, Wrong::HeldFifo) => &[0, 99],
        ("s6-svok", Wrong::Loop | Wrong::DanglingLink | Wrong::LinkToZeros) => &[1, 111],
        ("s6-svok", _) => &[1],
        ("s6-svstat", Wrong::Missing | Wrong::Fifo | Wrong::Socket) => &[1],
        ("s6-svstat", _) => &[111],
        (_, Wrong::Missing | Wrong::Fifo | Wrong::Socket) => &[102],
        _ => &[111],
    });
}

#[test]
fn an_event_directory_that_is_none_is_an_error_line_of_who_listens() {
    check("event", |wrong, name| match (name, wrong) {
        ("s6-svok" | "s6-svstat" | "s6-svdt" | "s6-svdt-clear", _) => &[0],
        (_, Wrong::Directory | Wrong::FullDirectory) => &[0, 99],
        ("s6-svwait", Wrong::Missing | Wrong::DanglingLink) => &[102],
        ("s6-svwait", _) => &[111],
        _ => &[0, 102, 111],
    });
}

#[test]
fn a_supervise_directory_that_is_none_is_not_supervised() {
    check("supervise", |_, name| match name {
        "s6-svok" => &[1, 111],
        "s6-svstat" => &[1, 111],
        "s6-svdt" => &[0, 111],
        _ => &[0, 102, 111],
    });
}

#[test]
fn what_may_not_be_looked_at_is_an_error_line() {
    need_root();
    // The directory of the binary may be closed to that user, so the test opens the binary.
    let words =
        "exec 9< \"$0\"; exec setpriv --reuid=12345 --regid=12345 --clear-groups /proc/self/fd/9 \"$@\"";
    for entry in ["supervise/status", "supervise/death_tally", "supervise/control", "event", "supervise"] {
        let (_root, fake) = supervised();
        fs::set_permissions(fake.dir.join("supervise/control"), fs::Permissions::from_mode(0o666)).unwrap();
        fs::set_permissions(fake.dir.join("event"), fs::Permissions::from_mode(0o777)).unwrap();
        fs::set_permissions(fake.dir.join(entry), fs::Permissions::from_mode(0o000)).unwrap();
        for (name, options) in ASKED {
            let mut command = Command::new("sh");
            command.arg("-c").arg(words).arg(env!("CARGO_BIN_EXE_gatevisor")).args(["s6", name]);
            command.args(options.split_whitespace()).arg(&fake.dir);
            let code = ends(command, name, &format!("{name} {options} without access to {entry}"));
            let fails = matches!(
                (entry, name),
                ("supervise/status", "s6-svstat" | "s6-svwait")
                    | ("supervise/death_tally", "s6-svdt")
                    | ("supervise/control", "s6-svok" | "s6-svstat" | "s6-svc")
                    | ("event", "s6-svwait")
                    | ("supervise", "s6-svok" | "s6-svstat" | "s6-svdt" | "s6-svwait" | "s6-svc")
                    | (_, "s6-svdt-clear")
            );
            assert!(!fails || code == 111, "{name} {options} without access to {entry}: {code}");
        }
    }
}
