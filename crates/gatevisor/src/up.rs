//! `gatevisor up`: prepares the home, then becomes the supervisor.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::time::{Duration, Instant};

use gatevisor_boot::volume::HeldHomeLock;
use gatevisor_client::{RefusalWatch, ScanDir, ServiceDir, wait_supervised};
use gatevisor_gateways::drain::{OWN_DRAIN_VARIABLE, own_drain_s};
use gatevisor_gateways::inspect;
use gatevisor_gateways::manager::ServiceManager;
use gatevisor_gateways::profile::{self, ProfileName};
use gatevisor_gateways::reconcile::ProfileAction;
use gatevisor_sys::environment::{self, DEFAULT_PATH, ProgramEnvironment};
use gatevisor_sys::{process, signal};
use gatevisor_wire::name::ServiceName;
use serde_json::json;

use crate::args;
use crate::context::CommandContext;
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::home_claim::HomeClaim;
use crate::reconcile::ScandirClaim;
use crate::startup_progress::Ending;
use crate::{detach, home_claim, out, reconcile, startup_progress, summary, supervise, watch};

/// How long this command waits for a supervisor in the background to take the gateways.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);

/// Makes the slots, forks the process that shows the progress, and becomes the supervisor.
pub fn run(context: &CommandContext, options: &args::Up) -> Outcome {
    let manager = &context.manager;
    let home = manager.home().root();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(home).map_err(|error| {
        CommandError::new(
            Exit::System,
            format!("cannot make the home `{}`: {error}; name another with --home", home.display()),
        )
    })?;
    ScanDir::new(manager.scandir()).outlive(supervise::outlived_by());
    if context.supervisor_running()? {
        return Err(taken(context));
    }
    // The lock of the home comes first, and is never given up. So no other process can take the
    // lock of the scandir in the moment before the supervisor takes it again.
    let home_claim = home_claim::claim(context)?;
    let claim = reconcile::claim(context)?;
    if matches!(claim, ScandirClaim::Taken) {
        return Err(taken(context));
    }
    // The warning is printed here. If no scandir can be made either, no gateway can run twice.
    let home_claim = home_claim.map_err(|warning| out::warn(&warning)).ok();
    context.remember();
    let context = &context.at_boot();
    let report = reconcile::perform(context, false, home_claim.as_ref().and_then(HomeClaim::earlier))?;
    let home_lock = home_claim.map(|claim| claim.follow(context.manager.scandir(), &report));
    for line in report.lines() {
        // If nobody reads the message, the supervisor starts all the same.
        let _ = out::line(format_args!("{line}"));
    }
    let named = |decision: ProfileAction| {
        let actions = report.actions.iter().filter(move |action| action.action == decision);
        actions.filter_map(|action| action.name.clone()).collect::<Vec<ProfileName>>()
    };
    let (wanted, others) = (named(ProfileAction::Started), named(ProfileAction::Registered));
    // A shell makes background jobs ignore these, but a supervisor must be able to be stopped.
    for number in [signal::SIGINT, signal::SIGTERM, signal::SIGQUIT, signal::SIGHUP] {
        signal::restore(number);
    }
    if options.detach {
        // The lock belongs to this process; the supervisor takes it anew.
        drop(claim);
        return in_background(context, options, home_lock, &wanted, &others);
    }
    let mut home_lock = home_lock;
    // It ends with the supervisor, which this process becomes.
    if !options.quiet {
        let shown = || {
            // Only the supervisor keeps the lock of the home.
            home_lock = None;
            startup_progress::run(context, &wanted, &others, Ending::CtrlC)
        };
        process::fork_beside(shown)
            .map_err(|errno| CommandError::new(Exit::System, format!("cannot fork: {errno}")))?;
    }
    Err(become_supervisor(context, options, home_lock.as_ref(), None))
}

/// Starts a separate process that supervises; returns when it does, after the startup progress.
fn in_background(
    context: &CommandContext,
    options: &args::Up,
    home_lock: Option<HeldHomeLock>,
    wanted: &[ProfileName],
    others: &[ProfileName],
) -> Outcome {
    let become_it = |notify: &OwnedFd| become_supervisor(context, options, home_lock.as_ref(), Some(notify));
    let pid = detach::supervisor(context, become_it)?;
    // The supervisor holds it now.
    drop(home_lock);
    until_taken(context);
    if context.json {
        out::json(&json!({ "supervisor": pid.as_raw_nonzero().get(), "ok": true }))?;
    } else {
        out::line(format_args!("supervising in the background (pid {})", pid.as_raw_nonzero()))?;
    }
    if !options.quiet {
        startup_progress::run(context, wanted, others, Ending::Down);
    }
    DONE
}

/// Waits until the supervisor has taken or refused every gateway, so that commands after this one
/// find all of them supervised.
fn until_taken(context: &CommandContext) {
    let manager = &context.manager;
    let scan = ScanDir::new(manager.scandir());
    let refusals = RefusalWatch::listen(&scan).ok();
    let is_refused = |dir: &ServiceDir| {
        let name = dir.path().file_name().and_then(|name| ServiceName::new(name.as_bytes()).ok());
        name.is_some_and(|name| scan.refusal(&name).is_some())
    };
    let slots = manager.list().unwrap_or_default().into_iter().map(|name| manager.slot(&name));
    let slots = slots.filter(|slot| !is_refused(slot)).collect();
    // Later commands report what is missing then.
    let _ = wait_supervised(&scan, slots, refusals.as_ref(), Instant::now().checked_add(TAKEN_WITHIN));
}

/// Returns the error of a second `up`, with what the first one does.
fn taken(context: &CommandContext) -> CommandError {
    let scandir = context.manager.scandir();
    let pid = ScanDir::new(scandir).holder().map_or_else(String::new, |pid| format!(" (pid {pid})"));
    let gateways = inspect::survey(&context.manager).unwrap_or_default();
    let what = summary::of(&gateways).map_or_else(String::new, |words| format!(", with {words}"));
    let next = match context.manager.stopped_supervisor() {
        Some(pid) => format!("a signal has stopped it, and `kill -CONT {pid}` continues it"),
        None => "`gatevisor status` shows what it does, and `gatevisor down` ends it".to_owned(),
    };
    CommandError::new(
        Exit::AlreadySupervised,
        format!("another supervisor{pid} already runs on `{}`{what}; {next}", scandir.display()),
    )
}

/// Replaces this process by the bare supervisor, which keeps the watcher of the home running beside
/// it. Returns only if that fails.
///
/// Then the process that must never die holds neither this command line nor the results of
/// reconciliation.
fn become_supervisor(
    context: &CommandContext,
    options: &args::Up,
    home_lock: Option<&HeldHomeLock>,
    notify: Option<&OwnedFd>,
) -> CommandError {
    if let Some(Err(errno)) = home_lock.map(HeldHomeLock::survive) {
        return CommandError::new(Exit::System, format!("cannot keep the home locked: {errno}"));
    }
    let manager = &context.manager;
    let argument = |bytes: &[u8]| CString::new(bytes).unwrap_or_default();
    let mut argv = vec![argument(b"gatevisor"), argument(b"supervise"), argument(b"--label-output")];
    if let Some(fd) = notify {
        argv.extend([argument(b"--notify-fd"), argument(fd.as_raw_fd().to_string().as_bytes())]);
    }
    let beside = match supervise::passed(&watch::words(context, options.web)) {
        Ok(beside) => beside,
        Err(errno) => {
            return CommandError::new(Exit::System, format!("cannot pass words to the supervisor: {errno}"));
        }
    };
    argv.extend([
        argument(b"--beside-fd"),
        argument(beside.as_raw_fd().to_string().as_bytes()),
        argument(b"--grace-ms"),
        argument(u64::from(options.grace).saturating_mul(1000).to_string().as_bytes()),
        argument(b"--max-services-of-user"),
        argument(options.max_services.to_string().as_bytes()),
        argument(b"--max-services"),
        argument(options.max_services.to_string().as_bytes()),
        argument(manager.scandir().as_os_str().as_bytes()),
    ]);
    let mut variables = std::env::vars_os().collect();
    environment::set(&mut variables, &manager.agent().home_variable(), manager.home().root());
    environment::set(&mut variables, profile::HOME_VARIABLE, manager.home().root());
    let grace = Duration::from_secs(options.grace.into());
    environment::set(&mut variables, OWN_DRAIN_VARIABLE, own_drain_s(manager.agent(), grace));
    let environment = match ProgramEnvironment::exactly(variables, DEFAULT_PATH) {
        Ok(environment) => environment,
        Err(errno) => return CommandError::new(Exit::System, format!("cannot use the environment: {errno}")),
    };
    for dropped in environment.dropped() {
        let directory = dropped.directory.display();
        out::warn(&format!("root does not look for programs in `{directory}` of PATH: {}", dropped.why));
    }
    let errno = process::exec(&argument(context.program.as_os_str().as_bytes()), &argv, environment.block());
    CommandError::new(Exit::System, format!("cannot execute `{}`: {errno}", context.program.display()))
}
