//! *Lives here:* the state of one gateway, and how each look changes it.
//!
//! *Does not live here:* whether it may be ended now, which depends on the others
//! ([`crate::fleet`]).

use crate::clock::Attended;
use crate::evidence::{Beat, EvidenceKind, Hindrance, LiveFinding};
use crate::settings::{LivePolicy, LiveSettings};
use crate::state::{Life, Liveness, SupervisorSays};

/// Milliseconds for which something outside a gateway may keep it from being ended for its silence.
pub const LENIENCE_MS: u64 = 600_000;
/// After this many restarts in a row without any evidence, a gateway is not ended any more.
pub const FRUITLESS: u32 = 3;
/// The longest time in milliseconds between two looks at a gateway that is starting.
const STARTING_LOOK_MS: u64 = 1_000;
/// The number of findings that are kept for reports.
const HISTORY: usize = 64;

/// The progress of ending a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndingStage {
    /// The evidence is being written down.
    Collecting,
    /// It was asked to end, at this moment.
    Asked(Attended),
    /// It was killed.
    Killed,
}

/// The state of one gateway.
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
    /// The looks in a row that found no evidence.
    misses: u32,
    first_miss: Option<Attended>,
    /// Those of them that may be its own fault, because nothing hindered it. They alone are a
    /// reason to end it.
    blamed: u32,
    first_blamed: Option<Attended>,
    /// Since when it has shown nothing during its start.
    silent_since: Option<Attended>,
    /// Since when something outside has hindered it, on and off; `None` once it has shown evidence
    /// again.
    hindered_since: Option<Attended>,
    /// Since when the watcher has been away, on and off; `None` once the gateway has shown evidence
    /// again.
    lapsed_since: Option<Attended>,
    /// Whether something outside hinders it now, and that is an excuse.
    is_hindered: bool,
    stopped: bool,
    /// Whether this life has shown that it works.
    shown: bool,
    /// Whether its supervisor knows of this life that it was ready, which proves that it worked.
    vouched: bool,
    /// Whether any life has worked, as was shown or vouched.
    proven: bool,
    fruitless: u32,
    due: Attended,
    /// When the questions of the present look began.
    pub(crate) asked: Option<Attended>,
    is_ever_asked: bool,
    history: Vec<(Attended, String)>,
    /// Whether it is gone and has not been reported as running again.
    gone: bool,
    /// Whether its supervisor wants it up. If not, it is not started again.
    wanted: bool,
    /// Whether it was ended and has shown no evidence since.
    recovering: bool,
    pub(crate) ending: Option<EndingStage>,
    /// Whether the machine is blamed for its silence.
    pub(crate) blameless: bool,
    pub(crate) spared_until: Attended,
    /// The beats of its heartbeat file.
    pub beat: Beat,
    /// The beats of its notifications.
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
            blamed: 0,
            first_blamed: None,
            silent_since: None,
            hindered_since: None,
            lapsed_since: None,
            is_hindered: false,
            stopped: false,
            shown: false,
            vouched: false,
            proven,
            fruitless: 0,
            due: now,
            asked: None,
            is_ever_asked: false,
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
        let fruitless = if self.shown { 0 } else { self.fruitless }.saturating_add(u32::from(ended));
        // The file of the former life stays, and proves nothing about this life until it changes.
        let beat = self.beat.of_next_life();
        *self = Self { beat, fruitless, recovering: ended, ..Self::new(settings, life, self.proven, now) };
    }

    /// Notes that it is the same life, perhaps out of sight until now, because of an unread status.
    pub(crate) fn adjust(&mut self, settings: LiveSettings, now: Attended) {
        self.settings = settings;
        if std::mem::take(&mut self.gone) {
            self.lapse(now);
        }
    }

    /// Returns its settings.
    pub const fn settings(&self) -> &LiveSettings {
        &self.settings
    }

    /// Returns its present life.
    pub const fn life(&self) -> Life {
        self.life
    }

    /// Returns its state.
    pub const fn state(&self) -> Liveness {
        self.state
    }

    /// Returns since when it has been in this state.
    pub const fn since(&self) -> Attended {
        self.since
    }

    /// Returns the evidence that showed it, or that was looked for last.
    pub const fn kind(&self) -> Option<EvidenceKind> {
        self.kind
    }

    /// Returns the reason, for people.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Returns how many looks in a row found no evidence.
    pub const fn misses(&self) -> u32 {
        self.misses
    }

    /// Returns whether this life has shown that it works.
    pub const fn has_shown(&self) -> bool {
        self.shown
    }

    /// Returns whether any life of it is known to have worked.
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

    /// Returns whether it is not ended at present, because something outside hinders it.
    pub(crate) const fn is_excused(&self) -> bool {
        self.is_hindered
    }

    /// Returns whether it is never ended. If no life of it has ever worked, the settings for
    /// following it may be wrong.
    pub const fn is_left_alone(&self) -> bool {
        self.is_given_up() || !self.proven
    }

    /// Returns when the next look at it is due, or was due if it is being asked.
    pub const fn due(&self) -> Attended {
        self.due
    }

    /// Returns the last findings, the oldest first.
    pub fn history(&self) -> &[(Attended, String)] {
        &self.history
    }

    /// Returns whether it runs, as far as is known.
    pub const fn is_running(&self) -> bool {
        !self.gone
    }

    /// Returns whether it is stopping or starting because it was ended here.
    pub(crate) const fn is_in_flight(&self) -> bool {
        !self.gone && (self.ending.is_some() || (self.recovering && matches!(self.state, Liveness::Starting)))
    }

    /// Returns whether its last look found no evidence, and no signal had stopped it. If something
    /// hinders it, that even supports the view that the machine is to blame.
    pub(crate) const fn is_missing(&self) -> bool {
        (self.misses > 0 || self.hindered_since.is_some()) && !self.stopped
    }

    /// Returns whether it is starting and has shown nothing yet.
    pub(crate) const fn is_silent_start(&self) -> bool {
        self.silent_since.is_some() && !self.gone
    }

    /// Returns whether its silence or its evidence says something about the machine: it has shown
    /// evidence before, or should have, and has not been silent for long.
    pub(crate) fn is_telling(&self, now: Attended) -> bool {
        let runs = !self.gone && !self.is_held() && self.proven && (self.shown || self.blamed > 0);
        let window =
            u64::from(self.settings.misses).saturating_add(1).saturating_mul(self.settings.interval_ms);
        let is_old = self.first_blamed.is_some_and(|first| now.since(first) > window);
        runs && (!is_old || self.blameless)
    }

    /// Returns whether its heartbeat is too old and it is asked instead, or has answered.
    pub(crate) fn lacks_a_beat(&self) -> bool {
        let has_answered = self.kind.is_some_and(|kind| kind != EvidenceKind::Heartbeat);
        self.beat.is_known() && self.misses == 0 && (has_answered || self.asked.is_some())
    }

    /// Returns whether nothing but its heartbeat shows that it works.
    pub(crate) const fn has_only_a_beat(&self) -> bool {
        self.beat.is_known() && !self.is_ever_asked
    }

    /// Returns the milliseconds within which its misses add up.
    pub(crate) fn misses_ms(&self) -> u64 {
        self.settings.misses_ms()
    }

    /// Returns whether it should be ended, if its turn has come.
    pub(crate) fn is_to_end(&self, now: Attended) -> bool {
        let is_blamed = self.blamed >= self.settings.misses && !self.is_hindered;
        let silent = self.state == Liveness::Unresponsive && is_blamed;
        let silent = silent && self.settings.policy == LivePolicy::Restart;
        let free = self.ending.is_none() && !self.gone && self.wanted && !self.is_left_alone();
        silent && free && !self.blameless && now >= self.spared_until
    }

    pub(crate) const fn leave(&mut self) {
        (self.gone, self.asked) = (true, None);
    }

    /// Notes what its supervisor tells of it.
    pub(crate) const fn told(&mut self, said: SupervisorSays) {
        self.wanted = said.wanted;
        self.vouched = self.vouched || said.ready;
        self.proven = self.proven || said.ready;
    }

    /// Returns whether this life is known to have worked, so that its silence means something.
    const fn has_worked(&self) -> bool {
        self.shown || self.vouched
    }

    /// Returns the published part of its state.
    pub(crate) fn shown(&self) -> (Liveness, Attended, u32, Option<&str>, bool) {
        (self.state, self.since, self.misses, self.reason(), self.proven)
    }

    /// Notes that it is being asked.
    pub(crate) fn ask(&mut self, now: Attended) {
        self.asked.get_or_insert(now);
        self.is_ever_asked = true;
    }

    /// Notes that the watcher was away, so that what was asked before is not answered any more. If
    /// it is away again and again, that is an excuse for a limited time.
    pub(crate) fn lapse(&mut self, now: Attended) {
        self.asked = None;
        let since = *self.lapsed_since.get_or_insert(now);
        if now.since(since) < LENIENCE_MS {
            self.excuse(now);
            self.due = self.due.max(now.plus(self.settings.interval_ms));
            self.spared_until = now.plus(self.misses_ms());
        }
    }

    /// Returns the milliseconds until the next look. During a start it is short, because others may
    /// wait for the end of the start. A gateway whose misses count is not looked at more often,
    /// because that would add them up faster.
    pub(crate) fn next_look_ms(&self, now: Attended) -> u64 {
        let starts = self.state == Liveness::Starting && self.may_be_silent(now) && !self.stopped;
        if starts { self.settings.interval_ms.min(STARTING_LOOK_MS) } else { self.settings.interval_ms }
    }

    /// Handles the finding of a look at it.
    pub(crate) fn look(&mut self, now: Attended, finding: LiveFinding) {
        self.history.drain(..self.history.len().saturating_sub(HISTORY - 1));
        self.history.push((now, finding.words()));
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
            // The finding is about a time in which it could do nothing.
            LiveFinding::Early | LiveFinding::Missing { .. } if was_held => {
                self.become_(now, self.after_hold(), None, None);
            }
            LiveFinding::Early => {}
            LiveFinding::Nothing => self.become_(now, Liveness::Up, None, None),
            LiveFinding::Paused => self.held(now, Liveness::Paused),
            LiveFinding::Traced => self.held(now, Liveness::Traced),
            LiveFinding::Missing { kind, why, hindered, stopped } => {
                self.stop(now, stopped);
                self.missing(now, kind, why, hindered);
            }
        }
        let began = self.asked.take().unwrap_or(now);
        self.due = began.plus(self.next_look_ms(now)).max(now);
    }

    /// Notes that neither it nor its watcher could do anything before `now`.
    pub(crate) fn excuse(&mut self, now: Attended) {
        self.beat.excuse(now);
        self.notified.excuse(now);
        if self.state != Liveness::Unresponsive {
            (self.misses, self.first_miss, self.silent_since) = (0, None, None);
            self.absolve();
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
        // A start gets its full time once it goes on.
        self.began = now;
        self.become_(now, state, None, None);
    }

    /// Notes whether a signal has stopped it. A start that goes on gets its full time.
    fn stop(&mut self, now: Attended, stopped: bool) {
        if self.stopped && !stopped && !self.has_worked() {
            self.clear();
            self.began = now;
        }
        self.stopped = stopped;
    }

    /// Returns whether its start may still take longer, so that its silence means nothing.
    fn may_be_silent(&self, now: Attended) -> bool {
        !self.has_worked() && now.since(self.began) < self.settings.start_deadline_ms
    }

    fn missing(&mut self, now: Attended, kind: EvidenceKind, why: String, hindered: Option<Hindrance>) {
        let excused = self.excused(now, hindered);
        // No start ends while a signal stops it, so it need not be waited for.
        if self.may_be_silent(now) && !self.stopped {
            self.silent_since.get_or_insert(now);
            return self.become_(now, Liveness::Starting, Some(kind), None);
        }
        self.count(now);
        self.reason = Some(match excused {
            Some(hindrance) => format!("{why}, but {}", hindrance.words()),
            None => why,
        });
        if self.misses < self.settings.misses {
            return;
        }
        self.kind = Some(kind);
        if self.state != Liveness::Unresponsive {
            (self.state, self.since) = (Liveness::Unresponsive, self.missed_since(now));
        }
    }

    /// Returns the time since which it owes evidence. A start owes nothing until its deadline,
    /// unless a signal had stopped it.
    fn missed_since(&self, now: Attended) -> Attended {
        let first = self.first_miss.unwrap_or(now);
        if self.has_worked() || self.may_be_silent(now) {
            return first;
        }
        first.max(self.began.plus(self.settings.start_deadline_ms))
    }

    /// Counts a look that found nothing.
    fn count(&mut self, now: Attended) {
        if self.misses == 0 {
            // The looks at a start count too, once its time is over without a sign of life.
            let is_start_over = !self.has_worked() && !self.may_be_silent(now);
            let first = self.silent_since.filter(|_| is_start_over).unwrap_or(now);
            self.misses = self.looks_since(first, now);
            self.first_miss = Some(first);
        } else {
            self.misses = self.misses.saturating_add(1);
        }
        if self.is_hindered {
            return;
        }
        let was_hindered = self.hindered_since.is_some();
        self.blamed = if was_hindered { self.blamed.saturating_add(1) } else { self.misses };
        self.first_blamed.get_or_insert(now);
    }

    /// Returns how many looks there were since a moment, up to as many as are needed.
    fn looks_since(&self, first: Attended, now: Attended) -> u32 {
        let before = now.since(first).checked_div(self.settings.interval_ms).unwrap_or(0);
        let looks = u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1);
        looks.min(self.settings.misses.max(1))
    }

    /// Returns what hinders it, as long as that is an excuse. The time of the excuse is limited,
    /// and does not begin anew when the hindrance comes and goes.
    fn excused(&mut self, now: Attended, hindered: Option<Hindrance>) -> Option<Hindrance> {
        if self.hindered_since.is_some_and(|since| now.since(since) >= LENIENCE_MS) {
            self.is_hindered = false;
            return None;
        }
        if hindered.is_some() {
            self.hindered_since.get_or_insert(now);
        } else if self.is_hindered {
            // From now on it can do again what it could not do before. What was seen stays true.
            self.beat.excuse(now);
            self.notified.excuse(now);
            self.absolve();
        }
        self.is_hindered = hindered.is_some();
        hindered
    }

    const fn absolve(&mut self) {
        (self.blamed, self.first_blamed) = (0, None);
    }

    const fn clear(&mut self) {
        self.blameless = false;
        (self.misses, self.first_miss, self.stopped) = (0, None, false);
        self.silent_since = None;
        self.absolve();
        (self.hindered_since, self.is_hindered) = (None, false);
        self.lapsed_since = None;
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
}
