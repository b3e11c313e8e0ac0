//! `gatevisor man`: the manual pages, made from the help texts.
//!
//! *Lives here:* writing them.
//! *Does not live here:* the texts (`args`).

use std::path::Path;

use clap::CommandFactory;

use crate::args::Cli;
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::out;

/// Writes a page for this program and one for each of its verbs into a directory that exists.
pub fn run(directory: &Path) -> Outcome {
    let command = Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, directory).map_err(|error| {
        let directory = directory.display();
        CommandError::new(Exit::System, format!("cannot write manual pages into `{directory}`: {error}"))
    })?;
    out::say(format_args!("wrote the manual pages into `{}`; read one with `man -l`", directory.display()));
    DONE
}
