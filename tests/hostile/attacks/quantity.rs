//! Very large numbers of everything. These attacks are slow, so they have a group of their own.

use crate::attack::{Attack, attack};

pub const ALL: &[Attack] = &[
    attack("a-hundred-thousand-listeners", "new; mkdir event; py listeners event 100000 gone; place; live"),
    attack("slots-come-and-go", "py churn \"$S\" 5 500; rescan"),
    attack(
        "three-hundred-services-die-at-once",
        "py slots \"$S\" 300 up; rescan; py taken \"$S/m00299\"; for n in $(seq -w 0 299); do s6 s6-svc -k \"$S/m00$n\" 2>/dev/null || \
        :; done",
    ),
    attack("twenty-thousand-slots", "py slots \"$S\" 20000 down; rescan"),
    attack(
        "twenty-thousand-links",
        "cd \"$S\"; python3 -c 'import os\nfor n in range(20000): os.symlink(\"/etc\", f\"l{n}\")'; rescan; rescan",
    ),
];
