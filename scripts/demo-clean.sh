#!/usr/bin/env bash
# Removes the demo home, unless a supervisor runs in it.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

home=$(demo_home)
[[ -e $home ]] || exit 0

# Never remove a directory that the demo did not make.
[[ -d $home/profiles && (-e $home/.demo-complete || $home == "$root/.demo/home"*) ]] ||
    die "$home does not look like a demo home" 'remove it by hand if it is one'

# As long as a supervisor lives, it reads the scandir's control FIFO.
python=$(find_python) || die 'no Python 3.11 to 3.13 on this machine' 'run: scripts/setup.sh demo'
if "$python" -c '
import os, sys
os.close(os.open(sys.argv[1], os.O_WRONLY | os.O_NONBLOCK))' "$home/run/service/.s6-svscan/control" 2>/dev/null; then
    die "a supervisor runs in $home" 'stop it first (Ctrl-C in its terminal)'
fi
rm -rf -- "$home"
rmdir -- "$root/.demo" 2>/dev/null || true
say "removed $home"
