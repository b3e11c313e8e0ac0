//! *Lives here:* the words of the command line about supervising.
//!
//! *Does not live here:* all other words (`super`), and the work (`crate::up`).

use std::net::SocketAddr;

use clap::Args;

/// How to supervise.
#[derive(Debug, Args)]
pub struct Up {
    /// Kill what has not stopped this long after Ctrl-C
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub grace: u32,
    /// Refuse further services when this many are supervised
    #[arg(long, value_name = "NUMBER", default_value_t = 2000)]
    pub max_services: u32,
    /// Do not wait for the gateways and print no table
    #[arg(short, long)]
    pub quiet: bool,
    /// Make the home that --home or the agent's variable names, if it does not exist
    #[arg(long)]
    pub create: bool,
    /// Supervise in the background, and return when it supervises; `gatevisor down` ends it
    #[arg(short, long)]
    pub detach: bool,
    /// Serve the page at this address as `gatevisor web` does, until the supervisor ends [default
    /// address: 127.0.0.1:9466]
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, require_equals = true,
        default_missing_value = "127.0.0.1:9466")]
    pub web: Option<SocketAddr>,
}
