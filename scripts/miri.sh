#!/usr/bin/env bash
# Runs the tests of the crates without I/O under Miri, which finds undefined behaviour, leaks and
# reads of memory that was never written. Each property is tried on one case, because Miri is a
# thousand times slower, and judges how the code runs, not what it computes.
#
#   scripts/miri.sh            installs nothing; ends with 3 if Miri is not installed
#   scripts/miri.sh install    installs Miri, if rustup can
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

cd "$root"
exec </dev/null

is_here() { cargo +nightly miri --version >/dev/null 2>&1; }

if [[ ${1:-} == install ]]; then
    is_here && exit 0
    have rustup || exit 3
    say 'installing Miri (once)'
    timeout 300 rustup toolchain install nightly --profile minimal --component miri,rust-src >&2 || exit 3
    is_here || exit 3
    exit 0
fi

is_here || {
    say 'Miri is not installed; run: scripts/miri.sh install'
    exit 3
}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/miri PROPTEST_CASES=1 MIRIFLAGS=-Zmiri-disable-isolation
if cargo nextest --version >/dev/null 2>&1; then
    cargo +nightly miri nextest run --profile miri -p gatevisor-wire -p gatevisor-core
else
    cargo +nightly miri test -p gatevisor-wire -p gatevisor-core
fi
