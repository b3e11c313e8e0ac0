//! Root's terminal, where root works in a home of somebody else.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use rustix::process::Signal;
use rustix::termios::{Winsize, tcsetwinsize};

use crate::home::Home;
use crate::support::processes::{self, Held};
use crate::support::{is_root, soon, waiting};
use crate::terminal;

/// Who owns the home.
const OWNER: u32 = 65_534;

/// Returns whether a process runs as the owner of the home.
fn is_owners(pid: i32) -> bool {
    fs::metadata(format!("/proc/{pid}/stat")).is_ok_and(|seen| seen.uid() == OWNER)
        || fs::read_to_string(format!("/proc/{pid}/status"))
            .is_ok_and(|status| status.contains(&format!("\nUid:\t{OWNER}\t")))
}

/// Asserts that a process has a terminal neither as its own nor open.
fn has_not(pid: i32, side: &File) {
    let said = processes::describe(pid);
    let Some(stat) = processes::stat(pid) else { return };
    assert_ne!(u64::try_from(stat.terminal).unwrap(), side.metadata().unwrap().rdev(), "{said}");
    let name = fs::read_link(format!("/proc/self/fd/{}", side.as_raw_fd())).unwrap();
    // It may have ended since it was listed.
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return };
    let has = descriptors.flatten().any(|open| fs::read_link(open.path()).is_ok_and(|open| open == name));
    assert!(!has, "{said}");
}

/// A process that the owner may trace, and that has root's terminal, would type into root's shell.
#[test]
fn no_process_of_the_owner_has_the_terminal_of_root() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    fs::set_permissions(home.beside(""), fs::Permissions::from_mode(0o755)).unwrap();
    chown(home.path(), Some(OWNER), Some(OWNER)).unwrap();
    for (words, begun) in
        [(["web", "--listen=127.0.0.1:0"].as_slice(), "token-read-only`"), (["top"].as_slice(), "supervisor")]
    {
        let (roots, side) = terminal::terminal();
        let winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&side, winsize).unwrap();
        let mut child = terminal::on(&home.command(words), &side).spawn().unwrap();
        terminal::until_seen(&roots, begun);
        let owned: Vec<i32> = home.processes().into_iter().filter(|pid| is_owners(*pid)).collect();
        assert!(!owned.is_empty(), "{words:?}: nothing runs as the owner");
        for pid in owned {
            has_not(pid, &side);
        }
        processes::signal(i32::try_from(child.id()).unwrap(), Signal::TERM);
        let held = Held::of(i32::try_from(child.id()).unwrap()).unwrap();
        let in_time = held.gone_by(soon());
        held.kill();
        child.wait().unwrap();
        assert!(in_time, "{words:?} did not end");
    }
}

/// What is told may be a program of the owner's, which root starts by a test.
#[test]
fn no_program_that_alerts_start_has_the_terminal_of_root() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    fs::set_permissions(home.beside(""), fs::Permissions::from_mode(0o755)).unwrap();
    let begun = home.path().join("begun");
    let settings = home.path().join("gatevisor.toml");
    let script = format!("echo $$ >{0}.new; mv {0}.new {0}; exec sleep 1000", begun.display());
    let text = format!("[[alerts.to]]\nkind = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n");
    fs::write(&settings, text).unwrap();
    fs::set_permissions(&settings, fs::Permissions::from_mode(0o600)).unwrap();
    for path in [home.path(), &settings] {
        chown(path, Some(OWNER), Some(OWNER)).unwrap();
    }
    let (_roots, side) = terminal::terminal();
    let mut child = terminal::on(&home.command(["alerts", "test"]), &side).spawn().unwrap();
    let pid: i32 = waiting::polled("the program", || fs::read_to_string(&begun).ok()).trim().parse().unwrap();
    let program = Held::of(pid).unwrap();
    assert!(is_owners(pid), "{}", processes::describe(pid));
    has_not(pid, &side);
    program.kill();
    let held = Held::of(i32::try_from(child.id()).unwrap()).unwrap();
    let in_time = held.gone_by(soon());
    held.kill();
    child.wait().unwrap();
    assert!(in_time, "it did not end");
}
