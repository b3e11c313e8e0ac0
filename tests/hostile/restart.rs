//! What an agent leaves behind for the next boot of its container, which root does.
//!
//! The container is stopped and started again after the attacker's part, so there are no bystanders: what must hold is that
//! nothing of root's changed, that no code of the attacker's ran as root, and that the container supervises again.

use crate::attack::{Attack, attack};
use crate::bed;
use crate::engine;

pub const ALL: &[Attack] = &[
    // Some storage drivers let the owner of a directory in /run rename it, and others do not; root does it for him.
    attack("boot-the-scandir-is-a-link", "true")
        .planted("rm -rf /run/service; ln -s \"$V/directory\" /run/service; chown -h 10000:10000 /run/service")
        .in_a_container(),
    attack("boot-the-scandir-is-a-fifo", "true")
        .planted("rm -rf /run/service; mkfifo /run/service; chown 10000:10000 /run/service")
        .in_a_container(),
    attack("boot-the-scandir-is-a-file", "true")
        .planted("rm -rf /run/service; echo > /run/service; chown 10000:10000 /run/service")
        .in_a_container(),
    attack(
        "boot-the-scandir-is-full",
        "cd /run/service; mkdir -p x/y/z .x/y; ln -s \"$V\" x/v; ln -s \"$V\" v; mkfifo x/f; chmod 000 x/y; ln -s \"$V/program\" .y",
    )
    .in_a_container(),
    attack(
        "boot-the-scandir-is-deep",
        "cd /run/service; n=0; while test $n -lt 600; do mkdir d; cd d; n=$((n + 1)); done",
    )
    .in_a_container(),
    attack(
        "boot-what-the-scandir-would-be-put-aside-as-is-taken",
        "mkdir -p $(seq -f /run/.service.%.0f.not-ours/x 0 20); mv /run/service /run/was-service-2; ln -s \"$V/directory\" /run/service",
    )
    .in_a_container(),
    attack("boot-the-run-time-directory-is-a-link", "! mv /run/s6 /run/was-s6 2>/dev/null; ! touch /run/s6/x 2>/dev/null").in_a_container(),
    attack("boot-the-mark-of-a-container-is-a-link", "rm -f /run/.containerenv 2>/dev/null; ln -s \"$V/made\" /run/.containerenv 2>/dev/null || :").in_a_container(),
    attack(
        "boot-the-home-is-full-of-links",
        "cd \"$H\"; for x in profiles cron logs sessions hooks memories skills plans workspace backups pairing home platforms; do rm -rf $x; ln -s \"$V/home\" $x || :; done; for x in \
         auth.json state.db .env config.yaml gateway_state.json .install_method .gatevisor.lock; do rm -rf $x; ln -s \"$V/secret\" $x || :; done",
    )
    .in_a_container(),
    attack(
        "boot-the-home-is-full-of-fifos",
        "cd \"$H\"; rm -rf profiles logs; mkdir logs; mkdir -p profiles/a profiles/b; for x in auth.json .env config.yaml gateway_state.json .install_method .gatevisor.lock SOUL.md \
         profiles/a/gateway_state.json profiles/a/SOUL.md profiles/b/.env logs/boot.log; do rm -rf $x; mkfifo $x || :; done",
    )
    .in_a_container(),
    attack(
        "boot-the-home-is-full-of-directories",
        "cd \"$H\"; rm -rf logs; mkdir logs; for x in auth.json .env config.yaml gateway_state.json .install_method .gatevisor.lock logs/boot.log; do rm -rf $x; mkdir -p $x/x; done",
    )
    .in_a_container(),
];

#[test]
fn against_a_boot_that_root_does() {
    if !engine::skipped() {
        bed::container("").survives_restarts(ALL);
    }
}
