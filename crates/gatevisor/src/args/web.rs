//! *Lives here:* the words of the command line about the page.
//!
//! *Does not live here:* all other words (`super`), and the work (`crate::web`).

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// Where the page is, and who may use it.
#[derive(Debug, Args)]
pub struct WebOptions {
    /// Serve it at this address; port 0 lets the system choose one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9466", conflicts_with = "socket")]
    pub listen: SocketAddr,
    /// Serve it at this Unix socket instead, which only the owner of the home can connect to
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Answer requests for this name, too, as a reverse proxy hands them on; can be given several
    /// times
    #[arg(long = "allowed-host", value_name = "NAME")]
    pub allowed_hosts: Vec<String>,
    /// Serve it below this path, as a reverse proxy hands it on
    #[arg(long, value_name = "PATH", default_value = "/")]
    pub base_path: String,
    /// Let nobody change anything; with --link, let whoever uses the link change nothing
    #[arg(long)]
    pub read_only: bool,
    /// Accept the token in this file, too, for looking only; it is read anew for each request, and
    /// an empty name means none
    #[arg(long, value_name = "FILE")]
    pub read_only_token_file: Option<OsString>,
    /// Print a link with which one browser can log in within ten minutes, and serve nothing
    #[arg(
        long,
        conflicts_with_all = ["listen", "socket", "allowed_hosts", "base_path", "read_only_token_file"],
    )]
    pub link: bool,
    /// Make new tokens and end all sessions, and serve nothing
    #[arg(
        long,
        conflicts_with_all =
            ["listen", "socket", "allowed_hosts", "base_path", "read_only_token_file", "read_only", "link"],
    )]
    pub revoke: bool,
}
