#!/usr/bin/env bash
# Holds the document about the API of `gatevisor web` against its answers: schemathesis makes some
# hundred requests from the document, good and bad ones, and compares each answer with it. The
# gateways are real ones of the HTTP example. The seed is always the same, unless SEED is set.
#
# Not asked here are the two streams, which do not end (tests/cli/web/streams.rs does), and what a
# wrong token gets: after ten of them that is 429, and schemathesis knows 401 alone. Each route is
# asked once without a token instead.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

cd "$root"
exec </dev/null
venv=$(scripts/schemathesis.sh)
# shellcheck source=scripts/example-home.sh
. scripts/example-home.sh

# --- a home with two gateways, an incident, and profiles that may be deleted ----------------------

make_profiles coder writer old-a old-b old-c old-d
supervise coder writer
incident=$("${ours[@]}" --json incidents --collect coder | "$venv/bin/python" -c 'import json, sys; print(json.load(sys.stdin)["id"])')
"${ours[@]}" web --listen 127.0.0.1:0 2>"$work/web.log" &
processes+=($!)
until_ok 60 'the server of the page' grep -q 'tokens for programs' "$work/web.log"
address=$(sed -n 's|.*the page is at http://\([^/]*\)/.*|\1|p' "$work/web.log")

# --- the requests ---------------------------------------------------------------------------------

# Most requests name what is there, so that more than "there is no such profile" is answered.
cat >"$work/schemathesis.toml" <<CONFIG
[dictionaries]
names = { values = ["coder", "writer"] }
old = { values = ["old-a", "old-b", "old-c", "old-d"] }
incidents = { values = ["$incident"] }
files = { values = ["log.txt"] }

[parameters]
"path.name" = { dictionary = "names", probability = 0.7 }
"path.id" = { dictionary = "incidents", probability = 0.7 }
"path.file" = { dictionary = "files", probability = 0.7 }

[[operations]]
include-operation-id = "deleteProfile"
parameters = { "path.name" = { dictionary = "old", probability = 0.7 } }
CONFIG
api=http://$address/api/v1
# It is run in the work directory, because it writes beside where it runs.
(cd -- "$work" && timeout 1200 "$venv/bin/schemathesis" --no-color --config-file schemathesis.toml \
    run "$api/openapi.json" --url "$api" -H "Authorization: Bearer $(<"$work/home/.gatevisor-web/token")" \
    --phases coverage,fuzzing --max-examples 10 --seed "${SEED:-15}" --suppress-health-check too_slow --workers 1 --request-timeout 150 \
    --continue-on-failure --warnings off --generation-database none --exclude-checks ignored_auth \
    --exclude-operation-id events --exclude-operation-id followLog \
    --report ndjson --report-ndjson-path asked.ndjson >schemathesis.log 2>&1) ||
    die 'an answer is not what the document about the API says, see below'

# --- each route did answer, and none without a token ----------------------------------------------

"$venv/bin/python" - "$api" "$work/asked.ndjson" <<'PYTHON'
import json, sys, urllib.error, urllib.request

api, asked = sys.argv[1:]
with urllib.request.urlopen(f"{api}/openapi.json") as answer:
    paths = json.load(answer)["paths"]
# The token that is made up is none, and the agent of the example cannot drain.
CODES = {"login": 401, "drain": 409}
OPEN = {"login", "logout", "openapi"}
# Two streams, and the document itself, from which the requests come.
NOT_ASKED = {"events", "followLog", "openapi"}


found = {}
with open(asked) as lines:
    for line in lines:
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for one in recorder.get("interactions", {}).values():
            if one.get("response"):
                found.setdefault(recorder["label"], set()).add(one["response"]["status_code"])

wrong = []
count = 0
for path, methods in paths.items():
    for method, operation in methods.items():
        if method == "parameters":
            continue
        count += 1
        name = operation["operationId"]
        codes = found.get(f"{method.upper()} {path}", set())
        if name not in NOT_ASKED and CODES.get(name, 200) not in codes:
            wrong.append(f"{name} was answered with {sorted(codes)} alone")
        if name not in OPEN:
            request = urllib.request.Request(api + path.replace("{name}", "coder"), method=method.upper())
            try:
                code = urllib.request.urlopen(request, timeout=30).status
            except urllib.error.HTTPError as error:
                code = error.code
            if code != 401:
                wrong.append(f"{name} without a token was answered with {code}")
if count < 24:
    wrong.append(f"only {count} routes were seen")
sys.exit("\n".join(wrong) or 0)
PYTHON
say "the API answers as its document says: $(grep -oE '[0-9]+ generated, .*' "$work/schemathesis.log")"
