//! `gatevisor init`, which is `/init`: the first process of a container.
//!
//! *Lives here:* the order of the boot; then this process becomes the supervisor, with the same process number.
//! *Does not live here:* the steps of the boot (`gatevisor-boot`), and what happens after it (`gatevisor-init`).
//!
//! **Source:** docs/behaviour.md, from *Process 1 and the container's command* to *What a boot prepares*.

mod limits;
mod needs;
mod scandir;
mod search;

use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gatevisor_boot::child::{ChildError, ChildRunner};
use gatevisor_boot::environment::{self, Variable};
use gatevisor_boot::repair::Repair;
use gatevisor_boot::runtime_directories::{self, RuntimeDirectories};
use gatevisor_boot::{accounts, hooks, presence, route, seed, services, volume};
use gatevisor_gateways::agent::{AgentDefinition, BootStep, StaticService};
use gatevisor_gateways::profile::{Home, SERVICE_PREFIX};
use gatevisor_gateways::reconcile::{ContainerRole, ReconcileSettings, reconcile, role};
use gatevisor_paths::OpenHome;
use gatevisor_slot::home_lock;
use gatevisor_sys::environment::{DEFAULT_PATH, USER_PATH, block};
use gatevisor_sys::user::{self, User};
use gatevisor_sys::{file, process};
use gatevisor_wire::wait::WaitStatus;
use jiff::Zoned;
use rustix::fs::{MemfdFlags, Mode};

use crate::context::{CONTAINER_SCANDIR, SCANDIR_VARIABLE};
use crate::enter::{self, guard};
use crate::exit::{CommandError, Exit, Outcome};
use crate::{out, supervise, takeover, watch};

/// The verb that becomes the container's command.
pub const COMMAND: &str = "container-command";
/// The name that the agent's command line looks for in the first process.
///
/// **Source:** DET-1.
const COMM: &str = "s6-svscan";
/// Where the tools of s6 are.
const TOOLS: &str = "/command";
/// What s6-overlay does when a hook fails; `2` is to stop.
const FAILING_VARIABLE: &str = "S6_BEHAVIOUR_IF_STAGE2_FAILS";
/// Where run-time files are.
const RUN: &str = "/run";

/// How a home is made.
const HOME_MODE: Mode = Mode::from_raw_mode(0o755);
/// How long looking for what is not the agent's may take beyond its limit, at which it stops by itself.
const REPAIR_SLACK: Duration = Duration::from_secs(5);

/// Boots the container and becomes its supervisor; returns only why that failed.
///
/// `words` are the container's arguments, the entry point itself not among them.
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

/// Runs as tini would be run: its own options mean nothing here.
///
/// **Source:** TINI-1.
pub fn run_as_tini(words: &[OsString]) -> Outcome {
    match route::without_tini_options(words) {
        [first, rest @ ..] if first == "/init" => run(rest),
        rest => run(rest),
    }
}

/// Why the boot ended.
enum Stop {
    Failed(CommandError),
    /// This signal asked for it.
    Signal(i32),
}

impl From<CommandError> for Stop {
    fn from(failure: CommandError) -> Self {
        Self::Failed(failure)
    }
}

impl From<ChildError> for Stop {
    fn from(error: ChildError) -> Self {
        match error {
            ChildError::Stopped(number) => Self::Signal(number),
            ChildError::System(_) | ChildError::TooLong(_) => {
                CommandError::new(Exit::System, format!("cannot boot: {error}")).into()
            }
        }
    }
}

/// What is known of the lock of the home.
enum HomeLock {
    /// Nobody could ask for it.
    NotAsked,
    /// Another container has it, or this one runs no gateways.
    NotHeld,
    /// This one has it as long as this process lives.
    Held(volume::HeldHomeLock),
}

struct ContainerBoot<'a> {
    agent: AgentDefinition,
    words: &'a [OsString],
    program: PathBuf,
    home: PathBuf,
    variables: Vec<Variable>,
    runner: ChildRunner,
    /// The agent's user, where this process is root.
    user: Option<User>,
    /// The home, through which all work in it goes; nothing where the way to it was refused.
    opened: Option<OpenHome>,
    /// Whether the gateways of the home run here.
    lock: HomeLock,
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

    /// Does everything in order; returns why the last step, becoming the supervisor, failed.
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
        let places = self.places(limit)?;
        let group = self.user.as_ref().map(|user| user.gid);
        let left_out = environment::dump(&places.environment, &self.variables, group).map_err(|error| {
            let path = places.environment.display();
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
        self.hooks(&places)?;
        self.slots(&places, limit)?;
        Ok(self.become_supervisor(&places))
    }

    /// Says where the agent's own programs are looked for, and takes that out of what root searches.
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

    /// Gives the agent's user the ids that are asked for, and the groups of devices; returns it.
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
            set(&format!("{prefix}{own}"))
                .or_else(|| set(alias))
                .and_then(OsStr::to_str)
                .and_then(accounts::wanted_id)
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

    /// Makes the run-time directories; an unprivileged user who may not use the usual ones gets some of its own.
    fn places(&mut self, limit: Option<Duration>) -> Result<RuntimeDirectories, Stop> {
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

    /// Makes the home and gives it, and what the agent uses in it, to the agent.
    fn repair(&mut self, limit: Option<Duration>) -> Result<(), Stop> {
        match OpenHome::open_or_make(&self.home, HOME_MODE) {
            Ok(home) => self.opened = Some(home),
            // Whoever decides what is there makes it.
            Err(error @ gatevisor_paths::HomeError::NotMade { .. }) => {
                out::warn(&format!("{error}; the agent makes it, if it may"));
                self.opened = self.made_by_agent(limit)?;
            }
            Err(error) => {
                out::warn(&format!("cannot use the home `{}`: {error}", self.home.display()));
            }
        }
        let (Some(user), Some(home)) = (&self.user, &self.opened) else { return Ok(()) };
        let container = &self.agent.container;
        let ended = self.runner.run(limit.map(|limit| limit.saturating_add(REPAIR_SLACK)), || {
            let until = limit.and_then(|limit| Instant::now().checked_add(limit));
            let mut progress = |line: String| drop(out::line(format_args!("init: {line}")));
            let mut repair = match Repair::new(home, (user.uid, user.gid), until, &mut progress) {
                Ok(repair) => repair,
                Err(refused) => {
                    let _ = out::line(format_args!("init: warning: {refused}"));
                    return 0;
                }
            };
            if repair.home_is_foreign() {
                repair.home();
                container.owned_at_first.iter().for_each(|path| repair.tree(path));
            }
            container.owned.iter().for_each(|path| repair.tree(path));
            container.owned_files.iter().for_each(|path| repair.file(path));
            let outcome = repair.finish();
            for complaint in &outcome.complaints {
                let _ = out::line(format_args!("init: warning: {complaint}"));
            }
            if outcome.changed > 0 {
                let _ = out::line(format_args!(
                    "init: gave {} of {} entries looked at in `{}` to its user",
                    outcome.changed,
                    outcome.looked_at,
                    home.path().display()
                ));
            }
            0
        });
        within("looking for what is not the agent's", ended).map(drop)
    }

    /// Has the agent make its home, below a directory that is not root's, and returns it.
    fn made_by_agent(&mut self, limit: Option<Duration>) -> Result<Option<OpenHome>, Stop> {
        let (user, home) = (self.user.as_ref(), &self.home);
        let ended = self.runner.run(limit, || {
            as_agent(user, || match OpenHome::open_or_make(home, HOME_MODE) {
                Ok(_) => 0,
                Err(error) => {
                    out::warn(&format!("cannot make the home `{}`: {error}", home.display()));
                    1
                }
            })
        });
        within("making the home", ended)?;
        Ok(OpenHome::open(&self.home).ok())
    }

    /// Makes what a home holds from its first boot on, and runs the agent's own steps.
    fn seed(&mut self, limit: Option<Duration>) -> Result<(), Stop> {
        let (agent, home, variables) = (&self.agent, &self.home, &self.variables);
        let user = self.user.as_ref();
        if let Some(opened) = &self.opened {
            let seeded = self.runner.run(limit, || {
                as_agent(user, || {
                    let lookup = |name: &str| environment::get(variables, name);
                    if let Err(errno) = volume::make(opened) {
                        out::warn(&format!("cannot make `{}` in the home: {errno}", volume::FILE));
                    }
                    for complaint in seed::seed(&agent.container, opened, &lookup) {
                        let _ = out::line(format_args!("init: warning: {complaint}"));
                    }
                    0
                })
            });
            within("filling the home", seeded)?;
        }
        for step in &agent.container.steps {
            if !is_asked_for(step, variables) {
                continue;
            }
            let expanded: Result<Vec<OsString>, _> = step
                .command
                .iter()
                .map(|word| {
                    gatevisor_slot::expand(word, &|name| {
                        environment::get(variables, name).map(OsStr::to_owned)
                    })
                })
                .collect();
            let Ok(argv) = expanded else {
                out::warn(&format!(
                    "{} is left out: its command names a variable that is not set",
                    step.name
                ));
                continue;
            };
            let mut own = variables.clone();
            environment::set(&mut own, "HOME", enter::user_home(user, home));
            let ended = self.runner.run(limit, || {
                as_agent(user, || {
                    // The agent's own look, whatever it has put there.
                    if !step.needs.iter().all(|path| home.join(path).exists()) {
                        return 0;
                    }
                    let errno = hooks::become_program(&argv, own, home);
                    out::warn(&format!(
                        "cannot execute `{}`: {errno}",
                        argv.first().map_or("", |_| &step.name)
                    ));
                    127
                })
            });
            if let Some(ended) = within(&step.name, ended)?
                && !ended.success()
            {
                out::warn(&format!("{} failed: {ended}; the boot goes on", step.name));
            }
        }
        Ok(())
    }

    /// Runs the image's hooks, and takes over what they add to the environment.
    fn hooks(&mut self, places: &RuntimeDirectories) -> Result<(), Stop> {
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
            match gatevisor_applets::container_environment(&places.environment) {
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
    fn slots(&mut self, places: &RuntimeDirectories, limit: Option<Duration>) -> Result<(), Stop> {
        let argv: Vec<String> = self.words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let has_gateways = role(&self.agent, &argv) != ContainerRole::NoGateways;
        if !has_gateways {
            self.lock = HomeLock::NotHeld;
        }
        let elsewhere = has_gateways && self.is_taken();
        let mut others = self.agent.container.services.clone();
        if has_gateways {
            // Whoever waits for the home watches it when he has it.
            others.push(own(if elsewhere { takeover::NAME } else { watch::NAME }));
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
                    scandir: &places.scandir,
                    interpreter: program,
                    container_argv: &argv,
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
                out::warn_all(&services::publish(&others, &places.scandir, program, &lookup));
                code
            })
        });
        if !within("reconciling the gateways", ended)?.is_some_and(WaitStatus::success) {
            out::warn("the gateways of this home are not supervised, for the reason above");
        }
        Ok(())
    }

    /// Returns whether another container has the gateways of the home. Where none has, this one has them from now on.
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

    /// Has the supervisor hold the lock, and writes down for whoever starts a gateway which file that is: its owner may put
    /// another in its place.
    fn pass_lock(&self, places: &RuntimeDirectories) {
        let held = match &self.lock {
            HomeLock::NotAsked => return,
            HomeLock::NotHeld => None,
            HomeLock::Held(lock) => match lock.survive() {
                Ok(()) => Some(lock.identity()),
                Err(errno) => return out::warn(&format!("cannot keep the home locked: {errno}")),
            },
        };
        let boot = home_lock::BootNote { held, home: self.home.clone() };
        let written = OpenHome::open(&places.scandir).map_err(|error| error.to_string());
        if let Err(why) = written.and_then(|scandir| boot.write(&scandir).map_err(|errno| errno.to_string()))
        {
            out::warn(&format!(
                "cannot write down who has the lock of the home, so its gateways may run in two containers: {why}"
            ));
        }
    }

    /// Replaces this process by the supervisor; returns why that failed.
    fn become_supervisor(mut self, places: &RuntimeDirectories) -> CommandError {
        let failed = |what: &dyn std::fmt::Display| {
            CommandError::new(Exit::System, format!("cannot become the supervisor: {what}"))
        };
        // Held until the supervisor ends, which this process becomes.
        let _presence = presence::announce(&places.root).inspect_err(|error| {
            out::warn(&format!("`gatevisor health --supervisor` will see no supervisor: {error}"));
        });
        let (command, shown) = self.command();
        let passed = rustix::fs::memfd_create("command", MemfdFlags::empty()).and_then(|fd| {
            file::write_all(&fd, &supervise::packed(&command))?;
            rustix::fs::seek(&fd, rustix::fs::SeekFrom::Start(0))?;
            Ok(fd)
        });
        let passed = match passed {
            Ok(passed) => passed,
            Err(errno) => return failed(&errno),
        };
        let home = enter::user_home(self.user.as_ref(), &self.home);
        environment::set(&mut self.variables, "HOME", home);
        self.pass_lock(places);
        let grace = limits::grace_ms(&self.variables).to_string();
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
        argv.push(places.scandir.as_os_str());
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
        // A signal that comes now is left to the supervisor.
        failed(&process::exec_with_blocked_signals(&program, &argv, &block))
    }

    /// Returns whether a path leads to this program, whatever it is called.
    fn is_this_program(&self, path: &OsStr) -> bool {
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        real(Path::new(path)).is_some_and(|found| Some(found) == real(&self.program))
    }

    /// Returns what the command's process executes, and the words that tell others about it.
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

/// Returns how a step ended; `None`, which is said, where it took too long.
fn within(step: &str, ended: Result<WaitStatus, ChildError>) -> Result<Option<WaitStatus>, Stop> {
    match ended {
        Ok(status) => Ok(Some(status)),
        Err(error @ ChildError::TooLong(_)) => {
            out::warn(&format!("{step} {error} (`{}`); the boot goes on", limits::STEP_VARIABLE));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Changes an account file; says so and goes on where it cannot be. Returns whether it was changed.
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

/// Does `job` as this user, where there is one, in a process that ends afterwards.
fn as_agent(user: Option<&User>, job: impl FnOnce() -> i32) -> i32 {
    if let Some(user) = user
        && let Err(errno) = user::assume(user)
    {
        out::warn(&format!("cannot become user `{}`: {errno}", String::from_utf8_lossy(&user.name)));
        return i32::from(Exit::System.code());
    }
    job()
}

/// Returns a service that is a verb of this program.
fn own(verb: &str) -> StaticService {
    StaticService {
        name: verb.to_owned(),
        command: vec!["gatevisor".to_owned(), verb.to_owned()],
        switch: None,
        directory: None,
        environment: std::collections::BTreeMap::new(),
        flags: std::collections::BTreeMap::new(),
    }
}

fn is_asked_for(step: &BootStep, variables: &[Variable]) -> bool {
    let set = |name: &String| environment::get(variables, name).is_some_and(|value| !value.is_empty());
    step.variable.as_ref().is_none_or(set)
}
