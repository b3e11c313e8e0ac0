//! One binary: init, supervisor, log daemon and manager of AI-agent gateways.
//!
//! *Lives here:* finding out what we are called as, the command line, and printing.
//! *Does not live here:* everything that is done; each verb is a call into a crate.
#![forbid(unsafe_code)]

mod applets;
mod args;
mod context;
mod ears;
mod events;
mod exit;
mod gateway;
mod greet;
mod logs;
mod out;
mod profile;
mod reconcile;
mod status;
mod supervise;
mod up;
mod wait;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Command};
use context::Context;
use exit::{Exit, Outcome};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = applets::called(&arguments) {
        return code;
    }
    let rest = || arguments.get(2..).unwrap_or_default().iter().cloned();
    // What the kernel, the supervisor and slots call; neither needs a command-line parser.
    match arguments.get(1).and_then(|verb| verb.to_str()) {
        Some("supervise") => return supervise::main(arguments.get(2..).unwrap_or_default()),
        Some("service") => return gatevisor_slot::run_service(rest()),
        Some("finish") => return gatevisor_slot::run_finish(rest()),
        Some("log") => return gatevisor_logd::standalone::run(rest()),
        Some("logd") => return gatevisor_logd::daemon::main(),
        _ => {}
    }
    report_bugs();
    let code = match Cli::try_parse_from(arguments) {
        Ok(cli) => run(cli).unwrap_or_else(|failure| out::fail(&failure)),
        Err(error) => {
            // Help and version go to standard output and are no error.
            let _ = error.print();
            if error.use_stderr() { Exit::Usage as u8 } else { Exit::Done as u8 }
        }
    };
    ExitCode::from(code)
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
        out::write(&script)?;
        return exit::DONE;
    }
    match &cli.command {
        Command::Applets(verb) => return applets::run(verb),
        Command::S6 { applet, arguments } => return applets::named(applet, arguments),
        _ => {}
    }
    let context = Context::new(&cli.common)?;
    match cli.command {
        Command::Up(options) => up::run(&context, &options),
        Command::Reconcile { dry_run } => reconcile::run(&context, dry_run),
        Command::Profile(verb) => profile::run(&context, verb),
        Command::Gateway(verb) => gateway::run(&context, verb),
        Command::Status { names, watch } => status::run(&context, &names, watch),
        Command::Logs(options) => logs::run(&context, &options),
        Command::Events { names } => events::run(&context, &names),
        Command::Wait(options) => wait::run(&context, &options),
        Command::Completions { .. } | Command::Applets(_) | Command::S6 { .. } => exit::DONE,
    }
}
