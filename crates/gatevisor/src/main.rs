//! One binary: init, supervisor, log daemon and manager of AI-agent gateways.
//!
//! *Lives here:* finding out what we are called as, the command line, and printing.
//! *Does not live here:* everything that is done; each verb is a call into a crate.
#![forbid(unsafe_code)]

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

fn run(cli: Cli) -> Outcome {
    if let Command::Completions { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "gatevisor", &mut script);
        out::write(&script)?;
        return exit::DONE;
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
        Command::Completions { .. } => exit::DONE,
    }
}
