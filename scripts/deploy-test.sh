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
# nothing. `install` is scripts/systemd-test.sh.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

cd "$root"
exec </dev/null
export GATEVISOR_IMAGE=${GATEVISOR_IMAGE:-gatevisor:latest}
# No name of another project on this engine.
project=gatevisordeploy$$
work=$(mktemp -d)
swarm=no
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

# A unit, in a container whose first process is systemd.
part_install() {
    local said
    said=$(scripts/systemd-test.sh 2>&1) || { say "$said"; return 1; }
    say "$said"
    [[ $said != *'NOT TESTED'* ]] || left_out=$((left_out + 1))
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
