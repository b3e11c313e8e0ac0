//! *Lives here:* one drain of one gateway: what is asked of it and when, and how it ends.
//!
//! *Does not live here:* how a gateway is asked to take no new work, how it shows what it still
//! does, and what follows when the drain is over. Time is an argument.
//!
//! The limit ends every drain, whatever the gateway shows. What was marked is unmarked once, in
//! every end.

use std::fmt;

/// How a drain is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainSettings {
    /// Milliseconds after which it is over, whatever the gateway shows.
    pub limit_ms: u64,
    /// Milliseconds between two looks.
    pub look_ms: u64,
    /// Whether an idle gateway is kept from new work until the limit, because nothing follows.
    pub holds: bool,
}

/// What a gateway shows of its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkShown {
    /// It does not say yet that it takes no new work.
    Accepting(Option<u32>),
    /// It takes no new work, and works. The number is that of its turns, if it counts them.
    Busy(Option<u32>),
    /// It takes no new work and has none.
    Idle,
    /// Nothing tells, for this reason.
    Unknown(String),
}

/// An input of the machine of a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrainEvent {
    /// It is to begin.
    Begin,
    /// The gateway could not be asked, for this reason.
    NotMarked(String),
    /// Somebody looked.
    Seen(WorkShown),
    /// The process that was asked has ended.
    Ended,
    /// Whoever asked for it does not want it any more.
    Cancel,
    /// What follows has been done, or could not be.
    Followed,
    /// Time has passed.
    Time,
}

/// What is to be done next, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainEffect {
    /// Ask the gateway to take no new work.
    Mark,
    /// Look what it still does.
    Look,
    /// Say how far it is.
    Tell,
    /// Do what is to follow.
    Follow,
    /// Take the request back.
    Unmark,
}

/// How a drain ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrainEnd {
    /// The gateway had no work.
    Idle,
    /// The time was over. The number is that of the turns under way, if it counts them; the stage
    /// is what it showed last.
    Limit(Option<u32>, DrainStage),
    /// The gateway's process ended by itself.
    Ended,
    /// Whoever asked for it did not want it any more.
    Cancelled,
    /// The gateway could not be asked.
    Failed(String),
}

/// How far a drain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainStage {
    /// The gateway was asked, and does not say yet that it takes no new work.
    Asked,
    /// It takes no new work, and has some.
    Draining,
    /// It takes no new work and has none.
    Idle,
    /// Nothing tells what it does.
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
    /// Returns a drain whose limit counts from now.
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

    /// Returns how far it is.
    pub const fn stage(&self) -> DrainStage {
        self.stage
    }

    /// Returns the turns that are under way, if the gateway counts them.
    pub const fn turns(&self) -> Option<u32> {
        self.turns
    }

    /// Returns why nothing tells what the gateway does.
    pub fn why_unknown(&self) -> Option<&str> {
        self.why_unknown.as_deref()
    }

    /// Returns how it ended, if it has.
    pub const fn end(&self) -> Option<&DrainEnd> {
        self.end.as_ref()
    }

    /// Returns whether it has begun and not ended.
    pub const fn is_under_way(&self) -> bool {
        self.began && self.end.is_none()
    }

    /// Returns when something is to be done without any event: never when it is over.
    pub fn due_ms(&self) -> Option<u64> {
        self.is_under_way().then(|| self.until_ms.min(self.look_at_ms))
    }

    /// Takes in what happened. Every event has a meaning at every moment, even if that is nothing.
    pub fn step(&mut self, now_ms: u64, event: DrainEvent, out: &mut Vec<DrainEffect>) {
        match event {
            DrainEvent::Begin => self.begin(now_ms, out),
            DrainEvent::Followed => self.unmark(out),
            // Nothing else is of any interest before the beginning and after the end.
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

    /// Ends it, so that what is to follow does.
    fn finish(&mut self, end: DrainEnd, out: &mut Vec<DrainEffect>) {
        self.end = Some(end);
        out.push(DrainEffect::Follow);
    }

    /// Ends it, and nothing follows.
    fn give_up(&mut self, end: DrainEnd, out: &mut Vec<DrainEffect>) {
        self.end = Some(end);
        self.unmark(out);
    }

    fn unmark(&mut self, out: &mut Vec<DrainEffect>) {
        // A drain whose caller ends early is over, too.
        if std::mem::take(&mut self.is_marked) {
            self.end.get_or_insert(DrainEnd::Cancelled);
            out.push(DrainEffect::Unmark);
        }
    }
}
