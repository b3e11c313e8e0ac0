//! A racing renamer for thirty seconds: everything that can be a link is a link half of the time,
//! while commands are sent.

use crate::attack::{Attack, attack};

pub const ALL: &[Attack] = &[attack(
    "a-racing-renamer-for-thirty-seconds",
    "for n in 1 2; do mkdir -p \"$S/.r$n/log\" \"$S/.r$n/data\" \"$S/.r$n/event\"; payload \"$S/.r$n/run\"; payload \"$S/.r$n/finish\"; payload \"$S/.r$n/log/run\"; echo 1 > \
     \"$S/.r$n/data/backoff-max\"; mv -T \"$S/.r$n\" \"$S/r$n\"; py taken \"$S/r$n\"; cd \"$S/r$n\"; ln -s \"$V/directory\" l1; ln -s \"$V/closed\" l2; ln -s \"$V/service\" \
     l3; ln -s \"$V/closed\" l4; ln -s \"$V/program\" l5; ln -s \"$V/program\" l6; done; ln -s \"$V/service\" \"$S/.l\"; cd \"$S\"; py exchange 60 r1/supervise r1/l1 r1/event r1/l2 r1/log \
     r1/l3 r1/data r1/l4 r1/run r1/l5 r1/finish r1/l6 r2 .l & py write \"$S/r1/supervise/control\" 60 xudk & py write \"$S/r2/supervise/control\" 60 xuk & wait",
)
.while_root(
    "end=$((SECONDS + 30)); while test $SECONDS -lt $end; do printf h > \"$S/.s6-svscan/control\" || :; kill -ALRM \"$P\"; kill -USR1 \"$P\"; done",
)];
