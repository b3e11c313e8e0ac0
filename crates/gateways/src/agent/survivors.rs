//! *Lives here:* the setting for processes that a gateway leaves behind when it dies.

use schemars::JsonSchema;
use serde::Deserialize;

/// What happens to processes that a gateway leaves behind when it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Survivors {
    /// They keep running, as under s6.
    #[default]
    Keep,
    /// They are ended before the gateway is started again.
    Kill,
}
