//! *Lives here:* the kinds of evidence that a gateway works, and the findings of a look at it.
//!
//! *Does not live here:* looking.

use std::fmt;

use crate::clock::Attended;

/// The kinds of evidence that a gateway works, the cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EvidenceKind {
    /// It sends `WATCHDOG=1` by itself.
    Notify,
    /// It rewrites a file by itself.
    Heartbeat,
    /// Its control socket answers.
    Socket,
    /// An address of this machine answers over HTTP.
    Http,
    /// A port of this machine accepts a connection.
    Tcp,
    /// A command reports it by its exit code.
    Command,
}

impl EvidenceKind {
    /// All kinds, the cheapest first.
    pub const ALL: [Self; 6] =
        [Self::Notify, Self::Heartbeat, Self::Socket, Self::Http, Self::Tcp, Self::Command];

    /// Returns the word for the kind, which is also its key in the settings.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Heartbeat => "heartbeat",
            Self::Socket => "socket",
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Command => "command",
        }
    }
}

impl fmt::Display for EvidenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What distinguishes one version of a file from the next. If two marks are equal, nobody has
/// written to the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeatMark {
    /// Seconds and nanoseconds of its last change, by whatever clock: it only matters whether they
    /// differ.
    pub changed: (i64, u64),
    /// Its inode number.
    pub inode: u64,
    /// Its length in bytes.
    pub size: u64,
}

/// When a repeated action of a gateway was last seen.
///
/// Its age is counted from our seeing it, because a time in the file may come from a clock that was
/// set since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Beat {
    mark: Option<BeatMark>,
    at: Option<Attended>,
    excused: Option<Attended>,
}

/// The meaning of a beat at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeatAge {
    /// There was no beat in this life.
    None,
    /// The beat is young enough.
    Fresh,
    /// The beat is too old, but it is too early to blame the gateway, because it could do nothing
    /// for part of that time.
    Early,
    /// The beat is too old; the value is its age in milliseconds.
    Old(u64),
}

impl Beat {
    /// Returns whether a mark differs from the one that was seen last, so that the file is worth a
    /// closer look.
    pub fn is_new(&self, mark: BeatMark) -> bool {
        self.mark != Some(mark)
    }

    /// Returns whether no mark was seen yet, so that the file may be of an earlier process.
    pub const fn is_first(&self) -> bool {
        self.mark.is_none()
    }

    /// Returns whether there was a beat in this life.
    pub(crate) const fn is_known(&self) -> bool {
        self.at.is_some()
    }

    /// Notes a mark, and whether its file belongs to the process that runs now.
    pub fn seen(&mut self, mark: BeatMark, is_own: bool, now: Attended) {
        if self.mark.replace(mark) != Some(mark) && is_own {
            self.at = Some(now);
        }
    }

    /// Notes a beat without a mark. An earlier one that lasts longer stays valid.
    pub fn refresh(&mut self, until: Attended) {
        self.at = self.at.max(Some(until));
    }

    /// Returns the meaning of the beat, if it may be this many milliseconds old.
    pub fn age_of(&self, max_age_ms: u64, now: Attended) -> BeatAge {
        let Some(at) = self.at else { return BeatAge::None };
        let age = now.since(at);
        match self.excused {
            _ if age <= max_age_ms => BeatAge::Fresh,
            Some(excused) if now.since(excused) <= max_age_ms => BeatAge::Early,
            _ => BeatAge::Old(age),
        }
    }

    /// Returns what is known at the beginning of another life: the file is that of the former life.
    #[must_use]
    pub(crate) const fn of_next_life(self) -> Self {
        Self { mark: self.mark, at: None, excused: None }
    }

    /// Notes that the gateway could do nothing before `now`.
    pub(crate) const fn excuse(&mut self, now: Attended) {
        self.excused = Some(now);
    }
}

/// Why a gateway may show no evidence although nothing is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hindrance {
    /// One of its threads waits for a disk.
    Disk,
    /// It waited for a processor for more than a quarter of the time.
    Processor,
}

impl Hindrance {
    /// Returns the words for it in a message about the gateway.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Disk => "it waits for a disk",
            Self::Processor => "it waits for a contended processor",
        }
    }
}

/// The finding of a look at a running gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveFinding {
    /// This evidence shows that it works.
    Alive(EvidenceKind),
    /// This evidence shows that it works, and it reports a problem itself.
    Degraded(EvidenceKind, String),
    /// This evidence shows that it works, and it reports that it accepts no new work.
    Draining(EvidenceKind, String),
    /// None of its evidence was found.
    Missing {
        /// The last kind that was looked for.
        kind: EvidenceKind,
        /// What was found instead, for people.
        why: String,
        /// Why that may not be its own fault.
        hindered: Option<Hindrance>,
        /// Whether a signal has stopped it, which is never the machine's fault.
        stopped: bool,
    },
    /// None of its evidence was found, but it is too early to blame it.
    Early,
    /// No evidence is configured for it.
    Nothing,
    /// An operator's command has paused it.
    Paused,
    /// A debugger has stopped it.
    Traced,
}

impl LiveFinding {
    /// Returns the finding that beats of these ages are enough for, if they are.
    pub fn of_beats(ages: &[(EvidenceKind, Option<BeatAge>)]) -> Option<Self> {
        let of_age = |wanted: BeatAge| ages.iter().find(|(_, age)| *age == Some(wanted));
        let fresh = of_age(BeatAge::Fresh).map(|(kind, _)| Self::Alive(*kind));
        fresh.or_else(|| of_age(BeatAge::Early).map(|_| Self::Early))
    }

    /// Returns the finding as a line of a gateway's history.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Alive(kind) => format!("{kind}: alive"),
            Self::Degraded(kind, why) => format!("{kind}: degraded: {why}"),
            Self::Draining(kind, why) => format!("{kind}: draining: {why}"),
            Self::Missing { why, hindered: Some(hindrance), .. } => {
                format!("{why}, but {}", hindrance.words())
            }
            Self::Missing { why, .. } => why.clone(),
            Self::Early => "too early to tell".to_owned(),
            Self::Nothing => "nothing to look for".to_owned(),
            Self::Paused => "paused".to_owned(),
            Self::Traced => "held by a debugger".to_owned(),
        }
    }

    /// Returns the finding of a look whose questions nobody answered, where `self` is what the
    /// kernel reports, and `ages` are the ages of the beats after the last question.
    ///
    /// A beat may have come meanwhile. And as long as it is too early to blame a gateway for an old
    /// beat, it is too early to blame it for an answer that the same event loop owes. A process
    /// that a signal or a debugger has stopped does neither, whatever its beats were.
    #[must_use]
    pub fn unanswered(self, ages: &[(EvidenceKind, Option<BeatAge>)]) -> Self {
        match self {
            Self::Missing { stopped: false, .. } => Self::of_beats(ages).unwrap_or(self),
            _ => self,
        }
    }
}
