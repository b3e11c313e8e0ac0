//! A pairing of a supervisor and tools, a scandir under it, and a text for what a status file
//! holds.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{Command, Output};

use rustix::fs::inotify::WatchFlags;

use rustix::process::Signal;

use crate::support::processes::Held;
use crate::support::service::Service;
use crate::support::{World, soon, waiting};

/// The file in which a run writes one line for each case. `scripts/conformance.sh` makes its table
/// of them.
const RECORD: &str = "GATEVISOR_CONFORMANCE_RECORD";

/// Who made a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    S6,
    Ours,
}

/// A supervisor and the tools that talk to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pairing {
    pub supervisor: Maker,
    pub tools: Maker,
}

/// The pairings for which a case does not apply.
#[derive(Debug, Clone, Copy)]
#[expect(non_camel_case_types, reason = "the name tables read like sentences")]
pub enum Skipped {
    with_our_supervisor,
    with_s6_as_supervisor,
    with_our_tools,
    with_s6_tools,
}

impl Skipped {
    fn covers(self, pairing: Pairing) -> bool {
        match self {
            Self::with_our_supervisor => pairing.supervisor == Maker::Ours,
            Self::with_s6_as_supervisor => pairing.supervisor == Maker::S6,
            Self::with_our_tools => pairing.tools == Maker::Ours,
            Self::with_s6_tools => pairing.tools == Maker::S6,
        }
    }
}

fn record(pairing: Pairing, case: &str, what: &str) {
    let Some(path) = std::env::var_os(RECORD) else { return };
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    let line = format!("{}\t{case}\t{what}\n", pairing.name());
    file.write_all(line.as_bytes()).unwrap();
}

/// Runs one case on one pairing, unless the table of names gives a reason to skip it.
pub fn run(pairing: Pairing, module: &str, name: &str, skips: &[(Skipped, &str)], case: fn(Pairing)) {
    let chapter = module.rsplit("::").next().unwrap_or(module);
    let case_name = format!("{chapter}: {}", name.replace('_', " "));
    record(pairing, &case_name, "begun");
    if let Some((_, reason)) = skips.iter().find(|(skipped, _)| skipped.covers(pairing)) {
        record(pairing, &case_name, &format!("skipped\t{reason}"));
        return;
    }
    case(pairing);
    record(pairing, &case_name, "passed");
}

/// Makes one test of each case and pairing.
macro_rules! cases {
    ($($(#[skip($skipped:ident, $reason:literal)])* fn $name:ident($pairing:ident) $body:block)+) => {
        $(fn $name($pairing: $crate::bed::Pairing) $body)+
        $crate::bed::cases!(@pairing s6_with_s6_tools, S6, S6, $($name [$(($skipped, $reason))*])+);
        $crate::bed::cases!(@pairing ours_with_s6_tools, Ours, S6, $($name [$(($skipped, $reason))*])+);
        $crate::bed::cases!(@pairing s6_with_our_tools, S6, Ours, $($name [$(($skipped, $reason))*])+);
        $crate::bed::cases!(@pairing ours_with_our_tools, Ours, Ours, $($name [$(($skipped, $reason))*])+);
    };
    (@pairing $module:ident, $supervisor:ident, $tools:ident, $($name:ident [$(($skipped:ident, $reason:literal))*])+) => {
        mod $module {
            use $crate::bed::{Maker, Pairing, Skipped, run};

            const PAIRING: Pairing = Pairing { supervisor: Maker::$supervisor, tools: Maker::$tools };

            $(
                #[test]
                fn $name() {
                    let skips: &[(Skipped, &str)] = &[$((Skipped::$skipped, $reason)),*];
                    let module = module_path!().trim_end_matches(concat!("::", stringify!($module)));
                    run(PAIRING, module, stringify!($name), skips, super::$name);
                }
            )+
        }
    };
}
pub(crate) use cases;

impl Pairing {
    pub fn name(self) -> &'static str {
        match (self.supervisor, self.tools) {
            (Maker::S6, Maker::S6) => "s6 with s6's tools",
            (Maker::Ours, Maker::S6) => "ours with s6's tools",
            (Maker::S6, Maker::Ours) => "s6 with our tools",
            (Maker::Ours, Maker::Ours) => "ours with our tools",
        }
    }

    /// Returns an empty scandir whose supervisor is not started yet.
    pub fn bed(self) -> Bed {
        let world = match self.supervisor {
            Maker::S6 => World::with(&[]).supervised_by(&["s6-svscan"]),
            Maker::Ours => World::with(&["--grace-ms", "60000", "--s6-timing"]),
        };
        Bed { world, pairing: self }
    }

    /// Returns an empty scandir, supervised.
    pub fn started(self) -> Bed {
        let mut bed = self.bed();
        bed.start();
        bed
    }
}

/// A scandir, its supervisor, and the tools.
pub struct Bed {
    world: World,
    pub pairing: Pairing,
}

impl Drop for Bed {
    fn drop(&mut self) {
        if self.is_running() && !std::thread::panicking() {
            self.signal(Signal::TERM);
            self.end_what_s6_leaves();
        }
    }
}

impl Deref for Bed {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Bed {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

/// How a tool ended, and what it printed.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// Returns what it printed if it ended with 0.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "a tool failed: {self:?}");
        self.out
    }
}

impl Bed {
    /// Asks for the end with a signal, and returns the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Waits until the supervisor has ended, and returns its exit code.
    pub fn ended(&mut self) -> Option<i32> {
        self.end_what_s6_leaves();
        self.world.ended().code()
    }

    /// Waits for the end of s6-svscan and kills what it leaves, because s6-svscan does not end
    /// orphans and ours does.
    fn end_what_s6_leaves(&self) {
        if self.pairing.supervisor == Maker::Ours || !self.is_running() {
            return;
        }
        if let Some(held) = Held::of(self.pid()) {
            held.until_gone("s6-svscan");
        }
        for held in self.processes().into_iter().filter_map(Held::of) {
            held.kill();
        }
    }

    /// Returns the command of a tool with its options, which spaces separate.
    pub fn command_of(&self, name: &str, options: &str) -> Command {
        let mut command = match self.pairing.tools {
            Maker::S6 => Command::new(name),
            Maker::Ours => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_gatevisor"));
                command.args(["s6", name]);
                command
            }
        };
        command.args(options.split_whitespace());
        command
    }

    /// Runs a tool on a directory.
    pub fn tool(&self, name: &str, options: &str, dir: &Path) -> Ran {
        let output = self.command_of(name, options).arg(dir).output();
        output.unwrap_or_else(|error| panic!("cannot run {name}: {error} (Debian's package `s6`?)")).into()
    }

    /// Sends a command to a service.
    #[track_caller]
    pub fn svc(&self, service: &Service, options: &str) {
        self.tool("s6-svc", options, service.dir.path()).ok();
    }

    /// Sends a command to the scandir's supervisor.
    #[track_caller]
    pub fn svscanctl(&self, options: &str) {
        self.tool("s6-svscanctl", options, &self.scandir()).ok();
    }

    /// Returns what `s6-svstat` prints, each number replaced by `N`.
    #[track_caller]
    pub fn svstat(&self, service: &Service, options: &str) -> String {
        without_numbers(&self.tool("s6-svstat", options, service.dir.path()).ok())
    }

    /// Sends a command after which the status is written anew, and returns the new status.
    #[track_caller]
    pub fn svc_and_see(&self, service: &Service, options: &str) -> String {
        let watch = waiting::watch(&service.path("supervise"), WatchFlags::MOVED_TO);
        self.svc(service, options);
        let deadline = soon();
        loop {
            assert!(waiting::readable(&watch, deadline), "no status after `{options}`: {}", state(service));
            if waiting::drain(&watch).iter().any(|name| name == "status") {
                return state(service);
            }
        }
    }
}

/// Returns a text for everything in the status file except its stamps and the process number.
pub fn state(service: &Service) -> String {
    words(&fs::read(service.path("supervise/status")).unwrap())
}

/// Asserts the state of a service that has just died; returns `false` if this machine is so slow
/// that the second until its next start is over.
pub fn is_while_it_rests(service: &Service, wanted: &str) -> bool {
    let state = state(service);
    if state.starts_with("up") {
        return false;
    }
    assert_eq!(state, wanted);
    true
}

fn words(bytes: &[u8]) -> String {
    assert_eq!(bytes.len(), 35, "a status of s6 2.11 has 35 bytes");
    let flags = bytes[34];
    let process = bytes[24..32].iter().any(|&byte| byte != 0);
    let mut words = String::from(match (process, flags & 2 != 0) {
        (true, false) => "up",
        (true, true) => "finishing",
        (false, false) => "down",
        (false, true) => "finishing without a process",
    });
    match u16::from_be_bytes([bytes[32], bytes[33]]) {
        0 => {}
        raw if raw % 128 == 0 => write!(words, " after {}", raw >> 8).unwrap(),
        raw => write!(words, " after signal {raw:x}").unwrap(),
    }
    for (bit, word) in [(1, "paused"), (4, "wanted"), (8, "ready"), (0xf0, "and bits of no meaning")] {
        if flags & bit != 0 {
            write!(words, ", {word}").unwrap();
        }
    }
    words
}

/// Waits until the status says this.
#[track_caller]
pub fn until_state(service: &Service, wanted: &str) {
    // The file is replaced as a whole, so it exists at any time.
    if state(service) == wanted {
        return;
    }
    let watch = waiting::watch(&service.path("supervise"), WatchFlags::MOVED_TO);
    let deadline = soon();
    loop {
        let now = state(service);
        if now == wanted {
            return;
        }
        assert!(
            waiting::readable(&watch, deadline),
            "waited for `{wanted}`, but it is `{now}`; {}",
            service.known_state()
        );
        waiting::drain(&watch);
    }
}

/// Replaces every number by `N`, because process numbers and ages do not matter.
pub fn without_numbers(line: &str) -> String {
    let mut out = String::new();
    for c in line.chars() {
        match c {
            '0'..='9' if out.ends_with('N') => {}
            '0'..='9' => out.push('N'),
            c => out.push(c),
        }
    }
    out
}
