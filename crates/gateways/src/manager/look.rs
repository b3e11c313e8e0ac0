//! *Lives here:* why it cannot be told what is there.
//!
//! *Does not live here:* looking (see `gatevisor_client::look`).

use std::io;
use std::path::PathBuf;

use crate::exit;

/// Nobody may look, so nobody knows: never the same as that there is nothing.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell {what} `{}`; ask as its owner or as root", path.display())]
pub struct LookError {
    /// What cannot be told, up to the path.
    pub what: &'static str,
    /// Where.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl LookError {
    /// Returns the exit code for this failure.
    pub const fn exit_code(&self) -> u8 {
        exit::SYSTEM
    }
}
