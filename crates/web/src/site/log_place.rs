//! Where a client is in a log that it follows.
//!
//! *Lives here:* the id of a line, and going on behind it. *Does not live here:* reading the log.

use serde::Deserialize;

use super::question::LogPick;

/// A place in a log: behind this many lines since the first one of a time.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LogPlace {
    time: String,
    lines: u64,
}

/// What counts of the object of a line.
#[derive(Deserialize)]
struct LineTime {
    time: Option<String>,
}

impl LogPlace {
    /// Returns the place with this id.
    pub fn parse(id: &str) -> Option<Self> {
        let (time, lines) = id.rsplit_once('/')?;
        Some(Self { time: time.to_owned(), lines: lines.parse().ok()? })
    }

    /// Returns the id of this place.
    pub fn id(&self) -> String {
        format!("{}/{}", self.time, self.lines)
    }

    /// Returns the beginning of the time of this place.
    pub fn begin(&self) -> Self {
        Self { lines: 0, ..self.clone() }
    }

    /// Goes past a line.
    pub fn pass(&mut self, line: &str) {
        match serde_json::from_str::<LineTime>(line).ok().and_then(|stamp| stamp.time) {
            Some(time) if time != self.time => *self = Self { time, lines: 1 },
            _ => self.lines += 1,
        }
    }

    /// Returns whether this place is at a place of the same time or behind it.
    pub fn is_at_or_behind(&self, other: &Self) -> bool {
        !self.time.is_empty() && self.time == other.time && other.lines <= self.lines
    }

    /// Returns what picks the lines of this time and all later ones.
    pub fn since(&self, pick: LogPick) -> LogPick {
        if self.time.is_empty() {
            pick
        } else {
            LogPick { since: Some(self.time.clone()), lines: None, ..pick }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns the ids of lines with these times, as a client that knows this id receives them.
    fn received(known: &str, times: &[Option<&str>]) -> Vec<String> {
        let known = LogPlace::parse(known).unwrap_or_default();
        let mut at = known.begin();
        let pass = |time: Option<&str>| {
            at.pass(&json!({ "time": time }).to_string());
            (!known.is_at_or_behind(&at)).then(|| at.id())
        };
        times.iter().copied().filter_map(pass).collect()
    }

    #[test]
    fn a_client_that_comes_back_gets_each_line_of_a_log_once() {
        let times = [Some("1"), Some("1"), None, Some("2"), Some("2"), Some("3")];
        let all = received("", &times);
        assert_eq!(all, ["1/1", "1/2", "1/3", "2/1", "2/2", "3/1"]);
        for (seen, id) in all.iter().enumerate() {
            // The lines since the time of the last one that it knows.
            let time = LogPlace::parse(id).unwrap().time;
            let begin = all.iter().position(|other| LogPlace::parse(other).unwrap().time == time).unwrap();
            assert_eq!(received(id, &times[begin..]), all[seen + 1..], "{id}");
        }
        assert_eq!(LogPlace::parse("x"), None);
        let pick = LogPick { lines: Some(3), ..LogPick::default() };
        assert_eq!(LogPlace::default().since(pick.clone()), pick);
        let since = LogPlace::parse("2026/1").unwrap().since(pick);
        assert_eq!((since.lines, since.since.as_deref()), (None, Some("2026")));
    }
}
