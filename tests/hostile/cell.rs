//! Containers without an engine. Each attack on a boot has a new one.
//!
//! *Lives here:* [`Cell`], a root directory of its own in which the image's entry point is PID 1
//! (`cell.sh`); stopping it and starting it again; running scripts in it. *Does not live here:* any
//! expectation about it.
//!
//! A container of a real engine takes a second to start, and this one a tenth. It has Docker's
//! capabilities and an overlay of two layers. Like a container whose engine allows user namespaces,
//! it has no filter of system calls. `restart.rs` runs the same attacks on the engine.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::fs::inotify::WatchFlags;
use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use crate::layout::Layout;
use crate::support::processes::{Held, process_id};
use crate::support::{self, soon, waiting};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/hostile/cell.sh");
/// What the command prints when the boot is over.
pub const BOOTED: &str = "the command runs";
/// The file with the images' health checks.
const DOCKERFILE: &str = include_str!("../../image/Dockerfile");

/// Returns the program that is attacked.
fn program() -> PathBuf {
    std::env::var_os("GATEVISOR_BIN").map_or_else(|| env!("CARGO_BIN_EXE_gatevisor").into(), PathBuf::from)
}

/// Returns the command with which the engine checks the health of the image with Hermes.
pub fn health() -> String {
    let line = DOCKERFILE.lines().rfind(|line| line.starts_with("HEALTHCHECK")).expect("there is one");
    let (_, words) = line.split_once("CMD").expect("it is a command");
    words.replace(['[', ']', ',', '"'], " ").trim().to_owned()
}

/// The layer of an image, which is removed with its last user.
pub type Image = Arc<TempDir>;

/// Returns the layer of an image. All cells of this process share it as long as one of them holds
/// it.
pub fn image(layout: Layout) -> Image {
    static HERMES: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
    static MINIMAL: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
    let image = match layout {
        Layout::Hermes => &HERMES,
        Layout::Minimal => &MINIMAL,
    };
    let mut image = image.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(image) = image.upgrade() {
        return image;
    }
    support::need_root();
    let directory = TempDir::new_in(support::home_of_worlds()).unwrap();
    let mut make = Command::new(SCRIPT);
    make.arg("make").arg(directory.path().join("image")).arg(program()).arg(layout.name());
    let laid_out = support::output(&mut make).unwrap();
    assert!(laid_out.status.success(), "no image: {laid_out:?}");
    let shared = Arc::new(directory);
    *image = Arc::downgrade(&shared);
    shared
}

/// How a cell shall be started.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// The image.
    pub layout: Layout,
    /// Variables `NAME=value`, which replace those of the image.
    pub variables: Vec<String>,
    /// A script of bash that runs before the root directory changes; see `cell.sh`.
    pub mounts: String,
    /// The command that starts the cell instead of `unshare`, such as a tracer.
    pub under: Vec<String>,
}

/// A container without an engine.
pub struct Cell {
    directory: TempDir,
    image: Image,
    start: Start,
    first: Option<Child>,
    boots: usize,
}

impl Cell {
    /// Makes a new one, and returns when its command runs.
    ///
    /// # Errors
    /// Its output, if it does not boot.
    pub fn started(start: Start) -> Result<Self, String> {
        let directory = TempDir::new_in(support::home_of_worlds()).unwrap();
        for name in ["upper", "work", "root", "volume", "others/home", "others/scandir"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        // The attacker also works in the volume from outside.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        chown(directory.path().join("volume"), Some(10_000), Some(10_000)).unwrap();
        let mut variables = start.layout.variables();
        variables.extend(start.variables.iter().cloned());
        fs::write(directory.path().join("variables"), variables.join("\n") + "\n").unwrap();
        fs::write(directory.path().join("mounts"), &start.mounts).unwrap();
        let mut cell = Self { directory, image: image(start.layout), start, first: None, boots: 0 };
        cell.boot()?;
        Ok(cell)
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Boots it, and returns when its command runs. The error is its output.
    pub fn boot(&mut self) -> Result<(), String> {
        let said = fs::File::options().create(true).append(true).open(self.path("said")).unwrap();
        // The cell ends with this process, however that ends.
        let words = ["setpriv", "--pdeathsig", "KILL"].into_iter();
        let words: Vec<&str> =
            words.chain(self.start.under.iter().map(String::as_str)).chain([SCRIPT]).collect();
        let (first, rest) = words.split_first().unwrap();
        let mut command = Command::new(first);
        command.args(rest).arg("boot").arg(self.image.path().join("image")).arg(self.directory());
        // The supervisor forwards signals without a script to the command, whose end would end the
        // container.
        let run = format!("trap '' HUP USR1 USR2 WINCH ALRM; echo '{BOOTED}'; exec /usr/bin/sleep infinity");
        command.args(["/bin/sh", "-c", &run]).stdin(Stdio::null());
        command.stdout(said.try_clone().unwrap()).stderr(said).process_group(0);
        let child = support::spawn(&mut command).unwrap();
        let held = Held::of(i32::try_from(child.id()).unwrap());
        self.first = Some(child);
        self.boots += 1;
        let watch = waiting::watch(&self.path("said"), WatchFlags::MODIFY);
        let deadline = soon() + Duration::from_secs(40);
        while self.said().matches(BOOTED).count() < self.boots {
            let is_gone = held.as_ref().is_none_or(Held::is_gone);
            if is_gone || Instant::now() > deadline {
                self.boots = self.said().matches(BOOTED).count();
                let why = if is_gone { "the boot failed" } else { "the boot does not end" };
                return Err(format!("{why}; it said: {}", self.said()));
            }
            waiting::readable(&watch, Instant::now() + Duration::from_millis(200));
            waiting::drain(&watch);
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// Returns everything that it printed.
    pub fn said(&self) -> String {
        fs::read(self.path("said"))
            .map(|said| String::from_utf8_lossy(&said).into_owned())
            .unwrap_or_default()
    }

    /// Returns the number of its first process on this machine.
    pub fn pid(&self) -> i32 {
        fs::read_to_string(self.path("pid")).unwrap().trim().parse().unwrap()
    }

    /// Asks for the end, and returns how it ended. The error says that it does not end.
    pub fn stop(&mut self) -> Result<ExitStatus, String> {
        let _ = kill_process(process_id(self.pid()), Signal::TERM);
        let mut child = self.first.take().expect("it was started");
        let held = Held::of(i32::try_from(child.id()).unwrap());
        let in_time = held.is_none_or(|held| held.gone_by(soon()));
        if !in_time {
            let _ = kill_process(process_id(self.pid()), Signal::KILL);
        }
        let status = child.wait().unwrap();
        if in_time { Ok(status) } else { Err(format!("it does not obey TERM; it said: {}", self.said())) }
    }

    /// Returns the command that runs this script in it, as `docker exec --user` would.
    pub fn command(&self, user: u32, words: &[&str]) -> Command {
        let capabilities = fs::read_to_string(self.path("capabilities")).unwrap();
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid().to_string(), "--mount", "--pid", "--ipc", "--uts", "--root"]);
        command.args([
            "--",
            "/usr/bin/setpriv",
            "--bounding-set",
            capabilities.trim(),
            "--inh-caps=-all",
            "--clear-groups",
        ]);
        command.args([format!("--reuid={user}"), format!("--regid={user}")]);
        command.args(["/usr/bin/env", "-i"]);
        command.args(fs::read_to_string(self.path("variables")).unwrap().lines());
        command.arg("HOME=/").args(words);
        command
    }

    /// Runs a script in it. Returns the exit code and the output.
    pub fn exec_as(&self, user: u32, words: &[&str]) -> (i32, String) {
        let output = support::output(&mut self.command(user, words)).expect("`nsenter` is installed");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
        (code, text(&output.stdout) + &text(&output.stderr))
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        if let Some(mut child) = self.first.take() {
            let _ = kill_process(process_id(self.pid()), Signal::KILL);
            let _ = child.wait();
        }
    }
}
