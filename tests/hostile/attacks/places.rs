//! Directories that are links to other places: the slot, its subdirectories, and `.s6-svscan`.

use crate::attack::{Attack, attack};

pub const ALL: &[Attack] = &[
    attack("event-is-a-link", "new; ln -s \"$V/directory\" event; place; try"),
    attack("event-is-a-link-to-a-closed-directory", "new; ln -s \"$V/closed\" event; place; try"),
    attack("log-is-a-link-to-a-service-of-root", "new; ln -s \"$V/service\" log; place; try; rescan"),
    attack("data-is-a-link", "new; ln -s \"$V/closed\" data; place; try"),
    attack("env-is-a-link", "new; ln -s \"$V/closed\" env; ln -s \"$V/secret\" .env; place; try"),
    attack("a-slot-is-a-link-to-a-service-of-root", "ln -s \"$V/service\" \"$D\"; py taken \"$D\"; try"),
    attack(
        "a-slot-is-a-chain-of-links-to-a-service-of-root",
        "ln -s \"$V/service\" \"$T/b\"; ln -s \"$T/b\" \"$T/a\"; ln -s \"$T/a\" \"$D\"; py taken \"$D\"; try",
    ),
    attack("a-slot-is-a-link-of-root-that-leads-through-the-attacker", "rm -rf \"$T/slot\"; ln -s \"$V/service\" \"$T/slot\"; py taken \"$D\"; try")
        .planted("ln -s \"$T/slot\" \"$D\"")
        .of_the_served(),
    attack("a-slot-is-a-link-to-the-scandir", "ln -s . \"$D\"; payload \"$S/run\"; py taken \"$D\"; try; rm \"$S/run\""),
    attack("a-slot-is-a-link-to-what-directs-the-supervisor", "ln -s .s6-svscan \"$D\"; py taken \"$D\"; try"),
    attack("a-slot-is-a-link-to-the-root-directory", "ln -s / \"$D\"; py taken \"$D\"; try"),
    attack("a-slot-is-a-link-to-a-process", "ln -s \"/proc/$P/root\" \"$D\"; py taken \"$D\"; try"),
    attack("a-slot-is-a-link-to-a-descriptor-of-the-supervisor", "ln -s /proc/self/fd/5 \"$D\"; py taken \"$D\"; try"),
    attack("a-slot-is-a-link-to-a-bystander", "ln -s bystander-other \"$D\"; py taken \"$D\"; try"),
    attack("a-slot-is-a-bystanders-log", "ln -s bystander-other/log \"$D\"; py taken \"$D\"; try"),
    attack("a-slot-is-a-bystander-of-the-same-owner-again", "ln -s bystander-same \"$D\"; py taken \"$D\""),
    attack("a-slot-is-a-file-a-fifo-and-a-socket", "echo > \"$D\"; mkfifo \"$D-fifo\"; rescan; rescan"),
    attack(
        "what-directs-the-supervisor-becomes-a-slot",
        "mv \"$S/.s6-svscan\" \"$D\"; mkdir \"$S/.s6-svscan\"; printf a > \"$D/control\"; s6 s6-svwait -t 500 -u \"$D\" || :; rmdir \
         \"$S/.s6-svscan\"; mv \"$D\" \"$S/.s6-svscan\"; rescan",
    ),
    attack(
        "what-directs-the-supervisor-is-replaced-by-a-link",
        "mv \"$S/.s6-svscan\" \"$S/.was\"; ln -s \"$V/service\" \"$S/.s6-svscan\"; printf aaaa > \"$S/.was/control\"",
    )
    .then("kill -USR1 \"$P\"; kill -WINCH \"$P\"; kill -HUP \"$P\"; rm -f \"$S/.s6-svscan\"; mv \"$S/.was\" \"$S/.s6-svscan\"")
    .of_the_served(),
    attack(
        "a-script-of-a-signal-is-put-beside-roots",
        "mv \"$S/.s6-svscan\" \"$S/.was\"; mkdir \"$S/.s6-svscan\"; for s in SIGUSR1 SIGUSR2 SIGHUP finish crash; do payload \
         \"$S/.s6-svscan/$s\"; done",
    )
    .then("kill -USR1 \"$P\"; kill -USR2 \"$P\"; kill -HUP \"$P\"; rm -rf \"$S/.s6-svscan\"; mv \"$S/.was\" \"$S/.s6-svscan\"")
    .of_the_served(),
];
