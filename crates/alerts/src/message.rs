//! *Lives here:* what is told, as text for people and as JSON for programs.
//!
//! *Does not live here:* when it is told (`machine`, `outbox`), and what each service wants to
//! receive (`request`).

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::settings::AlertKind;
use crate::subject::AlertSubject;

/// The most lines of a text.
const LINES: usize = 20;
/// The most characters of a title or a reason.
const REASON: usize = 300;
/// The most bytes of the news in JSON, after a backslash was put before each `"` and `\`. Older
/// versions of curl refuse a line of more than 100 kB in a file of options.
const LISTED_BYTES: usize = 32_000;

/// What is wrong with a gateway or a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertProblem {
    /// A gateway is down for good.
    Failed,
    /// A gateway does not respond.
    Unresponsive,
    /// A gateway ends again and again.
    CrashLoop,
    /// A file system is nearly full.
    Disk,
    /// Lines of a gateway cannot be kept.
    LogGap,
}

impl AlertProblem {
    /// Returns the kind of alert that tells of it.
    pub const fn kind(self) -> AlertKind {
        match self {
            Self::Failed => AlertKind::Failed,
            Self::Unresponsive => AlertKind::Unresponsive,
            Self::CrashLoop => AlertKind::CrashLoop,
            Self::Disk => AlertKind::Disk,
            Self::LogGap => AlertKind::LogGap,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Failed => "has failed",
            Self::Unresponsive => "does not respond",
            Self::CrashLoop => "ends again and again",
            Self::Disk => "is nearly full",
            Self::LogGap => "writes lines that cannot be kept",
        }
    }
}

/// What a message tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlertEvent {
    /// It has this problem.
    Began(AlertProblem),
    /// It no longer has this problem.
    Recovered(AlertProblem),
    /// Somebody tries whether alerts arrive.
    Test,
    /// Somebody sends a text with `gatevisor alerts`.
    Said(String),
}

impl AlertEvent {
    /// Returns the kind of alert; `None` for a text or a test, which all destinations receive.
    pub const fn kind(&self) -> Option<AlertKind> {
        match self {
            Self::Began(problem) => Some(problem.kind()),
            Self::Recovered(_) => Some(AlertKind::Recovered),
            Self::Test | Self::Said(_) => None,
        }
    }

    const fn word(&self) -> &'static str {
        match self.kind() {
            Some(kind) => kind.word(),
            None if matches!(self, Self::Test) => "test",
            None => "message",
        }
    }
}

/// One thing to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The gateway, or the home itself.
    pub subject: AlertSubject,
    /// What has become of it.
    pub what: AlertEvent,
    /// Why, where that is known.
    pub reason: Option<String>,
}

impl News {
    /// Returns the line for people.
    pub fn line(&self) -> String {
        let subject = &self.subject;
        let said = match &self.what {
            AlertEvent::Test => return "a test: alerts arrive".to_owned(),
            AlertEvent::Said(text) => return one_line(text, REASON),
            AlertEvent::Began(problem) => format!("{subject} {}", problem.words()),
            AlertEvent::Recovered(AlertProblem::Disk) => format!("{subject} has room again"),
            AlertEvent::Recovered(AlertProblem::LogGap) => format!("the lines of {subject} are kept again"),
            AlertEvent::Recovered(_) => format!("{subject} works again"),
        };
        let said = one_line(&said, REASON);
        self.short_reason().map_or_else(|| said.clone(), |reason| format!("{said}: {reason}"))
    }

    fn short_reason(&self) -> Option<String> {
        self.reason.as_ref().map(|reason| one_line(reason, REASON))
    }

    fn json(&self) -> Value {
        let (gateway, path) = match &self.subject {
            AlertSubject::Gateway(name) | AlertSubject::Log(name) => (Some(name), None),
            AlertSubject::Disk(path) => (None, Some(path)),
            AlertSubject::Nothing => (None, None),
        };
        let of =
            if let AlertEvent::Recovered(problem) = &self.what { Some(problem.kind().word()) } else { None };
        json!({
            "event": self.what.word(),
            "gateway": gateway,
            "path": path,
            "recovered_from": of,
            "reason": self.short_reason(),
            "text": self.line(),
        })
    }
}

/// Everything that is told at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertMessage {
    /// What is told, the oldest first.
    pub news: Vec<News>,
    /// How many more were left out because there were too many.
    pub left_out: usize,
}

impl AlertMessage {
    /// Returns the message of a test.
    pub fn test() -> Self {
        Self::of(AlertEvent::Test)
    }

    /// Returns a message with this text.
    pub fn said(text: String) -> Self {
        Self::of(AlertEvent::Said(text))
    }

    fn of(what: AlertEvent) -> Self {
        Self { news: vec![News { subject: AlertSubject::Nothing, what, reason: None }], left_out: 0 }
    }

    /// Returns the news of these kinds; `None` if there are none.
    #[must_use]
    pub fn of_kinds(&self, kinds: &[AlertKind]) -> Option<Self> {
        let is_wanted = |news: &&News| news.what.kind().is_none_or(|kind| kinds.contains(&kind));
        let news: Vec<News> = self.news.iter().filter(is_wanted).cloned().collect();
        (!news.is_empty()).then_some(Self { news, left_out: self.left_out })
    }

    /// Returns whether it tells of anything but good news.
    pub fn is_bad(&self) -> bool {
        self.news.iter().any(|news| matches!(news.what, AlertEvent::Began(_) | AlertEvent::Said(_)))
    }

    /// Returns its title, on one line. `name` is the name of the home.
    pub fn title(&self, name: &str) -> String {
        let said = match &self.news[..] {
            [only] if self.left_out == 0 => News { reason: None, ..only.clone() }.line(),
            all => {
                let bad = all.iter().filter(|news| matches!(news.what, AlertEvent::Began(_))).count();
                let good = all.len().saturating_sub(bad);
                let bad = bad.saturating_add(self.left_out);
                let words = |count: usize, one: &str, many: &str| match count {
                    0 => None,
                    1 => Some(format!("1 {one}")),
                    count => Some(format!("{count} {many}")),
                };
                let parts = [words(bad, "problem", "problems"), words(good, "recovery", "recoveries")];
                parts.into_iter().flatten().collect::<Vec<String>>().join(", ")
            }
        };
        one_line(&format!("{name}: {said}"), REASON)
    }

    /// Returns its text.
    pub fn text(&self) -> String {
        let mut lines: Vec<String> = self.news.iter().take(LINES).map(News::line).collect();
        let more = self.news.len().saturating_sub(LINES).saturating_add(self.left_out);
        if more > 0 {
            lines.push(format!("and {more} more: `gatevisor status` shows all"));
        }
        lines.join("\n")
    }

    /// Returns the JSON that a program receives. `at` is when the message was made, in RFC 3339.
    pub fn json(&self, name: &str, home: &str, at: &str) -> Value {
        let listed = self.listed();
        let unlisted = self.news.len().saturating_sub(listed.len());
        json!({
            "version": 1,
            "time": at,
            "name": name,
            "home": home,
            "title": self.title(name),
            "text": self.text(),
            "alerts": listed,
            "left_out": self.left_out.saturating_add(unlisted),
        })
    }

    /// Returns as many of the news as fit.
    fn listed(&self) -> Vec<Value> {
        let mut bytes = 0_usize;
        let fits = |news: &Value| {
            let text = news.to_string();
            let escaped = text.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
            bytes = bytes.saturating_add(text.len()).saturating_add(escaped);
            bytes <= LISTED_BYTES
        };
        self.news.iter().map(News::json).take_while(fits).collect()
    }
}

/// Returns a text on one line of at most this many characters, without control characters. What
/// an agent writes must not become another header or another command of a terminal.
pub fn one_line(text: &str, most: usize) -> String {
    let plain = text.chars().map(|character| if character.is_control() { ' ' } else { character });
    let mut line: String = plain.clone().take(most).collect();
    if plain.count() > most {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(name: &str, what: AlertEvent, reason: Option<&str>) -> News {
        News { subject: AlertSubject::Gateway(name.to_owned()), what, reason: reason.map(str::to_owned) }
    }

    #[test]
    fn one_thing_is_said_in_the_heading_and_several_are_counted() {
        let failed =
            news("coder", AlertEvent::Began(AlertProblem::Failed), Some("exit 78\nat \u{1b}[31mstart"));
        let one = AlertMessage { news: vec![failed.clone()], left_out: 0 };
        assert_eq!(one.title("nas"), "nas: the gateway of coder has failed");
        assert_eq!(one.text(), "the gateway of coder has failed: exit 78 at  [31mstart");
        let well = news("writer", AlertEvent::Recovered(AlertProblem::CrashLoop), None);
        let two = AlertMessage { news: vec![failed, well], left_out: 3 };
        assert_eq!(two.title("nas"), "nas: 4 problems, 1 recovery");
        assert!(two.text().ends_with("and 3 more: `gatevisor status` shows all"), "{}", two.text());
    }

    #[test]
    fn a_program_receives_what_happened_as_words_that_stay() {
        let well = news("coder", AlertEvent::Recovered(AlertProblem::Unresponsive), None);
        let full = News {
            subject: AlertSubject::Disk("/data".to_owned()),
            what: AlertEvent::Began(AlertProblem::Disk),
            reason: Some("95 % used".to_owned()),
        };
        let json =
            AlertMessage { news: vec![well, full], left_out: 0 }.json("nas", "/h", "2026-01-01T00:00:00Z");
        assert_eq!(json["alerts"][0]["event"], "recovered");
        assert_eq!(json["alerts"][0]["recovered_from"], "unresponsive");
        assert_eq!(json["alerts"][0]["gateway"], "coder");
        assert_eq!(json["alerts"][1]["event"], "disk");
        assert_eq!(json["alerts"][1]["path"], "/data");
        assert_eq!(json["alerts"][1]["text"], "the file system of `/data` is nearly full: 95 % used");
    }

    #[test]
    fn somebody_who_wants_only_some_kinds_receives_only_these_and_every_test() {
        let failed = news("coder", AlertEvent::Began(AlertProblem::Failed), None);
        let both = AlertMessage {
            news: vec![failed.clone(), news("b", AlertEvent::Began(AlertProblem::LogGap), None)],
            left_out: 0,
        };
        let only = both.of_kinds(&[AlertKind::Failed]).unwrap();
        assert_eq!(only.news, [failed]);
        assert_eq!(both.of_kinds(&[AlertKind::Recovered]), None);
        assert!(AlertMessage::test().of_kinds(&[]).is_some());
    }
}
