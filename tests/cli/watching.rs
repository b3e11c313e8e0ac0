//! Profiles that come and go by hand while `gatevisor up` runs.

use std::fs;

use gatevisor_sys::proc::Process;
use rustix::process::Signal;

use crate::home::Home;
use crate::support::{processes, waiting};

fn until_slot(home: &Home, name: &str, is_there: bool) {
    let slot = home.scandir().join(format!("gateway-{name}"));
    waiting::polled("the slot to come or go", || (slot.exists() == is_there).then_some(()));
}

#[test]
fn a_profile_made_by_hand_gets_a_slot_that_is_down_and_loses_it_with_the_profile() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.up();
    home.plant_state("late", r#"{"desired_state": "running"}"#);
    home.until_state("late", "down");
    home.run(["gateway", "start", "late"]).ok();
    let pid = home.pid("late");
    fs::rename(home.profile_dir("late"), home.profile_dir("later")).unwrap();
    until_slot(&home, "late", false);
    home.until_state("later", "down");
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "its process is gone with the slot");
    fs::remove_dir_all(home.profile_dir("later")).unwrap();
    until_slot(&home, "later", false);
}

#[test]
fn nothing_is_kept_of_which_gateway_served_a_profile_that_another_program_removed() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.profile("coder");
    home.up();
    home.until_supervised("coder");
    // The watcher has begun once it has made a slot. What vanished before that it never knew.
    home.plant("late");
    home.until_supervised("late");
    let known = home.path().join(".gatevisor-topology");
    fs::write(&known, r#"{"profiles": {"coder": "server", "writer": "server"}}"#).unwrap();
    fs::remove_dir_all(home.profile_dir("coder")).unwrap();
    waiting::polled("that it is forgotten", || {
        let text = fs::read_to_string(&known).unwrap();
        (!text.contains("coder") && text.contains("writer")).then_some(())
    });
}

/// Returns the process that watches the profiles: it has the same parent as the one that keeps the
/// watcher of gateways.
fn watcher_of_profiles(home: &Home) -> Option<i32> {
    let line = fs::read_to_string(home.scandir().join(".live/.watcher")).ok()?;
    let watcher_of_gateways = line.split_whitespace().nth(1)?.parse().ok()?;
    let guard = Process::of(watcher_of_gateways)?.parent;
    let keeper = Process::of(guard)?.parent;
    processes::children(keeper).into_iter().find(|pid| *pid != guard)
}

#[test]
fn a_watcher_of_profiles_that_is_killed_is_replaced() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.up_quietly();
    let first = waiting::polled("a watcher of profiles", || watcher_of_profiles(&home));
    processes::signal(first, Signal::KILL);
    home.plant("late");
    home.until_supervised("late");
    assert_ne!(waiting::polled("another watcher", || watcher_of_profiles(&home)), first);
}
