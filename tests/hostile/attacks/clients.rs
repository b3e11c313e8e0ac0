//! What the tools that root uses on the scandir read, follow and make. Each attack has a new cell.

use crate::attack::{Attack, attack};

/// A home of root, with a profile whose gateway shall run.
macro_rules! home_of_root {
    ($words:literal) => {
        concat!(
            "mkdir -p /srv/home/profiles/coder; cd /srv/home; echo > profiles/coder/SOUL.md; echo '{\"gateway_state\": \"running\"}' > profiles/coder/gateway_state.json; \
             g() { timeout 30 \"$G\" --home /srv/home \"$@\"; }; ",
            $words
        )
    };
}

pub const ALL: &[Attack] = &[
    attack("root-gives-a-profile-of-its-own-home-a-slot-in-the-scandir-of-the-agent", "rescan")
        .then(home_of_root!("for x in 'gateway register' 'gateway register --start' 'gateway start --no-wait' 'gateway restart'; do not g --scandir \"$S\" $x coder; done; not g --scandir \"$S\" profile create fresh --start"))
        .holds("! ls -d \"$S\"/gateway-coder \"$S\"/gateway-fresh \"$S\"/.new-* 2>/dev/null; ! find \"$S\" -mindepth 1 -maxdepth 1 -user 0 ! -name .s6-svscan | grep ."),
    attack("root-makes-the-slots-of-its-own-home-in-a-scandir-that-the-agent-leads-astray", "ln -s \"$V/directory\" \"$H/a\"; mkdir -p \"$H/b/service\"; ln -s \"$V\" \"$H/b/service/.s6-svscan\"")
        .then(home_of_root!("for s in \"$H/a/service\" \"$H/a\" \"$H/b/service\" \"$H/new\"; do not g --scandir $s reconcile; not g --scandir $s up </dev/null; done")),
    attack("root-renders-a-slot-of-the-agent-anew-for-its-own-home", "new; cd \"$S\"; mv \"$S/.$N\" .c; mkdir -p .c/data .c/log; echo coder > .c/data/profile; echo hermes > .c/data/agent; printf '#!%s service\ncommand = [\"true\"]\n' \"$G\" > .c/run; ln -s \"$V/directory\" .c/cgroup; mv .c gateway-coder; rescan")
        .then(home_of_root!("g --scandir \"$S\" reload coder || :; g --scandir \"$S\" reload --restart coder || :"))
        .holds("! find \"$S/gateway-coder/\" -user 0 ! -path '*/supervise*' ! -path '*/event*' | grep ."),
    attack("requests-of-root-are-read-away", "not py opens \"$S/.s6-svscan/control\" 2>/dev/null; not bash -c 'exec 3<>\"$S/.s6-svscan/control\"' 2>/dev/null; printf a > \"$S/.s6-svscan/control\""),
    attack("requests-of-root-are-read-away-through-descriptors", "for fd in /proc/1/fd/* /proc/self/fd/*; do case $(readlink $fd) in */control) not py opens $fd 2>/dev/null ;; esac; done; exec 3>\"$S/.s6-svscan/control\"; not py opens /proc/self/fd/3 2>/dev/null; not bash -c 'exec 4<>/proc/self/fd/3' 2>/dev/null"),
    attack("requests-of-root-are-read-away-from-a-fifo-that-is-made-anew", "cd \"$S/.s6-svscan\" 2>/dev/null || cd /; C=\"$S/.s6-svscan/control\"; not rm -f \"$C\" 2>/dev/null; not mv \"$C\" \"$T/c\" 2>/dev/null; mkfifo \"$T/mine\"; not mv -f \"$T/mine\" \"$C\" 2>/dev/null; ln \"$C\" \"$T/second\" 2>/dev/null || :; not py opens \"$T/second\" 2>/dev/null; \
         not chmod 666 \"$C\" 2>/dev/null; not chmod 777 \"$S/.s6-svscan\" 2>/dev/null; not chown $(id -u) \"$C\" 2>/dev/null")
        .then("test \"$(stat -c '%a %u %F' \"$S/.s6-svscan/control\")\" = '620 0 fifo'")
        .holds("test \"$(stat -c '%a %u %F' \"$S/.s6-svscan/control\")\" = '620 0 fifo'"),
    attack("requests-of-root-are-read-away-while-root-gives-them", "py reads_away 20 \"$S/.s6-svscan/control\"")
        .while_root("for n in $(seq 30); do \"$G\" s6 s6-svscanctl -a \"$S\"; done; mkdir \"$S/.late\"; printf '#!/bin/sh\nexec sleep 3600\n' > \"$S/.late/run\"; chmod 755 \"$S/.late/run\"; chown -R 10001:10001 \"$S/.late\"; mv \"$S/.late\" \"$S/late\"; \"$G\" s6 s6-svscanctl -a \"$S\"; s6 s6-svwait -t 20000 -u \"$S/late\""),
    attack("requests-of-root-find-no-room-in-a-fifo-of-one-page", "py crowds_out 4 \"$S/.s6-svscan/control\"")
        .while_root("mkdir \"$S/.late\"; printf '#!/bin/sh\nexec sleep 3600\n' > \"$S/.late/run\"; chmod 755 \"$S/.late/run\"; chown -R 10001:10001 \"$S/.late\"; mv \"$S/.late\" \"$S/late\"; py until 40 timeout 10 \"$G\" s6 s6-svscanctl -a \"$S\"; py until 40 \"$G\" s6 s6-svok \"$S/late\""),
    attack("event-is-a-link-when-root-waits", "new; place; up; mv \"$D/event\" \"$D/was\"; ln -s \"$V/directory\" \"$D/event\"; mkdir -p \"$S/.l\"")
        .then("s6 s6-svwait -t 300 -D \"$D\" || :; s6 s6-svc -wD -T 300 -d \"$D\" || :; s6 s6-svwait -a -t 300 -U \"$D\" || :; timeout 3 \"$G\" events >/dev/null 2>&1 || :"),
    attack("a-slot-is-a-link-to-a-service-of-root-when-root-waits", "ln -s \"$V/service\" \"$D\"")
        .planted("mkdir -p \"$V/service/event\" \"$V/service/supervise\"; chmod 3777 \"$V/service/event\"; python3 \"$CHECK\" again")
        .then("s6 s6-svwait -t 300 -u \"$D\" || :; s6 s6-svc -wu -T 300 -u \"$D\" || :; s6 s6-svdt-clear \"$D\" || :; s6 s6-svdt \"$D\" || :; s6 s6-svstat \"$D\" || :; s6 s6-svlink \"$S\" \"$D\" || :; s6 s6-svunlink \"$S\" $N || :"),
    attack("event-and-a-link-change-places-when-root-waits", "new; place; up; ln -s \"$V/directory\" \"$D/l\"; py exchange 6 \"$D/event\" \"$D/l\"")
        .while_root("py until 20 sh -c 'test -L \"$D/l\" || test -L \"$D/event\"' || :; for n in 1 2 3 4 5 6 7 8 9 10; do s6 s6-svwait -t 100 -D \"$D\" || :; s6 s6-svc -wD -T 100 -r \"$D\" || :; done"),
    attack("files-that-root-s-tools-clear-are-links", "new; place; up; for x in down supervise/death_tally; do rm -rf \"$D/$x\" 2>/dev/null || :; ln -s \"$V/readable\" \"$D/$x\" 2>/dev/null || :; done")
        .then("for t in s6-svdt-clear s6-svdt s6-svstat s6-svok; do s6 $t \"$D\" >/dev/null 2>&1 || :; done; s6 s6-svc -O \"$D\" || :; s6 s6-svc -x \"$D\" || :"),
    // Whose slots root makes, and whose health it checks.
    attack("root-registers-a-gateway-of-a-home-of-root", "true")
        .planted("mkdir -p /srv/home/profiles/coder; echo > /srv/home/profiles/coder/SOUL.md; echo '{\"gateway_state\": \"running\"}' > /srv/home/profiles/coder/gateway_state.json; python3 \"$CHECK\" again")
        .then("cd /; for v in 'gateway register coder' 'gateway start coder' 'profile create two --start'; do timeout 20 \"$G\" --home /srv/home --scandir \"$S\" $v >/dev/null 2>&1 || :; done; test -z \"$(find \"$S\" -maxdepth 1 -mindepth 1 -user 0 ! -name \
               '.s6-svscan' ! -name mounted)\" || { ls -la \"$S\"; exit 1; }"),
    attack("the-service-by-which-health-is-judged-is-removed", "mv \"$S/main-hermes\" \"$S/.gone\"; rescan; py until 10 sh -c '! test -e \"$S/main-hermes\"'")
        .then("eval \"$HEALTH\""),
    attack("the-service-by-which-health-is-judged-is-frozen-and-deaf", "for x in $(pgrep -u $(id -u) -f \"[g]atevisor idle\"); do kill -STOP $x; done; rm -rf \"$S/main-hermes/supervise/control\" 2>/dev/null; mkfifo \"$S/main-hermes/supervise/control\" 2>/dev/null || :")
        .then("eval \"$HEALTH\""),
    attack("all-services-that-health-could-ask-are-removed", "cd \"$S\"; for x in main-hermes gateway-default profile-watcher dashboard; do mv $x .gone-$x 2>/dev/null || :; ln -s \"$V\" $x; done; rescan")
        .then("eval \"$HEALTH\""),
];
