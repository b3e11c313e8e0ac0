#!/bin/bash
# A container without an engine: a root directory of two layers, namespaces of its own for mounts,
# processes, IPC and names, and the capabilities that Docker gives. A new one takes some fifty
# milliseconds.
#
#   cell.sh make IMAGE PROGRAM LAYOUT      lays out the layer of the image: hermes or minimal
#   cell.sh boot IMAGE DIRECTORY WORD...   becomes a new first process: /init with these words;
#                                          again for a restart
#
# DIRECTORY has: upper/ and work/ (what the container changed), volume/ (its home), others/ (volumes
# of others), variables (its environment), mounts (a script of bash that runs before the root
# changes to $R), pid (the first process).
set -euo pipefail

CAPABILITIES=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap

make() {
    local image=$1 program=$2 layout=$3
    umask 022
    mkdir -p "$image"/{usr,etc,proc,dev,sys,tmp,root,srv,run/{s6,service}}
    chmod 1777 "$image"/{tmp,run,run/s6,run/service}
    for link in bin sbin lib lib64; do ln -s "usr/$link" "$image/$link"; done
    cp -L /etc/ld.so.cache "$image/etc/" 2>/dev/null || :
    cp -rL /etc/alternatives "$image/etc/" 2>/dev/null || :
    # /usr is this machine's, but /usr/local is the image's.
    mkdir -p "$image/local/bin"
    cp -- "$program" "$image/local/bin/gatevisor"
    ln -s usr/local/bin/gatevisor "$image/init"
    "$program" applets install "$image/command" >/dev/null 2>&1 </dev/null
    find "$image/command" -type l -exec ln -sfn /usr/local/bin/gatevisor {} \;
    "$layout" "$image" "$(dirname -- "$0")/../../image"
    chown -R 0:0 "$image/etc"
}

# Lays out what the image with Hermes has in addition.
hermes() { # IMAGE SOURCES
    echo /opt/data >"$1.home"
    mkdir -p "$1"/{etc/cont-init.d,opt/data,opt/hermes/{bin,docker,.venv/bin}}
    chown 10000:10000 "$1/opt/data"
    printf 'root:x:0:0:root:/root:/bin/bash\nhermes:x:10000:10000::/opt/data:/bin/bash\nother:x:10001:10001::/nonexistent:/bin/sh\n' >"$1/etc/passwd"
    printf 'root:x:0:\ntty:x:5:\nhermes:x:10000:\nother:x:10001:\n' >"$1/etc/group"
    printf 'hermes:!::0:::::\n' >"$1/etc/shadow"
    ln -s /usr/local/bin/gatevisor "$1/opt/hermes/bin/hermes"
    ln -s /usr/local/bin/gatevisor "$1/opt/hermes/docker/main-wrapper.sh"
    # The image's profile for login shells, unchanged.
    cp -a -- "$2/rootfs/." "$1/"
    chown -R 0:0 "$1/opt/hermes"
    printf '#!/bin/sh\n# What stands for the agent.\necho "hermes $* runs as $(id -u)"\ncase "$1" in\nsleep) exec sleep infinity ;;\n-p) shift 2 ;;\nesac\ncase "$1 $2" in\n"gateway run") exec sleep infinity ;;\nesac\n' >"$1/opt/hermes/.venv/bin/hermes"
    chmod 755 "$1/opt/hermes/.venv/bin/hermes"
}

# Lays out what the minimal image has: an agent file, two users, and nothing that could be a hook or
# a shim.
minimal() { # IMAGE SOURCES
    echo /data >"$1.home"
    mkdir -p "$1/data" "$1/etc/gatevisor"
    cp -- "$2/minimal/agent.toml" "$1/etc/gatevisor/"
    cp -- "$2/minimal/passwd" "$2/minimal/group" "$1/etc/"
}

boot() {
    exec unshare --mount --pid --ipc --uts --fork --kill-child --propagation private "$0" first "$@"
}

# Mounts a directory at the place that TARGET has in the container, following links in there, as an
# engine does.
volume() { # SOURCE TARGET
    mount --bind "$1" "$R$(chroot "$R" /bin/sh -c 'mkdir -p "$1" 2>/dev/null; exec realpath "$1"' sh "$2")"
}

# Runs in the new namespaces.
first() {
    local image=$1 directory=$2 pid home
    R=$directory/root
    shift 2
    # /proc is still that of this machine.
    read -r pid _ </proc/self/stat
    echo "$pid" >"$directory/pid"
    mount -t overlay -o "lowerdir=$image,upperdir=$directory/upper,workdir=$directory/work" cell "$R"
    mount --rbind /usr "$R/usr"
    mount -o remount,bind,ro "$R/usr"
    mount --bind "$image/local" "$R/usr/local"
    mount -t proc proc "$R/proc"
    mount -t tmpfs -o mode=755 dev "$R/dev"
    for device in null zero full random urandom tty; do
        : >"$R/dev/$device"
        mount --bind "/dev/$device" "$R/dev/$device"
    done
    mkdir "$R/dev/pts" "$R/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$R/dev/pts"
    ln -s pts/ptmx "$R/dev/ptmx"
    for n in 0 1 2; do ln -s "/proc/self/fd/$n" "$R/dev/$(printf 'stdin stdout stderr' | cut -d' ' -f$((n + 1)))"; done
    ln -s /proc/self/fd "$R/dev/fd"
    mount -t tmpfs -o mode=1777,size=64m shm "$R/dev/shm"
    read -r home <"$image.home"
    volume "$directory/volume" "$home"
    volume "$directory/others/home" "$home/mounted"
    # shellcheck source=/dev/null
    . "$directory/mounts"
    # Processes that enter the container later get the same environment.
    echo "$CAPABILITIES" >"$directory/capabilities"
    mapfile -t variables <"$directory/variables"
    cd "$R"
    pivot_root . tmp
    exec chroot . /bin/sh -c 'umount -l /tmp && cd / && exec "$@"' sh \
        setsid setpriv --bounding-set "$CAPABILITIES" --inh-caps=-all env -i "${variables[@]}" /init "$@"
}

"$@"
