//! The place of a client in a log that it follows.
//!
//! *Lives here:* the id of a line, and continuing after that line. *Does not live here:* reading
//! the log.
//!
//! Several lines may have the same time, and the first one that a client receives may be any of
//! them. So an id identifies a line by its content. If a client received some of several equal
//! lines of one time, but not the first one, it receives the others again.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserialize;

use super::question::LogPick;

/// The most lines of one time that are distinguished.
const SEEN: usize = 10_000;

/// A line of a log: its time, its content, and the number of equal lines before it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LogPlace {
    time: String,
    hash: u64,
    before: u64,
}

/// The part of the object of a line that is read here.
#[derive(Deserialize)]
struct LineTime {
    time: Option<String>,
}

impl LogPlace {
    /// Returns the place that this id names; `None` if it is not an id of ours.
    pub fn parse(id: &str) -> Option<Self> {
        let mut parts = id.rsplitn(3, '/');
        let (before, hash, time) = (parts.next()?, parts.next()?, parts.next()?);
        let hash = u64::from_str_radix(hash, 16).ok()?;
        (!time.is_empty()).then_some(Self { time: time.to_owned(), hash, before: before.parse().ok()? })
    }

    fn id(&self) -> String {
        format!("{}/{:x}/{}", self.time, self.hash, self.before)
    }

    /// Returns the selection of the lines of this time and later.
    pub fn since(&self, pick: &LogPick) -> LogPick {
        LogPick { since: Some(self.time.clone()), lines: None, grep: pick.grep.clone() }
    }
}

/// Gives each line its id, and leaves out the lines that a client has already.
#[derive(Debug, Default)]
pub struct LogReader {
    /// The last line that the client knows, until it is found.
    known: Option<LogPlace>,
    time: String,
    /// How many lines of the present time have this content, by a hash of it.
    seen: HashMap<u64, u64>,
}

impl LogReader {
    /// Returns a reader for the lines since the time of this place.
    pub fn behind(known: Option<LogPlace>) -> Self {
        let time = known.as_ref().map(|known| known.time.clone()).unwrap_or_default();
        Self { known, time, seen: HashMap::new() }
    }

    /// Takes the next line, and returns its id unless the client has the line already.
    pub fn pass(&mut self, line: &str) -> Option<String> {
        let time = serde_json::from_str::<LineTime>(line).ok().and_then(|stamp| stamp.time);
        if let Some(time) = time.filter(|time| *time != self.time) {
            // The known line is not in the log any more. Everything from here on is new.
            self.known = None;
            self.time = time;
            self.seen.clear();
        }
        // If lines have no times, the time never changes, so the map is bounded here.
        if self.seen.len() >= SEEN {
            self.seen.clear();
        }
        let mut hasher = DefaultHasher::new();
        line.hash(&mut hasher);
        let hash = hasher.finish();
        let seen = self.seen.entry(hash).or_default();
        let place = LogPlace { time: self.time.clone(), hash, before: *seen };
        *seen += 1;
        match &self.known {
            None => Some(place.id()),
            Some(known) => {
                if *known == place {
                    self.known = None;
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    type Line = (Option<&'static str>, &'static str);

    /// Returns the texts of the lines that a client receives who knows this id, each with its id.
    fn received(known: Option<&str>, lines: &[Line]) -> Vec<(&'static str, String)> {
        let mut reader = LogReader::behind(known.and_then(LogPlace::parse));
        let pass = |(time, text): &Line| {
            let id = reader.pass(&json!({ "time": time, "text": text }).to_string())?;
            Some((*text, id))
        };
        lines.iter().filter_map(pass).collect()
    }

    const LINES: [Line; 7] = [
        (Some("1"), "a"),
        (Some("1"), "b"),
        (None, "c"),
        (Some("1"), "b"),
        (Some("2"), "b"),
        (Some("2"), "d"),
        (Some("3"), "e"),
    ];

    /// Returns the lines since the time of this one.
    fn since(id: &str) -> &'static [Line] {
        let time = LogPlace::parse(id).unwrap().time;
        let begin = LINES.iter().position(|(other, _)| *other == Some(&*time)).unwrap();
        &LINES[begin..]
    }

    #[test]
    fn a_client_that_comes_back_gets_each_line_of_a_log_once() {
        let all = received(None, &LINES);
        assert_eq!(all.len(), LINES.len());
        for (seen, (text, id)) in all.iter().enumerate() {
            assert_eq!(received(Some(id), since(id)), all[seen + 1..], "{text} {id}");
        }
    }

    #[test]
    fn also_one_that_received_only_the_last_lines_of_a_time() {
        for begin in 0..2 {
            let some = received(None, &LINES[begin..]);
            for (seen, (text, id)) in some.iter().enumerate() {
                let texts = |all: &[(&'static str, String)]| all.iter().map(|one| one.0).collect::<Vec<_>>();
                let again = received(Some(id), since(id));
                assert_eq!(texts(&again), texts(&some[seen + 1..]), "{begin} {text} {id}");
            }
        }
        // Of two equal lines of a time, the first of which it did not receive, none is lost.
        let id = &received(None, &LINES[3..])[0].1;
        let again: Vec<&str> = received(Some(id), &LINES).iter().map(|one| one.0).collect();
        assert_eq!(again, ["c", "b", "b", "d", "e"]);
    }

    #[test]
    fn after_a_line_that_is_gone_everything_of_a_later_time_is_received() {
        let all = received(None, &LINES);
        let again = received(Some(&all[1].1), &LINES[4..]);
        assert_eq!(again.len(), 3);
    }

    #[test]
    fn an_id_of_somebody_else_is_none() {
        for strange in ["", "x", "1/2", "1/x/2", "/1/2", "1/2/x"] {
            assert_eq!(LogPlace::parse(strange), None, "{strange}");
        }
        let pick = LogPick { lines: Some(3), grep: Some("g".to_owned()), since: None };
        let since = LogPlace::parse("2026/a/1").unwrap().since(&pick);
        let expected = LogPick { lines: None, grep: Some("g".to_owned()), since: Some("2026".to_owned()) };
        assert_eq!(since, expected);
    }
}
