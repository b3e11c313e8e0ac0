//! Every fuzzing target on its seeds, and on copies of them that are cut, doubled and changed a
//! little.
//!
//! This runs with the ordinary tests, without a fuzzer. A finding of a fuzzer becomes a seed that
//! is named after what it shows.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a panic in a test says what is wrong, and a line what it cannot show"
)]

#[path = "src/targets/mod.rs"]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;

use targets::{TARGETS, Target, named};

/// The number of changed copies of each seed.
const COPIES: usize = 300;
/// The same for the target that makes a tree of each.
const COPIES_OF_TREES: usize = 30;
/// Tells a target, and the second run of a test, that this process has a mount name space of its
/// own.
const MAY_MOUNT: &str = "GATEVISOR_FUZZ_MAY_MOUNT";

fn seeds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds")
}

fn seeds_of(target: Target) -> Vec<Vec<u8>> {
    let directory = seeds().join(target.name);
    let files = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}

fn check(target: Target, bytes: &[u8]) {
    let holds = catch_unwind(|| (target.check)(bytes)).is_ok();
    assert!(holds, "{} does not hold for {:?}", target.name, String::from_utf8_lossy(bytes));
}

#[test]
fn every_target_has_seeds_and_every_seed_a_target() {
    let there: BTreeSet<String> = fs::read_dir(seeds())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let wanted: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(there, wanted);
    assert!(TARGETS.iter().all(|target| !seeds_of(*target).is_empty()));
    assert!(wanted.iter().all(|name| named(name).is_some()));
}

#[test]
fn every_target_holds_for_its_seeds_cut_anywhere() {
    for &target in TARGETS {
        for seed in seeds_of(target) {
            for end in 0..=seed.len().min(2000) {
                check(target, &seed[..end]);
            }
            check(target, &seed);
            check(target, &seed.repeat(3));
        }
    }
}

#[test]
fn every_target_holds_for_its_seeds_bent_at_random() {
    for &target in TARGETS {
        bend(target);
    }
}

#[test]
fn root_is_led_by_no_tree_out_of_it_nor_across_its_mounts() {
    if !may_mount("root_is_led_by_no_tree_out_of_it_nor_across_its_mounts") {
        return;
    }
    let target = named("paths").unwrap();
    for seed in seeds_of(target) {
        check(target, &seed);
    }
    bend(target);
}

/// Runs the calling test a second time in a mount name space of its own, and in a user name space
/// if this is not root. Returns whether this is that second run.
fn may_mount(test: &str) -> bool {
    if std::env::var_os(MAY_MOUNT).is_some() {
        return true;
    }
    let user: &[&str] =
        if rustix::process::geteuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(user).args(["--mount", "--propagation", "private"]);
        command
    };
    if !unshare().arg("true").output().is_ok_and(|ended| ended.status.success()) {
        println!("not shown: no mount name space can be made");
        return false;
    }
    let program = gatevisor_sys::process::own_program().unwrap();
    let ended =
        unshare().arg(program).args(["--exact", test, "--nocapture"]).env(MAY_MOUNT, "1").output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{said}{}", String::from_utf8_lossy(&ended.stderr));
    assert!(said.contains("1 passed"), "there is no test `{test}`: {said}");
    false
}

/// Tries a target on changed copies of its seeds.
fn bend(target: Target) {
    let copies = if target.name == "paths" { COPIES_OF_TREES } else { COPIES };
    let mut state: u64 = 0x5eed;
    let mut dice = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % bound.max(1)
    };
    for mut bytes in seeds_of(target) {
        for _ in 0..copies {
            let at = dice(bytes.len());
            match dice(4) {
                0 => bytes.insert(at, u8::try_from(dice(256)).unwrap()),
                1 if !bytes.is_empty() => drop(bytes.remove(at)),
                2 if !bytes.is_empty() => bytes[at] ^= 1 << dice(8),
                _ if !bytes.is_empty() => {
                    let from = dice(bytes.len());
                    bytes[at] = bytes[from];
                }
                _ => {}
            }
            check(target, &bytes);
        }
    }
}
