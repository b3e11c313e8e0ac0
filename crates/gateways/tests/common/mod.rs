//! A home, an agent and, where a test asks for it, a supervisor, each test's own.
//!
//! The supervisor is a genuine s6-svscan, or, where `GATEVISOR_TEST_PROGRAM` is the absolute path
//! of a gatevisor, that: the same cases hold on both.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::expect_used, reason = "a test that cannot be set up fails")]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gatevisor_gateways::manager::{GatewayRequest, WaitFor};
use gatevisor_gateways::{AgentDefinition, Home, ProfileName, ScandirManager, ServiceManager};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};
use tempfile::TempDir;

/// How long a test waits for anything at the most.
pub const WAIT_LIMIT: Duration = Duration::from_secs(20);

/// Returns an agent whose gateways run a command, and give it half a second to stop.
pub fn agent(command: &[&str], more: &str) -> AgentDefinition {
    let text = format!(
        r#"
name = "test-agent"
[profile]
marker = "agent.conf"
[gateway]
command-default = {command:?}
command-named = {command:?}
stop-timeout-ms = 500
restart-codes = [75]
fail-codes = [78]
state-file = "gateway_state.json"
stale-files = ["gateway.pid"]
log-directory = "${{TEST_AGENT_HOME}}/logs/gateways/{{profile}}"
boot-log = "logs/boot.log"
{more}
"#
    );
    AgentDefinition::parse(&text, "test").expect("the test's agent must be valid")
}

/// Returns the agent of `examples/http-agent.toml`.
pub fn http_agent() -> AgentDefinition {
    let path = repository().join("examples/http-agent.toml");
    AgentDefinition::load(Some(&path)).expect("the example must be valid")
}

/// Returns the root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository is there")
}

/// Returns a profile name.
pub fn name(text: &str) -> ProfileName {
    text.parse().expect("the test's profile name must be valid")
}

/// Returns the request of a test.
pub fn request(wait: WaitFor) -> GatewayRequest {
    GatewayRequest {
        reason: Some("a test".to_owned()),
        wait,
        timeout: Some(WAIT_LIMIT),
        ..GatewayRequest::here("test request")
    }
}

/// Returns a port that nobody else gets while the descriptor is open. Nobody listens there, so a
/// server that allows the reuse of addresses can take it.
pub fn free_port() -> (u16, OwnedFd) {
    let held = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .expect("a socket must be possible");
    sockopt::set_socket_reuseaddr(&held, true).expect("it must be possible");
    bind(&held, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("loopback must work");
    let address = getsockname(&held).expect("it is bound");
    (SocketAddrV4::try_from(address).expect("it is IPv4").port(), held)
}

/// Everything of one test.
pub struct World {
    pub manager: ScandirManager,
    supervisor: Option<Child>,
    // Last, so that it goes when nothing runs in it any more.
    pub dir: TempDir,
}

impl World {
    /// Returns a home without a supervisor.
    pub fn new(agent: AgentDefinition) -> Self {
        let dir = tempfile::tempdir().expect("there must be a temporary directory");
        let home = Home::new(&dir.path().join("home")).expect("the home must be valid");
        let scandir = home.scandir();
        std::fs::create_dir_all(home.profiles_dir()).expect("the home must be writable");
        std::fs::create_dir_all(&scandir).expect("the scandir must be writable");
        let manager = ScandirManager::new(agent, home, scandir, interpreter());
        Self { manager, supervisor: None, dir }
    }

    /// Returns a home with s6-svscan running on its scandir.
    pub fn supervised(agent: AgentDefinition) -> Self {
        let mut world = Self::new(agent);
        world.supervise();
        world
    }

    /// Starts a supervisor, and returns once it listens.
    pub fn supervise(&mut self) {
        let mut command = match program() {
            Some(program) => {
                let mut command = Command::new(program);
                command.arg("supervise");
                command
            }
            None => Command::new("s6-svscan"),
        };
        let svscan = self.manager.scandir().join(".s6-svscan");
        let control = svscan.join("control");
        std::fs::create_dir_all(&svscan).expect("the scandir must be writable");
        if !control.exists() {
            mknodat(CWD, &control, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
                .expect("a FIFO must be possible");
        }
        command
            .arg(self.manager.scandir())
            .env(self.manager.agent().home_variable(), self.manager.home().root())
            .env("HTTP_AGENT_PROGRAM", repository().join("examples/http-agent.py"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.supervisor = Some(command.spawn().expect("the supervisor must be installed"));
        // Opening a FIFO for writing waits for its reader.
        drop(std::fs::OpenOptions::new().write(true).open(&control).expect("the supervisor must listen"));
    }

    /// Stops the supervisor and everything under it.
    pub fn stop_supervisor(&mut self) {
        if let Some(mut child) = self.supervisor.take() {
            let pid = rustix::process::Pid::from_child(&child);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let status = child.wait().expect("the supervisor is our child");
            assert!(status.success() || status.signal().is_some(), "{status}");
        }
    }

    /// Makes a profile as the agent's own tools would, and returns its name.
    pub fn profile(&self, text: &str) -> ProfileName {
        let name = name(text);
        let path = self.manager.home().profile_dir(&name);
        std::fs::create_dir_all(&path).expect("the home must be writable");
        std::fs::write(path.join("agent.conf"), "").expect("the home must be writable");
        name
    }

    /// Starts a gateway that says through a FIFO in its profile's home that it is ready, and waits
    /// for that.
    pub fn start_and_receive(&self, name: &ProfileName) {
        let fifo = self.manager.home().profile_dir(name).join("started");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO must be possible");
        drop(self.manager.start(name, &request(WaitFor::Up)).expect("it must start"));
        assert_eq!(std::fs::read_to_string(fifo).expect("it must be readable"), "up\n");
    }

    /// Returns what a profile's state file holds.
    pub fn state(&self, name: &ProfileName) -> serde_json::Value {
        let path = self.manager.home().profile_dir(name).join("gateway_state.json");
        serde_json::from_slice(&std::fs::read(path).expect("there must be a state file"))
            .expect("it must be JSON")
    }

    /// Returns the names in the scandir, sorted, but for the supervisor's own.
    pub fn entries(&self) -> Vec<String> {
        entries(self.manager.scandir())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop_supervisor();
    }
}

/// Returns the names in a directory, sorted, but for a supervisor's own.
pub fn entries(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).expect("the directory must be readable");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("it must be readable").file_name().to_string_lossy().into_owned())
        .filter(|name| name != ".s6-svscan")
        .collect();
    names.sort();
    names
}

/// Returns the program that is to be tested in the place of a genuine s6, if one is named.
fn program() -> Option<PathBuf> {
    std::env::var_os("GATEVISOR_TEST_PROGRAM").map(PathBuf::from)
}

/// Returns the interpreter of slots: the program to be tested, or else an example of this crate.
pub fn interpreter() -> PathBuf {
    if let Some(program) = program() {
        return program;
    }
    let test = gatevisor_sys::process::own_program().expect("a test knows itself");
    let path = test.ancestors().nth(2).expect("a test is in a target directory").join("examples/interpreter");
    assert!(path.exists(), "`cargo test` builds `{}`; so does `cargo build --examples`", path.display());
    path
}
