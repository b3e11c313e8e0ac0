#!/usr/bin/env bash
# Builds the two images, and prints their names: first the one with Hermes, then the minimal one.
#
#   scripts/image.sh           around target/gatevisor (scripts/build.sh)
#   scripts/image.sh BINARY    around another static binary
#
# GATEVISOR_IMAGE names the first image (default: gatevisor:latest). HERMES=0.22 puts that version
# of Hermes into it (default: gatevisor:hermes-0.22). The tag of the second one has
# -minimal appended. A second run with another binary takes seconds. `scripts/docker.sh start`
# provides the engine and the base image.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

cd "$root"
binary=${1:-target/gatevisor}
hermes=$(hermes_package "${HERMES:-}")
case ${HERMES:-0.19} in
0.19*) image=${GATEVISOR_IMAGE:-gatevisor:latest} ;;
*) image=${GATEVISOR_IMAGE:-gatevisor:hermes-$HERMES} ;;
esac
[[ -x $binary ]] || die "$binary is not built" 'run: make build'

context=$(mktemp -d)
trap 'rm -rf -- "$context"' EXIT
chmod 755 "$context"
umask 022

# Lays out what both images have: the program and its names.
lay_out() {
    mkdir -p "$1/usr/local/bin" "$1/usr/bin"
    # The file is /init, and every other name is a link to it, as programs expect that look for the
    # container's first process by a file's real name.
    cp -L -- "$binary" "$1/init"
    ln -s ../../../init "$1/usr/local/bin/gatevisor"
    "$1/usr/local/bin/gatevisor" applets install --relative "$1/command" >/dev/null 2>&1 </dev/null ||
        die "$binary cannot lay out its applets"
}

lay_out "$context/hermes"
cp -a -- image/rootfs/. "$context/hermes/"
mkdir -p "$context/hermes/opt/hermes/bin"
ln -s ../../init "$context/hermes/usr/bin/tini"
ln -s /init "$context/hermes/opt/hermes/bin/hermes"
ln -s /init "$context/hermes/opt/hermes/docker/main-wrapper.sh"

lay_out "$context/minimal"
mkdir -p "$context/minimal/etc/gatevisor" "$context/minimal/tmp" "$context/minimal/run/s6"
chmod 1777 "$context/minimal/tmp" "$context/minimal/run" "$context/minimal/run/s6"
rmdir -- "$context/minimal/usr/bin"
cp -- image/minimal/agent.toml "$context/minimal/etc/gatevisor/"
cp -- image/minimal/passwd image/minimal/group "$context/minimal/etc/"

cp -- image/Dockerfile image/install-hermes.py "$context/"
cp -R -- image/hermes "$context/hermes-files"
mkdir "$context/certificates"
certificates=${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}
[[ ! -f $certificates ]] || cp -L -- "$certificates" "$context/certificates/ca.crt"
# The engine finds a cached layer by content and mode, so modes must be the same on every machine.
chmod -R go=u-w "$context/hermes/opt" "$context/hermes/etc" "$context/hermes-files"

arguments=(--build-arg "BASE=$(scripts/docker.sh base)" --build-arg "HERMES=$hermes")
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY \
    PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST; do
    [[ -z ${!name:-} ]] || arguments+=(--build-arg "$name")
done

# The classic builder is in every engine and needs no plugin. (Newer clients warn at each call that
# it will go away.)
build() { # STAGE NAME
    say "building $2"
    local log=$context.log
    DOCKER_BUILDKIT=0 docker build --network host --target "$1" --tag "$2" "${arguments[@]}" "$context" \
        >"$log" 2>&1 </dev/null || die "cannot build $2, see $log" "$(tail -n 15 -- "$log")"
    rm -f -- "$log"
    printf '%s\n' "$2"
}

build minimal "$image-minimal"  >"$context/minimal.name"
build hermes "$image"
cat -- "$context/minimal.name"
