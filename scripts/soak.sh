#!/usr/bin/env bash
# Runs what takes too long for every change: rare races, again and again, on a busy machine. Not a
# part of `make test`.
#
#   scripts/soak.sh               all of it, some hours
#   scripts/soak.sh PART …        only these: race, leaders, evidence, incidents, liveness, hostile
#
# RACES=500 KILLS=100 TRIES=1000 MINUTES=15 GATEWAYS=20 ROUNDS=5 set how much of each is done. The
# result is in target/soak/TIME.log: first a line for each part, then everything that was printed.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

cd "$root"
exec </dev/null

all=(race leaders evidence incidents liveness hostile)
parts=("$@")
((${#parts[@]} > 0)) || parts=("${all[@]}")
for part in "${parts[@]}"; do
    [[ " ${all[*]} " == *" $part "* ]] || die "there is no part \`$part\`" "there are: ${all[*]}"
done
cargo nextest --version >/dev/null 2>&1 || die 'cargo-nextest is not installed' 'run: make setup'

mkdir -p target/soak
log=target/soak/$(date -u +%Y%m%dT%H%M%SZ).log
output=$(mktemp)
busy=()
calm() {
    ((${#busy[@]} == 0)) || kill -- "${busy[@]}" 2>/dev/null || true
    busy=()
}
trap 'calm; rm -f -- "$output"' EXIT

# Keeps each processor busy with two endless loops.
load() {
    local n
    for ((n = 0; n < 2 * $(nproc); n++)); do
        while :; do :; done &
        busy+=($!)
    done
}

tests() {
    # A part that fails runs to its end, because it matters how often it fails.
    cargo nextest run --profile soak --no-fail-fast "$@"
}

part_race() { tests -p gatevisor --test cli --stress-count "${RACES:-500}" of_ten_that_come_up_at_once; }
part_leaders() { GATEVISOR_KILLS=${KILLS:-100} tests -p gatevisor --test supervisor nothing_that_a_killed_service_left; }
part_evidence() { GATEVISOR_TRIES=${TRIES:-1000} tests -p gatevisor --test cli evidence::; }
part_incidents() { tests -p gatevisor-gateways -p gatevisor-slot --lib --stress-count "${ROUNDS:-5}" incidents notify tree; }
part_hostile() { tests -p gatevisor --test hostile --stress-count "${ROUNDS:-5}"; }
part_liveness() {
    scripts/build.sh
    bench/liveness.py --part load --minutes "${MINUTES:-15}" --gateways "${GATEWAYS:-20}"
}

failed=0
for part in "${parts[@]}"; do
    say "=== $part"
    began=$SECONDS
    # The part `liveness` makes its own load, on the processors that it measures.
    [[ $part == liveness ]] || load
    code=0
    {
        printf '\n=== %s\n' "$part"
        "part_$part"
    } >>"$output" 2>&1 || code=$?
    calm
    result=passed
    ((code == 0)) || { result="FAILED ($code)"; failed=1; }
    line="$part: $result after $(((SECONDS - began) / 60)) min $(((SECONDS - began) % 60)) s"
    say "$line"
    printf '%s\n' "$line" >>"$log"
    grep -E '^ *Summary|FAIL|^  result:' "$output" | tail -5 >>"$log" || true
done
cat "$output" >>"$log"
say "the log is $log"
exit "$failed"
