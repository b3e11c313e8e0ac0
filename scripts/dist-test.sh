#!/usr/bin/env bash
# Tests what scripts/dist.sh has built, by using it.
#
#   scripts/dist-test.sh              all of it
#   scripts/dist-test.sh PART …       only these: sums, tarball, deb, crates, source, arm
#
# `deb` needs a Docker engine, and `arm` needs qemu-user-static and a kernel on which a user
# namespace may have binfmt_misc of its own (Linux 6.7), so that nothing is registered on this
# machine. Where that is missing, the part says so and is left out.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

cd "$root"
exec </dev/null
out=${GATEVISOR_DIST:-$root/dist}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
work=$(mktemp -d)
container=
finish() {
    [[ -z $container ]] || docker rm --force --volumes "$container" >/dev/null 2>&1 || true
    rm -rf -- "$work"
}
trap finish EXIT

all=(sums tarball deb crates source arm)
parts=("$@")
((${#parts[@]} > 0)) || parts=("${all[@]}")

skip() { say "warning: NOT TESTED: $1"; }
unpack() { # PROCESSOR
    mkdir -p "$work/$1"
    tar --extract --gzip --file "$out/gatevisor-$version-linux-$1.tar.gz" --directory "$work/$1" --strip-components=1
}

part_sums() { (cd "$out" && sha256sum --quiet --check SHA256SUMS); }

part_tarball() {
    local file
    unpack "$(uname -m)"
    [[ $("$work/$(uname -m)/bin/gatevisor" --version) == "gatevisor $version" ]] || die 'the tarball has another version'
    for file in share/doc/gatevisor/LICENSE-{MIT,APACHE} share/bash-completion/completions/gatevisor \
        share/zsh/vendor-completions/_gatevisor share/fish/vendor_completions.d/gatevisor.fish lib/systemd/system/gatevisor@.service; do
        [[ -s $work/$(uname -m)/$file ]] || die "the tarball lacks $file"
    done
    ! have bash || bash -n "$work/$(uname -m)/share/bash-completion/completions/gatevisor"
}

# Installed, upgraded, removed and purged: nothing starts, and a home stays as it is.
part_deb() {
    engine || {
        skip 'the Debian package, because no Docker engine answers'
        return 0
    }
    local base architecture
    base=$(scripts/docker.sh base)
    architecture=$(dpkg --print-architecture)
    container=$(docker create --network none "$base" sleep infinity)
    docker start "$container" >/dev/null
    docker cp "$out/gatevisor_${version}_$architecture.deb" "$container:/gatevisor.deb"
    docker exec "$container" bash -euc '
        mkdir -p /root/.hermes/profiles/coder; echo kept >/root/.hermes/config.yaml
        dpkg --install /gatevisor.deb >/dev/null
        gatevisor --version
        test "$(stat -c "%a %U:%G" /usr/bin/gatevisor)" = "755 root:root"
        test -f /usr/lib/systemd/system/gatevisor@.service -a -f /usr/lib/systemd/user/gatevisor.service
        test -z "$(find /etc/systemd -name "gatevisor*")" || { echo "a unit was enabled"; exit 1; }
        if grep -ls gatevisor /proc/[0-9]*/comm; then echo "something was started"; exit 1; fi
        # A home in use over an upgrade to the same version.
        gatevisor --home /root/.hermes status >/dev/null || true
        dpkg --install /gatevisor.deb >/dev/null
        dpkg --verify gatevisor
        dpkg --purge gatevisor >/dev/null
        test ! -e /usr/bin/gatevisor -a ! -e /usr/share/doc/gatevisor
        test "$(cat /root/.hermes/config.yaml)" = kept -a -d /root/.hermes/profiles/coder' >&2
}

# Runs a script of bash as root of a user namespace in which this kernel executes aarch64.
emulated() { # SCRIPT ARGUMENT…
    unshare --user --map-root-user --mount --pid --fork --kill-child bash -euc '
        mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
        # The kernel reads the escapes. The magic is that of an ELF file for aarch64.
        magic="\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
        mask="\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
        printf "%s" ":arm:M::$magic:$mask:$(command -v qemu-aarch64-static):F" >/proc/sys/fs/binfmt_misc/register
        mount -t proc proc /proc
        exec bash -euc "$@"' - "$@"
}

part_arm() {
    local agent=$root/examples
    if ! have qemu-aarch64-static; then
        skip 'the aarch64 binary, because qemu-user-static is not installed'
        return 0
    elif ! emulated 'exit 0' - 2>/dev/null; then
        skip 'the aarch64 binary, because no user namespace can have binfmt_misc of its own here'
        return 0
    fi
    unpack aarch64
    emulated '
        g=$1/bin/gatevisor home=$3
        "$g" --version
        # Supervise, log, stop: the tools of s6.
        mkdir -p "$home/scan/web/log" "$home/lines"
        printf "#!/bin/sh\necho works; exec sleep 600\n" >"$home/scan/web/run"
        printf "#!/bin/sh\nexec %s s6 s6-log %s\n" "$g" "$home/lines" >"$home/scan/web/log/run"
        chmod 755 "$home/scan/web/run" "$home/scan/web/log/run"
        "$g" s6 s6-svscan "$home/scan" & scan=$!
        until "$g" s6 s6-svok "$home/scan/web"; do read -rt 0.2 <> <(:) || :; done
        "$g" s6 s6-svwait -u -t 60000 "$home/scan/web"
        timeout 60 grep -qm1 works < <(tail -n +1 -F "$home/lines/current" 2>/dev/null)
        "$g" s6 s6-svc -wR -T 60000 -r "$home/scan/web"
        "$g" s6 s6-svc -wD -T 60000 -d "$home/scan/web"
        "$g" s6 s6-svscanctl -t "$home/scan"
        wait "$scan"
        # `up` with the HTTP agent.
        export HTTP_AGENT_PROGRAM=$2/http-agent.py
        gv() { "$g" --agent "$HTTP_AGENT_EXAMPLES/http-agent.toml" --home "$home/agents" "$@"; }
        export HTTP_AGENT_EXAMPLES=$2
        "$g" --agent "$2/http-agent.toml" --home "$home/agents" up --create --quiet & up=$!
        until gv status >/dev/null 2>&1; do kill -0 "$up"; read -rt 0.2 <> <(:) || :; done
        gv gateway start
        gv wait --ready default
        gv status
        gv gateway stop
        kill -TERM "$up"
        wait "$up"' - "$work/aarch64" "$agent" "$work" >&2
}

# What `cargo publish` would send. Without the registry nobody can try that a published crate finds
# the others there.
part_crates() {
    cargo package --workspace --no-verify --allow-dirty --target-dir "$work/package" 2>&1 | grep -v 'ignoring test' >&2
}

# `cargo install` from the source, as people type it, without its optimization.
part_source() {
    cargo install --quiet --debug --locked --path crates/gatevisor --root "$work/installed" >&2
    [[ $("$work/installed/bin/gatevisor" --version) == "gatevisor $version" ]] || die 'cargo install made another version'
    # Nothing but the program: it finds its own file, and what it needs is in it.
    [[ $(ls "$work/installed/bin") == gatevisor ]] || die 'cargo install made other programs' "$(ls "$work/installed/bin")"
    "$work/installed/bin/gatevisor" --home "$work/home" up --create --detach --quiet >&2
    "$work/installed/bin/gatevisor" --home "$work/home" down >&2
}

for part in "${parts[@]}"; do
    [[ " ${all[*]} " == *" $part "* ]] || die "there is no part \`$part\`" "there are: ${all[*]}"
    say "=== $part"
    "part_$part"
done
say 'scripts/dist-test.sh: everything passed'
