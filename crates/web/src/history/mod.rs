//! How the gateways of a home were in the last 24 hours.
//!
//! *Lives here:* a sample of a gateway, the bytes of the file that keeps samples (`ring`), making
//! samples from what `status` says (`sampler`), and what a page shows of them (`shown`). No I/O.
//! *Does not live here:* reading and writing the file, and when.
//!
//! There is at most one sample a minute. A minute without one stays a gap: nothing is made up for
//! the time in which nobody looked.

mod ring;
mod sampler;
mod shown;

pub use ring::{MOST_FILE_BYTES, Ring, RingDay, RingError, RingNames};
pub use sampler::Sampler;
pub use shown::{ShownHistory, summary};

/// The number of samples that are kept: one for each minute of 24 hours.
pub const MINUTES: u32 = 1440;

/// What a state means for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateKind {
    /// It does not run, and shall not.
    Idle,
    /// It does what it is there for.
    Good,
    /// It is between two states, or not everything is well.
    Warn,
    /// It does not do what it is there for.
    Bad,
}

impl StateKind {
    /// Returns its word in answers and in the page.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// The states of `status`, in the order of their numbers in the file: a new state comes last. The
/// first `down` is that of a gateway that should run.
const STATES: [(&str, StateKind); 21] = [
    ("ready", StateKind::Good),
    ("live", StateKind::Good),
    ("up", StateKind::Good),
    ("served", StateKind::Good),
    ("starting", StateKind::Warn),
    ("stopping", StateKind::Warn),
    ("finishing", StateKind::Warn),
    ("not-supervised", StateKind::Warn),
    ("paused", StateKind::Warn),
    ("waiting", StateKind::Warn),
    ("asking", StateKind::Warn),
    ("degraded", StateKind::Warn),
    ("draining", StateKind::Warn),
    ("traced", StateKind::Warn),
    ("backing-off", StateKind::Bad),
    ("failed", StateKind::Bad),
    ("failed-to-start", StateKind::Bad),
    ("unresponsive", StateKind::Bad),
    ("unknown", StateKind::Bad),
    ("down", StateKind::Bad),
    ("down", StateKind::Idle),
];

/// A state of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampledState(u8);

impl SampledState {
    /// Returns the state with this word; `is_wanted` tells of one that is down whether it should
    /// run. A word that nobody knows here is `unknown`.
    pub fn named(word: &str, is_wanted: bool) -> Self {
        let fits = |(known, kind): &(&str, StateKind)| {
            *known == word && (word != "down" || (*kind == StateKind::Bad) == is_wanted)
        };
        let found = STATES.iter().position(fits);
        let unknown = || STATES.iter().position(|(word, _)| *word == "unknown");
        Self(found.or_else(unknown).and_then(|at| u8::try_from(at).ok()).unwrap_or_default())
    }

    /// Returns the state with this number in the file.
    fn numbered(number: u8) -> Option<Self> {
        (usize::from(number) < STATES.len()).then_some(Self(number))
    }

    /// Returns its word, as `status --json` says it.
    pub fn word(self) -> &'static str {
        STATES.get(usize::from(self.0)).map_or("unknown", |(word, _)| word)
    }

    /// Returns what it means.
    pub fn kind(self) -> StateKind {
        STATES.get(usize::from(self.0)).map_or(StateKind::Bad, |(_, kind)| *kind)
    }

    /// Returns the worse of two; this one if they are equally bad.
    #[must_use]
    pub fn or_worse(self, other: Self) -> Self {
        if other.kind() > self.kind() { other } else { self }
    }
}

/// How a gateway was in one minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistorySample {
    /// Its state, or the worst that was seen since the sample before.
    pub state: SampledState,
    /// How much of one processor its processes used since the sample before, in thousandths.
    pub cpu_permille: Option<u32>,
    /// The memory of its processes in bytes.
    pub memory_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_is_found_by_its_word_and_one_that_is_down_by_whether_it_should_run() {
        for (number, (word, kind)) in STATES.iter().enumerate() {
            let state = SampledState::named(word, *kind == StateKind::Bad);
            assert_eq!((usize::from(state.0), state.word(), state.kind()), (number, *word, *kind));
            assert_eq!(SampledState::numbered(state.0), Some(state));
        }
        assert_eq!(SampledState::named("strange", false).word(), "unknown");
        assert_eq!(SampledState::numbered(21), None);
    }

    #[test]
    fn of_two_states_the_worse_one_counts_and_one_that_shall_not_run_is_the_least() {
        let named = |word| SampledState::named(word, false);
        for (one, other, worse) in [
            ("ready", "unresponsive", "unresponsive"),
            ("unresponsive", "ready", "unresponsive"),
            ("ready", "draining", "draining"),
            ("down", "ready", "ready"),
            ("live", "ready", "live"),
        ] {
            assert_eq!(named(one).or_worse(named(other)).word(), worse, "{one} {other}");
        }
    }
}
