//! Names that change their target between check and use, exchanged in tight loops.

use crate::attack::{Attack, attack};

/// The scans and signals with which its own user keeps the supervisor busy meanwhile.
macro_rules! busy {
    () => {
        "end=$((SECONDS + 2)); while test $SECONDS -lt $end; do printf h > \"$S/.s6-svscan/control\" || :; for n in 1 2 3 4 5 6 7 8; do kill -ALRM \"$P\"; done; done"
    };
}

pub const ALL: &[Attack] = &[
    attack("a-slot-and-a-link-to-a-service-of-root-change-places", "new; payload run; chmod 777 .; ln -s \"$V/service\" \"$S/.link\"; mv \"$S/.$N\" \"$D\"; py exchange 60 \
        \"$D\" \"$S/.link\"")
    .while_root(busy!()),
    attack("run-and-a-program-of-root-change-places", "new; ln -s \"$V/program\" other; place; py exchange 60 \"$D/run\" \"$D/other\" & py write \"$D/supervise/control\" 60 uk; \
        wait")
    .while_root(busy!())
    .of_the_served(),
    attack("supervise-and-a-link-change-places", "new; ln -s \"$V/directory\" other; place; up; py exchange 60 \"$D/supervise\" \"$D/other\" & py write \"$D/supervise/control\" \
        60 ukx; wait")
    .while_root(busy!())
    .of_the_served(),
    attack("supervise-and-event-and-links-change-places", "new; place; up; ln -s \"$V/closed\" \"$D/l1\"; ln -s \"$V/directory\" \"$D/l2\"; mkdir -p \"$D/log\"; ln -s \
        \"$V/service\" \"$D/l3\"; py exchange 60 \"$D/supervise\" \"$D/l1\" \"$D/event\" \"$D/l2\" \"$D/log\" \"$D/l3\" & py write \"$D/supervise/control\" 60 xuk; wait")
    .while_root(busy!())
    .of_the_served(),
    attack("files-of-the-supervisor-and-links-change-places", "new; place; up; cd \"$D/supervise\"; ln -s \"$V/readable\" a; ln -s \"$V/readable\" b; ln -s \"$V/fifo\" c; ln -s \
        \"$V/readable\" d; py exchange 60 status a death_tally b control c lock d & py write \"$D/supervise/control\" 60 xuk; wait")
    .while_root(busy!())
    .of_the_served(),
    attack("what-the-supervisor-makes-is-replaced-by-links", "new; place; py replace 60 \"$D\" \"$V/directory\" event supervise & py write \"$D/supervise/control\" 60 x; wait")
        .while_root(busy!()),
    attack("what-the-supervisor-makes-is-taken-away",
        "new; mkdir own; place; py steal 60 \"$D\" '' supervise event; rescan; test ! -e \"$D/caught-0\" || { cd \"$D\"; mv caught-0 log; \
         rescan; mv log event || :; rescan; ! touch log/run event/run 2>/dev/null; }",
    )
    .while_root(busy!()),
    attack("a-log-directory-and-a-service-of-root-change-places", "new; mkdir log; payload log/run; ln -s \"$V/service\" other; place; py exchange 60 \"$D/log\" \"$D/other\" & py \
        write \"$D/supervise/control\" 60 x; wait")
    .while_root(busy!())
    .of_the_served(),
    attack("the-scripts-of-signals-and-others-change-places", "mkdir \"$S/.evil\"; for s in SIGUSR1 SIGHUP SIGUSR2 finish crash; do payload \"$S/.evil/$s\"; done; trap 'test -O \
        \"$S/.s6-svscan\" && mv -T \"$S/.s6-svscan\" \"$S/.x\" && mv -T \"$S/.evil\" \"$S/.s6-svscan\" || :' EXIT; py exchange 60 \"$S/.s6-svscan\" \"$S/.evil\"")
    .while_root("end=$((SECONDS + 2)); while test $SECONDS -lt $end; do for n in 1 2 3 4 5 6 7 8 9; do kill -USR1 \"$P\"; done; done")
    .of_the_served(),
    attack("a-log-directory-of-the-daemon-and-a-link-change-places", "new; mkdir -p log/lines; printf '#!%s log\\ndirectory = \"lines\"\\nsize = 4096\\nkeep = 2\\n' \"$G\" > log/run; chmod \
        755 log/run; printf '#!/bin/sh\\nexec timeout 4 yes\\n' > run; ln -s \"$V/directory\" log/other; place; up; py exchange 3 \"$D/log/lines\" \"$D/log/other\""),
];
