#!/usr/bin/env bash
# Provides a Docker engine that answers, and the image that ours is made from. Quick if both exist.
#
#   scripts/docker.sh start    starts an engine if none answers, and gets or makes the base image
#   scripts/docker.sh stop     ends the engine, if this script started it
#   scripts/docker.sh base     prints the name of the base image
#
# An engine that already runs is used and left alone. The programs come from scripts/setup.sh test.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

base=debian:bookworm-slim
suite=bookworm
# What we keep outside of the engine's own directories: the number of its process, and its log.
state=/run/gatevisor-docker
pid_file=$state/dockerd.pid
log=$state/dockerd.log
seconds=90

answers() { timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# Prints the number of the engine that we started, if it lives.
ours() {
    local pid
    [[ -f $pid_file ]] && pid=$(<"$pid_file") || return 1
    [[ -n $pid && $(cat -- "/proc/$pid/comm" 2>/dev/null) == dockerd ]] && printf '%s\n' "$pid"
}

# An engine limits its containers by control groups. A machine without an init system may have none
# mounted.
mount_cgroups() {
    [[ ! -e /sys/fs/cgroup/cgroup.controllers ]] || return 0
    local controller enabled
    mountpoint -q /sys/fs/cgroup || mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
    while read -r controller _ _ enabled; do
        [[ $enabled == 1 ]] || continue
        mountpoint -q "/sys/fs/cgroup/$controller" && continue
        # Several controllers may already be mounted together (cpu,cpuacct).
        grep -qE "^cgroup .*[ ,]$controller[ ,]" /proc/mounts && continue
        mkdir -p "/sys/fs/cgroup/$controller"
        mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller" 2>/dev/null ||
            rmdir "/sys/fs/cgroup/$controller"
    done < <(grep -v '^#' /proc/cgroups)
    return 0
}

start_engine() {
    answers && return 0
    have docker && have dockerd || die 'there is no Docker engine on this machine' \
        'run: scripts/setup.sh test' 'or install and start one, and see that `docker version` names a server'
    (($(id -u) == 0)) || die 'no Docker engine answers, and only root can start one' \
        'start it (systemctl start docker), and see that you may use it (group docker)'
    mkdir -p -m 755 -- "$state"
    exec 9>"$state/lock"
    flock 9
    if ! answers; then
        mount_cgroups
        say "starting a Docker engine (its log is $log)"
        # An engine that was killed leaves its number, which may now belong to another process.
        ours >/dev/null || rm -f -- "$pid_file"
        : >"$log"
        # The engine must not inherit our lock, or it would hold the lock as long as it lives.
        setsid dockerd --pidfile "$pid_file" >>"$log" 2>&1 </dev/null 9>&- &
        local dockerd=$!
        # The engine logs when it listens. If it ends instead, tail ends too.
        timeout "$seconds" grep -q -m 1 'API listen on' \
            < <(exec tail -n +1 -F --pid="$dockerd" -- "$log" 2>/dev/null 9>&-) ||
            die "the Docker engine does not come up, see $log" "$(tail -n 3 -- "$log")"
        disown "$dockerd"
        answers || die "the Docker engine is up and does not answer, see $log"
    fi
    exec 9>&-
}

# Prints the mirror that this machine's own packages come from, or nothing if this is no Debian.
mirror() {
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null | sed -n 1p
}

# Makes the smallest Debian on this machine. It is not the official image of that name, but
# sufficient for us.
bootstrap() {
    have debootstrap || die "$base can neither be pulled nor made: debootstrap is missing" \
        'run: scripts/setup.sh test'
    (($(id -u) == 0)) || die "$base cannot be pulled, and only root can make it" "by hand: docker pull $base"
    local tree source
    tree=$(mktemp -d)
    source=$(mirror)
    say "making $base with debootstrap (a minute or two, once)"
    if ! debootstrap --variant=minbase "$suite" "$tree" ${source:+"$source"} >"$tree.log" 2>&1 </dev/null; then
        rm -rf -- "$tree"
        die "debootstrap failed, see $tree.log" "$(tail -n 2 -- "$tree.log")"
    fi
    rm -rf -- "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/* "$tree"/usr/share/{doc,man,locale}/* \
        "$tree"/etc/resolv.conf
    tar -C "$tree" -c --one-file-system . |
        docker import --change 'CMD ["bash"]' - "$base" >/dev/null || die "docker import failed for $base"
    rm -rf -- "$tree" "$tree.log"
}

base_image() {
    docker image inspect -- "$base" >/dev/null 2>&1 && return 0
    say "getting $base"
    timeout 120 docker pull --quiet -- "$base" >/dev/null 2>&1 </dev/null && return 0
    bootstrap
}

stop_engine() {
    local pid
    pid=$(ours) || return 0
    say 'ending the Docker engine that was started for the tests'
    kill -TERM "$pid"
    # (tail ends when the process does.)
    timeout 60 tail -n 0 -f --pid="$pid" /dev/null || say "warning: the Docker engine (process $pid) does not end"
}

case ${1:-} in
start)
    start_engine
    base_image
    ;;
stop) stop_engine ;;
base) printf '%s\n' "$base" ;;
*) die 'usage: scripts/docker.sh start|stop|base' ;;
esac
