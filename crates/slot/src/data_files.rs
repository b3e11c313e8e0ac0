//! Names of the files that the interpreter leaves in `data/`.
//!
//! *Lives here:* the names.
//! *Does not live here:* the contents of the files, and writing them.

/// Name in `data/` of the file with the reason why the last start failed before the command ran.
pub const START_ERROR: &str = "start-error";
/// Name in `data/` of the file with the reason why a probed service is not ready.
pub(crate) const NOT_READY: &str = "not-ready";
/// Name in `data/` of the file that is locked until it is known whether the command was executed.
pub const STARTED: &str = "started";
/// Name in `data/` of the file with the settings for following the service in this life.
pub const LIVE: &str = "live";
