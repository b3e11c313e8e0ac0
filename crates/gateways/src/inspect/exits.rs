//! *Lives here:* counting how often each service has ended in each way.
//!
//! *Does not live here:* the tally of a supervisor, which remembers only the last deaths.
//!
//! A tally drops its oldest deaths, so its length says nothing over time. The deaths that were
//! added since the previous look are counted exactly, unless there were more than a tally holds.

use std::collections::BTreeMap;

use gatevisor_wire::tally::Death;

use super::deaths::signal_name;
use super::report::ServiceReport;
use super::state::ServiceState;

/// The most services that are remembered, including those that are gone.
const SERVICES: usize = 10_000;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExitWay {
    /// With this exit code.
    Code(u8),
    /// By the signal with this number.
    Signal(u8),
}

impl ExitWay {
    const fn of(death: Death) -> Self {
        match death.signal {
            0 => Self::Code(death.exit_code),
            signal => Self::Signal(signal),
        }
    }

    /// Returns what it is, and which: `code` and a number, or `signal` and its name.
    pub fn words(self) -> (&'static str, String) {
        match self {
            Self::Code(code) => ("code", code.to_string()),
            Self::Signal(signal) => ("signal", signal_name(signal)),
        }
    }
}

/// How often each service has ended in each way.
pub type ExitCounts = BTreeMap<String, BTreeMap<ExitWay, u64>>;

/// Counts how services end, from its first look on.
#[derive(Debug, Default)]
pub struct ExitCounter {
    has_looked: bool,
    last: BTreeMap<String, LastDeath>,
    counts: ExitCounts,
}

/// The last death of a service that was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastDeath {
    /// Its tally has not been seen since the first look.
    Unread,
    /// Everything up to this death was counted.
    Counted(Option<Death>),
}

impl ExitCounter {
    /// Counts the deaths since the look before, and returns all counts.
    pub fn look(&mut self, reports: &[ServiceReport]) -> &ExitCounts {
        if self.last.len() > SERVICES {
            let is_there = |name: &String| reports.iter().any(|report| report.service == *name);
            self.last.retain(|name, _| is_there(name));
            self.counts.retain(|name, _| is_there(name));
        }
        for report in reports {
            let is_seen = report.state != ServiceState::Unknown;
            self.see(&report.service, is_seen.then_some(&report.tally));
        }
        self.has_looked = true;
        &self.counts
    }

    /// Counts the deaths of a service; `tally` is missing if it may not be read.
    fn see(&mut self, service: &str, tally: Option<&Vec<Death>>) {
        // All deaths of a service that is new since the first look are counted.
        let first = if self.has_looked { LastDeath::Counted(None) } else { LastDeath::Unread };
        let last = self.last.entry(service.to_owned()).or_insert(first);
        let Some(tally) = tally else { return };
        let counts = self.counts.entry(service.to_owned()).or_default();
        let is_new = match *last {
            LastDeath::Unread => tally.len(),
            LastDeath::Counted(last) => {
                let place = tally.iter().rposition(|death| Some(*death) == last);
                place.map_or(0, |place| place.saturating_add(1))
            }
        };
        for (place, death) in tally.iter().enumerate() {
            // An earlier way to end is listed with 0, so that its next death is an increase.
            let count = counts.entry(ExitWay::of(*death)).or_default();
            *count = count.saturating_add(u64::from(place >= is_new));
        }
        let before = match *last {
            LastDeath::Counted(before) => before,
            LastDeath::Unread => None,
        };
        *last = LastDeath::Counted(tally.last().copied().or(before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatevisor_wire::tai::Tai64n;

    /// Returns the death by signal 9 or with this exit code that came in this second.
    fn death(second: i64, code: u8) -> Death {
        let (exit_code, signal) = if code == 137 { (137, 9) } else { (code, 0) };
        Death { at: Tai64n::from_unix(second, 0), exit_code, signal }
    }

    fn counts(counter: &ExitCounter, service: &str) -> Vec<(String, u64)> {
        let of_service = counter.counts.get(service).into_iter().flatten();
        of_service.map(|(way, count)| (format!("{} {}", way.words().0, way.words().1), *count)).collect()
    }

    /// Sees these tallies one after the other, and returns the counts.
    fn seen(has_looked: bool, tallies: &[Option<Vec<Death>>]) -> Vec<(String, u64)> {
        let mut counter = ExitCounter { has_looked, ..ExitCounter::default() };
        for tally in tallies {
            counter.see("a", tally.as_ref());
            counter.has_looked = true;
        }
        counts(&counter, "a")
    }

    #[test]
    fn what_came_to_a_tally_since_the_first_look_is_counted_once() {
        let all: Vec<Death> =
            (1..=9).map(|second| death(second, if second == 9 { 137 } else { 1 })).collect();
        let part = |from: usize, to: usize| Some(all[from..to].to_vec());
        let one = |code: u64| vec![("code 1".to_owned(), code)];
        let both = |code: u64, signal: u64| [one(code), vec![("signal SIGKILL".to_owned(), signal)]].concat();
        for (what, has_looked, tallies, expected) in [
            ("what was before", false, vec![part(0, 3)], one(0)),
            ("two more", false, vec![part(0, 3), part(0, 5)], one(2)),
            ("nothing more", false, vec![part(0, 3), part(0, 5), part(0, 5)], one(2)),
            ("the oldest are forgotten", false, vec![part(0, 5), part(4, 8), part(5, 9)], both(3, 1)),
            ("all are forgotten", false, vec![part(0, 2), part(4, 6)], one(2)),
            ("a supervisor that knows none", false, vec![part(0, 3), part(0, 0), part(3, 4)], one(1)),
            ("none may be read at first", false, vec![None, part(0, 3), part(0, 4)], one(1)),
            ("none may be read in between", false, vec![part(0, 3), None, part(0, 4)], one(1)),
            ("a service that came later", true, vec![part(0, 3)], one(3)),
            ("it has never ended before", false, vec![part(0, 0), part(0, 1)], one(1)),
        ] {
            assert_eq!(seen(has_looked, &tallies), expected, "{what}");
        }
    }

    #[test]
    fn a_way_that_was_there_before_begins_with_0() {
        assert_eq!(seen(false, &[Some(vec![death(1, 137)])]), [("signal SIGKILL".to_owned(), 0)]);
    }
}
