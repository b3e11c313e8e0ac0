#!/usr/bin/env bash
# Does the work of `make up`: prepares everything that is missing, then becomes the supervisor in
# the foreground.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

cd "$root"
scripts/setup.sh demo
say 'building gatevisor'
scripts/build.sh >/dev/null
# The built-in agent definitions take the command from a variable, so nobody has to change `PATH`
# for them. OpenClaw needs a newer Node than most systems have.
case ${AGENT:-hermes} in
hermes)
    venv=$(scripts/hermes-venv.sh "${HERMES:-0.19}")
    export HERMES_BIN=$venv/bin/hermes
    ;;
openclaw)
    bin=$(scripts/openclaw.sh)
    export OPENCLAW_BIN=$bin/openclaw PATH=$bin:$PATH
    ;;
*) die "no demo of the agent $AGENT is known" 'use AGENT=hermes or AGENT=openclaw' ;;
esac
home=$(scripts/demo-home.sh)
exec "$(find_python)" scripts/foreground.py target/gatevisor up --home "$home"
