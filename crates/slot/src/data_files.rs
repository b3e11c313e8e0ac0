//! Names of the files that the interpreter leaves in `data/`.
//!
//! *Lives here:* the names. *Does not live here:* what the files hold, and who writes them.

/// Name in `data/` of the file that says why the last start failed before the command ran.
pub const START_ERROR: &str = "start-error";
/// Name in `data/` of the file that says why a service whose probe is asking is not ready.
pub(crate) const NOT_READY: &str = "not-ready";
/// Name in `data/` of the file that is locked until it is known whether the command was executed.
pub const STARTED: &str = "started";
/// Name in `data/` of the file that says how the service is followed in this life.
pub const LIVE: &str = "live";
