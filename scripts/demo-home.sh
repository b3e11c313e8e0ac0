#!/usr/bin/env bash
# Makes the demo home with the profiles coder and writer, and prints its path. A second run keeps
# everything in it: keys, ports and desired states.
#
# GATEVISOR_DEMO_HOME names another place than .demo/home. The binary must have been built
# (scripts/build.sh).
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# Since 0.21, the gateway of the default profile serves the others, and has the only HTTP server.
case ${HERMES:-0.19} in
0.19*) server='' ;;
*) server=default ;;
esac
agent=${AGENT:-hermes}
case $agent in
# The home remembers this.
openclaw) marker=openclaw.json state=.gatevisor-state.json words=(--agent openclaw) ;;
*) marker=SOUL.md state=gateway_state.json words=() ;;
esac
home=$(demo_home)
gatevisor=$root/target/gatevisor
# Written last. A profile that somebody deletes or stops afterwards stays deleted or stopped.
stamp=$home/.demo-complete

python=$(find_python) || die 'no Python 3.11 to 3.13 with venv on this machine' 'run: scripts/setup.sh demo'

# Prints a loopback port from $1 on that nothing holds now. It is below the range that the kernel
# uses for outgoing connections (from 32768), so it is still free tomorrow.
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

# Adds the settings of Hermes' API server to the profile's .env, unless they are there.
configure() {
    local profile=$1 port=$2 file=$home/profiles/$1/.env
    [[ $profile != default ]] || file=$home/.env
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
        # An interrupted run may have left the file with another mode.
        chmod 600 -- "$file.new"
        mv -- "$file.new" "$file"
    )
}

# Sets the desired state to running. No supervisor runs yet, so the command records that and ends
# with 102.
want_up() {
    [[ -e $home/profiles/$1/$state ]] && return 0
    local code=0
    "$gatevisor" --home "$home" "${words[@]}" -p "$1" gateway start >/dev/null 2>"$home/.demo-messages" </dev/null || code=$?
    if ((code != 0 && code != 102)) || [[ ! -e $home/profiles/$1/$state ]]; then
        die "cannot record that the gateway of $1 shall run (exit $code)" "$(<"$home/.demo-messages")"
    fi
    rm -f -- "$home/.demo-messages"
}

if [[ ! -e $stamp ]]; then
    [[ -x $gatevisor ]] || die 'target/gatevisor is not built' 'run: make build'
    say "making the demo home $home with the profiles coder and writer"
    mkdir -p -m 700 -- "$home"
    port=18640
    for profile in coder writer; do
        if [[ ! -e $home/profiles/$profile/$marker ]]; then
            "$gatevisor" --home "$home" "${words[@]}" profile create "$profile" >/dev/null </dev/null ||
                die "cannot create the profile $profile, see above"
        fi
        # OpenClaw's profiles have ports and secrets from the beginning.
        if [[ $agent == hermes ]]; then
            port=$(free_port $((port + 1)))
            while grep -qsx "API_SERVER_PORT=$port" -- "$home"/profiles/*/.env; do
                port=$(free_port $((port + 1)))
            done
            configure "${server:-$profile}" "$port"
        fi
        want_up "$profile"
    done
    : >"$stamp"
fi

printf '%s\n' "$home"
