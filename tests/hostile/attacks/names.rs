//! Slots with hostile names, and what is shown of them.

use crate::attack::{Attack, attack};

pub const ALL: &[Attack] = &[
    attack(
        "names-with-newlines-and-escapes",
        "export P3='import os,sys\nfor name in (b\"a\\nb\", b\"\\x1b]0;owned\\x07\\x1b[2Jx\", b\"\\r\", b\"a\\tb\", b\" \", b\"\\x7f\", b\"\\x9b31m\", \
         b\"bystander-same\\n\", \"\\u202egpj\".encode()):\n p=os.path.join(os.fsencode(os.environ[\"S\"]), b\".new\"); os.mkdir(p); \
         open(p+b\"/run\",\"w\").write(\"#!/bin/sh\\nexec sleep 3600\\n\"); os.chmod(p+b\"/run\",0o755); os.rename(p, p[:-4]+name)'; \
         python3 -c \"$P3\"; rescan; rescan",
    )
    .then("! \"$G\" --scandir \"$S\" --home \"$H\" status 2>&1 | grep -q \"$(printf '[\\033\\r]')\""),
    attack(
        "names-that-are-no-utf-8",
        "export P3='import os\nfor name in (b\"\\xff\\xfe\", b\"gateway-\\xc3\\x28\", b\"\\xed\\xa0\\x80\", b\"gateway-\\xf0\\x9f\"):\n \
         p=os.path.join(os.fsencode(os.environ[\"S\"]), b\".new\"); os.mkdir(p); open(p+b\"/run\",\"w\").write(\"#!/bin/sh\\nexec sleep \
         3600\\n\"); os.chmod(p+b\"/run\",0o755); os.rename(p, p[:-4]+name)'; python3 -c \"$P3\"; rescan; rescan",
    )
    .then("\"$G\" --scandir \"$S\" --home \"$H\" --json status > /dev/null || test $? -le 2"),
    attack("a-name-of-255-bytes", "new; place; x=$(head -c 255 /dev/zero | tr '\\0' x); mv \"$D\" \"$S/$x\"; py taken \"$S/$x\"; rescan"),
    attack(
        "names-that-are-options-or-patterns",
        "for x in -rf --help '*' '$(id)' '%s%n%x' ';' '|' '`id`' \"'\" '\"' '\\'; do mkdir \"$S/.n\"; payload \"$S/.n/run\"; mv -T -- \"$S/.n\" \
         \"$S/$x\"; done; rescan; rescan",
    ),
    attack("names-that-look-like-ours", "for x in control lock refused s6-svscan supervise event log run ..x ...; do mkdir \"$S/.n\"; payload \
        \"$S/.n/run\"; mv -T \"$S/.n\" \"$S/$x\"; done; rescan; rescan"),
    attack("a-name-is-taken-and-given-back-again-and-again", "new; place; for n in $(seq 100); do mv \"$D\" \"$S/.g\"; rescan; mv \"$S/.g\" \"$D\"; rescan; done; py taken \"$D\""),
    attack("two-names-change-places", "new; place; mkdir \"$S/.b\"; payload \"$S/.b/run\"; mv \"$S/.b\" \"$S/b\"; py taken \"$S/b\"; py exchange 2 \"$D\" \"$S/b\"; rescan"),
    attack(
        "a-refused-name-is-a-path-in-the-list-of-the-refused",
        "for x in .new run; do ln -s /nowhere \"$S/$x\" || :; done; mkdir -m 777 \"$S/control-\" \"$S/lock-\"; rescan; rescan",
    ),
    attack(
        "profiles-whose-names-are-paths",
        "true",
    )
    .then(
        "for x in ../../../etc/x /etc/x .. . ../victims/directory 'a/b' 'a b' \"$(printf 'a\\nb')\" -- -x gateway-../x; do ! timeout 20 \
         \"$G\" --home \"$T/new-home\" --scandir \"$S\" profile create --create \"$x\" >/dev/null 2>&1 || exit 9; done",
    ),
];
