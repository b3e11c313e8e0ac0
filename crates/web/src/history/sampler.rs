//! Samples from what `status` says.
//!
//! *Lives here:* processor time since the sample before, and what was seen between two samples.
//! Time is an argument. *Does not live here:* asking.

use std::collections::HashMap;

use serde_json::Value;

use super::{HistorySample, SampledState, StateKind};

/// What must be known from the sample before.
#[derive(Debug, Default)]
pub struct Sampler {
    /// The processor time of each gateway's processes, and when that was so, in milliseconds.
    used: HashMap<String, (i64, u64, u64)>,
    /// The worst that events told of each gateway since then.
    told: HashMap<String, SampledState>,
}

/// Returns the profile of a gateway. Other services have no history.
fn name(object: &Value) -> Option<&str> {
    object.get("profile")?.as_str()
}

/// Returns the state of a gateway as people see it: whether it works, where that is known, or else
/// the state of its process.
fn state(report: &Value) -> SampledState {
    let word = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("unknown").to_owned();
    let known = word(report.get("state"));
    let is_wanted = report.get("desired_state").and_then(Value::as_str) == Some("running");
    let state = SampledState::named(&known, is_wanted);
    let live = report.get("live").and_then(|live| live.get("state")?.as_str());
    let is_up = report.get("up") == Some(&Value::Bool(true));
    match live.filter(|live| *live != "up" && is_up && state.kind() != StateKind::Bad) {
        Some(live) => SampledState::named(live, is_wanted),
        None => state,
    }
}

impl Sampler {
    /// Notes an event of `events --json`, so that what is over before the next sample is seen.
    pub fn note(&mut self, event: &Value) {
        let word = event.get("event").and_then(Value::as_str).map(|word| word.replace(' ', "-"));
        let Some((name, word)) = name(event).zip(word) else { return };
        let state = SampledState::named(&word, false);
        if state.word() == word && state.kind() == StateKind::Bad {
            let worst = self.told.entry(name.to_owned()).or_insert(state);
            *worst = worst.or_worse(state);
        }
    }

    /// Returns the samples of these objects of `status --json`, at this time in milliseconds of the
    /// monotonic clock.
    pub fn samples(&mut self, reports: &[Value], now_ms: u64) -> Vec<(String, HistorySample)> {
        let before = std::mem::take(&mut self.used);
        let told = std::mem::take(&mut self.told);
        let of = |report: &Value| {
            let name = name(report)?.to_owned();
            let number = |field: &str| report.get(field).and_then(Value::as_u64);
            let pid = report.get("pid").and_then(Value::as_i64).unwrap_or_default();
            let used = number("cpu_ms");
            let cpu_permille = used.and_then(|used| {
                let (same, earlier, at) = before.get(&name)?;
                let more = used.checked_sub(*earlier).filter(|_| *same == pid)?;
                let permille = more.saturating_mul(1000).checked_div(now_ms.checked_sub(*at)?)?;
                u32::try_from(permille).ok()
            });
            if let Some(used) = used {
                self.used.insert(name.clone(), (pid, used, now_ms));
            }
            let state = state(report);
            let state = told.get(&name).map_or(state, |told| state.or_worse(*told));
            Some((name, HistorySample { state, cpu_permille, memory_bytes: number("memory_bytes") }))
        };
        reports.iter().filter_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(pid: i64, cpu_ms: Option<u64>) -> Value {
        json!({ "profile": "a", "service": "gateway-a", "state": "ready", "up": true, "pid": pid,
            "cpu_ms": cpu_ms, "memory_bytes": 5, "desired_state": "running", "live": null })
    }

    #[test]
    fn processor_time_is_told_only_between_two_samples_of_the_same_process() {
        let mut sampler = Sampler::default();
        for (now_ms, pid, used, expected) in [
            (1_000, 7, Some(500), None),
            (61_000, 7, Some(30_500), Some(500)),
            (121_000, 7, Some(30_500), Some(0)),
            (181_000, 8, Some(60_000), None),
            (241_000, 8, Some(50_000), None),
            (301_000, 8, Some(290_000), Some(4000)),
            (361_000, 8, None, None),
            (421_000, 8, Some(300_000), None),
            (421_000, 8, Some(300_000), None),
        ] {
            let made = sampler.samples(&[report(pid, used)], now_ms);
            assert_eq!((made[0].0.as_str(), made[0].1.cpu_permille), ("a", expected), "{now_ms}");
            assert_eq!(made[0].1.memory_bytes, Some(5));
        }
    }

    #[test]
    fn the_state_is_the_one_that_the_page_shows() {
        let of = |state: &str, up: bool, desired: &str, live: Value| {
            let report = json!({ "profile": "s", "state": state, "up": up, "desired_state": desired,
                "live": live });
            let (name, sample) = Sampler::default().samples(&[report], 0).remove(0);
            (name, sample.state.word(), sample.state.kind().word())
        };
        let s = || "s".to_owned();
        assert_eq!(of("ready", true, "running", Value::Null), (s(), "ready", "good"));
        assert_eq!(of("ready", true, "running", json!({ "state": "live" })), (s(), "live", "good"));
        assert_eq!(of("up", true, "running", json!({ "state": "up" })), (s(), "up", "good"));
        assert_eq!(
            of("unresponsive", true, "running", json!({ "state": "live" })),
            (s(), "unresponsive", "bad")
        );
        assert_eq!(
            of("backing-off", false, "running", json!({ "state": "live" })),
            (s(), "backing-off", "bad")
        );
        assert_eq!(of("down", false, "running", Value::Null), (s(), "down", "bad"));
        assert_eq!(of("down", false, "stopped", Value::Null), (s(), "down", "idle"));
        assert_eq!(Sampler::default().samples(&[json!({})], 0), []);
        let service = json!({ "profile": null, "service": "s", "state": "up", "up": true });
        assert_eq!(Sampler::default().samples(&[service], 0), [], "it is no gateway");
    }

    #[test]
    fn what_was_over_before_a_sample_is_in_it_once() {
        let mut sampler = Sampler::default();
        for (name, word) in [("a", "unresponsive"), ("a", "live"), ("b", "failed to start"), ("a", "died")] {
            sampler.note(&json!({ "profile": name, "event": word }));
        }
        let words: Vec<_> =
            (0..2).map(|_| sampler.samples(&[report(7, None)], 0).remove(0).1.state.word()).collect();
        assert_eq!(words, ["unresponsive", "ready"]);
    }
}
