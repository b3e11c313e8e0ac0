//! What is shown of the samples of a gateway.
//!
//! *Lives here:* putting minutes together, and saying in words what they say.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use super::{HistorySample, MINUTES, SampledState, StateKind};

/// The samples of 24 hours, put together in equal steps, the oldest first. A step without a sample
/// is null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownHistory {
    /// When the first step begins, in seconds since 1970.
    pub from_s: u64,
    /// How long a step is, in seconds.
    pub step_seconds: u32,
    /// The worst state of each step.
    pub states: Vec<Option<&'static str>>,
    /// What that means: good, warn, bad, idle.
    pub kinds: Vec<Option<&'static str>>,
    /// How much of one processor was used, in thousandths: the mean.
    pub cpu_permille: Vec<Option<u32>>,
    /// How much memory was used, in bytes: the most.
    pub memory_bytes: Vec<Option<u64>>,
    /// The same in one sentence.
    pub summary: String,
}

impl ShownHistory {
    /// Returns the samples of 24 hours, the oldest first, of which the last is of the minute `now`,
    /// in steps of so many minutes. Steps begin at multiples of their length, so that the same
    /// minutes stay together.
    pub fn of(samples: &[Option<HistorySample>], now: u32, step: u32) -> Self {
        let step = step.clamp(1, MINUTES);
        let first = (now / step + 1).saturating_sub(MINUTES / step);
        let begins = now.saturating_sub(MINUTES - 1);
        let mut steps: Vec<Vec<HistorySample>> =
            vec![Vec::new(); usize::try_from(MINUTES / step).unwrap_or(1)];
        for (minute, sample) in (begins..).zip(samples) {
            let at = (minute / step).checked_sub(first).and_then(|at| usize::try_from(at).ok());
            if let Some((place, sample)) = at.and_then(|at| steps.get_mut(at)).zip(*sample) {
                place.push(sample);
            }
        }
        let worst: Vec<Option<SampledState>> = steps
            .iter()
            .map(|step| step.iter().map(|sample| sample.state).reduce(SampledState::or_worse))
            .collect();
        Self {
            from_s: u64::from(first) * u64::from(step) * 60,
            step_seconds: step * 60,
            states: worst.iter().map(|state| Some((*state)?.word())).collect(),
            kinds: worst.iter().map(|state| Some((*state)?.kind().word())).collect(),
            cpu_permille: steps.iter().map(|step| mean(step)).collect(),
            memory_bytes: steps
                .iter()
                .map(|step| step.iter().filter_map(|sample| sample.memory_bytes).max())
                .collect(),
            summary: summary(samples),
        }
    }
}

fn mean(samples: &[HistorySample]) -> Option<u32> {
    let known: Vec<u64> = samples.iter().filter_map(|sample| sample.cpu_permille).map(u64::from).collect();
    let count = u64::try_from(known.len()).ok()?;
    u32::try_from(known.iter().sum::<u64>().checked_div(count)?).ok()
}

/// Returns what the samples of 24 hours say, for whoever does not see them: what is good as a part
/// of the recorded time, and everything else as a time.
pub fn summary(samples: &[Option<HistorySample>]) -> String {
    let mut minutes: BTreeMap<(Reverse<bool>, &str), u32> = BTreeMap::new();
    for sample in samples.iter().flatten() {
        let is_good = sample.state.kind() == StateKind::Good;
        *minutes.entry((Reverse(is_good), sample.state.word())).or_default() += 1;
    }
    let known: u32 = minutes.values().sum();
    if known == 0 {
        return "last 24 hours: nothing is recorded yet".to_owned();
    }
    let mut all: Vec<_> = minutes.into_iter().collect();
    all.sort_by_key(|((is_bad, word), minutes)| (*is_bad, Reverse(*minutes), *word));
    let mut parts: Vec<String> = all
        .iter()
        .map(|((Reverse(is_good), word), minutes)| {
            let word = word.replace('-', " ");
            let part = if *is_good { percent(*minutes, known) } else { time(*minutes) };
            format!("{word} {part}")
        })
        .collect();
    let unknown = MINUTES.saturating_sub(known);
    if unknown > 0 {
        parts.push(format!("not recorded {}", time(unknown)));
    }
    format!("last 24 hours: {}", parts.join(", "))
}

/// Returns a part in per cent. Only the whole is 100 %, and only nothing is 0 %.
fn percent(part: u32, whole: u32) -> String {
    match part.saturating_mul(100).checked_div(whole).unwrap_or_default() {
        0 if part > 0 => "less than 1 %".to_owned(),
        percent => format!("{percent} %"),
    }
}

fn time(minutes: u32) -> String {
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(word: &str) -> HistorySample {
        let state = SampledState::named(word, false);
        HistorySample { state, cpu_permille: Some(100), memory_bytes: Some(5) }
    }

    /// Returns a day that ends with so many minutes of each state; "" is none.
    fn day(ends: &[(&str, usize)]) -> Vec<Option<HistorySample>> {
        let end =
            ends.iter().flat_map(|(word, minutes)| vec![(!word.is_empty()).then(|| sample(word)); *minutes]);
        let end: Vec<_> = end.collect();
        [vec![None; 1440 - end.len()], end].concat()
    }

    #[test]
    fn the_words_say_what_was_good_in_parts_and_the_rest_in_times() {
        let says = |ends: &[(&str, usize)], what: &str| {
            assert_eq!(summary(&day(ends)), format!("last 24 hours: {what}"));
        };
        says(&[], "nothing is recorded yet");
        says(&[("ready", 1440)], "ready 100 %");
        says(&[("ready", 1437), ("unresponsive", 3)], "ready 99 %, unresponsive 3 min");
        says(
            &[("ready", 1415), ("unresponsive", 3), ("starting", 22)],
            "ready 98 %, starting 22 min, unresponsive 3 min",
        );
        says(&[("down", 60)], "down 1 h, not recorded 23 h");
        says(
            &[("up", 1), ("backing-off", 199)],
            "up less than 1 %, backing off 3 h 19 min, not recorded 20 h 40 min",
        );
        says(&[("ready", 30), ("", 10), ("live", 10)], "ready 75 %, live 25 %, not recorded 23 h 20 min");
    }

    #[test]
    fn of_each_step_the_worst_state_the_mean_and_the_most_count_and_a_gap_stays_one() {
        let now = 10_004;
        let mut samples = day(&[("ready", 2), ("unresponsive", 1), ("", 10), ("ready", 5)]);
        samples[1439] =
            Some(HistorySample { cpu_permille: Some(400), memory_bytes: None, ..sample("ready") });
        samples[1438] = Some(HistorySample { cpu_permille: None, memory_bytes: Some(9), ..sample("ready") });
        let shown = ShownHistory::of(&samples, now, 5);
        assert_eq!((shown.states.len(), shown.kinds.len()), (288, 288));
        let last = |count: usize| 288 - count..;
        let states = [Some("unresponsive"), None, None, Some("ready")];
        assert_eq!(shown.states[last(4)], states);
        assert_eq!(shown.kinds[last(4)], [Some("bad"), None, None, Some("good")]);
        assert_eq!(shown.cpu_permille[last(4)], [Some(100), None, None, Some(175)]);
        assert_eq!(shown.memory_bytes[last(4)], [Some(5), None, None, Some(9)]);
        assert_eq!((shown.from_s, shown.step_seconds), ((10_000 / 5 - 287) * 300, 300));
        assert!(shown.states[..284].iter().all(Option::is_none));
    }

    #[test]
    fn the_same_minutes_stay_together_while_time_passes() {
        let samples = |now: usize| day(&[("failed", 1), ("ready", now)]);
        for now in 0..30_u32 {
            let shown = ShownHistory::of(&samples(now as usize), 300 * 30 + now, 30);
            let bad: Vec<_> = (0..48).filter(|at| shown.kinds[*at] == Some("bad")).collect();
            assert_eq!((bad, shown.from_s), (vec![47], (300 - 47) * 1800), "{now}");
        }
    }
}
