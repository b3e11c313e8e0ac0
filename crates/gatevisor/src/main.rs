//! One binary: init, supervisor, log daemon and manager of AI-agent gateways.
//!
//! *Lives here:* finding out under which name we are called, the command line (`args`), and
//! printing (`out`, `logs`); the order of a container's boot (`init`), and what needs several
//! crates at once: the long-lived processes beside a supervisor (`takeover`, `live`, `alerts`), the
//! stream of all events (`event_subscriber`, `served_watch`), the live view (`top`), waiting for
//! drains (`drain_wait`), the machine's service manager (`host_service`), the answers to a browser
//! (`web`).
//! *Does not live here:* supervision, profiles, slots and logs; each crate has its own header.
//!
//! *May depend on it:* nothing; it is the binary.
#![forbid(unsafe_code)]

mod agents;
mod alerts;
mod applets;
mod args;
mod choice;
mod complete;
mod container_scandir;
mod context;
mod control;
mod declared;
mod detach;
mod doctor;
mod down;
mod drain;
mod drain_wait;
mod drain_watch;
mod each;
mod enter;
mod event_subscriber;
mod events;
mod exit;
mod explain;
mod gateway;
mod health;
mod home_claim;
mod host_service;
mod import;
mod incidents;
mod init;
mod internal;
mod interrupt;
mod keeper;
mod last_lines;
mod live;
mod liveness_words;
mod logs;
mod man;
mod metrics;
mod out;
mod outcome_words;
mod own_restart;
mod page_server;
mod pauses;
mod planned_stop;
mod profile;
mod profile_env;
mod reconcile;
mod reload;
mod remedy;
mod screen;
mod served_watch;
mod standard_input;
mod startup_progress;
mod status;
mod status_watch;
mod summary;
mod supervise;
mod takeover;
mod token_file;
mod top;
mod tree;
mod units;
mod up;
mod usage_error;
mod wait;
mod watch;
mod web;
mod withdrawal;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use gatevisor_sys::{inotify, refused};

use args::{Cli, CliCommand};
use context::{CommandContext, MissingHome};
use enter::TerminalOwner;
use exit::{Exit, Outcome};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = applets::called(&arguments) {
        return code;
    }
    if let Some(outcome) = container_name(&arguments) {
        return out::ended(outcome);
    }
    if let Some(code) = internal::called(&arguments) {
        return code;
    }
    report_bugs();
    if let Some(outcome) = complete::asked(&arguments) {
        return out::ended(outcome);
    }
    let outcome = match Cli::try_parse_from(&arguments) {
        Ok(cli) => run(cli),
        Err(error) => not_parsed(&arguments, error),
    };
    let code = out::ended(outcome);
    inotify::close_kept_beside();
    code
}

/// Reports what is wrong with the arguments, or prints the requested help. Repeated arguments are
/// escaped.
fn not_parsed(arguments: &[OsString], error: clap::Error) -> Outcome {
    let escaped = arguments.iter().map(|argument| out::escaped_argument(argument));
    // An argument that is not text is not repeated; once it is escaped, it is text.
    let error = usage_error::explained(Cli::try_parse_from(escaped).err().unwrap_or(error));
    out::clap(&error)?;
    Ok(if error.use_stderr() { Exit::Usage.code() } else { Exit::Done.code() })
}

/// Carries out the names that this program has in a container.
fn container_name(arguments: &[OsString]) -> Option<Outcome> {
    let (called_as, words) = arguments.split_first()?;
    let name = Path::new(called_as).file_name()?;
    match name.to_str()? {
        env!("CARGO_PKG_NAME") => None,
        "init" => Some(init::run(words)),
        "tini" => Some(init::run_as_tini(words)),
        other => {
            let agent = enter::agent().ok()?;
            let wrapper = agent.container.wrapper.as_deref();
            if wrapper == Some(other) {
                Some(enter::run(words, TerminalOwner::Callers))
            } else if agent.name == other {
                Some(enter::call(&agent, words))
            } else {
                None
            }
        }
    }
}

/// Makes a panic of the command line report that it is our bug, and end with the exit code for
/// that.
fn report_bugs() {
    std::panic::set_hook(Box::new(|panic| {
        out::say(format_args!("bug: {panic}; please report it with the command that led to it"));
        #[expect(clippy::disallowed_methods, reason = "a panic cannot return through main")]
        std::process::exit(i32::from(Exit::Bug.code()));
    }));
}

fn run(cli: Cli) -> Outcome {
    match &cli.command {
        CliCommand::Completions { shell } => return complete::script(*shell),
        CliCommand::Man { directory } => return man::run(directory),
        CliCommand::Applets(verb) => return applets::run(verb),
        CliCommand::S6 { applet, arguments } => return applets::named(applet, arguments),
        CliCommand::Agents { verb } => return agents::run(&cli.common, verb.as_ref()),
        CliCommand::Init { command } => return internal::init(command),
        CliCommand::AsOwner { owner, command } => return remedy::as_owner(owner, command),
        CliCommand::GiveBack { owner, paths } => return remedy::give_back(&cli.common, owner, paths),
        CliCommand::Import(options) => return import::run(&cli.common, options),
        CliCommand::Install(options) => return host_service::install(&cli.common, options),
        CliCommand::Uninstall(scope) => return host_service::uninstall(&cli.common, scope),
        CliCommand::Service(args::ServiceCommand::Status(scope)) => {
            return host_service::status(&cli.common, scope);
        }
        CliCommand::Health { supervisor: true, .. } => return health::of_supervisor(&cli.common),
        _ => {}
    }
    let missing = match &cli.command {
        // The command after these reports itself that there is no home, and what to do.
        CliCommand::Up(args::Up { create: true, .. })
        | CliCommand::Profile(args::ProfileCommand::Create { create: true, .. })
        | CliCommand::Doctor => MissingHome::IsMade,
        _ => MissingHome::IsRefused,
    };
    // These two run for long. The commands that answer for the server note refused looks
    // themselves.
    if !matches!(cli.command, CliCommand::Up(_) | CliCommand::Web(_)) {
        refused::keep();
        inotify::keep_dropped();
    }
    let context = CommandContext::new(&cli.common, missing, begins_processes(&cli.command))?;
    if let CliCommand::Web(options) = &cli.command {
        return web::run(context, options);
    }
    let is_memorable = matches!(
        cli.command,
        CliCommand::Reconcile { dry_run: false }
            | CliCommand::Reload(_)
            | CliCommand::Profile(args::ProfileCommand::Create { .. })
            | CliCommand::Start(_)
            | CliCommand::Gateway(args::GatewayCommand::Start(_) | args::GatewayCommand::Register { .. })
    );
    let reports = reports(&cli.command);
    let outcome = perform(&context, cli.command, &cli.common);
    let outcome = if reports { context.as_seen(outcome) } else { outcome };
    let remembers = is_memorable && matches!(outcome, Ok(0)) && context.remember();
    if !remembers {
        context.warn_of_another();
    }
    outcome
}

/// Returns whether a command starts other processes as the home's owner. Such a process could be
/// traced by the owner, so none may have root's terminal.
const fn begins_processes(command: &CliCommand) -> bool {
    match command {
        CliCommand::Up(_) | CliCommand::Top(_) => true,
        CliCommand::Web(options) => !options.link && !options.revoke,
        // They execute programs that a file of the home names.
        CliCommand::Alerts(verb) => !matches!(verb, args::AlertsCommand::Check),
        _ => false,
    }
}

/// Returns whether a command only reports, so that its answer depends on what it may look at.
/// `doctor` is left out because it has a finding for that.
const fn reports(command: &CliCommand) -> bool {
    match command {
        CliCommand::Status(_)
        | CliCommand::Explain { .. }
        | CliCommand::Health { .. }
        | CliCommand::Logs(_)
        | CliCommand::Tree { .. }
        | CliCommand::Incidents(_)
        | CliCommand::Events { .. }
        | CliCommand::Metrics(_)
        | CliCommand::Wait(_)
        | CliCommand::Reconcile { dry_run: true } => true,
        CliCommand::Gateway(verb) => matches!(verb, args::GatewayCommand::Status(_)),
        CliCommand::Profile(verb) => {
            matches!(verb, args::ProfileCommand::List | args::ProfileCommand::Show { .. })
        }
        _ => false,
    }
}

fn perform(context: &CommandContext, command: CliCommand, common: &args::Common) -> Outcome {
    match command {
        CliCommand::Up(options) => up::run(context, &options),
        CliCommand::Reconcile { dry_run } => reconcile::run(context, dry_run),
        CliCommand::Reload(options) => reload::run(context, &options),
        CliCommand::Profile(verb) => profile::run(context, verb),
        CliCommand::Gateway(verb) => gateway::run(context, verb),
        CliCommand::Start(target) => gateway::run(context, args::GatewayCommand::Start(target)),
        CliCommand::Stop(target) => gateway::run(context, args::GatewayCommand::Stop(target)),
        CliCommand::Restart(target) => gateway::run(context, args::GatewayCommand::Restart(target)),
        CliCommand::Down(options) => down::run(context, &options),
        CliCommand::Status(options) if options.watch => status_watch::run(context, &options),
        CliCommand::Status(options) => status::run(context, common, &options),
        CliCommand::Top(choice) => top::run(context, &choice),
        CliCommand::Doctor => doctor::run(context, common),
        CliCommand::Explain { choice } => explain::run(context, common, &choice),
        CliCommand::Health { choice, .. } => health::of_gateways(context, &choice),
        CliCommand::Metrics(options) => metrics::run(context, &options),
        CliCommand::Alerts(verb) => alerts::run(context, &verb),
        CliCommand::Logs(options) => logs::run(context, &options),
        CliCommand::Tree { choice } => tree::run(context, &choice),
        CliCommand::Incidents(options) => incidents::run(context, &options),
        CliCommand::Events { choice } => events::run(context, &choice),
        CliCommand::Wait(options) => wait::run(context, &options),
        CliCommand::Agents { .. }
        | CliCommand::Completions { .. }
        | CliCommand::Man { .. }
        | CliCommand::Import(_)
        | CliCommand::Install(_)
        | CliCommand::Uninstall(_)
        | CliCommand::Service(_)
        | CliCommand::Applets(_)
        | CliCommand::S6 { .. }
        | CliCommand::Init { .. }
        | CliCommand::AsOwner { .. }
        | CliCommand::Web(_)
        | CliCommand::GiveBack { .. } => exit::DONE,
    }
}
