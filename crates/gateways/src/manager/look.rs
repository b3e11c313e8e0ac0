//! *Lives here:* why it cannot be told what is there.
//!
//! *Does not live here:* looking (see `gatevisor_client::look`).

use std::io;
use std::path::PathBuf;

use gatevisor_wire::exit::{Exit, ExitError};

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

impl ExitError for LookError {
    fn exit(&self) -> Exit {
        Exit::System
    }
}
