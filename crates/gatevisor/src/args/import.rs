//! *Lives here:* the words of the command line about imports.
//!
//! *Does not live here:* all other words (`super`), and the work (`crate::import`).

use std::path::PathBuf;

use clap::Args;

/// What to make a home from.
#[derive(Debug, Args)]
pub struct Import {
    /// What pm2 or supervisord reads its programs from
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Say what would be made, and make nothing
    #[arg(long)]
    pub dry_run: bool,
}
