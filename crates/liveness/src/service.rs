//! *Lives here:* one gateway: what is known of it, and what the next look makes of that.
//!
//! *Does not live here:* whether it may be ended now, which depends on the others ([`crate::fleet`]).

use crate::clock::Attended;
use crate::evidence::{Beat, EvidenceKind, Hindrance, LiveFinding};
use crate::settings::{LivePolicy, LiveSettings};

/// Milliseconds for which something outside a gateway may hinder it, before its silence counts all the same.
pub const LENIENCE_MS: u64 = 600_000;
/// Restarts in a row after which nothing was seen of a gateway; then it is not ended any more.
pub const FRUITLESS: u32 = 3;
/// Findings that are kept for whoever asks what was seen.
const HISTORY: usize = 64;

/// One life of a gateway: its process, and when that began, in the kernel's own ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Its process.
    pub pid: i32,
    /// Field 22 of its `/proc/PID/stat`.
    pub start_ticks: u64,
}

/// How a gateway is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Liveness {
    /// It has shown nothing yet, and it is too early to blame it.
    Starting,
    /// It runs, and nothing tells whether it works.
    Up,
    /// It has shown that it works.
    Live,
    /// It has shown that it works, and says itself that not all is well.
    Degraded,
    /// It has shown that it works, and says itself that it takes no new work.
    Draining,
    /// It runs, and has not shown for too long that it works.
    Unresponsive,
    /// A command has paused it.
    Paused,
    /// A debugger holds it.
    Traced,
}

impl Liveness {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Starting,
        Self::Up,
        Self::Live,
        Self::Degraded,
        Self::Draining,
        Self::Unresponsive,
        Self::Paused,
        Self::Traced,
    ];

    /// Returns the word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Live => "live",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Unresponsive => "unresponsive",
            Self::Paused => "paused",
            Self::Traced => "traced",
        }
    }

    /// Returns the state that a word names.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

/// How far ending a gateway has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndingStage {
    /// What can be found out is written down.
    Collecting,
    /// It was asked to end.
    Asked(Attended),
    /// It was killed.
    Killed,
}

/// One gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and all combinations occur")]
pub struct FollowedService {
    settings: LiveSettings,
    life: Life,
    began: Attended,
    state: Liveness,
    since: Attended,
    kind: Option<EvidenceKind>,
    reason: Option<String>,
    misses: u32,
    first_miss: Option<Attended>,
    /// Since when something outside hinders it, on and off; none once it has shown something again.
    hindered_since: Option<Attended>,
    is_hindered: bool,
    stopped: bool,
    /// Whether this life has shown that it works.
    shown: bool,
    /// Whether any life has.
    proven: bool,
    fruitless: u32,
    due: Attended,
    history: Vec<(Attended, String)>,
    /// Whether it is gone, and nobody has said yet that it runs again.
    gone: bool,
    /// Whether its supervisor wants it up; one that it does not is not started again.
    wanted: bool,
    /// Whether it was ended, and has shown nothing since.
    recovering: bool,
    pub(crate) ending: Option<EndingStage>,
    /// Whether its silence is the machine's.
    pub(crate) blameless: bool,
    pub(crate) spared_until: Attended,
    /// What it does by itself.
    pub beat: Beat,
    /// What it sends by itself.
    pub notified: Beat,
}

impl FollowedService {
    pub(crate) fn new(settings: LiveSettings, life: Life, proven: bool, now: Attended) -> Self {
        Self {
            settings,
            life,
            began: now,
            state: Liveness::Starting,
            since: now,
            kind: None,
            reason: None,
            misses: 0,
            first_miss: None,
            hindered_since: None,
            is_hindered: false,
            stopped: false,
            shown: false,
            proven,
            fruitless: 0,
            due: now,
            history: Vec::new(),
            gone: false,
            wanted: true,
            recovering: false,
            ending: None,
            blameless: false,
            spared_until: Attended::default(),
            beat: Beat::default(),
            notified: Beat::default(),
        }
    }

    /// Begins another life of the same gateway.
    pub(crate) fn reborn(&mut self, settings: LiveSettings, life: Life, now: Attended) {
        let ended = self.ending.is_some();
        let fruitless = if self.shown { 0 } else { self.fruitless };
        let fruitless = if ended { fruitless.saturating_add(1) } else { fruitless };
        // An old life's file stays where it is; it says nothing of this one until it changes.
        let beat = self.beat.of_next_life();
        *self = Self { beat, fruitless, recovering: ended, ..Self::new(settings, life, self.proven, now) };
    }

    pub(crate) fn adjust(&mut self, settings: LiveSettings) {
        self.settings = settings;
    }

    /// Returns how it is followed.
    pub const fn settings(&self) -> &LiveSettings {
        &self.settings
    }

    /// Returns which life it is in.
    pub const fn life(&self) -> Life {
        self.life
    }

    /// Returns how it is.
    pub const fn state(&self) -> Liveness {
        self.state
    }

    /// Returns since when.
    pub const fn since(&self) -> Attended {
        self.since
    }

    /// Returns what showed so, or was looked for last.
    pub const fn kind(&self) -> Option<EvidenceKind> {
        self.kind
    }

    /// Returns why, for people.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Returns how many looks in a row found nothing.
    pub const fn misses(&self) -> u32 {
        self.misses
    }

    /// Returns whether any life of it has shown that it works.
    pub const fn is_proven(&self) -> bool {
        self.proven
    }

    /// Returns whether a signal has stopped it.
    pub const fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Returns whether ending it has helped so little that it is not ended any more.
    pub const fn is_given_up(&self) -> bool {
        self.fruitless >= FRUITLESS
    }

    /// Returns when it is to be looked at next.
    pub const fn due(&self) -> Attended {
        self.due
    }

    /// Returns what the last looks found, the oldest first.
    pub fn history(&self) -> &[(Attended, String)] {
        &self.history
    }

    /// Returns whether it runs, as far as is known.
    pub const fn is_running(&self) -> bool {
        !self.gone
    }

    /// Returns whether it is on its way down or up because it was ended here.
    pub(crate) const fn is_in_flight(&self) -> bool {
        !self.gone && (self.ending.is_some() || (self.recovering && matches!(self.state, Liveness::Starting)))
    }

    /// Returns whether its last look found nothing, through nobody's signal. What hinders it says the more of the machine.
    pub(crate) const fn is_missing(&self) -> bool {
        (self.misses > 0 || self.hindered_since.is_some()) && !self.stopped
    }

    /// Returns whether what it shows says something of the machine: it has shown something before, and is not silent since long.
    pub(crate) fn is_telling(&self, now: Attended) -> bool {
        let runs = !self.gone && !self.is_held() && (self.shown || self.misses > 0);
        let window =
            u64::from(self.settings.misses).saturating_add(1).saturating_mul(self.settings.interval_ms);
        let is_old = self.first_miss.is_some_and(|first| now.since(first) > window);
        runs && (!is_old || self.blameless)
    }

    /// Returns milliseconds in which its misses come together.
    pub(crate) fn misses_ms(&self) -> u64 {
        u64::from(self.settings.misses).saturating_mul(self.settings.interval_ms)
    }

    /// Returns whether it is to be ended, if others let it.
    pub(crate) fn is_to_end(&self, now: Attended) -> bool {
        let silent = self.state == Liveness::Unresponsive && self.settings.policy == LivePolicy::Restart;
        let free = self.ending.is_none() && !self.gone && self.wanted && !self.is_given_up();
        silent && free && !self.blameless && now >= self.spared_until
    }

    pub(crate) const fn leave(&mut self) {
        self.gone = true;
    }

    pub(crate) const fn want(&mut self, wanted: bool) {
        self.wanted = wanted;
    }

    /// Returns what is published of it.
    pub(crate) fn shown(&self) -> (Liveness, Attended, u32, Option<&str>, bool) {
        (self.state, self.since, self.misses, self.reason(), self.proven)
    }

    /// Takes in that it will not be looked at before then.
    pub(crate) fn put_off(&mut self, until: Attended) {
        self.due = self.due.max(until);
    }

    /// Takes in what a look at it has found.
    pub(crate) fn look(&mut self, now: Attended, finding: LiveFinding) {
        self.due = now.plus(self.settings.interval_ms);
        self.remember(now, &finding);
        let (was_held, is_held) =
            (self.is_held(), matches!(finding, LiveFinding::Paused | LiveFinding::Traced));
        if was_held && !is_held {
            // It could do nothing meanwhile.
            self.excuse(now);
        }
        match finding {
            LiveFinding::Alive(kind) => self.alive(now, Liveness::Live, kind, None),
            LiveFinding::Degraded(kind, reason) => self.alive(now, Liveness::Degraded, kind, Some(reason)),
            LiveFinding::Draining(kind, reason) => self.alive(now, Liveness::Draining, kind, Some(reason)),
            // What the look has found is of the time before it could do anything again.
            LiveFinding::Early | LiveFinding::Missing { .. } if was_held => {
                self.become_(now, self.after_hold(), None, None);
            }
            LiveFinding::Early => {}
            LiveFinding::Nothing => self.become_(now, Liveness::Up, None, None),
            LiveFinding::Paused => self.held(now, Liveness::Paused),
            LiveFinding::Traced => self.held(now, Liveness::Traced),
            LiveFinding::Missing { kind, why, hindered, stopped } => {
                self.stopped = stopped;
                self.missing(now, kind, why, hindered);
            }
        }
    }

    /// Takes in that neither it nor its watcher could do anything before `now`.
    pub(crate) fn excuse(&mut self, now: Attended) {
        self.beat.excuse(now);
        self.notified.excuse(now);
        if self.state != Liveness::Unresponsive {
            (self.misses, self.first_miss) = (0, None);
        }
    }

    const fn is_held(&self) -> bool {
        matches!(self.state, Liveness::Paused | Liveness::Traced)
    }

    const fn after_hold(&self) -> Liveness {
        if self.shown { Liveness::Live } else { Liveness::Starting }
    }

    fn alive(&mut self, now: Attended, state: Liveness, kind: EvidenceKind, reason: Option<String>) {
        self.clear();
        self.fruitless = 0;
        (self.shown, self.proven) = (true, true);
        self.become_(now, state, Some(kind), reason);
    }

    fn held(&mut self, now: Attended, state: Liveness) {
        self.clear();
        // A start takes as long as it takes, once it goes on.
        self.began = now;
        self.become_(now, state, None, None);
    }

    fn missing(&mut self, now: Attended, kind: EvidenceKind, why: String, hindered: Option<Hindrance>) {
        let excused = self.excused(now, hindered);
        let early = !self.shown && now.since(self.began) < self.settings.start_deadline_ms;
        if early || (excused.is_some() && !self.shown) {
            return self.become_(now, Liveness::Starting, Some(kind), None);
        }
        if !self.shown && !self.proven {
            return self.become_(now, Liveness::Up, Some(kind), Some(why));
        }
        if let Some(hindrance) = excused {
            self.reason = Some(format!("{why}, but {}", hindrance.words()));
            return;
        }
        self.misses = self.misses.saturating_add(1);
        let first = *self.first_miss.get_or_insert(now);
        if self.misses < self.settings.misses {
            self.reason = Some(why);
            return;
        }
        self.kind = Some(kind);
        self.reason = Some(why);
        if self.state != Liveness::Unresponsive {
            (self.state, self.since) = (Liveness::Unresponsive, first);
        }
    }

    /// Returns what hinders it, as long as that is an excuse: not for ever, and not anew each time that it comes and goes.
    fn excused(&mut self, now: Attended, hindered: Option<Hindrance>) -> Option<Hindrance> {
        if self.hindered_since.is_some_and(|since| now.since(since) >= LENIENCE_MS) {
            return None;
        }
        if hindered.is_some() {
            self.hindered_since.get_or_insert(now);
        } else if self.is_hindered {
            // What it could not do, it can do from now on.
            self.excuse(now);
        }
        self.is_hindered = hindered.is_some();
        hindered
    }

    const fn clear(&mut self) {
        self.blameless = false;
        (self.misses, self.first_miss, self.stopped) = (0, None, false);
        (self.hindered_since, self.is_hindered) = (None, false);
    }

    fn become_(
        &mut self,
        now: Attended,
        state: Liveness,
        kind: Option<EvidenceKind>,
        reason: Option<String>,
    ) {
        if self.state != state {
            (self.state, self.since) = (state, now);
        }
        (self.kind, self.reason) = (kind, reason);
    }

    fn remember(&mut self, now: Attended, finding: &LiveFinding) {
        let words = match finding {
            LiveFinding::Alive(kind) => format!("{kind}: alive"),
            LiveFinding::Degraded(kind, why) => format!("{kind}: degraded: {why}"),
            LiveFinding::Draining(kind, why) => format!("{kind}: draining: {why}"),
            LiveFinding::Missing { why, hindered: Some(hindrance), .. } => {
                format!("{why}, but {}", hindrance.words())
            }
            LiveFinding::Missing { why, .. } => why.clone(),
            LiveFinding::Early => "too early to tell".to_owned(),
            LiveFinding::Nothing => "nothing to look for".to_owned(),
            LiveFinding::Paused => "paused".to_owned(),
            LiveFinding::Traced => "held by a debugger".to_owned(),
        };
        if self.history.len() >= HISTORY {
            self.history.remove(0);
        }
        self.history.push((now, words));
    }
}
