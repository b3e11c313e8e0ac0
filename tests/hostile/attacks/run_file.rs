//! What is in place of `run`.

use crate::attack::{Attack, attack};

pub const ALL: &[Attack] = &[
    attack("run-is-a-link-to-a-program-of-root", "new; ln -sf \"$V/program\" run; place; live"),
    attack("run-is-setuid", "new; chmod 6755 run; cp /bin/true true; chmod 6755 true; place; live"),
    attack("run-is-a-setuid-program-of-root", "place; try")
        .planted("planted data; cp -p \"$V/program\" run; chmod 6755 run; chown 0:0 run"),
    attack("run-is-a-hard-link-to-a-program-of-root", "place; try")
        .planted("planted data; ln \"$V/program\" run"),
    attack("run-is-a-device", "place; try").planted("planted data; mknod run c 1 5; chmod 777 run"),
    attack("run-is-a-link-to-a-device", "new; ln -sf /dev/zero run; place; try"),
    attack("run-is-a-fifo", "new; rm run; mkfifo -m 755 run; place; try"),
    attack("run-is-a-fifo-that-is-held", "new; rm run; mkfifo -m 755 run; exec 9<>run; place; try"),
    attack(
        "run-is-a-file-of-a-gigabyte",
        "new; truncate -s 1G run; place; try; cd \"$D\"; printf '#!%s service\\n' \"$G\" > run; truncate -s 1G run; try",
    ),
    attack("run-is-a-directory", "new; rm run; mkdir -p run/run; place; try"),
    attack(
        "run-is-a-socket",
        "new; rm run; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"run\")'; chmod 755 run; place; try",
    ),
    attack("run-is-a-link-to-itself", "new; rm run; ln -s run run; place; try"),
    attack(
        "run-is-its-own-interpreter",
        "new; printf '#!./run\\n' > run; place; try; cd \"$D\"; printf '#!%s\\n' \"$D/run\" > run; try",
    ),
    attack(
        "run-names-an-endless-interpreter",
        "new; { printf '#!/'; head -c 100000 /dev/zero | tr '\\0' a; } > run; place; try",
    ),
    attack(
        "run-is-our-interpreter-with-a-secret-for-a-script",
        "new; printf '#!%s service %s/secret\\n' \"$G\" \"$V\" > run; place; try",
    ),
    attack(
        "run-asks-to-become-root",
        "new; printf '#!%s service\\ncommand = [\"%s/.%s/payload\"]\\nuser = \"root\"\\n' \"$G\" \"$S\" \"$N\" > run; \
         payload payload; place; try",
    ),
    attack(
        "run-dies-at-once",
        "new; printf '#!/bin/sh\\nexit 1\\n' > run; mkdir data; echo 1 > data/backoff-max; place; try",
    ),
    attack("run-belongs-to-a-stranger", "place; try")
        .planted("planted data; payload run; chown 10001:10001 run"),
    attack(
        "run-may-be-written-by-everybody",
        "new; chmod 777 run; place; try; chmod 777 \"$D\"; try; rescan",
    ),
];
