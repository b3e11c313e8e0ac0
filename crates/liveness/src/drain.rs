//! *Lives here:* the machine of one drain of one gateway.
//!
//! *Does not live here:* asking a gateway to take no new work, finding out what work it has, and
//! the next step after the drain. Time is an argument.
//!
//! The limit ends every drain, whatever the gateway shows. A gateway that was asked is told once
//! that the drain is over, however the drain ends.

use std::fmt;

/// What a caller decides about a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainSettings {
    /// Milliseconds after which it ends, whatever the gateway shows.
    pub limit_ms: u64,
    /// Milliseconds between two looks at the gateway.
    pub look_ms: u64,
    /// Whether an idle gateway takes no new work until the limit, because there is no next step.
    pub holds: bool,
}

/// The work that a gateway shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkShown {
    /// It has not confirmed yet that it takes no new work. The number is that of its turns, if it
    /// counts them.
    Accepting(Option<u32>),
    /// It takes no new work, and has some. The number is that of its turns, if it counts them.
    Busy(Option<u32>),
    /// It takes no new work and has none.
    Idle,
    /// It is unknown, for this reason.
    Unknown(String),
}

/// An input of the machine of a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrainEvent {
    /// The drain begins.
    Begin,
    /// The gateway could not be asked, for this reason.
    NotMarked(String),
    /// A look at the gateway has shown this.
    Seen(WorkShown),
    /// The process that was asked has ended.
    Ended,
    /// The caller cancels the drain.
    Cancel,
    /// The next step was done, or has failed.
    Followed,
    /// Time has passed.
    Time,
}

/// What the caller must do, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainEffect {
    /// Ask the gateway to take no new work.
    Mark,
    /// Find out what work it has.
    Look,
    /// Report the stage.
    Tell,
    /// Do the next step.
    Follow,
    /// Take the request back.
    Unmark,
}

/// How a drain ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrainEnd {
    /// The gateway had no work.
    Idle,
    /// The limit was reached. The number is that of the turns under way, if the gateway counts
    /// them. The stage is the last one.
    Limit(Option<u32>, DrainStage),
    /// The gateway's process ended by itself.
    Ended,
    /// The caller has cancelled it.
    Cancelled,
    /// The gateway could not be asked.
    Failed(String),
}

/// How far a drain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainStage {
    /// The gateway was asked, and has not confirmed yet that it takes no new work.
    Asked,
    /// It takes no new work, and has some.
    Draining,
    /// It takes no new work and has none.
    Idle,
    /// It is unknown what work it has.
    Unknown,
}

impl DrainStage {
    /// Returns the word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Draining => "draining",
            Self::Idle => "idle",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for DrainStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One drain of one gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    settings: DrainSettings,
    until_ms: u64,
    look_at_ms: u64,
    began: bool,
    stage: DrainStage,
    turns: Option<u32>,
    why_unknown: Option<String>,
    end: Option<DrainEnd>,
    is_marked: bool,
}

impl Drain {
    /// Returns a drain whose limit counts from `now_ms`.
    pub const fn new(settings: DrainSettings, now_ms: u64) -> Self {
        Self {
            settings,
            until_ms: now_ms.saturating_add(settings.limit_ms),
            look_at_ms: now_ms,
            began: false,
            stage: DrainStage::Asked,
            turns: None,
            why_unknown: None,
            end: None,
            is_marked: false,
        }
    }

    /// Returns its stage.
    pub const fn stage(&self) -> DrainStage {
        self.stage
    }

    /// Returns the turns that are under way, if the gateway counts them.
    pub const fn turns(&self) -> Option<u32> {
        self.turns
    }

    /// Returns why it is unknown what work the gateway has.
    pub fn why_unknown(&self) -> Option<&str> {
        self.why_unknown.as_deref()
    }

    /// Returns how it has ended, if it has.
    pub const fn end(&self) -> Option<&DrainEnd> {
        self.end.as_ref()
    }

    /// Returns whether it has begun and not ended.
    pub const fn is_under_way(&self) -> bool {
        self.began && self.end.is_none()
    }

    /// Returns when `step` must be called even without an event; `None` after the end.
    pub fn due_ms(&self) -> Option<u64> {
        self.is_under_way().then(|| self.until_ms.min(self.look_at_ms))
    }

    /// Handles an event. Every event has a meaning in every stage, even if the meaning is nothing.
    pub fn step(&mut self, now_ms: u64, event: DrainEvent, out: &mut Vec<DrainEffect>) {
        match event {
            DrainEvent::Begin => self.begin(now_ms, out),
            DrainEvent::Followed => self.unmark(out),
            // Before the beginning and after the end, no other event matters.
            _ if !self.is_under_way() => {}
            DrainEvent::NotMarked(why) => self.give_up(DrainEnd::Failed(why), out),
            DrainEvent::Cancel => self.give_up(DrainEnd::Cancelled, out),
            DrainEvent::Ended => self.finish(DrainEnd::Ended, out),
            DrainEvent::Seen(shown) => self.see(shown, out),
            DrainEvent::Time => self.pass(now_ms, out),
        }
    }

    fn begin(&mut self, now_ms: u64, out: &mut Vec<DrainEffect>) {
        if self.began {
            return;
        }
        (self.began, self.is_marked) = (true, true);
        self.look_at_ms = now_ms.saturating_add(self.settings.look_ms);
        out.extend([DrainEffect::Mark, DrainEffect::Look]);
    }

    fn see(&mut self, shown: WorkShown, out: &mut Vec<DrainEffect>) {
        let before = (self.stage, self.turns);
        self.why_unknown = None;
        (self.stage, self.turns) = match shown {
            WorkShown::Accepting(turns) => (DrainStage::Asked, turns),
            WorkShown::Busy(turns) => (DrainStage::Draining, turns),
            WorkShown::Idle => (DrainStage::Idle, Some(0)),
            WorkShown::Unknown(why) => {
                self.why_unknown = Some(why);
                (DrainStage::Unknown, None)
            }
        };
        if (self.stage, self.turns) != before {
            out.push(DrainEffect::Tell);
        }
        if self.stage == DrainStage::Idle && !self.settings.holds {
            self.finish(DrainEnd::Idle, out);
        }
    }

    fn pass(&mut self, now_ms: u64, out: &mut Vec<DrainEffect>) {
        if now_ms >= self.until_ms {
            let end = match self.stage {
                DrainStage::Idle => DrainEnd::Idle,
                stage => DrainEnd::Limit(self.turns, stage),
            };
            self.finish(end, out);
        } else if now_ms >= self.look_at_ms {
            self.look_at_ms = now_ms.saturating_add(self.settings.look_ms);
            out.push(DrainEffect::Look);
        }
    }

    /// Ends it, and requests the next step.
    fn finish(&mut self, end: DrainEnd, out: &mut Vec<DrainEffect>) {
        self.end = Some(end);
        out.push(DrainEffect::Follow);
    }

    /// Ends it without the next step.
    fn give_up(&mut self, end: DrainEnd, out: &mut Vec<DrainEffect>) {
        self.end = Some(end);
        self.unmark(out);
    }

    fn unmark(&mut self, out: &mut Vec<DrainEffect>) {
        // This also ends a drain whose caller gives up before the next step.
        if std::mem::take(&mut self.is_marked) {
            self.end.get_or_insert(DrainEnd::Cancelled);
            out.push(DrainEffect::Unmark);
        }
    }
}
