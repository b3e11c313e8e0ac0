//! *Lives here:* `supervise/policy`, our own text file beside `status`: what the supervisor is
//! waiting for, and why.
//!
//! *Does not live here:* the restart policy itself, which is `core`'s.
//!
//! s6's tools never read the file, and s6 never writes it. If it is missing, the supervisor waits
//! for nothing and has restarted nothing. It is replaced atomically. Each line is `key value`;
//! unknown keys are ignored, so that older clients understand newer supervisors.

use crate::{name::is_plain, tai::Tai64n};
use std::fmt::{self, Write};

/// The longest policy file in bytes.
pub const MAX: usize = 512;
/// The reason for which a service stays down that was asked whether it wants to be started again,
/// and does not.
pub const ENDED_ON_PURPOSE: &str = "it ended on purpose: it left no handoff that counts";
/// The reason for which such a service stays down if it was asked before and that question had no
/// answer. The command that was killed then may have taken the handoff.
pub const ENDED_UNANSWERED: &str =
    "it left no handoff that counts, but an earlier question had no answer: it may have wanted a restart";
/// The reason for which a service that wants to be started again has to wait.
pub const ASKS_TOO_OFTEN: &str = "it asks for a restart again and again, so each one waits longer";
/// The reason for which a service waits whose last process may have left processes behind.
pub const ENDING_SURVIVORS: &str = "what its last process may have left behind is being ended first";
/// The longest reason in bytes.
pub const REASON_MAX: usize = 200;

/// What the restart policy is doing about a service.
///
/// If the status file holds a pid, `Backoff` is out of date and means `Running`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RestartPhase {
    /// Nothing out of the ordinary.
    #[default]
    Running,
    /// The service died, and its next start is due at `until`.
    Backoff,
    /// The service failed for good; only a new request starts it.
    Failed,
    /// The service's `run` could not be executed; the next start is due at `until`.
    FailedToStart,
    /// The service directory is not acceptable, and nothing in it is executed.
    Refused,
    /// The survivors of an earlier run are being ended; the next start follows.
    Clearing,
    /// The service ended, and is asked whether it wants to be started again. If `until` is set, the
    /// next question is due then.
    Asking,
}

impl RestartPhase {
    /// Every phase.
    pub const ALL: [Self; 7] = [
        Self::Running,
        Self::Backoff,
        Self::Failed,
        Self::FailedToStart,
        Self::Refused,
        Self::Clearing,
        Self::Asking,
    ];

    /// Returns the word for the phase in the file.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Backoff => "backoff",
            Self::Failed => "failed",
            Self::FailedToStart => "failed-to-start",
            Self::Refused => "refused",
            Self::Clearing => "clearing",
            Self::Asking => "asking",
        }
    }

    /// Returns the phase for a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.word() == word)
    }
}

impl fmt::Display for RestartPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Holds the content of the policy file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PublishedPolicy {
    /// What the supervisor is doing.
    pub phase: RestartPhase,
    /// Starts since supervision began that followed a death that nobody had asked for.
    pub restarts: u64,
    /// Starts that followed a death that somebody had asked for: a stop, a restart, a signal.
    pub commanded: u64,
    /// Which of the last deaths before a start somebody had asked for. While the survivors of a
    /// death that nobody had asked for are being ended, that death is among them.
    pub asked: AskedFor,
    /// Deaths in a row without a healthy run between them.
    pub failures: u32,
    /// How long the last process had been up when it died, in milliseconds.
    pub ran_ms: Option<u64>,
    /// When the next start is due.
    pub until: Option<Tai64n>,
    /// The reason, on one line of at most 200 bytes. While the service runs or waits for its next
    /// start, it is [`ASKS_TOO_OFTEN`], or the cause of the last death if the exit code or signal
    /// does not tell that.
    pub reason: Option<String>,
}

/// For each of the last deaths before a start, whether somebody had asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AskedFor {
    /// One bit for each death; the newest is the lowest.
    bits: u16,
    count: u8,
}

impl AskedFor {
    /// The most deaths that are remembered.
    pub const MOST: u8 = 16;

    /// Adds a death; if there are too many, the oldest is forgotten.
    pub fn push(&mut self, is_asked_for: bool) {
        self.bits = (self.bits << 1) | u16::from(is_asked_for);
        self.count = self.count.saturating_add(1).min(Self::MOST);
    }

    /// Returns the answers, the newest first.
    pub fn newest_first(self) -> impl Iterator<Item = bool> {
        (0..self.count).map(move |at| (self.bits >> at) & 1 == 1)
    }

    /// Parses the digits, the oldest first.
    fn parse(text: &str) -> Option<Self> {
        let is_known =
            text.len() <= usize::from(Self::MOST) && text.bytes().all(|digit| matches!(digit, b'0' | b'1'));
        let mut asked = Self::default();
        text.bytes().for_each(|digit| asked.push(digit == b'1'));
        is_known.then_some(asked)
    }
}

impl fmt::Display for AskedFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (0..self.count).rev().try_for_each(|at| write!(f, "{}", (self.bits >> at) & 1))
    }
}

/// Why bytes are not a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyDecodeError {
    /// The file is longer than 512 bytes.
    #[error("a policy file has at most 512 bytes, and this one has {0}")]
    TooLong(usize),
    /// The file is not UTF-8.
    #[error("a policy file is UTF-8 text, and this one is not")]
    NotText,
    /// A line with a known key has a value that the key cannot have.
    #[error("a policy file gives `{0}` a value that it cannot have")]
    Value(&'static str),
}

impl PublishedPolicy {
    /// Returns the cause of the last death, if its exit code or signal does not tell.
    pub fn cause_of_death(&self) -> Option<&str> {
        self.reason_of_run().filter(|reason| *reason != ASKS_TOO_OFTEN)
    }

    /// Returns whether the service had to wait, or waits, for a restart that it asked for, because
    /// it asks for them again and again.
    pub fn asks_too_often(&self) -> bool {
        self.reason_of_run() == Some(ASKS_TOO_OFTEN)
    }

    /// Returns the reason while the service runs or waits for its next start.
    fn reason_of_run(&self) -> Option<&str> {
        let is_run = matches!(self.phase, RestartPhase::Running | RestartPhase::Backoff);
        self.reason.as_deref().filter(|_| is_run)
    }

    /// Returns the bytes of the policy file, at most 512, ending with a newline.
    ///
    /// The reason is written as [`one_line`] returns it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = String::with_capacity(MAX);
        let mut line = |key: Key, value: &dyn fmt::Display| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{} {value}", key.word());
        };
        line(Key::RestartPhase, &self.phase);
        line(Key::Restarts, &self.restarts);
        line(Key::Commanded, &self.commanded);
        if self.asked != AskedFor::default() {
            line(Key::Asked, &self.asked);
        }
        line(Key::Failures, &self.failures);
        if let Some(ran_ms) = self.ran_ms {
            line(Key::RanMs, &ran_ms);
        }
        if let Some(until) = self.until {
            line(Key::Until, &until);
        }
        if let Some(reason) = &self.reason {
            line(Key::Reason, &one_line(reason));
        }
        out.into_bytes()
    }

    /// Returns the policy that a file holds.
    ///
    /// A missing key has the same value as if the file were missing. If a key is given twice, the
    /// last one counts.
    pub fn decode(bytes: &[u8]) -> Result<Self, PolicyDecodeError> {
        if bytes.len() > MAX {
            return Err(PolicyDecodeError::TooLong(bytes.len()));
        }
        let text = str::from_utf8(bytes).map_err(|_| PolicyDecodeError::NotText)?;
        let mut policy = Self::default();
        for line in text.split('\n') {
            let (word, value) = line.split_once(' ').unwrap_or((line, ""));
            let Some(key) = Key::from_word(word) else { continue };
            let bad = PolicyDecodeError::Value(key.word());
            match key {
                Key::RestartPhase => policy.phase = RestartPhase::from_word(value).ok_or(bad)?,
                Key::Restarts => policy.restarts = decimal(value).ok_or(bad)?,
                Key::Commanded => policy.commanded = decimal(value).ok_or(bad)?,
                Key::Asked => policy.asked = AskedFor::parse(value).ok_or(bad)?,
                Key::RanMs => policy.ran_ms = Some(decimal(value).ok_or(bad)?),
                Key::Failures => {
                    policy.failures = decimal(value).and_then(|n| u32::try_from(n).ok()).ok_or(bad)?;
                }
                Key::Until => policy.until = Some(Tai64n::parse_hex(value.as_bytes()).ok_or(bad)?),
                Key::Reason => policy.reason = Some(one_line(value)),
            }
        }
        Ok(policy)
    }
}

/// Returns `text` on one line of at most 200 bytes: control characters are escaped, and the rest is
/// cut off between characters.
///
/// Applied to its own result, it changes nothing.
pub fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(REASON_MAX));
    for c in text.chars() {
        let before = out.len();
        if is_plain(c) {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
        if out.len() > REASON_MAX {
            out.truncate(before);
            break;
        }
    }
    out
}

#[derive(Debug, Clone, Copy)]
enum Key {
    RestartPhase,
    Restarts,
    Commanded,
    Asked,
    Failures,
    RanMs,
    Until,
    Reason,
}

impl Key {
    const ALL: [Self; 8] = [
        Self::RestartPhase,
        Self::Restarts,
        Self::Commanded,
        Self::Asked,
        Self::Failures,
        Self::RanMs,
        Self::Until,
        Self::Reason,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::RestartPhase => "phase",
            Self::Restarts => "restarts",
            Self::Commanded => "commanded",
            Self::Asked => "asked",
            Self::Failures => "failures",
            Self::RanMs => "ran-ms",
            Self::Until => "until",
            Self::Reason => "reason",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.word() == word)
    }
}

/// Returns the number, if the text is only digits; `str::parse` would accept a `+`, too.
fn decimal(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::{
        ASKS_TOO_OFTEN, AskedFor, MAX, PolicyDecodeError, PublishedPolicy, REASON_MAX, RestartPhase, one_line,
    };
    use crate::tai::Tai64n;

    #[test]
    fn every_phase_has_a_word_of_its_own() {
        for phase in RestartPhase::ALL {
            assert_eq!(RestartPhase::from_word(phase.word()), Some(phase));
        }
        assert_eq!(RestartPhase::from_word("Running"), None);
    }

    #[test]
    fn a_policy_is_lines_of_key_and_value() {
        let policy = PublishedPolicy {
            phase: RestartPhase::Backoff,
            restarts: 7,
            commanded: 2,
            asked: AskedFor::parse("010").unwrap(),
            failures: 3,
            ran_ms: Some(1500),
            until: Some(Tai64n::from_unix(1_795_218_439, 5)),
            reason: Some("exitcode 3".into()),
        };
        let text = "phase backoff\nrestarts 7\ncommanded 2\nasked 010\nfailures 3\nran-ms 1500\nuntil @400000006b00dc2c00000005\nreason exitcode 3\n";
        assert_eq!(String::from_utf8(policy.encode()).unwrap(), text);
        assert_eq!(PublishedPolicy::decode(text.as_bytes()), Ok(policy));
    }

    #[test]
    fn that_a_service_asks_too_often_is_why_it_waits_and_not_why_it_died() {
        for phase in [RestartPhase::Running, RestartPhase::Backoff, RestartPhase::Failed] {
            let is_run = phase != RestartPhase::Failed;
            let policy = |reason: &str| PublishedPolicy {
                phase,
                reason: Some(reason.to_owned()),
                ..PublishedPolicy::default()
            };
            let brake = policy(ASKS_TOO_OFTEN);
            assert_eq!((brake.cause_of_death(), brake.asks_too_often()), (None, is_run));
            let memory = policy("out of memory");
            let cause = is_run.then_some("out of memory");
            assert_eq!((memory.cause_of_death(), memory.asks_too_often()), (cause, false));
        }
    }

    #[test]
    fn what_is_absent_is_as_if_nothing_happened_and_unknown_keys_are_ignored() {
        for text in
            ["", "\n", "phase running", "colour blue\n\nphase running\nx\n", "phase failed\nphase running\n"]
        {
            assert_eq!(PublishedPolicy::decode(text.as_bytes()), Ok(PublishedPolicy::default()), "{text:?}");
        }
    }

    #[test]
    fn a_known_key_with_an_impossible_value_is_refused() {
        for (text, error) in [
            (&b"phase"[..], PolicyDecodeError::Value("phase")),
            (b"phase  running", PolicyDecodeError::Value("phase")),
            (b"restarts -1", PolicyDecodeError::Value("restarts")),
            (b"restarts +1", PolicyDecodeError::Value("restarts")),
            (b"restarts ", PolicyDecodeError::Value("restarts")),
            (b"restarts 18446744073709551616", PolicyDecodeError::Value("restarts")),
            (b"failures 4294967296", PolicyDecodeError::Value("failures")),
            (b"until soon", PolicyDecodeError::Value("until")),
            (b"reason \xff", PolicyDecodeError::NotText),
            (&[b'\n'; MAX + 1], PolicyDecodeError::TooLong(513)),
        ] {
            assert_eq!(PublishedPolicy::decode(text), Err(error), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_reason_is_one_short_line_whatever_it_was() {
        let long = "ä".repeat(200);
        for (given, kept) in [
            ("plain", "plain"),
            ("two\nlines\tand \u{1b}[31m", r"two\nlines\tand \u{1b}[31m"),
            (r"C:\new", r"C:\new"),
            (&long, &long[..REASON_MAX]),
        ] {
            assert_eq!(one_line(given), kept);
            assert_eq!(one_line(kept), kept);
        }
        // An escape is kept completely or not at all.
        assert_eq!(one_line(&("x".repeat(199) + "\n")), "x".repeat(199));
    }

    #[test]
    fn of_sixteen_deaths_is_known_whether_somebody_had_asked_for_them() {
        let mut asked = AskedFor::default();
        for number in 0..20 {
            asked.push(number % 5 == 0);
        }
        assert_eq!(asked.to_string(), "0100001000010000");
        assert_eq!(AskedFor::parse("0100001000010000"), Some(asked));
        assert_eq!(asked.newest_first().take(5).collect::<Vec<_>>(), [false, false, false, false, true]);
        for text in ["2", "0 1", &"0".repeat(17)] {
            assert_eq!(AskedFor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_longest_policy_fits_its_bound() {
        let policy = PublishedPolicy {
            phase: RestartPhase::FailedToStart,
            restarts: u64::MAX,
            commanded: u64::MAX,
            asked: AskedFor::parse(&"1".repeat(16)).unwrap(),
            failures: u32::MAX,
            ran_ms: Some(u64::MAX),
            until: Tai64n::new(u64::MAX, 999_999_999),
            reason: Some("x".repeat(1000)),
        };
        let bytes = policy.encode();
        assert!(bytes.len() <= MAX, "{}", bytes.len());
        assert_eq!(PublishedPolicy::decode(&bytes).unwrap().until, policy.until);
    }

    #[test]
    fn refusals_say_what_was_wrong() {
        let errors =
            [PolicyDecodeError::TooLong(513), PolicyDecodeError::NotText, PolicyDecodeError::Value("phase")];
        assert_eq!(
            errors.map(|e| e.to_string()),
            [
                "a policy file has at most 512 bytes, and this one has 513",
                "a policy file is UTF-8 text, and this one is not",
                "a policy file gives `phase` a value that it cannot have",
            ]
        );
    }
}
