//! The interpreter of `run`: becomes the command, or reports why not.
//!
//! *Lives here:* the order of the steps from our start by the kernel to the running command.
//! *Does not live here:* the decisions in these steps; see the modules that they call.
//!
//! Root's rights are given up before any other file than `run` is read.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::ExitCode;

use gatevisor_sys::environment::{self, GATEWAY_PATH, ProgramEnvironment};
use gatevisor_wire::exit::Exit;
use gatevisor_wire::member::{self, Member};
use gatevisor_wire::script::Flaw;
use rustix::fs::{CWD, Mode};
use rustix::io::Errno;

use crate::confine::{self, Cannot, Confinement, Paths, allows};
use crate::data_files::{LIVE, NOT_READY, START_ERROR, STARTED};
use crate::error_reporter::ErrorReporter;
use crate::expand::is_truthy;
use crate::failure::{FailedStart, one_line};
use crate::file::{MAX_BYTES, ParseError, Ready, ServiceFile, Stderr, parse_service};
use crate::handoff::Handoff;
use crate::home_lock::Standing;
use crate::identity::{RunAs, decide};
use crate::live::Live;
use crate::lookups::{Lookups, expanded};
use crate::notify::Receiver;
use crate::probe::{LATE_INTERVAL_MS, ReadinessProbe};
use crate::readiness::Readiness;
use crate::start_permits::StartSight;
use crate::{http, notify, os, readiness, restart_reason, start_delay};

/// Becomes the command that a `run` file describes. Returns only if that fails.
///
/// `args` are the path of the file, which the kernel gives, and the service's name, which the
/// supervisor gives. The working directory is the service directory.
///
/// On failure one line goes to standard error and to `data/start-error`: `<stage>: <message> (errno
/// N)`. The exit code is 127 if the command does not exist, 126 if it cannot be executed, 100 if
/// the file is bad, and 111 if anything else went wrong before it. On success `data/start-error` is
/// removed. Just before that, our process number is written to `data/started`, with who will
/// announce the service's readiness. The file is locked until the start has succeeded or failed.
///
/// A gateway may first have to wait for others (`after`) and for its turn (`start-parallel`).
/// `sight` finds out about the gateways that are starting.
pub fn run_service(args: impl IntoIterator<Item = OsString>, sight: StartSight) -> ExitCode {
    let mut args = args.into_iter();
    let Some(script) = args.next() else {
        os::say(
            "gatevisor: service: usage: gatevisor service FILE [NAME]; the first line of FILE calls this",
        );
        return Exit::Usage.into();
    };
    let name = args.next().unwrap_or_else(|| "service".into());
    // It is kept open, because the place of `start-error` must be found again after the directory
    // changes.
    let directory = os::here().ok();
    let name = name.to_string_lossy();
    let mut held = KeptOpen::default();
    let failure = become_command(Path::new(&script), &name, directory.as_ref(), sight, &mut held);
    let code = failure.report(&name, directory, held.error_reporter.take());
    // It is unlocked only now, because a process that waits for the lock reads the reason next.
    drop(held);
    code
}

/// Files that stay open until the command is executed, or has failed to be.
#[derive(Default)]
struct KeptOpen {
    /// `data/started`, locked.
    started: Option<OwnedFd>,
    error_reporter: Option<ErrorReporter>,
}

/// Everything that the command is started with.
struct ServiceStart {
    argv: Vec<CString>,
    environment: ProgramEnvironment,
    directory: Option<OsString>,
    landlock: Option<Paths>,
    readiness: Readiness,
    live: Option<Live>,
    /// The socket on which the service reports its state.
    receiver: Option<Receiver>,
}

/// Replaces this process by the command; returns why that failed.
fn become_command(
    script: &Path,
    name: &str,
    directory: Option<&OwnedFd>,
    sight: StartSight,
    held: &mut KeptOpen,
) -> FailedStart {
    let launched = still_wanted(name)
        .and_then(|()| prepare(script, name, sight))
        .and_then(|(file, start, confinement)| launch(&file, start, name, confinement, directory, held));
    match launched {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

/// Returns an error if the supervisor that started this process is gone. The next supervisor has
/// searched for leftovers, and could not find a process that had not come this far.
fn still_wanted(name: &str) -> Result<(), FailedStart> {
    let Some(value) = std::env::var_os(member::VARIABLE) else { return Ok(()) };
    let Some(member) = Member::parse(value.as_bytes()) else { return Ok(()) };
    // If it was started by hand, or by another supervisor, it may have inherited another service's
    // variable.
    let is_ours = member.name == name.as_bytes()
        && gatevisor_sys::file::lasting_identity(CWD, "..")
            .is_ok_and(|scandir| scandir.as_bytes() == member.scandir);
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    match parent {
        // In a PID namespace of its own it has no parent.
        Some(parent) if is_ours && parent != member.supervisor => {
            let message =
                format!("the supervisor that started this, process {}, has gone", member.supervisor);
            Err(FailedStart { stage: "starting".to_owned(), message, errno: None, exit: Exit::System })
        }
        _ => Ok(()),
    }
}

fn prepare(
    script: &Path,
    name: &str,
    sight: StartSight,
) -> Result<(ServiceFile, ServiceStart, Confinement), FailedStart> {
    let (file, owner) = read(script)?;
    let confinement = Confinement::begin(&file)?;
    set_user(&file, owner)?;
    let mut lookups = Lookups::read(&file)?;
    if start_delay::wait(&file, name, sight, &lookups)? {
        // Everything that was read before may have changed during the wait.
        still_wanted(name)?;
        lookups = Lookups::read(&file)?;
    }
    if file.home_lock {
        hold_home()?;
    }
    lookups.restart_reason = restart_reason::take();
    let start = lookups.start(&file)?;
    Ok((file, start, confinement))
}

/// Returns an error if another container runs the gateways of the home, or if it is unknown which
/// one does.
fn hold_home() -> Result<(), FailedStart> {
    const STAGE: &str = "asking for the lock of the home";
    let scandir = gatevisor_sys::file::open_directory(CWD, "..")
        .map_err(|errno| FailedStart::system(STAGE, "cannot open the scandir", errno))?;
    match Standing::of(&scandir) {
        standing if standing.allows() => Ok(()),
        standing => {
            let (stage, message) = (STAGE.to_owned(), standing.to_string());
            Err(FailedStart { stage, message, errno: None, exit: Exit::System })
        }
    }
}

fn read(script: &Path) -> Result<(ServiceFile, u32), FailedStart> {
    let stage = || format!("reading {}", script.display());
    let read = os::read_file(script, u64::try_from(MAX_BYTES).unwrap_or(u64::MAX)).map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        FailedStart::system(stage(), "cannot read the file", errno)
    })?;
    let file = parse_service(&read.bytes).map_err(|error| match error {
        ParseError::Flaw(flaw) => flawed(stage(), flaw, script),
        other => FailedStart::plain(stage(), &other, Exit::Usage),
    })?;
    Ok((file, read.owner))
}

/// Returns the failure for a file that an editor of another system spoiled, with the command that
/// fixes it.
fn flawed(stage: String, flaw: Flaw, script: &Path) -> FailedStart {
    let path = std::path::absolute(script).unwrap_or_else(|_| script.to_owned());
    let path: std::path::PathBuf = path.components().collect();
    let message =
        format!("{} in `{}`; fix that: {} {}", flaw.words(), path.display(), flaw.fix(), path.display());
    FailedStart { stage, message, errno: None, exit: Exit::Usage }
}

fn set_user(file: &ServiceFile, owner: u32) -> Result<(), FailedStart> {
    const STAGE: &str = "setting user";
    let look = |name: &[u8]| {
        os::lookup(name).map_err(|error: os::LookupError| FailedStart::plain(STAGE, &error, Exit::System))
    };
    let wanted = match &file.user {
        // Dotenv files belong to the user that we are about to become, so they do not count yet.
        Some(template) => {
            let name = expanded("user", template, &|name| std::env::var_os(name))?;
            Some(look(name.as_bytes())?)
        }
        None => None,
    };
    let current = rustix::process::geteuid().as_raw();
    let decision = decide(current, owner, wanted.as_ref())
        .map_err(|error| FailedStart::plain(STAGE, &error, Exit::System))?;
    let user = match (decision, wanted) {
        (RunAs::Keep, _) => return Ok(()),
        (RunAs::BecomeNamed, Some(user)) => user,
        (RunAs::BecomeNamed | RunAs::BecomeOwner, _) => look(owner.to_string().as_bytes())?,
    };
    os::assume(&user).map_err(|errno| {
        let name = String::from_utf8_lossy(&user.name).into_owned();
        FailedStart::system(STAGE, format_args!("cannot become user `{name}`"), errno)
    })
}

impl Lookups {
    fn start(&self, file: &ServiceFile) -> Result<ServiceStart, FailedStart> {
        let lookup = |name: &str| self.get(name);
        let mut argv = Vec::with_capacity(file.command.len());
        for word in &file.command {
            argv.push(c_string("command", expanded("command", word, &lookup)?)?);
        }
        let directory = match &file.directory {
            Some(template) => Some(expanded("directory", template, &lookup)?),
            None => None,
        };
        let mut live = file.live.as_ref().map(|live| self.live(live)).transpose()?;
        let (receiver, told) = listen(live.as_mut()).unzip();
        let environment = self.environment(file, told.as_ref().map_or(&[], |told| &told[..]))?;
        let landlock = confine::expand_paths(file, &|key, text| expanded(key, text, &lookup))?;
        let readiness = self.readiness(file.ready.as_ref(), receiver.is_some())?;
        Ok(ServiceStart { argv, environment, directory, landlock, readiness, live, receiver })
    }

    /// Returns the command's environment.
    fn environment(
        &self,
        file: &ServiceFile,
        told: &[(&str, OsString)],
    ) -> Result<ProgramEnvironment, FailedStart> {
        let is_left_out = |name: &[u8]| {
            file.environment_allow
                .as_ref()
                .is_some_and(|allow| !allow.iter().any(|pattern| allows(pattern, name)))
        };
        let replaced = |name: &[u8]| file.environment.keys().any(|key| key.as_bytes() == name);
        let inherited = environment::inherited(std::env::vars_os().collect());
        let mut variables = inherited.clone();
        variables.retain(|(name, _)| !replaced(name.as_bytes()) && !is_left_out(name.as_bytes()));
        for (name, value) in self.exported().iter().filter(|(name, _)| !replaced(name.as_bytes())) {
            environment::set(&mut variables, name, value);
        }
        for (key, template) in &file.environment {
            // Within its own entry, a name stands for the inherited value, so that `PATH =
            // "/x:${PATH}"` works.
            let lookup = |name: &str| {
                let own = (name == key).then(|| environment::get(&inherited, name)).flatten();
                own.map(OsStr::to_owned).or_else(|| self.get(name))
            };
            let value = expanded(&format!("environment.{key}"), template, &lookup)?;
            let value = c_string(&format!("environment.{key}"), value)?;
            variables.push((key.into(), OsString::from_vec(value.into_bytes())));
        }
        restart_reason::tell(&mut variables, self.restart_reason.as_ref());
        for (name, value) in told {
            environment::set(&mut variables, name, value);
        }
        ProgramEnvironment::exactly(variables, GATEWAY_PATH)
            .map_err(|errno| FailedStart::system("executing", "cannot make the environment", errno))
    }

    /// Returns how the supervisor learns that the service is ready. `notifies` tells whether the
    /// service may announce it by `sd_notify`.
    fn readiness(&self, ready: Option<&Ready>, notifies: bool) -> Result<Readiness, FailedStart> {
        let Some(number) = readiness::notification_number() else { return Ok(Readiness::Unannounced) };
        if ready.is_none() && !notifies {
            return Ok(Readiness::Inherited);
        }
        // A number that is not open means that nobody waits (the script was started by hand), which
        // is not an error.
        let Ok(notify) = os::adopt_fd(number) else { return Ok(Readiness::Unannounced) };
        let lookup = |name: &str| self.get(name);
        let wanted = match ready.and_then(|ready| ready.when.as_ref()) {
            Some(template) => is_truthy(&expanded("ready.when", template, &lookup)?),
            None => true,
        };
        let Some(ready) = ready.filter(|_| wanted) else {
            return Ok(if notifies { Readiness::Relayed(notify) } else { Readiness::Unannounced });
        };
        let url = expanded("ready.http", &ready.http, &lookup)?;
        let target = http::parse_url(&url.to_string_lossy())
            .map_err(|error| FailedStart::plain("expanding ready.http", &error, Exit::System))?;
        let (interval_ms, timeout_ms) = (ready.interval_ms, ready.timeout_ms);
        let probe = ReadinessProbe { target, interval_ms, timeout_ms, late_interval_ms: LATE_INTERVAL_MS };
        Ok(Readiness::Probed(probe, notify))
    }
}

/// Returns the socket for a service that reports its state itself, and the variables that tell the
/// service about the socket.
///
/// If no socket can be made, that is reported, and no message is expected. The working directory is
/// still the service's own.
fn listen(live: Option<&mut Live>) -> Option<(Receiver, [(&'static str, OsString); 2])> {
    let live = live.filter(|live| live.notify)?;
    let listening = notify::listen(&live.settings()?);
    live.notify = listening.is_ok();
    let refused =
        |why| os::say(&format!("gatevisor: nobody listens to what this service says by sd_notify: {why}"));
    listening.map_err(refused).ok()
}

/// Performs the last steps, which change this process, and executes the command. Returns only if
/// that fails, with the reason.
fn launch(
    file: &ServiceFile,
    start: ServiceStart,
    name: &str,
    mut confinement: Confinement,
    service_directory: Option<&OwnedFd>,
    held: &mut KeptOpen,
) -> Result<Infallible, FailedStart> {
    settle(file, start.directory.as_deref(), &mut confinement)?;
    let announcer = start.readiness.announcer();
    if let Some(directory) = service_directory {
        let _ = os::remove_in_data(directory.as_fd(), NOT_READY);
    }
    // Helpers get the limits and rights of the process before the restrictions.
    readiness::fork_helpers(start.readiness, start.receiver, name, service_directory)?;
    if let Some(directory) = service_directory {
        let hindered = start.landlock.is_some() || !file.limits.is_empty();
        held.error_reporter = hindered.then(|| ErrorReporter::fork(directory).ok()).flatten();
        // This comes after the helpers are forked, because they would keep the file open. If the
        // start fails before this, or if there is no `data/`, waiting processes learn of it by our
        // death.
        held.started = os::mark_in_data(directory, STARTED, announcer).ok().flatten();
        let _ = os::remove_in_data(directory.as_fd(), START_ERROR);
        say_how_it_is_followed(directory, start.live.as_ref());
    }
    if let Some(warning) = confinement.finish(file, start.landlock.as_ref())? {
        os::say(&format!("gatevisor: {name}: {warning}"));
    }
    for dropped in start.environment.dropped() {
        let directory = dropped.directory.display();
        os::say(&format!(
            "gatevisor: {name}: root does not look for programs in `{directory}`: {}",
            dropped.why
        ));
    }
    let errno = os::exec_search(&start.argv, &start.environment);
    let program = start.argv.first().map(|word| String::from_utf8_lossy(word.as_bytes()).into_owned());
    let variable = file.command.first().and_then(|word| first_variable(word));
    Err(FailedStart::not_executed(&program.unwrap_or_default(), variable, start.environment.path(), errno))
}

/// Publishes how the service is followed, best effort. The record of an earlier start has another
/// process number.
fn say_how_it_is_followed(directory: &OwnedFd, live: Option<&Live>) {
    let text = live.zip(os::own_pid()).and_then(|(live, pid)| live.encode(pid.get()));
    if let Some(text) = text {
        let _ = os::publish_in_data(directory.as_fd(), LIVE, text.as_bytes());
    }
}

fn settle(
    file: &ServiceFile,
    directory: Option<&OsStr>,
    confinement: &mut Confinement,
) -> Result<(), FailedStart> {
    if let Some(bits) = file.umask_bits() {
        let _ = rustix::process::umask(Mode::from_raw_mode(bits));
    }
    if let Some(nice) = file.nice {
        let set = rustix::process::setpriority_process(None, nice);
        let remedy = "only root may ask for a higher priority than it has";
        confinement
            .shortfall
            .take(set.map_err(|errno| Cannot::new(format!("nice = {nice}"), errno, remedy)))?;
    }
    if let Some(path) = directory {
        rustix::process::chdir(path).map_err(|errno| {
            FailedStart::system("changing directory", format_args!("`{}`", path.display()), errno)
        })?;
    }
    if file.stderr == Stderr::Log {
        os::join_stderr_to_stdout()
            .map_err(|errno| FailedStart::system("executing", "cannot join stderr to stdout", errno))?;
    }
    Ok(())
}

/// A service that may be asked what it wants: its `run`, which was read once, and its owner.
pub(crate) struct AskedService {
    file: ServiceFile,
    owner: u32,
}

impl AskedService {
    /// Reads the `run` of a service that has ended, or says why that is impossible.
    pub(crate) fn read(script: &Path) -> Result<Self, String> {
        read(script).map(|(file, owner)| Self { file, owner }).map_err(|failure| failure.message)
    }

    /// Returns how it is asked, if it is.
    pub(crate) const fn handoff(&self) -> Option<&Handoff> {
        self.file.handoff.as_ref()
    }

    /// Becomes the command that asks: as the service's user, in its directory, with its environment
    /// and its limits, and with the variables `known`. If that fails, it is reported, and the exit
    /// code is returned.
    pub(crate) fn become_question(&self, handoff: &Handoff, known: Vec<(String, OsString)>) -> i32 {
        let failure = match question(&self.file, self.owner, &handoff.command, known) {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        os::say(&one_line(&format!("gatevisor: {}: {}", failure.stage, failure.message)));
        i32::from(failure.exit.code())
    }
}

fn question(
    file: &ServiceFile,
    owner: u32,
    command: &[String],
    known: Vec<(String, OsString)>,
) -> Result<Infallible, FailedStart> {
    // Standard output is only for the answer.
    let file = ServiceFile {
        command: command.to_vec(),
        ready: None,
        live: None,
        stderr: Stderr::Inherit,
        ..file.clone()
    };
    let mut confinement = Confinement::begin(&file)?;
    set_user(&file, owner)?;
    if file.home_lock {
        hold_home()?;
    }
    let mut lookups = Lookups::read(&file)?;
    lookups.add(known);
    let start = lookups.start(&file)?;
    settle(&file, start.directory.as_deref(), &mut confinement)?;
    confinement.finish(&file, start.landlock.as_ref())?;
    let errno = os::exec_search(&start.argv, &start.environment);
    let program = start.argv.first().map(|word| String::from_utf8_lossy(word.as_bytes()).into_owned());
    let variable = file.command.first().and_then(|word| first_variable(word));
    Err(FailedStart::not_executed(&program.unwrap_or_default(), variable, start.environment.path(), errno))
}

/// Returns the first variable in a text of the service directory.
fn first_variable(template: &str) -> Option<&str> {
    let (_, rest) = template.split_once("${")?;
    rest.split([':', '}']).next().filter(|name| !name.is_empty())
}

fn c_string(what: &str, text: OsString) -> Result<CString, FailedStart> {
    CString::new(text.into_vec()).map_err(|_| FailedStart {
        stage: format!("expanding {what}"),
        message: "the text holds a NUL byte, which no program can be given".to_owned(),
        errno: None,
        exit: Exit::Usage,
    })
}
