#!/usr/bin/env bash
# Runs the conformance cases on the four pairings of supervisor and tools, and writes
# docs/design/conformance.md.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

cd "$root"
exec </dev/null

pairings=("s6 with s6's tools" "ours with s6's tools" "s6 with our tools" "ours with our tools")
record=$(mktemp)
trap 'rm -f "$record"' EXIT
export GATEVISOR_CONFORMANCE_RECORD=$record

code=0
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run -p gatevisor --test conformance --status-level fail || code=$?
else
    cargo test -p gatevisor --test conformance || code=$?
fi

# Lines of the record: pairing, case, what (begun, passed, skipped), reason; separated by tabs.
count() { # PAIRING WHAT
    awk -F '\t' -v pairing="$1" -v what="$2" '$1 == pairing && $3 == what' "$record" | sort -u | wc -l
}

skips() {
    awk -F '\t' '
        $3 == "skipped" { where[$2 "\t" $4] = where[$2 "\t" $4] (where[$2 "\t" $4] ? ", " : "") $1 }
        END { for (key in where) print key "\t" where[key] }
    ' <(sort -u "$record") | sort | awk -F '\t' '{ printf "| %s | %s | %s |\n", $1, $3, $2 }'
}

table() {
    local pairing begun passed skipped
    printf '| supervisor and tools | passed | failed | skipped |\n|---|---:|---:|---:|\n'
    for pairing in "${pairings[@]}"; do
        begun=$(count "$pairing" begun) passed=$(count "$pairing" passed) skipped=$(count "$pairing" skipped)
        printf '| %s | %d | %d | %d |\n' "$pairing" "$passed" $((begun - passed - skipped)) "$skipped"
    done
}

entries() {
    sed -nE '/^#/!{s/_/ /g; s/^(.*) \| ([a-z ]+): (.*)$/| \1 | \2: \3 |/p}' tests/conformance/entries.txt
}

version=$(dpkg-query --show --showformat='${Version}' s6 2>/dev/null || echo unknown)
{
    cat <<END
# Conformance

For people who ask how exactly Gatevisor follows s6. \`make conformance\` writes this page; do not
edit it.

The same cases ([\`tests/conformance\`](../../tests/conformance)) run on four pairings of a supervisor
and its tools. The reference is s6 $version of Debian: a case that fails there is wrong. Our
supervisor is \`gatevisor supervise --s6-timing\`, and our tools are \`gatevisor s6 NAME\`.

END
    table
    printf '\n## What is skipped, and why\n\n| case | skipped in | because |\n|---|---|---|\n'
    skips
    printf '\n## Which cases are about what\n\n| entry of the protocol | cases |\n|---|---|\n'
    entries
} >docs/design/conformance.md

table
exit "$code"
