//! A container with few processes and little space, all of which the attacker takes.

use crate::attack::{Attack, attack};

pub const ALL: &[Attack] = &[
    attack("a-fork-bomb", "new; printf '#!/bin/sh\\nexec python3 %s bomb 5\\n' \"$A\" > run; mkdir data; echo 5000 > data/backoff-first; place; up; py until 60 sh -c \
        \"! pgrep -f 'attacker.py bom[b]' >/dev/null\"; tell -d")
    .in_a_container(),
    attack("run-is-filled-up", "new; place; up; py fill \"$S\" 100; tell -k; \"$G\" s6 s6-svok \"$D\"; rm -rf \"$S\"/fill-*; tell -u")
        .in_a_container(),
    attack(
        "a-disk-is-filled-with-logs",
        "new; mkdir log; printf '#!%s log\\ndirectory = \"lines\"\\nkeep = 100\\nforward = \"off\"\\n' \"$G\" > log/run; chmod 755 log/run; printf \
        '#!/bin/sh\\nexec timeout 3 yes\\n' > run; place; up; py until 60 sh -c '! head -c 100000 /dev/zero > \"$S/.more\"'; rm -f \"$S/.more\"; \
        rm -rf \"$D\" || rm -rf \"$D\" || mv \"$D\" \"$S/.rest\"; rescan",
    )
    .in_a_container(),
];
