//! What black-box tests of the command line share: a home for each test, and `gatevisor` commands
//! on it.
//!
//! *Lives here:* [`Home`], one tempdir with one home and at most one supervisor; everything in it
//! is gone when it is dropped. *Does not live here:* any expectation about what a command answers.
#![allow(dead_code, reason = "each suite uses its own part of this")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a panic in a test says what is wrong")]

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gatevisor_client::{Condition, ScanDir, ServiceDir, Waited, Waiter};
use gatevisor_wire::scan::ScanCommand;
use rustix::fs::inotify::WatchFlags;
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::processes::{self, Held};
use crate::support::running::text;
pub use crate::support::running::{Ran, Running};
use crate::support::{WAIT_LIMIT, soon, waiting};

/// The variable that marks every process of a home.
pub const MARK: &str = "GATEVISOR_TEST_HOME";
/// What `up` prints last of all.
const GREETED: &str = "Here: Ctrl-C";

/// A port of the loopback interface that no other process gets while this value lives.
///
/// The port is bound without listening, so a server that allows the reuse of addresses, as all of
/// ours do, can take it.
pub struct Port {
    pub number: u16,
    _held: OwnedFd,
}

impl Port {
    pub fn free() -> Self {
        let held = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_reuseaddr(&held, true).unwrap();
        bind(&held, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = SocketAddrV4::try_from(getsockname(&held).unwrap()).unwrap();
        Self { number: address.port(), _held: held }
    }

    /// Asks for a path and returns the answer; none if nobody answers.
    pub fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.number)).ok()?;
        stream.set_read_timeout(Some(WAIT_LIMIT)).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// Returns whether the service on this port reports that it is well.
    pub fn healthy(&self) -> bool {
        self.get("/health").is_some_and(|answer| answer.split(' ').nth(1) == Some("200"))
    }
}

/// A tempdir with a home and its supervisor.
pub struct Home {
    root: TempDir,
    path: PathBuf,
    agent: Option<PathBuf>,
    marker: &'static str,
    variables: Vec<(OsString, OsString)>,
    program: PathBuf,
    up: Option<Running>,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

impl Home {
    /// Returns an empty home for the plain HTTP agent of the examples.
    pub fn new() -> Self {
        let home = Self::missing();
        fs::create_dir(home.path()).unwrap();
        home
    }

    /// As `new`, but the home does not exist yet.
    pub fn missing() -> Self {
        let mut home = Self::with_definition(None);
        home.agent = Some(repository().join("examples/http-agent.toml"));
        home.set("HTTP_AGENT_PROGRAM", repository().join("examples/http-agent.py"));
        home
    }

    /// As `new`, with the agent's definition changed: each first text is replaced by the second.
    pub fn with_agent(changes: &[(&str, &str)]) -> Self {
        let mut home = Self::new();
        let mut definition = text(home.agent.as_deref().unwrap());
        for (old, new) in changes {
            assert!(definition.contains(old), "the definition has no `{old}`");
            definition = definition.replace(old, new);
        }
        let file = home.root.path().join("agent.toml");
        fs::write(&file, definition).unwrap();
        home.agent = Some(file);
        home
    }

    /// As `new`, with an agent whose gateways run this shell script: `$1` is the profile, `$2` its
    /// home.
    ///
    /// The gateways never report readiness.
    pub fn with_script(body: &str, changes: &[(&str, &str)]) -> Self {
        let python = |who: &str| {
            format!(
                "[\"python3\", \"-u\", \"${{HTTP_AGENT_PROGRAM:-/usr/local/bin/http-agent.py}}\", \"{who}\", \"{{profile-home}}\"]"
            )
        };
        let shell =
            |who: &str| format!("[\"/bin/sh\", \"${{AGENT_SCRIPT}}\", \"{who}\", \"{{profile-home}}\"]");
        let (old, new) = (["default", "{profile}"].map(python), ["default", "{profile}"].map(shell));
        let ready = "ready = { http = \"http://127.0.0.1:${PORT:-8700}/health\", interval-ms = 50, timeout-ms = 20000 }";
        // It serves no port, and somebody else on this machine may have the default one.
        let ports = "ports = [{ variable = \"PORT\", default = 8700 }]";
        let mut all = vec![(&*old[0], &*new[0]), (&*old[1], &*new[1]), (ready, ""), (ports, "")];
        all.extend_from_slice(changes);
        let mut home = Self::with_agent(&all);
        let script = home.root.path().join("agent.sh");
        fs::write(&script, body).unwrap();
        home.set("AGENT_SCRIPT", script);
        home
    }

    /// Returns a home for the built-in agent.
    pub fn built_in() -> Self {
        let mut home = Self::with_definition(None);
        home.marker = "SOUL.md";
        fs::create_dir(home.path()).unwrap();
        home
    }

    fn with_definition(agent: Option<PathBuf>) -> Self {
        let root = TempDir::new().unwrap();
        let path = root.path().join("home");
        let program = PathBuf::from(env!("CARGO_BIN_EXE_gatevisor"));
        Self { root, path, agent, marker: "agent.conf", variables: Vec::new(), program, up: None }
    }

    /// Gives the commands that follow another agent definition, or none.
    pub fn tell_agent(&mut self, agent: Option<PathBuf>) {
        self.agent = agent;
    }

    /// Sets a variable for all commands, and so for the supervisor and its gateways.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.variables.push((name.into(), value.into()));
    }

    /// Uses another program than the one that was built with the tests.
    pub fn use_program(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// Moves the home to another, empty place.
    pub fn move_to(&mut self, path: PathBuf) {
        fs::create_dir(&path).unwrap();
        self.path = path;
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the file with the agent definition, if it is not the built-in one.
    pub fn agent(&self) -> Option<&Path> {
        self.agent.as_deref()
    }

    /// Returns a place beside the home.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn scandir(&self) -> PathBuf {
        self.path.join("run/service")
    }

    pub fn slot(&self, profile: &str) -> ServiceDir {
        ServiceDir::new(self.scandir().join(format!("gateway-{profile}")))
    }

    /// Returns the name of the file that makes a directory a profile.
    pub fn marker(&self) -> &str {
        self.marker
    }

    pub fn profile_dir(&self, profile: &str) -> PathBuf {
        if profile == "default" { self.path.clone() } else { self.path.join("profiles").join(profile) }
    }

    pub fn state_file(&self, profile: &str) -> PathBuf {
        self.profile_dir(profile).join("gateway_state.json")
    }

    pub fn state(&self, profile: &str) -> Value {
        serde_json::from_slice(&fs::read(self.state_file(profile)).unwrap()).unwrap()
    }

    pub fn log_file(&self, profile: &str) -> PathBuf {
        self.path.join("logs/gateways").join(profile).join("current")
    }

    pub fn boot_log(&self) -> String {
        text(&self.path.join("logs/boot.log"))
    }

    /// Returns a command line on this home.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.program);
        for name in ["HERMES_HOME", "HTTP_AGENT_HOME", "NO_COLOR", "S6_PROFILE_GATEWAY_SCANDIR", "SUDO_UID"] {
            command.env_remove(name);
        }
        // The system's Python comes first, not the scripts of a version manager.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut first = OsString::from("/usr/bin:/bin:");
        first.push(path);
        command.env("PATH", first).env(MARK, self.root.path());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.arg("--home").arg(&self.path);
        if let Some(agent) = &self.agent {
            command.arg("--agent").arg(agent);
        }
        command.args(arguments);
        command.stdin(Stdio::null());
        command
    }

    /// Starts a command whose output goes to files.
    pub fn spawn(&self, mut command: Command) -> Running {
        let file = || tempfile::Builder::new().prefix("out-").tempfile_in(self.root.path()).unwrap();
        let ((out, out_path), (err, err_path)) = (file().keep().unwrap(), file().keep().unwrap());
        command.stdout(out).stderr(err);
        let child = command.spawn().expect("the program starts");
        Running { child, out: out_path, err: err_path }
    }

    pub fn start<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Running {
        self.spawn(self.command(arguments))
    }

    /// Starts a command that may outlive the supervisor, so it is not counted among the processes
    /// of this home.
    pub fn start_uncounted<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Running {
        let mut command = self.command(arguments);
        command.env_remove(MARK);
        self.spawn(command)
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        self.start(arguments).ended(WAIT_LIMIT + WAIT_LIMIT)
    }

    /// Runs a command line of plain words to its end.
    #[track_caller]
    pub fn says(&self, line: &str) -> Ran {
        self.run(line.split_whitespace())
    }

    /// Returns a text without what differs from one run to the next: paths, process ids, the user.
    pub fn redact(&self, text: &str) -> String {
        let program = self.program.display().to_string();
        let home = self.path.display().to_string();
        let root = self.root.path().display().to_string();
        let repository = repository().display().to_string();
        let text = text.replace(&home, "HOME").replace(&root, "TMP").replace(&program, "GATEVISOR");
        text.replace(&repository, "REPOSITORY")
    }

    /// Returns everything below the tempdir but the output of commands, and what the watcher of
    /// gateways makes, which begins beside the supervisor and is not waited for: its records, and
    /// subscriptions that come and go.
    pub fn listing(&self) -> BTreeSet<PathBuf> {
        let (mut found, watchers) = (BTreeSet::new(), self.scandir().join(".live"));
        list(self.root.path(), &mut found);
        found.retain(|path| {
            let name = path.strip_prefix(self.root.path()).unwrap().to_string_lossy().into_owned();
            let is_watchers = path.starts_with(&watchers) || name.contains("/event/ftrig1");
            !name.starts_with("out-") && !is_watchers
        });
        found
    }

    /// Waits until a gateway's process has become its last command: it is up before.
    pub fn until_last_command(&self, name: &str, line: &[u8]) {
        let words = format!("/proc/{}/cmdline", self.pid(name));
        waiting::polled("its last command", || fs::read(&words).ok().filter(|found| found == line));
    }

    /// Makes a profile that listens on a port of its own.
    pub fn profile(&self, name: &str) -> Port {
        self.run(["profile", "create", name]).ok();
        self.give_port(name)
    }

    pub fn give_port(&self, name: &str) -> Port {
        let port = Port::free();
        fs::write(self.profile_dir(name).join(".env"), format!("PORT={}\n", port.number)).unwrap();
        port
    }

    /// Makes a profile by hand, as another program would: no command is involved.
    pub fn plant(&self, name: impl AsRef<OsStr>) -> PathBuf {
        let dir = self.path.join("profiles").join(name.as_ref());
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(self.marker), "").unwrap();
        dir
    }

    /// Makes a profile by hand whose state file holds this.
    pub fn plant_state(&self, name: &str, state: impl AsRef<[u8]>) {
        let dir = if name == "default" { self.path.clone() } else { self.plant(name) };
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("gateway_state.json"), state).unwrap();
    }

    /// Sets the desired state of a gateway to running, before there is a supervisor.
    #[track_caller]
    pub fn want_running(&self, name: &str) {
        let ran = self.run(["gateway", "start", name]);
        assert_eq!(ran.code, Some(102), "{ran:?}");
    }

    /// Starts the supervisor and returns when its startup progress is over. Then every gateway that
    /// shall run is ready.
    pub fn up(&mut self) -> String {
        self.up_with(["up"]);
        self.running().until_says(GREETED)
    }

    /// Starts the supervisor and returns when it takes commands.
    pub fn up_quietly(&mut self) {
        self.up_with(["up", "--quiet"]);
        self.until_running();
    }

    /// Starts a supervisor without the watchers that `up` has beside it, for tests that make slots
    /// themselves, or want nobody who follows gateways. Returns when it takes commands.
    pub fn up_alone(&mut self) {
        self.says("reconcile").ok();
        let mut command = Command::new(&self.program);
        command.args(["supervise", "--label-output"]).arg(self.scandir()).stdin(Stdio::null());
        command.env(MARK, self.root.path()).env("HTTP_AGENT_HOME", &self.path);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        self.adopt(self.spawn(command));
        self.until_running();
        // It scans after it has opened its FIFO. What is made meanwhile is found without a command.
        if self.slot("default").path().exists() {
            self.until_supervised("default");
        }
    }

    fn until_running(&self) {
        let scandir = ScanDir::new(self.scandir());
        // The supervisor makes its directory in the scandir, then its FIFO in that, and then opens
        // the FIFO.
        waiting::polled("the supervisor", || {
            scandir.running().expect("the scandir can be looked at").then_some(())
        });
    }

    /// Returns the process that keeps the watchers of this home running, once it is the only one:
    /// what a killed one kept is the supervisor's until it has ended, and looks the same.
    pub fn keeper(&self) -> Option<i32> {
        let children = processes::children(self.running().pid()).into_iter();
        let mut keepers = children.filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).nth(1) == Some(b"beside") && has_executed(*pid)
        });
        keepers.next().filter(|_| keepers.next().is_none())
    }

    pub fn up_with<S: AsRef<OsStr>>(&mut self, arguments: impl IntoIterator<Item = S>) {
        assert!(self.up.is_none(), "it is running already");
        self.up = Some(self.start(arguments));
    }

    pub fn adopt(&mut self, supervisor: Running) {
        assert!(self.up.is_none(), "it is running already");
        self.up = Some(supervisor);
    }

    /// Returns the supervisor.
    pub fn running(&self) -> &Running {
        self.up.as_ref().expect("the supervisor was started")
    }

    /// Presses Ctrl-C, and returns how the supervisor ended. Nothing of it may be left.
    #[track_caller]
    pub fn down(&mut self) -> Ran {
        self.running().signal(Signal::INT);
        self.ended()
    }

    #[track_caller]
    pub fn ended(&mut self) -> Ran {
        let ran = self.up.take().expect("the supervisor was started").ended(WAIT_LIMIT + WAIT_LIMIT);
        let left = self.left(WAIT_LIMIT);
        assert!(left.is_empty(), "processes are left: {left:#?}; it said: {ran:?}");
        ran
    }

    /// Kills only the supervisor, by SIGKILL.
    pub fn kill_supervisor(&mut self) {
        let running = self.up.take().expect("the supervisor was started");
        let held = Held::of(running.pid()).expect("it is our child");
        held.kill();
    }

    /// Kills every process of this home at once.
    pub fn kill_everything(&mut self) {
        // In the middle of an exec, a process has no environment, and so no mark.
        let mut empty_looks = 0;
        waiting::polled("that everything has ended", || {
            let pids = self.processes();
            empty_looks = if pids.is_empty() { empty_looks + 1 } else { 0 };
            for pid in pids {
                let _ = kill_process(processes::process_id(pid), Signal::KILL);
            }
            (empty_looks == 3).then_some(())
        });
        drop(self.up.take());
    }

    /// Returns the processes of this home that run now.
    pub fn processes(&self) -> Vec<i32> {
        processes::marked(MARK, self.root.path())
    }

    /// Returns the processes of this home that have not ended after a while.
    fn left(&self, limit: Duration) -> Vec<String> {
        let deadline = Instant::now() + limit;
        for held in self.processes().into_iter().filter_map(Held::of) {
            held.gone_by(deadline);
        }
        self.processes().into_iter().map(processes::describe).collect()
    }

    /// Asks the supervisor to scan, as is necessary after a change of the scandir by hand.
    pub fn rescan(&self) {
        ScanDir::new(self.scandir()).send(&[ScanCommand::Rescan]).unwrap();
    }

    /// Waits until a slot is supervised.
    #[track_caller]
    pub fn until_supervised(&self, profile: &str) {
        let event = self.slot(profile).event_path();
        waiting::polled("the slot", || event.is_dir().then_some(()));
        let waited =
            Waiter::subscribe(&self.slot(profile)).and_then(|mut waiter| waiter.supervised(Some(soon())));
        assert_eq!(waited.unwrap(), Waited::Reached, "{profile} is not supervised");
    }

    /// Waits until a gateway has this state.
    #[track_caller]
    pub fn until(&self, profile: &str, condition: Condition) {
        self.until_supervised(profile);
        let waited = gatevisor_client::wait(&self.slot(profile), condition, Some(soon())).unwrap();
        assert_eq!(waited, Waited::Reached, "{profile} is not {condition}: {}", self.report(profile));
    }

    /// Returns what `status --json` prints for a profile.
    #[track_caller]
    pub fn report(&self, profile: &str) -> Value {
        let out = self.run(["--json", "status", profile]).ok();
        assert_eq!(out.matches('\n').count(), 1, "one object was expected: {out}");
        serde_json::from_str(&out).expect("it is JSON")
    }

    /// Waits until `status --json` satisfies the condition. Looks again whenever the supervisor or
    /// the interpreter writes something about the gateway.
    #[track_caller]
    pub fn until_report(&self, profile: &str, what: &str, expected: impl Fn(&Value) -> bool) -> Value {
        self.until_supervised(profile);
        // A look opens and closes the control FIFO. Only changes by the supervisor count.
        let supervise = self.slot(profile).path().join("supervise");
        let watch =
            waiting::watch(&supervise, WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE);
        // The interpreter's record shows that the command was executed.
        let data = self.slot(profile).path().join("data");
        let _ = rustix::fs::inotify::add_watch(&watch, &data, WatchFlags::CLOSE_WRITE);
        let deadline = soon();
        loop {
            let report = self.report(profile);
            if expected(&report) {
                return report;
            }
            // The supervisor does not write what the kernel tells of a process.
            waiting::readable(&watch, deadline.min(Instant::now() + Duration::from_secs(1)));
            assert!(Instant::now() < deadline, "waited {WAIT_LIMIT:?} for {what}: {report}");
            waiting::drain(&watch);
        }
    }

    #[track_caller]
    pub fn until_state(&self, profile: &str, state: &str) -> Value {
        self.until_report(profile, state, |report| report["state"] == state)
    }

    /// Returns the process of a gateway that is up. A process may run before its supervisor has
    /// written so, and then the status still names the process before it, or none.
    #[track_caller]
    pub fn pid(&self, profile: &str) -> i32 {
        let slot = self.slot(profile);
        waiting::polled("a process that is up", || {
            let pid = slot.status().expect("it has a status").pid?.get();
            processes::stat(pid).is_some_and(|stat| stat.state != 'Z').then_some(pid)
        })
    }

    /// Waits until a gateway's log holds these words.
    #[track_caller]
    pub fn until_logged(&self, profile: &str, words: &str) -> String {
        until_file(&self.log_file(profile), words, |text| text.contains(words))
    }
}

/// Returns whether a process has executed a program. What a keeper keeps was only forked.
///
/// **Source:** `proc_pid_stat(5)`, `flags`; `PF_FORKNOEXEC` in the kernel's `sched.h`.
fn has_executed(pid: i32) -> bool {
    const FORKED_ONLY: u32 = 0x40;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let flags = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(6)?.parse::<u32>().ok());
    flags.is_some_and(|flags| flags & FORKED_ONLY == 0)
}

impl Drop for Home {
    fn drop(&mut self) {
        let mut ended_well = true;
        if let Some(running) = self.up.take() {
            let held = Held::of(running.pid());
            let limit = if std::thread::panicking() { Duration::from_secs(2) } else { WAIT_LIMIT };
            let _ = kill_process(processes::process_id(running.pid()), Signal::TERM);
            ended_well = held.is_none_or(|held| held.gone_by(Instant::now() + limit));
            #[expect(clippy::print_stderr, reason = "it goes with the failure")]
            if std::thread::panicking() {
                eprintln!("the supervisor printed:\n{}\nand said:\n{}", running.out(), running.err());
            }
        }
        let left = if std::thread::panicking() { Vec::new() } else { self.left(WAIT_LIMIT) };
        for held in self.processes().into_iter().filter_map(Held::of) {
            held.kill();
        }
        if !std::thread::panicking() {
            assert!(ended_well, "the supervisor did not end as told");
            assert!(left.is_empty(), "processes are left: {left:#?}");
        }
    }
}

fn list(directory: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&entry.path(), found);
        }
        found.insert(entry.path());
    }
}

/// Waits until an entry appears in a directory, or goes, so that the condition holds.
pub fn until_entries(
    directory: &Path,
    what: &str,
    expected: impl Fn(&BTreeSet<String>) -> bool,
) -> BTreeSet<String> {
    waiting::until(directory, what, || {
        let entries = fs::read_dir(directory).unwrap();
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        Some(names).filter(&expected)
    })
}

/// Waits until a file satisfies the condition, even if directories above it do not exist yet.
#[track_caller]
pub fn until_file(path: &Path, what: &str, expected: impl Fn(&str) -> bool) -> String {
    let parent = path.parent().unwrap();
    while !parent.is_dir() {
        let there = path.ancestors().find(|part| part.is_dir()).unwrap();
        let next = there.join(path.strip_prefix(there).unwrap().components().next().unwrap());
        waiting::until(there, what, || next.exists().then_some(()));
    }
    waiting::until(parent, what, || Some(text(path)).filter(|text| expected(text)))
}
