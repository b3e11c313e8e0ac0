//! *Lives here:* the verbs of `gatevisor alerts`.

use clap::Subcommand;

/// What to do about alerts.
#[derive(Debug, Subcommand)]
pub enum AlertsCommand {
    /// Say who is told of what, and what is wrong in `gatevisor.toml` of the home; exit 1 if
    /// anything is
    #[command(after_help = "Example: gatevisor alerts check --json")]
    Check,
    /// Send everybody a message, and say whether it arrived; exit 1 if one did not
    #[command(after_help = "Example: gatevisor alerts test")]
    Test,
    /// Send everybody a text of yours, for example because the supervisor has ended; exit 1 if it
    /// did not reach somebody
    #[command(after_help = "Example: gatevisor alerts send 'the supervisor has ended'")]
    Send {
        /// What to say, on one line
        text: String,
    },
}
