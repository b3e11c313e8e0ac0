//! Floods of commands, and commands that the attacker may not give.

use crate::attack::{Attack, attack};

pub const ALL: &[Attack] = &[
    attack("a-flood-of-commands", "new; place; py write \"$D/supervise/control\" 1 'udkUDotxharci12' ").of_the_served(),
    attack("a-flood-of-exits", "new; place; py write \"$D/supervise/control\" 1 'xu'").of_the_served(),
    attack("a-flood-of-restarts", "new; mkdir data; echo 1 > data/backoff-max; place; py write \"$D/supervise/control\" 1 'ku'").of_the_served(),
    attack("a-flood-of-requests", "new; place; py write \"$D/supervise/control\" 1 'UD'").of_the_served(),
    attack("a-flood-of-pauses", "new; place; py write \"$D/supervise/control\" 1 'pc'").of_the_served(),
    attack("a-flood-of-nonsense", "new; place; py write \"$D/supervise/control\" 1 '\\x00\\xff\\n?!'").of_the_served(),
    attack("a-flood-of-scans", "new; py write \"$S/.s6-svscan/control\" 1 'ahznN'; place"),
    attack("a-flood-from-twenty-slots", "for n in $(seq 20); do mkdir \"$S/.f$n\"; payload \"$S/.f$n/run\"; mv \"$S/.f$n\" \"$S/f$n\"; done; rescan; py \
        taken \"$S/f20\"; for n in $(seq 20); do py write \"$S/f$n/supervise/control\" 2 'duk' & done; wait"),
    attack("the-control-fifo-is-full-and-held", "new; place; exec 9<>\"$D/supervise/control\" || test \"$SERVED\" = no; timeout 1 cat /dev/zero >&9 || :"),
    attack("the-end-is-asked-for", "for x in t b q i; do printf $x > \"$S/.s6-svscan/control\"; done").of_the_served(),
    attack(
        "a-bystander-is-commanded",
        "! s6 s6-svc -d \"$S/bystander-other\" 2>/dev/null; ! (echo d > \"$S/bystander-other/supervise/control\") 2>/dev/null; ! (exec \
         9<>\"$S/bystander-other/supervise/control\") 2>/dev/null",
    ),
    attack(
        "a-bystanders-slot-is-written-to",
        "for f in run down log/run supervise/status event/x data/x finish; do ! (echo x > \"$S/bystander-other/$f\") 2>/dev/null || exit 9; done; ! rm -rf \
         \"$S/bystander-other/run\" 2>/dev/null; ! chmod 777 \"$S/bystander-other\" 2>/dev/null",
    ),
    attack(
        "what-directs-the-supervisor-is-written-to",
        "for f in SIGUSR1 finish SIGTERM crash lock refused/x; do ! (echo x > \"$S/.s6-svscan/$f\") 2>/dev/null || exit 9; done; ! rm -f \
         \"$S/.s6-svscan/SIGUSR1\" 2>/dev/null; ! rm -rf \"$S/.s6-svscan\" 2>/dev/null",
    ),
    attack("the-control-fifo-is-replaced", "new; place; for w in fifo file link dir; do rm -rf \"$D/supervise/control\"; case $w in fifo) mkfifo \
        \"$D/supervise/control\" ;; file) echo > \"$D/supervise/control\" ;; link) ln -s \"$V/fifo\" \"$D/supervise/control\" ;; dir) mkdir -p \
        \"$D/supervise/control/x\" ;; esac; rescan; done")
    .of_the_served(),
];
