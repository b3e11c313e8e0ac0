//! *Lives here:* the words after `gatevisor profile`. *Does not live here:* what they do
//! (`crate::profile`).

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::Choice;
use super::times::seconds;

/// What can be done with profiles.
#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// Make a profile, and its slot where a supervisor runs
    #[command(after_help = "Example: gatevisor profile create coder --port auto --start")]
    Create {
        /// Lower-case letters, digits, `-` and `_`; at most 243
        name: OsString,
        /// Record that its gateway shall run, and start it
        #[arg(long)]
        start: bool,
        /// Make the home that --home or the agent's variable names, if it does not exist
        #[arg(long)]
        create: bool,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Give up waiting for the start after this long
        #[arg(long, requires = "start", value_name = "SECONDS", value_parser = seconds())]
        timeout: Option<Duration>,
        /// What its file of variables sets
        #[command(flatten)]
        variables: NewVariables,
    },
    /// Show or change what a profile's own file of variables sets
    #[command(after_help = "Example: gatevisor profile env coder set LOG_LEVEL=debug")]
    Env {
        /// The profile whose variables are meant
        #[arg(value_name = "NAME")]
        existing: OsString,
        /// What to do
        #[command(subcommand)]
        verb: EnvCommand,
    },
    /// Stop a profile's gateway and remove the profile with everything in it
    #[command(after_help = "Example: gatevisor profile delete 'test-*' --yes")]
    Delete {
        #[command(flatten)]
        choice: Choice,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
    /// List all profiles
    #[command(after_help = "Example: gatevisor profile list --json")]
    List,
    /// Show where a profile is and what is desired of it
    #[command(after_help = "Example: gatevisor profile show coder")]
    Show {
        #[command(flatten)]
        choice: Choice,
    },
}

/// What the file of variables of a new profile sets.
#[derive(Debug, Args)]
pub struct NewVariables {
    /// Set a variable in its own file of variables (`.env`); can be given several times
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<OsString>,
    /// Set all variables of this file there; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    /// Set the variable of its port: to this number, or with `auto` to one that is free
    #[arg(long, value_name = "NUMBER|auto")]
    pub port: Option<String>,
}

/// What can be done with a profile's variables.
#[derive(Debug, Subcommand)]
pub enum EnvCommand {
    /// Print the value of one variable
    #[command(after_help = "Example: gatevisor profile env coder get PORT")]
    Get {
        /// Which variable to print
        variable: String,
    },
    /// Set variables; a value that is `-` is read from standard input
    #[command(after_help = "Example: gatevisor profile env coder set TOKEN=- < token")]
    Set {
        /// The variables and their values
        #[arg(value_name = "NAME=VALUE", required = true)]
        assignments: Vec<OsString>,
    },
    /// Remove variables
    #[command(after_help = "Example: gatevisor profile env coder unset LOG_LEVEL")]
    Unset {
        /// Which variables to remove
        #[arg(value_name = "NAME", required = true)]
        variables: Vec<String>,
    },
    /// List the names of all variables
    #[command(after_help = "Example: gatevisor profile env coder list --values")]
    List {
        /// Print their values as well
        #[arg(long)]
        values: bool,
    },
}
