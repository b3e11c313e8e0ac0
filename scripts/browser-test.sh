#!/usr/bin/env bash
# Uses the page of `gatevisor web` in headless Chromium, as a person does.
#
#   scripts/browser-test.sh             runs all tests
#   scripts/browser-test.sh pictures    makes the pictures in docs/pictures anew
#
# `make test` runs the tests where there is a browser.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

cd "$root"
exec </dev/null
for tool in chromium chromedriver; do
    have "$tool" || die "\`$tool\` is not installed" 'run: apt-get install chromium chromium-driver'
done
cargo nextest --version >/dev/null 2>&1 || die 'cargo-nextest is not installed' 'run: make setup'
scripts/axe-core.sh >/dev/null

case ${1:-} in
'') exec cargo nextest run --package gatevisor --test browser ;;
pictures)
    export GATEVISOR_PICTURES=$root/docs/pictures
    cargo nextest run --package gatevisor --test browser pictures
    ls -l -- "$GATEVISOR_PICTURES"
    ;;
*) die "\`$1\` is not known here" 'known is: pictures' ;;
esac
