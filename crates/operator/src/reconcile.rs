//! The loop that makes the objects in the cluster match the homes.
//!
//! *Lives here:* watching, reading and writing. *Does not live here:* what to write (`plan`).
//!
//! Nothing but the homes is kept in memory. A change of an object only tells which home owns it.
//! The objects of that home are then read.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use gatevisor_term::stream;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions};
use kube::core::{ApiResource, GroupVersionKind, PartialObjectMeta};
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher;
use kube::{Client, Resource};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use serde_json::{Value, json};

use crate::api::{AgentHome, key};
use crate::backoff;
use crate::health::OperatorCounts;
use crate::looks::Looks;
use crate::plan::{
    BudgetVersion, Cluster, HomeNews, HomeReport, Kind, LiveObjects, MANAGER, Plan, may_be_stuck, plan,
    pod_state, pods_of, report, stuck, token_of_home,
};
use crate::told::{ServerAnswer, answer, say};

/// The longest time between two looks at a home, even if no change was reported.
const AT_LEAST: Duration = Duration::from_mins(10);
/// How many homes are reconciled at once.
const AT_A_TIME: u16 = 16;
/// How many homes whose facts have changed may wait for their reconciliation.
const CHANGED: usize = 1024;
/// The most bytes of an event's note. An API server refuses more than 1024.
const NOTE_BYTES: usize = 1000;
/// The random bytes of a token.
const TOKEN_BYTES: usize = 32;

/// The pause of all watches after an error of one of them.
///
/// The pause of kube itself doubles with each error, up to 30 s. A restart of the API server is an
/// error of every watch. So after two restarts, the operator would see no change for minutes.
struct WatchPause;

impl Iterator for WatchPause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(500))
    }
}

impl Backoff for WatchPause {
    fn reset(&mut self) {
        // The pause is constant, so there is nothing to reset.
    }
}

/// Why a home could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum OneHomeError {
    /// The API server refused a read.
    #[error("cannot read the {what} of `{home}`")]
    Read {
        home: String,
        /// The kind of object.
        what: &'static str,
        #[source]
        source: ServerAnswer,
    },
    /// The API server refused a write.
    #[error("cannot write the {what} of `{home}`")]
    Write {
        home: String,
        /// The kind of object.
        what: &'static str,
        #[source]
        source: ServerAnswer,
    },
    /// The system has no random bytes.
    #[error("cannot make a token for `{home}`")]
    Token {
        home: String,
        #[source]
        source: Errno,
    },
}

impl OneHomeError {
    /// Returns the object and the reason, if the API server refused a write.
    fn refusal(&self) -> Option<String> {
        match self {
            Self::Write { what, source, .. } => Some(format!("{what}: {}", source.refusal()?)),
            Self::Read { .. } | Self::Token { .. } => None,
        }
    }
}

/// What the reconciliations of all homes share.
struct Context {
    client: Client,
    budget: BudgetVersion,
    /// The namespace of the operator.
    namespace: String,
    recorder: Recorder,
    looks: Looks,
    counts: Arc<OperatorCounts>,
    /// The number of failures in a row of each home.
    failures: Mutex<HashMap<String, u32>>,
}

/// Reconciles all homes until it is dropped.
pub async fn run(
    client: Client,
    us: String,
    namespace: String,
    counts: Arc<OperatorCounts>,
) -> Result<(), ServerAnswer> {
    let budget = answer(budget_version(&client)).await?;
    let reporter = Reporter { controller: MANAGER.to_owned(), instance: Some(us) };
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        client: client.clone(),
        budget,
        namespace,
        looks: Looks::new(Arc::clone(&counts)),
        counts,
        failures: Mutex::default(),
    });
    let ours = || watcher::Config::default().labels(&format!("app.kubernetes.io/managed-by={MANAGER}"));
    let all = |kind| dynamic(&client, None, kind, budget);
    let (budgets, resource) = all(Kind::PodDisruptionBudget);
    let (changed, has_changed) = mpsc::channel(CHANGED);
    let controller = Controller::new(Api::<AgentHome>::all(client.clone()), watcher::Config::default());
    let (looks, homes) = (Arc::clone(&context), controller.store());
    let reconciled = controller
        .owns::<PartialObjectMeta<StatefulSet>>(Api::all(client.clone()), ours())
        .owns::<PartialObjectMeta<Service>>(Api::all(client.clone()), ours())
        .owns::<PartialObjectMeta<ServiceAccount>>(Api::all(client.clone()), ours())
        .owns::<PartialObjectMeta<NetworkPolicy>>(Api::all(client.clone()), ours())
        .owns::<PartialObjectMeta<ConfigMap>>(Api::all(client.clone()), ours())
        .owns_with(budgets, resource, ours())
        .reconcile_on(has_changed)
        .trigger_backoff(WatchPause)
        .with_config(controller::Config::default().concurrency(AT_A_TIME))
        .run(reconcile, failed, context)
        .for_each(|done| async move {
            // Errors of reconciliations are printed where they occur. The others are errors of the
            // watches. The text of kube's error includes its causes.
            if let Err(error @ controller::Error::QueueError(_)) = done {
                stream::say(error);
            }
        });
    tokio::select! {
        () = reconciled => Ok(()),
        never = looks.looks.run(client, homes, changed) => match never {},
    }
}

/// Returns the version of disruption budgets that the API server has.
async fn budget_version(client: &Client) -> Result<BudgetVersion, kube::Error> {
    let groups = client.list_api_groups().await?.groups;
    let policy = groups.into_iter().find(|group| group.name == "policy");
    let is_v1 = policy.is_some_and(|group| group.versions.iter().any(|version| version.version == "v1"));
    Ok(if is_v1 { BudgetVersion::V1 } else { BudgetVersion::V1Beta1 })
}

fn dynamic(
    client: &Client,
    namespace: Option<&str>,
    kind: Kind,
    budget: BudgetVersion,
) -> (Api<DynamicObject>, ApiResource) {
    let (group, version, name, plural) = kind.resource(budget);
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, name), plural);
    let api = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    (api, resource)
}

async fn reconcile(home: Arc<AgentHome>, context: Arc<Context>) -> Result<Action, OneHomeError> {
    let one = OneHome { home: &home, context: &context };
    let mut observed = one.observe().await?;
    let new_token = new_token().map_err(|source| OneHomeError::Token { home: key(&home), source })?;
    let cluster = Cluster { budget: context.budget, namespace: context.namespace.clone(), new_token };
    let plan = plan(&home, &observed, &cluster);
    let has_changed = plan.has_objects();
    let written = one.write(&plan, &mut observed).await;
    let refused = written.as_ref().err().and_then(OneHomeError::refusal);
    // A refused write is part of the status of the home. A write that could not be tried is not.
    let mut report = if written.is_err() && refused.is_none() {
        HomeReport::default()
    } else {
        let facts = context.looks.facts(&home);
        report(&home, &observed, plan, refused.as_deref(), facts.as_ref(), Timestamp::now())
    };
    let replaced = one.replace_stuck(&observed).await;
    report.news.extend(replaced.as_ref().ok().cloned().flatten());
    // Not the status: what a look has found out would bring the next look.
    let state = pod_state(&home, &observed);
    context.looks.note(&home, token_of_home(&home, &observed), state, has_changed);
    let told = one.tell(&report).await;
    for done in [written, told, replaced.map(drop)] {
        match done {
            // The home will be deleted with its namespace, and is reconciled then.
            Err(OneHomeError::Write { source, .. }) if source.is_of_ending_namespace() => {}
            done => done?,
        }
    }
    context.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(&home));
    OperatorCounts::add(&context.counts.reconciled);
    Ok(Action::requeue(report.look_again.unwrap_or(AT_LEAST).min(AT_LEAST)))
}

/// Returns the wait after a failure of a home.
#[expect(clippy::needless_pass_by_value, reason = "the controller calls it so")]
fn failed(home: Arc<AgentHome>, error: &OneHomeError, context: Arc<Context>) -> Action {
    OperatorCounts::add(&context.counts.failed);
    let mut failures = context.failures.lock().unwrap_or_else(PoisonError::into_inner);
    let count = failures.entry(key(&home)).or_default();
    *count = count.saturating_add(1);
    let mut hasher = DefaultHasher::new();
    key(&home).hash(&mut hasher);
    let wait = backoff::after(*count, hasher.finish() ^ u64::from(*count));
    say(error);
    Action::requeue(wait)
}

/// Returns a token that nobody can guess.
fn new_token() -> Result<String, Errno> {
    let mut bytes = [0; TOKEN_BYTES];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match getrandom(rest, GetRandomFlags::empty()) {
            Ok(more) => filled += more,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// A home that is being reconciled.
struct OneHome<'c> {
    home: &'c AgentHome,
    context: &'c Context,
}

impl OneHome<'_> {
    fn namespace(&self) -> &str {
        self.home.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.home.metadata.name.as_deref().unwrap_or_default()
    }

    fn homes(&self) -> Api<AgentHome> {
        Api::namespaced(self.context.client.clone(), self.namespace())
    }

    fn objects(&self, kind: Kind) -> Api<DynamicObject> {
        dynamic(&self.context.client, Some(self.namespace()), kind, self.context.budget).0
    }

    fn object_name(&self, kind: Kind) -> String {
        kind.object_name(self.name())
    }

    fn what(&self, kind: Kind) -> &'static str {
        kind.resource(self.context.budget).2
    }

    fn read(&self, what: &'static str) -> impl FnOnce(ServerAnswer) -> OneHomeError {
        let home = key(self.home);
        move |source| OneHomeError::Read { home, what, source }
    }

    fn written(&self, what: &'static str) -> impl FnOnce(ServerAnswer) -> OneHomeError {
        let home = key(self.home);
        move |source| OneHomeError::Write { home, what, source }
    }

    async fn observe(&self) -> Result<LiveObjects, OneHomeError> {
        let mut observed = LiveObjects::default();
        for kind in Kind::ALL {
            let what = self.what(kind);
            let object =
                answer(self.objects(kind).get_opt(&self.object_name(kind))).await.map_err(self.read(what))?;
            if let Some(object) = object {
                observed.set(kind, value(object).map_err(self.read(what))?);
            }
        }
        if self.home.spec.suspend || self.home.metadata.deletion_timestamp.is_some() {
            let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), self.namespace());
            let name = self.name();
            let labelled = ListParams::default()
                .labels(&format!("app.kubernetes.io/name=agent-home,app.kubernetes.io/instance={name}"));
            let found = answer(pods.list_metadata(&labelled)).await.map_err(self.read("pods"))?;
            let found: Vec<ObjectMeta> = found.items.into_iter().map(|pod| pod.metadata).collect();
            observed.pods = pods_of(self.home, observed.get(Kind::StatefulSet), &found);
        }
        Ok(observed)
    }

    /// Writes a plan, and notes in `observed` what the API server has after that.
    async fn write(&self, plan: &Plan, observed: &mut LiveObjects) -> Result<(), OneHomeError> {
        let apply = PatchParams::apply(MANAGER).force();
        if let Some(finalizers) = &plan.finalizers {
            // The version makes the write fail if somebody else has changed the list since.
            let patch = json!({"metadata": {
                "finalizers": finalizers,
                "resourceVersion": self.home.metadata.resource_version,
            }});
            let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            match answer(self.homes().patch(self.name(), &params, &Patch::Merge(&patch))).await {
                Ok(_) => {}
                // A home without finalizers may be gone by now.
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(self.written("finalizers")(error)),
            }
        }
        for (kind, object) in &plan.apply {
            let what = self.what(*kind);
            let objects = self.objects(*kind);
            let done = answer(objects.patch(&self.object_name(*kind), &apply, &Patch::Apply(object))).await;
            let written = done.map_err(self.written(what))?;
            observed.set(*kind, value(written).map_err(self.written(what))?);
        }
        for kind in &plan.delete {
            match answer(self.objects(*kind).delete(&self.object_name(*kind), &DeleteParams::default())).await
            {
                Err(error) if error.is_not_found() => {}
                done => drop(done.map_err(self.written(self.what(*kind)))?),
            }
        }
        Ok(())
    }

    /// Deletes the pod that its stateful set does not replace, if there is one, and returns the
    /// event about that.
    async fn replace_stuck(&self, observed: &LiveObjects) -> Result<Option<HomeNews>, OneHomeError> {
        let is_ending = self.home.metadata.deletion_timestamp.is_some();
        let set = observed.own(Kind::StatefulSet, self.home).filter(|set| !is_ending && may_be_stuck(set));
        let Some(set) = set else { return Ok(None) };
        let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), self.namespace());
        let name = format!("{}-0", self.name());
        let pod = answer(pods.get_opt(&name)).await.map_err(self.read("pod"))?;
        let Some(uid) = pod.and_then(|pod| stuck(set, &pod)) else { return Ok(None) };
        // Another pod may have the name by now.
        let only = Preconditions { uid: Some(uid), resource_version: None };
        let only = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
        match answer(pods.delete(&name, &only)).await {
            Ok(_) => Ok(Some(HomeNews {
                is_warning: false,
                reason: "Replacing".to_owned(),
                note: "the pod was made from a former description and is not ready, so it is deleted"
                    .to_owned(),
            })),
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(None),
            Err(error) => Err(self.written("pod")(error)),
        }
    }

    /// Writes the status, and makes the events.
    async fn tell(&self, report: &HomeReport) -> Result<(), OneHomeError> {
        if let Some(status) = &report.status {
            let patch: Value = json!({
                "apiVersion": AgentHome::api_version(&()),
                "kind": AgentHome::kind(&()),
                "status": status,
            });
            let apply = PatchParams::apply(MANAGER).force();
            match answer(self.homes().patch_status(self.name(), &apply, &Patch::Apply(&patch))).await {
                Ok(_) => {}
                // Without its last finalizer, the home is gone.
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(self.written("status")(error)),
            }
        }
        for news in &report.news {
            self.publish(news).await;
        }
        Ok(())
    }

    /// Makes an event. If that fails, nothing is done again because of it.
    async fn publish(&self, news: &HomeNews) {
        let event = Event {
            type_: if news.is_warning { EventType::Warning } else { EventType::Normal },
            reason: news.reason.clone(),
            note: news.note.get(..news.note.floor_char_boundary(NOTE_BYTES)).map(str::to_owned),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let home = self.home.object_ref(&());
        let Err(error) = answer(self.context.recorder.publish(&event, &home)).await else { return };
        let error = self.written("event")(error);
        if !matches!(&error, OneHomeError::Write { source, .. } if source.is_of_ending_namespace()) {
            say(&error);
        }
    }
}

/// Returns an object in the form that the plan takes.
fn value(object: DynamicObject) -> Result<Value, ServerAnswer> {
    serde_json::to_value(object).map_err(|error| kube::Error::SerdeError(error).into())
}
