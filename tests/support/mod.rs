//! What black-box tests of the supervisor share: a scandir of their own, services in it, and ways
//! to wait.
//!
//! *Lives here:* [`World`], one tempdir with one scandir and at most one supervisor; everything in
//! it is gone when it is dropped. *Does not live here:* any expectation about what a supervisor
//! does.
//!
//! Nothing here sleeps. Every wait is for an event, and after [`WAIT_LIMIT`] the event counts as
//! missing.
#![allow(dead_code, reason = "each suite uses its own part of this")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a panic in a test says what is wrong")]

pub mod processes;
pub mod running;
pub mod service;
pub mod waiting;
pub mod wrong;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use gatevisor_client::ScanDir;
use gatevisor_wire::scan::ScanCommand;
use rustix::fs::{Access, CWD, FileType, Mode, StatVfsMountFlags, access, inotify, mknodat, statvfs};
use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use processes::Held;
use service::Builder;

/// The deadline of every event. Only a failing test waits that long.
pub const WAIT_LIMIT: Duration = Duration::from_millis(WAIT_LIMIT_MS);
const WAIT_LIMIT_MS: u64 = 20_000;

/// The variable that marks every process below a supervisor of ours.
const MARK: &str = "GATEVISOR_TEST_WORLD";

/// The deadline in milliseconds that holds in this process now.
static CURRENT_WAIT_LIMIT_MS: AtomicU64 = AtomicU64::new(WAIT_LIMIT_MS);

pub fn soon() -> Instant {
    Instant::now() + Duration::from_millis(CURRENT_WAIT_LIMIT_MS.load(Ordering::Relaxed))
}

/// Changes the deadline of every wait in this process.
pub fn set_wait_limit(limit: Duration) {
    CURRENT_WAIT_LIMIT_MS.store(u64::try_from(limit.as_millis()).unwrap(), Ordering::Relaxed);
}

/// Makes a shell script that can be executed.
pub fn script(path: &Path, body: &str) {
    executable(path, &format!("#!/bin/sh\n{body}\n"));
}

/// Held exclusively while a process is forked, and shared while a program is written.
///
/// A process that is forked meanwhile would hold the new program open for writing until its own
/// exec, and a program that is open for writing cannot be executed.
static FORKING: RwLock<()> = RwLock::new(());

/// Starts a process. Tests that write programs must start every process with this function.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let _alone = FORKING.write().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}

/// Starts a process and waits for its end and its output.
pub fn output(command: &mut Command) -> io::Result<Output> {
    spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))?.wait_with_output()
}

/// Makes a file that can be executed. It appears complete, so a running supervisor never finds half
/// of it.
pub fn executable(path: &Path, content: &str) {
    let _shared = FORKING.read().unwrap_or_else(PoisonError::into_inner);
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, content).unwrap();
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&unfinished, path).unwrap();
}

/// Returns the directory in which worlds are made. It is in memory if programs may run there, as
/// the scandir of a container is.
///
/// A disk works too, but some disks need milliseconds for each file that replaces another. `TMPDIR`
/// overrides this.
pub fn home_of_worlds() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let usable = statvfs(memory).is_ok_and(|fs| !fs.f_flag.contains(StatVfsMountFlags::NOEXEC))
        && access(memory, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    if usable && std::env::var_os("TMPDIR").is_none() { memory.to_owned() } else { std::env::temp_dir() }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Ends a test that needs root.
pub fn need_root() {
    assert!(is_root(), "this test gives files to other users: run it as root, as CI does");
}

/// A tempdir with a scandir and its supervisor.
pub struct World {
    root: TempDir,
    /// The supervisor's program, and the words before its options.
    program: Vec<OsString>,
    options: Vec<OsString>,
    /// Shell words that run before the supervisor replaces the shell.
    prelude: &'static str,
    supervisor: Option<Child>,
}

impl World {
    /// Returns a world with an empty scandir whose supervisor is not started yet.
    ///
    /// The grace is longer than the tests' deadline, so a shutdown that needs the grace fails the
    /// test.
    pub fn new() -> Self {
        Self::with(&["--grace-ms", "60000"])
    }

    /// As `new`, with other options of the supervisor.
    pub fn with(options: &[&str]) -> Self {
        let root = TempDir::new_in(home_of_worlds()).unwrap();
        // Services of other users are in this directory too.
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(root.path().join("scan")).unwrap();
        fs::create_dir(root.path().join("scan/.s6-svscan")).unwrap();
        let options = options.iter().map(OsString::from).collect();
        let program = vec![env!("CARGO_BIN_EXE_gatevisor").into(), "supervise".into()];
        Self { root, program, options, prelude: "", supervisor: None }
    }

    /// Uses another supervisor, whose last argument is the scandir.
    pub fn supervised_by(mut self, program: &[&str]) -> Self {
        self.program = program.iter().map(OsString::from).collect();
        self
    }

    /// Gives the supervisor one more option, after those it has.
    pub fn option(mut self, option: impl Into<OsString>) -> Self {
        self.options.push(option.into());
        self
    }

    /// Returns a world with an empty scandir, supervised.
    pub fn started() -> Self {
        let mut world = Self::new();
        world.start();
        world
    }

    /// Lets a shell run `words` before it becomes the supervisor.
    pub fn prelude(mut self, words: &'static str) -> Self {
        self.prelude = words;
        self
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn scandir(&self) -> PathBuf {
        self.root().join("scan")
    }

    fn stderr_path(&self) -> PathBuf {
        self.root().join("said")
    }

    /// Begins a service called `name`.
    pub fn service(&self, name: impl AsRef<OsStr>) -> Builder<'_> {
        Builder::new(self, name.as_ref())
    }

    /// Returns the command that starts the supervisor, without its output.
    pub fn command(&self) -> Command {
        let mut command = Command::new("/bin/sh");
        let words = if self.prelude.is_empty() { ":" } else { self.prelude };
        command.arg("-c").arg(format!("{words}\nexec \"$0\" \"$@\"")).args(&self.program);
        command.args(&self.options).arg(self.scandir());
        command.env(MARK, self.root());
        command
    }

    /// Starts the supervisor and returns when it reads its control FIFO.
    pub fn start(&mut self) {
        assert!(self.supervisor.is_none(), "it is running already");
        let control = ScanDir::new(self.scandir()).control_path();
        if !control.exists() {
            mknodat(CWD, &control, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        }
        let opened = waiting::watch(&control, inotify::WatchFlags::OPEN);
        let said = fs::OpenOptions::new().create(true).append(true).open(self.stderr_path()).unwrap();
        let mut command = self.command();
        // Standard input is a pipe, so that the test would notice a service that inherits it.
        command.stdin(Stdio::piped()).stdout(said.try_clone().unwrap()).stderr(said);
        self.supervisor = Some(spawn(&mut command).expect("the shell starts"));
        let scandir = ScanDir::new(self.scandir());
        let deadline = soon();
        while !scandir.running().unwrap() {
            assert!(waiting::readable(&opened, deadline), "no supervisor came up; it said: {}", self.said());
            waiting::drain(&opened);
        }
    }

    /// Returns the supervisor's process.
    pub fn pid(&self) -> i32 {
        let child = self.supervisor.as_ref().expect("the supervisor was started");
        i32::try_from(child.id()).unwrap()
    }

    /// Returns what the supervisor, and every service without a logger, has written to its output.
    pub fn said(&self) -> String {
        fs::read(self.stderr_path())
            .map(|said| String::from_utf8_lossy(&said).into_owned())
            .unwrap_or_default()
    }

    /// Waits until the supervisor's output has these words.
    pub fn until_said(&self, words: &str) -> String {
        self.until_said_times(words, 1)
    }

    /// Waits until the supervisor's output has these words so many times.
    pub fn until_said_times(&self, words: &str, times: usize) -> String {
        waiting::until(&self.stderr_path(), &format!("the words `{words}`, {times} times"), || {
            let said = self.said();
            (said.matches(words).count() >= times).then_some(said)
        })
    }

    /// Asks for a rescan.
    pub fn rescan(&self) {
        self.scan_command(ScanCommand::Rescan);
    }

    pub fn scan_command(&self, command: ScanCommand) {
        ScanDir::new(self.scandir()).send(&[command]).expect("a supervisor reads the scandir's control FIFO");
    }

    /// Sends the supervisor a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(processes::process_id(self.pid()), signal).expect("the supervisor is there");
    }

    pub fn is_running(&self) -> bool {
        self.supervisor.is_some()
    }

    /// Asks the supervisor to end, and returns how it ended.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Waits until the supervisor has ended, and checks that nothing of its world is left.
    pub fn ended(&mut self) -> ExitStatus {
        let held = Held::of(self.pid());
        let in_time = held.is_none_or(|held| held.gone_by(soon()));
        assert!(in_time, "the supervisor did not end; left: {:#?}; it said: {}", self.left(), self.said());
        let status = self.supervisor.take().expect("the supervisor was started").wait().unwrap();
        let left = self.left();
        assert!(left.is_empty(), "processes are left: {left:#?}; it said: {}", self.said());
        status
    }

    /// Kills the supervisor by SIGKILL.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.supervisor.take().expect("the supervisor was started").wait().unwrap();
    }

    /// Returns the processes of this world that run now, the supervisor among them.
    pub fn processes(&self) -> Vec<i32> {
        processes::marked(MARK, self.root())
    }

    fn left(&self) -> Vec<String> {
        self.processes().into_iter().map(processes::describe).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let mut ended_well = true;
        if let Some(mut supervisor) = self.supervisor.take() {
            let pid = i32::try_from(supervisor.id()).unwrap();
            let held = Held::of(pid);
            let limit = if std::thread::panicking() { Duration::from_secs(2) } else { WAIT_LIMIT };
            let _ = kill_process(processes::process_id(pid), Signal::TERM);
            ended_well = held.is_none_or(|held| held.gone_by(Instant::now() + limit));
            if !ended_well {
                let _ = supervisor.kill();
            }
            let status = supervisor.wait();
            ended_well = ended_well && status.is_ok_and(|status| status.code() == Some(0));
        }
        let left = self.left();
        for pid in self.processes() {
            if let Some(held) = Held::of(pid) {
                held.kill();
            }
        }
        if !std::thread::panicking() {
            let said = self.said();
            assert!(ended_well, "the supervisor did not end as told; left: {left:#?}; it said: {said}");
            assert!(left.is_empty(), "processes are left: {left:#?}; it said: {said}");
        }
    }
}
