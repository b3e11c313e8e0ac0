#!/usr/bin/env bash
# Has Debian's systemd supervise a home, in a container whose first process it is.
#
#   scripts/systemd-test.sh              all of it
#   scripts/systemd-test.sh PART …       only these: install, pages
#
# `install` uses `gatevisor install`, the package and its units with a small agent. `pages` types
# what the documents say about systemd, as a user who may call sudo, with the real Hermes of
# scripts/hermes-venv.sh. Both use target/gatevisor, and need a Docker engine. What cannot be tested
# here is named with NOT TESTED.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

cd "$root"
exec </dev/null
work=$(mktemp -d)
machine=
finish() {
    local code=$?
    if [[ -n $machine ]]; then
        ((code == 0)) || docker exec "$machine" journalctl --no-pager --lines 60 >&2 2>/dev/null || true
        docker rm --force --volumes "$machine" >/dev/null 2>&1 || true
        docker image rm --force "$machine" >/dev/null 2>&1 || true
        # That systemd leaves it read-only, for this machine too.
        mount -o remount,rw /sys/fs/cgroup 2>/dev/null || ! grep -qE '^[^ ]+ /sys/fs/cgroup [^ ]+ ro' /proc/mounts ||
            say 'warning: /sys/fs/cgroup of this machine is read-only now; as root: mount -o remount,rw /sys/fs/cgroup'
    fi
    rm -rf -- "$work" || true
    exit "$code"
}
trap finish EXIT

all=(install pages)
parts=("$@")
((${#parts[@]} > 0)) || parts=("${all[@]}")

skip() { say "warning: NOT TESTED: $1"; }

# --- the machine ----------------------------------------------------------------------------------

inside() { docker exec "$machine" "$@"; }
as_alice() { docker exec --user alice --workdir /home/alice --env HOME=/home/alice --env XDG_RUNTIME_DIR=/run/user/1000 "$machine" "$@"; }
is_booted() { [[ $(inside systemctl is-system-running) =~ ^(running|degraded)$ ]]; }

# Makes the machine. Fails if systemd does not boot there.
make_machine() {
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
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends systemd dbus dbus-user-session libpam-systemd procps sudo python3
RUN useradd --create-home --uid 1000 alice && install -d /etc/gatevisor && echo 'alice ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/alice
COPY agent.toml /etc/gatevisor/agent.toml
COPY gatevisor /usr/bin/gatevisor
COPY gatevisor /program
COPY control preinst postinst /
COPY systemd/ /usr/lib/systemd/
COPY systemd/ /units/
STOPSIGNAL SIGRTMIN+3
CMD ["/lib/systemd/systemd"]
END
    docker build --quiet --network host --tag "$machine" "$work/machine" >"$work/said" 2>&1 || die 'the machine was not built' "$(tail -n 5 "$work/said")"
    # The real Hermes is where it was made, because its programs name that place.
    docker run --detach --name "$machine" --volume "$hermes:$hermes:ro" --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
        --cgroupns=host --volume /sys/fs/cgroup:/sys/fs/cgroup:rw --tmpfs /run --tmpfs /tmp "$machine" >/dev/null ||
        die 'the machine was not started'
    (until_ok 90 'a machine that has booted' is_booted)
}

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

# Makes a package of the program in the machine, in alice's home.
package_file() { # NAME
    inside bash -euc '
        mkdir -p /package/DEBIAN /package/usr/bin /package/usr/lib && cp /program /package/usr/bin/gatevisor
        cp -R /units /package/usr/lib/systemd
        sed "s/@VERSION@/0.0.2/; s/@SIZE@/1/; s/@ARCHITECTURE@/$(dpkg --print-architecture)/" /control >/package/DEBIAN/control
        install -m 755 /preinst /postinst /package/DEBIAN/
        dpkg-deb --root-owner-group --build /package "/home/alice/$1" >/dev/null' bash "$1"
}

# The package over a program and units that were installed by hand: a line for each, and the
# package is there as a whole.
package_over_hand_installed() {
    package_file gatevisor.deb
    inside bash -euc 'cp /usr/bin/gatevisor /usr/local/bin/ && cp /usr/lib/systemd/user/gatevisor.service /etc/systemd/user/'
    says '^replacing /usr/bin/gatevisor, which was installed by hand$' inside dpkg --install /home/alice/gatevisor.deb
    grep -q '^/usr/local/bin/gatevisor was installed by hand and is found before' "$work/said" || die 'a program that comes first was not named'
    grep -q '^/etc/systemd/user/gatevisor.service was made by hand' "$work/said" || die 'a unit that comes first was not named'
    inside dpkg --verify gatevisor >&2
    inside rm /usr/local/bin/gatevisor /etc/systemd/user/gatevisor.service
    inside dpkg --install /home/alice/gatevisor.deb >"$work/said" 2>&1
    ! grep -E 'by hand' "$work/said" || die 'a package over itself was taken for something installed by hand'
}

part_install() {
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
}

# --- the pages ------------------------------------------------------------------------------------

# Prints the commands of a page that it says are typed here, one a line.
commands_of() { # PAGE
    awk '
        /^```/ { typed = $0 == "```console" && previous ~ /^<!-- not run here: .*systemd-test.sh pages. types it/ }
        typed && /^\$ / { print substr($0, 3) }
        { previous = $0 }' "docs/$1"
}

# What was typed, each line after its page and a tab.
declare -A typed=()
# Types those commands of a page that match, in a login shell of alice, whose PATH Debian makes.
types() { # PAGE PATTERN
    local page=$1 pattern=$2 command code count=0
    while read -r -u 3 command; do
        [[ $command =~ $pattern ]] || continue
        count=$((count + 1))
        typed[$page$'\t'$command]=yes
        code=0
        # Following a log ends with the reader's Ctrl-C only.
        case $command in
        *' logs -f '*) as_alice timeout 5 bash -lc "$command" >"$work/said" 2>&1 || code=$? && ((code != 124)) || code=0 ;;
        # A machine without polkit refuses it, and the page says what to type instead.
        'loginctl enable-linger') as_alice bash -lc "$command || sudo $command alice" >"$work/said" 2>&1 || code=$? ;;
        *) as_alice bash -lc "$command" >"$work/said" 2>&1 || code=$? ;;
        esac
        [[ $command != *' logs '* || -s $work/said ]] || die "docs/$page: \`$command\` has shown nothing"
        ((code == 0)) || die "docs/$page: \`$command\` ended with $code" "$(tail -n 10 "$work/said")"
    done 3< <(commands_of "$page")
    ((count > 0)) || die "docs/$page has no command that matches $pattern"
}

# Each command of these pages has been typed.
everything_is_typed() { # PAGE…
    local page command
    for page; do
        while read -r -u 3 command; do
            [[ -n ${typed[$page$'\t'$command]:-} ]] || die "docs/$page: nobody has typed \`$command\`"
        done 3< <(commands_of "$page")
    done
}

# Each unit of `hermes gateway install` runs its gateway.
hermes_units_run() { as_alice systemctl --user is-active --quiet hermes-gateway.service hermes-gateway-coder.service; }
no_hermes_unit_runs() { ! as_alice systemctl --user is-active hermes-gateway.service hermes-gateway-coder.service; }
coder_works() { as_alice gatevisor --home /home/alice/.hermes wait coder --timeout 1; }

part_pages() {
    local unit=gatevisor-home-alice-.hermes.service
    # alice's machine: nothing of the part before it, and Hermes where its own installer puts it.
    inside bash -euc 'dpkg --purge gatevisor 2>/dev/null || :
        rm -rf /etc/gatevisor /home/alice/{.hermes,.config,.local,agents,other,scandir,linked} /usr/bin/gatevisor /usr/lib/systemd/{system,user}/gatevisor*
        chmod 711 /root && [[ ! -d /root/.cache ]] || chmod 711 /root/.cache
        systemctl daemon-reload; loginctl enable-linger alice'
    until_ok 30 "alice's own service manager" as_alice systemctl --user is-system-running --wait
    as_alice bash -euc 'mkdir -p ~/.local/bin && ln -s "$1/bin/hermes" ~/.local/bin/' bash "$hermes"
    as_alice .local/bin/hermes --version >&2 || { skip 'what the documents say about systemd, because the Hermes of this machine does not run in a container of Debian'; return 0; }
    package_file gatevisor_0.1.0_amd64.deb
    as_alice .local/bin/hermes profile list >&2
    # The system's unit.
    types start/vps.md '^sudo (dpkg|gatevisor)'
    is_active || die 'install returned before the unit was active'
    types start/vps.md '^gatevisor --home ~/.hermes (profile create|status|logs)'
    until_ok 60 "coder's gateway" coder_works
    docker restart --time 60 "$machine" >/dev/null
    until_ok 60 'a machine that has booted again' is_booted
    until_ok 60 "coder's gateway again" coder_works
    types guides/uninstall.md '^sudo gatevisor'
    inside test ! -e "/etc/systemd/system/$unit"
    # alice's own.
    until_ok 30 "alice's own service manager" as_alice systemctl --user is-system-running --wait
    types start/vps.md '^(gatevisor --home ~/.hermes (install|service)|loginctl)'
    until_ok 60 "coder's gateway under alice's own manager" coder_works
    types guides/uninstall.md '^gatevisor --home ~/.hermes uninstall'
    # From Hermes' own units, and back.
    as_alice bash -euc 'PATH=~/.local/bin:$PATH; hermes gateway install; hermes -p coder gateway install; systemctl --user start hermes-gateway hermes-gateway-coder' >&2
    until_ok 60 "Hermes' own units" hermes_units_run
    types guides/migrate.md 'install --take-over'
    until_ok 60 "no unit of Hermes' own" no_hermes_unit_runs
    until_ok 60 "coder's gateway, taken over" coder_works
    as_alice gatevisor --home /home/alice/.hermes uninstall >&2
    # The package's units, and the package goes.
    types start/vps.md '^sudo systemctl enable'
    until_ok 60 "coder's gateway under the unit of the package" coder_works
    inside systemctl disable --now gatevisor@alice
    types start/vps.md '^systemctl --user'
    until_ok 60 "coder's gateway under alice's unit of the package" coder_works
    as_alice systemctl --user disable --now gatevisor
    as_alice sudo dpkg --purge gatevisor >&2
    as_alice test -d .hermes/profiles/coder -a ! -e /usr/bin/gatevisor
    everything_is_typed start/vps.md guides/uninstall.md guides/migrate.md
}

engine || { skip 'units of systemd, because no Docker engine answers'; exit 0; }
[[ -x target/gatevisor ]] || { skip 'units of systemd, because target/gatevisor is not built (make build)'; exit 0; }
hermes=$(scripts/hermes-venv.sh)
make_machine || { skip 'units of systemd, because systemd does not boot in a container of this engine'; exit 0; }
for part in "${parts[@]}"; do
    [[ " ${all[*]} " == *" $part "* ]] || die "there is no part \`$part\`" "there are: ${all[*]}"
    say "=== systemd: $part"
    "part_$part"
done
