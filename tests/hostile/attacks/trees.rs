//! What root's walks at a boot may find: other volumes, great depths, great numbers. Each attack
//! has a new container.

use crate::attack::{Attack, attack};

pub const ALL: &[Attack] = &[
    attack(
        "boot-the-scandir-is-deep",
        "cd /run/service; n=0; while test $n -lt 600; do mkdir d; cd d; n=$((n + 1)); done",
    ),
    attack("boot-a-volume-is-in-the-scandir", "true").mounted("volume \"$directory/others/scandir\" /run/service/.mounted; volume \"$directory/others/home\" /run/service/.hidden/x"),
    attack("boot-a-volume-is-led-into-an-owned-tree", "cd \"$H\"; mv a was-a; mkdir -p profiles/p; ln -s profiles/p a")
        .mounted("volume \"$directory/others/home\" /opt/data/a/other"),
    attack("boot-a-volume-is-led-into-the-scandir", "cd \"$H\"; mv a was-a; ln -s /run/service a")
        .mounted("volume \"$directory/others/home\" /opt/data/a/other"),
    attack("boot-a-volume-is-led-into-what-directs-the-supervisor", "cd \"$H\"; mv a was-a; ln -s /run/service/.s6-svscan a")
        .mounted("volume \"$directory/others/home\" /opt/data/a/other"),
    attack("boot-a-volume-is-an-owned-tree", "cd \"$H\"; mv a was-a; ln -s . a")
        .mounted("volume \"$directory/others/home\" /opt/data/a/cron"),
    attack("boot-a-file-of-somebody-else-is-mounted-as-one-of-the-agents", "true")
        .mounted(": > \"$directory/others/file\"; chown 0:0 \"$directory/others/file\"; [[ -e $R/opt/data/config.yaml ]] || : > \"$R/opt/data/config.yaml\"; mount --bind \"$directory/others/file\" \"$R/opt/data/config.yaml\"")
        .holds("test \"$(stat -c %u /opt/data/config.yaml)\" = 0"),
    attack("boot-a-volume-that-cannot-be-written-is-in-an-owned-tree", "true")
        .mounted("mkdir -p \"$directory/others/ro\"; volume \"$directory/others/ro\" /opt/data/profiles/ro; mount -o remount,bind,ro \"$R/opt/data/profiles/ro\""),
    attack(
        "boot-trees-and-links-to-a-volume-change-places",
        "cd \"$H\"; mkdir -p profiles/p/in cron/c; for n in 1 2 3 4 5 6 7 8; do mkdir -p profiles/p$n; ln -s ../mounted profiles/l$n; done; ln -s ../mounted/deep cron/l",
    )
    .planted("for n in 1 2 3 4 5 6 7 8; do mkdir -p /opt/data/profiles/p$n/of-root; done; chown 10000:10000 /opt/data/profiles /opt/data/profiles/p*")
    .meanwhile("py exchange 60 profiles/p1 profiles/l1 profiles/p2 profiles/l2 profiles/p3 profiles/l3 profiles/p4 profiles/l4 cron/c cron/l"),
    attack(
        "boot-trees-and-the-mounted-volume-change-places",
        "cd \"$H\"; mv a was-a; mkdir -p a/other profiles/p/other; echo > profiles/p/other/x",
    )
    .mounted("volume \"$directory/others/home\" /opt/data/a/other")
    .meanwhile("py exchange 60 a profiles/p"),
    attack(
        "boot-an-owned-tree-has-second-names-of-files-of-root",
        "mkdir -p \"$H/profiles/p\" \"$H/cron\"",
    )
    .planted("mkdir -p /opt/data/profiles/p /opt/data/cron /opt/data/kept; echo precious > /opt/data/kept/secret; chmod 600 /opt/data/kept/secret; for n in 1 2 3; do ln /opt/data/kept/secret \
              /opt/data/profiles/p/s$n; ln /opt/data/kept/secret /opt/data/cron/s$n; done; ln /opt/data/kept/secret /opt/data/auth.json; chown 10000:10000 /opt/data/profiles/p /opt/data/profiles \
              /opt/data/cron")
    .holds("test \"$(stat -c %u /opt/data/kept/secret)\" = 0"),
    attack(
        "boot-the-scandir-is-five-thousand-deep",
        "py deep \"$S\" 5000",
    ),
    attack("boot-the-scandir-has-names-of-every-kind", "cd \"$S\"; py names; mkdir -p .a/.b; touch \"$(printf '%0255d' 7)\"; mkfifo .fifo; py sockets; chmod 0 .a"),
    attack(
        "boot-an-owned-tree-is-five-thousand-deep",
        "mkdir -p \"$H/profiles/p\"; py deep \"$H/profiles/p\" 5000",
    ),
    attack("boot-an-owned-tree-grows-while-it-is-walked", "mkdir -p \"$H/profiles/p\"")
        .with("GATEVISOR_STEP_TIMEOUT=3")
        .meanwhile("py grow 60 profiles/p"),
    attack("boot-the-tree-is-moved-out-from-under-the-walk", "mkdir -p \"$H/profiles/p/a/b/c/d/e/f\" \"$H/elsewhere\"")
        .planted("mkdir -p /opt/data/profiles/p/a/b/c/d/e/f; chown -R 0:0 /opt/data/profiles/p/a/b/c; chown 10000:10000 /opt/data/profiles /opt/data/profiles/p /opt/data/profiles/p/a")
        .meanwhile("py exchange 60 profiles/p/a elsewhere"),
];
