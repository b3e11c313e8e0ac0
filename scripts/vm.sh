#!/usr/bin/env bash
# Runs tests of kernel features that this machine may lack, in a virtual machine with Debian's own
# kernel: control groups of version 2 with all controllers, Landlock, and a root with every
# capability.
#
#   scripts/vm.sh              the tests of control groups, of the state of processes at their
#                              start, and of confinement
#   scripts/vm.sh FILTER …     these tests of the suite `supervisor`, and no others
#
# Needs root on Debian or Ubuntu, and a Docker engine for the guest's files (scripts/docker.sh
# start). Takes some minutes, because the processor is emulated; set VM_ACCEL=kvm if that works. Not
# a part of `make test`.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

cd "$root"
exec </dev/null
filters=("$@")

if ! have qemu-system-x86_64 || ! have cpio; then
    (($(id -u) == 0)) && have apt-get || die 'qemu-system-x86_64 or cpio is not installed' 'run: apt-get install qemu-system-x86 cpio'
    apt-get update -q >&2 || say 'warning: apt-get update failed, going on with the lists that are here'
    DEBIAN_FRONTEND=noninteractive apt-get install -q --yes --no-install-recommends qemu-system-x86 cpio >&2
fi

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
guest=$work/guest

# --- the kernel: only its file is used, nothing is installed --------------------------------------

kernel=$cache/vm/vmlinuz
if [[ ! -e $kernel ]]; then
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
    [[ -n $package ]] || die 'no kernel package linux-image-cloud-amd64 is known' 'run: apt-get update'
    say "fetching $package"
    mkdir -p "$work/package" "$cache/vm"
    chmod 777 "$work" "$work/package"
    (cd "$work/package" && apt-get download -q "$package" >&2 && dpkg-deb --extract ./*.deb .)
    mv -- "$work"/package/boot/vmlinuz-* "$kernel.$$"
    mv -- "$kernel.$$" "$kernel"
fi

# --- the guest: a bare Debian, and the tests at the paths where they were built -------------------

say 'building the tests'
mkdir "$guest"
built() {
    cargo test --no-run --message-format json "$@" | python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable"):
        print(message["executable"])'
}
{
    built -p gatevisor --test supervisor
    ((${#filters[@]})) || built -p gatevisor-slot --test confine
    cargo build -q -p gatevisor-slot --examples
    ls "${CARGO_TARGET_DIR:-$root/target}"/debug/examples/slot-interpreter
} | sort -u >"$work/programs"

container=$(docker create "$(scripts/docker.sh base)" true)
docker export "$container" | tar -x -C "$guest"
docker rm "$container" >/dev/null
while read -r program; do
    mkdir -p "$guest/${program%/*}"
    strip -o "$guest/$program" -- "$program"
done <"$work/programs"

confine=$(grep '/deps/confine-' "$work/programs" || true)
supervisor=$(grep '/deps/supervisor-' "$work/programs")
((${#filters[@]})) || filters=(groups:: start_state::)
cat >"$guest/init" <<END
#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root RUST_BACKTRACE=0
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
for place in /dev/shm /tmp /run; do mount -t tmpfs tmpfs \$place; done
mount -t devpts pts /dev/pts; mount -t cgroup2 groups /sys/fs/cgroup
exec >/dev/ttyS0 2>&1 </dev/null
# There is no ip(8), so SIOCSIFFLAGS sets the flags UP, LOOPBACK and RUNNING.
perl -e 'use Socket; \$lo = pack("a16 s x22", "lo", 0x49); socket(S, AF_INET, SOCK_DGRAM, 0); ioctl(S, 0x8914, \$lo) or die "lo: \$!"'
# The tests run in a session of their own, as after a login.
code=0
setsid --wait $supervisor --test-threads 2 ${filters[*]} || code=1
${confine:+setsid --wait $confine --test-threads 2 || code=1}
echo "the guest ends with \$code"
echo o > /proc/sysrq-trigger
sleep 60
END
chmod 755 "$guest/init"
(cd "$guest" && find . | cpio --create --format=newc --quiet | gzip -1) >"$work/initrd"

say 'starting the guest'
timeout 900 qemu-system-x86_64 -accel "${VM_ACCEL:-tcg},thread=multi" -cpu max -m 3000 -smp 2 -nographic -no-reboot \
    -kernel "$kernel" -initrd "$work/initrd" -append 'console=ttyS0 quiet panic=-1' |
    sed -un 's/\r$//; /^running /,$p' | tee "$work/said"
grep -qx 'the guest ends with 0' "$work/said" || die 'a test failed in the guest, or the guest itself failed; see above'
