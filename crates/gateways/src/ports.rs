//! *Lives here:* which other process has a port that a gateway wants.
//!
//! *Does not live here:* which ports those are (`profile::wanted_ports`); whether two profiles want
//! the same port (`doctor`); which process answers a probe (`gatevisor-slot`).
//!
//! An agent whose port is taken says so in its log only, and ends with an exit code that it uses
//! for much else.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use gatevisor_paths::by_path;
use gatevisor_slot::answerer::{ServiceProcesses, SocketHolder, Whose};
use gatevisor_slot::survivors::process::AllProcesses;
use gatevisor_sys::file::lasting_identity;
use gatevisor_sys::proc;
use gatevisor_sys::tcp::{Socket, Sockets};
use gatevisor_wire::Pid;
use gatevisor_wire::member::Member;
use gatevisor_wire::status::Status;

use crate::manager::ScandirManager;
use crate::profile::ProfileName;
pub use crate::profile::wanted_ports::of_definition;
use crate::profile::wanted_ports::{self, WantedPort};

/// A port that a gateway wants and another process has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldPort {
    /// Its number.
    pub port: u16,
    /// The process, if it may be looked into.
    pub pid: Option<i32>,
    /// A description of the process.
    pub holder: String,
}

impl fmt::Display for HeldPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {} is held by {}", self.port, self.holder)
    }
}

/// The ports of gateways, compared with the sockets of one moment.
#[derive(Debug)]
pub struct PortTable {
    /// The sockets, which are looked at when a gateway may want a port.
    sockets: OnceCell<Sockets>,
    /// All processes, which are looked for when the main process of a gateway has not its port.
    processes: OnceCell<Option<AllProcesses>>,
}

impl PortTable {
    /// Returns the table of the moment in which it is first asked. Where it cannot be seen, no port
    /// is held.
    pub const fn now() -> Self {
        Self { sockets: OnceCell::new(), processes: OnceCell::new() }
    }

    fn sockets(&self) -> &Sockets {
        self.sockets.get_or_init(|| Sockets::now().unwrap_or_default())
    }

    /// Returns a port that a profile's gateway wants and another process has, with that process.
    ///
    /// `process` is the gateway's process, if it was seen to be up. Then the port is held if none
    /// of the gateway's processes has it, or if what is asked on it reaches another process. A
    /// gateway that was seen to be down may have been started again, and have its port itself by
    /// now.
    pub fn held(
        &self,
        manager: &ScandirManager,
        name: &ProfileName,
        process: Option<i32>,
    ) -> Option<HeldPort> {
        // Otherwise nothing that the gateway's variables say could make a difference.
        if !wanted_ports::names_any(manager.agent()) || !self.sockets().any_listens() {
            return None;
        }
        let environment = process.map(environment_of).unwrap_or_default();
        let mut wanted = wanted_ports::wanted_with(manager.home(), manager.agent(), name, &environment);
        wanted.sort_unstable_by_key(|wanted| wanted.port);
        wanted.retain(|wanted| self.sockets().on_port(wanted.port).next().is_some());
        let service = name.service_entry();
        if wanted.is_empty() {
            return None;
        }
        let process = process.or_else(|| running(manager, name));
        let mut own = process.map(|pid| ServiceProcesses::of_running(pid, manager.scandir(), &service));
        wanted.iter().find_map(|wanted| {
            let holder = match &mut own {
                Some(own) => self.beside(own, wanted),
                None => self.instead(manager, &service, wanted.port),
            };
            holder.map(|holder| HeldPort { port: wanted.port, pid: holder.pid, holder: holder.to_string() })
        })
    }

    /// Returns who has a port, or an address of it, that a gateway which is up should have.
    fn beside(&self, own: &mut ServiceProcesses, wanted: &WantedPort) -> Option<SocketHolder> {
        let all = || self.processes.get_or_init(|| AllProcesses::now().ok()).as_ref();
        let mut another = |sockets: &[Socket]| match own.whose_among(sockets, all) {
            Whose::Another(holder) => Ok(Some(holder)),
            Whose::Unknown(_) => Ok(None),
            Whose::Own => Err(()),
        };
        if let Some(address) = wanted.address {
            return another(&self.sockets().listeners(address)).ok().flatten();
        }
        let each: Result<Vec<_>, ()> =
            self.sockets().on_port(wanted.port).map(|socket| another(std::slice::from_ref(socket))).collect();
        each.ok()?.into_iter().flatten().next()
    }

    /// Returns who has a port of a gateway that is not up.
    fn instead(&self, manager: &ScandirManager, service: &str, port: u16) -> Option<SocketHolder> {
        let socket = self.sockets().on_port(port).next()?;
        let scandir = by_path::directory(manager.scandir()).and_then(|it| lasting_identity(it, ""));
        let scandir = scandir.unwrap_or_default();
        let own = Member { scandir: scandir.as_bytes(), supervisor: 0, name: service.as_bytes() };
        Some(SocketHolder::of(socket, &own))
    }
}

/// Returns a warning if another process has a port of a gateway that is up.
pub(crate) fn warning(manager: &ScandirManager, name: &ProfileName) -> Option<String> {
    let held = PortTable::now().held(manager, name, Some(running(manager, name)?))?;
    Some(format!("{held}, so what answers there is not this gateway"))
}

/// Returns the process of a profile's gateway, if it is up.
fn running(manager: &ScandirManager, name: &ProfileName) -> Option<i32> {
    let status = manager.slot(name).status().ok().filter(Status::is_up)?;
    status.pid.map(Pid::get)
}

/// Returns the environment with which a process was started, if we may look into it.
fn environment_of(pid: i32) -> Vec<(String, OsString)> {
    let bytes = proc::environment(pid);
    let assignment = |entry: &[u8]| {
        let at = entry.iter().position(|&byte| byte == b'=')?;
        let (name, value) = (entry.get(..at)?, entry.get(at.checked_add(1)?..)?);
        Some((str::from_utf8(name).ok()?.to_owned(), OsString::from_vec(value.to_vec())))
    };
    bytes.split(|&byte| byte == 0).filter_map(assignment).collect()
}

/// Returns the files of variables with which a profile's gateway is started.
pub fn environment_files(manager: &ScandirManager, name: &ProfileName) -> Vec<PathBuf> {
    wanted_ports::environment_files(manager.home(), manager.agent(), name)
}

/// Returns a text of the agent definition with everything filled in that is known before a start.
pub fn expanded(manager: &ScandirManager, name: &ProfileName, template: &str) -> Option<OsString> {
    wanted_ports::expanded(manager.home(), manager.agent(), name, template)
}

/// Returns the variables that a profile's own files set, in their order: the last of a name counts.
pub(crate) fn variables(manager: &ScandirManager, name: &ProfileName) -> Vec<(String, OsString)> {
    wanted_ports::variables(manager.home(), manager.agent(), name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::net::TcpListener;
    use std::time::SystemTime;

    use gatevisor_wire::tai::Tai64n;
    use gatevisor_wire::wait::WaitStatus;

    use crate::agent::{AgentDefinition, SMALL};
    use crate::profile::Home;

    #[test]
    fn a_port_that_the_gateway_has_by_now_is_not_held_by_another_process_though_it_was_down_before() {
        let place = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ports = format!("[[doctor.ports]]\nvariable = \"PORT\"\ndefault = {port}\n");
        let agent: AgentDefinition = format!("{SMALL}\n{ports}").parse().unwrap();
        let home = Home::new(&place.path().join("home")).unwrap();
        let scandir = place.path().join("scandir");
        let manager = ScandirManager::new(agent, home, scandir.clone(), PathBuf::new());
        let name: ProfileName = "coder".parse().unwrap();
        let held = || PortTable::now().held(&manager, &name, None);
        assert!(held().is_some_and(|held| held.port == port), "its gateway is down");
        let supervise = scandir.join("gateway-coder/supervise");
        fs::create_dir_all(&supervise).unwrap();
        let now = Tai64n::now_from(SystemTime::now());
        let status = Status {
            changed: now,
            ready_at: now,
            pid: Pid::new(std::process::id().cast_signed()),
            last: WaitStatus::from_raw(0),
            paused: false,
            finishing: false,
            want_up: true,
            ready: false,
        };
        fs::write(supervise.join("status"), status.encode()).unwrap();
        assert_eq!(held(), None, "this process is its gateway now");
    }
}
