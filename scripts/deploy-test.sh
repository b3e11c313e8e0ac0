#!/usr/bin/env bash
# Tests the files of deploy/ by using them.
#
#   scripts/deploy-test.sh              all of it
#   scripts/deploy-test.sh PART …       only these: compose, pages, swarm, kubernetes, systemd,
#                                       install
#
# `compose`, `pages` and `swarm` use the image GATEVISOR_IMAGE (default: gatevisor:latest). `pages`
# types what the documents say about containers. `swarm` makes a swarm of the engine and leaves it
# again, and so is left out if the engine is in one. `kubernetes` checks the manifests, and the
# objects that the operator makes of a home, against the schemas of several versions; it runs
# nothing. `install` makes a container with systemd as its first process, and uses target/gatevisor
# in it.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

cd "$root"
exec </dev/null
export GATEVISOR_IMAGE=${GATEVISOR_IMAGE:-gatevisor:latest}
# No name of another project on this engine.
project=gatevisordeploy$$
work=$(mktemp -d)
swarm=no
machine=
composed=()
finish() {
    local code=$?
    ((${#composed[@]} == 0)) || "${composed[@]}" down --volumes >/dev/null 2>&1 || true
    docker rm --force --volumes "$project" >/dev/null 2>&1 || true
    docker volume rm --force "$project" >/dev/null 2>&1 || true
    if [[ $swarm == ours ]]; then
        docker stack rm "$project" >/dev/null 2>&1 || true
        [[ -z $(tasks) ]] || docker rm --force --volumes $(tasks) >/dev/null 2>&1 || true
        docker network rm "${project}_default" >/dev/null 2>&1 || true
        docker swarm leave --force >/dev/null 2>&1 || true
        docker network rm docker_gwbridge "${project}_default" >/dev/null 2>&1 || true
        docker volume rm --force "${project}_home" >/dev/null 2>&1 || true
    fi
    if [[ -n $machine ]]; then
        ((code == 0)) || docker exec "$machine" journalctl --no-pager --lines 60 >&2 2>/dev/null || true
        docker rm --force --volumes "$machine" >/dev/null 2>&1 || true
        docker image rm --force "$machine" >/dev/null 2>&1 || true
        # That systemd leaves it read-only, for this machine too.
        mount -o remount,rw /sys/fs/cgroup 2>/dev/null || true
    fi
    # The container of the NAS has files there that are another user's.
    [[ ! -d $work/home ]] ||
        docker run --rm --user 0 --volume "$work:/work" --entrypoint rm "$GATEVISOR_IMAGE" -rf /work/home >/dev/null 2>&1 || true
    rm -rf -- "$work" || true
    exit "$code"
}
trap finish EXIT

all=(compose pages swarm kubernetes systemd install)
parts=("$@")
((${#parts[@]} > 0)) || parts=("${all[@]}")

left_out=0
skip() { left_out=$((left_out + 1)) && say "warning: NOT TESTED: $1"; }
engine() { [[ ${GATEVISOR_SKIP_DOCKER:-} != 1 ]] && timeout 20 docker version >/dev/null 2>&1; }

# Finds the command of Compose for our project.
find_compose() {
    composed=(--project-name "$project" --file deploy/compose.yaml)
    if docker compose version >/dev/null 2>&1; then composed=(docker compose "${composed[@]}")
    elif have docker-compose; then composed=(docker-compose "${composed[@]}")
    else composed=() && return 1; fi
}

part_compose() {
    engine || { skip 'compose.yaml, because no Docker engine answers'; return 0; }
    local id volume
    find_compose || { skip 'compose.yaml, because neither docker-compose nor its plugin is installed'; return 0; }
    "${composed[@]}" config >/dev/null
    "${composed[@]}" up --detach >/dev/null 2>&1
    id=$("${composed[@]}" ps --quiet hermes)
    [[ $(docker inspect --format '{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}' "$id") == 'true [ALL]' ]] ||
        die 'the container is less confined than compose.yaml says'
    until_ok 90 'a healthy container' bash -c "[[ \$(docker inspect --format '{{.State.Health.Status}}' $id) == healthy ]]"
    until_ok 60 'a gateway that is up' docker exec --user hermes "$id" gatevisor wait default
    "${composed[@]}" stop >/dev/null 2>&1
    [[ $(docker inspect --format '{{.State.ExitCode}}' "$id") == 0 ]] || die 'the container did not stop by itself'
    "${composed[@]}" start >/dev/null 2>&1
    until_ok 60 'a gateway that is up again' docker exec --user hermes "$id" gatevisor wait default
    volume=$(docker volume ls --quiet --filter "name=${project}_home")
    "${composed[@]}" down --volumes >/dev/null 2>&1
    composed=()
    [[ -n $volume && -z $(docker volume ls --quiet --filter "name=${project}_home") ]] || die 'no volume was made and removed'
}

# Prints the commands of a page that use a container, one a line. Those that make the image are not
# among them. The container, its volume and the directory of the home have names of this project,
# and nobody sits at a terminal.
commands_of() { # PAGE
    awk '
        /^```/ { typed = $0 == "```console" && previous ~ /^<!-- not run here: it needs Docker/; continued = 0 }
        typed && /^\$ / { text = substr($0, 3) }
        typed && /^> / { text = text substr($0, 2) }
        typed && /^[$>] / { if (!sub(/\\$/, "", text)) print text }
        { previous = $0 }' "docs/$1" | sed -E "
        /^docker(-compose| run| exec) /!d
        s/ -it / /
        s/ --name hermes / --name $project /
        s/ -v hermes:/ -v $project:/
        s, -v /mnt/user/appdata/hermes:, -v $work/home:,
        s/^docker exec( -d)? hermes /docker exec\1 $project /
        s,gatevisor:latest,$GATEVISOR_IMAGE,
        s,^docker-compose -f deploy/compose.yaml( exec)?,${composed[*]}\1 -T,
        s,-T (up|down),\1,"
}

# Types what a page says. A reader types slower than a container boots.
types() { # PAGE
    local command count=0
    while read -r -u 3 command; do
        count=$((count + 1))
        case $command in
        *' run '* | *' down '*) eval "$command" >/dev/null 2>&1 || die "docs/$1: \`$command\` failed" ;;
        *) until_ok 60 "docs/$1: \`$command\`" eval "$command" ;;
        esac
        [[ $command != *' run '* ]] || until_ok 60 'a container that has booted' docker exec "$project" gatevisor health --supervisor
    done 3< <(commands_of "$1")
    ((count > 0)) || die "docs/$1 has no commands"
}

part_pages() {
    engine || { skip 'what the documents say about containers, because no Docker engine answers'; return 0; }
    local page file
    find_compose || { skip 'what the documents say about Compose, because it is not installed'; composed=(true); }
    for page in start/docker.md start/nas.md guides/hermes.md; do
        types "$page"
        [[ $page != start/docker.md ]] || types guides/web.md
        [[ $page == start/nas.md ]] || docker exec "$project" gatevisor wait coder --timeout 60 >&2
        for file in $(docker exec "$project" sh -c 'cd /opt/data && ls -Ad .g*'); do
            grep -qF "\`$file\`" docs/guides/migrate.md || die "docs/guides/migrate.md does not list \`$file\`, which is new in a home"
        done
        docker rm --force --volumes "$project" >/dev/null
        docker volume rm --force "$project" >/dev/null
    done
    [[ $(stat -c %u:%g "$work/home/config.yaml") == 99:100 ]] || die 'the files of the NAS are not those of its user'
    "${composed[@]}" down --volumes >/dev/null 2>&1
    composed=()
}

# The containers of the service, those that have ended too with --all.
task() { docker ps --quiet "$@" --filter "label=com.docker.swarm.service.name=${project}_hermes"; }
tasks() { task --all; }
running_one() { [[ $(task | wc -l) == 1 && $(task) != "${1:-}" ]] && docker exec --user hermes "$(task)" gatevisor wait default; }
no_task() { [[ -z $(tasks) ]]; }
state_is() { [[ $(docker service inspect --format '{{.UpdateStatus.State}}' "${project}_hermes") == "$1" ]]; }

part_swarm() {
    engine || { skip 'stack.yaml, because no Docker engine answers'; return 0; }
    [[ $(docker info --format '{{.Swarm.LocalNodeState}}') == inactive ]] ||
        { skip 'stack.yaml, because this engine is in a swarm already'; return 0; }
    swarm=ours
    docker swarm init --advertise-addr 127.0.0.1 >/dev/null
    docker stack deploy --resolve-image never --compose-file deploy/stack.yaml "$project" >/dev/null 2>&1
    until_ok 120 'a task' running_one
    local before
    before=$(task)
    # An update, during which a second container of the home never runs.
    docker service update --detach --no-resolve-image --env-add ROUND=2 "${project}_hermes" >/dev/null
    until_ok 120 'an updated task' running_one "$before"
    until_ok 120 'the end of the update' state_is completed
    # One that cannot start is rolled back.
    docker service update --detach --no-resolve-image --args 'sh -c "exit 3"' "${project}_hermes" >/dev/null
    until_ok 180 'the rollback' state_is rollback_completed
    until_ok 120 'a task as before' running_one
    docker stack rm "$project" >/dev/null
    until_ok 120 'no task' no_task
}

part_kubernetes() {
    local validate=kubernetes-validate version
    if ! have kubernetes-validate; then
        python3 -m venv "$work/venv" >&2 && "$work/venv/bin/pip" install --quiet --disable-pip-version-check kubernetes-validate >&2 ||
            { skip 'kubernetes/, because kubernetes-validate cannot be installed'; return 0; }
        validate=$work/venv/bin/kubernetes-validate
    fi
    for version in 1.27 1.30 1.33 1.36; do
        "$validate" --quiet --strict --kubernetes-version "$version" deploy/kubernetes/*.yaml \
            crates/operator/src/plan/home.yaml >&2
    done
}

part_systemd() {
    have systemd-analyze || { skip 'systemd/, because systemd-analyze is not installed'; return 0; }
    local unit
    mkdir -p "$work/units"
    for unit in deploy/systemd/{system,user}/*.service; do
        # The file of the installed package need not be there.
        sed 's|/usr/bin/gatevisor|/bin/true|' "$unit" >"$work/units/${unit##*/}"
    done
    mv -- "$work/units/gatevisor@.service" "$work/units/gatevisor@root.service"
    # It warns of every unit of this machine, and only ours count.
    systemd-analyze --man=no verify "$work"/units/*.service >"$work/said" 2>&1 || die 'a unit is wrong' "$(<"$work/said")"
    ! grep -F "$work" "$work/said" || die 'a unit is wrong'
}

# A container whose first process is Debian's systemd, as a machine with this program.
inside() { docker exec "$machine" "$@"; }
as_alice() { docker exec --user alice --workdir /home/alice --env HOME=/home/alice --env XDG_RUNTIME_DIR=/run/user/1000 "$machine" "$@"; }
is_booted() { [[ $(inside systemctl is-system-running) =~ ^(running|degraded)$ ]]; }
unit=gatevisor-home-alice-agents.service
property() { inside systemctl show --property "$1" --value -- "$unit"; }
is_active() { [[ $(property ActiveState) == active ]]; }
is_inactive() { [[ $(property ActiveState) == inactive ]]; }
said() { [[ $(property StatusText) == "$1" ]]; }
# Each of the two gateways is one process, which came after FIRST where that is said.
ran_once() {
    local pids
    pids=$(inside pgrep --full --exact 'sleep 3600') || return 1
    [[ $(wc -l <<<"$pids") == 2 && $pids != "${1:-}" ]]
}
# Not through a pipe, whose reader may have seen enough before the writer has ended.
says() { # PATTERN COMMAND…
    local pattern=$1
    shift
    "$@" >"$work/said" 2>&1 || true
    grep -qE -- "$pattern" "$work/said" || die "\`$*\` did not say $pattern" "$(tail -n 5 "$work/said")"
}
restarted() { [[ $(property NRestarts) == "$1" ]] && is_active; }

# The unit's supervisor has ended, and one by hand has its place: what the unit does when it stops
# does not end that.
leaves_another_alone() { # HOME
    local home=$1 pids
    inside gatevisor --home "$home" install >&2
    until_ok 30 'two gateways, once each' ran_once
    # ExecStop runs now, beside the other supervisor.
    as_alice sh -c 'gatevisor --home "$1" down && gatevisor --home "$1" up --detach --quiet' sh "$home" >&2
    until_ok 30 'the end of the unit' is_inactive
    until_ok 30 'both gateways, once each' ran_once
    pids=$(inside pgrep --full --exact 'sleep 3600')
    inside systemctl stop "$unit"
    as_alice gatevisor --home "$home" health --supervisor >&2 || die "the unit's end has ended another supervisor"
    [[ $(inside pgrep --full --exact 'sleep 3600') == "$pids" ]] || die "the unit's end has ended another supervisor's gateways"
    inside gatevisor --home "$home" uninstall >&2
    as_alice gatevisor --home "$home" down >&2
}

# A unit in the form of `hermes gateway install` runs coder's gateway, and then the home's unit
# does.
takes_over() { # HOME
    local home=$1 former=hermes-gateway-coder.service
    as_alice gatevisor --home "$home" up --detach --quiet >&2
    as_alice gatevisor --home "$home" stop --all >&2
    as_alice gatevisor --home "$home" down >&2
    printf '%s\n' '[Service]' Type=simple User=alice 'ExecStart=/usr/bin/sleep 7200' \
        "Environment=\"SLEEPER_HOME=$home/profiles/coder\"" Restart=always '[Install]' WantedBy=multi-user.target >"$work/former"
    docker cp "$work/former" "$machine:/etc/systemd/system/$former" >/dev/null
    inside systemctl daemon-reload && inside systemctl enable --now "$former" 2>/dev/null
    # Two units would run one gateway, so without being told to, nothing is done.
    ! inside gatevisor --home "$home" install >"$work/said" 2>&1 || die 'a gateway got two units'
    grep -q "$former. runs the gateway of coder; .gatevisor install --take-over" "$work/said" || die 'the other unit was not named' "$(<"$work/said")"
    says "$former. runs the gateway of coder; it would be stopped" inside gatevisor --home "$home" install --take-over --dry-run
    inside test ! -e "/etc/systemd/system/$unit"
    inside systemctl is-active --quiet "$former"
    says 'cannot use sudo, unlike those of the former units' inside gatevisor --home "$home" install --take-over
    ! inside systemctl is-active --quiet "$former" && ! inside systemctl is-enabled --quiet "$former" || die 'the other unit is in use'
    until_ok 30 "coder's gateway, and no other one" runs_one
    inside gatevisor --home "$home" uninstall >&2
}
# A unit of alice's own with what Hermes 0.22 writes, but for the program and the variable. Hermes
# writes the home without links.
takes_over_users_own() { # HOME
    local home=$1 former=hermes-gateway.service
    sed "s,^ExecStart=.*,ExecStart=/usr/bin/sleep 7200,; s,^Exec\(Stop\|StopPost\)=.*,,; s,/home/alice/.hermes,$home,g; s,HERMES_HOME,SLEEPER_HOME,g" \
        crates/gatevisor/src/host_service/testdata/hermes-0.22.service >"$work/former"
    as_alice mkdir -p /home/alice/.config/systemd/user
    docker cp "$work/former" "$machine:/home/alice/.config/systemd/user/$former" >/dev/null
    as_alice systemctl --user daemon-reload && as_alice systemctl --user enable --now "$former" 2>/dev/null
    as_alice ln -s "$home" /home/alice/linked
    says "$former. runs the gateway of default; .gatevisor install --take-over" as_alice gatevisor --home /home/alice/linked install
    says "$former. runs the gateway of default; it would be stopped" as_alice gatevisor --home "$home" install --take-over --dry-run
    as_alice gatevisor --home "$home" install --take-over >&2
    ! as_alice systemctl --user is-active --quiet "$former" || die 'the other unit is in use'
    until_ok 30 'the gateways, and no other one' runs_no_other
    as_alice gatevisor --home "$home" uninstall >&2
}
runs_no_other() { ran_once && ! inside pgrep --full --exact '/usr/bin/sleep 7200'; }

# A home that is named by a link is the same home. Root follows no link of alice's.
is_behind_a_link() { # HOME
    local home=$1
    says "a symbolic link of uid 1000.*readlink -f" inside gatevisor --home /home/alice/linked install
    as_alice gatevisor --home /home/alice/linked install >&2
    until_ok 30 'the gateways of a home behind a link' ran_once
    says '"state":"active"' as_alice gatevisor --home /home/alice/linked service status --json
    says 'coder +up ' as_alice gatevisor --home "$home" status
    says 'another supervisor has the home' as_alice gatevisor --home "$home" install
    as_alice gatevisor --home /home/alice/linked uninstall >&2
    as_alice gatevisor --home /home/alice/linked up --detach --quiet >&2
    says 'coder +up ' as_alice gatevisor --home "$home" status
    as_alice gatevisor --home "$home" down >&2
    until_ok 30 'the end of the gateways' none_runs
}
none_runs() { ! inside pgrep --full --exact 'sleep 3600'; }

runs_one() { [[ $(inside pgrep --full --exact 'sleep 3600' | wc -l) == 1 ]] && ! inside pgrep --full --exact '/usr/bin/sleep 7200'; }

# Hermes is usually in a directory of alice's own, which systemd's PATH does not have.
finds_alices_programs() { # PID
    inside sh -c 'tr "\0" "\n" <"/proc/$1/environ"' sh "$1" >"$work/said"
    grep -q '^PATH=/home/alice/[.]local/bin:' "$work/said" || die "a unit of the package does not search alice's programs"
}

# The package over a program and units that were installed by hand: a line for each, and the
# package is there as a whole.
package_over_hand_installed() {
    inside bash -euc '
        mkdir -p /package/DEBIAN /package/usr/bin && cp /usr/bin/gatevisor /package/usr/bin/
        sed "s/@VERSION@/0.0.2/; s/@SIZE@/1/; s/@ARCHITECTURE@/$(dpkg --print-architecture)/" /control >/package/DEBIAN/control
        install -m 755 /preinst /postinst /package/DEBIAN/
        dpkg-deb --root-owner-group --build /package /gatevisor.deb >/dev/null
        cp /usr/bin/gatevisor /usr/local/bin/ && cp /usr/lib/systemd/user/gatevisor.service /etc/systemd/user/'
    says '^replacing /usr/bin/gatevisor, which was installed by hand$' inside dpkg --install /gatevisor.deb
    grep -q '^/usr/local/bin/gatevisor was installed by hand and is found before' "$work/said" || die 'a program that comes first was not named'
    grep -q '^/etc/systemd/user/gatevisor.service was made by hand' "$work/said" || die 'a unit that comes first was not named'
    inside dpkg --verify gatevisor >&2
    inside rm /usr/local/bin/gatevisor /etc/systemd/user/gatevisor.service
    inside dpkg --install /gatevisor.deb >"$work/said" 2>&1
    ! grep -E 'by hand' "$work/said" || die 'a package over itself was taken for something installed by hand'
}

part_install() {
    engine || { skip 'gatevisor install, because no Docker engine answers'; return 0; }
    [[ -x target/gatevisor ]] || { skip 'gatevisor install, because target/gatevisor is not built (make build)'; return 0; }
    machine=gatevisor-systemd-$$
    mkdir -p "$work/machine"
    cp target/gatevisor deploy/debian/{control,preinst,postinst} "$work/machine/"
    cp -R deploy/systemd "$work/machine/systemd"
    cat >"$work/machine/agent.toml" <<'END'
name = "sleeper"
[profile]
marker = "agent.conf"
[[profile.files]]
path = "agent.conf"
content = ""
[gateway]
command-default = ["sleep", "3600"]
command-named = ["sleep", "3600"]
state-file = "state.json"
log-directory = "${SLEEPER_HOME}/logs/gateways/{profile}"
boot-log = "logs/boot.log"
END
    cat >"$work/machine/Dockerfile" <<END
FROM $(scripts/docker.sh base)
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends systemd dbus dbus-user-session libpam-systemd procps
RUN useradd --create-home --uid 1000 alice && install -d /etc/gatevisor
COPY agent.toml /etc/gatevisor/agent.toml
COPY gatevisor /usr/bin/gatevisor
COPY control preinst postinst /
COPY systemd/ /usr/lib/systemd/
STOPSIGNAL SIGRTMIN+3
CMD ["/lib/systemd/systemd"]
END
    docker build --quiet --network host --tag "$machine" "$work/machine" >"$work/said" 2>&1 || die 'the machine was not built' "$(tail -n 5 "$work/said")"
    docker run --detach --name "$machine" --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
        --cgroupns=host --volume /sys/fs/cgroup:/sys/fs/cgroup:rw --tmpfs /run --tmpfs /tmp "$machine" >/dev/null
    (until_ok 90 'a machine that has booted' is_booted) ||
        { skip 'gatevisor install, because systemd does not boot in a container of this engine'; return 0; }
    local home=/home/alice/agents pid pids
    as_alice gatevisor --home "$home" profile create --create coder >&2
    # Nothing is done with a dry run, and nothing to a unit of somebody else's.
    says '^User=alice$' inside gatevisor --home "$home" install --dry-run
    inside test ! -e "/etc/systemd/system/$unit"
    inside sh -c "echo '[Unit]' > /etc/systemd/system/$unit"
    ! inside gatevisor --home "$home" install >"$work/said" 2>&1 || die "a unit of somebody else's was replaced"
    grep -q 'is left as it is' "$work/said"
    inside rm "/etc/systemd/system/$unit"
    # A unit of the system, which runs as the home's owner.
    inside gatevisor --home "$home" install >&2
    is_active || die 'install returned before the unit was active'
    as_alice gatevisor --home "$home" start --all >&2
    until_ok 30 'two gateways, once each' ran_once
    until_ok 30 'a status of the unit' said '2 of 2 services up, 0 ready'
    [[ $(inside ps -o user= -p "$(property MainPID)") == alice ]] || die 'the supervisor runs as another user'
    inside sh -c 'tr "\0" "\n" <"/proc/$(pgrep --full --exact --oldest "sleep 3600")/environ"' >"$work/said"
    ! grep -E '^(NOTIFY_SOCKET|WATCHDOG_|LISTEN_)' "$work/said" || die 'a gateway was told what was meant for the supervisor'
    says 'active since .*, enabled: 2 of 2 services up' inside gatevisor --home "$home" service status
    # Asking needs no root, and alice has no other unit.
    says "^$unit: active since" as_alice gatevisor --home "$home" service status
    says '"scope":"system"' as_alice gatevisor --home "$home" service status --system --json
    says 'this shell has no session, as after .su. or .sudo -u.' as_alice env -u XDG_RUNTIME_DIR gatevisor --home "$home" install --no-start
    inside test ! -e "/home/alice/.config/systemd/user/$unit"
    ! inside gatevisor --home "$home" -p coder install >"$work/said" 2>&1 || die 'a profile got a unit'
    grep -q 'no profile has one of its own' "$work/said"
    # A second call changes nothing, and a reload goes through.
    pid=$(property MainPID)
    inside gatevisor --home "$home" install >&2
    inside systemctl reload "$unit"
    [[ $(property MainPID) == "$pid" ]] || die 'a second install restarted the supervisor'
    # The machine boots again.
    docker restart --time 60 "$machine" >/dev/null
    until_ok 60 'a machine that has booted again' is_booted
    until_ok 60 'the unit, active again' is_active
    until_ok 30 'both gateways again' ran_once
    # A supervisor that is killed, and one that stands still: nothing runs twice.
    pids=$(inside pgrep --full --exact 'sleep 3600')
    inside sh -c "kill -KILL $(property MainPID)"
    until_ok 60 'a restart after a kill' restarted 1
    until_ok 30 'both gateways, once each' ran_once "$pids"
    inside sh -c "mkdir -p /etc/systemd/system/$unit.d && printf '[Service]\nWatchdogSec=2\n' > /etc/systemd/system/$unit.d/short.conf && systemctl daemon-reload && systemctl restart $unit"
    until_ok 30 'both gateways, once each' ran_once
    pids=$(inside pgrep --full --exact 'sleep 3600')
    inside sh -c "kill -STOP $(property MainPID)"
    until_ok 60 'a restart by the watchdog' restarted 1
    until_ok 30 'both gateways, once each' ran_once "$pids"
    says '[Ww]atchdog timeout' inside journalctl --no-pager --unit "$unit"
    # An upgrade of the package restarts the unit, and names a supervisor that is none.
    as_alice gatevisor --home /home/alice/other up --create --detach --quiet >&2
    inside sh -c 'cp /usr/bin/gatevisor /usr/bin/gatevisor.new && mv /usr/bin/gatevisor.new /usr/bin/gatevisor'
    pid=$(property MainPID)
    says 'of user alice supervises with the former version' inside sh /postinst configure 0.0.1
    grep -qF "restarting $unit" "$work/said"
    grep -c 'former version' "$work/said" | grep -qx 1 || die 'a supervisor of a unit was named, too'
    is_active && [[ $(property MainPID) != "$pid" ]] || die 'an upgrade did not restart the unit'
    # The unit's own command had the gateways drained, and ended the supervisor.
    says "gatevisor.*: the supervisor has ended, and every gateway before it [(]pid $pid[)]" inside journalctl --no-pager --unit "$unit"
    until_ok 30 'both gateways, once each' ran_once
    as_alice gatevisor --home /home/alice/other down >&2
    # A home that is in use is not taken.
    inside gatevisor --home "$home" uninstall >&2
    inside test ! -e "/etc/systemd/system/$unit" -a -d "$home/profiles/coder"
    as_alice gatevisor --home "$home" up --detach --quiet >&2
    ! inside gatevisor --home "$home" install >"$work/said" 2>&1 || die 'a home that is in use was taken'
    grep -q 'another supervisor has the home' "$work/said"
    as_alice gatevisor --home "$home" down >&2
    leaves_another_alone "$home"
    # A unit of alice's own.
    inside loginctl enable-linger alice
    until_ok 30 "alice's own service manager" as_alice systemctl --user is-system-running --wait
    as_alice gatevisor --home "$home" install >&2
    until_ok 30 'both gateways again' ran_once
    says '"state":"active"' as_alice gatevisor --home "$home" service status --json
    as_alice gatevisor --home "$home" uninstall >&2
    ! as_alice gatevisor --home "$home" service status >&2 || die 'a removed unit is active'
    takes_over "$home"
    takes_over_users_own "$home"
    is_behind_a_link "$home"
    # The units of the package, which nobody writes anything for.
    unit=gatevisor@alice.service
    as_alice gatevisor --home /home/alice/.hermes profile create --create coder >&2
    inside systemctl enable --now "$unit"
    until_ok 30 'the unit of the package' said '0 of 0 services up, 0 ready'
    as_alice gatevisor --home /home/alice/.hermes start coder >&2
    until_ok 30 'a gateway under the unit of the package' said '1 of 1 services up, 0 ready'
    finds_alices_programs "$(property MainPID)"
    says "^$unit: active since" as_alice gatevisor --home /home/alice/.hermes service status
    # What is set in its file counts for its start and for its stop.
    inside sh -c 'echo S6_PROFILE_GATEWAY_SCANDIR=/home/alice/scandir >/etc/default/gatevisor-alice'
    inside systemctl restart "$unit"
    until_ok 30 'a gateway on another scandir' said '1 of 1 services up, 0 ready'
    inside test -d /home/alice/scandir
    pid=$(property MainPID)
    inside systemctl disable --now "$unit"
    says "gatevisor.*: the supervisor has ended, and every gateway before it [(]pid $pid[)]" inside journalctl --no-pager --unit "$unit"
    inside rm /etc/default/gatevisor-alice
    as_alice systemctl --user enable --now gatevisor.service
    coder_is_up() { (says 'coder +up ' as_alice gatevisor --home /home/alice/.hermes status); }
    until_ok 30 "a gateway under alice's own manager" coder_is_up
    finds_alices_programs "$(as_alice systemctl --user show --property MainPID --value gatevisor.service)"
    as_alice systemctl --user disable --now gatevisor.service
    package_over_hand_installed
    docker rm --force --volumes "$machine" >/dev/null
}

for part in "${parts[@]}"; do
    [[ " ${all[*]} " == *" $part "* ]] || die "there is no part \`$part\`" "there are: ${all[*]}"
    say "=== $part"
    "part_$part"
done
if ((left_out > 0)); then
    say "scripts/deploy-test.sh: passed, with $left_out left out (see above)"
else
    say 'scripts/deploy-test.sh: everything passed'
fi
