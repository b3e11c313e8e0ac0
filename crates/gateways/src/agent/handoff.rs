//! *Lives here:* how a gateway that has ended is asked whether it wants to be started again.
//!
//! *Does not live here:* asking it (`gatevisor-slot`), and what follows from the answer.

use gatevisor_slot::{Handoff, handoff};
use schemars::JsonSchema;
use serde::Deserialize;

use super::fault::{Fault, fault};

/// How a gateway asks for its own restart where its exit code does not say so.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HandoffDefinition {
    /// Exit codes after which it is asked.
    pub after_exit_codes: Vec<u8>,
    /// A program and its arguments, which prints the answer.
    pub command: Vec<String>,
    /// Where the answer is in the JSON object that the command prints; a JSON pointer.
    #[serde(default = "handoff::default_answer")]
    pub answer: String,
    /// The text there that asks for a restart.
    #[serde(default = "handoff::default_accepted")]
    pub accepted: String,
    /// Milliseconds that the command may take.
    #[serde(default = "handoff::default_timeout")]
    pub timeout_ms: u64,
}

impl HandoffDefinition {
    /// Returns the part that a slot's `run` says.
    pub fn settings(&self) -> Handoff {
        let Self { command, answer, accepted, timeout_ms, .. } = self.clone();
        Handoff { command, answer, accepted, timeout_ms }
    }

    /// Returns the first value that makes no sense beside the other exit codes.
    pub(super) fn check(&self, restart_codes: &[u8], fail_codes: &[u8]) -> Result<(), Fault> {
        const CODES: &str = "gateway.handoff.after-exit-codes";
        if self.after_exit_codes.is_empty() {
            return fault(CODES, "name at least one exit code, such as 0");
        }
        let twice = |code: &&u8| restart_codes.contains(*code) || fail_codes.contains(*code);
        if let Some(code) = self.after_exit_codes.iter().find(twice) {
            return fault(
                CODES,
                format!("{code} is also a restart code or a fail code, which decides already"),
            );
        }
        if let Err(error) = self.settings().check() {
            return fault("gateway.handoff", error.to_string());
        }
        Ok(())
    }
}
