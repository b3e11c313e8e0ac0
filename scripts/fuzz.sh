#!/usr/bin/env bash
# Fuzzes every decoder, and root's ways through trees (`paths`), for a while: TIME seconds each (60), or one only: TARGET=name.
#
# Two run at a time. What is found stays in fuzz/artifacts; put it, under a name that says what it shows, into
# fuzz/seeds/TARGET, where the ordinary tests find it. No sanitizer is used, for there is no unsafe code in what is
# fuzzed: so any toolchain will do.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

cd "$root"
exec </dev/null

seconds=${TIME:-60}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "TIME is a number of seconds, not \`$seconds\`"
cargo fuzz --version >/dev/null 2>&1 || die 'cargo-fuzz is not installed' 'run: scripts/setup.sh test'

mapfile -t targets < <(cd fuzz/seeds && printf '%s\n' *)
if [[ -n ${TARGET:-} ]]; then
    [[ -d fuzz/seeds/$TARGET ]] || die "\`$TARGET\` is no target" "they are: ${targets[*]}"
    targets=("$TARGET")
fi

say "building the fuzzer for ${#targets[@]} targets"
target_dir=${CARGO_TARGET_DIR:-$root/target}/fuzz
cargo fuzz build --sanitizer none --target-dir "$target_dir" decoders >&2
program=$(find "$target_dir" -path '*/release/decoders' -type f | head -n 1)
[[ -x $program ]] || die "the fuzzer was not built below $target_dir"

# Root needs no user name space to mount where nobody else sees it; anybody else does.
unshare=(unshare --mount --propagation private)
((EUID == 0)) || unshare=(unshare --user --map-root-user --mount --propagation private)
if "${unshare[@]}" true 2>/dev/null; then
    export GATEVISOR_FUZZ_UNSHARE="${unshare[*]}"
else
    say 'no mount name space can be made: trees are fuzzed without mounts'
fi

# Called for one target by xargs.
one() {
    local name=$1 corpus=fuzz/corpus/$1 log
    local -a apart=()
    # Its trees have mounts.
    if [[ $name == paths && -n ${GATEVISOR_FUZZ_UNSHARE:-} ]]; then
        read -ra apart <<<"$GATEVISOR_FUZZ_UNSHARE env GATEVISOR_FUZZ_MAY_MOUNT=1"
    fi
    mkdir -p "$corpus" "fuzz/artifacts/$name"
    log=fuzz/artifacts/$name/log
    if GATEVISOR_FUZZ_TARGET=$name "${apart[@]}" "$2" "$corpus" "fuzz/seeds/$name" -max_total_time="$3" -max_len=8192 -timeout=10 \
        -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 -artifact_prefix="fuzz/artifacts/$name/" >"$log" 2>&1; then
        printf '%-16s %9s runs\n' "$name" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" >&2
    else
        printf '%s FAILED: see fuzz/artifacts/%s\n' "$name" "$name" >&2
        tail -n 30 -- "$log" >&2
        return 1
    fi
}
export -f one
printf '%s\n' "${targets[@]}" | xargs -P 2 -I '{}' bash -euo pipefail -c 'one "$@"' _ '{}' "$program" "$seconds" ||
    die 'a decoder does not hold for what is above' 'run one alone: make fuzz TARGET=name'
