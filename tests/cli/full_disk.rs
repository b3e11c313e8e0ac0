//! A full disk: nothing is acknowledged that is not on the disk, and no file is half written.

use std::fs;
use std::time::Duration;

use insta::assert_snapshot;
use rustix::process::Signal;

use crate::disk::{Disk, was_run_in_own_mounts};
use crate::home::Home;
use crate::support::processes::{Held, signal};
use crate::support::{set_wait_limit, waiting};

#[test]
fn a_desired_state_that_does_not_fit_on_the_disk_is_not_acknowledged_and_the_old_one_stays() {
    if was_run_in_own_mounts() {
        return;
    }
    let mut home = Home::with_script("exec sleep 1000", &[]);
    let disk = Disk::mounted(&home, "1m");
    home.move_to(disk.path().join("home"));
    home.profile("coder");
    home.profile("writer");
    home.want_running("coder");
    // Without watchers, whose subscriptions come and go.
    home.up_alone();
    // Its interpreter has left its files once it has become the command.
    home.until_state("coder", "up");
    let pid = home.pid("coder");
    let desired_state = fs::read(home.state_file("coder")).unwrap();
    disk.fill();
    let mut before = home.listing();
    // Each writer of a desired state locks this empty file, and leaves it there.
    before.insert(home.profile_dir("writer").join(".gateway_state.json.lock"));

    let lines = [
        "gateway restart coder",
        "gateway start writer",
        "profile create third --start",
        "profile create third",
    ];
    let said = lines.map(|line| format!("{line}: {}", home.redact(&home.says(line).refused(111))));
    assert_snapshot!(said.join("\n"), @"
    gateway restart coder: gatevisor: error: cannot restart the gateway of `coder`: its desired state is not recorded, so nothing was done: cannot record the desired state in `HOME/profiles/coder/gateway_state.json`; it is as it was: No space left on device
    gateway start writer: gatevisor: error: cannot start the gateway of `writer`: its desired state is not recorded, so nothing was done: cannot record the desired state in `HOME/profiles/writer/gateway_state.json`; it is as it was: No space left on device
    profile create third --start: gatevisor: error: cannot make profile `third` in `HOME/profiles`; nothing of it remains: No space left on device
    profile create third: gatevisor: error: cannot make profile `third` in `HOME/profiles`; nothing of it remains: No space left on device
    ");

    assert_eq!(home.listing(), before, "something was left behind");
    assert_eq!(fs::read(home.state_file("coder")).unwrap(), desired_state, "the old desired state is torn");
    assert!(!home.state_file("writer").exists());
    assert_eq!(home.pid("coder"), pid, "what was not acknowledged was done");
    assert_eq!(home.report("writer")["state"], "down");

    // The stop happens, and a message says that it is not recorded.
    let said = home.redact(&home.says("gateway stop coder").refused(111));
    assert_snapshot!(said, @"gatevisor: error: the gateway of `coder` is stopped, but its desired state cannot be kept, so it comes back with the next start of its supervisor; fix what follows and stop it again: cannot record the desired state in `HOME/profiles/coder/gateway_state.json`; it is as it was: No space left on device");
    assert_eq!(home.report("coder")["state"], "down");
    assert_eq!(fs::read(home.state_file("coder")).unwrap(), desired_state, "the old desired state is torn");

    disk.relieve();
    home.says("gateway stop coder").ok();
    assert_eq!(home.state("coder")["desired_state"], "stopped");
    home.says("gateway start writer").ok();
    home.down();
}

#[test]
fn a_supervisor_on_a_full_disk_restarts_its_gateways_and_stops_in_order() {
    if was_run_in_own_mounts() {
        return;
    }
    let mut home = Home::with_script("echo \"begins\"\nexec sleep 1000", &[]);
    let disk = Disk::mounted(&home, "1m");
    home.move_to(disk.path().join("home"));
    home.profile("coder");
    home.want_running("coder");
    home.up();
    let pid = home.pid("coder");
    // The next line fits into a block that the log already has, so that line is not held back.
    home.until_logged("coder", "begins");
    disk.fill();
    signal(pid, Signal::KILL);
    let forwarded = home.running().until_out("a second start", |out| {
        (out.matches("coder | begins\n").count() == 2).then(|| out.to_owned())
    });
    assert!(!forwarded.contains("panicked"), "{forwarded}");
    assert_eq!(home.down().code, Some(0));
    disk.relieve();
    home.up();
    assert_eq!(home.report("coder")["state"], "up", "the desired state survived");
}

#[test]
fn on_a_full_disk_a_frozen_gateway_is_found_and_ended_by_the_same_watcher_and_is_followed_again_afterwards() {
    if was_run_in_own_mounts() {
        return;
    }
    // Evidence is collected first, which takes a while on a busy machine.
    set_wait_limit(Duration::from_mins(1));
    let live = "[gateway.live]\npolicy = \"restart\"\ninterval-ms = 300\nmisses = 3\ngrace-ms = 500\n\
                command = { argv = [\"true\"] }\n\n[gateway.exit-meanings]";
    let mut home = Home::with_script("exec sleep 1000", &[("[gateway.exit-meanings]", live)]);
    let disk = Disk::mounted(&home, "1m");
    home.move_to(disk.path().join("home"));
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_supervised("coder");
    home.says("wait coder --live --timeout 60").ok();
    let pulse = home.scandir().join(".live/.watcher");
    let watcher = || fs::read_to_string(&pulse).unwrap().split(' ').nth(1).unwrap().to_owned();
    let first = watcher();
    let pid = home.pid("coder");
    let held = Held::of(pid).unwrap();
    disk.fill();
    signal(pid, Signal::STOP);
    waiting::polled("the end of the frozen gateway", || held.is_gone().then_some(()));
    home.until_state("coder", "up");
    disk.relieve();
    // How the process that was started on the full disk is followed may not have been written down.
    home.says("gateway restart coder").ok();
    home.says("wait coder --live --timeout 60").ok();
    assert_eq!(watcher(), first, "the watcher has ended");
    assert_eq!(home.down().code, Some(0));
}

#[test]
fn who_holds_the_lock_of_the_state_file_or_makes_the_profile_read_only_keeps_nobody_from_stopping_a_gateway()
{
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.profile("coder");
    home.profile("writer");
    home.want_running("coder");
    home.want_running("writer");
    home.up();
    let lock = fs::File::options()
        .read(true)
        .open(home.profile_dir("coder").join(".gateway_state.json.lock"))
        .unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let stop = home.start(["gateway", "stop", "coder"]);
    // The gateway is down although the lock is held. The command still waits for the lock.
    home.until_state("coder", "down");
    let said = home.redact(&stop.ended(crate::support::WAIT_LIMIT).refused(99));
    assert_snapshot!(said, @"gatevisor: error: the gateway of `coder` is stopped, but its desired state cannot be kept, so it comes back with the next start of its supervisor; fix what follows and stop it again: another command has been writing `HOME/profiles/coder/gateway_state.json` for 5 s; try again");
    assert_eq!(home.state("coder")["desired_state"], "running");
    drop(lock);
    home.says("gateway stop coder").ok();
    assert_eq!(home.state("coder")["desired_state"], "stopped");

    // A directory in the place of the lock has the effect of a read-only file system, for root too.
    let lock = home.profile_dir("writer").join(".gateway_state.json.lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    let said = home.redact(&home.says("gateway stop writer").refused(111));
    assert_snapshot!(said, @"gatevisor: error: the gateway of `writer` is stopped, but its desired state cannot be kept, so it comes back with the next start of its supervisor; fix what follows and stop it again: cannot record the desired state in `HOME/profiles/writer/gateway_state.json`; it is as it was: Is a directory");
    assert_eq!(home.report("writer")["state"], "down");
    home.down();
}
