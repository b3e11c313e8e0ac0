//! What the status of a home says about its gateways, and the token with which they are asked for.

use super::*;

/// Returns what a pod tells of these gateways, each with its state and what is desired.
fn told(server: &Server, gateways: &[(&str, &str, &str)]) -> GatewayFacts {
    let one = |(name, state, desired): &(&str, &str, &str)| json!({"profile": name, "state": state, "desired_state": desired, "updownfor": 60, "restarts": 0});
    let gateways: Vec<Value> = gateways.iter().map(one).collect();
    let before = server.facts.clone();
    let mut facts =
        GatewayFacts::told(&json!({ "gateways": gateways }), before.as_ref(), server.now).unwrap();
    let why = |name: String| (name, "it shows nothing".to_owned());
    let explained: Vec<_> = facts.unexplained(before.as_ref()).into_iter().map(why).collect();
    facts.explain(&explained, before.as_ref());
    facts
}

fn ready_home() -> Server {
    let mut server = Server::with(json!({"image": "gatevisor:1", "profiles": [{"name": "a"}]}));
    server.settle(true);
    server
}

impl Server {
    fn tells(&mut self, gateways: &[(&str, &str, &str)]) -> Vec<String> {
        self.facts = Some(told(self, gateways));
        self.reconcile()
    }

    fn is_not_known(&mut self, why: Unknown) -> Vec<String> {
        self.facts = Some(GatewayFacts::unknown(&self.home, self.facts.as_ref(), why));
        self.reconcile()
    }

    fn words(&self, kind: &str) -> (&str, &str, &str) {
        let conditions = &self.home.status.as_ref().unwrap().conditions;
        let condition = conditions.iter().find(|condition| condition.type_ == kind).unwrap();
        (&condition.status, &condition.reason, &condition.message)
    }

    fn columns(&self) -> (Option<&str>, Option<i32>) {
        let status = self.home.status.as_ref().unwrap();
        (status.ready.as_deref(), status.unresponsive)
    }

    fn state(&self, name: &str) -> &str {
        let profiles = &self.home.status.as_ref().unwrap().profiles;
        &profiles.iter().find(|profile| profile.name == name).unwrap().state
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn what_the_pod_tells_is_in_the_status_and_the_same_again_writes_nothing() {
    let mut server = ready_home();
    assert_eq!(server.columns(), (Some("?/1"), None));
    assert_eq!(server.words("Reporting").1, "PodMissing");
    let all = [("a", "ready", "running"), ("b", "up", "running"), ("c", "down", "stopped")];
    assert_eq!(server.tells(&all), ["status"]);
    assert_eq!(server.columns(), (Some("2/2"), Some(0)));
    assert_eq!((server.words("Reporting").0, server.words("Reporting").1), ("True", "PodAnswers"));
    assert_eq!((server.state("a"), server.state("c")), ("Ready", "Down"));
    assert_eq!(server.condition("Ready"), (true, "AllGatewaysRun"));
    assert_eq!(server.condition("Degraded"), (false, "AsExpected"));
    assert_eq!(server.reconcile(), NOTHING);
    assert_eq!(server.tells(&all), NOTHING, "it is looked at again");
    server.facts = None;
    assert_eq!(server.reconcile(), NOTHING, "a new leader has not asked yet");
    assert_eq!(server.tells(&all[..2]), ["status"], "a profile is gone");
}

#[test]
fn a_gateway_that_should_run_and_does_not_makes_the_home_degraded_for_a_reason_of_its_own() {
    for (state, reason) in [
        ("unresponsive", "GatewayUnresponsive"),
        ("failed", "GatewayFailed"),
        ("failed-to-start", "GatewayFailed"),
        ("backing-off", "GatewayFailed"),
    ] {
        let mut server = ready_home();
        server.tells(&[("a", "ready", "running"), ("b", "ready", "running")]);
        server.said.clear();
        assert_eq!(
            server.tells(&[("a", state, "running"), ("b", "ready", "running")]),
            ["status"],
            "{state}"
        );
        assert_eq!(server.condition("Degraded"), (true, reason), "{state}");
        assert_eq!(server.condition("Ready"), (false, "GatewaysNotReady"), "{state}");
        let message = server.words("Degraded").2.to_owned();
        assert!(message.ends_with(": `a` (it shows nothing)"), "{message}");
        assert_eq!(server.columns(), (Some("1/2"), Some(i32::from(state == "unresponsive"))), "{state}");
        assert_eq!(server.said, [reason], "it is said once");
        assert_eq!(server.reconcile(), NOTHING, "{state}");
        server.tells(&[("a", "ready", "running"), ("b", "ready", "running")]);
        assert_eq!(server.condition("Degraded"), (false, "AsExpected"), "{state}");
        assert_eq!(server.condition("Ready"), (true, "AllGatewaysRun"), "{state}");
        server.tells(&[("a", state, "stopped"), ("b", "ready", "running")]);
        assert_eq!(server.condition("Degraded"), (false, "AsExpected"), "{state}: it need not run");
    }
}

#[test]
fn a_pod_that_does_not_answer_is_unknown_and_one_that_is_gone_is_told_from_it() {
    use Unknown as U;
    for (why, degraded) in [
        (U::Silent, "Unknown"),
        (U::Refuses, "Unknown"),
        (U::Strange, "Unknown"),
        (U::Lost, "Unknown"),
        (U::Foreign, "Unknown"),
        (U::Missing, "False"),
        (U::Starting, "False"),
        (U::Ending, "False"),
        (U::Ended, "False"),
    ] {
        let mut server = ready_home();
        server.tells(&[("a", "unresponsive", "running")]);
        assert_eq!(server.is_not_known(why), ["status"], "{why:?}");
        assert_eq!((server.words("Reporting").0, server.words("Reporting").1), ("False", why.word()));
        assert_eq!(server.words("Degraded").0, degraded, "{why:?}");
        assert_eq!((server.columns(), server.state("a")), ((Some("?/1"), None), "Unknown"), "{why:?}");
        assert_eq!(server.condition("Ready"), (true, "AllGatewaysRun"), "the kubelet says so");
        assert_eq!(server.is_not_known(why), NOTHING, "{why:?}");
        server.facts = None;
        assert_eq!(server.reconcile(), NOTHING, "{why:?}: a new leader has not asked yet");
    }
}

#[test]
fn a_pod_that_is_not_ready_for_one_reason_after_another_is_late() {
    let mut server = ready_home();
    for _ in 0..6 {
        server.tells(&[("a", "starting", "running")]);
        assert_eq!(server.condition("Ready"), (false, "GatewaysNotReady"));
        server.pass(55);
        server.pods_settle(false);
        server.is_not_known(Unknown::Starting);
        assert_eq!(server.condition("Ready"), (false, "NotReady"));
        server.pass(55);
        server.pods_settle(true);
    }
    server.tells(&[("a", "starting", "running")]);
    assert_eq!(server.condition("Degraded"), (true, "NotReadyInTime"));
}

#[test]
fn a_gateway_that_only_starts_is_not_degraded_until_it_is_late() {
    let mut server = ready_home();
    server.tells(&[("a", "starting", "running")]);
    assert_eq!(server.condition("Ready"), (false, "GatewaysNotReady"));
    assert_eq!(server.condition("Degraded"), (false, "AsExpected"));
    server.pass(601);
    assert_eq!(server.reconcile(), ["status"]);
    assert_eq!(server.condition("Degraded"), (true, "NotReadyInTime"));
}

#[test]
fn a_suspended_home_says_nothing_about_gateways_and_begins_anew() {
    let mut server = ready_home();
    server.tells(&[("a", "failed", "running")]);
    server.change(|spec| spec.suspend = true);
    server.settle(true);
    assert_eq!(server.columns(), (None, None));
    assert!(server.home.status.as_ref().unwrap().profiles.is_empty());
    assert_eq!(server.words("Reporting").1, "Suspended");
    assert_eq!(server.condition("Degraded"), (false, "AsExpected"));
    assert_eq!(server.reconcile(), NOTHING);
    server.change(|spec| spec.suspend = false);
    server.facts = None;
    server.settle(true);
    assert_eq!((server.columns().0, server.words("Reporting").1), (Some("?/1"), "PodMissing"));
}

#[test]
fn a_message_names_a_few_gateways_and_counts_the_others() {
    let mut server = ready_home();
    let names: Vec<String> = (0..9).map(|number| format!("p{number}")).collect();
    let all: Vec<(&str, &str, &str)> = names.iter().map(|name| (&**name, "starting", "running")).collect();
    server.tells(&all);
    let message = server.words("Ready").2;
    assert_eq!(message, "gateways that should run do not work: `p0`, `p1`, `p2` and 6 more");
}

#[test]
fn a_token_stays_and_only_a_missing_or_useless_one_is_made_anew() {
    let mut server = ready_home();
    let token = |server: &Server| token_of_home(&server.home, &server.observed).unwrap();
    let first = token(&server);
    assert_eq!(server.reconcile(), NOTHING);
    assert_eq!(token(&server), first, "each plan offers another one");
    // `c2hvcnQ=` is `short`.
    for useless in [json!({"token": "c2hvcnQ="}), json!({}), json!({"token": 7}), json!(null)] {
        let secret = server.observed.objects.iter_mut().find(|(kind, _)| *kind == Kind::Secret).unwrap();
        secret.1["data"] = useless.clone();
        assert_eq!(token_of_home(&server.home, &server.observed), None, "{useless}");
        assert_eq!(server.reconcile(), ["Secret"], "{useless}");
        assert_ne!(token(&server), first, "{useless}");
    }
    server.observed.objects.retain(|(kind, _)| *kind != Kind::Secret);
    assert_eq!(server.reconcile(), ["Secret"], "whoever removes it gets a new one");
}

#[test]
fn a_secret_of_somebody_else_is_neither_changed_nor_sent_to_a_pod() {
    let mut server = Server::with(json!({"image": "gatevisor:1"}));
    let theirs =
        json!({"metadata": {"name": "coder-operator-token"}, "data": {"token": "MDEyMzQ1Njc4OWFiY2RlZg=="}});
    server.observed.objects.push((Kind::Secret, theirs.clone()));
    server.reconcile();
    assert_eq!(server.condition("Degraded"), (true, "NameTaken"));
    assert_eq!(server.object(Kind::Secret), &theirs);
    assert_eq!(token_of_home(&server.home, &server.observed), None);
}

#[test]
fn only_the_operator_reaches_the_pod_and_a_home_cannot_change_where_it_answers() {
    let mut server = Server::with(json!({"image": "gatevisor:1", "environment": {
        "GATEVISOR_WEB": "0", "GATEVISOR_WEB_LISTEN": "127.0.0.1:1", "GATEVISOR_WEB_TOKEN_FILE": "/tmp/mine",
    }}));
    server.reconcile();
    let ingress = &server.object(Kind::NetworkPolicy)["spec"]["ingress"];
    let from = json!([{
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gatevisor-system"}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "gatevisor-operator"}},
    }]);
    assert_eq!(ingress, &json!([{"ports": [{"protocol": "TCP", "port": 9466}], "from": from}]));
    let container = &server.object(Kind::StatefulSet)["spec"]["template"]["spec"]["containers"][0];
    let set = |name: &str| {
        let found: Vec<&Value> =
            container["env"].as_array().unwrap().iter().filter(|variable| variable["name"] == name).collect();
        assert_eq!(found.len(), 1, "{name}");
        found[0]["value"].as_str().unwrap().to_owned()
    };
    assert_eq!((&*set("GATEVISOR_WEB"), &*set("GATEVISOR_WEB_LISTEN")), ("1", "0.0.0.0:9466"));
    assert_eq!(set("GATEVISOR_WEB_TOKEN_FILE"), "/etc/gatevisor/operator/token");
}
