//! What is in place of `supervise/` and of the files that the supervisor keeps in it.
//!
//! A kernel with `fs.protected_hardlinks` lets no user make hard links to files of others, so root
//! makes them here.

use crate::attack::{Attack, attack};

macro_rules! file {
    ($link:literal, $hard:literal, $name:literal) => {
        [
            attack(
                $link,
                concat!("new; mkdir -p supervise; ln -s \"$V/readable\" supervise/", $name, "; place; try"),
            ),
            attack($hard, "place; try").planted(concat!(
                "planted supervise; ln \"$V/readable\" supervise/",
                $name,
                "; payload run; chown 10000:10000 run"
            )),
        ]
    };
}

const STATUS: [Attack; 2] = file!("status-is-a-link", "status-is-a-hard-link", "status");
const STATUS_NEW: [Attack; 2] = file!("status-new-is-a-link", "status-new-is-a-hard-link", "status.new");
const TALLY: [Attack; 2] = file!("death-tally-is-a-link", "death-tally-is-a-hard-link", "death_tally");
const TALLY_NEW: [Attack; 2] =
    file!("death-tally-new-is-a-link", "death-tally-new-is-a-hard-link", "death_tally.new");
const POLICY: [Attack; 2] = file!("policy-is-a-link", "policy-is-a-hard-link", "policy");
const LOCK: [Attack; 2] = file!("lock-is-a-link", "lock-is-a-hard-link", "lock");
const CONTROL: [Attack; 2] = file!("control-is-a-link", "control-is-a-hard-link", "control");

pub const ALL: &[Attack] = &[
    STATUS[0],
    STATUS[1],
    STATUS_NEW[0],
    STATUS_NEW[1],
    TALLY[0],
    TALLY[1],
    TALLY_NEW[0],
    TALLY_NEW[1],
    POLICY[0],
    POLICY[1],
    LOCK[0],
    LOCK[1],
    CONTROL[0],
    CONTROL[1],
    attack("control-is-a-hard-link-to-a-fifo-of-root", "place; try")
        .planted("planted supervise; payload run; chown 10000:10000 run; ln \"$V/fifo\" supervise/control"),
    attack("supervise-is-a-link", "new; ln -s \"$V/directory\" supervise; place; try"),
    attack("supervise-is-a-link-to-a-closed-directory", "new; ln -s \"$V/closed\" supervise; place; try"),
    attack("supervise-is-a-file", "new; echo > supervise; place; try; rm \"$D/supervise\"; py taken \"$D\""),
    attack(
        "service-lock-is-a-link",
        "new; mkdir supervise; echo 9 > lock-fd; ln -s \"$V/readable\" supervise/service-lock; place; try; ln -sf \
         \"$V/made\" \"$D/supervise/service-lock\"; try",
    ),
    attack(
        "supervise-is-removed-and-made-a-link",
        "new; place; up; rm -rf \"$D/supervise\"; ln -s \"$V/directory\" \"$D/supervise\"; kill -KILL $(cat \"$D/pid\" 2>/dev/null) \
         2>/dev/null || :; rescan",
    ),
    attack(
        "status-is-replaced-by-a-link-while-it-is-written",
        "new; place; up; for n in $(seq 300); do ln -sf \"$V/readable\" \"$D/supervise/status\" || :; ln -sf \"$V/readable\" \
         \"$D/supervise/status.new\" 2>/dev/null || :; tell -o; done 2>/dev/null; tell -u",
    )
    .of_the_served(),
    attack("status-is-a-directory", "new; mkdir -p supervise/status/x supervise/status.new/x supervise/death_tally/x; place; try"),
    attack("lock-is-a-fifo", "new; mkdir supervise; mkfifo supervise/lock; place; try"),
];
