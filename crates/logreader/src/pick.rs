//! Chooses lines.
//!
//! *Lives here:* the decision about one line. No I/O.
//! *Does not live here:* how many of them, and finding them without reading everything.

use regex::bytes::Regex;

use crate::entry::{LineParts, Parser, Time};

/// The conditions on lines; by default, there are none.
#[derive(Debug, Clone, Default)]
pub struct Pick {
    /// Only lines from this time on.
    pub since: Option<Time>,
    /// Only lines up to this time.
    pub until: Option<Time>,
    /// Only lines whose text matches.
    pub grep: Option<Regex>,
}

impl Pick {
    /// Returns whether every line is chosen.
    pub const fn is_everything(&self) -> bool {
        self.since.is_none() && self.until.is_none() && self.grep.is_none()
    }

    /// Returns whether a line of this time is chosen. If its time is unknown, it fulfils the
    /// conditions on time.
    fn wants(&self, time: Option<Time>, text: &[u8]) -> bool {
        let too_early = self.since.zip(time).is_some_and(|(since, time)| time < since);
        let too_late = self.until.zip(time).is_some_and(|(until, time)| time > until);
        !too_early && !too_late && self.grep.as_ref().is_none_or(|grep| grep.is_match(text))
    }
}

/// Judges the lines of one file after another, in their order.
///
/// A line without a stamp belongs to the one before, and has its time.
#[derive(Debug)]
pub(crate) struct Judge {
    pick: Pick,
    parser: Parser,
    /// The time of the last line that had a stamp.
    pub before: Option<Time>,
}

impl Judge {
    /// Returns a judge at the beginning.
    pub const fn new(pick: Pick, parser: Parser) -> Self {
        Self { pick, parser, before: None }
    }

    /// Returns the conditions.
    pub const fn pick(&self) -> &Pick {
        &self.pick
    }

    /// Returns the parts of a line, and whether it is chosen.
    pub fn judge(&mut self, line: &[u8]) -> (LineParts, bool) {
        let entry = self.parser.parse(line);
        self.before = entry.time.or(self.before);
        let text = line.get(entry.text..).unwrap_or_default();
        (entry, self.pick.wants(self.before, text))
    }

    /// Returns the time in a line's stamp.
    pub fn time_of(&mut self, line: &[u8]) -> Option<Time> {
        self.parser.parse(line).time
    }
}
