#!/usr/bin/env bash
# Builds the one static binary, and prints its path.
#
#   scripts/build.sh                     builds for release; the stable name is target/gatevisor
#   scripts/build.sh --wanted-target     prints the target that we prefer to build for
#   scripts/build.sh --has-target NAME   tells by its exit code whether Rust can build for NAME
#
# This script alone decides about the target. It is musl of this machine's architecture, because the
# binary must run in any image without a C library beside it. If that target is not installed (a
# distribution's Rust without rustup), it is the host's own target with the C library linked in.
# That binary is as static, and larger. Nothing in Gatevisor asks the C library for users or host
# names, so both binaries behave alike.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

wanted_target() { printf '%s-unknown-linux-musl\n' "$(uname -m)"; }

# Asks the compiler instead of rustup, which is not on every machine.
has_target() {
    local libraries
    libraries=$(rustc --print target-libdir --target "$1" 2>/dev/null) || return 1
    compgen -G "$libraries/libstd-*.rlib" >/dev/null
}

case ${1:-} in
--wanted-target) wanted_target && exit 0 ;;
--has-target) has_target "$2" && exit 0 || exit 1 ;;
'') ;;
*) die "usage: scripts/build.sh [--wanted-target | --has-target NAME]" ;;
esac

cd "$root"
target=$(wanted_target)
if ! has_target "$target"; then
    target=$(rustc --version --verbose | sed -n 's/^host: //p')
    export RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static"
fi

cargo build --release --target "$target" --package gatevisor >&2

# A path that does not change with the machine, for people, scripts and the demo's slots.
binary=${CARGO_TARGET_DIR:-$root/target}/$target/release/gatevisor
mkdir -p target
ln -sfn -- "$(realpath -- "$binary")" "target/.gatevisor.$$"
mv -T -- "target/.gatevisor.$$" target/gatevisor

printf '%s\n' "$binary"
