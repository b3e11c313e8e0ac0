#!/usr/bin/env bash
# Makes the demo home with the profiles coder and writer, and prints its path. Everything in it is kept by a second run:
# keys, ports, and which gateways are wanted.
#
# GATEVISOR_DEMO_HOME names another place than .demo/home. The binary must have been built (scripts/build.sh).
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

home=${GATEVISOR_DEMO_HOME:-$root/.demo/home}
gatevisor=$root/target/gatevisor
# Written last. A profile that is deleted or stopped afterwards stays so.
stamp=$home/.demo-complete

python=$(find_python) || die 'no Python 3.11 to 3.13 with venv on this machine' 'run: scripts/setup.sh demo'

# Prints a loopback port that nothing holds now, at or above $1. Below the range that the kernel hands out for outgoing
# connections (from 32768), so that it is still free tomorrow.
free_port() {
    "$python" - "$1" <<'END'
import socket
import sys

for port in range(int(sys.argv[1]), 32768):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            continue
    print(port)
    break
else:
    sys.exit("error: no free loopback port")
END
}

random_key() { od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n'; }

has_setting() { [[ -f $1 ]] && grep -q "^$2=." -- "$1"; }

# Adds what the API server of Hermes reads to the profile's .env, unless it is there.
configure() {
    local profile=$1 port=$2 file=$home/profiles/$1/.env
    has_setting "$file" API_SERVER_KEY && return 0
    (
        umask 077
        {
            [[ ! -f $file ]] || cat -- "$file"
            printf 'API_SERVER_ENABLED=true\n'
            printf 'API_SERVER_HOST=127.0.0.1\n'
            printf 'API_SERVER_PORT=%s\n' "$port"
            printf 'API_SERVER_KEY=%s\n' "$(random_key)"
        } >"$file.new"
        # Whatever the mode of a file that an interrupted run left there.
        chmod 600 -- "$file.new"
        mv -- "$file.new" "$file"
    )
}

# Wants the gateway up. No supervisor runs yet, so the command records the desired state and ends with 102.
want_up() {
    [[ -e $home/profiles/$1/gateway_state.json ]] && return 0
    local code=0
    "$gatevisor" --home "$home" -p "$1" gateway start >/dev/null 2>"$home/.demo-messages" </dev/null || code=$?
    if ((code != 0 && code != 102)) || [[ ! -e $home/profiles/$1/gateway_state.json ]]; then
        die "cannot record that the gateway of $1 is wanted (exit $code)" "$(<"$home/.demo-messages")"
    fi
    rm -f -- "$home/.demo-messages"
}

if [[ ! -e $stamp ]]; then
    [[ -x $gatevisor ]] || die 'target/gatevisor is not built' 'run: make build'
    say "making the demo home $home with the profiles coder and writer"
    mkdir -p -m 700 -- "$home"
    port=18640
    for profile in coder writer; do
        if [[ ! -e $home/profiles/$profile/SOUL.md ]]; then
            "$gatevisor" --home "$home" profile create "$profile" >/dev/null </dev/null ||
                die "cannot create the profile $profile, see above"
        fi
        port=$(free_port $((port + 1)))
        while grep -qsx "API_SERVER_PORT=$port" -- "$home"/profiles/*/.env; do
            port=$(free_port $((port + 1)))
        done
        configure "$profile" "$port"
        want_up "$profile"
    done
    : >"$stamp"
fi

printf '%s\n' "$home"
