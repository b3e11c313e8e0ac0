//! *Lives here:* which ports a gateway wants, and who has one of them that is not that gateway.
//!
//! *Does not live here:* whether two profiles want the same port (`doctor`); whose a probe's answer is (`gatevisor-slot`).
//!
//! An agent whose port is taken says so in its log alone, and ends with a code that it has for much else.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::PathBuf;

use gatevisor_paths::by_path;
use gatevisor_slot::expand::{expand, is_truthy};
use gatevisor_slot::{dotenv, http};
use gatevisor_sys::file::lasting_identity;
use gatevisor_sys::proc::{self, Process};
use gatevisor_sys::tcp::{self, Socket, Sockets};
use gatevisor_wire::member::Member;

use crate::agent::{AgentDefinition, Placeholders, PortDefinition, fill};
use crate::files::read_bounded;
use crate::manager::{ScandirManager, ServiceManager};
use crate::profile::ProfileName;

/// Words that say no where a variable switches something on.
const NO: [&str; 5] = ["", "0", "false", "no", "off"];
/// Bytes of a file of variables that are read.
const ENVIRONMENT_BYTES: usize = 1 << 20;

/// A port that a gateway wants and somebody else has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldPort {
    /// The port.
    pub port: u16,
    /// The process, where it may be looked into.
    pub pid: Option<i32>,
    /// Who that is, in words.
    pub holder: String,
}

impl fmt::Display for HeldPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {} is held by {}", self.port, self.holder)
    }
}

/// Returns a port that a profile's gateway wants and somebody else has, and who that is.
pub fn held(manager: &ScandirManager, name: &ProfileName) -> Option<HeldPort> {
    let sockets = Sockets::now().ok()?;
    let mut wanted = wanted(manager, name);
    wanted.sort_unstable();
    wanted.dedup();
    wanted.into_iter().find_map(|port| {
        let socket = sockets.on_port(port).next()?;
        let (pid, holder) = holder(manager, name, socket)?;
        Some(HeldPort { port, pid, holder })
    })
}

/// Returns the port that a definition gives a gateway with these variables, if it has one.
pub fn of_definition(definition: &PortDefinition, lookup: &dyn Fn(&str) -> Option<OsString>) -> Option<u16> {
    let says_yes = |name: &String| {
        lookup(name).is_some_and(|value| {
            let word = value.to_string_lossy().trim().to_ascii_lowercase();
            !NO.contains(&&*word)
        })
    };
    if !definition.when.is_empty() && !definition.when.iter().any(says_yes) {
        return None;
    }
    match lookup(&definition.variable) {
        Some(value) if !value.is_empty() => value.to_str()?.trim().parse().ok().filter(|port| *port != 0),
        _ => definition.default,
    }
}

/// Returns the files of variables that a profile's gateway is started with.
pub fn environment_files(manager: &ScandirManager, name: &ProfileName) -> Vec<PathBuf> {
    let templates = manager.agent().gateway.environment_files.iter();
    templates.filter_map(|template| expanded(manager, name, template)).map(PathBuf::from).collect()
}

/// Returns a text of the agent definition with everything filled in, as far as that is known before a start.
pub fn expanded(manager: &ScandirManager, name: &ProfileName, template: &str) -> Option<OsString> {
    let filled = fill(template, &Placeholders::new(name, &manager.agent().home_variable())).ok()?;
    let variable = manager.agent().home_variable();
    let home = manager.home().root();
    gatevisor_slot::expand(&filled, &|name| (name == variable).then(|| home.into())).ok()
}

fn wanted(manager: &ScandirManager, name: &ProfileName) -> Vec<u16> {
    let files = environment_files(manager, name);
    let read = |file: PathBuf| read_bounded(&file, ENVIRONMENT_BYTES).ok().flatten();
    let values: Vec<(String, OsString)> =
        files.into_iter().filter_map(read).flat_map(|bytes| dotenv::parse(&bytes)).collect();
    let lookup =
        |name: &str| values.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let agent = manager.agent();
    let defined = agent.doctor.ports.iter().filter_map(|definition| of_definition(definition, &lookup));
    defined.chain(probed(agent, &lookup)).collect()
}

/// Returns the port on which a gateway is asked whether it is ready.
fn probed(agent: &AgentDefinition, lookup: &dyn Fn(&str) -> Option<OsString>) -> Option<u16> {
    let ready = agent.gateway.ready.as_ref()?;
    if let Some(when) = &ready.when
        && !is_truthy(&expand(when, lookup).ok()?)
    {
        return None;
    }
    let url = expand(&ready.http, lookup).ok()?;
    http::parse_url(url.to_str()?).ok()?.addresses.first().map(std::net::SocketAddr::port)
}

/// Returns who has a socket; `None` where it is this gateway itself.
fn holder(manager: &ScandirManager, name: &ProfileName, socket: &Socket) -> Option<(Option<i32>, String)> {
    let Some(process) = process_of(socket) else {
        return Some((None, format!("a process of uid {}, which may not be looked into", socket.uid)));
    };
    let called = process.called();
    let words = match gateway_of(manager, &process) {
        Some(profile) if profile == *name && is_alive(manager, name, &process) => return None,
        Some(profile) if profile == *name => format!("{called}, which an earlier start of it has left"),
        Some(profile) => format!("the gateway of {profile}, {called}"),
        None => called,
    };
    Some((Some(process.pid), words))
}

/// Returns whose gateway a process belongs to, if it belongs to one of this manager's scandir.
fn gateway_of(manager: &ScandirManager, process: &Process) -> Option<ProfileName> {
    let environment = fs::read(format!("/proc/{}/environ", process.pid)).ok()?;
    let member = Member::in_environment(&environment)?;
    let scandir = by_path::directory(manager.scandir()).and_then(|it| lasting_identity(it, "")).ok()?;
    ProfileName::of_service(member.name).filter(|_| scandir.as_bytes() == member.scandir)
}

/// Returns whether a process is of the gateway that is up now.
fn is_alive(manager: &ScandirManager, name: &ProfileName, process: &Process) -> bool {
    let status = manager.observe(name).ok().flatten().and_then(|observed| observed.status);
    status.and_then(|status| status.pid).is_some_and(|pid| pid.get() == process.session)
}

fn process_of(socket: &Socket) -> Option<Process> {
    let has = |pid: &i32| tcp::of_process(*pid).is_ok_and(|inodes| inodes.contains(&socket.inode));
    proc::numbers().ok()?.filter(has).find_map(Process::of)
}
