//! Which lines are wanted.
//!
//! *Lives here:* the question asked of one line. No I/O. *Does not live here:* how many of them, and finding them
//! without reading everything.

use regex::bytes::Regex;

use crate::entry::{LineParts, Parser, Time};

/// Which lines are wanted; by default, all.
#[derive(Debug, Clone, Default)]
pub struct Pick {
    /// Not those from before this moment.
    pub since: Option<Time>,
    /// Not those from after this moment.
    pub until: Option<Time>,
    /// Only those whose text matches.
    pub grep: Option<Regex>,
}

impl Pick {
    /// Returns whether every line is wanted.
    pub const fn is_everything(&self) -> bool {
        self.since.is_none() && self.until.is_none() && self.grep.is_none()
    }

    /// Returns whether a line is wanted that was written then; when that is not known, no time is held against it.
    fn wants(&self, time: Option<Time>, text: &[u8]) -> bool {
        let too_early = self.since.zip(time).is_some_and(|(since, time)| time < since);
        let too_late = self.until.zip(time).is_some_and(|(until, time)| time > until);
        !too_early && !too_late && self.grep.as_ref().is_none_or(|grep| grep.is_match(text))
    }
}

/// Judges the lines of one file after another, in their order.
///
/// A line without a stamp belongs to the one before and has its time.
#[derive(Debug)]
pub(crate) struct Judge {
    pick: Pick,
    parser: Parser,
    /// The time of the last line that had one.
    pub before: Option<Time>,
}

impl Judge {
    /// Returns a judge that has seen nothing.
    pub const fn new(pick: Pick, parser: Parser) -> Self {
        Self { pick, parser, before: None }
    }

    /// Returns what is wanted.
    pub const fn pick(&self) -> &Pick {
        &self.pick
    }

    /// Returns the parts of a line, and whether it is wanted.
    pub fn judge(&mut self, line: &[u8]) -> (LineParts, bool) {
        let entry = self.parser.parse(line);
        self.before = entry.time.or(self.before);
        let text = line.get(entry.text..).unwrap_or_default();
        (entry, self.pick.wants(self.before, text))
    }

    /// Returns the time that a line bears.
    pub fn time_of(&mut self, line: &[u8]) -> Option<Time> {
        self.parser.parse(line).time
    }
}
