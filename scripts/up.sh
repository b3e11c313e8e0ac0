#!/usr/bin/env bash
# Does the work of `make up`: prepares everything that is missing, then becomes the supervisor in
# the foreground.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

cd "$root"
scripts/setup.sh demo
say 'building gatevisor'
scripts/build.sh >/dev/null
venv=$(scripts/hermes-venv.sh)
home=$(scripts/demo-home.sh)

# The built-in agent definition takes the command from this variable, so nobody has to activate the
# environment.
export HERMES_BIN=$venv/bin/hermes
exec "$(find_python)" scripts/foreground.py target/gatevisor up --home "$home"
