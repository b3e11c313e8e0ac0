//! A full disk: nothing is acknowledged that is not on it, and nothing on it is torn.

use std::fs;

use insta::assert_snapshot;

use crate::disk::Disk;
use crate::home::Home;

#[test]
fn a_wish_that_does_not_fit_on_the_disk_is_not_acknowledged_and_the_old_one_stays() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    let disk = Disk::mounted(&home, "1m");
    home.move_to(disk.view().join("home"));
    home.profile("coder");
    home.profile("writer");
    home.wish("coder");
    home.up();
    let pid = home.pid("coder");
    let wish = fs::read(home.state_file("coder")).unwrap();
    disk.fill();
    let before = home.listing();

    let lines = [
        "gateway stop coder",
        "gateway restart coder",
        "gateway start writer",
        "profile create third --start",
        "profile create third",
    ];
    let said = lines.map(|line| format!("{line}: {}", home.redact(&home.says(line).refused(111))));
    assert_snapshot!(said.join("\n"), @"
    gateway stop coder: gatevisor: error: cannot stop the gateway of `coder`: its wish is not recorded, so nothing was done: cannot record the wish in `HOME/profiles/coder/gateway_state.json`; it is as it was: No space left on device (os error 28)
    gateway restart coder: gatevisor: error: cannot restart the gateway of `coder`: its wish is not recorded, so nothing was done: cannot record the wish in `HOME/profiles/coder/gateway_state.json`; it is as it was: No space left on device (os error 28)
    gateway start writer: gatevisor: error: cannot start the gateway of `writer`: its wish is not recorded, so nothing was done: cannot record the wish in `HOME/profiles/writer/gateway_state.json`; it is as it was: No space left on device (os error 28)
    profile create third --start: gatevisor: error: cannot make profile `third` in `HOME/profiles`; nothing of it remains: No space left on device (os error 28)
    profile create third: gatevisor: error: cannot make profile `third` in `HOME/profiles`; nothing of it remains: No space left on device (os error 28)
    ");

    assert_eq!(home.listing(), before, "something was left behind");
    assert_eq!(fs::read(home.state_file("coder")).unwrap(), wish, "the old wish is torn");
    assert!(!home.state_file("writer").exists());
    assert_eq!(home.pid("coder"), pid, "what was not acknowledged was done");
    assert_eq!(home.report("writer")["state"], "down");

    disk.relieve();
    home.says("gateway stop coder").ok();
    assert_eq!(home.state("coder")["desired_state"], "stopped");
    home.says("gateway start writer").ok();
    home.down();
}

#[test]
fn a_supervisor_on_a_full_disk_restarts_its_gateways_and_stops_in_order() {
    let mut home = Home::with_script("echo \"begins\"\nexec sleep 1000", &[]);
    let disk = Disk::mounted(&home, "1m");
    home.move_to(disk.view().join("home"));
    home.profile("coder");
    home.wish("coder");
    home.up();
    let pid = home.pid("coder");
    // The log has a block on the disk that the next line fits in: that line is not held back.
    home.until_logged("coder", "begins");
    disk.fill();
    crate::support::processes::signal(pid, rustix::process::Signal::KILL);
    let forwarded = home.running().until_out("a second start", |out| {
        (out.matches("coder | begins\n").count() == 2).then(|| out.to_owned())
    });
    assert!(!forwarded.contains("panicked"), "{forwarded}");
    assert_eq!(home.down().code, Some(0));
    disk.relieve();
    home.up();
    assert_eq!(home.report("coder")["state"], "up", "the wish survived");
}
