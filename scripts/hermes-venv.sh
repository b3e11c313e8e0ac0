#!/usr/bin/env bash
# Makes a Python virtual environment with the real Hermes Agent in the cache, once, and prints its
# path: hermes-venv.sh [VERSION], of which 0.19 (the default) and 0.22 are known.
#
# The environment is complete only if its stamp says so, because the stamp is written last. A second
# run at the same moment waits for the first. (A virtual environment cannot be renamed, because its
# scripts name it.)
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

hermes=$(hermes_package "${1:-}")
# Hermes' HTTP server. It is optional for Hermes, but without it no gateway answers /health. 0.19.0
# was released with 3.14.1.
aiohttp='aiohttp~=3.14.1'

venv=$cache/hermes-${hermes##*==}
stamp=$venv/.complete
contents="$hermes $aiohttp"

# The interpreter is tried too, because it vanishes when the system's Python is upgraded.
complete() { [[ -f $stamp && $(<"$stamp") == "$contents" ]] && "$venv/bin/python" -c '' 2>/dev/null; }

if ! complete; then
    mkdir -p -- "$cache"
    exec 9>"$venv.lock"
    flock --nonblock 9 || {
        say 'another run is making the Python environment, waiting for it'
        flock 9
    }
fi

if ! complete; then
    python=$(find_python) || die 'no Python 3.11 to 3.13 with venv on this machine' \
        'run: scripts/setup.sh demo' 'or name one: make up PYTHON=/path/to/python3.12'
    say "making a Python environment with $hermes in $venv (a minute or two, once)"
    log=$venv.log
    rm -rf -- "$venv"
    "$python" -m venv -- "$venv" >"$log" 2>&1 </dev/null ||
        die "$python cannot make a virtual environment, see $log" "$(tail -n 3 -- "$log")"
    # Progress on a terminal: the name of each package in turn, on one line.
    show() { [[ ! -t 2 ]] || printf '\r\e[K%s' "$1" >&2; }
    if ! "$venv/bin/pip" install --disable-pip-version-check --no-input --progress-bar off -- "$hermes" "$aiohttp" 2>&1 </dev/null |
        tee -a -- "$log" |
        while read -r first second _; do
            case $first in
            Collecting) show "  collecting ${second%%[<>=!~;]*}" ;;
            Installing) show '  installing what was collected' ;;
            esac
        done; then
        show ''
        die "pip cannot install $hermes, see $log" "$(grep -m 3 -E '^ *(ERROR|error)' -- "$log" || tail -n 3 -- "$log")"
    fi
    show ''
    "$venv/bin/python" -c 'import aiohttp, gateway.run' >>"$log" 2>&1 </dev/null ||
        die "what pip installed does not work, see $log"
    printf '%s\n' "$contents" >"$stamp.new"
    mv -- "$stamp.new" "$stamp"
    say "made $venv"
fi

printf '%s\n' "$venv"
