//! *Lives here:* one cause of a gateway's state, with its evidence.
//!
//! *Does not live here:* the kinds of causes (`kind`), and finding them (`causes`).

use serde::Serialize;

use super::kind::CauseKind;

/// What a gateway's state comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// What programs tell causes apart by.
    pub cause: CauseKind,
    /// The fact, as a sentence without the gateway's name.
    pub what: String,
    /// The evidence: what was read, and where.
    pub evidence: String,
}

impl Cause {
    pub(crate) fn new(cause: CauseKind, what: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self { cause, what: what.into(), evidence: evidence.into() }
    }
}
