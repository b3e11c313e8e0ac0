//! What the processes of a slot do, and what its user does to processes of others.

use crate::attack::{Attack, attack};

pub const ALL: &[Attack] = &[
    attack(
        "every-signal-is-sent-to-the-supervisor",
        "for n in $(seq 1 17) $(seq 19 64); do ! kill -$n \"$P\" 2>/dev/null || exit 9; done; test \"$P\" = 1 || ! kill -KILL \"-$P\" 2>/dev/null",
    ),
    attack(
        "the-supervisor-is-looked-into",
        "for f in mem maps environ auxv stack syscall io fd/0 map_files cwd exe root ns/pid clear_refs; do ! head -c 1 \"/proc/$P/$f\" >/dev/null \
         2>&1 || exit 9; done; for f in mem oom_score_adj coredump_filter; do ! (echo 1 > \"/proc/$P/$f\") 2>/dev/null || exit 9; done",
    ),
    attack(
        "the-supervisor-is-slowed",
        "! prlimit --pid \"$P\" --nofile=8 2>/dev/null; ! prlimit --pid \"$P\" --cpu=1 2>/dev/null; ! renice -n 19 -p \"$P\" >/dev/null 2>&1; ! taskset -p \
         1 \"$P\" >/dev/null 2>&1; ! chrt -i -p 0 \"$P\" >/dev/null 2>&1; ! ionice -c 3 -p \"$P\" 2>/dev/null",
    ),
    attack(
        "children-are-looked-into-before-they-are-programs",
        "new; mkdir data; echo 1 > data/backoff-max; printf '#!/bin/sh\\nexit 1\\n' > run; place; py write \"$D/supervise/control\" 2 uk & py peek \"$P\" 2 \
         \"$T/leak\"; wait",
    ),
    attack(
        "children-are-traced-and-held",
        "new; mkdir data; echo 1 > data/backoff-max; printf '#!/bin/sh\\nexit 1\\n' > run; place; py peek \"$P\" 2 \"$T/leak\" & py write \
         \"$D/supervise/control\" 2 x; wait",
    ),
    attack(
        "inherited-descriptors-are-looked-for",
        "new; printf '#!/bin/sh\\nls /proc/self/fd > %s/fds\\nreadlink /proc/self/fd/* > %s/targets\\nexec sleep 3600\\n' \"$T\" \"$T\" > run; place; up; test \
         \"$SERVED\" = no || { py until 20 test -s \"$T/targets\"; ! grep -vxE '0|1|2|3' \"$T/fds\"; ! grep -E 'control|epoll|signal|memfd|inotify|scan' \
         \"$T/targets\"; }",
    ),
    attack(
        // The shell itself reads the file, because a shell that starts a program blocks all signals
        // meanwhile.
        "the-state-at-start-is-looked-at",
        "new; printf '#!/bin/sh\\nwhile read -r line; do echo \"$line\"; done < /proc/$$/status > %s/status.new\\nmv %s/status.new %s/status\\nexec sleep 3600\\n' \"$T\" \"$T\" \"$T\" > run; place; up; test \
         \"$SERVED\" = no || { py until 20 test -s \"$T/status\"; for line in 'CapEff:\\s*0000000000000000' 'CapPrm:\\s*0000000000000000' 'SigBlk:\\s*0000000000000000' \
         'Uid:\\s*10000\\s+10000\\s+10000\\s+10000' 'Gid:\\s*10000\\s+10000\\s+10000\\s+10000' 'Groups:\\s*10000\\s*'; do grep -qxE \"$line\" \"$T/status\" || { echo \"not: $line\"; cat \
         \"$T/status\"; exit 1; }; done; }",
    ),
    attack(
        "a-service-ignores-every-signal",
        "new; printf '#!/usr/bin/env python3\\nimport signal, time\\nfor n in range(1, 65):\\n    try: signal.signal(n, signal.SIG_IGN)\\n    except (OSError, \
         ValueError): pass\\nwhile True: time.sleep(100)\\n' > run; echo 300 > timeout-kill; place; up; tell -t; tell -d",
    ),
    attack(
        "a-service-escapes-its-session",
        "new; printf '#!/bin/sh\\nsetsid sh -c \"setsid sleep 3600 & setsid sh -c \\\\\"trap : TERM; sleep 3600 & sleep 3600\\\\\" &\"\\nexec sleep 3600\\n' > run; \
         place; up; tell -k; tell -wd -T 20000 -d",
    ),
    attack(
        "a-service-forks-and-dies-for-ever",
        "new; printf '#!/bin/sh\\nfor n in 1 2 3 4 5 6 7 8 9 10; do (setsid true &); done\\nexit 1\\n' > run; mkdir data; echo 1 > data/backoff-max; place; \
         py write \"$D/supervise/control\" 2 u",
    ),
    attack(
        "orphans-rain-on-the-supervisor",
        "new; printf '#!/bin/sh\\nfor n in $(seq 500); do (setsid true &); done\\nexec sleep 3600\\n' > run; place; up",
    ),
    attack(
        "a-service-stops-itself",
        "new; printf '#!/bin/sh\\nkill -STOP $$\\nexec sleep 3600\\n' > run; echo 300 > timeout-kill; place; up; tell -d; tell -wd -T 20000 -d",
    ),
    attack(
        "readiness-is-shouted",
        "new; echo 3 > notification-fd; printf '#!/bin/sh\\nexec timeout 3 cat /dev/zero >&3\\n' > run; place; up; tell -k",
    ),
    attack(
        "readiness-is-said-a-million-times",
        "new; echo 3 > notification-fd; printf '#!/bin/sh\\nexec timeout 2 yes >&3\\n' > run; place; up; tell -k",
    ),
    attack(
        "the-prober-is-pointed-elsewhere",
        "for url in http://169.254.169.254/latest http://10.0.0.1:22/ http://localhost.evil.example:80/ file:///etc/shadow http://127.0.0.1@10.0.0.1/ http://[::]:1/ \
         http://0:22/ http://127.0.0.1:99999/ gopher://127.0.0.1/; do new; echo 3 > notification-fd; printf '#!%s service\\ncommand = [\"sleep\", \
         \"3600\"]\\n[ready]\\nhttp = \"%s\"\\n' \"$G\" \"$url\" > run; test -e \"$D\" && { mv \"$S/.$N/run\" \"$D/run\"; rm -rf \"$S/.$N\"; try; } || place; done; ! s6 \
         s6-svwait -t 300 -U \"$D\" 2>/dev/null",
    ),
    attack(
        "the-loader-is-told-to-preload",
        "new; printf '#!%s service\\ncommand = [\"sleep\", \"3600\"]\\n[environment]\\nLD_PRELOAD = \"%s/evil.so\"\\nLD_LIBRARY_PATH = \"%s\"\\nPATH = \"%s\"\\n' \
         \"$G\" \"$T\" \"$T\" \"$T\" > run; payload \"$T/sleep\"; payload \"$T/s6-svscan\"; payload \"$T/gatevisor\"; place; try",
    ),
    attack(
        "limits-are-lowered-to-nothing",
        "new; printf '#!/bin/bash\\nulimit -n 4; ulimit -f 0; ulimit -v 60000; exec sleep 3600\\n' > run; place; live",
    ),
    attack(
        "the-directory-is-taken-away-from-under-it",
        "new; place; up; rm -rf \"$D\" || rm -rf \"$D\" || :; mv \"$D\" \"$T/rest\" || :; rescan; new; place; mv \"$D\" \"$T/away\"; rescan; rm -rf \"$T/away\" || :",
    ),
];
