#!/bin/bash
# A container without an engine: a root directory of its own out of two layers, own mounts, processes, IPC and names, and the
# capabilities that Docker gives. A fresh one takes some fifty milliseconds.
#
#   cell.sh make IMAGE PROGRAM             lays out the layer of the image
#   cell.sh boot IMAGE DIRECTORY WORD...   becomes a new first process: /init with these words; once more for a restart
#
# In DIRECTORY: upper/ and work/ (what the container changed), volume/ (its home), others/ (volumes of others), variables (its
# environment), mounts (words of bash that run before the root changes, which is $R), pid (the first process).
set -euo pipefail

CAPABILITIES=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap

make() {
    local image=$1 program=$2
    umask 022
    mkdir -p "$image"/{usr,etc/cont-init.d,proc,dev,sys,tmp,root,srv,opt/data,opt/hermes/{bin,docker,.venv/bin},run/{s6,service}}
    chmod 1777 "$image"/{tmp,run,run/s6,run/service}
    chown 10000:10000 "$image/opt/data"
    for link in bin sbin lib lib64; do ln -s "usr/$link" "$image/$link"; done
    cp -L /etc/ld.so.cache "$image/etc/" 2>/dev/null || :
    cp -rL /etc/alternatives "$image/etc/" 2>/dev/null || :
    printf 'root:x:0:0:root:/root:/bin/bash\nhermes:x:10000:10000::/opt/data:/bin/bash\nother:x:10001:10001::/nonexistent:/bin/sh\n' >"$image/etc/passwd"
    printf 'root:x:0:\ntty:x:5:\nhermes:x:10000:\nother:x:10001:\n' >"$image/etc/group"
    printf 'hermes:!::0:::::\n' >"$image/etc/shadow"
    # /usr is this machine's, and /usr/local the image's.
    mkdir -p "$image/local/bin"
    cp -- "$program" "$image/local/bin/gatevisor"
    ln -s usr/local/bin/gatevisor "$image/init"
    ln -s /usr/local/bin/gatevisor "$image/opt/hermes/bin/hermes"
    ln -s /usr/local/bin/gatevisor "$image/opt/hermes/docker/main-wrapper.sh"
    "$program" applets install "$image/command" >/dev/null 2>&1 </dev/null
    find "$image/command" -type l -exec ln -sfn /usr/local/bin/gatevisor {} \;
    # What the image puts into the shells of people, as it is.
    cp -a -- "$(dirname -- "$0")/../../image/rootfs/." "$image/"
    chown -R 0:0 "$image/etc" "$image/opt/hermes"
    printf '#!/bin/sh\n# What stands for the agent.\necho "hermes $* runs as $(id -u)"\ncase "$1" in\nsleep) exec sleep infinity ;;\n-p) shift 2 ;;\nesac\ncase "$1 $2" in\n"gateway run") exec sleep infinity ;;\nesac\n' >"$image/opt/hermes/.venv/bin/hermes"
    chmod 755 "$image/opt/hermes/.venv/bin/hermes"
}

boot() {
    exec unshare --mount --pid --ipc --uts --fork --kill-child --propagation private "$0" first "$@"
}

# Mounts a directory where the container sees TARGET, wherever links lead in there, as an engine does.
volume() { # SOURCE TARGET
    mount --bind "$1" "$R$(chroot "$R" /bin/sh -c 'mkdir -p "$1" 2>/dev/null; exec realpath "$1"' sh "$2")"
}

# In the new namespaces.
first() {
    local image=$1 directory=$2 pid
    R=$directory/root
    shift 2
    # /proc is still this machine's.
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
    volume "$directory/volume" /opt/data
    volume "$directory/others/home" /opt/data/mounted
    # shellcheck source=/dev/null
    . "$directory/mounts"
    # Who enters it later has what it has.
    echo "$CAPABILITIES" >"$directory/capabilities"
    mapfile -t variables <"$directory/variables"
    cd "$R"
    pivot_root . tmp
    exec chroot . /bin/sh -c 'umount -l /tmp && cd / && exec "$@"' sh \
        setsid setpriv --bounding-set "$CAPABILITIES" --inh-caps=-all env -i "${variables[@]}" /init "$@"
}

"$@"
