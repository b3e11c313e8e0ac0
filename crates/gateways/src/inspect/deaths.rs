//! *Lives here:* deaths in words: how, when, and what the exit code means.
//!
//! *Does not live here:* the tally itself.

use gatevisor_wire::signal;
use gatevisor_wire::tai::Tai64n;
use gatevisor_wire::tally::Death;
use jiff::Timestamp;
use serde::Serialize;

use crate::agent::AgentDefinition;
use crate::manager::Observed;

/// One death of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeathReport {
    /// When, in RFC 3339 UTC.
    pub at: String,
    /// The exit code; none if a signal ended the process.
    pub exitcode: Option<i32>,
    /// The signal's name; none if no signal ended the process.
    pub signal: Option<String>,
    /// The meaning of the exit code or the signal, if it is known.
    pub meaning: Option<String>,
}

impl DeathReport {
    /// Returns how it died: its exit code after `with_code`, or its signal after `with_signal`.
    pub fn how(&self, with_code: &str, with_signal: &str) -> String {
        match (self.exitcode, &self.signal) {
            (Some(code), _) => format!("{with_code}exit {code}"),
            (None, Some(signal)) => format!("{with_signal}{signal}"),
            (None, None) => "in an unknown way".to_owned(),
        }
    }
}

/// Returns the deaths that a supervisor remembers, the latest first, and at most `limit`.
pub fn deaths(agent: &AgentDefinition, observed: &Observed, limit: usize) -> Vec<DeathReport> {
    let report = |(index, death): (usize, &Death)| {
        let (exitcode, signal) = match death.signal {
            0 => (Some(i32::from(death.exit_code)), None),
            number => (None, Some(signal_name(number))),
        };
        let code = (death.signal == 0).then_some(death.exit_code);
        DeathReport {
            at: stamp(death),
            exitcode,
            signal,
            meaning: match code {
                Some(code) => meaning(agent, observed, code),
                None if index == 0 => cause(observed),
                None => None,
            },
        }
    };
    observed.deaths.iter().rev().take(limit).enumerate().map(report).collect()
}

/// Returns the cause of the last death if its signal does not tell. When memory runs out, the
/// kernel kills with the same signal as anybody else.
pub(super) fn cause(observed: &Observed) -> Option<String> {
    let is_killed = observed.deaths.last().is_some_and(|death| death.signal == signal::KILL);
    let cause = observed.policy.as_ref().and_then(|policy| policy.cause_of_death());
    cause.filter(|_| is_killed).map(str::to_owned)
}

/// Returns the meaning of a gateway's exit code, if it is known.
pub fn meaning(agent: &AgentDefinition, observed: &Observed, code: u8) -> Option<String> {
    let said = agent.exit_meaning(code);
    let effect = match observed.fail_codes.iter().find(|one| one.code == code) {
        Some(one) if one.is_at_once() => Some("will not be retried".to_owned()),
        Some(one) => Some(format!("final once it has failed {} times in a row", one.after)),
        None if observed.restart_codes.contains(&code) => Some("started again without penalty".to_owned()),
        None => None,
    };
    match (said, effect) {
        (Some(said), Some(effect)) => Some(format!("{said}, {effect}")),
        (Some(said), None) => Some(said.to_owned()),
        (None, effect) => effect,
    }
}

/// Returns the name of a signal, or its number if it has no name.
pub(super) fn signal_name(number: u8) -> String {
    signal::name(number).map_or_else(|| number.to_string(), str::to_owned)
}

fn stamp(death: &Death) -> String {
    moment(death.at)
}

/// Returns a time as RFC 3339 in UTC.
pub fn moment(at: Tai64n) -> String {
    let at = Timestamp::from_millisecond(at.to_unix_ms()).unwrap_or(Timestamp::UNIX_EPOCH);
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
