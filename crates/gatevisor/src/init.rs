//! `gatevisor init`, which is `/init`: the first process of a container.
//!
//! *Lives here:* the order of the boot; at its end this process becomes the supervisor, with the
//! same process number.
//! *Does not live here:* the steps of the boot (`gatevisor-boot`), and everything after it
//! (`gatevisor-init`).
//!
//! **Source:** docs/design/behaviour.md, from *Process 1 and the container's command* to *What a
//! boot prepares*.

mod become_supervisor;
mod container_boot;
mod home;
mod limits;
mod needs;
mod scandir;
mod search;
mod stop;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::time::Duration;

use gatevisor_boot::child::ChildRunner;
use gatevisor_boot::environment::{self, Variable};
use gatevisor_boot::runtime_directories::{self, RuntimeDirectories};
use gatevisor_boot::{accounts, hooks, route, services, volume};
use gatevisor_gateways::agent::StaticService;
use gatevisor_gateways::profile::Home;
use gatevisor_gateways::reconcile::{ContainerRole, ReconcileSettings, reconcile, role};
use gatevisor_gateways::topology::{ProgramVersion, TopologyReader};
use gatevisor_sys::environment::{DEFAULT_PATH, USER_PATH};
use gatevisor_sys::user::{self, User};
use gatevisor_wire::wait::WaitStatus;
use jiff::Zoned;
use rustix::fs::Mode;

use self::container_boot::{ContainerBoot, HomeLock, as_agent, within};
use self::stop::Stop;
use crate::container_scandir::{CONTAINER_SCANDIR, SCANDIR_VARIABLE};
use crate::enter::{self, guard};
use crate::exit::{CommandError, Exit, Outcome};
use crate::{out, takeover, watch};

pub use self::container_boot::COMMAND;

/// The directory of s6's tools.
const TOOLS: &str = "/command";
/// The variable with s6-overlay's reaction to a failing hook; `2` means to stop.
const FAILING_VARIABLE: &str = "S6_BEHAVIOUR_IF_STAGE2_FAILS";
/// The directory of run-time files.
const RUN: &str = "/run";

/// Boots the container and becomes its supervisor. Returns only if that fails, with the reason.
///
/// `words` are the container's arguments, without the entry point itself.
pub fn run(words: &[OsString]) -> Outcome {
    let words = match words {
        [dashes, rest @ ..] if dashes == "--" => rest,
        all => all,
    };
    let stopped = |number: i32| Ok(u8::try_from(number).unwrap_or(0).saturating_add(128));
    match ContainerBoot::new(words).and_then(ContainerBoot::perform) {
        Ok(failure) | Err(Stop::Failed(failure)) => Err(failure),
        Err(Stop::Signal(number)) => stopped(number),
    }
}

/// Behaves like tini, whose options mean nothing here.
///
/// **Source:** TINI-1.
pub fn run_as_tini(words: &[OsString]) -> Outcome {
    match route::without_tini_options(words) {
        [first, rest @ ..] if first == "/init" => run(rest),
        rest => run(rest),
    }
}

impl<'a> ContainerBoot<'a> {
    fn new(words: &'a [OsString]) -> Result<Self, Stop> {
        let system = |what: String| CommandError::new(Exit::System, what);
        let runner =
            ChildRunner::new().map_err(|errno| system(format!("cannot listen for signals: {errno}")))?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        let agent = enter::agent()?;
        let mut variables: Vec<Variable> = std::env::vars_os().collect();
        let program = gatevisor_sys::process::own_program()
            .map_err(|error| system(format!("cannot find this program's own file: {error}")))?;
        let home = enter::home(&agent, &variables)?;
        environment::set(&mut variables, &agent.home_variable(), home.clone());
        environment::prepend_path(&mut variables, TOOLS, DEFAULT_PATH);
        if environment::get(&variables, "HOME").is_none_or(OsStr::is_empty) {
            environment::set(&mut variables, "HOME", "/root");
        }
        Ok(Self {
            agent,
            words,
            program,
            home,
            variables,
            runner,
            user: None,
            opened: None,
            lock: HomeLock::NotAsked,
        })
    }

    /// Performs all steps in order. Returns why the last step, becoming the supervisor, failed.
    fn perform(mut self) -> Result<CommandError, Stop> {
        if !rustix::process::getpid().is_init() {
            out::warn(
                "not PID 1, so the agent's own command line does not see this supervisor; gateways are supervised, \
                 and the requested command will still run",
            );
        }
        if rustix::process::geteuid().is_root() {
            self.user = Some(self.accounts()?);
        } else {
            guard(&self.agent, &self.home)?;
        }
        self.search_paths()?;
        let limit = limits::of_a_step(&self.variables);
        let directories = self.directories(limit)?;
        let group = self.user.as_ref().map(|user| user.gid);
        let left_out =
            environment::dump(&directories.environment, &self.variables, group).map_err(|error| {
                let path = directories.environment.display();
                CommandError::new(Exit::System, format!("cannot write the environment to `{path}`: {error}"))
            })?;
        for name in left_out {
            let name = name.to_string_lossy();
            out::warn(&format!(
                "the variable `{}` is not in the environment on disk: no file can have that name",
                name.escape_debug()
            ));
        }
        runtime_directories::mark();
        self.repair(limit)?;
        self.seed(limit)?;
        self.hooks(&directories)?;
        self.slots(&directories, limit)?;
        Ok(self.become_supervisor(&directories))
    }

    /// Reports the directories that only the agent's own programs search, and removes them from
    /// root's search path.
    fn search_paths(&mut self) -> Result<(), Stop> {
        let mut own = self.variables.clone();
        environment::set(&mut own, "HOME", enter::user_home(self.user.as_ref(), &self.home));
        enter::set_user_path(&self.agent, &mut own);
        if let Some(path) = environment::get(&own, USER_PATH) {
            environment::set(&mut self.variables, USER_PATH, path);
        }
        if self.user.is_some() {
            search::separate(&mut self.variables)?;
        }
        Ok(())
    }

    fn variable(&self, name: &str) -> Option<&OsStr> {
        environment::get(&self.variables, name)
    }

    /// Gives the agent's user the requested ids and the groups of devices; returns the user.
    fn accounts(&self) -> Result<User, Stop> {
        let name = self.agent.user();
        let look = || {
            user::lookup(name.as_bytes()).map_err(|error| {
                let hint =
                    format!("{error}; the image needs that user, or another one in its agent definition");
                CommandError::new(Exit::System, hint)
            })
        };
        let before = look()?;
        if let Some(missing) = needs::missing_capabilities(&before) {
            return Err(CommandError::new(Exit::System, missing).into());
        }
        let prefix = self.agent.prefix();
        let asked = |own: &str, alias: &str| {
            let set = |name: &str| self.variable(name).filter(|value| !value.is_empty());
            let name = format!("{prefix}{own}");
            let (name, value) =
                set(&name).map(|value| (&*name, value)).or_else(|| set(alias).map(|value| (alias, value)))?;
            let id = value.to_str().and_then(accounts::wanted_id);
            if id.is_none() {
                out::warn(&accounts::not_an_id(name, value));
            }
            id
        };
        let uid = asked("UID", "PUID").unwrap_or(before.uid);
        let gid = asked("GID", "PGID").unwrap_or(before.gid);
        edit("/etc/group", |text| accounts::with_group(text, name, gid));
        if edit("/etc/passwd", |text| accounts::with_user(text, name, uid, gid)) {
            out::line(format_args!(
                "init: user {name}: changed from {}:{} to {uid}:{gid}",
                before.uid, before.gid
            ))?;
        }
        for (gid, fallback) in accounts::device_groups() {
            edit("/etc/group", |text| accounts::with_member(text, name, gid, fallback));
        }
        Ok(look()?)
    }

    /// Makes the run-time directories. An unprivileged user who may not use the usual ones gets
    /// separate ones.
    fn directories(&mut self, limit: Option<Duration>) -> Result<RuntimeDirectories, Stop> {
        let mut usual = RuntimeDirectories::below(Path::new(RUN));
        let user = self.user.as_ref();
        let error = match scandir::make(&mut usual, user, &mut self.runner, limit)? {
            Ok(()) => {
                if usual.scandir != Path::new(CONTAINER_SCANDIR) {
                    environment::set(&mut self.variables, SCANDIR_VARIABLE, usual.scandir.clone());
                }
                return Ok(usual);
            }
            Err(error) => error,
        };
        let failed = |error| CommandError::new(Exit::System, needs::run_time_files(RUN, &error));
        if self.user.is_some() {
            return Err(failed(error).into());
        }
        let mut own =
            RuntimeDirectories::below(&runtime_directories::fallback(&std::env::temp_dir()).map_err(failed)?);
        scandir::make(&mut own, None, &mut self.runner, limit)?.map_err(failed)?;
        out::warn(&format!(
            "cannot use `{RUN}`: {error}; run-time files are in `{}`, where the agent's own command line does not look",
            own.root.display()
        ));
        environment::set(&mut self.variables, SCANDIR_VARIABLE, own.scandir.clone());
        Ok(own)
    }

    /// Runs the image's hooks, and adopts their additions to the environment.
    fn hooks(&mut self, directories: &RuntimeDirectories) -> Result<(), Stop> {
        let found = hooks::find(Path::new(hooks::DIRECTORY)).unwrap_or_else(|error| {
            out::warn(&format!("cannot read `{}`: {error}", hooks::DIRECTORY));
            Vec::new()
        });
        if self.user.is_some() && !found.is_empty() {
            search::say_what_root_is_not_told(&self.variables)?;
        }
        for hook in &found {
            let Some(failed) = self.hook(hook)? else { continue };
            if self.variable(FAILING_VARIABLE).is_some_and(|value| value == "2") {
                return Err(CommandError::new(
                    Exit::System,
                    format!("fatal: stopping the container: {failed}"),
                )
                .into());
            }
            out::warn(&format!("{failed}; the boot goes on"));
        }
        if !found.is_empty() {
            match gatevisor_applets::container_environment(&directories.environment) {
                Ok(variables) => self.variables = variables,
                Err(error) => out::warn(&format!("{error}; what hooks added to it is lost")),
            }
            self.search_paths()?;
        }
        Ok(())
    }

    /// Runs a hook, unless the agent may have written it; returns why it failed, if it did.
    fn hook(&mut self, hook: &Path) -> Result<Option<String>, Stop> {
        let shown = hook.display();
        if let Err(why) = hooks::check(hook, self.user.as_ref()) {
            let failed = format!(
                "the hook `{shown}` is not run as root: {why}, so the agent may have written it; make it root's"
            );
            return Ok(Some(failed));
        }
        let argv = [hook.as_os_str().to_owned()];
        let variables = self.variables.clone();
        let ended = self.runner.run(None, || {
            let errno = hooks::become_program(&argv, variables, Path::new("/"));
            out::warn(&format!("cannot execute `{shown}`: {errno}"));
            126
        })?;
        Ok((!ended.success()).then(|| format!("the hook `{shown}` failed: {ended}")))
    }

    /// Makes the slots of the gateways and of the other services, as the agent's user.
    fn slots(&mut self, directories: &RuntimeDirectories, limit: Option<Duration>) -> Result<(), Stop> {
        let argv: Vec<String> = self.words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let has_gateways = role(&self.agent, &argv) != ContainerRole::NoGateways;
        if !has_gateways {
            self.lock = HomeLock::NotHeld;
        }
        let elsewhere = has_gateways && self.is_taken();
        let mut others = self.agent.container.services.clone();
        if has_gateways {
            // A container that waits for the home watches the profiles once it has the home.
            others.push(own(if elsewhere { takeover::NAME } else { watch::NAME }));
            others.extend(Some(page()).filter(|page| services::is_on(page, &|name| self.variable(name))));
        }
        if elsewhere {
            out::line(format_args!(
                "init: another container runs the gateways of `{}`; this one leaves them alone, and takes over when \
                 that one is gone",
                self.home.display()
            ))?;
        }
        let home = Home::new(&self.home).map_err(CommandError::from)?;
        let (agent, variables, program) = (&self.agent, &self.variables, &self.program);
        let ended = self.runner.run(limit, || {
            as_agent(self.user.as_ref(), || {
                let lookup = |name: &str| environment::get(variables, name);
                let settings = ReconcileSettings {
                    agent,
                    home: &home,
                    scandir: &directories.scandir,
                    interpreter: program,
                    container_argv: &argv,
                    earlier: None,
                    elsewhere,
                    variable: &|name| lookup(name).map(OsStr::to_owned),
                    now: Zoned::now(),
                };
                let code = match reconcile(&settings, false) {
                    Ok(report) => {
                        for line in report.lines() {
                            let _ = out::line(format_args!("{line}"));
                        }
                        0
                    }
                    Err(error) => i32::from(out::fail(&CommandError::from(error))),
                };
                let topology = TopologyReader::at_boot(agent, &home, settings.variable);
                let version = version_for(&others, &topology, &lookup);
                let scandir = &directories.scandir;
                out::warn_all(&services::publish(&others, scandir, program, version, &lookup));
                code
            })
        });
        if !within("reconciling the gateways", ended)?.is_some_and(WaitStatus::success) {
            out::warn("the gateways of this home are not supervised, for the reason above");
        }
        Ok(())
    }

    /// Returns whether another container has the gateways of the home. If none has, this one has
    /// them from now on.
    fn is_taken(&mut self) -> bool {
        let Some(home) = &self.opened else { return false };
        match volume::try_take(home) {
            Ok(Some(lock)) => {
                self.lock = HomeLock::Held(lock);
                false
            }
            Ok(None) => {
                self.lock = HomeLock::NotHeld;
                true
            }
            Err(errno) => {
                out::warn(&format!(
                    "cannot lock the home, so its gateways may run in two containers: {errno}"
                ));
                false
            }
        }
    }
}

/// Changes an account file; a failure is reported and does not stop the boot. Returns whether the
/// file was changed.
fn edit(path: &str, change: impl Fn(&[u8]) -> Option<Vec<u8>>) -> bool {
    let result = fs::read(path).map(|text| change(&text)).and_then(|changed| match changed {
        Some(text) => accounts::write(Path::new(path), &text).map(|()| true),
        None => Ok(false),
    });
    result.unwrap_or_else(|error| {
        out::warn(&format!("cannot change `{path}`: {error}; users and groups stay as they are"));
        false
    })
}

/// Returns the version of the agent, if an argument of a service besides the gateways needs it.
fn version_for<'t, 'v>(
    others: &[StaticService],
    topology: &'t TopologyReader<'_>,
    variable: &dyn Fn(&str) -> Option<&'v OsStr>,
) -> Option<&'t ProgramVersion> {
    // Finding it may mean that the agent is asked.
    let is_used = others.iter().any(|service| {
        service.flags_known_by.is_some() && services::flags(service, variable).next().is_some()
    });
    if is_used { topology.version().and_then(Result::ok) } else { None }
}

/// Returns a service that is a verb of this program.
fn own(verb: &str) -> StaticService {
    of_words(verb, &[verb])
}

/// Returns the server of the page, which a variable switches on. A container's network is its own,
/// so the server listens at all its addresses.
fn page() -> StaticService {
    let listen = "${GATEVISOR_WEB_LISTEN:-0.0.0.0:9466}";
    let token = "--read-only-token-file=${GATEVISOR_WEB_TOKEN_FILE:-}";
    let service = of_words("gatevisor-web", &["web", "--listen", listen, token]);
    let flags = [("GATEVISOR_WEB_READ_ONLY".to_owned(), "--read-only".to_owned())].into();
    StaticService { switch: Some("GATEVISOR_WEB".to_owned()), flags, ..service }
}

fn of_words(name: &str, words: &[&str]) -> StaticService {
    StaticService {
        name: name.to_owned(),
        command: std::iter::once("gatevisor").chain(words.iter().copied()).map(str::to_owned).collect(),
        switch: None,
        directory: None,
        environment: std::collections::BTreeMap::new(),
        flags: std::collections::BTreeMap::new(),
        flags_known_by: None,
    }
}

#[cfg(test)]
mod tests {
    use super::page;
    use gatevisor_boot::services;
    use std::ffi::OsStr;
    use std::path::Path;

    #[test]
    fn the_page_is_served_where_a_variable_asks_for_it_at_an_address_that_another_may_name() {
        let with =
            |value: &'static str| move |name: &str| (name == "GATEVISOR_WEB").then(|| OsStr::new(value));
        for (value, expected) in [("1", true), ("yes", true), ("0", false), ("", false), ("on", false)] {
            assert_eq!(services::is_on(&page(), &with(value)), expected, "{value}");
        }
        let files = services::render(&page(), Path::new("/init"), None, &with("1")).unwrap().0;
        assert!(!files.iter().any(|file| file.path == "down"));
        let run = files.iter().find(|file| file.path == "run").unwrap();
        let run = String::from_utf8_lossy(&run.bytes);
        let command = "\"/init\", \"web\", \"--listen\", \"${GATEVISOR_WEB_LISTEN:-0.0.0.0:9466}\", \
                       \"--read-only-token-file=${GATEVISOR_WEB_TOKEN_FILE:-}\"";
        assert!(run.contains(command) && !run.contains("--read-only\""), "{run}");
        let all = |_: &str| Some(OsStr::new("1"));
        let files = services::render(&page(), Path::new("/init"), None, &all).unwrap().0;
        let run = files.iter().find(|file| file.path == "run").unwrap();
        assert!(String::from_utf8_lossy(&run.bytes).contains("\"--read-only\""));
    }
}
