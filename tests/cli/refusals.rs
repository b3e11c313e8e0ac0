//! Requests that cannot be fulfilled: one line says what, why and what to do, and nothing is left
//! behind.

use std::fs;

use insta::assert_snapshot;

use crate::disk::{Disk, was_run_in_own_mounts};
use crate::home::{Home, Ran};
use crate::support::WAIT_LIMIT;

/// Runs the lines. Each must be refused with this code and leave nothing. Returns their messages.
#[track_caller]
fn refused(home: &Home, code: i32, lines: &[&str]) -> String {
    let before = home.listing();
    let said = |line: &&str| format!("{line}: {}", home.redact(&home.says(line).refused(code)));
    let said: Vec<String> = lines.iter().map(said).collect();
    assert_eq!(home.listing(), before, "something was left behind");
    said.join("\n")
}

#[test]
fn a_profile_that_exists_is_not_made_again() {
    let mut home = Home::new();
    home.profile("coder");
    fs::create_dir(home.profile_dir("writer")).unwrap();
    let lines = ["profile create coder", "profile create coder --start", "profile create writer"];
    let said = refused(&home, 1, &lines);
    assert_snapshot!(said, @"
    profile create coder: gatevisor: error: profile `coder` already exists in `HOME/profiles`
    profile create coder --start: gatevisor: error: profile `coder` already exists in `HOME/profiles`
    profile create writer: gatevisor: error: profile `writer` already exists in `HOME/profiles`
    ");
    // Without watchers, nobody else has files in the slots for a moment.
    home.up_alone();
    assert_eq!(refused(&home, 1, &lines), said);
    assert_snapshot!(refused(&home, 100, &["profile create default", "profile delete --yes default"]), @"
    profile create default: gatevisor: error: profile `default` is the home itself and always exists; choose another name
    profile delete --yes default: gatevisor: error: profile `default` is the home itself and cannot be deleted
    ");
}

#[test]
fn a_profile_that_does_not_exist_is_refused_by_every_command() {
    let mut home = Home::new();
    let lines = [
        "profile delete --yes ghost",
        "profile show ghost",
        "gateway start ghost",
        "gateway stop ghost",
        "gateway restart ghost",
        "gateway register ghost",
        "gateway status ghost",
        "status ghost",
        "logs ghost",
        "logs -f ghost",
        "logs -f coder ghost",
    ];
    home.profile("coder");
    let said = refused(&home, 1, &lines);
    assert_snapshot!(said, @"
    profile delete --yes ghost: gatevisor: error: there is no profile `ghost` in `HOME/profiles`; `gatevisor profile list` shows those that exist
    profile show ghost: gatevisor: error: there is no profile `ghost` in `HOME/profiles`; `gatevisor profile list` shows those that exist
    gateway start ghost: gatevisor: error: there is no profile `ghost` in `HOME/profiles`; `gatevisor profile create ghost` makes one
    gateway stop ghost: gatevisor: error: there is no profile `ghost` in `HOME/profiles`; `gatevisor profile create ghost` makes one
    gateway restart ghost: gatevisor: error: there is no profile `ghost` in `HOME/profiles`; `gatevisor profile create ghost` makes one
    gateway register ghost: gatevisor: error: there is no profile `ghost` in `HOME/profiles`; `gatevisor profile create ghost` makes one
    gateway status ghost: gatevisor: error: there is no profile `ghost` in `HOME/profiles`; `gatevisor profile list` shows those that exist
    status ghost: gatevisor: error: there is no profile `ghost` in `HOME/profiles`; `gatevisor profile list` shows those that exist
    logs ghost: gatevisor: error: there is no profile `ghost` in `HOME/profiles`; `gatevisor profile list` shows those that exist
    logs -f ghost: gatevisor: error: there is no profile `ghost` in `HOME/profiles`; `gatevisor profile list` shows those that exist
    logs -f coder ghost: gatevisor: error: there is no profile `ghost` in `HOME/profiles`; `gatevisor profile list` shows those that exist
    ");
    // Without watchers, nobody else has files in the slots for a moment.
    home.up_alone();
    assert_eq!(refused(&home, 1, &lines), said);
    assert_snapshot!(refused(&home, 1, &["wait --up ghost"]), @"wait --up ghost: gatevisor: error: there is no profile `ghost` in `HOME/profiles`; `gatevisor profile list` shows those that exist");
}

#[test]
fn without_a_supervisor_every_command_that_needs_one_exits_102() {
    let home = Home::new();
    home.profile("coder");
    let lines = ["gateway register coder", "gateway register coder --start", "wait --up coder", "events"];
    let said = refused(&home, 102, &lines);
    assert_snapshot!(said, @"
    gateway register coder: gatevisor: error: no supervisor is running on `HOME/run/service`, so `coder` is not registered; `gatevisor up` starts one and registers every profile
    gateway register coder --start: gatevisor: error: no supervisor is running on `HOME/run/service`, so `coder` is not registered; `gatevisor up` starts one and registers every profile
    wait --up coder: gatevisor: error: no supervisor is running on `HOME/run/service`; `gatevisor up` starts one
    events: gatevisor: error: no supervisor is running on `HOME/run/service`; `gatevisor up` starts one
    ");
    // These commands record the desired state all the same, as they should.
    let desired_states = ["gateway start coder", "gateway restart coder", "gateway stop coder"];
    let said = desired_states.map(|line| format!("{line}: {}", home.redact(&home.says(line).refused(102))));
    assert_snapshot!(said.join("\n"), @"
    gateway start coder: gatevisor: error: no supervisor is running for `coder` (`HOME/run/service`); the desired state, running, is recorded and takes effect at the next `gatevisor up`
    gateway restart coder: gatevisor: error: no supervisor is running for `coder` (`HOME/run/service`); the desired state, running, is recorded and takes effect at the next `gatevisor up`
    gateway stop coder: gatevisor: error: no supervisor is running for `coder` (`HOME/run/service`); the desired state, stopped, is recorded and takes effect at the next `gatevisor up`
    ");
    assert_eq!(home.state("coder")["desired_state"], "stopped");
}

#[test]
fn a_table_without_a_supervisor_says_so_and_is_no_failure() {
    let home = Home::new();
    home.profile("coder");
    let Ran { code, out, err } = home.says("status");
    assert_eq!(code, Some(0));
    assert_snapshot!(home.redact(&format!("{out}{err}")), @"
    PROFILE  STATE           PID  UPTIME  RESTARTS  CPU  MEMORY  LAST EXIT  DESIRED
    default  not supervised  -    -       -         -    -       -          -
    coder    not supervised  -    -       -         -    -       -          -
    2 gateways: 2 not supervised
    gatevisor: no supervisor is running on `HOME/run/service`; `gatevisor up` starts one
    ");
    home.says("gateway unregister coder").ok();
}

#[test]
fn of_twenty_processes_that_register_one_slot_at_once_one_wins_and_nineteen_say_so() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.up_alone();
    for round in 0..5 {
        let name = format!("round{round}");
        home.plant(&name);
        let start = if round % 2 == 0 { "--start" } else { "--json" };
        let all: Vec<_> = (0..20).map(|_| home.start(["gateway", "register", start, &name])).collect();
        let all: Vec<Ran> = all.into_iter().map(|one| one.ended(WAIT_LIMIT)).collect();
        let (won, lost): (Vec<&Ran>, Vec<&Ran>) = all.iter().partition(|ran| ran.code == Some(0));
        assert_eq!(won.len(), 1, "{all:#?}");
        assert!(won[0].out.contains("registered"), "{won:?}");
        for ran in lost {
            assert_eq!(ran.code, Some(1), "{ran:?}");
            let line = ran.err.trim_end();
            assert!(line.contains("already registered") && !line.contains('\n'), "{ran:?}");
        }
        let pid = home.report(&name)["pid"].as_i64();
        assert_eq!(pid.is_some(), round % 2 == 0, "the winner's gateway is as it asked");
    }
    // The watcher of gateways may have made its directory before its end.
    let left: Vec<_> = dotted(&home).into_iter().filter(|name| name != ".live").collect();
    assert_eq!(left, [".s6-svscan"], "a loser left its slot behind");
}

#[test]
fn of_twenty_processes_that_make_one_profile_at_once_one_wins_and_nineteen_say_so() {
    let home = Home::new();
    let all: Vec<_> = (0..20).map(|_| home.start(["profile", "create", "coder"])).collect();
    let all: Vec<Ran> = all.into_iter().map(|one| one.ended(WAIT_LIMIT)).collect();
    assert_eq!(all.iter().filter(|ran| ran.code == Some(0)).count(), 1, "{all:#?}");
    for ran in all.iter().filter(|ran| ran.code != Some(0)) {
        assert!(ran.code == Some(1) && ran.err.contains("already exists"), "{ran:?}");
    }
    let profiles: Vec<_> = fs::read_dir(home.path().join("profiles")).unwrap().flatten().collect();
    assert_eq!(profiles.len(), 1, "{profiles:?}");
}

fn dotted(home: &Home) -> Vec<String> {
    let entries = fs::read_dir(home.scandir()).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.')).collect()
}

#[test]
fn a_home_that_is_a_file_is_refused() {
    let home = Home::missing();
    fs::write(home.path(), "").unwrap();
    let lines = ["profile create coder", "up", "reconcile", "profile list", "status"];
    assert_snapshot!(refused(&home, 111, &lines), @"
    profile create coder: gatevisor: error: cannot make profile `coder` in `HOME/profiles`; nothing of it remains: Not a directory
    up: gatevisor: error: cannot make the home `HOME`: File exists; name another with --home
    reconcile: gatevisor: error: cannot prepare the scandir `HOME/run/service`: Not a directory
    profile list: gatevisor: error: cannot read the profiles in `HOME/profiles`: Not a directory
    status: gatevisor: error: cannot read the scandir `HOME/run/service`: Not a directory
    ");
    assert_snapshot!(refused(&home, 1, &["gateway start"]), @"gateway start: gatevisor: error: cannot start the gateway of `default`: its desired state is not recorded, so nothing was done: there is no profile home `HOME` to record the desired state in");
}

#[test]
fn a_home_that_is_named_and_does_not_exist_is_refused_by_every_command_and_not_made() {
    let mut home = Home::missing();
    let lines = [
        "status",
        "up",
        "profile create coder",
        "profile list",
        "gateway start",
        "logs",
        "events",
        "reconcile",
    ];
    let said = refused(&home, 1, &lines);
    for line in said.lines() {
        let why = "gatevisor: error: there is no home `HOME`, which --home names; check the path, or make it with \
             `gatevisor --home HOME up --create`";
        assert!(line.ends_with(why), "{line}");
    }
    // A home that the agent's variable names is refused too.
    home.set("HTTP_AGENT_HOME", home.path().to_owned());
    let agent = home.agent().unwrap().to_owned();
    let by_variable = |line: &str| {
        let command = home.command(line.split(' '));
        let mut without = std::process::Command::new(command.get_program());
        without.env("HTTP_AGENT_HOME", home.path()).arg("--agent").arg(&agent).args(line.split(' '));
        home.spawn(without).ended(WAIT_LIMIT)
    };
    let said = by_variable("status").refused(1);
    assert!(said.contains("which HTTP_AGENT_HOME names"), "{said}");
    assert!(!home.path().exists());
    by_variable("profile create coder --create").ok();
    assert!(home.profile_dir("coder").is_dir());
}

#[test]
fn a_home_that_does_not_exist_is_made_by_up_where_that_is_asked_for() {
    let mut home = Home::missing();
    home.up_with(["up", "--create"]);
    home.until_supervised("default");
    assert!(home.says("status").ok().contains("default"));
}

#[test]
fn a_home_on_a_read_only_disk_is_refused() {
    if was_run_in_own_mounts() {
        return;
    }
    let mut home = Home::new();
    let disk = Disk::mounted(&home, "4m");
    home.move_to(disk.path().join("home"));
    fs::remove_dir(home.path()).unwrap();
    disk.read_only();
    let lines = ["profile create coder --create", "up --create"];
    assert_snapshot!(refused(&home, 111, &lines), @"
    profile create coder --create: gatevisor: error: cannot make profile `coder` in `HOME/profiles`; nothing of it remains: Read-only file system
    up --create: gatevisor: error: cannot make the home `HOME`: Read-only file system; name another with --home
    ");
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
}

#[test]
fn a_home_that_became_read_only_keeps_what_it_has() {
    if was_run_in_own_mounts() {
        return;
    }
    let mut home = Home::new();
    let disk = Disk::mounted(&home, "4m");
    home.move_to(disk.path().join("home"));
    home.profile("coder");
    home.want_running("coder");
    let state = fs::read(home.state_file("coder")).unwrap();
    disk.read_only();
    let lines = ["profile create writer", "gateway stop coder", "profile delete --yes coder", "up"];
    assert_snapshot!(refused(&home, 111, &lines), @"
    profile create writer: gatevisor: error: cannot make profile `writer` in `HOME/profiles`; nothing of it remains: Read-only file system
    gateway stop coder: gatevisor: error: cannot stop the gateway of `coder`: its desired state is not recorded, so nothing was done: cannot record the desired state in `HOME/profiles/coder/gateway_state.json`; it is as it was: Read-only file system
    profile delete --yes coder: gatevisor: error: cannot delete profile `coder` in `HOME/profiles`; it is as it was: Read-only file system
    up: gatevisor: error: cannot prepare the scandir `HOME/run/service`: Read-only file system
    ");
    assert_eq!(fs::read(home.state_file("coder")).unwrap(), state);
    let row = home.report("coder");
    assert_eq!(row["desired_state"], "running", "what is there can still be read: {row}");
}
