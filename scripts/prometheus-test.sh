#!/usr/bin/env bash
# Has Debian's Prometheus read the metrics of real gateways, and checks the alert rules.
#
# The package is unpacked into the cache and not installed, because an installed one runs at once.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

cd "$root"
exec </dev/null
# shellcheck source=scripts/example-home.sh
. scripts/example-home.sh

package() {
    [[ -x $cache/prometheus/usr/bin/promtool ]] && return 0
    have apt-get && have dpkg-deb || return 1
    rm -rf -- "$cache/prometheus.new" && mkdir -p -- "$cache/prometheus.new"
    (cd "$work" && apt-get -qq download prometheus >/dev/null 2>&1 && dpkg-deb -x prometheus_*.deb "$cache/prometheus.new") ||
        return 1
    rm -rf -- "$cache/prometheus" && mv -- "$cache/prometheus.new" "$cache/prometheus"
}

package || {
    say 'warning: NOT TESTED: Prometheus, because its Debian package cannot be had here'
    exit 0
}
bin=$cache/prometheus/usr/bin

"$bin/promtool" check rules deploy/prometheus/alerts.yml
"$bin/promtool" test rules deploy/prometheus/alerts.test.yml

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

make_profiles coder
supervise coder
said=$("${ours[@]}" metrics)
"$bin/promtool" check metrics <<<"$said"

"${ours[@]}" metrics --listen 127.0.0.1:0 2>"$work/metrics.log" &
processes+=($!)
until_ok 60 'the server of metrics' grep -q http:// "$work/metrics.log"
address=$(sed -n 's|.*http://\([^/]*\)/.*|\1|p' "$work/metrics.log")
port=$(free_port)
cat >"$work/prometheus.yml" <<CONFIG
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [$root/deploy/prometheus/alerts.yml]
scrape_configs:
  - job_name: gatevisor
    static_configs: [{targets: ["$address"]}]
CONFIG
"$bin/prometheus" --config.file "$work/prometheus.yml" --storage.tsdb.path "$work/data" \
    --web.listen-address "127.0.0.1:$port" >"$work/prometheus.log" 2>&1 &
processes+=($!)

# Succeeds if the query has exactly one result, with this value.
is() { # QUERY VALUE
    "$bin/promtool" query instant "http://127.0.0.1:$port" "$1" | grep -q " => $2 @" &&
        (($("$bin/promtool" query instant "http://127.0.0.1:$port" "$1" | wc -l) == 1))
}
until_ok 60 'a scrape' is 'up{job="gatevisor"}' 1
until_ok 60 'a supervisor that is up' is gatevisor_supervisor_up 1
until_ok 60 'a gateway that is ready' is 'gatevisor_service_ready{profile="coder"}' 1
until_ok 60 'lines in a log, which are counted' is 'gatevisor_service_log_lines_total{profile="coder"} > bool 0' 1
until_ok 60 'a log without gaps' is 'gatevisor_service_log_gaps_total{profile="coder"}' 0

# Prints the queries of the dashboard, for all machines and profiles.
queries() {
    python3 - deploy/grafana/gatevisor.json <<'PYTHON'
import json, sys
for panel in json.load(open(sys.argv[1]))["panels"]:
    for target in panel["targets"]:
        print(target["expr"].replace("$instance", ".*").replace("$profile", ".*"))
PYTHON
}
# Each is understood, and names metrics that are listed; the names of all that are there would not
# do, because a time until a start is there only while a gateway waits for one.
listed=$(grep -oE '^\| `gatevisor_[a-z_]+' docs/reference/metrics.md | cut -d'`' -f2)
while IFS= read -r query; do
    "$bin/promtool" query instant "http://127.0.0.1:$port" "$query" >/dev/null ||
        die "Prometheus refuses a query of the dashboard: $query"
    for name in $(grep -oE 'gatevisor_[a-z_]+' <<<"$query"); do
        grep -qx -- "$name" <<<"$listed" || die "the dashboard names a metric that is not listed: $name"
    done
done < <(queries)
(($(queries | wc -l) > 10)) || die 'the dashboard has no queries'

kill -KILL "$("${ours[@]}" --json status coder | python3 -c 'import json, sys; print(json.load(sys.stdin)["pid"])')"
until_ok 60 'a counted restart' is 'gatevisor_service_restarts_total{profile="coder",cause="itself"}' 1
until_ok 60 'a counted end' is 'gatevisor_service_exits_total{profile="coder",signal="SIGKILL"}' 1
"${ours[@]}" gateway stop coder >/dev/null
until_ok 60 'a gateway that is down' is 'gatevisor_service_state{profile="coder",state="down"}' 1
"${ours[@]}" down >/dev/null
until_ok 90 'an alert that no supervisor runs' is 'ALERTS{alertname="GatevisorSupervisorGone",alertstate="pending"}' 1
say 'Prometheus reads our metrics, and the alert rules work'
