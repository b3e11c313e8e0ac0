//! *Lives here:* what a gateway used over the last samples, and its sparkline.
//!
//! *Does not live here:* taking samples.

use std::collections::VecDeque;

/// How many samples are kept of each gateway: two minutes, at one every two seconds.
const KEPT: usize = 60;

/// The bars of a sparkline, from low to high.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The same for a terminal that may show nothing but ASCII.
const ASCII_BARS: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];

/// What a gateway's processes use at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// Tenths of a percent of one processor, since the sample before.
    pub cpu_tenths: Option<u64>,
    /// Resident memory in bytes.
    pub memory_bytes: Option<u64>,
}

/// The last samples of one gateway.
#[derive(Debug, Clone, Default)]
pub struct UsageHistory {
    samples: VecDeque<Sample>,
}

impl UsageHistory {
    /// Adds a sample, and forgets the oldest one if there are too many.
    pub fn add(&mut self, sample: Sample) {
        if self.samples.len() >= KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// Returns the last sample.
    pub fn last(&self) -> Sample {
        self.samples.back().copied().unwrap_or_default()
    }

    /// Returns a line of at most `width` bars for processor time. A full bar is one whole
    /// processor, or the highest value if that is more.
    pub fn cpu_line(&self, width: usize, is_unicode: bool) -> String {
        const WHOLE: u64 = 1000;
        let values: Vec<Option<u64>> = self.samples.iter().map(|sample| sample.cpu_tenths).collect();
        line(&values, WHOLE, width, is_unicode)
    }

    /// Returns a line of at most `width` bars for memory. A full bar is the highest value.
    pub fn memory_line(&self, width: usize, is_unicode: bool) -> String {
        let values: Vec<Option<u64>> = self.samples.iter().map(|sample| sample.memory_bytes).collect();
        line(&values, 1, width, is_unicode)
    }
}

/// Returns the last values as bars; an unknown value is a space.
fn line(values: &[Option<u64>], least_full: u64, width: usize, is_unicode: bool) -> String {
    let shown = values.get(values.len().saturating_sub(width)..).unwrap_or_default();
    let full = shown.iter().flatten().copied().max().unwrap_or(0).max(least_full).max(1);
    let bars = if is_unicode { BARS } else { ASCII_BARS };
    let bar = |value: &Option<u64>| {
        let Some(value) = value else { return ' ' };
        let place = value.saturating_mul(7).saturating_add(full / 2) / full;
        usize::try_from(place).ok().and_then(|place| bars.get(place)).copied().unwrap_or(' ')
    };
    shown.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(values: &[(u64, u64)]) -> UsageHistory {
        let mut history = UsageHistory::default();
        for (cpu, memory) in values {
            history.add(Sample { cpu_tenths: Some(*cpu), memory_bytes: Some(*memory) });
        }
        history
    }

    #[test]
    fn a_bar_of_processor_time_is_full_at_one_processor_and_one_of_memory_at_the_most_there_was() {
        let seen = history(&[(0, 10), (500, 20), (1000, 40)]);
        assert_eq!(seen.cpu_line(10, true), "▁▅█");
        assert_eq!(seen.memory_line(10, true), "▃▅█");
        assert_eq!(seen.cpu_line(10, false), "_=#");
        assert_eq!(history(&[(1000, 1), (4000, 1)]).cpu_line(10, true), "▃█");
    }

    #[test]
    fn only_the_last_samples_are_kept_and_only_those_that_fit_are_shown() {
        let many: Vec<(u64, u64)> = (0..500).map(|n| (n, n)).collect();
        let seen = history(&many);
        assert_eq!(seen.samples.len(), KEPT);
        assert_eq!(seen.cpu_line(5, true).chars().count(), 5);
        assert_eq!(seen.last().memory_bytes, Some(499));
    }

    #[test]
    fn what_is_not_known_is_a_gap() {
        let mut seen = history(&[(1000, 1)]);
        seen.add(Sample::default());
        assert_eq!(seen.cpu_line(5, true), "█ ");
    }
}
