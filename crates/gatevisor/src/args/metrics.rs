//! *Lives here:* the words of the command line about metrics.
//!
//! *Does not live here:* all other words (`super`), and the work (`crate::metrics`).

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// Where metrics go.
#[derive(Debug, Args)]
pub struct MetricsOptions {
    /// Serve them at this address, as /metrics; port 0 lets the system choose one
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Answer only those who have the token in FILE, as `Authorization: Bearer TOKEN`; an address
    /// that others can reach needs it
    #[arg(long, value_name = "FILE", requires = "listen")]
    pub token_file: Option<PathBuf>,
    /// Print `OpenMetrics` instead of the older text format; a server does so for whoever asks
    #[arg(long, conflicts_with = "listen")]
    pub open_metrics: bool,
}
