//! Homes before an API server that stores what is applied, adds defaults, and runs stateful sets.

use std::sync::atomic::{AtomicU32, Ordering};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::{AgentHomeSpec, Drift, HomeProfile, ProfileState};

/// What an API server and the controller of stateful sets do.
struct Server {
    home: AgentHome,
    observed: LiveObjects,
    budget: BudgetVersion,
    /// What the pod tells, if it was asked.
    facts: Option<GatewayFacts>,
    now: Timestamp,
    /// What was written, one word each.
    writes: Vec<String>,
    said: Vec<String>,
    is_gone: bool,
    /// What it says to each write of the stateful set instead of obeying.
    refuses: Option<&'static str>,
    /// A write of the stateful set changes nothing that its controller looks at.
    keeps_generation: bool,
}

fn spec(value: Value) -> AgentHomeSpec {
    serde_json::from_value(value).unwrap()
}

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// Each plan offers another token, as the operator does.
fn cluster(budget: BudgetVersion) -> Cluster {
    static TOKENS: AtomicU32 = AtomicU32::new(0);
    let new_token = format!("0123456789abcdef{}", TOKENS.fetch_add(1, Ordering::Relaxed));
    Cluster { budget, namespace: "gatevisor-system".to_owned(), new_token }
}

impl Server {
    fn new(spec: AgentHomeSpec) -> Self {
        let mut home = AgentHome::new("coder", spec);
        home.metadata.namespace = Some("agents".to_owned());
        home.metadata.uid = Some("7".to_owned());
        home.metadata.generation = Some(1);
        Self {
            home,
            observed: LiveObjects::default(),
            budget: BudgetVersion::V1,
            facts: None,
            now: start(),
            writes: Vec::new(),
            said: Vec::new(),
            is_gone: false,
            refuses: None,
            keeps_generation: false,
        }
    }

    fn with(value: Value) -> Self {
        Self::new(spec(value))
    }

    /// Changes the home as a person does.
    fn change(&mut self, change: impl FnOnce(&mut AgentHomeSpec)) {
        let before = self.home.spec.clone();
        change(&mut self.home.spec);
        if self.home.spec != before {
            *self.home.metadata.generation.as_mut().unwrap() += 1;
        }
    }

    fn delete(&mut self) {
        self.home.metadata.deletion_timestamp = Some(Time(self.now));
        self.is_gone = self.home.metadata.finalizers.is_none();
    }

    fn pass(&mut self, seconds: i64) {
        self.now += jiff::SignedDuration::from_secs(seconds);
    }

    /// Plans and writes once; returns what was written.
    fn reconcile(&mut self) -> Vec<String> {
        let plan = plan(&self.home, &self.observed, &cluster(self.budget));
        self.writes.clear();
        let refused = self.write(&plan);
        let report = report(&self.home, &self.observed, plan, refused, self.facts.as_ref(), self.now);
        if let Some(status) = report.status {
            self.writes.push("status".to_owned());
            self.home.status = Some(status);
        }
        self.said.extend(report.news.into_iter().map(|news| news.reason));
        self.writes.clone()
    }

    /// Does what is planned, as far as it is not refused.
    fn write(&mut self, plan: &Plan) -> Option<&'static str> {
        if let Some(finalizers) = plan.finalizers.clone() {
            self.writes.push("finalizers".to_owned());
            self.is_gone = self.home.metadata.deletion_timestamp.is_some() && finalizers.is_empty();
            self.home.metadata.finalizers = Some(finalizers);
        }
        for (kind, object) in plan.apply.clone() {
            if kind == Kind::StatefulSet && self.refuses.is_some() {
                return self.refuses;
            }
            self.writes.push(format!("{kind:?}"));
            self.store(kind, object);
        }
        for kind in plan.delete.clone() {
            self.writes.push(format!("-{kind:?}"));
            self.observed.objects.retain(|(other, _)| *other != kind);
        }
        None
    }

    fn store(&mut self, kind: Kind, mut object: Value) {
        let old = self.observed.get(kind).cloned();
        let generation =
            old.as_ref().and_then(|old| old.pointer("/metadata/generation")?.as_i64()).unwrap_or(0);
        object["metadata"]["generation"] = json!(generation + i64::from(!self.keeps_generation));
        object["metadata"]["resourceVersion"] = json!("1");
        if kind == Kind::StatefulSet {
            assert!(
                old.as_ref().is_none_or(
                    |old| old["spec"]["volumeClaimTemplates"] == object["spec"]["volumeClaimTemplates"]
                ),
                "an API server refuses that"
            );
            object["spec"]["updateStrategy"] = json!({"type": "RollingUpdate"});
            object["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
            object["status"] = old.map_or(json!({}), |old| old["status"].clone());
        }
        self.observed.set(kind, object);
    }

    /// The controller of stateful sets has done what the set says, and the pod is (not) ready.
    fn pods_settle(&mut self, is_ready: bool) {
        let Some((_, set)) = self.observed.objects.iter_mut().find(|(kind, _)| *kind == Kind::StatefulSet)
        else {
            return;
        };
        let replicas = set["spec"]["replicas"].as_i64().unwrap();
        let revision = set["spec"]["template"].to_string();
        set["status"] = json!({
            "observedGeneration": set["metadata"]["generation"],
            "replicas": replicas,
            "readyReplicas": if is_ready { replicas } else { 0 },
            "currentRevision": revision,
            "updateRevision": revision,
        });
        let is_counted = self.home.spec.suspend || self.home.metadata.deletion_timestamp.is_some();
        self.observed.pods = if is_counted { usize::try_from(replicas).unwrap() } else { 0 };
    }

    fn condition(&self, kind: &str) -> (bool, &str) {
        let conditions = &self.home.status.as_ref().unwrap().conditions;
        let condition = conditions.iter().find(|condition| condition.type_ == kind).unwrap();
        (condition.status == "True", &condition.reason)
    }

    fn settle(&mut self, is_ready: bool) {
        self.reconcile();
        self.pods_settle(is_ready);
        self.reconcile();
    }

    fn object(&self, kind: Kind) -> &Value {
        self.observed.get(kind).unwrap()
    }
}

const ALL: [&str; 9] = [
    "finalizers",
    "ServiceAccount",
    "Service",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "ConfigMap",
    "Secret",
    "StatefulSet",
    "status",
];

#[test]
fn a_new_home_gets_all_its_objects_and_then_nothing_is_written() {
    let mut server = Server::with(json!({"image": "gatevisor:1"}));
    assert_eq!(server.reconcile(), ALL);
    assert_eq!(server.condition("Ready"), (false, "NotReady"));
    assert_eq!(server.condition("Progressing"), (true, "RollingOut"));
    assert_eq!(server.reconcile(), [""; 0]);
    server.pods_settle(true);
    assert_eq!(server.reconcile(), ["status"]);
    assert_eq!(server.condition("Ready"), (true, "AllGatewaysRun"));
    assert_eq!(server.condition("Progressing"), (false, "Settled"));
    assert_eq!(server.condition("Degraded"), (false, "AsExpected"));
    server.pass(86_400);
    assert_eq!(server.reconcile(), [""; 0]);
}

#[test]
fn a_changed_image_writes_the_stateful_set_alone() {
    let mut server = Server::with(json!({"image": "gatevisor:1"}));
    server.settle(true);
    server.change(|spec| spec.image = "gatevisor:2".to_owned());
    assert_eq!(server.reconcile(), ["StatefulSet", "status"]);
    assert_eq!(server.condition("Ready"), (false, "NotReady"));
    assert_eq!(server.condition("Progressing"), (true, "RollingOut"));
    server.pods_settle(true);
    assert_eq!(server.reconcile(), ["status"]);
    assert_eq!(server.home.status.as_ref().unwrap().observed_generation, Some(2));
}

#[test]
fn changed_profiles_write_the_config_map_alone_and_name_the_generation_that_declared_them() {
    let mut server = Server::with(json!({"image": "gatevisor:1", "profiles": [{"name": "coder"}]}));
    server.settle(true);
    let text = |server: &Server| {
        server.object(Kind::ConfigMap)["data"]["profiles.toml"].as_str().unwrap().to_owned()
    };
    let declared = "\n[[profile]]\nname = \"coder\"\ndesired = \"running\"\ndrift = \"revert\"\n";
    assert_eq!(text(&server), format!("set-by = \"AgentHome coder generation 1\"\n{declared}"));
    assert_eq!(server.object(Kind::ConfigMap)["metadata"]["name"], "coder-profiles");
    server.change(|spec| spec.image = "gatevisor:2".to_owned());
    assert_eq!(server.reconcile(), ["StatefulSet", "status"], "the same profiles are declared");
    server.pods_settle(true);
    server.reconcile();
    server.change(|spec| spec.profiles[0].desired = ProfileState::Stopped);
    assert_eq!(server.reconcile(), ["ConfigMap", "status"], "no pod is replaced");
    assert!(text(&server).starts_with("set-by = \"AgentHome coder generation 3\"\n"), "{}", text(&server));
    assert!(text(&server).contains("desired = \"stopped\""), "{}", text(&server));
    assert_eq!(server.reconcile(), [""; 0]);
    server.change(|spec| spec.profiles.clear());
    assert_eq!(server.reconcile(), ["ConfigMap", "status"]);
    assert_eq!(text(&server), "set-by = \"AgentHome coder generation 4\"\n", "nothing is declared");
    let set = server.observed.objects.iter_mut().find(|(kind, _)| *kind == Kind::ConfigMap).unwrap();
    set.1["data"]["profiles.toml"] = json!("set-by = \"somebody generation 4\"\n");
    assert_eq!(server.reconcile(), ["ConfigMap"], "what somebody changes is put back");
}

#[test]
fn a_suspended_home_has_no_pod_and_keeps_all_else() {
    let mut server = Server::with(json!({"image": "gatevisor:1"}));
    server.settle(true);
    server.change(|spec| spec.suspend = true);
    server.observed.pods = 1;
    assert_eq!(server.reconcile(), ["StatefulSet", "status"]);
    assert_eq!(server.condition("Suspended"), (false, "Stopping"));
    server.pods_settle(true);
    assert_eq!(server.reconcile(), ["status"]);
    assert_eq!(server.condition("Suspended"), (true, "Suspended"));
    assert_eq!(server.condition("Ready"), (false, "Suspended"));
    assert_eq!(server.observed.objects.len(), 7);
    server.change(|spec| spec.suspend = false);
    server.settle(true);
    assert_eq!(server.condition("Ready"), (true, "AllGatewaysRun"));
}

#[test]
fn a_deleted_home_waits_until_its_pod_has_ended() {
    let mut server = Server::with(json!({"image": "gatevisor:1"}));
    server.settle(true);
    server.delete();
    server.observed.pods = 1;
    assert_eq!(server.reconcile(), ["StatefulSet"]);
    assert_eq!(server.object(Kind::StatefulSet)["spec"]["replicas"], json!(0));
    assert_eq!(
        server.object(Kind::StatefulSet)["spec"]["template"]["spec"]["containers"][0]["image"],
        "gatevisor:1"
    );
    assert_eq!(server.reconcile(), [""; 0]);
    assert!(!server.is_gone);
    server.observed.pods = 0;
    assert_eq!(server.reconcile(), ["finalizers"]);
    assert!(server.is_gone);
    assert_eq!(server.said.last().unwrap(), "Draining");
}

#[test]
fn the_finalizers_of_others_stay() {
    let mut server = Server::with(json!({"image": "gatevisor:1"}));
    server.home.metadata.finalizers = Some(vec!["others/one".to_owned()]);
    server.settle(true);
    assert_eq!(server.home.metadata.finalizers.as_ref().unwrap(), &["others/one", FINALIZER]);
    server.delete();
    server.settle(true);
    server.observed.pods = 0;
    server.reconcile();
    assert_eq!(server.home.metadata.finalizers.as_ref().unwrap(), &["others/one"]);
    assert!(!server.is_gone);
    assert_eq!(server.reconcile(), [""; 0]);
}

#[test]
fn a_changed_storage_is_told_and_the_rest_is_written() {
    let mut server = Server::with(json!({"image": "gatevisor:1"}));
    server.settle(true);
    for change in [json!({"size": "20Gi"}), json!({"existingClaim": "mine"}), json!({"className": "fast"})] {
        server.change(|spec| {
            spec.storage = serde_json::from_value(change.clone()).unwrap();
            spec.image.push('2');
        });
        assert_eq!(server.reconcile(), ["StatefulSet", "status"], "{change}");
        assert_eq!(server.condition("Degraded"), (true, "StorageCannotChange"), "{change}");
        assert_eq!(server.reconcile(), [""; 0], "{change}");
    }
    server.change(|spec| spec.storage = crate::api::Storage::default());
    server.settle(true);
    assert_eq!(server.condition("Degraded"), (false, "AsExpected"));
}

#[test]
fn an_object_of_somebody_else_is_left_alone() {
    let mut server = Server::with(json!({"image": "gatevisor:1"}));
    let theirs = json!({"metadata": {"name": "coder"}, "spec": {"clusterIP": "10.0.0.1"}});
    server.observed.objects.push((Kind::Service, theirs.clone()));
    assert_eq!(server.reconcile(), ["finalizers", "status"]);
    assert_eq!(server.condition("Degraded"), (true, "NameTaken"));
    assert_eq!(server.object(Kind::Service), &theirs);
    server.delete();
    server.reconcile();
    assert!(server.is_gone);
}

#[test]
fn a_stateful_set_of_somebody_else_says_nothing_about_the_home() {
    let mut server = Server::with(json!({"image": "gatevisor:1"}));
    let theirs = json!({
        "metadata": {"name": "coder", "uid": "8", "generation": 1},
        "spec": {"replicas": 1},
        "status": {"observedGeneration": 1, "replicas": 1, "readyReplicas": 1},
    });
    server.observed.objects.push((Kind::StatefulSet, theirs));
    server.reconcile();
    assert_eq!(server.condition("Degraded"), (true, "NameTaken"));
    assert_eq!(server.condition("Ready"), (false, "NotReady"));
}

#[test]
fn what_the_api_server_refuses_is_told_once_with_its_words_until_it_is_accepted() {
    let mut server = Server::with(json!({"image": "gatevisor:1"}));
    server.settle(true);
    server.said.clear();
    server.change(|spec| spec.image = "gatevisor:2".to_owned());
    server.refuses = Some("statefulsets: exceeded quota");
    assert_eq!(server.reconcile(), ["status"]);
    assert_eq!(server.condition("Degraded"), (true, "Refused"));
    assert_eq!(server.condition("Progressing"), (false, "Refused"));
    assert_eq!(server.condition("Ready"), (true, "AllGatewaysRun"), "the pod of before runs");
    let conditions = &server.home.status.as_ref().unwrap().conditions;
    let degraded = conditions.iter().find(|condition| condition.type_ == "Degraded").unwrap();
    assert!(degraded.message.ends_with(": statefulsets: exceeded quota"), "{}", degraded.message);
    assert_eq!(server.reconcile(), [""; 0]);
    server.refuses = Some("statefulsets: denied by a policy");
    assert_eq!(server.reconcile(), ["status"]);
    assert_eq!(server.said, ["Refused"]);
    server.refuses = None;
    assert_eq!(server.reconcile(), ["StatefulSet", "status"]);
    assert_eq!(server.condition("Degraded"), (false, "AsExpected"));
    assert_eq!(server.condition("Progressing"), (true, "RollingOut"));
}

#[test]
fn a_deleted_home_whose_pod_may_not_be_ended_says_so() {
    let mut server = Server::with(json!({"image": "gatevisor:1"}));
    server.settle(true);
    server.said.clear();
    server.delete();
    server.refuses = Some("statefulsets: denied by a policy");
    assert_eq!(server.reconcile(), ["status"]);
    assert_eq!(server.condition("Degraded"), (true, "Refused"));
    assert_eq!(server.reconcile(), [""; 0]);
    assert_eq!(server.said, ["Refused"]);
    server.refuses = None;
    server.settle(true);
    server.reconcile();
    assert!(server.is_gone);
}

#[test]
fn a_write_that_changes_nothing_for_the_pod_does_not_roll_it_out() {
    let mut server = Server::with(json!({"image": "gatevisor:1"}));
    server.settle(true);
    server.keeps_generation = true;
    let set = server.observed.objects.iter_mut().find(|(kind, _)| *kind == Kind::StatefulSet).unwrap();
    set.1["metadata"]["labels"] = json!({});
    assert_eq!(server.reconcile(), ["StatefulSet"]);
    assert_eq!(server.condition("Ready"), (true, "AllGatewaysRun"));
    assert_eq!(server.condition("Progressing"), (false, "Settled"));
}

#[test]
fn only_the_pods_of_its_own_stateful_set_are_the_homes() {
    let server = Server::with(json!({"image": "gatevisor:1"}));
    let pod = |owner: Value| serde_json::from_value(json!({"ownerReferences": [owner]})).unwrap();
    let owner = |kind: &str, name: &str, uid: &str| json!({"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true});
    let pods = [
        pod(owner("StatefulSet", "coder", "set")),
        pod(owner("StatefulSet", "coder", "of-before")),
        pod(owner("StatefulSet", "other", "other")),
        pod(owner("Job", "coder", "job")),
        ObjectMeta::default(),
    ];
    let set = |owner: &str| json!({"metadata": {"uid": "set", "ownerReferences": [{"uid": owner}]}});
    let count = |set: Option<&Value>| pods_of(&server.home, set, &pods);
    assert_eq!(count(Some(&set("7"))), 1);
    assert_eq!(count(Some(&set("8"))), 0, "the set is somebody else's");
    assert_eq!(count(None), 2, "the set has gone, and its pods are ending");
}

#[test]
fn a_name_that_is_too_long_is_told_and_nothing_is_made() {
    let mut server = Server::with(json!({"image": "gatevisor:1"}));
    server.home.metadata.name = Some("c".repeat(NAME_MAX + 1));
    assert_eq!(server.reconcile(), ["finalizers", "status"]);
    assert_eq!(server.condition("Degraded"), (true, "NameTooLong"));
}

#[test]
fn a_pod_that_is_not_ready_for_ten_minutes_is_degraded_at_that_time() {
    let mut server = Server::with(json!({"image": "gatevisor:1"}));
    server.settle(false);
    server.pass(599);
    assert_eq!(server.reconcile(), [""; 0]);
    let unchanged = plan(&server.home, &server.observed, &cluster(server.budget));
    let report = report(&server.home, &server.observed, unchanged, None, None, server.now);
    let wait = report.look_again.unwrap();
    assert_eq!(wait, Duration::from_secs(2));
    server.pass(2);
    assert_eq!(server.reconcile(), ["status"]);
    assert_eq!(server.condition("Degraded"), (true, "NotReadyInTime"));
    server.pods_settle(true);
    assert_eq!(server.reconcile(), ["status"]);
    assert_eq!(server.condition("Degraded"), (false, "AsExpected"));
}

#[test]
fn a_network_policy_that_is_not_wanted_any_more_is_deleted() {
    let mut server = Server::with(json!({"image": "gatevisor:1"}));
    server.settle(true);
    server.change(|spec| spec.network.policy = crate::api::NetworkRule::None);
    assert_eq!(server.reconcile(), ["-NetworkPolicy", "status"]);
    assert_eq!(server.reconcile(), [""; 0]);
}

#[test]
fn what_somebody_changes_or_removes_is_put_back() {
    let mut server = Server::with(json!({"image": "gatevisor:1"}));
    server.settle(true);
    let set = server.observed.objects.iter_mut().find(|(kind, _)| *kind == Kind::StatefulSet).unwrap();
    set.1["spec"]["template"]["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] =
        json!(false);
    server.observed.objects.retain(|(kind, _)| *kind != Kind::Service);
    assert_eq!(server.reconcile(), ["Service", "StatefulSet", "status"]);
}

#[test]
fn each_thing_is_said_once() {
    let mut server = Server::with(json!({"image": "gatevisor:1"}));
    server.settle(false);
    server.reconcile();
    server.pods_settle(true);
    server.reconcile();
    server.reconcile();
    assert_eq!(server.said, ["NotReady", "AllGatewaysRun"]);
}

#[test]
fn the_budget_is_of_the_version_that_the_api_server_has() {
    for (budget, version) in [(BudgetVersion::V1, "policy/v1"), (BudgetVersion::V1Beta1, "policy/v1beta1")] {
        let mut server = Server::with(json!({"image": "gatevisor:1"}));
        server.budget = budget;
        server.reconcile();
        assert_eq!(server.object(Kind::PodDisruptionBudget)["apiVersion"], version);
    }
}

/// **Source:** Kubernetes, *Pod Security Standards*, Restricted.
#[test]
fn the_pod_keeps_the_rules_of_restricted_pods() {
    let mut server = Server::with(json!({"image": "gatevisor:1"}));
    server.reconcile();
    let pod = &server.object(Kind::StatefulSet)["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(pod["automountServiceAccountToken"], false);
    // A gateway that fails takes no sibling along.
    for probe in ["startupProbe", "livenessProbe"] {
        assert_eq!(container[probe]["exec"]["command"][2], "--supervisor", "{probe}");
    }
    assert_eq!(container["readinessProbe"]["exec"]["command"], json!(["/usr/local/bin/gatevisor", "health"]));
}

/// `scripts/deploy-test.sh kubernetes` checks the file against the schemas of several versions.
#[test]
fn the_objects_of_a_home_are_those_of_the_file() {
    let server = Server::with(json!({
        "image": "gatevisor:1",
        "environment": {"LEVEL": "1"},
        "environmentFromSecrets": ["keys"],
        "profiles": [{"name": "coder"}, {"name": "writer", "desired": "Stopped", "drift": "Report"}],
        "storage": {"size": "20Gi", "className": "fast"},
    }));
    let new_token = "0123456789abcdef".to_owned();
    let cluster = Cluster { new_token, ..cluster(BudgetVersion::V1) };
    let wanted = objects::wanted(&server.home, &|_| None, &cluster).objects;
    let text = crate::yaml::documents(&wanted.into_iter().map(|(_, object)| object).collect::<Vec<_>>());
    assert!(text == include_str!("home.yaml"), "write crates/operator/src/plan/home.yaml anew:\n{text}");
}

mod gateways;

/// What somebody or something does to a home.
#[derive(Debug, Clone)]
enum Act {
    Image(u8),
    Suspend(bool),
    Environment(String, String),
    Memory(u16),
    Size(u8),
    Policy(bool),
    Settle(bool),
    Pass(i64),
    Remove(usize),
    Profile(String, bool),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        any::<u8>().prop_map(Act::Image),
        any::<bool>().prop_map(Act::Suspend),
        ("[A-Z]{1,2}", "[a-z0-9]{0,2}").prop_map(|(name, value)| Act::Environment(name, value)),
        (1_u16..5000).prop_map(Act::Memory),
        (1_u8..4).prop_map(Act::Size),
        any::<bool>().prop_map(Act::Policy),
        any::<bool>().prop_map(Act::Settle),
        (0_i64..1000).prop_map(Act::Pass),
        (0_usize..7).prop_map(Act::Remove),
        ("[ab]", any::<bool>()).prop_map(|(name, runs)| Act::Profile(name, runs)),
    ]
}

impl Server {
    fn perform(&mut self, act: Act) {
        match act {
            Act::Image(number) => self.change(|spec| spec.image = format!("gatevisor:{number}")),
            Act::Suspend(suspend) => self.change(|spec| spec.suspend = suspend),
            Act::Environment(name, value) => self.change(|spec| {
                spec.environment.insert(name, value);
            }),
            Act::Memory(mebibytes) => self.change(|spec| {
                spec.resources.limits.insert("memory".to_owned(), format!("{mebibytes}Mi"));
            }),
            Act::Size(size) => self.change(|spec| spec.storage.size = format!("{size}Gi")),
            Act::Policy(is_none) => self.change(|spec| {
                spec.network.policy =
                    if is_none { crate::api::NetworkRule::None } else { crate::api::NetworkRule::Internet };
            }),
            Act::Settle(is_ready) => self.pods_settle(is_ready),
            Act::Pass(seconds) => self.pass(seconds),
            Act::Profile(name, runs) => self.change(|spec| {
                let desired = if runs { ProfileState::Running } else { ProfileState::Stopped };
                spec.profiles.retain(|profile| profile.name != name);
                spec.profiles.push(HomeProfile { name, desired, drift: Drift::Revert });
            }),
            Act::Remove(place) => {
                if place < self.observed.objects.len() {
                    self.observed.objects.remove(place);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn invariant_a_second_plan_of_an_unchanged_home_writes_nothing(acts in prop::collection::vec(act(), 1..30)) {
        let mut server = Server::with(json!({"image": "gatevisor:1"}));
        for act in acts {
            server.perform(act.clone());
            server.reconcile();
            prop_assert_eq!(server.reconcile(), [""; 0], "after {:?}", act);
        }
    }

    #[test]
    fn invariant_a_deleted_home_goes_whatever_was_before(acts in prop::collection::vec(act(), 0..30)) {
        let mut server = Server::with(json!({"image": "gatevisor:1"}));
        for act in acts {
            server.perform(act);
            server.reconcile();
        }
        server.delete();
        for _ in 0..4 {
            server.reconcile();
            server.pods_settle(true);
        }
        prop_assert!(server.is_gone);
    }
}
