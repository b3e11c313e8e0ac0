//! *Lives here:* the words after `gatevisor agents`. *Does not live here:* what they do
//! (`crate::agents`).

use std::path::PathBuf;

use clap::Subcommand;

/// What can be done with agent definitions.
#[derive(Debug, Subcommand)]
pub enum AgentsCommand {
    /// List the definitions: the built-in ones, that of this machine, and that of this home
    #[command(after_help = "Example: gatevisor agents list --json")]
    List,
    /// Say everything that is wrong with definitions, with line and column; exit 1 if anything is
    #[command(after_help = "Example: gatevisor agents check my-agent.toml")]
    Check {
        /// Which agent definitions to check
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Print a built-in definition, to make another one from it
    #[command(after_help = "Example: gatevisor agents show hermes > my-agent.toml")]
    Show {
        /// Its name [default: hermes]
        #[arg(value_name = "AGENT")]
        definition: Option<String>,
    },
    /// Print the JSON schema of definitions, for editors
    #[command(after_help = "Example: gatevisor agents schema > agent.schema.json")]
    Schema,
}
