#!/usr/bin/env bash
# Runs the operator against a real API server: etcd, kube-apiserver and kube-controller-manager of
# Kubernetes 1.20.2, on 127.0.0.1, with what scripts/kubernetes.sh has built.
#
#   scripts/kubernetes-test.sh      builds what is missing, runs all, and leaves nothing behind
#   GATEVISOR_OPERATOR=/path        the operator to test, instead of the one of this source
#   GATEVISOR=/path                 the same for the Gatevisor of the pod
#
# No kubelet runs: the test itself says of a pod that it is ready, as a kubelet would. What answers
# at the pod's address is a Gatevisor of this machine, with gateways of its own. The operator runs
# with its own service account, so a right that it lacks is an error.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

cd "$root"
exec </dev/null
for tool in curl jq openssl python3; do
    have "$tool" || die "\`$tool\` is not installed" "run: apt-get install $tool"
done
bin=$(scripts/kubernetes.sh build)/bin
if [[ -z ${GATEVISOR_OPERATOR:-} ]]; then
    cargo build --quiet --package gatevisor-operator >&2
    GATEVISOR_OPERATOR=${CARGO_TARGET_DIR:-$root/target}/debug/gatevisor-operator
fi

if [[ -z ${GATEVISOR:-} ]]; then
    cargo build --quiet --package gatevisor >&2
    GATEVISOR=${CARGO_TARGET_DIR:-$root/target}/debug/gatevisor
fi

work=$(mktemp -d)
declare -A pids=()
finish() {
    local code=$? name
    trap - EXIT INT TERM
    if ((code != 0)); then
        for name in a b; do [[ ! -s $work/$name.log ]] || { say "operator $name:" && tail -n 15 "$work/$name.log" >&2; }; done
    fi
    # The clients first, and etcd last.
    for name in a b kube-controller-manager kube-apiserver etcd page; do end "$name"; done
    [[ ! -d $work/home ]] || inside down >/dev/null 2>&1 || say "the gateways of \`$work/home\` may still run"
    rm -rf -- "$work"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

start() { # NAME COMMAND…
    local name=$1
    shift
    "$@" >"$work/$name.log" 2>&1 &
    pids[$name]=$!
}

# Ends what was started, and waits until it has ended.
end() { # NAME [SIGNAL]
    local pid=${pids[$1]:-}
    [[ -n $pid ]] || return 0
    kill "-${2:-TERM}" "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    unset "pids[$1]"
}

is() { # WANTED COMMAND…
    local wanted=$1 got
    shift
    got=$("$@") && [[ $got == "$wanted" ]] || { printf '%s\n' "got \`${got:-}\`, wanted \`$wanted\`"; return 1; }
}

step() { say "- $*"; }

# --- the cluster ----------------------------------------------------------------------------------

free_ports() {
    python3 -c 'import socket, sys
taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(one.getsockname()[1] for one in taken))' "$1"
}

make_keys() {
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-ca -keyout "$work/ca.key" -out "$work/ca.crt" 2>/dev/null
    openssl req -newkey rsa:2048 -nodes -subj /CN=kube-apiserver -keyout "$work/server.key" -out "$work/server.csr" 2>/dev/null
    printf 'subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' >"$work/extensions"
    openssl x509 -req -days 2 -in "$work/server.csr" -CA "$work/ca.crt" -CAkey "$work/ca.key" -CAcreateserial \
        -extfile "$work/extensions" -out "$work/server.crt" 2>/dev/null
    openssl genrsa -traditional -out "$work/accounts.key" 2048 2>/dev/null
}

kubeconfig() { # FILE TOKEN
    jq -n --arg server "https://127.0.0.1:$port" --arg ca "$work/ca.crt" --arg token "$2" '{
        apiVersion: "v1", kind: "Config", "current-context": "test",
        clusters: [{name: "test", cluster: {server: $server, "certificate-authority": $ca}}],
        users: [{name: "test", user: {token: $token}}],
        contexts: [{name: "test", context: {cluster: "test", user: "test"}}]}' >"$1"
}

kubectl() { "$bin/kubectl" --kubeconfig "$work/admin.json" --cache-dir "$work/cache" "$@"; }

start_server() {
    start kube-apiserver "$bin/kube-apiserver" --etcd-servers "http://127.0.0.1:$client" --bind-address 127.0.0.1 \
        --secure-port "$port" --insecure-port 0 --cert-dir "$work/certs" --tls-cert-file "$work/server.crt" \
        --tls-private-key-file "$work/server.key" --client-ca-file "$work/ca.crt" --token-auth-file "$work/tokens" \
        --authorization-mode RBAC --service-cluster-ip-range 10.96.0.0/16 \
        --service-account-issuer https://test --service-account-key-file "$work/accounts.key" \
        --service-account-signing-key-file "$work/accounts.key" \
        --audit-policy-file "$work/audit.yaml" --audit-log-path "$work/audit.log"
    until_ok 120 'an API server that is ready' kubectl get --raw /readyz
}

start_cluster() {
    local peer metrics token
    read -r client peer port metrics < <(free_ports 4)
    make_keys
    token=$(openssl rand -hex 16)
    printf '%s,admin,1,system:masters\n' "$token" >"$work/tokens"
    kubeconfig "$work/admin.json" "$token"
    # Every write is noted, so that the test can count those of the operator.
    cat >"$work/audit.yaml" <<'END'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata, verbs: [create, update, patch, delete]}, {level: None}]
END
    start etcd etcd --data-dir "$work/etcd" --listen-client-urls "http://127.0.0.1:$client" \
        --advertise-client-urls "http://127.0.0.1:$client" --listen-peer-urls "http://127.0.0.1:$peer" \
        --initial-advertise-peer-urls "http://127.0.0.1:$peer" --initial-cluster "default=http://127.0.0.1:$peer" \
        --unsafe-no-fsync
    start_server
    start kube-controller-manager "$bin/kube-controller-manager" --kubeconfig "$work/admin.json" --leader-elect=false \
        --bind-address 127.0.0.1 --secure-port "$metrics" --port 0 --cert-dir "$work/certs-manager" \
        --use-service-account-credentials=false --root-ca-file "$work/ca.crt" \
        --service-account-private-key-file "$work/accounts.key"
    until_ok 60 'a service account' kubectl --namespace default get serviceaccount default
}

# --- the operator ---------------------------------------------------------------------------------

system=gatevisor-system

account_token() {
    local secret
    secret=$(kubectl --namespace $system get serviceaccount gatevisor-operator --output 'jsonpath={.secrets[0].name}')
    [[ -n $secret ]] && kubectl --namespace $system get secret "$secret" --output 'jsonpath={.data.token}' | base64 -d
}

install_operator() {
    "$GATEVISOR_OPERATOR" manifests >"$work/operator.yaml"
    kubectl apply --filename "$work/operator.yaml" >/dev/null
    # A second time nothing changes.
    ! kubectl apply --filename "$work/operator.yaml" | grep -v unchanged || die 'the manifests change what they have made'
    kubectl wait --for condition=Established --timeout 30s crd/agenthomes.gatevisor.dev >/dev/null
    until_ok 30 'a token of the service account' account_token
    kubeconfig "$work/operator.json" "$(account_token)"
}

declare -A ports=()
run_operator() { # NAME
    ports[$1]=$(free_ports 1)
    start "$1" env KUBECONFIG="$work/operator.json" "$GATEVISOR_OPERATOR" run --namespace $system --name "$1" \
        --port "${ports[$1]}"
}
metric() { # OPERATOR NAME
    curl --silent --fail "http://127.0.0.1:${ports[$1]}/metrics" | awk -v name="gatevisor_operator_$2" '$1 == name { print $2 }'
}

leader() { kubectl --namespace $system get lease gatevisor-operator --output 'jsonpath={.spec.holderIdentity}'; }
leads() { is "$1" leader; }

# The writes of the operator so far, but for those of its lease and of the second home. The API
# server writes a line into its log after its answer, so wait for a line that must come.
writes() {
    jq -r 'select(.user.username == "system:serviceaccount:gatevisor-system:gatevisor-operator")
        | select(.objectRef.resource != "leases") | select(.objectRef.name != "second") | "\(.verb) \(.objectRef.resource)/\(.objectRef.subresource // "") \(.responseStatus.code)"' \
        "$work/audit.log"
}
has_writes() { (($(writes | wc -l) >= $1)); } # COUNT
only_writes() { # COUNT
    local now
    mapfile -t now < <(writes)
    ((${#now[@]} == $1)) || die 'the operator has written although nothing had changed' "${now[@]:$1}"
}

# --- homes ----------------------------------------------------------------------------------------

home() { kubectl --namespace agents get agenthome coder --output "jsonpath={$1}"; }
set_of() { kubectl --namespace agents get statefulset coder --output "jsonpath={$1}"; }
condition() { home ".status.conditions[?(@.type==\"$1\")].status} {.status.conditions[?(@.type==\"$1\")].reason"; }
has_event() { kubectl --namespace agents get events.v1.events.k8s.io --output 'jsonpath={.items[*].reason}' | grep "$1" >/dev/null; }
change() { kubectl --namespace agents patch agenthome coder --type merge --patch "$1" >/dev/null; }
gone() { ! kubectl --namespace agents get "$@" --output name 2>/dev/null | grep .; }
versions() {
    kubectl --namespace agents get agenthomes,statefulsets,services,serviceaccounts,networkpolicies,poddisruptionbudgets,configmaps,secrets \
        --output 'jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion}{"\n"}{end}'
}

declares() { # WORDS
    kubectl --namespace agents get configmap coder-profiles --output 'jsonpath={.data}' | tr -d '\\' | grep --fixed-strings "$1" >/dev/null
}

# Says what a kubelet says of a pod that runs and is ready, and has the address of our Gatevisor.
make_ready() {
    local token
    token=$(jq -r '.users[0].user.token' "$work/admin.json")
    curl --silent --fail --cacert "$work/ca.crt" --header "Authorization: Bearer $token" --request PATCH \
        --header 'Content-Type: application/merge-patch+json' --data '{"status": {"phase": "Running",
            "podIP": "'"$pod_ip"'", "podIPs": [{"ip": "'"$pod_ip"'"}], "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}' \
        "https://127.0.0.1:$port/api/v1/namespaces/agents/pods/coder-0/status" >/dev/null
}

# --- the Gatevisor of the pod ---------------------------------------------------------------------

# The operator asks at a fixed port, so that another run has another address.
pod_ip=127.66.$((RANDOM % 250 + 1)).$((RANDOM % 250 + 1))

inside() { "$GATEVISOR" --home "$work/home" "$@"; }
token() { kubectl --namespace agents get secret coder-operator-token --output 'jsonpath={.data.token}' | base64 -d; }
start_page() { start page "$GATEVISOR" --home "$work/home" web --listen "$pod_ip:9466" --read-only-token-file "$work/token"; }

start_gateways() {
    export ASYNCIO_BOT_PROGRAM=$root/examples/asyncio-bot.py GATEVISOR_LIVE_INTERVAL_MS=500
    sed 's/^policy = "restart"$/policy = "warn"/' examples/asyncio-bot.toml >"$work/agent.toml"
    inside up --create --detach --quiet --agent "$work/agent.toml" >/dev/null
    local name
    for name in coder writer idle; do inside profile create "$name" >/dev/null; done
    inside gateway start coder >/dev/null
    inside gateway start writer >/dev/null
    inside gateway stop idle >/dev/null
    # As a kubelet projects it.
    (umask 077 && token >"$work/token")
    start_page
}

pid_of() { inside --json status "$1" | jq .pid; }
gateway() { home ".status.profiles[?(@.name==\"$1\")].$2"; } # NAME FIELD
columns() { kubectl --namespace agents get ah coder --no-headers | awk '{ print $2, $3, $4 }'; }

# --- the tests ------------------------------------------------------------------------------------

test_create() {
    step 'a home gets its defaults and its objects'
    kubectl create namespace agents >/dev/null
    kubectl apply --filename - >/dev/null <<'END'
{"apiVersion": "gatevisor.dev/v1alpha1", "kind": "AgentHome", "metadata": {"name": "coder", "namespace": "agents"},
 "spec": {"image": "gatevisor:1", "environment": {"LEVEL": "1"}, "environmentFromSecrets": ["keys"],
    "resources": {"limits": {"memory": "1024Mi", "cpu": "0.5"}}}}
END
    is 'hermes 30 10Gi' home '.spec.agent} {.spec.stopGraceSeconds} {.spec.storage.size' || die 'the defaults are not there'
    until_ok 20 'a stateful set' set_of .metadata.uid
    until_ok 30 'a pod' kubectl --namespace agents get pod coder-0
    until_ok 10 'a status' is 'False NotReady' condition Ready
    is 'agenthome.gatevisor.dev/coder' kubectl --namespace agents get ah --output name || die 'it has no short name'
    kubectl --namespace agents get ah | grep -E '^coder +\?/0 +NotReady +hermes ' >/dev/null || die 'the columns are not there'
    until_ok 20 'a token' token
    start_gateways
    make_ready
    until_ok 20 'a home that is ready' is 'True AllGatewaysRun' condition Ready
    until_ok 10 'an end of the progress' is 'False Settled' condition Progressing
    until_ok 10 'an event that says that the gateways run' has_event AllGatewaysRun
}

test_gateways() {
    step 'the status has the gateways, as the pod tells them'
    until_ok 60 'a pod that answers' is 'True PodAnswers' condition Reporting
    until_ok 60 'columns with the gateways' is '2/2 0 AllGatewaysRun' columns
    is 'Ready Running' gateway coder 'state} {.status.profiles[0].desired' || die 'the state of coder is not there'
    is 'Down Stopped' gateway idle 'state} {.status.profiles[1].desired' || die 'the state of idle is not there'
    is 1 metric a leads || die 'the leader does not say so'
    is 0 metric b leads || die 'the other operator says that it leads'
    is 1 metric a homes || die 'the leader does not know the home'
    (($(metric a looks_total) > 0)) || die 'the looks are not counted'
    is ok curl --silent --fail "http://127.0.0.1:${ports[b]}/healthz" || die 'an operator is not healthy'
    local version looked
    version=$(home .metadata.resourceVersion)
    step 'a gateway that does not respond makes the home degraded'
    looked=$SECONDS
    kill -STOP "$(pid_of coder)"
    until_ok 60 'a degraded home' is 'True GatewayUnresponsive' condition Degraded
    say "  after $((SECONDS - looked)) s: $(gateway coder cause)"
    is '1/2 1 GatewaysNotReady' columns || die 'the columns do not say so'
    is Unresponsive gateway coder state || die 'the profile does not say so'
    [[ -n $(gateway coder cause) ]] || die 'there is no cause'
    until_ok 10 'an event that says so' has_event GatewayUnresponsive
    kill -CONT "$(pid_of coder)"
    until_ok 60 'a home that is as expected' is 'False AsExpected' condition Degraded
    step 'a gateway that ends is told with its exit'
    kill -KILL "$(pid_of writer)"
    until_ok 60 'a last exit' is SIGKILL gateway writer lastExit.signal
    until_ok 60 'columns with the gateways' is '2/2 0 AllGatewaysRun' columns
    step 'a pod that does not answer is unknown'
    end page KILL
    until_ok 60 'a pod that does not answer' is 'Unknown PodDoesNotAnswer' condition Degraded
    is 'False PodDoesNotAnswer' condition Reporting || die 'it does not say so'
    is 'Unknown' gateway coder state || die 'the profile does not say so'
    is '?/2' home .status.ready || die 'the column does not say so'
    start_page
    until_ok 90 'a pod that answers' is 'True PodAnswers' condition Reporting
    step 'time that passes changes no status'
    until_ok 60 'columns with the gateways' is '2/2 0 AllGatewaysRun' columns
    until_ok 60 'a home that is as expected' is 'False AsExpected' condition Degraded
    [[ $(home .metadata.resourceVersion) != "$version" ]] || die 'the status was not written'
    version=$(home .metadata.resourceVersion)
    # The pod is asked several times meanwhile.
    looked=$SECONDS
    while ((SECONDS < looked + 50)); do
        is "$version" home .metadata.resourceVersion >/dev/null || die 'the status was written' "$(home .status)"
        read -rt 1 <> <(:) || :
    done
}

# Has the operator put a network policy back, and waits for the line in the log: that many writes.
put_back() { # COUNT
    kubectl --namespace agents delete networkpolicy coder >/dev/null
    until_ok 20 'a network policy that is put back' kubectl --namespace agents get networkpolicy coder
    until_ok 10 'its line in the log' has_writes "$1"
}

test_nothing_is_written_twice() {
    step 'a new leader, which looks at every home, writes nothing'
    local before count
    before=$(versions | grep /coder)
    end "$1"
    until_ok 15 'a new leader' leads "$2"
    run_operator "$1"
    # It works on homes in the order of their names, so a second one comes after it.
    kubectl --namespace agents apply --filename - >/dev/null <<'END'
{"apiVersion": "gatevisor.dev/v1alpha1", "kind": "AgentHome", "metadata": {"name": "second"}, "spec": {"image": "gatevisor:1"}}
END
    until_ok 20 'the objects of the second home' kubectl --namespace agents get statefulset second
    [[ $(versions | grep /coder) == "$before" ]] || die 'it has written' "$before" "$(versions)"
    kubectl --namespace agents delete agenthome second --timeout 60s >/dev/null
    step 'a change that does not concern an object writes nothing'
    count=$(writes | wc -l)
    kubectl --namespace agents annotate agenthome coder "touched=$count" >/dev/null
    kubectl --namespace agents patch service coder --type merge --patch '{"metadata": {"annotations": {"touched": "1"}}}' >/dev/null
    put_back $((count + 1))
    # It looks at a home once at a time, so what it was told of this one before, it has looked at by
    # then.
    put_back $((count + 2))
    only_writes $((count + 2))
    [[ $(set_of .metadata.generation) == 1 ]] || die 'the stateful set was written'
}

image_of_pod() { kubectl --namespace agents get pod coder-0 --output 'jsonpath={.spec.containers[0].image}'; }

test_change() {
    step 'a changed image is rolled out'
    change '{"spec": {"image": "gatevisor:2", "environment": {"AAA": "1"}}}'
    until_ok 20 'a stateful set with the new image' is gatevisor:2 set_of '.spec.template.spec.containers[0].image'
    until_ok 20 'a status that says so' is 'True RollingOut' condition Progressing
    until_ok 60 'a new pod' is gatevisor:2 image_of_pod
    make_ready
    until_ok 30 'a home that is ready' is 'True AllGatewaysRun' condition Ready
    until_ok 10 'an end of the progress' is 'False Settled' condition Progressing
    step 'a pod of a wrong image is replaced when the image is right'
    change '{"spec": {"image": "gatevisor:wrong"}}'
    until_ok 60 'a pod with the wrong image' is gatevisor:wrong image_of_pod
    until_ok 20 'a home that is not ready' is 'False NotReady' condition Ready
    change '{"spec": {"image": "gatevisor:2"}}'
    until_ok 60 'a pod with the right image' is gatevisor:2 image_of_pod
    until_ok 10 'an event that says so' has_event Replacing
    make_ready
    until_ok 30 'a home that is ready' is 'True AllGatewaysRun' condition Ready
    step 'a changed storage is told, and kept as it was'
    change '{"spec": {"storage": {"size": "20Gi"}}}'
    until_ok 20 'a degraded home' is 'True StorageCannotChange' condition Degraded
    is 10Gi set_of '.spec.volumeClaimTemplates[0].spec.resources.requests.storage' || die 'the storage was changed'
    change '{"spec": {"storage": {"size": "10Gi"}}}'
    until_ok 20 'a home that is as expected' is 'False AsExpected' condition Degraded
    is 'True' home '.status.conditions[?(@.type=="Ready")].status' || die 'the pod was replaced'
    step 'changed profiles are in the file for the pod, which is not replaced'
    local revision
    revision=$(set_of .status.updateRevision)
    change '{"spec": {"profiles": [{"name": "coder"}, {"name": "writer", "desired": "Stopped"}]}}'
    until_ok 20 'a file with the profiles' declares 'name = "writer"'
    declares 'desired = "stopped"' || die 'the file does not say that writer is stopped'
    [[ $(set_of .status.updateRevision) == "$revision" ]] || die 'the pod is replaced'
    ! change '{"spec": {"profiles": [{"name": "a"}, {"name": "a"}]}}' 2>/dev/null || die 'a profile was accepted twice'
    step 'what breaks the schema is refused'
    ! change '{"spec": {"stopGraceSeconds": 0}}' 2>/dev/null || die 'a grace of 0 s was accepted'
    ! change '{"spec": {"agent": "other"}}' 2>/dev/null || die 'an unknown agent was accepted'
    ! kubectl --namespace agents apply --filename - >/dev/null 2>&1 <<END || die 'a name of 41 characters was accepted'
{"apiVersion": "gatevisor.dev/v1alpha1", "kind": "AgentHome", "metadata": {"name": "$(printf 'a%.0s' {1..41})"}, "spec": {"image": "x"}}
END
}

test_suspend() {
    step 'a suspended home has no pod, and comes back'
    change '{"spec": {"suspend": true}}'
    until_ok 60 'no pod' gone pod coder-0
    until_ok 20 'a suspended home' is 'True Suspended' condition Suspended
    is 'False Suspended' condition Reporting || die 'it says something of gateways'
    [[ -z $(home .status.profiles) ]] || die 'it has gateways'
    change '{"spec": {"suspend": false}}'
    until_ok 60 'a pod' kubectl --namespace agents get pod coder-0
    make_ready
    until_ok 30 'a home that is ready' is 'True AllGatewaysRun' condition Ready
}

test_takeover() {
    step 'when the leader is killed, the other one takes over'
    local began=$SECONDS
    end "$1" KILL
    until_ok 15 'a new leader' leads "$2"
    say "  after $((SECONDS - began)) s"
    change '{"spec": {"image": "gatevisor:3"}}'
    until_ok 20 'a change by the new leader' is gatevisor:3 set_of '.spec.template.spec.containers[0].image'
    step 'when the leader ends by itself, the other one takes over at once'
    run_operator "$1"
    until_ok 20 'a second operator' grep 'waiting for the lease' "$work/$1.log"
    began=$SECONDS
    end "$2"
    until_ok 5 'a new leader' leads "$1"
    say "  after $((SECONDS - began)) s"
}

test_delete() {
    step 'a deleted home ends its pod first, and leaves its claim alone'
    kubectl --namespace agents delete agenthome coder --timeout 60s >/dev/null
    gone pod coder-0 || die 'the home has gone before its pod'
    until_ok 60 'no objects of the home' gone statefulsets,services,networkpolicies,poddisruptionbudgets
    until_ok 60 'no account of the home' gone serviceaccount coder
    until_ok 60 'no file of the home' gone configmap coder-profiles
    until_ok 60 'no token of the home' gone secret coder-operator-token
    kubectl --namespace agents get persistentvolumeclaim home-coder-0 >/dev/null || die 'the claim has gone'
    has_all_rights
}

# Kubernetes starts an operator again that has ended.
revive() {
    local name
    for name in a b; do
        [[ -n ${pids[$name]:-} ]] && kill -0 "${pids[$name]}" 2>/dev/null || { end "$name" && run_operator "$name"; }
    done
}

has_all_rights() { ! grep -h forbidden "$work"/{a,b}.log || die 'an operator lacks a right, see above'; }

test_restarts() {
    has_all_rights
    step 'the API server is killed and started again, three times'
    local round name
    for round in 1 2 3; do
        end kube-apiserver KILL
        start_server
        revive
        change "{\"spec\": {\"environment\": {\"ROUND\": \"$round\"}}}"
        until_ok 60 'a change after the restart' is "$round" \
            set_of '.spec.template.spec.containers[0].env[?(@.name=="ROUND")].value'
    done
    # An API server that has just started refuses what it allows, until it has read the rights. So
    # the operators begin with new logs.
    for name in a b; do end "$name"; done
    for name in a b; do run_operator "$name"; done
    until_ok 30 'a leader' grep 'holding the lease' "$work"/{a,b}.log
}

sets() { kubectl --namespace crowd get statefulsets --output name | wc -l; }

test_crowd() {
    local count=100 began before done_after peak
    step "$count homes at once"
    kubectl create namespace crowd >/dev/null
    before=$(writes | wc -l)
    began=$SECONDS
    for ((i = 0; i < count; i++)); do
        printf '{"apiVersion": "gatevisor.dev/v1alpha1", "kind": "AgentHome", "metadata": {"name": "home-%s", "namespace": "crowd"},
            "spec": {"image": "gatevisor:1"}}\n' "$i"
    done | kubectl apply --filename - >/dev/null
    until_ok 120 "$count stateful sets" is "$count" sets
    done_after=$((SECONDS - began))
    peak=$(awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/${pids[$(leader)]}/status")
    say "  after $done_after s; $((($(writes | wc -l) - before) / count)) writes for each; the operator had $peak MiB at most"
    ((peak <= 80)) || die "the operator has used $peak MiB"
    kubectl delete namespace crowd --timeout 300s >/dev/null
}

step 'etcd, an API server and a controller manager'
start_cluster
install_operator
run_operator a
until_ok 20 'a leader' leads a
run_operator b
test_create
test_gateways
test_nothing_is_written_twice a b
test_change
test_suspend
test_takeover b a
test_restarts
test_crowd
test_delete
say 'the operator works with Kubernetes 1.20.2'
