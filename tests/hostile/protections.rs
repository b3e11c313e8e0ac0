//! The same attacks with the kernel's protections of links, FIFOs and files in sticky directories
//! off and on.
//!
//! These settings hold for the whole machine. So these tests run alone (`.config/nextest.toml`). A
//! process that waits for the end of this one restores the settings, however a test ends.
#![expect(clippy::print_stderr, reason = "what was not tested must be seen")]

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::{attacks, restart, support};

const SWITCHES: [&str; 4] =
    ["protected_symlinks", "protected_hardlinks", "protected_fifos", "protected_regular"];

/// The process that restores everything when its input ends.
struct Protections {
    guard: Child,
    until: Option<ChildStdin>,
}

impl Protections {
    /// Sets all of them. Returns `None`, with a message, if this machine does not allow it.
    fn all(value: &str) -> Option<Self> {
        support::need_root();
        let path = |name: &str| format!("/proc/sys/fs/{name}");
        let mut words = String::from("trap '' TERM INT HUP; read -r _");
        for name in SWITCHES {
            let before = fs::read_to_string(path(name)).ok()?;
            words += &["; echo ", before.trim(), " > ", &path(name)].concat();
        }
        let mut command = Command::new("sh");
        command.args(["-c", &words]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut guard = support::spawn(command.process_group(0)).unwrap();
        let until = guard.stdin.take();
        let protections = Self { guard, until };
        let refused = SWITCHES.iter().any(|name| fs::write(path(name), value).is_err());
        if refused {
            eprintln!("SKIPPED, AND NOTHING WAS TESTED: fs.{} cannot be set here", SWITCHES.join(", fs."));
            return None;
        }
        Some(protections)
    }
}

impl Drop for Protections {
    fn drop(&mut self) {
        if let Some(mut until) = self.until.take() {
            let _ = until.write_all(b"\n");
        }
        let _ = self.guard.wait();
    }
}

fn all_hold_with(value: &str) {
    if let Some(_protections) = Protections::all(value) {
        // Each attack has a cell of its own, so two groups can run at a time. No other test uses
        // the processors meanwhile.
        let halves = [[restart::ALL, attacks::trees::ALL], [attacks::homes::ALL, attacks::clients::ALL]];
        std::thread::scope(|scope| {
            for half in halves {
                scope.spawn(move || half.into_iter().for_each(restart::in_cells));
            }
        });
    }
}

#[test]
fn attacks_without_protections_of_the_kernel() {
    all_hold_with("0");
}

#[test]
fn attacks_with_protections_of_the_kernel() {
    all_hold_with("1");
}
