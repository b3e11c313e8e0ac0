//! The last step of a boot: this process becomes the supervisor.
//!
//! *Lives here:* what the supervisor is given: the lock of the home, the command, its options.
//! *Does not live here:* its use of them (`gatevisor-init`).

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use gatevisor_boot::environment;
use gatevisor_boot::runtime_directories::RuntimeDirectories;
use gatevisor_boot::{presence, route};
use gatevisor_gateways::drain::{OWN_DRAIN_VARIABLE, own_drain_s};
use gatevisor_gateways::profile::SERVICE_PREFIX;
use gatevisor_paths::OpenHome;
use gatevisor_slot::home_lock;
use gatevisor_sys::environment::block;
use gatevisor_sys::process;

use super::container_boot::{COMMAND, ContainerBoot, HomeLock};
use super::limits;
use crate::exit::{CommandError, Exit};
use crate::{enter, out, supervise};

/// The name that the agent's command line looks for in the first process.
///
/// **Source:** DET-1.
const COMM: &str = "s6-svscan";

impl ContainerBoot<'_> {
    /// Makes the supervisor hold the lock, and records for every start of a gateway which file that
    /// is, because the home's owner may put another file in its place.
    fn pass_lock(&self, directories: &RuntimeDirectories) {
        let held = match &self.lock {
            HomeLock::NotAsked => return,
            HomeLock::NotHeld => None,
            HomeLock::Held(lock) => match lock.survive() {
                Ok(()) => Some(lock.identity()),
                Err(errno) => return out::warn(&format!("cannot keep the home locked: {errno}")),
            },
        };
        let boot = home_lock::BootNote { held, home: self.home.clone() };
        let written = OpenHome::open(&directories.scandir).map_err(|error| error.to_string());
        if let Err(why) = written.and_then(|scandir| boot.write(&scandir).map_err(|errno| errno.to_string()))
        {
            out::warn(&format!(
                "cannot write down who has the lock of the home, so its gateways may run in two containers: {why}"
            ));
        }
    }

    /// Replaces this process by the supervisor. Returns only if that fails, with the reason.
    pub(super) fn become_supervisor(mut self, directories: &RuntimeDirectories) -> CommandError {
        let failed = |what: &dyn std::fmt::Display| {
            CommandError::new(Exit::System, format!("cannot become the supervisor: {what}"))
        };
        // Held until the supervisor ends, which this process becomes.
        let _presence = presence::announce(&directories.root).inspect_err(|error| {
            out::warn(&format!("`gatevisor health --supervisor` will see no supervisor: {error}"));
        });
        let (command, shown) = self.command();
        let passed = match supervise::passed(&command) {
            Ok(passed) => passed,
            Err(errno) => return failed(&errno),
        };
        let home = enter::user_home(self.user.as_ref(), &self.home);
        environment::set(&mut self.variables, "HOME", home);
        self.pass_lock(directories);
        let grace_ms = limits::grace_ms(&self.variables);
        let own_drain = own_drain_s(&self.agent, Duration::from_millis(grace_ms));
        environment::set(&mut self.variables, OWN_DRAIN_VARIABLE, own_drain);
        let grace = grace_ms.to_string();
        let services = limits::max_services(&self.variables).to_string();
        let number = passed.as_raw_fd().to_string();
        let mut argv: Vec<&OsStr> = [
            "gatevisor",
            "supervise",
            "--label-output",
            "--comm",
            COMM,
            "--grace-ms",
            &grace,
            "--max-services-of-user",
            &services,
            "--stop-first",
            SERVICE_PREFIX,
            "--command-fd",
            &number,
        ]
        .map(OsStr::new)
        .to_vec();
        argv.push(directories.scandir.as_os_str());
        argv.push(OsStr::new("--"));
        argv.extend(shown.iter().map(OsString::as_os_str));
        let argv: Result<Vec<CString>, _> =
            argv.into_iter().map(|word| CString::new(word.as_bytes())).collect();
        let (Ok(argv), Ok(block)) = (argv, block(&self.variables)) else {
            return failed(&"an argument or a variable holds a NUL byte");
        };
        let Ok(program) = CString::new(self.program.as_os_str().as_bytes()) else {
            return failed(&"its path holds a NUL byte");
        };
        // Signals that come now are left to the supervisor.
        failed(&process::exec_with_blocked_signals(&program, &argv, &block))
    }

    /// Returns whether a path leads to this program, whatever its name is.
    fn is_this_program(&self, path: &OsStr) -> bool {
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        real(Path::new(path)).is_some_and(|found| Some(found) == real(&self.program))
    }

    /// Returns the words that the command's process executes, and the words by which others
    /// recognize it.
    fn command(&self) -> (Vec<OsString>, Vec<OsString>) {
        let agent = &self.agent;
        let (wrapper, rest) = match self.words {
            [first, rest @ ..] if route::is_wrapper(agent, first) => (Some(first), rest),
            all => (None, all),
        };
        let named = agent.container.wrapper.as_deref().unwrap_or("enter");
        let shown = route::shown(agent, wrapper.map_or(OsStr::new(named), OsString::as_os_str), rest);
        let shown = shown.into_iter().map(OsStr::to_owned).collect();
        let is_ours = wrapper.is_none_or(|wrapper| self.is_this_program(wrapper));
        let command = if !is_ours {
            self.words.to_vec()
        } else if wrapper.is_none() && rest.is_empty() && agent.container.default_command.is_empty() {
            Vec::new()
        } else {
            let ourselves = [self.program.clone().into_os_string(), COMMAND.into(), "--".into()];
            ourselves.into_iter().chain(rest.iter().cloned()).collect()
        };
        (command, shown)
    }
}
