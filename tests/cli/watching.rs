//! Profiles that come and go by hand while `gatevisor up` runs.

use std::fs;

use crate::home::Home;
use crate::support::waiting;

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
