//! One binary: init, supervisor, log daemon and manager of AI-agent gateways.
//!
//! *Lives here:* finding out what we are called as, the command line, and printing.
//! *Does not live here:* everything that is done; each verb is a call into a crate.
//!
//! *May depend on it:* nothing; it is the binary.
#![forbid(unsafe_code)]

mod applets;
mod args;
mod choice;
mod container_scandir;
mod context;
mod doctor;
mod enter;
mod event_subscriber;
mod events;
mod exit;
mod explain;
mod gateway;
mod health;
mod incidents;
mod init;
mod internal;
mod interrupt;
mod last_lines;
mod live;
mod liveness_words;
mod logs;
mod near;
mod out;
mod outcome_words;
mod planned_stop;
mod profile;
mod reconcile;
mod reload;
mod remedy;
mod screen;
mod startup_progress;
mod status;
mod supervise;
mod takeover;
mod tree;
mod units;
mod up;
mod wait;
mod watch;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

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
        return ended(outcome);
    }
    if let Some(code) = internal::called(&arguments) {
        return code;
    }
    report_bugs();
    let outcome = match Cli::try_parse_from(&arguments) {
        Ok(cli) => run(cli),
        Err(error) => not_parsed(&arguments, error),
    };
    ended(outcome)
}

/// Says what is wrong with the arguments, or the help that they ask for; what it repeats of them is escaped.
fn not_parsed(arguments: &[OsString], error: clap::Error) -> Outcome {
    let escaped = arguments.iter().map(|argument| out::escaped_argument(argument));
    // What is no text is not repeated, and is text once it is escaped.
    let error = near::explained(Cli::try_parse_from(escaped).err().unwrap_or(error));
    out::clap(&error)?;
    Ok(if error.use_stderr() { Exit::Usage.code() } else { Exit::Done.code() })
}

/// Says why it failed, where it did, and returns the exit code.
fn ended(outcome: Outcome) -> ExitCode {
    ExitCode::from(outcome.unwrap_or_else(|failure| out::fail(&failure)))
}

/// Does what this program does under the names that it has in a container.
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

/// Makes a panic of the command line say that it is ours, and end with the code for that.
fn report_bugs() {
    std::panic::set_hook(Box::new(|panic| {
        out::say(format_args!("bug: {panic}; please report it with the command that led to it"));
        #[expect(clippy::disallowed_methods, reason = "a panic cannot return through main")]
        std::process::exit(i32::from(Exit::Bug.code()));
    }));
}

fn run(cli: Cli) -> Outcome {
    if let CliCommand::Completions { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "gatevisor", &mut script);
        out::script(&script)?;
        return exit::DONE;
    }
    match &cli.command {
        CliCommand::Applets(verb) => return applets::run(verb),
        CliCommand::S6 { applet, arguments } => return applets::named(applet, arguments),
        CliCommand::Init { command } => return internal::init(command),
        CliCommand::AsOwner { owner, command } => return remedy::as_owner(owner, command),
        CliCommand::GiveBack { owner, paths } => return remedy::give_back(&cli.common, owner, paths),
        CliCommand::Health { supervisor: true, .. } => return health::of_supervisor(&cli.common),
        _ => {}
    }
    let missing = match &cli.command {
        // The last one says itself that there is none, and what to do.
        CliCommand::Up(args::Up { create: true, .. })
        | CliCommand::Profile(args::ProfileCommand::Create { create: true, .. })
        | CliCommand::Doctor => MissingHome::IsMade,
        _ => MissingHome::IsRefused,
    };
    let context = CommandContext::new(&cli.common, missing, matches!(cli.command, CliCommand::Up(_)))?;
    let is_memorable = matches!(
        cli.command,
        CliCommand::Reconcile { dry_run: false }
            | CliCommand::Reload(_)
            | CliCommand::Profile(args::ProfileCommand::Create { .. })
            | CliCommand::Gateway(args::GatewayCommand::Start(_) | args::GatewayCommand::Register { .. })
    );
    let outcome = perform(&context, cli.command, &cli.common);
    if is_memorable && matches!(outcome, Ok(0)) {
        context.remember();
    } else {
        context.warn_of_another();
    }
    outcome
}

fn perform(context: &CommandContext, command: CliCommand, common: &args::Common) -> Outcome {
    match command {
        CliCommand::Up(options) => up::run(context, &options),
        CliCommand::Reconcile { dry_run } => reconcile::run(context, dry_run),
        CliCommand::Reload(options) => reload::run(context, &options),
        CliCommand::Profile(verb) => profile::run(context, verb),
        CliCommand::Gateway(verb) => gateway::run(context, verb),
        CliCommand::Status { names, watch } => status::run(context, &names, watch),
        CliCommand::Doctor => doctor::run(context, common),
        CliCommand::Explain { name } => explain::run(context, common, name.as_deref()),
        CliCommand::Health { names, .. } => health::of_gateways(context, &names),
        CliCommand::Logs(options) => logs::run(context, &options),
        CliCommand::Tree { names } => tree::run(context, &names),
        CliCommand::Incidents(options) => incidents::run(context, &options),
        CliCommand::Events { names } => events::run(context, &names),
        CliCommand::Wait(options) => wait::run(context, &options),
        CliCommand::Completions { .. }
        | CliCommand::Applets(_)
        | CliCommand::S6 { .. }
        | CliCommand::Init { .. }
        | CliCommand::AsOwner { .. }
        | CliCommand::GiveBack { .. } => exit::DONE,
    }
}
