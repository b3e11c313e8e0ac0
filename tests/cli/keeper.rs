//! Who watches the watchers: what happens when one of them is killed or stopped, or when the
//! supervisor is, and who says so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use gatevisor_client::ServiceDir;
use rustix::process::Signal;
use serde_json::Value;

use crate::home::Home;
use crate::support::{processes, set_wait_limit, waiting};

/// Returns a home with a gateway that is followed.
fn followed() -> Home {
    let live =
        "[gateway.live]\ninterval-ms = 300\ncommand = { argv = [\"true\"] }\n\n[gateway.exit-meanings]";
    set_wait_limit(Duration::from_mins(1));
    let home = Home::with_script("exec sleep 1000", &[("[gateway.exit-meanings]", live)]);
    home.profile("coder");
    home.want_running("coder");
    home
}

fn until_live(home: &Home) {
    waiting::polled("a gateway that is known to work", || {
        home.report("coder").pointer("/live/state").is_some_and(|state| state == "live").then_some(())
    });
}

/// Stops the supervisor by a signal, and returns its process when that has happened.
fn stopped_supervisor(home: &Home) -> i32 {
    let supervisor = home.running().pid();
    home.running().signal(Signal::STOP);
    waiting::polled("that it is stopped", || {
        processes::stat(supervisor).is_some_and(|stat| stat.state == 'T').then_some(())
    });
    supervisor
}

/// Returns the process of the watcher of gateways.
fn watcher(home: &Home) -> Option<i32> {
    let line = fs::read_to_string(home.scandir().join(".live/.watcher")).ok()?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn what_keeps_the_watchers_is_replaced_when_it_is_killed_and_when_a_signal_has_stopped_it() {
    let mut home = followed();
    home.up_quietly();
    until_live(&home);
    for signal in [Signal::KILL, Signal::STOP, Signal::TERM] {
        let (keeper, watcher_before) = (home.keeper().unwrap(), watcher(&home).unwrap());
        processes::signal(keeper, signal);
        waiting::polled("another watcher", || watcher(&home).filter(|pid| *pid != watcher_before));
        let next = waiting::polled("another keeper", || home.keeper().filter(|pid| *pid != keeper));
        until_live(&home);
        assert_eq!(home.keeper(), Some(next), "there is one");
    }
    home.down();
}

#[test]
fn what_keeps_the_watchers_and_ends_again_and_again_is_reported_once_and_still_tried() {
    let mut home = followed();
    home.up_quietly();
    let mut before = None;
    for _ in 0..8 {
        let keeper = waiting::polled("a keeper", || home.keeper().filter(|pid| Some(*pid) != before));
        processes::signal(keeper, Signal::KILL);
        before = Some(keeper);
    }
    waiting::polled("one more keeper", || home.keeper().filter(|pid| Some(*pid) != before));
    let said = home.running().err();
    let count = |words: &str| said.lines().filter(|line| line.ends_with(words)).count();
    let (again, at_last) =
        ("; starting it again", "; it cannot work, and is tried again every 10 s at the latest");
    assert_eq!((count(again), count(at_last)), (3, 1), "{said}");
    home.down();
}

#[test]
fn a_watcher_that_a_signal_has_stopped_is_replaced_while_its_keeper_stays() {
    let mut home = followed();
    home.up_quietly();
    until_live(&home);
    let (keeper, first) = (home.keeper().unwrap(), watcher(&home).unwrap());
    for child in processes::children(keeper) {
        processes::signal_if_there(child, Signal::STOP);
    }
    waiting::polled("another watcher", || watcher(&home).filter(|pid| *pid != first));
    until_live(&home);
    waiting::polled("another watcher of profiles", || {
        let states = processes::children(keeper).into_iter().filter_map(processes::stat);
        (states.filter(|stat| stat.state != 'T').count() == 2).then_some(())
    });
    assert_eq!(home.keeper(), Some(keeper));
    home.plant("writer");
    home.until_supervised("writer");
}

#[test]
fn the_service_that_watches_the_profiles_of_a_container_is_replaced_when_a_signal_has_stopped_it() {
    set_wait_limit(Duration::from_mins(1));
    let mut home = Home::with_script("exec sleep 1000", &[]);
    let (service, agents) = (home.scandir().join("profile-watcher"), home.beside("agents"));
    fs::create_dir(&agents).unwrap();
    fs::create_dir_all(&service).unwrap();
    let run = format!(
        "#!/bin/sh\nHERMES_HOME='{}' S6_PROFILE_GATEWAY_SCANDIR='{}' exec '{}' profile-watcher\n",
        agents.display(),
        home.scandir().display(),
        env!("CARGO_BIN_EXE_gatevisor")
    );
    fs::write(service.join("run"), run).unwrap();
    fs::set_permissions(service.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    home.up_alone();
    let process = || ServiceDir::new(service.clone()).status().ok()?.pid.map(gatevisor_wire::Pid::get);
    let before = waiting::polled("the watchers", || Some((watcher(&home)?, process()?)));
    processes::signal(before.1, Signal::STOP);
    waiting::polled("another service with other watchers", || {
        let now = (watcher(&home)?, process()?);
        (now.0 != before.0 && now.1 != before.1).then_some(())
    });
    let said = home.running().err();
    assert!(said.contains("watches the profiles was stopped by a signal, and is replaced"), "{said}");
}

#[test]
fn a_second_keeper_that_somebody_starts_by_hand_does_nothing() {
    let mut home = followed();
    home.up_quietly();
    until_live(&home);
    let first = watcher(&home);
    let supervisor = home.running().pid().to_string();
    let (path, scandir) = (home.path().display().to_string(), home.scandir().display().to_string());
    let mut second = std::process::Command::new(env!("CARGO_BIN_EXE_gatevisor"));
    second.args(["beside", &supervisor, &path, &scandir]).arg(home.agent().unwrap());
    second.stdin(std::process::Stdio::null());
    let ran = home.spawn(second).ended(crate::support::WAIT_LIMIT);
    assert_eq!(ran.code, Some(111), "{ran:?}");
    assert!(ran.err.contains("the supervisor of this home has not started this process"), "{ran:?}");
    assert_eq!(watcher(&home), first);
}

#[test]
fn where_nobody_watches_the_gateways_that_is_said_wherever_somebody_asks_whether_all_is_well() {
    let mut home = followed();
    home.up_alone();
    let report = waiting::polled("that nothing is known", || {
        Some(home.report("coder")).filter(|report| report["live"]["state"] == "unknown")
    });
    assert_eq!(report["live"]["reason"], "no watcher of gateways runs", "{report}");
    crate::explain::assert_first(&home, "not-watched", "no watcher of gateways runs");
    let found = crate::doctor::finding(&home, "supervisor", None);
    assert_eq!(found["what"], "nobody watches whether the gateways work", "{found}");
    assert_eq!(home.says("health coder").code, Some(1));
    fs::create_dir(home.scandir().join(".live")).unwrap();
    let health = home.says("health --supervisor").ok();
    assert!(health.contains("nobody watches whether the gateways work: no watcher"), "{health}");
    let health: Value = serde_json::from_str(&home.says("health --supervisor --json").ok()).unwrap();
    assert_eq!(health["unwatched"], "no watcher of gateways runs", "{health}");
}

#[test]
fn that_a_signal_has_stopped_the_supervisor_is_said_at_once_by_those_who_are_asked_whether_all_is_well() {
    let mut home = followed();
    home.up_quietly();
    until_live(&home);
    let supervisor = stopped_supervisor(&home);
    let health = home.says("health --supervisor");
    assert_eq!((health.code, health.out.trim()), (Some(1), "the supervisor is stopped by a signal"));
    let found = crate::doctor::finding(&home, "supervisor", None);
    let what = format!("the supervisor (process {supervisor}) is stopped by a signal");
    assert_eq!(found["what"].as_str(), Some(&*what), "{found}");
    crate::doctor::fix(&home, &found);
    home.says("health --supervisor").ok();
}

#[test]
fn commands_say_at_once_that_a_signal_has_stopped_the_supervisor_and_how_it_goes_on() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.profile("coder");
    home.plant("writer");
    home.up_quietly();
    home.says("gateway start coder").ok();
    let supervisor = stopped_supervisor(&home);
    let what = format!("a signal has stopped the supervisor (process {supervisor})");
    let next = format!("`kill -CONT {supervisor}` continues it");
    // No limit: a command that waits for it would not end.
    for line in ["gateway stop coder --timeout 6000", "gateway start writer --timeout 6000", "down"] {
        let ran = home.says(line);
        assert!(
            ran.code == Some(99) && ran.err.contains(&what) && ran.err.contains(&next),
            "{line}: {ran:?}"
        );
    }
    let ran = home.says("up");
    assert!(ran.code == Some(103) && ran.err.contains(&next) && !ran.err.contains("ends it"), "{ran:?}");
    home.running().signal(Signal::CONT);
    assert_eq!(home.ended().code, Some(0));
}

#[test]
fn commands_that_do_not_wait_for_a_stopped_supervisor_name_it_and_no_slot_comes_or_goes_without_it() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.profile("coder");
    home.up_quietly();
    home.says("gateway start coder").ok();
    let supervisor = stopped_supervisor(&home);
    let what = format!("a signal has stopped the supervisor (process {supervisor})");
    let next = format!("`kill -CONT {supervisor}` continues it");
    let lines = [
        ("gateway start coder", 0),
        ("gateway start coder --no-wait", 0),
        ("gateway stop coder --no-wait", 0),
        ("profile create writer", 99),
        ("gateway unregister coder", 99),
    ];
    for (line, code) in lines {
        let ran = home.says(line);
        let names_it = ran.err.contains(&what) && ran.err.contains(&next);
        assert!(ran.code == Some(code) && names_it, "{line}: {ran:?}");
    }
    home.running().signal(Signal::CONT);
    let report = home.until_report("coder", "what was asked for", |report| report["state"] == "down");
    assert_eq!(report["desired_state"], "stopped", "{report}");
}

#[test]
fn a_gateway_that_has_ended_under_a_stopped_supervisor_is_not_said_to_be_starting() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up();
    let pid = home.pid("coder");
    let supervisor = stopped_supervisor(&home);
    processes::signal(pid, Signal::KILL);
    waiting::polled("that it has ended", || {
        processes::stat(pid).is_some_and(|stat| stat.state == 'Z').then_some(())
    });
    let kill = format!("kill -CONT {supervisor}");
    let report = home.report("coder");
    assert_eq!(report["state"], "unresponsive", "{report}");
    let reason = report["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("its process has ended") && reason.ends_with(&format!("`{kill}` continues it")),
        "{reason}"
    );
    assert_eq!(home.says("health coder").code, Some(1));
    crate::explain::assert_first(&home, "supervisor-stopped", "is stopped by a signal");
    assert_eq!(crate::explain::explained(&home)["commands"][0], *kill);
    home.running().signal(Signal::CONT);
    home.until_report("coder", "another process", |report| report["pid"] != pid && report["up"] == true);
}
