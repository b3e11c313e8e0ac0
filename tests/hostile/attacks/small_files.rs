//! What is in place of the small files with the settings of a service.

use crate::attack::{Attack, attack};

pub const ALL: &[Attack] = &[
    attack("finish-is-a-link-to-a-program-of-root", "new; ln -s \"$V/program\" finish; place; live"),
    attack("finish-is-a-hard-link-to-a-program-of-root", "place; try")
        .planted("planted data; payload run; chown 10000:10000 run; ln \"$V/program\" finish"),
    attack("finish-is-a-fifo", "new; mkfifo -m 755 finish; place; live"),
    attack(
        "finish-never-ends",
        "new; printf '#!/bin/sh\\ntrap \"\" TERM\\nwhile :; do sleep 1; done\\n' > finish; chmod 755 finish; \
        echo 300 > timeout-finish; place; live",
    ),
    attack(
        "finish-never-ends-and-has-no-limit",
        "new; printf '#!/bin/sh\\nexec sleep 3600\\n' > finish; chmod 755 finish; echo 0 > \
        timeout-finish; place; up; tell -k",
    ),
    attack("down-is-a-dangling-link", "new; ln -s \"$V/made\" down; place; tell -U; tell -D; tell -U"),
    attack("down-is-a-link-to-a-file", "new; ln -s \"$V/readable\" down; place; tell -D; tell -U; tell -D"),
    attack("down-is-a-directory", "new; mkdir -p down/x; place; tell -U; tell -D"),
    attack("down-is-a-fifo", "new; mkfifo down; place; tell -D; tell -U"),
    attack(
        "every-small-file-is-a-link-to-a-secret",
        "new; mkdir data; for f in notification-fd timeout-kill timeout-finish down-signal reload-signal max-death-tally lock-fd \
         data/backoff-max data/give-up-after data/restart-codes; do ln -s \"$V/secret\" $f; done; place; live",
    ),
    attack(
        "every-small-file-is-a-fifo",
        "new; mkdir data; for f in notification-fd timeout-kill timeout-finish down-signal reload-signal max-death-tally lock-fd type \
         data/backoff-first data/backoff-max data/fail-codes; do mkfifo $f; done; place; live",
    ),
    attack(
        "every-small-file-is-a-fifo-that-is-held",
        "new; mkfifo notification-fd timeout-kill down-signal; exec 7<>notification-fd 8<>timeout-kill 9<>down-signal; place; live",
    ),
    attack(
        "every-small-file-is-endless",
        "new; mkdir data; for f in notification-fd timeout-kill timeout-finish down-signal max-death-tally data/backoff-max; do ln -s \
         /dev/zero $f; done; for f in reload-signal data/fail-codes data/backoff-first; do truncate -s 1G $f; done; place; live",
    ),
    attack(
        "every-small-file-holds-nonsense",
        "new; mkdir data; for f in notification-fd timeout-kill timeout-finish down-signal reload-signal max-death-tally lock-fd \
         data/backoff-max data/backoff-jitter data/restart-codes; do head -c 300 /dev/urandom > $f; done; place; live",
    ),
    attack(
        "numbers-are-as-large-as-can-be",
        "new; mkdir data; for f in timeout-kill timeout-finish max-death-tally data/backoff-first data/backoff-max data/stable-after \
         data/give-up-after data/backoff-jitter; do echo 4294967295 > $f; done; place; live",
    ),
    attack(
        "notification-goes-to-a-descriptor-that-is-taken",
        "new; for n in 0 1 2 255 1023 1048575 2147483647; do echo $n > notification-fd; test -e \"$D\" || place; s6 s6-svc -k \"$D\" || :; \
         cd \"$D\"; done; test \"$SERVED\" = no || s6 s6-svok \"$D\"",
    ),
    attack(
        "lock-and-notification-are-one-descriptor",
        "new; echo 3 > notification-fd; echo 3 > lock-fd; place; try",
    ),
    attack(
        "the-lock-is-held-by-somebody",
        "new; mkdir supervise; echo 5 > lock-fd; : > supervise/service-lock; python3 \"$A\" hold_lock supervise/service-lock \"$T/held\" & holder=$!; \
        py until 20 test -e \"$T/held\"; place; try; kill $holder; ! wait $holder",
    ),
    attack("a-pid-namespace-is-asked-for", "new; touch flag-newpidns; place; try"),
    attack(
        "everything-is-a-directory",
        "new; rm run; mkdir run finish down notification-fd timeout-kill log data event supervise; place; try",
    ),
    attack(
        "a-slot-holds-twenty-thousand-names",
        "new; mkdir many; cd many; python3 -c 'import os\nfor n in range(20000): os.close(os.open(f\"f{n}\", os.O_CREAT))'; cd ..; place; live",
    ),
];
