#!/usr/bin/env bash
# Runs every test and check, the cheapest steps first. Stops at the first step that fails.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

cd "$root"
exec </dev/null
# The images that are tested are those with the usual Hermes.
unset HERMES AGENT

warnings=()
step=nothing
began=$SECONDS

engine_started=no
finish() {
    local code=$?
    [[ $engine_started == no ]] || scripts/docker.sh stop || true
    local minutes=$(((SECONDS - began) / 60)) seconds=$(((SECONDS - began) % 60))
    say
    ((${#warnings[@]} == 0)) || printf 'warning: %s\n' "${warnings[@]}" >&2
    if ((code == 0)); then
        say "make test: everything passed (${minutes} min ${seconds} s)"
    else
        say "make test: FAILED at: $step (${minutes} min ${seconds} s)"
    fi
    exit "$code"
}
trap finish EXIT

run() {
    step=$1
    shift
    say
    say "=== $step: $*"
    "$@"
}

# --- what the steps do ----------------------------------------------------------------------------

dependencies() {
    if ! cargo deny --version >/dev/null 2>&1; then
        warnings+=('DEPENDENCIES WERE NOT CHECKED: cargo-deny is not installed and cannot be')
        say "${warnings[-1]}"
        return 0
    fi
    cargo deny --log-level error --all-features check bans licenses sources
    # The advisory database is fetched from the net. If that is impossible, the other tests are
    # still worth running.
    if timeout 180 cargo deny --log-level error fetch db; then
        cargo deny --log-level error check advisories
    else
        warnings+=('ADVISORIES WERE NOT CHECKED: the advisory database cannot be fetched from here')
        say "${warnings[-1]}"
    fi
}

workspace_tests() {
    if cargo nextest --version >/dev/null 2>&1; then
        local profile=default
        [[ ${CI:-} != true ]] || profile=ci
        cargo nextest run --workspace --profile "$profile"
    else
        warnings+=('cargo-nextest is not installed and cannot be: the tests ran under cargo test, without time limits')
        cargo test --workspace --lib --bins --tests
    fi
}

fuzzing() {
    if ! cargo fuzz --version >/dev/null 2>&1 || ! have c++; then
        warnings+=('NOTHING WAS FUZZED: cargo-fuzz or a C++ compiler is not installed and cannot be')
        say "${warnings[-1]}"
        return 0
    fi
    TIME=3 scripts/fuzz.sh
}

# Provides the images that the container tests need, and an engine that runs them.
images() {
    if [[ ${GATEVISOR_SKIP_DOCKER:-} == 1 ]]; then
        warnings+=('NO CONTAINER WAS TESTED: GATEVISOR_SKIP_DOCKER=1')
        say "${warnings[-1]}"
        return 0
    fi
    engine || engine_started=yes
    scripts/docker.sh start
    scripts/image.sh
    HERMES=0.22 scripts/image.sh
}

# Runs a step that leaves something out where it cannot be had, and says so.
may_skip() { # WARNING COMMAND…
    local warning=$1 said
    shift
    said=$("$@" 2>&1) || { say "$said"; return 1; }
    say "$said"
    [[ $said != *'NOT TESTED'* ]] || warnings+=("$warning")
}

# As above, of what needs a Docker engine.
with_docker() { # WHAT STEP COMMAND…
    local what=$1 step=$2
    shift 2
    if [[ ${GATEVISOR_SKIP_DOCKER:-} == 1 ]]; then
        warnings+=("$what: GATEVISOR_SKIP_DOCKER=1")
        say "${warnings[-1]}"
        return 0
    fi
    may_skip "$what: see the step \`$step\`" "$@"
}

# Has a real systemd supervise a home, in a container whose first process it is.
host_service() { with_docker 'NO UNIT WAS INSTALLED' 'a unit of systemd' scripts/systemd-test.sh; }

# Types what the documents say about containers, and uses the Compose file, with the image of above.
documented_containers() {
    with_docker 'NOT ALL DOCUMENTED CONTAINERS WERE TRIED' 'containers as documented' scripts/deploy-test.sh compose pages
}

# Checks the manifests, and what the operator makes of a home, against the schemas of Kubernetes.
manifests() { may_skip 'NO MANIFEST WAS CHECKED: see the step `manifests of Kubernetes`' scripts/deploy-test.sh kubernetes; }

# Has Debian's Prometheus read our metrics.
prometheus() { may_skip 'METRICS WERE READ BY NO PROMETHEUS: see the step `Prometheus`' scripts/prometheus-test.sh; }

# Has a browser use the page.
browser() {
    if ! have chromium || ! have chromedriver || ! cargo nextest --version >/dev/null 2>&1; then
        warnings+=('NO BROWSER USED THE PAGE: chromium, chromedriver or cargo-nextest is not installed')
        say "${warnings[-1]}"
        return 0
    fi
    scripts/browser-test.sh
}

undefined_behaviour() {
    local code=0
    scripts/miri.sh install && scripts/miri.sh || code=$?
    ((code == 3)) || return "$code"
    warnings+=('MIRI DID NOT RUN: it is not installed and cannot be')
    say "${warnings[-1]}"
}

# --- the steps ------------------------------------------------------------------------------------

[[ ${CI:-} != true ]] || export CARGO_TERM_COLOR=never CARGO_INCREMENTAL=0

run 'tools' scripts/setup.sh test
run 'lock file' cargo metadata --quiet --locked --format-version 1 >/dev/null
run 'format' cargo fmt --all --check
run 'lints' cargo clippy --workspace --all-targets -- -D warnings
run 'release build' scripts/build.sh
run 'documents' scripts/check-docs.sh
run 'rules of the house' scripts/house.py --check
run 'Hermes' scripts/hermes-venv.sh
run 'Hermes 0.22' scripts/hermes-venv.sh 0.22
run 'OpenClaw' scripts/openclaw.sh
run 'OpenClaw 2026.9.5' scripts/openclaw.sh 2026.9.5
run 'schemathesis' scripts/schemathesis.sh
run 'workflows' scripts/actionlint.sh
# The tests find the real Hermes and the static binary by these variables.
HERMES_BIN=$(scripts/hermes-venv.sh)/bin/hermes
HERMES_022_BIN=$(scripts/hermes-venv.sh 0.22)/bin/hermes
GATEVISOR_BIN=$root/target/gatevisor
export HERMES_BIN HERMES_022_BIN GATEVISOR_BIN
run 'images' images
run 'tests' workspace_tests
run 'a unit of systemd' host_service
run 'containers as documented' documented_containers
run 'manifests of Kubernetes' manifests
run 'Prometheus' prometheus
run 'the API of the page' scripts/api-test.sh
run 'the page in a browser' browser
run 'documentation tests' cargo test --doc --workspace
run 'documentation' env RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items
run 'fuzzing' fuzzing
run 'undefined behaviour' undefined_behaviour
run 'dependencies' dependencies
