//! Ending what an earlier life of a service has left behind: starting the child that does it.
//!
//! *Lives here:* which service it is told, as whom it runs, and whether an earlier supervisor ended in order.
//! *Does not live here:* finding and ending processes (`gatevisor-slot`, `survivors`); when that is done (the machine).

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use gatevisor_core::{Leftover, ServiceInput};
use gatevisor_sys::spawn::{self, EXTRAS, Environment, ProcessSpec};
use gatevisor_sys::{Errno, file};
use gatevisor_wire::files;
use gatevisor_wire::member::{self, Member};
use gatevisor_wire::status::{self, Status};
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};

use crate::perform::explain;
use crate::service::{Id, InFlight, ServiceRole, SupervisedService};
use crate::settings;
use crate::supervisor::Supervisor;

/// Milliseconds from `SIGTERM` to `SIGKILL` for the process of an earlier supervisor whose slot names none.
const ORPHAN_GRACE_MS: u64 = 10_000;
/// The same for what a process has left behind.
const SURVIVOR_GRACE_MS: u64 = 2000;
/// How long the logger of an earlier supervisor may read on.
const READER_GRACE_MS: u64 = 15_000;
/// What it takes besides to look for processes and to kill those that ignore `SIGTERM`.
const LOOKING_MS: u64 = 6000;

/// The process that a killed supervisor had for a service, and since when, as it published both last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Orphan(Status);

impl Orphan {
    /// Returns what the last supervisor of a service said, unless there was none.
    pub(crate) fn of(supervise: impl AsFd) -> Option<Self> {
        let mut buffer = [0; status::SIZE_2_13 + 1];
        let bytes = file::read_small(supervise, "status", &mut buffer).ok()?;
        Status::decode(bytes).ok().map(Self)
    }

    /// Returns the service's process, if it had one.
    pub(crate) fn pid(&self) -> Option<gatevisor_wire::Pid> {
        // While a finish script runs, or what ends other processes, the number is not the service's.
        self.0.pid.filter(|_| !self.0.finishing)
    }
}

/// Takes in that supervision of a scandir begins; returns whether the last one of ours did not end in order.
pub(crate) fn begin(svscan: impl AsFd) -> bool {
    let Some(name) = files::SVSCAN_UNFINISHED.rsplit('/').next() else { return false };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    openat(svscan, name, flags, Mode::from_raw_mode(0o600)).err() == Some(Errno::EXIST)
}

/// Returns the environment that all services have: what we belong to ourselves is not what they belong to.
pub(crate) fn environment(inherited: &[CString]) -> Environment {
    let is_ours = |assignment: &[u8]| {
        assignment.strip_prefix(member::VARIABLE.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
    };
    Environment::new(inherited.iter().filter(|one| !is_ours(one.as_bytes())).cloned().collect())
}

impl Supervisor {
    /// Takes in that supervision has ended in order.
    pub(crate) fn end_in_order(&self) {
        let Some(name) = files::SVSCAN_UNFINISHED.rsplit('/').next() else { return };
        let svscan = file::open_directory(&self.scandir, files::SVSCAN);
        let _ = svscan.and_then(|svscan| unlinkat(svscan, name, AtFlags::empty()));
    }

    /// Returns the environment of a process of the service.
    pub(crate) fn environment_of(&self, service: &SupervisedService) -> Rc<Environment> {
        let name = service.argument();
        let member = Member {
            scandir: self.scandir_identity.as_bytes(),
            supervisor: rustix::process::getpid().as_raw_nonzero().get(),
            name: name.as_bytes(),
        };
        let assignment = CString::new(member.assignment()).unwrap_or_default();
        Rc::new(Environment::with(&self.environments.of(service.owner.as_deref()), assignment))
    }

    /// Starts what ends processes that were left behind, as the service's user.
    pub(crate) fn spawn_clearing(&mut self, id: Id, whose: Leftover) -> ServiceInput {
        match self.try_spawn_clearing(id, whose) {
            Ok(event) => event,
            Err(failure) => ServiceInput::ClearFailed(format!(
                "what ends processes that were left behind cannot be started: {}",
                explain("finish", failure)
            )),
        }
    }

    fn try_spawn_clearing(&mut self, id: Id, whose: Leftover) -> Result<ServiceInput, spawn::StartFailure> {
        let gone = spawn::StartFailure { step: spawn::StartStep::Fork, errno: Errno::SRCH };
        let service = self.services.get(id).ok_or(gone)?;
        let (word, pid, grace_ms) = match (whose, service.role) {
            (Leftover::OfProcess(pid), _) => (c"survivors", Some(pid), SURVIVOR_GRACE_MS),
            (Leftover::OfSupervision(pid), ServiceRole::Main) => {
                let own = settings::timeout_kill_ms(&service.dir, &service.name());
                (c"orphan", pid, if own == 0 { ORPHAN_GRACE_MS } else { own })
            }
            // It ends by itself when what it reads from has ended.
            (Leftover::OfSupervision(pid), ServiceRole::Logger) => (c"reader", pid, READER_GRACE_MS),
        };
        let text = |number: String| CString::new(number).unwrap_or_default();
        let since = service.orphan.map_or(0, |orphan| orphan.0.changed.to_unix_ms());
        let mut argv = vec![
            c"gatevisor".to_owned(),
            c"end-survivors".to_owned(),
            text(self.scandir_identity.clone()),
            service.argument(),
            word.to_owned(),
            text(pid.map_or(0, gatevisor_wire::Pid::get).to_string()),
            text(since.to_string()),
            text(grace_ms.to_string()),
        ];
        argv.extend(service.group.clone());
        // Its user can look into it: who is not ours gets nothing of ours to write to.
        let to_log = service.role == ServiceRole::Main && (service.owner.is_some() || word == c"survivors");
        let log = service.pipe.as_ref().filter(|_| to_log).map(AsFd::as_fd);
        let starting = spawn::start(ProcessSpec {
            directory: service.dir.as_fd(),
            program: c"/proc/self/exe",
            argv,
            environment: self.environments.of(service.owner.as_deref()),
            stdin: self.null.as_fd(),
            stdout: log,
            stderr: log,
            extras: [None; EXTRAS],
            user: service.owner.as_deref(),
            given_back: self.given_back,
            pool: self.pool.as_ref(),
        })?;
        let pid = self.accompany(id, InFlight::Clear(starting))?;
        Ok(ServiceInput::ClearForked(pid, grace_ms.saturating_add(LOOKING_MS)))
    }
}

/// Returns what tells this scandir from every other one, also from a later one in its place.
pub(crate) fn identity(scandir: &OwnedFd) -> String {
    file::lasting_identity(scandir, "").unwrap_or_else(|_| "unknown".to_owned())
}
