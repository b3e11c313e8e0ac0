//! Very many names that are refused, and the memory of the first process. Each attack has a new
//! cell.

use crate::attack::{Attack, attack};

/// Records the memory of the first process before the attack, in KiB.
const BEFORE: &str = "awk '/^RssAnon/ { print $2 }' /proc/1/status > /srv/before";

/// Root asks for two scans of everything. Then the first process must have grown by less than 3
/// MiB. (60,000 names once took 35 MiB.)
const IS_BOUNDED: &str = "for n in 1 2; do printf a > \"$S/.s6-svscan/control\"; mkdir \"$S/.last$n\"; printf '#!/bin/sh\nexec sleep 3600\n' > \"$S/.last$n/run\"; chmod 755 \"$S/.last$n/run\"; chown -R 10001:10001 \"$S/.last$n\"; mv \"$S/.last$n\" \"$S/last$n\"; py taken \"$S/last$n\"; done; \
                          now=$(awk '/^RssAnon/ { print $2 }' /proc/1/status); before=$(cat /srv/before); echo \"$before KiB before, $now KiB now, $(ls \"$S/.s6-svscan/refused\" | wc -l) published\"; test $((now - before)) -lt 3072; test $(ls \"$S/.s6-svscan/refused\" | wc -l) -le 1024";

pub const ALL: &[Attack] = &[
    attack("names-of-the-greatest-length-that-lead-nowhere", "py crowd \"$S\" 8000 /nowhere 248; rescan")
        .planted(BEFORE)
        .then(IS_BOUNDED),
    attack("names-of-every-length-that-lead-to-what-is-roots", "py crowd \"$S\" 8000 /etc 0; rescan")
        .planted(BEFORE)
        .then(IS_BOUNDED),
    attack("names-whose-letters-are-longer-where-they-are-shown", "py crowd \"$S\" 8000 /nowhere 240 unprintable; rescan")
        .planted(BEFORE)
        .then(IS_BOUNDED),
    attack("names-that-change-with-each-look", "for n in 1 2 3; do py crowd \"$S\" 1500 /nowhere 20$n; rescan; find \"$S\" -maxdepth 1 -type l -delete; rescan; done; py crowd \"$S\" 1500 /nowhere 248; rescan")
        .planted(BEFORE)
        .then(IS_BOUNDED),
];
