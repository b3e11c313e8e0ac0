//! Whether a service that has ended wants to be started again.
//!
//! *Lives here:* the settings in `run` for asking, and the short program that asks (`ask`), which
//! the supervisor starts as the service's user.
//! *Does not live here:* after which ends it is asked (`data/restart-codes`), and the consequences
//! of the answer (`gatevisor-core`, `machine/asking.rs`).

mod ask;

use gatevisor_wire::handoff::HandoffAnswer;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::parse_error::{ParseError, invalid};

pub use ask::run_ask_handoff;

/// The most milliseconds that the command may take.
pub const MAX_TIMEOUT_MS: u64 = 30_000;
/// The most characters of an answer that are told.
const SHOWN: usize = 300;
/// The most bytes of an answer that are read.
const MAX_ANSWER: usize = 1 << 16;

/// How a service that has ended is asked whether it wants to be started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Handoff {
    /// Program and arguments. `${GATEVISOR_HANDOFF_PID}` is the process that ended, and
    /// `${GATEVISOR_HANDOFF_CODE}` is its exit code.
    pub command: Vec<String>,
    /// A JSON pointer to the answer in the JSON object that the command prints.
    #[serde(default = "default_answer", skip_serializing_if = "is_default_answer")]
    pub answer: String,
    /// The answer that asks for a restart. Any other text means a stop.
    #[serde(default = "default_accepted", skip_serializing_if = "is_default_accepted")]
    pub accepted: String,
    /// Milliseconds that the command may take.
    #[serde(default = "default_timeout", skip_serializing_if = "is_default_timeout")]
    pub timeout_ms: u64,
}

impl Handoff {
    /// Returns the settings with every text of the command replaced.
    ///
    /// # Errors
    /// Those of `replace`.
    pub fn with_texts<E>(&self, replace: &dyn Fn(&str) -> Result<String, E>) -> Result<Self, E> {
        let command = self.command.iter().map(|word| replace(word)).collect::<Result<_, _>>()?;
        Ok(Self { command, ..self.clone() })
    }

    /// Returns an error if a value makes no sense.
    ///
    /// # Errors
    /// Names the value, and tells what would be right.
    pub fn check(&self) -> Result<(), ParseError> {
        if self.command.first().is_none_or(String::is_empty) {
            return Err(invalid("handoff.command", "must name a program and its arguments"));
        }
        if !self.answer.starts_with('/') {
            return Err(invalid("handoff.answer", "must be a JSON pointer, such as \"/status\""));
        }
        if self.accepted.is_empty() {
            return Err(invalid("handoff.accepted", "must be the text that asks for a restart"));
        }
        if !(1..=MAX_TIMEOUT_MS).contains(&self.timeout_ms) {
            return Err(invalid("handoff.timeout-ms", format!("must be from 1 to {MAX_TIMEOUT_MS}")));
        }
        Ok(())
    }

    /// Returns the meaning of an answer, and what in it decided. With a stop, that is all of it: it
    /// may say that there is a handoff, and why that does not count.
    fn understand(&self, output: &[u8]) -> (HandoffAnswer, Option<String>) {
        let object = object(output);
        let text = object.as_ref().and_then(|object| object.pointer(&self.answer)?.as_str());
        match (text, &object) {
            (Some(text), _) if text == self.accepted => {
                (HandoffAnswer::Restart, Some(format!("`{}` is `{text}`", self.answer)))
            }
            (Some(text), Some(object)) => {
                let all: String = object.to_string().chars().take(SHOWN).collect();
                (HandoffAnswer::Stop, Some(format!("`{}` is `{text}` in {all}", self.answer)))
            }
            _ => (HandoffAnswer::NotUnderstood, None),
        }
    }
}

/// Returns the JSON object that a command printed. Lines that it printed before the object are
/// ignored.
fn object(output: &[u8]) -> Option<Value> {
    let from = |at: usize| serde_json::from_slice::<Value>(output.get(at..)?).ok().filter(Value::is_object);
    let begins = (0..output.len()).filter(|&at| {
        output.get(at) == Some(&b'{')
            && at.checked_sub(1).is_none_or(|before| output.get(before) == Some(&b'\n'))
    });
    // The number of attempts is limited, because the output may consist of braces only.
    begins.take(MAX_BEGINNINGS).find_map(from)
}

/// The most lines that are tried as the first one of the object.
const MAX_BEGINNINGS: usize = 16;

/// Returns where an answer is if nobody says where.
pub fn default_answer() -> String {
    "/status".to_owned()
}

fn is_default_answer(value: &str) -> bool {
    value == default_answer()
}

/// Returns the text that asks for a restart if nobody says which.
pub fn default_accepted() -> String {
    "accepted".to_owned()
}

fn is_default_accepted(value: &str) -> bool {
    value == default_accepted()
}

/// Returns the milliseconds that the command may take if nobody says how many.
pub const fn default_timeout() -> u64 {
    MAX_TIMEOUT_MS
}

// serde calls this by reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
const fn is_default_timeout(value: &u64) -> bool {
    *value == default_timeout()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Handoff {
        Handoff {
            command: vec!["ask".into()],
            answer: default_answer(),
            accepted: default_accepted(),
            timeout_ms: default_timeout(),
        }
    }

    #[test]
    fn only_the_text_that_was_agreed_on_means_a_restart_and_only_a_text_is_an_answer() {
        for (output, expected) in [
            (r#"{"status":"accepted"}"#, HandoffAnswer::Restart),
            ("{\n  \"ok\": true,\n  \"status\": \"accepted\"\n}\n", HandoffAnswer::Restart),
            ("a warning\n{\"status\":\"accepted\"}\n", HandoffAnswer::Restart),
            (r#"{"status":"none"}"#, HandoffAnswer::Stop),
            (r#"{"status":"Accepted"}"#, HandoffAnswer::Stop),
            (r#"{"status":""}"#, HandoffAnswer::Stop),
            (r#"{"status":true}"#, HandoffAnswer::NotUnderstood),
            (r#"{"state":"accepted"}"#, HandoffAnswer::NotUnderstood),
            (r#"["accepted"]"#, HandoffAnswer::NotUnderstood),
            (r#"{"status":"accepted"} {"status":"none"}"#, HandoffAnswer::NotUnderstood),
            (r#"{"status":"accepted""#, HandoffAnswer::NotUnderstood),
            ("accepted", HandoffAnswer::NotUnderstood),
            ("", HandoffAnswer::NotUnderstood),
        ] {
            assert_eq!(settings().understand(output.as_bytes()).0, expected, "{output}");
        }
        assert_eq!(settings().understand(b"\xff{\"status\"").0, HandoffAnswer::NotUnderstood);
    }

    #[test]
    fn an_answer_may_be_anywhere_in_the_object() {
        let deep = Handoff { answer: "/result/0/what".into(), accepted: "again".into(), ..settings() };
        let answer = deep.understand(br#"{"result":[{"what":"again"}]}"#);
        assert_eq!(answer, (HandoffAnswer::Restart, Some("`/result/0/what` is `again`".to_owned())));
    }

    #[test]
    fn a_handoff_of_another_process_is_none_and_its_answer_is_told() {
        // As OpenClaw 2026.9.6 answers.
        let rejected =
            br#"{"ok": true, "status": "rejected", "reason": "pid-mismatch", "handoffPid": 17456}"#;
        let (answer, said) = settings().understand(rejected);
        assert_eq!(answer, HandoffAnswer::Stop);
        let said = said.unwrap();
        assert!(said.starts_with("`/status` is `rejected` in {"), "{said}");
        assert!(said.contains(r#""handoffPid":17456"#) && said.contains("pid-mismatch"), "{said}");
        let long = format!(r#"{{"status": "none", "more": "{}"}}"#, "x".repeat(1000));
        assert!(settings().understand(long.as_bytes()).1.unwrap().len() < 400);
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        assert_eq!(settings().check(), Ok(()));
        for wrong in [
            Handoff { command: vec![], ..settings() },
            Handoff { answer: "status".into(), ..settings() },
            Handoff { accepted: String::new(), ..settings() },
            Handoff { timeout_ms: 0, ..settings() },
            Handoff { timeout_ms: MAX_TIMEOUT_MS + 1, ..settings() },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
