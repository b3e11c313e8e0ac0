//! Where loggers are led, and floods of lines.

use crate::attack::{Attack, attack};

macro_rules! led {
    ($name:literal, $words:literal) => {
        attack($name, concat!("new; mkdir -p log/lines; printf '#!%s log\\ndirectory = \"lines\"\\n' \"$G\" > log/run; chmod 755 log/run; \
            printf '#!/bin/sh\\nwhile :; do echo line; sleep 0.01; done\\n' > run; ", $words, "; place; live"))
    };
}

pub const ALL: &[Attack] = &[
    attack(
        "log-run-is-a-link-to-a-program-of-root",
        "new; mkdir log; ln -s \"$V/program\" log/run; place; live",
    ),
    attack("log-run-is-huge", "new; mkdir log; truncate -s 1G log/run; chmod 755 log/run; place; live"),
    attack("log-run-is-a-fifo", "new; mkdir log; mkfifo -m 755 log/run; place; live"),
    attack("log-run-is-absent", "new; mkdir log; place; live"),
    led!("the-log-directory-is-a-link", "rmdir log/lines; ln -s \"$V/directory\" log/lines"),
    led!(
        "the-log-directory-is-roots",
        "printf '#!%s log\\ndirectory = \"%s/directory\"\\n' \"$G\" \"$V\" > log/run"
    ),
    led!("the-log-file-is-a-link", "ln -s \"$V/readable\" log/lines/current"),
    led!("the-log-file-is-a-fifo", "mkfifo log/lines/current"),
    led!(
        "the-log-lock-is-a-link",
        "ln -s \"$V/readable\" log/lines/lock; ln -s \"$V/readable\" log/lines/state"
    ),
    led!("the-log-is-a-directory", "mkdir -p log/lines/current/x log/lines/lock/x"),
    led!("log-error-is-a-link", "rmdir log/lines; echo > log/lines; ln -s \"$V/readable\" log/error"),
    led!("log-stderr-is-a-link", "ln -s \"$V/secret\" log/stderr"),
    led!(
        "a-log-pattern-that-takes-for-ever",
        "printf '#!%s log\\ndirectory = \"lines\"\\ninclude = [\"(a+)+$\", \"(.*)*x\"]\\n' \"$G\" > log/run; printf \
        '#!/bin/sh\\nwhile :; do head -c 5000 /dev/zero | tr \"\\\\0\" a; echo; sleep 0.01; done\\n' > run"
    ),
    led!(
        "a-flood-of-lines",
        "printf '#!%s log\\ndirectory = \"lines\"\\nsize = 4096\\nkeep = 1\\nforward = \"off\"\\n' \"$G\" > log/run; printf '#!/bin/sh\\nexec timeout 3 \
        yes\\n' > run"
    ),
    led!(
        "a-line-without-an-end",
        "printf '#!%s log\\ndirectory = \"lines\"\\nsize = 4096\\nkeep = 1\\nforward = \"off\"\\n' \"$G\" > log/run; printf '#!/bin/sh\\nexec timeout 3 cat \
        /dev/zero\\n' > run"
    ),
    led!(
        "lines-that-drive-a-terminal",
        "printf '#!/bin/sh\\nwhile :; do printf \"\\\\033]0;owned\\\\007\\\\033[2J\\\\n\"; sleep 0.02; done\\n' > run"
    ),
    attack(
        "the-log-daemon-is-stopped",
        "new; mkdir log; printf '#!%s log\\ndirectory = \"lines\"\\n' \"$G\" > log/run; chmod 755 log/run; printf \
        '#!/bin/sh\\nexec timeout 2 yes\\n' > run; place; up; for p in $(pgrep -U $(id -u) -P \"$P\" -f 'gatevisor logd' || :); do kill -STOP $p; kill -CONT $p; kill -KILL $p; done; live",
    ),
    attack(
        "the-loggers-own-process-is-stopped",
        "new; mkdir log; printf '#!/bin/sh\\nkill -STOP $$\\n' > log/run; chmod 755 log/run; printf '#!/bin/sh\\nexec timeout 5 \
        yes\\n' > run; place; up; tell -k",
    ),
    attack(
        "the-logger-closes-its-input",
        "new; mkdir log; printf '#!/bin/sh\\nexec 0<&-\\nexec sleep 3600\\n' > log/run; chmod 755 log/run; printf '#!/bin/sh\\nexec yes\\n' > \
        run; place; up",
    ),
];
