//! The timeline of a home: who did what, when and why.
//!
//! *Lives here:* putting it together from what is recorded: desired states, deaths, incidents, and
//! what the server has seen. *Does not live here:* any of these records.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// The most entries.
const MOST: usize = 500;
/// The events that no record tells of.
const TOLD_EVENTS: [&str; 12] = [
    "up",
    "ready",
    "failed to start",
    "live",
    "degraded",
    "unresponsive",
    "draining",
    "paused",
    "continued",
    "failed",
    "served",
    "not served",
];

/// Something that happened.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct TimelineEntry {
    /// When, in RFC 3339.
    pub at: String,
    /// The profile that it happened to, if it was one.
    pub profile: Option<String>,
    /// What kind of record tells it: desired, death, incident, event, action.
    pub kind: &'static str,
    /// What, in words.
    pub what: String,
    /// Who did it, if that is known.
    pub who: Option<String>,
    /// The command with which it was done.
    pub command: Option<String>,
    /// Why, in the words of whoever did it.
    pub why: Option<String>,
}

/// Returns what happened, the newest first: from the objects of `status`, of `incidents`, and of
/// the server.
pub fn entries(reports: &[String], incidents: &[String], lately: &[String]) -> Vec<TimelineEntry> {
    let mut all: Vec<TimelineEntry> = objects(reports)
        .flat_map(|report| deaths(&report).into_iter().chain(desired(&report)).collect::<Vec<_>>())
        .chain(objects(incidents).filter_map(|object| incident(&object)))
        .chain(objects(lately).filter_map(|object| event(&object).or_else(|| action(&object))))
        .collect();
    // All times are in UTC, but their fractions differ in length.
    all.sort_by_cached_key(|entry| std::cmp::Reverse(entry.at.parse::<Timestamp>().ok()));
    all.truncate(MOST);
    all
}

fn objects(lines: &[String]) -> impl Iterator<Item = Value> {
    lines.iter().filter_map(|line| serde_json::from_str(line).ok())
}

fn text(object: &Value, name: &str) -> Option<String> {
    object.get(name)?.as_str().map(str::to_owned)
}

fn entry(object: &Value, at: String, kind: &'static str, what: String) -> TimelineEntry {
    let profile = text(object, "profile").or_else(|| text(object, "service"));
    TimelineEntry { at, profile, kind, what, who: None, command: None, why: None }
}

fn desired(report: &Value) -> Option<TimelineEntry> {
    let (at, state) = (text(report, "desired_at")?, text(report, "desired_state")?);
    let by = report.get("desired_by");
    Some(TimelineEntry {
        who: by.and_then(|by| text(by, "user")),
        command: by.and_then(|by| text(by, "command")),
        why: text(report, "desired_reason"),
        ..entry(report, at, "desired", format!("shall be {state}"))
    })
}

fn deaths(report: &Value) -> Vec<TimelineEntry> {
    let deaths = report.get("deaths").and_then(Value::as_array);
    let of = |death: &Value| {
        let how = match text(death, "signal") {
            Some(signal) => format!("was ended by {signal}"),
            None => format!("ended with exit {}", death.get("exitcode")?),
        };
        let entry = entry(report, text(death, "at")?, "death", how);
        Some(TimelineEntry { why: text(death, "meaning"), ..entry })
    };
    deaths.into_iter().flatten().filter_map(of).collect()
}

fn incident(object: &Value) -> Option<TimelineEntry> {
    let what = format!("evidence was collected: {}", text(object, "reason")?);
    Some(TimelineEntry {
        profile: text(object, "name"),
        ..entry(object, text(object, "at")?, "incident", what)
    })
}

fn event(object: &Value) -> Option<TimelineEntry> {
    let what = text(object, "event").filter(|event| TOLD_EVENTS.contains(&event.as_str()))?;
    Some(TimelineEntry { why: text(object, "cause"), ..entry(object, text(object, "time")?, "event", what) })
}

fn action(object: &Value) -> Option<TimelineEntry> {
    let at = Timestamp::from_millisecond(object.get("at_ms")?.as_i64()?).ok()?.to_string();
    let (action, error) = (text(object, "action")?, text(object, "error"));
    let what = if error.is_some() { format!("{action}: failed") } else { format!("{action}: done") };
    Some(TimelineEntry { who: Some("the page".to_owned()), why: error, ..entry(object, at, "action", what) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_recorded_is_told_the_newest_first() {
        let report = r#"{"profile":"a","desired_state":"running","desired_at":"2026-01-01T00:00:02Z",
            "desired_by":{"user":"ann","command":"gateway start"},"desired_reason":"why","deaths":[
            {"at":"2026-01-01T00:00:02.5Z","exitcode":3,"signal":null,"meaning":"no port"},
            {"at":"2026-01-01T00:00:01Z","exitcode":null,"signal":"SIGKILL","meaning":null}]}"#;
        let incident = r#"{"id":"i","name":"a","at":"2026-01-01T00:00:04Z","reason":"frozen"}"#;
        let seen = [
            r#"{"time":"2026-01-01T00:00:03Z","profile":"a","event":"unresponsive","cause":null}"#,
            r#"{"time":"2026-01-01T00:00:03Z","profile":"a","event":"died","cause":null}"#,
            r#"{"at_ms":1767225605000,"profile":"a","action":"stop","error":null}"#,
            r#"{"at_ms":1767225606000,"profile":"a","action":"start","error":"no"}"#,
            "no object",
        ];
        let told = entries(&[report.to_owned()], &[incident.to_owned()], &seen.map(str::to_owned));
        let said: Vec<String> = told
            .iter()
            .map(|entry| {
                let parts =
                    [&entry.who, &entry.command, &entry.why].map(|part| part.as_deref().unwrap_or("-"));
                format!("{} {} {}", entry.kind, entry.what, parts.join(" "))
            })
            .collect();
        assert_eq!(
            said,
            [
                "action start: failed the page - no",
                "action stop: done the page - -",
                "incident evidence was collected: frozen - - -",
                "event unresponsive - - -",
                "death ended with exit 3 - - no port",
                "desired shall be running ann gateway start why",
                "death was ended by SIGKILL - - -",
            ]
        );
        assert_eq!(told.iter().filter(|entry| entry.profile.as_deref() == Some("a")).count(), 7);
    }
}
