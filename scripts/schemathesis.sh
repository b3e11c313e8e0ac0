#!/usr/bin/env bash
# Makes a Python virtual environment with schemathesis in the cache, once, and prints its path.
#
# The versions of what makes the requests are fixed, for the same seed to make the same ones. The
# environment is complete only if its stamp says so, because the stamp is written last. A second run
# at the same moment waits for the first.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

packages=(schemathesis==4.32.5 hypothesis==6.170.17 jsonschema-rs==0.60.3)

venv=$cache/schemathesis-4.32.5
stamp=$venv/.complete
contents=${packages[*]}

# The interpreter is tried too, because it vanishes when the system's Python is upgraded.
complete() { [[ -f $stamp && $(<"$stamp") == "$contents" ]] && "$venv/bin/python" -c '' 2>/dev/null; }

if ! complete; then
    mkdir -p -- "$cache"
    exec 9>"$venv.lock"
    flock 9
fi

if ! complete; then
    python=$(find_python) || die 'no Python 3.11 to 3.13 with venv on this machine' \
        'run: scripts/setup.sh demo'
    say "making a Python environment with schemathesis in $venv (some seconds, once)"
    log=$venv.log
    rm -rf -- "$venv"
    "$python" -m venv -- "$venv" >"$log" 2>&1 </dev/null ||
        die "$python cannot make a virtual environment, see $log" "$(tail -n 3 -- "$log")"
    "$venv/bin/pip" install --disable-pip-version-check --no-input --progress-bar off -- "${packages[@]}" >>"$log" 2>&1 </dev/null ||
        die "pip cannot install schemathesis, see $log" "$(tail -n 3 -- "$log")"
    "$venv/bin/schemathesis" --version >>"$log" 2>&1 </dev/null ||
        die "what pip installed does not work, see $log"
    printf '%s\n' "$contents" >"$stamp.new"
    mv -- "$stamp.new" "$stamp"
    say "made $venv"
fi

printf '%s\n' "$venv"
