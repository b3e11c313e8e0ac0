//! Imports the files of other supervisors as gateways.
//!
//! *Lives here:* reading `dump.pm2`, `ecosystem.config.json` and `supervisord.conf`, and the agent
//! definition and the start scripts that follow from them. All of it is text in and text out.
//! *Does not live here:* files, and making profiles (`gateways`).
//!
//! *May depend on it:* the binary alone.
//!
//! A setting that has no counterpart here is never dropped silently: its gateway lists it.
#![forbid(unsafe_code)]

mod gateway;
mod imported;
mod pm2;
mod supervisord;

pub use gateway::ImportedGateway;
pub use imported::{ImportError, Imported};

use imported::MAX_GATEWAYS;

/// The most bytes of a file.
pub const MAX_BYTES: usize = 4 << 20;

/// Reads a file. The name of the file tells which format it has.
///
/// `variable` returns the value of a variable of the environment, which `supervisord.conf` may
/// name; `directory` is that of the file.
///
/// # Errors
/// The file is none of these formats, or it names nothing to run.
pub fn read(
    file_name: &str,
    text: &str,
    directory: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Imported, ImportError> {
    let extension = file_name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let imported = match extension {
        "js" | "cjs" | "mjs" | "ts" => return Err(ImportError::Program),
        "conf" | "ini" => supervisord::read(text, directory, variable)?,
        _ => pm2::read(text, directory)?,
    };
    match imported.gateways.len() {
        0 => Err(ImportError::Empty),
        1..=MAX_GATEWAYS => Ok(imported),
        _ => Err(ImportError::TooMany),
    }
}
