//! `gatevisor up`: prepares the home, then becomes the supervisor.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;

use gatevisor_client::ScanDir;
use gatevisor_gateways::profile::ProfileName;
use gatevisor_gateways::reconcile::ProfileAction;
use gatevisor_sys::environment::{self, DEFAULT_PATH, ProgramEnvironment};
use gatevisor_sys::{process, signal};

use crate::args;
use crate::context::CommandContext;
use crate::exit::{CommandError, Exit, Outcome};
use crate::reconcile::ScandirClaim;
use crate::{out, reconcile, startup_progress, supervise, watch};

/// Makes the slots, forks a process that shows the progress and one that watches the profiles, and becomes the supervisor.
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
    let claim = if context.supervisor_running()? { ScandirClaim::Taken } else { reconcile::claim(context)? };
    if matches!(claim, ScandirClaim::Taken) {
        return Err(CommandError::new(
            Exit::No,
            format!(
                "another supervisor already runs on `{}`; `gatevisor status` shows what it does",
                manager.scandir().display()
            ),
        ));
    }
    context.remember();
    let report = reconcile::perform(context, false)?;
    for line in report.lines() {
        // That nobody reads it is no reason not to supervise.
        let _ = out::line(format_args!("{line}"));
    }
    let named = |decision: ProfileAction| {
        let actions = report.actions.iter().filter(move |action| action.action == decision);
        actions.filter_map(|action| action.name.clone()).collect::<Vec<ProfileName>>()
    };
    let (wanted, others) = (named(ProfileAction::Started), named(ProfileAction::Registered));
    // A shell starts background jobs with these ignored; a supervisor that cannot be told to stop is no use.
    for number in [signal::SIGINT, signal::SIGTERM, signal::SIGQUIT, signal::SIGHUP] {
        signal::restore(number);
    }
    // Both are over when the supervisor is, which this process becomes.
    if !options.quiet {
        process::fork_beside(|| startup_progress::run(context, &wanted, &others))
            .map_err(|errno| CommandError::new(Exit::System, format!("cannot fork: {errno}")))?;
    }
    process::fork_beside(|| watch::beside(context))
        .map_err(|errno| CommandError::new(Exit::System, format!("cannot fork: {errno}")))?;
    Err(become_supervisor(context, options))
}

/// Replaces this process by the bare supervisor; returns only if that fails.
///
/// The process that must never die then holds neither this command line nor what reconciliation read.
fn become_supervisor(context: &CommandContext, options: &args::Up) -> CommandError {
    let manager = &context.manager;
    let argument = |bytes: &[u8]| CString::new(bytes).unwrap_or_default();
    let argv = [
        argument(b"gatevisor"),
        argument(b"supervise"),
        argument(b"--label-output"),
        argument(b"--grace-ms"),
        argument(u64::from(options.grace).saturating_mul(1000).to_string().as_bytes()),
        argument(b"--max-services-of-user"),
        argument(options.max_services.to_string().as_bytes()),
        argument(b"--max-services"),
        argument(options.max_services.to_string().as_bytes()),
        argument(manager.scandir().as_os_str().as_bytes()),
    ];
    let mut variables = std::env::vars_os().collect();
    environment::set(&mut variables, &manager.agent().home_variable(), manager.home().root());
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
