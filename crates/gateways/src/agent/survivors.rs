//! *Lives here:* what becomes of processes that a gateway leaves behind when it dies.

use serde::Deserialize;

/// What becomes of processes that a gateway leaves behind when it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Survivors {
    /// They go on, as under s6.
    #[default]
    Keep,
    /// They are ended before the gateway is started again.
    Kill,
}
