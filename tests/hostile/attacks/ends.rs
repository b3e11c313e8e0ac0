//! Gateways that resist a stop, endless logs, and OOM scores. Each attack has a new cell.

use crate::attack::{Attack, attack};

/// A profile that has been up.
macro_rules! profile {
    ($words:literal) => {
        concat!(
            "cd \"$H\"; mkdir -p profiles/coder logs/gateways/coder; echo > profiles/coder/SOUL.md; echo '{\"gateway_state\": \"running\"}' > profiles/coder/gateway_state.json; ",
            $words
        )
    };
}

pub const ALL: &[Attack] = &[
    // Volumes that could prevent root from stopping a gateway.
    attack("a-gateway-whose-state-file-is-locked-is-stopped", profile!("echo 1 > profiles/coder/.env; \"$G\" gateway start --no-wait coder; for f in .gateway_state.json.lock gateway_state.json gateway_state.json.lock .lock; do (py hold_lock profiles/coder/$f \"$T/held$f\" >/dev/null 2>&1 &); py until 10 test -e \
         \"$T/held$f\"; done"))
        .then("timeout 40 \"$G\" gateway stop coder || :; s6 s6-svwait -t 20000 -d \"$S/gateway-coder\""),
    // The watcher of the profiles removes the service directory at a time of its own: it may go
    // between the question and the wait.
    attack("a-gateway-whose-profile-is-gone-is-stopped", profile!("\"$G\" gateway start --no-wait coder; mv profiles/coder was-coder"))
        .then("timeout 40 \"$G\" gateway stop coder || :; s6 s6-svc -d \"$S/gateway-coder\" 2>/dev/null || :; ! test -d \"$S/gateway-coder\" || s6 s6-svwait -t 20000 -d \"$S/gateway-coder\" || ! test -d \"$S/gateway-coder\""),
    // Logs.
    attack("a-log-is-three-tebibytes-of-nothing", profile!("truncate -s 3T logs/gateways/coder/current"))
        .then("for w in '' '-n 5' '--since 1h' '-n 100000'; do timeout 20 \"$G\" logs coder $w >/dev/null 2>&1 </dev/null || test $? -ne 124 || { echo \"logs $w hangs\"; exit 8; }; done"),
    attack("logs-are-many-and-full-of-holes", profile!("for n in $(seq 10 60); do truncate -s 1T logs/gateways/coder/@400000005f000000000000$n.s; done; truncate -s 1T logs/gateways/coder/current; printf 'the end\n' >> logs/gateways/coder/current; truncate -s 1T logs/container-boot.log"))
        .then("for w in 'logs' 'logs coder' 'logs coder -n 5' 'logs coder --since 1h' doctor status; do timeout 20 \"$G\" $w >/dev/null 2>&1 </dev/null || test $? -ne 124 || { echo \"$w hangs\"; exit 8; }; done"),
    attack("a-log-is-one-line-without-an-end", profile!("head -c 30000000 /dev/zero | tr '\\0' x > logs/gateways/coder/current"))
        .then("for w in '' '-n 5' '--since 1h'; do (ulimit -v 400000; timeout 30 \"$G\" logs coder $w >/dev/null 2>&1 </dev/null) || test $? -ne 124 || { echo \"logs $w hangs\"; exit 8; }; done"),
    attack("a-log-is-a-fifo-a-device-or-a-link", profile!("cd logs/gateways/coder; mkfifo current; ln -s /dev/zero @400000005f00000000000010.s; mkdir @400000005f00000000000011.s; ln -s /etc/shadow @400000005f00000000000012.s; mkfifo @400000005f00000000000013.s"))
        .then("for w in 'logs' 'logs coder' 'logs coder -n 5'; do timeout 20 \"$G\" $w >/dev/null 2>&1 </dev/null || test $? -ne 124 || { echo \"$w hangs\"; exit 8; }; done"),
    // Memory.
    attack("a-gateway-asks-for-a-score-by-which-others-are-killed-first", "for x in 'oom-score-adj = -1000' 'oom-score-raise = -500' 'oom-score-raise = 5000' 'oom-score-adj = 10\noom-score-raise = 10'; do n=$((${n:-0} + 1)); N=bad-$n; \
         D=\"$S/$N\"; mkdir -p \"$S/.$N/data\"; printf \"#!/usr/local/bin/gatevisor service\\ncommand = [\\\"sleep\\\", \\\"3600\\\"]\\n$x\\n\" > \"$S/.$N/run\"; chmod 755 \"$S/.$N/run\"; mv \"$S/.$N\" \"$D\"; py taken \"$D\"; py until 30 grep -q oom-score \"$D/data/start-error\"; done"),
    attack("a-gateway-lowers-its-score-below-the-supervisors", "new; printf '#!/bin/sh\\nfor n in -1000 -500 -1; do echo $n > /proc/self/oom_score_adj; done 2>/dev/null\\nexec sleep 3600\\n' > run; place; up")
        .then("p=$(s6 s6-svstat -o pid \"$D\"); test $(cat /proc/$p/oom_score_adj) -ge $(cat /proc/1/oom_score_adj)"),
    attack("the-score-of-the-supervisor-is-written-to", "for f in /proc/1/oom_score_adj /proc/1/oom_adj /proc/1/task/1/oom_score_adj; do ! (echo 1000 > $f) 2>/dev/null || exit 9; done; for f in /proc/1/fd/* /proc/1/root/proc/1/oom_score_adj; do (echo 1000 > $f) 2>/dev/null || :; done")
        .then("test $(cat /proc/1/oom_score_adj) -lt 1000"),
];
