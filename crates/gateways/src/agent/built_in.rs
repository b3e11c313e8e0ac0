//! *Lives here:* the definitions that are built into this program, and their names.
//!
//! *Does not live here:* their contents (`agents/`), and which one is used for a home.

use std::path::Path;

/// The definition that is used where no other is named.
pub const BUILT_IN: &str = include_str!("../../agents/hermes.toml");
/// The definition of `OpenClaw`.
const OPENCLAW: &str = include_str!("../../agents/openclaw.toml");

/// Every built-in definition, by the name that `--agent` takes; the first is used where no other is
/// named.
pub const BUILT_INS: [(&str, &str); 2] = [("hermes", BUILT_IN), ("openclaw", OPENCLAW)];

/// Returns the name and the text of the built-in definition with this name, which has no directory.
pub fn named(path: &Path) -> Option<(&'static str, &'static str)> {
    BUILT_INS.into_iter().find(|(name, _)| path.as_os_str() == *name)
}
