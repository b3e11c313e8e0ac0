# shellcheck shell=bash
# A work directory, in which a home has real gateways of the HTTP example. Scripts source this file;
# what they start goes into `processes`, and is ended with them.

gatevisor=${GATEVISOR_BIN:-$root/target/gatevisor}
work=$(mktemp -d)
processes=()
finish() {
    local code=$?
    ((code == 0)) || tail -n 60 "$work"/*.log >&2 2>/dev/null || true
    for pid in "${processes[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${processes[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf -- "$work"
    exit "$code"
}
trap finish EXIT

export HTTP_AGENT_PROGRAM=$root/examples/http-agent.py
ours=("$gatevisor" --home "$work/home" --agent "$root/examples/http-agent.toml")

make_profiles() { # NAME…
    local name
    for name in "$@"; do "${ours[@]}" profile create --create "$name" --port auto >/dev/null; done
}

# Starts the supervisor and these gateways.
supervise() { # NAME…
    "${ours[@]}" up >"$work/up.log" 2>&1 &
    processes+=($!)
    until_ok 60 'the start of the gateways' "${ours[@]}" gateway start "$@"
}
