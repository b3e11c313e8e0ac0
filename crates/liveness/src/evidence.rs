//! *Lives here:* what a gateway shows of itself, and what a look at it has found.
//!
//! *Does not live here:* looking.

use std::fmt;

use crate::clock::Attended;

/// What shows that a gateway works, the cheapest first.
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
    /// A command says so by its exit code.
    Command,
}

impl EvidenceKind {
    /// All of them, the cheapest first.
    pub const ALL: [Self; 6] =
        [Self::Notify, Self::Heartbeat, Self::Socket, Self::Http, Self::Tcp, Self::Command];

    /// Returns the word for it, which is the key in the settings as well.
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

/// What tells one version of a file from the next; equal marks mean that nobody has written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeatMark {
    /// Seconds and nanoseconds of its last change, of whatever clock: only that they differ counts.
    pub changed: (i64, u64),
    /// Its number in the file system.
    pub inode: u64,
    /// Its length.
    pub size: u64,
}

/// When something that a gateway does again and again was last seen to have been done.
///
/// Its age is that of our seeing it: what a file says of its own time may be of a clock that was set since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Beat {
    mark: Option<BeatMark>,
    at: Option<Attended>,
    excused: Option<Attended>,
}

/// What a beat says at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeatAge {
    /// There was none in this life.
    None,
    /// It is young enough.
    Fresh,
    /// It is too old, and it is too early to say so: for some of its age nothing could be done.
    Early,
    /// It is too old, by so many milliseconds of age.
    Old(u64),
}

impl Beat {
    /// Returns whether a mark is not the one that was seen last; then it is worth a closer look.
    pub fn is_new(&self, mark: BeatMark) -> bool {
        self.mark != Some(mark)
    }

    /// Takes in a mark, and whether what bears it is of the process that runs now.
    pub fn seen(&mut self, mark: BeatMark, is_own: bool, now: Attended) {
        if self.mark.replace(mark) != Some(mark) && is_own {
            self.at = Some(now);
        }
    }

    /// Takes in something without a mark; what was to last longer still does.
    pub fn refresh(&mut self, until: Attended) {
        self.at = self.at.max(Some(until));
    }

    /// Returns what it says, where it may be so many milliseconds old.
    pub fn age_of(&self, max_age_ms: u64, now: Attended) -> BeatAge {
        let Some(at) = self.at else { return BeatAge::None };
        let age = now.since(at);
        match self.excused {
            _ if age <= max_age_ms => BeatAge::Fresh,
            Some(excused) if now.since(excused) <= max_age_ms => BeatAge::Early,
            _ => BeatAge::Old(age),
        }
    }

    /// Returns what is known when another life begins: what is there is of the life before.
    #[must_use]
    pub(crate) const fn of_next_life(self) -> Self {
        Self { mark: self.mark, at: None, excused: None }
    }

    /// Takes in that nothing could be done before `now`.
    pub(crate) const fn excuse(&mut self, now: Attended) {
        self.excused = Some(now);
    }
}

/// Why a gateway may show nothing though nothing is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hindrance {
    /// One of its threads waits for a disk.
    Disk,
    /// It waited for a processor for more than a quarter of the time.
    Processor,
}

impl Hindrance {
    /// Returns what it says of the gateway.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Disk => "it waits for a disk",
            Self::Processor => "it waits for a processor",
        }
    }
}

/// What a look at a gateway that runs has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveFinding {
    /// This shows that it works.
    Alive(EvidenceKind),
    /// This shows that it works, and it says itself that not all is well.
    Degraded(EvidenceKind, String),
    /// This shows that it works, and it says itself that it takes no new work.
    Draining(EvidenceKind, String),
    /// Nothing that it is to show has been seen.
    Missing {
        /// The last of what was looked for.
        kind: EvidenceKind,
        /// What was found instead, for people.
        why: String,
        /// Why that may be no fault of its own.
        hindered: Option<Hindrance>,
        /// Whether a signal has stopped it, which no machine does.
        stopped: bool,
    },
    /// Nothing that it is to show has been seen, and it is too early to say so.
    Early,
    /// There is nothing that it is to show.
    Nothing,
    /// A command of the operator's has paused it.
    Paused,
    /// A debugger holds it.
    Traced,
}
