//! *Lives here:* the words of the command line about incidents.
//!
//! *Does not live here:* all other words (`super`), and the work (`crate::incidents`).

use clap::Args;

use super::Choice;

/// Which evidence.
#[derive(Debug, Args)]
pub struct Incidents {
    /// Which gateways; all by default.
    #[command(flatten)]
    pub choice: Choice,
    /// Print what was collected
    #[arg(long, value_name = "TIME-NAME", conflicts_with_all = ["names", "all", "failed", "unresponsive", "collect"])]
    pub show: Option<String>,
    /// Collect evidence about gateways that are up, now; they go on as they are
    #[arg(long)]
    pub collect: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", requires = "collect", default_value = "somebody asked for it")]
    pub reason: String,
}
