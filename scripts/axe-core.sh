#!/usr/bin/env bash
# Installs axe-core, which finds what a screen reader cannot tell, in the cache, once, and prints
# its file.
#
# The installation is complete only if the file is there, because that is put there last.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

version=4.14.1
place=$cache/axe-core-$version
file=$place/axe.min.js

if [[ ! -f $file ]]; then
    have npm || die 'npm is not installed, and axe-core comes from it' 'run: apt-get install npm'
    mkdir -p -- "$cache"
    making=$(mktemp -d -- "$place.new.XXXXXX")
    trap 'rm -rf -- "$making"' EXIT
    say "installing axe-core in $place (some seconds, once)"
    (cd -- "$making" && printf '{"private":true}\n' >package.json &&
        npm install --no-audit --no-fund --ignore-scripts -- "axe-core@$version") >"$place.log" 2>&1 </dev/null ||
        die "npm cannot install axe-core, see $place.log" "$(tail -n 3 -- "$place.log")"
    mkdir -p -- "$place"
    mv -- "$making/node_modules/axe-core/axe.min.js" "$file"
fi

printf '%s\n' "$file"
