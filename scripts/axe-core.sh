#!/usr/bin/env bash
# Installs axe-core, which finds what a screen reader cannot tell, in the cache, once, and prints
# its file.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

place=$(npm_package axe-core 4.14.1)
printf '%s\n' "$place/axe.min.js"
