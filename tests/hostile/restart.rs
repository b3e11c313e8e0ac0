//! What an agent leaves for the next boot of its container, which runs as root.
//!
//! The container is stopped and started again after the attacker's part, so there are no
//! bystanders. Afterwards, nothing of root may have changed, no code of the attacker may have run
//! as root, and the container must supervise again.
#![expect(clippy::print_stderr, reason = "how long each took, and which of them never ended")]

use crate::attack::{Attack, attack};
use crate::attacks;
use crate::bed::{self, Bed};
use crate::cell;
use crate::engine;
use crate::layout::Layout;

pub const ALL: &[Attack] = &[
    // Some storage drivers let the owner of a directory in /run rename it, and others do not. So
    // root renames it for the attacker.
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
        "boot-what-the-scandir-would-be-put-aside-as-is-taken",
        "mkdir -p $(seq -f /run/.service.%.0f.not-ours/x 0 20); ! mv /run/service /run/was-service-2 2>/dev/null || ln -s \"$V/directory\" /run/service",
    )
    .in_a_container(),
    attack("boot-the-run-time-directory-is-a-link", "! mv /run/s6 /run/was-s6 2>/dev/null; ! touch /run/s6/x 2>/dev/null").in_a_container(),
    attack("boot-the-mark-of-a-container-is-a-link", "rm -f /run/.containerenv 2>/dev/null || :; ln -s \"$V/made\" /run/.containerenv 2>/dev/null || :").in_a_container(),
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
        "cd \"$H\"; rm -rf logs; mkdir logs; for x in auth.json .env config.yaml gateway_state.json .install_method .gatevisor.lock logs/boot.log; do rm -rf $x; mkdir -p $x/x || :; done",
    )
    .in_a_container(),
];

/// A volume of another user, below the home.
const VOLUMES: &str = "--volume /opt/data/mounted";

/// Carries out attacks, each in a new container of the engine, except attacks that need what the
/// engine does not offer.
fn on_the_engine(attacks: &[Attack]) {
    if engine::skipped() {
        return;
    }
    let possible = attacks.iter().filter(|attack| attack.mounts.is_empty() && attack.meanwhile.is_empty());
    suffered(possible, |attack| {
        let variables: Vec<String> =
            attack.variables.split_whitespace().map(|variable| format!("--env {variable}")).collect();
        let variables = variables.join(" ");
        Ok(bed::container(&format!("{VOLUMES} {variables}")))
    });
}

/// As above, each in a new cell.
pub fn in_cells(attacks: &[Attack]) {
    in_cells_of(Layout::Hermes, attacks);
}

/// As above, of either image.
fn in_cells_of(layout: Layout, attacks: &[Attack]) {
    let _image = cell::image(layout);
    suffered(attacks.iter().filter(|attack| layout.has(attack)), |attack| {
        bed::cell(cell::Start {
            layout,
            variables: attack.variables.split_whitespace().map(Into::into).collect(),
            mounts: layout.spoken(attack.mounts),
            under: Vec::new(),
        })
    });
}

/// Carries out each attack in a bed of its own, or only those whose names contain the value of
/// `GATEVISOR_ATTACK`.
fn suffered<'a>(attacks: impl Iterator<Item = &'a Attack>, bed: impl Fn(&Attack) -> Result<Bed, String>) {
    let only = std::env::var("GATEVISOR_ATTACK").unwrap_or_default();
    let mut fallen = Vec::new();
    for attack in attacks.filter(|attack| attack.name.contains(&only)) {
        let begun = std::time::Instant::now();
        let fell = match bed(attack) {
            Ok(bed) => bed.falls_at_the_next_boot(attack),
            Err(said) => vec![format!("{}: at the first boot: {said}", attack.name)],
        };
        eprintln!(
            "{} took {:?}, {}",
            attack.name,
            begun.elapsed(),
            if fell.is_empty() { "held" } else { "fell" }
        );
        fallen.extend(fell);
    }
    assert!(fallen.is_empty(), "{}", fallen.join("\n"));
}

#[test]
fn against_a_boot_that_root_does() {
    on_the_engine(ALL);
}

/// Makes a test of each group whose attacks have a new cell each.
macro_rules! in_cells {
    ($($group:ident),* $(,)?) => {
        mod in_a_cell {
            #[test] fn boots() { super::in_cells(super::ALL); }
            $(#[test] fn $group() { super::in_cells(super::attacks::$group::ALL); })*
        }
    };
}

in_cells!(clients, ends, graces, homes, refused, reports, search, terminals, trees);

/// The minimal image has no Hermes, no hooks and no shims, and its home is elsewhere.
mod in_a_cell_of_the_minimal_image {
    use super::{Layout, attacks, in_cells_of};

    #[test]
    fn clients() {
        in_cells_of(Layout::Minimal, attacks::clients::ALL);
    }

    #[test]
    fn ends() {
        in_cells_of(Layout::Minimal, attacks::ends::ALL);
    }

    #[test]
    fn reports() {
        in_cells_of(Layout::Minimal, attacks::reports::ALL);
    }

    #[test]
    fn trees() {
        in_cells_of(Layout::Minimal, attacks::trees::ALL);
    }
}
