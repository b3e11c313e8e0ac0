#!/usr/bin/env bash
# Installs the real OpenClaw, with the Node that it needs, in the cache, once, and prints the
# directory of its programs: openclaw.sh [VERSION], of which 2026.9.6 (the default) and 2026.9.5 are
# known.
#
# The installation is complete only if its stamp says so, because the stamp is written last. A
# second run at the same moment waits for the first. It takes 800 MB and a minute.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

case ${1:-} in
    '' | 2026.9.6) openclaw='openclaw@2026.9.6' ;;
    # The last one before a change of the database, which it refuses afterwards.
    2026.9.5) openclaw='openclaw@2026.9.5' ;;
    *) die "OpenClaw $1 is not known here" 'known are: 2026.9.6 and 2026.9.5' ;;
esac
# OpenClaw refuses a Node before 24.16. That of most distributions is older.
node='node@26'

place=$cache/openclaw-${openclaw##*@}
bin=$place/node_modules/.bin
stamp=$place/.complete
contents="$openclaw $node"

complete() { [[ -f $stamp && $(<"$stamp") == "$contents" ]] && "$bin/node" -e '' 2>/dev/null; }

if ! complete; then
    mkdir -p -- "$cache"
    exec 9>"$place.lock"
    flock --nonblock 9 || {
        say 'another run is installing OpenClaw, waiting for it'
        flock 9
    }
fi

if ! complete; then
    have npm || die 'npm is not installed, and OpenClaw comes from it' 'run: apt-get install npm'
    log=$place.log
    rm -rf -- "$place"
    mkdir -p -- "$place"
    printf '{"private":true}\n' >"$place/package.json"
    fetch() {
        say "installing $1 in $place ($2, once)"
        (cd -- "$place" && PATH=$bin:$PATH npm install --no-audit --no-fund -- "$1") >>"$log" 2>&1 </dev/null ||
            die "npm cannot install $1, see $log" "$(tail -n 3 -- "$log")"
    }
    fetch "$node" 'some seconds'
    fetch "$openclaw" 'about a minute, 700 MB'
    PATH=$bin:$PATH "$bin/openclaw" --version >>"$log" 2>&1 </dev/null ||
        die "what npm installed does not work, see $log"
    printf '%s\n' "$contents" >"$stamp.new"
    mv -- "$stamp.new" "$stamp"
    say "made $place"
fi

printf '%s\n' "$bin"
