//! *Lives here:* how many questions of the watcher gateways have answered, for metrics.
//!
//! *Does not live here:* asking (`probe`, `asking`), and writing files (`publish`).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::probe::ProbeAnswer;

/// How many questions a gateway has answered since its watcher began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProbeCounts {
    /// Questions with an answer that shows that it works, or what of it does not.
    pub answered: u64,
    /// Questions without one.
    pub failed: u64,
}

/// The counts of all gateways.
#[derive(Debug, Default)]
pub(super) struct ProbeTally {
    counts: BTreeMap<String, ProbeCounts>,
    is_written: bool,
}

impl ProbeTally {
    /// Counts an answer, or that there was none.
    pub fn add(&mut self, service: &str, answer: &ProbeAnswer) {
        let counts = match self.counts.get_mut(service) {
            Some(counts) => counts,
            None => self.counts.entry(service.to_owned()).or_default(),
        };
        let count = match answer {
            ProbeAnswer::Alive | ProbeAnswer::Degraded(_) => &mut counts.answered,
            ProbeAnswer::None(_) => &mut counts.failed,
        };
        *count = count.saturating_add(1);
        self.is_written = false;
    }

    /// Has the counts of these services written, if they have changed. The others are forgotten.
    pub fn write(&mut self, services: &BTreeSet<String>, write: impl FnOnce(&[u8]) -> bool) {
        if self.is_written {
            return;
        }
        self.counts.retain(|service, _| services.contains(service));
        // What could not be written is written with the next scan.
        self.is_written = serde_json::to_vec(&self.counts).is_ok_and(|bytes| write(&bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_and_written_once_and_a_service_that_is_gone_is_forgotten() {
        let mut tally = ProbeTally::default();
        tally.add("gateway-a", &ProbeAnswer::Alive);
        tally.add("gateway-a", &ProbeAnswer::Degraded("why".to_owned()));
        tally.add("gateway-a", &ProbeAnswer::None("why".to_owned()));
        tally.add("gateway-b", &ProbeAnswer::Alive);
        let services: BTreeSet<String> = [String::from("gateway-a")].into();
        let mut written = Vec::new();
        let mut write = |tally: &mut ProbeTally, is_written: bool| {
            tally.write(&services, |bytes| {
                written.push(String::from_utf8(bytes.to_vec()).unwrap());
                is_written
            });
        };
        write(&mut tally, false);
        write(&mut tally, true);
        write(&mut tally, true);
        let expected = "{\"gateway-a\":{\"answered\":2,\"failed\":1}}";
        assert_eq!(written, [expected, expected], "what failed is written again, and the rest once");
    }
}
