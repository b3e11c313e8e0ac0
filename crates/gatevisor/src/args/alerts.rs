//! *Lives here:* the verbs of `gatevisor alerts`.

use clap::Subcommand;

/// What to do about alerts.
#[derive(Debug, Subcommand)]
pub enum AlertsCommand {
    /// Say who is told of what, and what is wrong in the home's `gatevisor.toml`; exit 1 if anything
    /// is
    #[command(after_help = "Example: gatevisor alerts check --json")]
    Check,
    /// Send everybody a message, and say whether it arrived; exit 1 if one did not
    #[command(after_help = "Example: gatevisor alerts test")]
    Test,
}
