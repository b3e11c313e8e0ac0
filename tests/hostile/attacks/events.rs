//! What is in `event/`, where each subscriber of a service has a FIFO.

use crate::attack::{Attack, attack};

pub const ALL: &[Attack] = &[
    attack("thousands-of-listeners-that-are-gone", "new; mkdir event; py listeners event 5000 gone; place; live"),
    attack("hundreds-of-listeners-that-are-full", "new; mkdir event; (py listeners event 500 held &) >/dev/null 2>&1; py until 20 test -e \
        event/ftrig1:@4000000000000000000001f3:attack; place; live; touch \"$T/stop\""),
    attack(
        "listeners-are-links",
        "new; mkdir event; for n in 1 2 3 4; do for f in readable fifo secret directory/file; do ln -sf \"$V/$f\" \
         event/ftrig1:@40000000000000000000000$n:attack; done; done; place; live",
    ),
    attack("listeners-are-hard-links", "place; try").planted(
        "planted event; payload run; chown 10000:10000 run; ln \"$V/readable\" event/ftrig1:@400000000000000000000001:attack; ln \"$V/fifo\" \
         event/ftrig1:@400000000000000000000002:attack",
    ),
    attack("listeners-are-devices", "place; try").planted(
        "planted event; payload run; chown 10000:10000 run; mknod event/ftrig1:@400000000000000000000001:attack c 1 5; chmod 666 \
         event/ftrig1:@400000000000000000000001:attack",
    ),
    attack("event-is-replaced-while-it-is-used", "new; place; up; for n in $(seq 50); do rm -rf \"$D/event\"; ln -s \"$V/directory\" \"$D/event\"; tell -k; rm \
        \"$D/event\"; mkdir \"$D/event\"; tell -k; done").of_the_served(),
    attack("event-may-be-written-by-everybody", "new; mkdir -m 777 event; place; live"),
    attack("event-belongs-to-somebody-else", "place; try").planted("planted event; payload run; chown 10000:10000 run; chown 10001:10001 event"),
];
