//! *Lives here:* which news there are of a gateway or a file system, by what was seen of it so far.
//!
//! *Does not live here:* looking, and how often anybody is told anything (`outbox`).
//!
//! A problem is told once, and so is its end. A problem that comes back soon after it was told is
//! told again only if it is still there later. A gateway that somebody stopped or paused has no
//! problem. If a problem ends in this way, its end is not told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::message::{AlertEvent, AlertProblem, News};
use crate::subject::AlertSubject;

/// Milliseconds before the same problem of the same subject is told again.
const AGAIN_MS: u64 = 600_000;
/// This many restarts within `LOOP_MS` are a loop.
const LOOP_RESTARTS: usize = 3;
const LOOP_MS: u64 = 600_000;
/// A gateway that waits this many milliseconds for its restart counts as one in a loop.
const RESTARTING_MS: u64 = 120_000;

/// The problem of a full file system ends this many percent below the limit.
const FREE_PERCENT: u8 = 2;

/// What was found of a gateway or a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlertFinding {
    /// It works, or has enough room.
    Works,
    /// It has a problem, with the reason if that is known.
    Wrong(AlertProblem, Option<String>),
    /// It has ended, and is about to be started again.
    Restarting(Option<String>),
    /// It is not supposed to work: somebody stopped or paused it.
    Off,
    /// Its state says nothing at the moment.
    Unclear,
}

/// Returns what is found of a file system with this much in use. It is nearly full from `limit`
/// percent on, and stays so until a few percent less are in use.
pub fn fullness(used_percent: u8, limit: u8) -> AlertFinding {
    if used_percent >= limit {
        AlertFinding::Wrong(AlertProblem::Disk, Some(format!("{used_percent} % are in use")))
    } else if used_percent < limit.saturating_sub(FREE_PERCENT) {
        AlertFinding::Works
    } else {
        AlertFinding::Unclear
    }
}

/// What was found of one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The gateway, or the home itself.
    pub subject: AlertSubject,
    /// What was found.
    pub finding: AlertFinding,
    /// How often a gateway was started after it had ended by itself, if that is counted.
    pub restarts: Option<u64>,
}

/// A problem that was told, and whose end was not told yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenProblem {
    /// The gateway or file system.
    pub subject: AlertSubject,
    /// What is wrong with it.
    pub problem: AlertProblem,
}

/// Decides what is told.
#[derive(Debug, Default)]
pub struct AlertMachine {
    tracks: BTreeMap<AlertSubject, Track>,
}

impl AlertMachine {
    /// Returns a machine that knows which problems an earlier one told.
    pub fn new(open: Vec<OpenProblem>) -> Self {
        let track =
            |open: OpenProblem| (open.subject, Track { told: Some(open.problem), ..Track::default() });
        Self { tracks: open.into_iter().map(track).collect() }
    }

    /// Returns the news after these sightings. A subject that is not among them is forgotten.
    pub fn step(&mut self, now_ms: u64, seen: Vec<Sighting>) -> Vec<News> {
        let mut before = std::mem::take(&mut self.tracks);
        let mut news = Vec::new();
        for Sighting { subject, finding, restarts } in seen {
            let mut track = before.remove(&subject).unwrap_or_default();
            if let Some((what, reason)) = track.step(now_ms, finding, restarts) {
                news.push(News { subject: subject.clone(), what, reason });
            }
            self.tracks.insert(subject, track);
        }
        news
    }

    /// Returns when `step` must be called again even if nothing happens; `None` if that is not
    /// necessary.
    pub fn due_ms(&self) -> Option<u64> {
        self.tracks.values().filter_map(Track::due_ms).min()
    }

    /// Returns the problems that were told and have not ended.
    pub fn open(&self) -> Vec<OpenProblem> {
        let open = |(subject, track): (&AlertSubject, &Track)| {
            Some(OpenProblem { subject: subject.clone(), problem: track.told? })
        };
        self.tracks.iter().filter_map(open).collect()
    }
}

/// Returns for how many milliseconds a problem must last before it is told.
const fn hold_ms(problem: AlertProblem) -> u64 {
    match problem {
        AlertProblem::Failed | AlertProblem::CrashLoop | AlertProblem::Disk => 0,
        AlertProblem::Unresponsive => 2_000,
        AlertProblem::LogGap => 5_000,
    }
}

/// Returns how many milliseconds a subject must work before its problem counts as over.
const fn calm_ms(problem: AlertProblem) -> u64 {
    match problem {
        AlertProblem::Failed | AlertProblem::Unresponsive => 3_000,
        AlertProblem::CrashLoop => 60_000,
        AlertProblem::LogGap => 30_000,
        AlertProblem::Disk => 0,
    }
}

/// What is known of one subject.
#[derive(Debug, Default)]
struct Track {
    /// The problem that was told.
    told: Option<AlertProblem>,
    /// The problem that it has now, and the time at which it began.
    present: Option<(AlertProblem, u64)>,
    /// The time since which it has worked.
    works_since: Option<u64>,
    /// The time since which it waits for a restart.
    restarting_since: Option<u64>,
    /// When each problem was last told.
    last_told: BTreeMap<AlertProblem, u64>,
    restarts: Option<u64>,
    /// The times of its latest restarts, the oldest first.
    recent: Vec<u64>,
}

impl Track {
    fn step(
        &mut self,
        now_ms: u64,
        finding: AlertFinding,
        restarts: Option<u64>,
    ) -> Option<(AlertEvent, Option<String>)> {
        self.count(now_ms, restarts);
        match self.judged(now_ms, finding) {
            AlertFinding::Wrong(problem, reason) => {
                self.works_since = None;
                let since =
                    self.present.filter(|(before, _)| *before == problem).map_or(now_ms, |(_, at)| at);
                self.present = Some((problem, since));
                (self.told != Some(problem) && now_ms >= self.tell_at(problem, since)).then(|| {
                    self.told = Some(problem);
                    self.last_told.insert(problem, now_ms);
                    (AlertEvent::Began(problem), reason)
                })
            }
            AlertFinding::Works => {
                self.present = None;
                let told = self.told?;
                let since = *self.works_since.get_or_insert(now_ms);
                (now_ms >= since.saturating_add(calm_ms(told))).then(|| {
                    (self.told, self.works_since) = (None, None);
                    (AlertEvent::Recovered(told), None)
                })
            }
            AlertFinding::Off => {
                (self.told, self.present, self.works_since) = (None, None, None);
                self.recent.clear();
                None
            }
            AlertFinding::Restarting(_) | AlertFinding::Unclear => {
                (self.present, self.works_since) = (None, None);
                None
            }
        }
    }

    /// Returns when a problem that began at `since_ms` may be told.
    fn tell_at(&self, problem: AlertProblem, since_ms: u64) -> u64 {
        let again = self.last_told.get(&problem).map_or(0, |told| told.saturating_add(AGAIN_MS));
        since_ms.saturating_add(hold_ms(problem)).max(again)
    }

    /// Notes how often it has restarted.
    fn count(&mut self, now_ms: u64, restarts: Option<u64>) {
        let new = self.restarts.zip(restarts).map_or(0, |(before, now)| now.saturating_sub(before));
        let new = usize::try_from(new).unwrap_or(usize::MAX).min(LOOP_RESTARTS);
        self.recent.extend(std::iter::repeat_n(now_ms, new));
        let more = self.recent.len().saturating_sub(LOOP_RESTARTS);
        self.recent.drain(..more);
        self.restarts = restarts.or(self.restarts);
    }

    /// Returns the finding, or a restart loop instead of it if there is one.
    fn judged(&mut self, now_ms: u64, finding: AlertFinding) -> AlertFinding {
        let waits = matches!(finding, AlertFinding::Restarting(_));
        self.restarting_since = waits.then(|| self.restarting_since.unwrap_or(now_ms));
        match finding {
            AlertFinding::Restarting(reason) if self.loops(now_ms) || self.waits_long(now_ms) => {
                AlertFinding::Wrong(AlertProblem::CrashLoop, reason)
            }
            AlertFinding::Works if self.loops(now_ms) && self.restarted_lately(now_ms) => {
                let minutes = LOOP_MS / 60_000;
                let said = format!("{LOOP_RESTARTS} restarts or more within {minutes} minutes");
                AlertFinding::Wrong(AlertProblem::CrashLoop, Some(said))
            }
            finding => finding,
        }
    }

    fn loops(&self, now_ms: u64) -> bool {
        let first = self.recent.first().filter(|_| self.recent.len() >= LOOP_RESTARTS);
        first.is_some_and(|first| now_ms.saturating_sub(*first) <= LOOP_MS)
    }

    fn waits_long(&self, now_ms: u64) -> bool {
        self.restarting_since.is_some_and(|since| now_ms.saturating_sub(since) >= RESTARTING_MS)
    }

    fn restarted_lately(&self, now_ms: u64) -> bool {
        let last = self.recent.last();
        last.is_some_and(|last| now_ms.saturating_sub(*last) < calm_ms(AlertProblem::CrashLoop))
    }

    fn due_ms(&self) -> Option<u64> {
        let untold = self.present.filter(|(problem, _)| self.told != Some(*problem));
        let tell = untold.map(|(problem, since)| self.tell_at(problem, since));
        let over = self.works_since.zip(self.told).map(|(since, told)| since.saturating_add(calm_ms(told)));
        let looping = self.present.is_some_and(|(problem, _)| problem == AlertProblem::CrashLoop);
        let calm = self.recent.last().filter(|_| looping && self.restarting_since.is_none());
        let calm = calm.map(|last| last.saturating_add(calm_ms(AlertProblem::CrashLoop)));
        let long = self.restarting_since.filter(|_| self.present.is_none());
        let long = long.map(|since| since.saturating_add(RESTARTING_MS));
        [tell, over, calm, long].into_iter().flatten().min()
    }
}
