//! Asking the pods of all homes again and again how their gateways are.
//!
//! *Lives here:* when each is asked, and what was told last. *Does not live here:* what that means
//! (`plan`), and writing it (`reconcile`, which is told of homes whose facts have changed).
//!
//! Asking costs the API server one read of a pod, and no write as long as nothing has changed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::channel::mpsc::Sender;
use futures::future::{Either, select};
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, ResourceExt};
use serde_json::Value;
use tokio::time::sleep;

use crate::api::{AgentHome, key};
use crate::health::OperatorCounts;
use crate::plan::{GatewayFacts, PAGE_PORT, Unknown, address, cause};
use crate::pod_api;
use crate::told::{ServerAnswer, answer_within, say};

/// The time between two looks at a home.
const EVERY: Duration = Duration::from_secs(15);
/// The time before the second look at a pod that did not answer. It doubles with each.
const AGAIN: Duration = Duration::from_secs(5);
/// The longest time between two looks at a pod that does not answer.
const AGAIN_MOST: Duration = Duration::from_mins(1);
/// The time between two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// The most looks in a second, on average. With more homes, each is looked at less often.
const EACH_SECOND: u32 = 50;
/// How many homes are looked at at once.
const AT_A_TIME: usize = 16;
/// The longest time for the API server to answer.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// The longest time for a pod to answer how its gateways are.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// The longest time for all causes together. What was told before is not lost when it is over.
const CAUSES_WITHIN: Duration = Duration::from_secs(5);
/// How many looks in a row may fail before nobody knows how the gateways are.
const FORGIVEN: u32 = 1;

/// What is known of one home.
struct HomeLook {
    uid: Option<String>,
    token: Option<String>,
    /// What the stateful set told of the pod.
    pod_state: String,
    facts: Option<GatewayFacts>,
    /// How many looks in a row found a pod that did not answer.
    misses: u32,
    /// Whether it is being looked at.
    is_asked: bool,
    /// Whether its objects have changed since that began.
    has_changed: bool,
    /// When the last look ended.
    looked: Option<Instant>,
    due: Instant,
}

/// What is known of all homes.
#[derive(Default)]
pub struct Looks {
    known: Mutex<HashMap<String, HomeLook>>,
    counts: Arc<OperatorCounts>,
}

impl Looks {
    /// Returns the state before the first look.
    pub fn new(counts: Arc<OperatorCounts>) -> Self {
        Self { counts, ..Self::default() }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, HomeLook>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what is known of the gateways of a home, if its pod was asked.
    pub fn facts(&self, home: &AgentHome) -> Option<GatewayFacts> {
        let known = self.known();
        known.get(&key(home)).filter(|look| look.uid == home.metadata.uid)?.facts.clone()
    }

    /// Notes the token of a home, and what its stateful set tells of its pod. If its pod or its
    /// objects have changed, it is looked at soon, but not at once: a pod that is ready and not
    /// ready in turn would be asked without end.
    pub fn note(&self, home: &AgentHome, token: Option<String>, pod_state: String, has_changed: bool) {
        let mut known = self.known();
        let fresh = || HomeLook {
            uid: home.metadata.uid.clone(),
            token: None,
            pod_state: String::new(),
            facts: None,
            misses: 0,
            is_asked: false,
            has_changed: false,
            looked: None,
            due: Instant::now(),
        };
        let look = known.entry(key(home)).or_insert_with(fresh);
        if look.uid != home.metadata.uid {
            *look = fresh();
        }
        if is_idle(home) {
            look.facts = None;
        }
        if has_changed || look.token != token || look.pod_state != pod_state {
            look.has_changed = true;
            let soon = look.looked.map_or_else(Instant::now, |looked| looked + AGAIN);
            look.due = look.due.min(soon);
        }
        (look.token, look.pod_state) = (token, pod_state);
    }

    /// Looks at all homes until it is dropped. Each home whose facts are not those of its status is
    /// sent to `changed`.
    pub async fn run(
        &self,
        client: Client,
        homes: Store<AgentHome>,
        changed: Sender<ObjectRef<AgentHome>>,
    ) -> Infallible {
        // A pod that is slow delays none but itself.
        let mut looks = FuturesUnordered::new();
        loop {
            let all = homes.state();
            let every = every(all.len());
            self.counts.homes.store(all.len().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
            let mut due = VecDeque::from(self.due(&all));
            let mut round = pin!(sleep(ROUND));
            loop {
                while looks.len() < AT_A_TIME
                    && let Some((home, token)) = due.pop_front()
                {
                    if !self.begin(&home) {
                        continue;
                    }
                    let (client, mut changed) = (client.clone(), changed.clone());
                    looks.push(async move {
                        if self.look(client, &home, &token, every).await {
                            // If too many wait, the next look sends it again.
                            let _ = changed.try_send(ObjectRef::from_obj(&*home));
                        }
                    });
                }
                let is_over = if looks.is_empty() {
                    round.as_mut().await;
                    true
                } else {
                    matches!(select(round.as_mut(), looks.next()).await, Either::Left(_))
                };
                if is_over {
                    break;
                }
            }
        }
    }

    /// Returns the homes that are to be looked at now, with their tokens, the longest due first,
    /// and forgets homes that are gone.
    fn due(&self, homes: &[Arc<AgentHome>]) -> Vec<(Arc<AgentHome>, String)> {
        let (mut known, now) = (self.known(), Instant::now());
        let keys: HashSet<String> = homes.iter().map(|home| key(home)).collect();
        known.retain(|key, _| keys.contains(key));
        let of = |home: &Arc<AgentHome>| {
            let look = known.get(&key(home)).filter(|look| look.uid == home.metadata.uid)?;
            let is_due = look.due <= now && !look.is_asked && !is_idle(home);
            Some((look.due, Arc::clone(home), look.token.clone().filter(|_| is_due)?))
        };
        let mut due: Vec<_> = homes.iter().filter_map(of).collect();
        due.sort_by_key(|(due, ..)| *due);
        due.into_iter().map(|(_, home, token)| (home, token)).collect()
    }

    /// Notes that a look at a home begins. Returns whether it may: another home may have its
    /// name by now.
    fn begin(&self, home: &AgentHome) -> bool {
        let mut known = self.known();
        let look = known.get_mut(&key(home)).filter(|look| look.uid == home.metadata.uid);
        look.map(|look| (look.is_asked, look.has_changed) = (true, false)).is_some()
    }

    /// Looks at a home. Returns whether its status says something else.
    async fn look(&self, client: Client, home: &AgentHome, token: &str, every: Duration) -> bool {
        let before = self.facts(home).or_else(|| GatewayFacts::of(home.status.as_ref()));
        let told = match ask(client, home, token, before.as_ref()).await {
            Ok(told) => told,
            Err(error) => {
                say(&error);
                OperatorCounts::add(&self.counts.unanswered);
                self.again(home, every);
                return false;
            }
        };
        OperatorCounts::add(if told.is_ok() { &self.counts.answered } else { &self.counts.unanswered });
        let mut known = self.known();
        let Some(look) = known.get_mut(&key(home)).filter(|look| look.uid == home.metadata.uid) else {
            return false;
        };
        let (facts, misses, wait) = judged(home, before, look.misses, told, every);
        let is_news = GatewayFacts::of(home.status.as_ref()).as_ref() != Some(&facts);
        (look.misses, look.facts, look.is_asked) = (misses, Some(facts), false);
        look.looked = Some(Instant::now());
        look.due = Instant::now() + if look.has_changed { wait.min(AGAIN) } else { wait };
        is_news
    }

    fn again(&self, home: &AgentHome, wait: Duration) {
        if let Some(look) = self.known().get_mut(&key(home)).filter(|look| look.uid == home.metadata.uid) {
            (look.due, look.is_asked) = (Instant::now() + wait, false);
        }
    }
}

/// Returns whether no pod of a home is asked.
fn is_idle(home: &AgentHome) -> bool {
    home.spec.suspend || home.metadata.deletion_timestamp.is_some()
}

/// Returns the time between two looks at one of so many homes.
fn every(homes: usize) -> Duration {
    let homes = u32::try_from(homes).unwrap_or(u32::MAX);
    EVERY.max(Duration::from_secs(1).saturating_mul(homes) / EACH_SECOND)
}

/// What a look has found out: the facts, or why nobody knows.
type LookResult = Result<GatewayFacts, Unknown>;

/// Returns the facts after a look, how many looks in a row have found a pod that did not answer,
/// and the time until the next one. A pod that does not answer once is only slow, or has only just
/// begun.
fn judged(
    home: &AgentHome,
    before: Option<GatewayFacts>,
    misses: u32,
    told: LookResult,
    every: Duration,
) -> (GatewayFacts, u32, Duration) {
    let why = match told {
        Ok(facts) => return (facts, 0, every),
        Err(why) => why,
    };
    if why != Unknown::Silent {
        return (GatewayFacts::unknown(home, before.as_ref(), why), 0, every);
    }
    let misses = misses.saturating_add(1);
    let wait = AGAIN.saturating_mul(1 << (misses - 1).min(10)).min(AGAIN_MOST.max(every));
    let facts = match before {
        Some(before) if misses <= FORGIVEN => before,
        before => GatewayFacts::unknown(home, before.as_ref(), why),
    };
    (facts, misses, wait)
}

/// Asks the pod of a home.
async fn ask(
    client: Client,
    home: &AgentHome,
    token: &str,
    before: Option<&GatewayFacts>,
) -> Result<LookResult, PodReadError> {
    let (name, namespace) = (home.name_any(), home.namespace().unwrap_or_default());
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let pod = answer_within(READ_WITHIN, pods.get_opt(&format!("{name}-0"))).await;
    let pod = pod.map_err(|source| PodReadError { home: key(home), source })?;
    let ip = match address(&name, pod.as_ref(), Timestamp::now()) {
        Ok(ip) => ip,
        Err(why) => return Ok(Err(why)),
    };
    let at = SocketAddr::new(ip, PAGE_PORT);
    let told = |answer: &Value| GatewayFacts::told(answer, before, Timestamp::now());
    let mut facts = match pod_api::get(at, token, "/api/v1/gateways", TOLD_WITHIN, told).await {
        Ok(facts) => facts,
        Err(why) => return Ok(Err(why)),
    };
    let (mut explained, until) = (Vec::new(), Instant::now() + CAUSES_WITHIN);
    for name in facts.unexplained(before) {
        // A name has no characters that mean something in a path.
        let path = format!("/api/v1/gateways/{name}/explain");
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        if let Ok(cause) = pod_api::get(at, token, &path, left, cause).await {
            explained.push((name, cause));
        }
    }
    facts.explain(&explained, before);
    Ok(Ok(facts))
}

/// Why the pod of a home could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the pod of `{home}`")]
struct PodReadError {
    home: String,
    #[source]
    source: ServerAnswer,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn home() -> AgentHome {
        AgentHome::new("coder", serde_json::from_value(json!({"image": "i"})).unwrap())
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn one_look_without_an_answer_is_forgiven_and_the_next_ones_are_told_and_rarer() {
        let home = home();
        let known = GatewayFacts::told(
            &json!({"gateways": [{"profile": "a", "state": "ready"}]}),
            None,
            Timestamp::now(),
        );
        let known = known.unwrap();
        let silent = |before: &GatewayFacts, misses| {
            judged(&home, Some(before.clone()), misses, Err(Unknown::Silent), seconds(15))
        };
        let (facts, misses, wait) = silent(&known, 0);
        assert_eq!((&facts, misses, wait), (&known, 1, seconds(5)));
        let (facts, misses, wait) = silent(&facts, misses);
        assert_eq!((facts.unknown, misses, wait), (Some(Unknown::Silent), 2, seconds(10)));
        assert_eq!((&*facts.profiles[0].name, &*facts.profiles[0].state), ("a", "Unknown"));
        let (facts, misses, wait) = silent(&facts, 1000);
        assert_eq!((facts.unknown, misses, wait), (Some(Unknown::Silent), 1001, seconds(60)));
        let rare = judged(&home, Some(facts.clone()), misses, Err(Unknown::Silent), seconds(200));
        assert_eq!(rare.2, seconds(200), "a silent pod is asked no more often than others");
        let (facts, misses, wait) = judged(&home, Some(facts), misses, Ok(known.clone()), seconds(15));
        assert_eq!((facts, misses, wait), (known, 0, seconds(15)));
    }

    #[test]
    fn a_pod_that_is_gone_is_told_at_once() {
        let known = GatewayFacts::default();
        let (facts, ..) = judged(&home(), Some(known), 0, Err(Unknown::Missing), seconds(15));
        assert_eq!(facts.unknown, Some(Unknown::Missing));
    }

    #[test]
    fn with_many_homes_each_is_looked_at_less_often() {
        for (homes, wait) in [(0, 15), (750, 15), (1000, 20), (10_000, 200)] {
            assert_eq!(every(homes), seconds(wait), "{homes}");
        }
    }

    #[test]
    fn a_home_is_due_once_it_has_a_token_and_not_while_it_is_suspended() {
        let looks = Looks::default();
        let mut changed = home();
        changed.metadata.namespace = Some("agents".to_owned());
        let due = |home: &AgentHome| looks.due(&[Arc::new(home.clone())]).len();
        assert_eq!(due(&changed), 0);
        looks.note(&changed, None, String::new(), false);
        assert_eq!(due(&changed), 0, "there is no token");
        looks.note(&changed, Some("t".to_owned()), String::new(), false);
        assert_eq!(due(&changed), 1);
        looks.again(&changed, seconds(1000));
        assert_eq!(due(&changed), 0);
        looks.note(&changed, Some("t".to_owned()), String::new(), false);
        assert_eq!(due(&changed), 0);
        looks.note(&changed, Some("t".to_owned()), String::new(), true);
        assert_eq!(due(&changed), 1, "its objects have changed");
        looks.again(&changed, seconds(1000));
        looks.note(&changed, Some("t".to_owned()), "1 1".to_owned(), false);
        assert_eq!(due(&changed), 1, "its pod has changed");
        looks.again(&changed, seconds(1000));
        looks.note(&changed, Some("t".to_owned()), "1 1".to_owned(), false);
        assert_eq!(due(&changed), 0, "only its status has changed");
        looks.again(&changed, seconds(1000));
        looks.known().get_mut(&key(&changed)).unwrap().looked = Some(Instant::now() + seconds(500));
        looks.note(&changed, Some("t".to_owned()), String::new(), true);
        assert_eq!(due(&changed), 0, "it was looked at only now");
        changed.spec.suspend = true;
        assert_eq!(due(&changed), 0);
        assert!(looks.due(&[]).is_empty());
        assert!(looks.known().is_empty(), "it is gone");
    }

    #[test]
    fn a_look_at_a_home_that_was_replaced_does_not_concern_the_new_one() {
        let looks = Looks::default();
        let [old, new] = ["1", "2"].map(|uid| {
            let mut home = home();
            home.metadata.uid = Some(uid.to_owned());
            home
        });
        let due = |home: &AgentHome| looks.due(&[Arc::new(home.clone())]).len();
        looks.note(&old, Some("t".to_owned()), String::new(), false);
        assert_eq!(due(&old), 1);
        looks.note(&new, Some("t".to_owned()), String::new(), false);
        assert!(!looks.begin(&old), "another home has its name");
        looks.again(&old, seconds(1000));
        assert_eq!((due(&old), due(&new)), (0, 1));
        assert!(looks.begin(&new));
        assert_eq!(due(&new), 0, "it is being looked at");
    }
}
