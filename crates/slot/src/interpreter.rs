//! The interpreter of `run`: becomes the command, or says why not.
//!
//! *Lives here:* the order of the steps between the kernel starting us and the command running.
//! *Does not live here:* what the steps decide; see the modules they call.
//!
//! Root's authority is given up before anything but `run` itself is read.

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
use crate::expand::{expand, is_truthy};
use crate::failure::FailedStart;
use crate::file::{MAX_BYTES, ParseError, Ready, ServiceFile, Stderr, parse_service};
use crate::home_lock::Standing;
use crate::identity::{RunAs, decide};
use crate::live::Live;
use crate::notify::Receiver;
use crate::probe::ReadinessProbe;
use crate::readiness::Readiness;
use crate::{dotenv, http, notify, os, readiness};

/// Becomes the command that a `run` file describes; returns only if it cannot.
///
/// `args` are the path of the file, which the kernel gives, and the service's name, which the supervisor gives. The
/// working directory is the service directory.
///
/// On failure one line goes to standard error and to `data/start-error`: `<stage>: <message> (errno N)`. The exit
/// code is 127 if the command does not exist, 126 if it cannot be executed, 100 if the file is bad, and 111 if
/// anything else went wrong before it. On success `data/start-error` is removed. `data/started` bears our process number
/// from just before, with who will say that the service is ready, and is locked until either is so.
pub fn run_service(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let Some(script) = args.next() else {
        os::say(
            "gatevisor: service: usage: gatevisor service FILE [NAME]; the first line of FILE calls this",
        );
        return Exit::Usage.into();
    };
    let name = args.next().unwrap_or_else(|| "service".into());
    // Kept open, because the place for `start-error` must be found again after the directory changes.
    let directory = os::here().ok();
    let name = name.to_string_lossy();
    let mut held = KeptOpen::default();
    let failure = become_command(Path::new(&script), &name, directory.as_ref(), &mut held);
    let code = failure.report(&name, directory, held.error_reporter.take());
    // Not before: whoever waits for the lock looks for the reason next.
    drop(held);
    code
}

/// What is kept open until the command is executed, or cannot be.
#[derive(Default)]
struct KeptOpen {
    /// `data/started`, locked.
    started: Option<OwnedFd>,
    error_reporter: Option<ErrorReporter>,
}

/// Everything the command is started with.
struct ServiceStart {
    argv: Vec<CString>,
    environment: ProgramEnvironment,
    directory: Option<OsString>,
    landlock: Option<Paths>,
    readiness: Readiness,
    live: Option<Live>,
    /// The socket on which the service says how it is.
    receiver: Option<Receiver>,
}

/// Replaces this process by the command; returns why that failed.
fn become_command(
    script: &Path,
    name: &str,
    directory: Option<&OwnedFd>,
    held: &mut KeptOpen,
) -> FailedStart {
    let launched = still_wanted(name)
        .and_then(|()| prepare(script))
        .and_then(|(file, start, confinement)| launch(&file, start, name, confinement, directory, held));
    match launched {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

/// Returns an error where the supervisor that started this process is gone: the next supervisor has looked for what it
/// left, and could not find a process that had not come this far.
fn still_wanted(name: &str) -> Result<(), FailedStart> {
    let Some(value) = std::env::var_os(member::VARIABLE) else { return Ok(()) };
    let Some(member) = Member::parse(value.as_bytes()) else { return Ok(()) };
    // Started by hand, or by another supervisor, it may have inherited the variable of something else.
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

fn prepare(script: &Path) -> Result<(ServiceFile, ServiceStart, Confinement), FailedStart> {
    let (file, owner) = read(script)?;
    let confinement = Confinement::begin(&file)?;
    set_user(&file, owner)?;
    if file.home_lock {
        hold_home()?;
    }
    let lookups = Lookups::read(&file)?;
    let start = lookups.start(&file)?;
    Ok((file, start, confinement))
}

/// Returns an error where another container runs the gateways of the home, or nobody can tell which one does.
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

/// Returns the failure of a file that an editor of another system spoiled, with the command that fixes it.
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
        // Dotenv files belong to whoever we are about to become, so they do not count yet.
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

/// What `${VAR}` can mean: variables of dotenv files, the last file first, and the inherited environment.
struct Lookups {
    from_files: Vec<(String, OsString)>,
}

impl Lookups {
    fn read(file: &ServiceFile) -> Result<Self, FailedStart> {
        let mut from_files = Vec::new();
        for template in &file.environment_files {
            let path = expanded("environment-files", template, &|name| std::env::var_os(name))?;
            let stage = || format!("reading {}", path.display());
            match os::read_file(Path::new(&path), dotenv::MAX_BYTES) {
                Ok(read) if u64::try_from(read.bytes.len()).is_ok_and(|n| n <= dotenv::MAX_BYTES) => {
                    from_files.append(&mut dotenv::parse(&read.bytes));
                }
                Ok(_) => {
                    return Err(FailedStart::system(stage(), "larger than 1 MiB", Errno::FBIG));
                }
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::NOENT) => {}
                    errno => {
                        let errno = errno.unwrap_or(Errno::IO);
                        return Err(FailedStart::system(stage(), "cannot read the file", errno));
                    }
                },
            }
        }
        Ok(Self { from_files })
    }

    fn in_files(&self, name: &str) -> Option<OsString> {
        self.from_files.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    /// Returns the value of a variable: a profile's own file says more about it than the container does.
    fn get(&self, name: &str) -> Option<OsString> {
        self.in_files(name).or_else(|| std::env::var_os(name))
    }

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

    /// Returns how the service is followed in the life that begins.
    fn live(&self, live: &Live) -> Result<Live, FailedStart> {
        let lookup = |name: &str| self.get(name);
        let text = |key: &'static str, text: &str| {
            expanded(key, text, &lookup).map(|text| text.to_string_lossy().into_owned())
        };
        let mut live = live.with_texts(&text)?;
        live.check_expanded().map_err(|(key, message)| FailedStart {
            stage: format!("expanding {key}"),
            message,
            errno: None,
            exit: Exit::Usage,
        })?;
        for address in [&mut live.http, &mut live.tcp] {
            address.take_if(|address| address.when.as_ref().is_some_and(|when| !is_truthy(when.as_ref())));
        }
        Ok(live)
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
        for (key, template) in &file.environment {
            // Within its own entry a name means what was inherited, so that `PATH = "/x:${PATH}"` is safe.
            let lookup = |name: &str| {
                let own = (name == key).then(|| environment::get(&inherited, name)).flatten();
                own.map(OsStr::to_owned).or_else(|| self.get(name))
            };
            let value = expanded(&format!("environment.{key}"), template, &lookup)?;
            let value = c_string(&format!("environment.{key}"), value)?;
            variables.push((key.into(), OsString::from_vec(value.into_bytes())));
        }
        for (name, value) in told {
            environment::set(&mut variables, name, value);
        }
        ProgramEnvironment::exactly(variables, GATEWAY_PATH)
            .map_err(|errno| FailedStart::system("executing", "cannot make the environment", errno))
    }

    /// Returns how the supervisor learns that the service is ready; `notifies` is whether it may say so by `sd_notify`.
    fn readiness(&self, ready: Option<&Ready>, notifies: bool) -> Result<Readiness, FailedStart> {
        let Some(number) = readiness::notification_number() else { return Ok(Readiness::Unannounced) };
        if ready.is_none() && !notifies {
            return Ok(Readiness::Inherited);
        }
        // A number that is not open means that nobody waits (the script was started by hand), which is no failure.
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
        let probe = ReadinessProbe { target, interval_ms: ready.interval_ms, timeout_ms: ready.timeout_ms };
        Ok(Readiness::Probed(probe, notify))
    }
}

/// Returns the socket of a service that says by itself how it is, and the variables that tell the service of it.
///
/// Where there can be no socket, that is said, and nobody expects a word; the working directory is still the service's own.
fn listen(live: Option<&mut Live>) -> Option<(Receiver, [(&'static str, OsString); 2])> {
    let live = live.filter(|live| live.notify)?;
    let listening = notify::listen(&live.settings()?);
    live.notify = listening.is_ok();
    let refused =
        |why| os::say(&format!("gatevisor: nobody listens to what this service says by sd_notify: {why}"));
    listening.map_err(refused).ok()
}

/// Takes the last steps, in which this process changes, and executes the command; returns only why that failed.
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
    // The limits and rights of those are the ones of before.
    readiness::fork_helpers(start.readiness, start.receiver, name, service_directory)?;
    if let Some(directory) = service_directory {
        let hindered = start.landlock.is_some() || !file.limits.is_empty();
        held.error_reporter = hindered.then(|| ErrorReporter::fork(directory).ok()).flatten();
        // After the others were forked, which would keep it open. Of a failure before this, and where there is no `data/`,
        // whoever waits learns by the death.
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

/// Tells whoever follows the service how, best effort: what was said at an earlier start bears another process number.
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

/// Returns the first variable that a text of the service directory names.
fn first_variable(template: &str) -> Option<&str> {
    let (_, rest) = template.split_once("${")?;
    rest.split([':', '}']).next().filter(|name| !name.is_empty())
}

fn expanded(
    what: &str,
    template: &str,
    lookup: &dyn Fn(&str) -> Option<OsString>,
) -> Result<OsString, FailedStart> {
    expand(template, lookup)
        .map_err(|error| FailedStart::plain(format!("expanding {what}"), &error, Exit::System))
}

fn c_string(what: &str, text: OsString) -> Result<CString, FailedStart> {
    CString::new(text.into_vec()).map_err(|_| FailedStart {
        stage: format!("expanding {what}"),
        message: "the text holds a NUL byte, which no program can be given".to_owned(),
        errno: None,
        exit: Exit::Usage,
    })
}
