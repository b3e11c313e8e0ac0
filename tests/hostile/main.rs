//! What an agent may try that attacks its supervisor: attacks by an unprivileged user, and what
//! must hold after each.
//!
//! An attack is written once, as a row of a table in `attacks`. It is carried out in every bed:
//! against a supervisor that is root, one that is another ordinary user, and PID 1 of a real
//! container. After each attack, `check.py` checks whether anything broke. docs/design/attacks.md
//! lists the attacks by their names.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a panic in a test says what is wrong")]

#[path = "../support/mod.rs"]
mod support;

#[path = "../container/engine.rs"]
#[expect(dead_code, reason = "the container tests use the rest")]
mod engine;

mod attack;
mod attacks;
mod bed;
mod cell;
mod genuine_s6;
mod layout;
mod listed;
mod protections;
mod restart;
mod sandwich;
mod two_containers;

/// Makes a test of each group of attacks in each bed.
macro_rules! groups {
    ($($group:ident),* $(,)?) => {
        mod against_root {
            $(#[test] fn $group() { super::bed::local_root().suffers(super::attacks::$group::ALL); })*
        }
        mod against_another_user {
            $(#[test] fn $group() { super::bed::local_user().suffers(super::attacks::$group::ALL); })*
        }
        mod against_pid_1_in_a_container {
            $(#[test] fn $group() {
                if !super::engine::skipped() {
                    super::bed::container("").suffers(super::attacks::$group::ALL);
                }
            })*
        }
        /// All groups, for the comparison with the document.
        pub const GROUPS: &[&[attack::Attack]] = &[
            $(attacks::$group::ALL,)*
            attacks::homes::ALL,
            attacks::clients::ALL,
            attacks::ends::ALL,
            attacks::graces::ALL,
            attacks::refused::ALL,
            attacks::reports::ALL,
            attacks::terminals::ALL,
            attacks::quantity::ALL,
            attacks::renamer::ALL,
            attacks::scarcity::ALL,
            attacks::search::ALL,
            attacks::trees::ALL,
            restart::ALL,
        ];
    };
}

groups!(control, events, logs, names, places, processes, races, run_file, small_files, supervise, verbs);

/// One user runs `gatevisor up`, another user has the home, and root runs the commands.
#[test]
fn against_root_beside_another_user_verbs() {
    bed::local_user().operated_by_root().suffers(attacks::verbs::ALL);
}

#[test]
fn against_root_quantity() {
    bed::local_root().suffers(attacks::quantity::ALL);
}

#[test]
fn against_root_renamer() {
    bed::local_root().suffers(attacks::renamer::ALL);
}

#[test]
fn against_pid_1_in_a_container_scarcity() {
    if !engine::skipped() {
        bed::container("--pids-limit 400 --tmpfs /run:exec,mode=1777,size=8m")
            .suffers(attacks::scarcity::ALL);
    }
}
