//! What is known of the gateways of a home, from what the Gatevisor in its pod answers.
//!
//! *Lives here:* the conversion of answers, which are data of an agent and are bounded.
//! *Does not live here:* asking (`pod_api`), and the conditions that follow (`status`).
//!
//! Facts that mean the same are equal, so that a status is written only if something has changed. A
//! counter that only grows with time is never a fact.

use gatevisor_term::escape::is_hidden;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::unknown::Unknown;
use crate::api::{AgentHome, AgentHomeStatus, LastExit, ProfileState, ProfileStatus};

/// The most gateways of a home that are reported.
const MOST: usize = 500;
/// The most bytes of a text from a pod.
const TEXT: usize = 200;
/// The most causes that are asked for at once. Those that are not known come first.
pub const CAUSES: usize = 8;
/// Two times since when a state lasts are the same if they differ by no more than this, because the
/// pod tells a duration in whole seconds.
const SAME_TIME: SignedDuration = SignedDuration::from_secs(5);
/// The word for a state that nobody knows.
pub const UNKNOWN: &str = "Unknown";

/// The states that a gateway can be in, as `status --json` writes them.
const STATES: [&str; 19] = [
    "up",
    "ready",
    "starting",
    "backing-off",
    "stopping",
    "finishing",
    "down",
    "failed",
    "failed-to-start",
    "not-supervised",
    "paused",
    "waiting",
    "asking",
    "unresponsive",
    "degraded",
    "draining",
    "traced",
    "unknown",
    "served",
];

/// What is known of the gateways of a home.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GatewayFacts {
    /// The gateways, by name.
    pub profiles: Vec<ProfileStatus>,
    /// Why nobody knows how they are, if nobody does.
    pub unknown: Option<Unknown>,
}

impl GatewayFacts {
    /// Returns what a status says; `None` if it says nothing.
    pub fn of(status: Option<&AgentHomeStatus>) -> Option<Self> {
        let status = status?;
        let reporting = status.conditions.iter().find(|condition| condition.type_ == "Reporting")?;
        let unknown = match reporting.status.as_str() {
            "True" => None,
            _ => Some(Unknown::named(&reporting.reason)?),
        };
        Some(Self { profiles: status.profiles.clone(), unknown })
    }

    /// Returns the facts if nobody knows how the gateways are: their names and what is wanted of
    /// them stay.
    pub fn unknown(home: &AgentHome, before: Option<&Self>, why: Unknown) -> Self {
        let known = before.map(|facts| facts.profiles.clone()).filter(|known| !known.is_empty());
        let profiles = known.unwrap_or_else(|| home.spec.profiles.iter().map(declared).collect());
        let forget = |profile: ProfileStatus| ProfileStatus {
            state: UNKNOWN.to_owned(),
            since: None,
            cause: None,
            ..profile
        };
        let mut profiles: Vec<ProfileStatus> = profiles.into_iter().map(forget).collect();
        profiles.sort_by(|one, other| one.name.cmp(&other.name));
        Self { profiles, unknown: Some(why) }
    }

    /// Returns the facts that an answer to `/api/v1/gateways` tells; `None` if it is no such
    /// answer. `before` are those of the look before.
    pub fn told(answer: &Value, before: Option<&Self>, now: Timestamp) -> Option<Self> {
        let gateways = answer.get("gateways")?.as_array()?;
        let mut profiles: Vec<ProfileStatus> =
            gateways.iter().filter_map(|gateway| profile(gateway, now)).take(MOST).collect();
        profiles.sort_by(|one, other| one.name.cmp(&other.name));
        profiles.dedup_by(|one, other| one.name == other.name);
        for profile in &mut profiles {
            let known = before.and_then(|before| before.of_profile(&profile.name));
            if let Some(known) = known {
                keep_time(profile, known);
            }
        }
        Some(Self { profiles, unknown: None })
    }

    fn of_profile(&self, name: &str) -> Option<&ProfileStatus> {
        self.profiles.iter().find(|profile| profile.name == name)
    }

    /// Returns the profiles whose causes are to be asked for.
    pub fn unexplained(&self, before: Option<&Self>) -> Vec<String> {
        let is_known = |profile: &&ProfileStatus| {
            before
                .and_then(|before| before.of_profile(&profile.name))
                .is_some_and(|known| known.cause.is_some() && known.is_same_failure(profile))
        };
        let mut unwell: Vec<_> = self.profiles.iter().filter(|profile| profile.is_unwell()).collect();
        unwell.sort_by_key(is_known);
        unwell.into_iter().take(CAUSES).map(|profile| profile.name.clone()).collect()
    }

    /// Notes the causes of gateways that are not well. `explained` are what [`cause`] has found. A
    /// cause that was not told stays as it was.
    pub fn explain(&mut self, explained: &[(String, String)], before: Option<&Self>) {
        for profile in self.profiles.iter_mut().filter(|profile| profile.is_unwell()) {
            let told = explained.iter().find(|(name, _)| *name == profile.name);
            let told = told.map(|(_, cause)| cause.clone());
            // What was the cause of another failure says nothing about this one.
            let known = before
                .and_then(|before| before.of_profile(&profile.name))
                .filter(|known| known.is_same_failure(profile))
                .and_then(|known| known.cause.clone());
            profile.cause = match (told, known) {
                (Some(told), Some(known)) if is_same_but_for_numbers(&told, &known) => Some(known),
                (told, known) => told.or(known),
            };
        }
    }

    /// Returns how many gateways work of those that should run, such as `3/4`; `?/4` if nobody
    /// knows.
    pub fn ready(&self) -> String {
        let wanted = self.profiles.iter().filter(|profile| profile.is_wanted());
        let all = wanted.clone().count();
        match self.unknown {
            Some(_) => format!("?/{all}"),
            None => format!("{}/{all}", wanted.filter(|profile| profile.works()).count()),
        }
    }

    /// Returns the gateways that should run and are in one of these states.
    pub fn wanted_in<'f>(&'f self, states: &[&str]) -> Vec<&'f ProfileStatus> {
        let is_so = |profile: &&ProfileStatus| profile.is_wanted() && states.contains(&&*profile.state);
        self.profiles.iter().filter(is_so).collect()
    }

    /// Returns the gateways that should run and do not work.
    pub fn lacking(&self) -> Vec<&ProfileStatus> {
        self.profiles.iter().filter(|profile| profile.is_wanted() && !profile.works()).collect()
    }
}

impl ProfileStatus {
    /// Returns whether its gateway should run.
    fn is_wanted(&self) -> bool {
        self.desired == Some(ProfileState::Running)
    }

    /// Returns whether what is wrong looks the same as at another look. A gateway that ends again
    /// and again in one way has one cause.
    fn is_same_failure(&self, other: &Self) -> bool {
        let way = |profile: &Self| {
            profile.last_exit.as_ref().map(|exit| (exit.exit_code, exit.signal.clone(), exit.meaning.clone()))
        };
        self.state == other.state && way(self) == way(other)
    }

    fn works(&self) -> bool {
        matches!(&*self.state, "Up" | "Ready" | "Degraded" | "Draining" | "Served")
    }

    /// Returns whether there is a cause worth telling.
    fn is_unwell(&self) -> bool {
        let is_changing = matches!(&*self.state, "Starting" | "Finishing" | "Stopping");
        self.state == "Degraded" || (self.is_wanted() && !self.works() && !is_changing)
    }
}

fn declared(profile: &crate::api::HomeProfile) -> ProfileStatus {
    ProfileStatus {
        name: profile.name.clone(),
        state: UNKNOWN.to_owned(),
        desired: Some(profile.desired),
        ..ProfileStatus::default()
    }
}

/// Returns what an object of `status --json` tells of a gateway; `None` if it is of no profile.
fn profile(gateway: &Value, now: Timestamp) -> Option<ProfileStatus> {
    let word = |key: &str| gateway.get(key).and_then(Value::as_str);
    let name = word("profile").filter(|name| is_name(name))?;
    let state = word("state").filter(|state| STATES.contains(state));
    let desired = match word("desired_state") {
        Some("running") => Some(ProfileState::Running),
        Some("stopped") => Some(ProfileState::Stopped),
        _ => None,
    };
    Some(ProfileStatus {
        name: name.to_owned(),
        state: state.map_or_else(|| UNKNOWN.to_owned(), in_camel_case),
        desired,
        since: since(gateway, now),
        restarts: gateway.get("restarts").and_then(Value::as_u64).and_then(|count| count.try_into().ok()),
        last_exit: gateway.pointer("/deaths/0").and_then(last_exit),
        cause: None,
    })
}

fn is_name(name: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    (1..=243).contains(&name.len()) && name.bytes().all(is_good)
}

/// Returns a word with hyphens as Kubernetes writes words.
fn in_camel_case(word: &str) -> String {
    let capital = |part: &str| {
        let (first, rest) = part.split_at_checked(1).unwrap_or((part, ""));
        format!("{}{rest}", first.to_ascii_uppercase())
    };
    word.split('-').map(capital).collect()
}

/// Returns since when a gateway is as it is. A gateway that the watcher judges tells that itself.
/// Of others, the time since it came up or went down counts.
fn since(gateway: &Value, now: Timestamp) -> Option<Time> {
    let judged = ["unresponsive", "degraded", "draining"];
    let is_judged = gateway.get("state").and_then(Value::as_str).is_some_and(|state| judged.contains(&state));
    let told = gateway.pointer("/live/since").filter(|_| is_judged).and_then(time);
    told.or_else(|| {
        let seconds = gateway.get("updownfor")?.as_i64().filter(|seconds| *seconds > 0)?;
        let since = now.checked_sub(SignedDuration::from_secs(seconds)).ok()?;
        Some(Time(whole_second(since)))
    })
}

/// Keeps the time of a state that lasts. The times of two looks may differ by a second or two.
fn keep_time(profile: &mut ProfileStatus, known: &ProfileStatus) {
    let (Some(new), Some(old)) = (&profile.since, &known.since) else { return };
    let is_same = (new.0.duration_since(old.0)).abs() <= SAME_TIME;
    if is_same && profile.state == known.state && profile.restarts == known.restarts {
        profile.since.clone_from(&known.since);
    }
}

fn last_exit(death: &Value) -> Option<LastExit> {
    Some(LastExit {
        at: time(death.get("at")?)?,
        exit_code: death.get("exitcode").and_then(Value::as_i64).and_then(|code| code.try_into().ok()),
        signal: death.get("signal").and_then(signal),
        meaning: death.get("meaning").and_then(text),
    })
}

/// Returns the name of a signal, such as `SIGKILL` or `SIGRTMIN+3`.
fn signal(value: &Value) -> Option<String> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"+-".contains(&byte);
    value.as_str().filter(|name| name.len() <= 16 && name.bytes().all(is_good)).map(str::to_owned)
}

/// Returns a time in RFC 3339. An API server keeps only whole seconds.
fn time(value: &Value) -> Option<Time> {
    Some(Time(whole_second(value.as_str()?.parse().ok()?)))
}

fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Returns the cause that an answer to `/api/v1/gateways/NAME/explain` tells.
pub fn cause(answer: &Value) -> Option<String> {
    text(answer.pointer("/causes/0/what")?)
}

/// Returns a text for a status: one line, and bounded.
fn text(value: &Value) -> Option<String> {
    let clean = value.as_str()?.chars().map(|c| if is_hidden(c) { ' ' } else { c });
    let mut text: String = clean.take(TEXT).collect();
    text.truncate(text.floor_char_boundary(TEXT));
    (!text.is_empty()).then_some(text)
}

/// Returns whether two texts differ only in their numbers, such as "for 40 s" and "for 55 s".
fn is_same_but_for_numbers(one: &str, other: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        let parts = text.split(|c: char| c.is_ascii_digit());
        parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    words(one) == words(other)
}

#[cfg(test)]
mod tests;
