//! Answers of pods, and what becomes of them.

use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().unwrap()
}

fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

/// Returns a gateway as `status --json` tells it, with these changes.
fn gateway(name: &str, state: &str, changes: &Value) -> Value {
    let mut gateway = json!({
        "profile": name, "service": format!("gateway-{name}"), "state": state, "desired_state": "running",
        "updownfor": 60, "restarts": 0, "deaths": [], "memory_bytes": 1000, "cpu_ms": 7, "live": null,
    });
    for (key, value) in changes.as_object().unwrap() {
        gateway[key] = value.clone();
    }
    gateway
}

fn told(gateways: &[Value], before: Option<&GatewayFacts>, at: Timestamp) -> GatewayFacts {
    GatewayFacts::told(&json!({"supervisor": {}, "gateways": gateways}), before, at).unwrap()
}

fn at(text: &str) -> Time {
    Time(text.parse().unwrap())
}

#[test]
fn a_gateway_is_told_with_its_state_since_restarts_and_last_exit() {
    let death =
        json!({"at": "2026-01-01T00:08:59.500Z", "exitcode": 78, "signal": null, "meaning": "key refused"});
    let killed = json!({"at": "2026-01-01T00:08:59Z", "exitcode": null, "signal": "SIGKILL"});
    let judged = json!({"since": "2026-01-01T00:09:30.123Z", "state": "unresponsive"});
    let facts = told(
        &[
            gateway("writer", "ready", &json!({})),
            gateway("coder", "failed-to-start", &json!({"deaths": [death], "restarts": 3})),
            gateway("frozen", "unresponsive", &json!({"live": judged, "deaths": [killed]})),
            gateway(
                "resting",
                "down",
                &json!({"desired_state": "stopped", "updownfor": 0, "restarts": null}),
            ),
            json!({"profile": null, "service": "dashboard", "state": "up"}),
        ],
        None,
        now(),
    );
    let one = |name: &str| facts.of_profile(name).unwrap().clone();
    let names: Vec<&str> = facts.profiles.iter().map(|profile| &*profile.name).collect();
    assert_eq!(names, ["coder", "frozen", "resting", "writer"], "by name, and no services");
    assert_eq!(
        one("coder"),
        ProfileStatus {
            name: "coder".to_owned(),
            state: "FailedToStart".to_owned(),
            desired: Some(ProfileState::Running),
            since: Some(at("2026-01-01T00:09:00Z")),
            restarts: Some(3),
            last_exit: Some(LastExit {
                at: at("2026-01-01T00:08:59Z"),
                exit_code: Some(78),
                signal: None,
                meaning: Some("key refused".to_owned()),
            }),
            cause: None,
        }
    );
    assert_eq!(
        (&*one("frozen").state, one("frozen").since),
        ("Unresponsive", Some(at("2026-01-01T00:09:30Z")))
    );
    assert_eq!(one("frozen").last_exit.unwrap().signal.as_deref(), Some("SIGKILL"));
    assert_eq!((one("resting").since, one("resting").restarts), (None, None));
    assert_eq!(
        (&*facts.ready(), facts.unexplained(None)),
        ("1/3", vec!["coder".to_owned(), "frozen".to_owned()])
    );
    let lacking: Vec<&str> = facts.lacking().iter().map(|profile| &*profile.name).collect();
    assert_eq!(lacking, ["coder", "frozen"]);
}

#[test]
fn time_that_passes_changes_no_fact_and_a_restart_does() {
    let up = |seconds: u64, restarts: u64| {
        gateway("a", "ready", &json!({"updownfor": seconds, "restarts": restarts, "cpu_ms": seconds * 10}))
    };
    let first = told(&[up(60, 0)], None, now());
    // The pod rounds, and an answer takes its time.
    for (passed, uptime) in [(15, 74), (15, 75), (15, 76), (3600, 3659), (3603, 3660), (86_400, 86_455)] {
        assert_eq!(told(&[up(uptime, 0)], Some(&first), later(passed)), first, "{passed} s");
    }
    for (passed, uptime, restarts) in [(15, 14, 0), (15, 75, 1), (15, 60, 0)] {
        assert_ne!(
            told(&[up(uptime, restarts)], Some(&first), later(passed)),
            first,
            "{passed} s, up {uptime} s"
        );
    }
}

#[test]
fn a_cause_is_kept_until_another_one_is_told_or_the_gateway_is_well() {
    let explained = |what: &str| {
        let told = cause(&json!({"causes": [{"what": what, "cause": "x"}]}));
        vec![("a".to_owned(), told.unwrap())]
    };
    let with = |answers: &[(String, String)], before: Option<&GatewayFacts>, state: &str| {
        let mut facts = told(&[gateway("a", state, &json!({}))], before, now());
        facts.explain(answers, before);
        facts
    };
    let known = |facts: &GatewayFacts| facts.profiles[0].cause.clone();
    let first = with(&explained("silent for 40 s"), None, "unresponsive");
    assert_eq!(known(&first).as_deref(), Some("silent for 40 s"));
    assert_eq!(with(&explained("silent for 55 s"), Some(&first), "unresponsive"), first, "a counter only");
    assert_eq!(with(&[], Some(&first), "unresponsive"), first, "it was not told");
    let other = with(&explained("the disk is full"), Some(&first), "unresponsive");
    assert_eq!(known(&other).as_deref(), Some("the disk is full"));
    assert_eq!(known(&with(&explained("it is well"), Some(&first), "ready")), None);
    let other = with(&[], Some(&first), "failed");
    assert_eq!(known(&other), None, "it is another failure");
    assert_eq!(other.unexplained(Some(&first)), ["a"]);
    let died = |code: i32, at: &str, before: Option<&GatewayFacts>, answers: &[(String, String)]| {
        let more = json!({"deaths": [{"at": at, "exitcode": code}]});
        let mut facts = told(&[gateway("a", "backing-off", &more)], before, now());
        facts.explain(answers, before);
        facts
    };
    let once = died(1, "2026-01-01T00:00:00Z", None, &explained("no key"));
    let again = died(1, "2026-01-01T00:01:00Z", Some(&once), &[]);
    assert_eq!(known(&again).as_deref(), Some("no key"), "it ended in the same way");
    assert_eq!(known(&died(2, "2026-01-01T00:02:00Z", Some(&again), &[])), None);
    assert!(with(&[], None, "starting").unexplained(None).is_empty(), "it only starts");
    assert_eq!(with(&[], None, "degraded").unexplained(None), ["a"]);
}

#[test]
fn of_many_that_are_not_well_those_without_a_cause_are_asked_first() {
    let many: Vec<Value> = (0..20).map(|n| gateway(&format!("p{n:02}"), "failed", &json!({}))).collect();
    let (mut facts, mut asked) = (told(&many, None, now()), Vec::new());
    for _ in 0..3 {
        let before = facts.clone();
        let names = facts.unexplained(Some(&before));
        assert_eq!(names.len(), CAUSES);
        let causes: Vec<_> = names.iter().map(|name| (name.clone(), "why".to_owned())).collect();
        facts.explain(&causes, Some(&before));
        asked.extend(names);
    }
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), 20);
}

#[test]
fn if_nobody_knows_the_names_stay_and_only_they() {
    let home = |profiles: Value| {
        AgentHome::new("h", serde_json::from_value(json!({"image": "i", "profiles": profiles})).unwrap())
    };
    let declared = home(json!([{"name": "b"}, {"name": "a", "desired": "Stopped"}]));
    let facts = GatewayFacts::unknown(&declared, None, Unknown::Missing);
    let seen: Vec<_> = facts.profiles.iter().map(|profile| (&*profile.name, &*profile.state)).collect();
    assert_eq!(seen, [("a", UNKNOWN), ("b", UNKNOWN)]);
    assert_eq!(facts.ready(), "?/1");
    let known = told(&[gateway("c", "ready", &json!({})), gateway("d", "failed", &json!({}))], None, now());
    let facts = GatewayFacts::unknown(&declared, Some(&known), Unknown::Silent);
    assert_eq!((facts.profiles.len(), &*facts.ready()), (2, "?/2"));
    assert!(facts.profiles.iter().all(|profile| profile.state == UNKNOWN && profile.since.is_none()));
    assert!(facts.wanted_in(&["Failed"]).is_empty());
    assert_eq!(GatewayFacts::unknown(&declared, Some(&facts), Unknown::Silent), facts);
}

#[test]
fn what_an_agent_answers_is_bounded_and_clean() {
    assert_eq!(GatewayFacts::told(&json!([]), None, now()), None);
    assert_eq!(GatewayFacts::told(&json!({"gateways": 7}), None, now()), None);
    let nested = "x".repeat(10_000);
    let bad = json!({
        "restarts": u64::MAX, "updownfor": i64::MAX, "desired_state": "else",
        "deaths": [{"at": "2026-01-01T00:00:00Z", "exitcode": i64::MAX, "signal": "a\nb\u{202e}c", "meaning": nested}],
    });
    let mut gateways = vec![
        gateway("good", "evil\nword", &bad),
        gateway("../../etc", "up", &json!({})),
        gateway("Upper", "up", &json!({})),
        gateway("", "up", &json!({})),
        gateway("good", "up", &json!({})),
        json!(7),
    ];
    gateways.extend((0..600).map(|number| gateway(&format!("p{number}"), "up", &json!({}))));
    let facts = told(&gateways, None, now());
    assert_eq!(facts.profiles.len(), MOST - 1, "the most, and one of them twice");
    let good = facts.of_profile("good").unwrap();
    assert_eq!((&*good.state, good.desired, good.since.clone(), good.restarts), (UNKNOWN, None, None, None));
    let exit = good.last_exit.clone().unwrap();
    assert_eq!((exit.exit_code, exit.signal), (None, None));
    assert_eq!(exit.meaning.unwrap().len(), TEXT);
}

#[test]
fn facts_survive_a_status() {
    let mut facts = told(
        &[gateway("a", "failed", &json!({"deaths": [{"at": "2026-01-01T00:00:00.9Z", "exitcode": 1}]}))],
        None,
        now(),
    );
    facts.explain(&[("a".to_owned(), "why".to_owned())], None);
    let text = serde_json::to_string(&facts.profiles).unwrap();
    assert_eq!(serde_json::from_str::<Vec<ProfileStatus>>(&text).unwrap(), facts.profiles);
}
