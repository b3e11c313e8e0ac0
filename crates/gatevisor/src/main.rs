//! One binary: init, supervisor, log daemon and manager of AI-agent gateways.
//!
//! *Lives here:* finding out what we are called as, the command line, and printing.
//! *Does not live here:* everything that is done; each verb is a call into a crate.
#![forbid(unsafe_code)]

mod applets;
mod args;
mod choice;
mod context;
mod doctor;
mod ears;
mod enter;
mod events;
mod exit;
mod explain;
mod following;
mod gateway;
mod greet;
mod health;
mod incidents;
mod init;
mod internal;
mod interrupt;
mod last_lines;
mod live;
mod logs;
mod near;
mod out;
mod planned_stop;
mod profile;
mod reconcile;
mod reload;
mod remedy;
mod screen;
mod status;
mod supervise;
mod takeover;
mod tree;
mod up;
mod wait;
mod watch;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Command};
use context::{Context, MissingHome};
use enter::Terminal;
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
    Ok(if error.use_stderr() { Exit::Usage as u8 } else { Exit::Done as u8 })
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
                Some(enter::run(words, Terminal::Callers))
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
        std::process::exit(i32::from(Exit::Bug as u8));
    }));
}

fn run(cli: Cli) -> Outcome {
    if let Command::Completions { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "gatevisor", &mut script);
        out::script(&script)?;
        return exit::DONE;
    }
    match &cli.command {
        Command::Applets(verb) => return applets::run(verb),
        Command::S6 { applet, arguments } => return applets::named(applet, arguments),
        Command::Init { command } => return internal::init(command),
        Command::AsOwner { owner, command } => return remedy::as_owner(owner, command),
        Command::GiveBack { owner, paths } => return remedy::give_back(&cli.common, owner, paths),
        Command::Health { supervisor: true, .. } => return health::of_supervisor(&cli.common),
        _ => {}
    }
    let missing = match &cli.command {
        // The last one says itself that there is none, and what to do.
        Command::Up(args::Up { create: true, .. })
        | Command::Profile(args::Profile::Create { create: true, .. })
        | Command::Doctor => MissingHome::IsMade,
        _ => MissingHome::IsRefused,
    };
    let context = Context::new(&cli.common, missing, matches!(cli.command, Command::Up(_)))?;
    let is_memorable = matches!(
        cli.command,
        Command::Reconcile { dry_run: false }
            | Command::Reload(_)
            | Command::Profile(args::Profile::Create { .. })
            | Command::Gateway(args::Gateway::Start(_) | args::Gateway::Register { .. })
    );
    let outcome = perform(&context, cli.command, &cli.common);
    if is_memorable && matches!(outcome, Ok(0)) {
        context.remember();
    } else {
        context.warn_of_another();
    }
    outcome
}

fn perform(context: &Context, command: Command, common: &args::Common) -> Outcome {
    match command {
        Command::Up(options) => up::run(context, &options),
        Command::Reconcile { dry_run } => reconcile::run(context, dry_run),
        Command::Reload(options) => reload::run(context, &options),
        Command::Profile(verb) => profile::run(context, verb),
        Command::Gateway(verb) => gateway::run(context, verb),
        Command::Status { names, watch } => status::run(context, &names, watch),
        Command::Doctor => doctor::run(context, common),
        Command::Explain { name } => explain::run(context, common, name.as_deref()),
        Command::Health { names, .. } => health::of_gateways(context, &names),
        Command::Logs(options) => logs::run(context, &options),
        Command::Tree { names } => tree::run(context, &names),
        Command::Incidents(options) => incidents::run(context, &options),
        Command::Events { names } => events::run(context, &names),
        Command::Wait(options) => wait::run(context, &options),
        Command::Completions { .. }
        | Command::Applets(_)
        | Command::S6 { .. }
        | Command::Init { .. }
        | Command::AsOwner { .. }
        | Command::GiveBack { .. } => exit::DONE,
    }
}
