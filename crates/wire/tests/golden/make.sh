#!/bin/sh
# Makes the golden files of crates/wire: status files and a death tally as real s6 writes them, and
# what s6's own tools said of them at that moment.
#
#     usage: crates/wire/tests/golden/make.sh [DIRECTORY]      (default: where this script is)
#
# Needs s6 (Debian's package `s6`) in PATH: s6-supervise, s6-svc, s6-svstat, s6-svdt,
# s6-ftrig-listen1. The files in the repository were written by s6 2.11.3.2 of Debian bookworm.
# Running it again gives other times and pids, so do it only for another version of s6 or another
# state, and look at the difference.
#
#   NAME.status      the bytes of supervise/status in the state NAME
#   svstat.txt       a line for each: NAME, then what `s6-svstat -o FIELDS` said; the first line
#                    names the fields
#   several.death_tally, svdt.txt
#                    the bytes of supervise/death_tally, and what s6-svdt said of them
#   unix.txt         seconds of Unix time before the first file and after the last, for the TAI
#                    offset
#
# There is no sleep here: s6-ftrig-listen1 subscribes to a service's events, runs a command and
# waits for them. Two states are announced by no event (paused, wanted down); for them s6-svstat is
# asked until it says so.
set -eu
umask 022

out=$(cd "${1:-$(dirname "$0")}" && pwd)
fields=up,wantedup,ready,paused,pid,exitcode,signum,updownsince,readysince
work=$(mktemp -d)
cd "$work"
supervised=''

# End every supervisor that was started here, whatever happened: kill the service and wait until
# supervision is over.
finish() {
    for name in $supervised; do
        during "$name" x s6-svc -dkx "$name" || true
    done
    rm -rf "$work"
}
trap finish EXIT

# A service directory whose run script is standard input.
service() {
    mkdir -p "$1/event"
    chmod 03730 "$1/event"
    { echo '#!/bin/sh'; cat; } >"$1/run"
    chmod 755 "$1/run"
}

# Wait up to 10 s for the events $2 from service $1, once the rest of the arguments runs.
during() {
    name=$1 events=$2
    shift 2
    s6-ftrig-listen1 -t 10000 "$name/event" "$events" "$@" >/dev/null
}

supervise() {
    supervised="$supervised $1"
    during "$1" "$2" s6-supervise "$1"
}

# Ask s6-svstat until field $2 of service $1 is $3.
ask() {
    tries=10000
    until [ "$(s6-svstat -o "$2" "$1")" = "$3" ]; do
        tries=$((tries - 1))
        if [ "$tries" -eq 0 ]; then
            echo "make.sh: service $1 does not become $2=$3" >&2
            exit 1
        fi
    done
}

keep() {
    cp "$1/supervise/status" "$out/$1.status"
    printf '%s %s\n' "$1" "$(s6-svstat -o "$fields" "$1")" >>svstat.txt
}

printf 'name %s\n' "$(echo "$fields" | tr , ' ')" >svstat.txt
date +%s >unix.txt

# Wanted up, but there is nothing to execute: s6-supervise says so and tries again later.
service never-started </dev/null
rm never-started/run
supervise never-started s 2>/dev/null
keep never-started

service never-started-down </dev/null
touch never-started-down/down
supervise never-started-down s
keep never-started-down

service up <<'RUN'
exec tail -f /dev/null
RUN
supervise up u
keep up

service ready <<'RUN'
echo >&3
exec tail -f /dev/null 3>&-
RUN
echo 3 >ready/notification-fd
supervise ready U
keep ready

service paused <<'RUN'
exec tail -f /dev/null
RUN
supervise paused u
s6-svc -p paused
ask paused paused true
keep paused

# The finish script waits until somebody opens `release`.
service finishing <<'RUN'
exit 5
RUN
mkfifo finishing/release
printf '#!/bin/sh\nread line <release\n' >finishing/finish
chmod 755 finishing/finish
echo 0 >finishing/timeout-finish
supervise finishing d
keep finishing
s6-svc -O finishing
ask finishing wantedup false
during finishing D sh -c 'echo >finishing/release'

service down-exit-3 <<'RUN'
exit 3
RUN
touch down-exit-3/down
supervise down-exit-3 s
during down-exit-3 D s6-svc -o down-exit-3
keep down-exit-3

service down-sigkill <<'RUN'
kill -KILL $$
RUN
touch down-sigkill/down
supervise down-sigkill s
during down-sigkill D s6-svc -o down-sigkill
keep down-sigkill

# Says that it is ready once it ignores TERM, so that the signal cannot come too early.
service wanted-down <<'RUN'
trap '' TERM
echo >&3
exec tail -f /dev/null 3>&-
RUN
echo 3 >wanted-down/notification-fd
supervise wanted-down U
s6-svc -d wanted-down
ask wanted-down wantedup false
keep wanted-down

# Dies in another way each time.
service several <<'RUN'
read way <ways
case $way in
    [0-9]*) exit "$way" ;;
    *) kill -"$way" $$ ;;
esac
RUN
touch several/down
supervise several s
for way in 0 7 255 TERM KILL SEGV 125; do
    echo "$way" >several/ways
    during several D s6-svc -o several
done
cp several/supervise/death_tally "$out/several.death_tally"
s6-svdt several >"$out/svdt.txt"

date +%s >>unix.txt
cp svstat.txt unix.txt "$out/"
