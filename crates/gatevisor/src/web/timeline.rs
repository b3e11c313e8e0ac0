//! The timeline of a home: who did what, when and why.
//!
//! *Lives here:* putting it together from what is recorded: desired states, deaths, requests for
//! restarts, drains, incidents, and what the server has seen.
//! *Does not live here:* any of these records.

use std::collections::HashSet;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// The most entries.
const MOST: usize = 500;
/// The events that no record tells of.
const TOLD_EVENTS: [&str; 11] = [
    "up",
    "ready",
    "failed to start",
    "live",
    "degraded",
    "unresponsive",
    "paused",
    "continued",
    "failed",
    "served",
    "not served",
];
/// The events that a drain consists of.
const DRAIN_EVENTS: [&str; 3] = ["draining", "drained", "drain over"];

/// Something that happened.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct TimelineEntry {
    /// When, in RFC 3339.
    pub at: String,
    /// The profile that it happened to, if it was one.
    pub profile: Option<String>,
    /// What kind of record tells it: desired, death, restart, drain,
    /// incident, event, action.
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
/// the servers of the page.
pub fn entries(reports: &[String], incidents: &[String], lately: &[String]) -> Vec<TimelineEntry> {
    let lately: Vec<Value> = objects(lately).collect();
    let of_report = |report: &Value| {
        let drain = drain_now(report).filter(|drain| !tells_begin(&lately, drain));
        let recorded = deaths(report).into_iter().chain(desired(report)).chain(restart(report));
        recorded.chain(drain).collect::<Vec<_>>()
    };
    let mut all: Vec<TimelineEntry> = objects(reports)
        .flat_map(|report| of_report(&report))
        .chain(objects(incidents).filter_map(|object| incident(&object)))
        .chain(lately.iter().filter_map(|object| event(object).or_else(|| action(object))))
        .chain(drains(&lately))
        .collect();
    // All times are in UTC, but their fractions differ in length.
    all.sort_by_cached_key(|entry| std::cmp::Reverse(entry.at.parse::<Timestamp>().ok()));
    all.truncate(MOST);
    all
}

/// Returns whether the timeline tells of this object, an event of the home or an action.
pub fn is_told(object: &Value) -> bool {
    let event = text(object, "event");
    event.is_some_and(|event| TOLD_EVENTS.contains(&event.as_str()) || DRAIN_EVENTS.contains(&event.as_str()))
        || object.get("action").is_some()
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

/// Returns what is known of a gateway's last request for its own restart: that it asked, and how
/// that ended.
fn restart(report: &Value) -> Vec<TimelineEntry> {
    let Some(ticket) = report.get("asked_restart") else { return Vec::new() };
    let asked = text(ticket, "asked_at").map(|at| {
        let is_daily = text(ticket, "scheduled").is_some();
        let what = if is_daily { "the daily restart was due" } else { "asked for its own restart" };
        let by = ticket.get("by");
        TimelineEntry {
            who: by.and_then(|by| text(by, "user")),
            command: by.and_then(|by| text(by, "command")),
            why: text(ticket, "reason"),
            ..entry(report, at, "restart", what.to_owned())
        }
    });
    let ended = text(ticket, "ended_at").zip(text(ticket, "stage")).map(|(at, stage)| TimelineEntry {
        why: text(ticket, "outcome"),
        ..entry(report, at, "restart", format!("the restart is {stage}"))
    });
    asked.into_iter().chain(ended).collect()
}

/// Returns the drain that is under way.
fn drain_now(report: &Value) -> Option<TimelineEntry> {
    let drain = report.get("drain")?;
    let then = text(drain, "then").filter(|then| then != "nothing");
    let what = drain_words(then.as_deref());
    Some(TimelineEntry { who: text(drain, "by"), ..entry(report, text(drain, "since")?, "drain", what) })
}

fn drain_words(then: Option<&str>) -> String {
    then.map_or_else(|| "is drained".to_owned(), |then| format!("is drained, then {then}"))
}

/// Returns whether an event tells that this drain has begun.
fn tells_begin(lately: &[Value], drain: &TimelineEntry) -> bool {
    let moment = |at: &str| at.parse::<Timestamp>().ok();
    let is_begin = |event: &Value| {
        let profile = text(event, "profile").or_else(|| text(event, "service"));
        let at = text(event, "time").and_then(|at| moment(&at));
        text(event, "event").as_deref() == Some("draining")
            && profile == drain.profile
            && at >= moment(&drain.at)
    };
    lately.iter().any(is_begin)
}

/// Returns the begins and the ends of drains that the server has seen, with how each ended.
fn drains(lately: &[Value]) -> Vec<TimelineEntry> {
    let mut idle = HashSet::new();
    let mut all = Vec::new();
    for object in lately {
        let Some((event, at)) = text(object, "event").zip(text(object, "time")) else { continue };
        let service = text(object, "service");
        match event.as_str() {
            "draining" => {
                idle.remove(&service);
                // Such as "by `gateway drain` of ann, process 7, then stop".
                let cause = text(object, "cause").unwrap_or_default();
                let cause = cause.strip_prefix("by ").unwrap_or(&cause);
                let (who, then) =
                    cause.rsplit_once(", then ").map_or((cause, None), |(who, then)| (who, Some(then)));
                let who = Some(who.to_owned()).filter(|who| !who.is_empty());
                all.push(TimelineEntry { who, ..entry(object, at, "drain", drain_words(then)) });
            }
            "drained" => drop(idle.insert(service)),
            "drain over" => {
                let is_idle = idle.remove(&service);
                let how =
                    if is_idle { "its work had ended" } else { "nothing showed that its work had ended" };
                let why = Some(how.to_owned());
                all.push(TimelineEntry { why, ..entry(object, at, "drain", "the drain is over".to_owned()) });
            }
            _ => {}
        }
    }
    all
}

fn action(object: &Value) -> Option<TimelineEntry> {
    let at = Timestamp::from_millisecond(object.get("at_ms")?.as_i64()?).ok()?.to_string();
    let (action, error) = (text(object, "action")?, text(object, "error"));
    let what = if error.is_some() { format!("{action}: failed") } else { format!("{action}: done") };
    Some(TimelineEntry { who: Some("the page".to_owned()), why: error, ..entry(object, at, "action", what) })
}

#[cfg(test)]
mod tests {
    use gatevisor_gateways::desired::Provenance;
    use gatevisor_gateways::drain::DrainReport;
    use gatevisor_gateways::ticket::{TicketReport, TicketStage};
    use serde_json::json;

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

    /// Returns the entries in one line each, the newest first.
    fn told(report: &Value, seen: &[Value]) -> Vec<String> {
        let seen: Vec<String> = seen.iter().map(Value::to_string).collect();
        let line = |entry: TimelineEntry| {
            let parts = [&entry.who, &entry.command, &entry.why].map(|part| part.as_deref().unwrap_or("-"));
            format!("{} {}: {}", entry.kind, entry.what, parts.join(", "))
        };
        entries(&[report.to_string()], &[], &seen).into_iter().map(line).collect()
    }

    #[test]
    fn a_request_for_a_restart_is_told_with_who_asked_and_how_it_ended() {
        let by = |command: &str| Provenance {
            uid: 7,
            user: "ann".to_owned(),
            command: command.to_owned(),
            pid: 1,
            login_uid: None,
        };
        let mut ticket = TicketReport {
            stage: TicketStage::Draining,
            by: by("gateway restart --own"),
            reason: Some("a new skill".to_owned()),
            asked_at: "2026-01-01T00:00:01Z".to_owned(),
            not_before: None,
            ended_at: None,
            outcome: None,
            scheduled: None,
            recent: 0,
        };
        let of = |ticket: &TicketReport| told(&json!({ "profile": "a", "asked_restart": ticket }), &[]);
        let asked = "restart asked for its own restart: ann, gateway restart --own, a new skill";
        assert_eq!(of(&ticket), [asked]);
        ticket.stage = TicketStage::Done;
        ticket.ended_at = Some("2026-01-01T00:00:02Z".to_owned());
        ticket.outcome = Some("it was restarted".to_owned());
        assert_eq!(of(&ticket), ["restart the restart is done: -, -, it was restarted", asked]);
        ticket.scheduled = Some("2026-01-01T00:00:00Z".to_owned());
        assert!(of(&ticket)[1].starts_with("restart the daily restart was due: ann"));
    }

    #[test]
    fn a_drain_is_told_once_with_who_drains_and_whether_the_work_had_ended() {
        let drain = DrainReport {
            stage: "draining".to_owned(),
            turns: None,
            left_ms: None,
            then: "stop".to_owned(),
            by: "`gateway drain` of ann, process 7".to_owned(),
            owner: None,
            since: Some("2026-01-01T00:00:01.123Z".to_owned()),
            until: None,
            reason: None,
        };
        let report = json!({ "profile": "a", "drain": drain });
        let begun = "drain is drained, then stop: `gateway drain` of ann, process 7, -, -";
        assert_eq!(told(&report, &[]), [begun]);
        let seen = |second: u8, event: &str, cause: Option<&str>| {
            let time = format!("2026-01-01T00:00:0{second}.5Z");
            json!({ "time": time, "profile": "a", "service": "gateway-a", "event": event, "cause": cause })
        };
        let first = seen(1, "draining", Some("by `gateway drain` of ann, process 7, then stop"));
        assert_eq!(told(&report, std::slice::from_ref(&first)), [begun]);
        let over = json!({ "profile": "a", "drain": null });
        let end = seen(3, "drain over", None);
        assert_eq!(
            told(&over, &[first.clone(), seen(2, "drained", None), end.clone()]),
            ["drain the drain is over: -, -, its work had ended", begun]
        );
        assert_eq!(
            told(&over, &[first, end])[0],
            "drain the drain is over: -, -, nothing showed that its work had ended"
        );
        let unknown = seen(1, "draining", None);
        assert_eq!(told(&over, &[unknown]), ["drain is drained: -, -, -"]);
    }
}
