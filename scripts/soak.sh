#!/usr/bin/env bash
# Runs what takes too long for every change: rare races, again and again, on a busy machine. Not a
# part of `make test`.
#
#   scripts/soak.sh               all of it, some hours
#   scripts/soak.sh PART …        only these: race, leaders, evidence, incidents, liveness,
#                                 hermes-load, hostile, browser, dist, arm, drain, boot
#
# RACES=500 KILLS=100 TRIES=1000 MINUTES=15 GATEWAYS=20 ROUNDS=5 RESTARTS=200 set how much of each
# is done, WITHIN=10 how many seconds `boot` allows, and LOAD=no leaves it to others to keep the
# machine busy. The result is in target/soak/TIME.log: first a line for each part, then everything
# that was printed.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

cd "$root"
exec </dev/null

all=(race leaders evidence incidents liveness hermes-load hostile browser dist arm drain boot)
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
part_browser() {
    have chromium && have chromedriver || { say 'warning: NOT RUN: chromium or chromedriver is not installed' && return 0; }
    scripts/axe-core.sh >/dev/null
    tests -p gatevisor --test browser --stress-count "${ROUNDS:-5}"
}
# Builds a release in two directories, and compares the files to the last byte.
part_dist() {
    local copy here there
    copy=$(mktemp -d)
    git clone --quiet --no-hardlinks "$root" "$copy/elsewhere"
    for there in "$root" "$copy/elsewhere"; do
        here=$copy/$(basename -- "$there").out
        (cd "$there" && GATEVISOR_DIST=$here CARGO_TARGET_DIR=$copy/target-${here##*/} scripts/dist.sh binaries tarballs debs)
        (cd "$here" && sha256sum -- *) >"$here.sums"
    done
    here=0
    diff "$copy"/*.sums || here=1
    # Both stay for whoever looks for the difference.
    if ((here == 0)); then rm -rf -- "$copy"; else say "the two builds differ, see $copy"; fi
    return "$here"
}
# Has the program for aarch64 supervise, log and stop under emulation.
part_arm() {
    local made code=0
    made=$(mktemp -d)
    GATEVISOR_DIST=$made scripts/dist.sh binaries tarballs && GATEVISOR_DIST=$made scripts/dist-test.sh arm || code=$?
    rm -rf -- "$made"
    return "$code"
}
part_drain() { GATEVISOR_RESTARTS=${RESTARTS:-200} tests -p gatevisor --test hermes drain::; }
# Starts the supervisor with the other version of Hermes, on a machine that does nothing else: all
# profiles must be served within some seconds. The forms of the configuration are only measured.
part_boot() {
    local said load_before code=0
    said=$(mktemp)
    load_before=$(cut -d' ' -f1 /proc/loadavg)
    GATEVISOR_SERVED_WITHIN=${WITHIN:-10} tests -p gatevisor --test hermes --success-output final \
        keeps_every_desired_state serves_every_profile_once 2>&1 | tee "$said" || code=$?
    printf '  result: load before and after: %s, %s\n' "$load_before" "$(cut -d' ' -f1 /proc/loadavg)"
    longest() { grep -F "$1" "$said" | sed -n 's/.*all served after \([0-9]*\) ms.*/\1/p' | sort -n | tail -n 1; }
    printf '  result: all served after at most %s ms after an upgrade, %s ms in all forms\n' \
        "$(longest 'after an upgrade')" "$(longest 'all served after')"
    rm -f -- "$said"
    return "$code"
}
part_liveness() {
    scripts/build.sh
    bench/liveness.py --part load --minutes "${MINUTES:-15}" --gateways "${GATEWAYS:-20}"
}
# Real Hermes, whose gateways answer turns all the time, and one of which is frozen meanwhile.
part_hermes-load() {
    scripts/build.sh
    bench/hermes_load.py --minutes "${MINUTES:-15}" --gateways "${GATEWAYS:-20}"
}

failed=0
for part in "${parts[@]}"; do
    say "=== $part"
    began=$SECONDS
    # These make their own load, on the processors that they measure. No build is a race.
    case $part in
    liveness | hermes-load | dist | arm | boot) ;;
    *) [[ ${LOAD:-} == no ]] || load ;;
    esac
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
