//! Running our tool and s6's, and a genuine s6-svscan.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use gatevisor_client::ScanDir;
use rustix::fs::inotify::WatchFlags;
use rustix::process::Signal;

use crate::support::{World, processes, soon, waiting};

/// What a tool printed and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    pub stdout: String,
    pub code: Option<i32>,
}

/// Returns the command that is our tool.
pub fn our_command(name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatevisor"));
    command.args(["s6", name]).stdin(Stdio::null());
    command
}

pub fn run(mut command: Command) -> (Ran, String) {
    let output = command.output().unwrap_or_else(|error| {
        panic!("cannot run {command:?}: {error}; these tests need s6 and execline (Debian's packages)")
    });
    let Output { status, stdout, stderr } = output;
    let stdout = String::from_utf8(stdout).unwrap();
    (Ran { stdout, code: status.code() }, String::from_utf8_lossy(&stderr).into_owned())
}

/// Runs our tool, and returns its output and its messages.
pub fn ours(name: &str, arguments: &[impl AsRef<OsStr>]) -> (Ran, String) {
    let mut command = our_command(name);
    command.args(arguments);
    run(command)
}

/// Runs our tool and returns its exit code.
pub fn our_code(name: &str, arguments: &[impl AsRef<OsStr>]) -> i32 {
    ours(name, arguments).0.code.expect("it exits by itself")
}

/// Runs s6's tool.
pub fn theirs(name: &str, arguments: &[impl AsRef<OsStr>]) -> Ran {
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null());
    run(command).0
}

/// Returns the words of a line and then a path.
pub fn words(options: &str, path: &Path) -> Vec<String> {
    let path = path.to_str().unwrap().to_owned();
    options.split_whitespace().map(str::to_owned).chain([path]).collect()
}

/// Replaces each number of seconds by a fixed text.
pub fn without_ages(mut ran: Ran) -> Ran {
    let words: Vec<&str> = ran.stdout.split(' ').collect();
    let mut out = Vec::new();
    for (place, word) in words.iter().enumerate() {
        let age = words.get(place + 1).is_some_and(|next| next.starts_with("seconds"));
        out.push(if age && word.parse::<u64>().is_ok() { "N" } else { word });
    }
    ran.stdout = out.join(" ");
    ran
}

/// As [`agree`], for a wait that may time out after a moment.
///
/// s6's tool starts a helper first. If the processor is busy for that moment, the tool has waited
/// only for the helper, and ends with 111. Then it is asked again.
pub fn agree_on_waiting(name: &str, arguments: &[String]) -> Ran {
    let asked = waiting::polled("s6's tool to have the processor in time", || {
        Some(theirs(name, arguments)).filter(|ran| ran.code != Some(111))
    });
    let (ours, said) = ours(name, arguments);
    assert_eq!(ours, asked, "{name} {arguments:?}, ours first; ours said: {said}");
    asked
}

/// Checks that both tools print the same, except for ages, and end the same.
pub fn agree(name: &str, arguments: &[String]) -> Ran {
    let theirs = without_ages(theirs(name, arguments));
    let (ours, said) = ours(name, arguments);
    assert_eq!(without_ages(ours), theirs, "{name} {arguments:?}, ours first; ours said: {said}");
    theirs
}

/// A service directory whose supervisor is the test: it holds the control FIFO and the lock.
///
/// To know whether a service is supervised, s6 2.11 looks at the lock. Newer versions, and ours,
/// look for a reader of the FIFO.
pub struct Fake {
    pub dir: PathBuf,
    pub control: File,
    pub lock: OwnedFd,
}

impl Fake {
    pub fn at(dir: PathBuf, control: &str) -> Self {
        let fifo = dir.join(control);
        fs::create_dir_all(fifo.parent().unwrap()).unwrap();
        let parent = File::open(fifo.parent().unwrap()).unwrap();
        let lock = gatevisor_sys::file::lock(&parent, "lock").unwrap().expect("nobody else holds it");
        Self { control: waiting::fifo(&fifo), dir, lock }
    }

    pub fn service(dir: PathBuf) -> Self {
        Self::at(dir, gatevisor_wire::files::CONTROL)
    }

    /// Replaces the status as a supervisor does.
    pub fn publish(&self, status: &[u8]) {
        let supervise = self.dir.join("supervise");
        fs::write(supervise.join("status.new"), status).unwrap();
        fs::rename(supervise.join("status.new"), supervise.join("status")).unwrap();
    }

    /// Returns the bytes that have arrived, waiting for the first.
    pub fn received(&self) -> String {
        assert!(waiting::readable(&self.control, soon()), "no command arrived");
        let mut bytes = [0; 100];
        let count = rustix::io::read(&self.control, &mut bytes).unwrap();
        String::from_utf8(bytes.into_iter().take(count).collect()).unwrap()
    }
}

/// A supervisor, s6's or ours, that the test started on the scandir of a world.
pub struct Supervisor(Child);

impl Supervisor {
    /// Starts s6's own s6-svscan; returns when it reads its control FIFO.
    pub fn genuine(world: &World) -> Self {
        Self::start(world, Command::new("s6-svscan"))
    }

    /// Starts our s6-svscan.
    pub fn ours(world: &World) -> Self {
        Self::start(world, our_command("s6-svscan"))
    }

    fn start(world: &World, mut command: Command) -> Self {
        let scandir = ScanDir::new(world.scandir());
        let control = scandir.control_path();
        if !control.exists() {
            drop(waiting::fifo(&control));
        }
        let opened = waiting::watch(&control, WatchFlags::OPEN);
        let said = File::create(world.root().join("said")).unwrap();
        // Always name the scandir: without a name, s6-svscan takes the current directory.
        command.arg("--").arg(world.scandir()).current_dir(world.root());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).spawn().unwrap();
        let deadline = soon();
        while !scandir.running().unwrap() {
            assert!(waiting::readable(&opened, deadline), "no supervisor came up");
            waiting::drain(&opened);
        }
        Self(child)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).unwrap();
        processes::signal(pid, Signal::TERM);
        let held = processes::Held::of(pid);
        assert!(held.is_none_or(|held| held.gone_by(soon())), "the supervisor did not end");
        let _ = self.0.wait();
    }
}
