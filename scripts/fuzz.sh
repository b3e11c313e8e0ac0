#!/usr/bin/env bash
# Fuzzes every decoder, and root's ways through trees (`paths`), for TIME=60 seconds each;
# TARGET=name fuzzes only one.
#
# Two targets run at a time. Findings stay in fuzz/artifacts. Copy a finding into fuzz/seeds/TARGET,
# under a name that says what it shows, and the ordinary tests will use it. The fuzzed code has no
# unsafe code, so no sanitizer is used, and any toolchain works.
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

# Mounts must be invisible to others. For that, root needs a mount name space, and others need a
# user name space as well.
unshare=(unshare --mount --propagation private)
((EUID == 0)) || unshare=(unshare --user --map-root-user --mount --propagation private)
if "${unshare[@]}" true 2>/dev/null; then
    export GATEVISOR_FUZZ_UNSHARE="${unshare[*]}"
else
    say 'no mount name space can be made: trees are fuzzed without mounts'
fi

# Fuzzes one target. xargs calls this.
one() {
    local name=$1 corpus=fuzz/corpus/$1 log
    local -a isolated=()
    # The trees of `paths` have mounts.
    if [[ $name == paths && -n ${GATEVISOR_FUZZ_UNSHARE:-} ]]; then
        read -ra isolated <<<"$GATEVISOR_FUZZ_UNSHARE env GATEVISOR_FUZZ_MAY_MOUNT=1"
    fi
    mkdir -p "$corpus" "fuzz/artifacts/$name"
    log=fuzz/artifacts/$name/log
    if GATEVISOR_FUZZ_TARGET=$name "${isolated[@]}" "$2" "$corpus" "fuzz/seeds/$name" -max_total_time="$3" -max_len=8192 -timeout=10 \
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
    die 'the targets above failed' 'run one alone: make fuzz TARGET=name'
