//! The client on a genuine s6 tree.
#![expect(clippy::unwrap_used, reason = "a panic in a test says what is wrong")]

mod common;

use common::{Scan, Supervised, end, polled, script, soon, until, until_event};
use gatevisor_client::{
    Condition, ScanDir, SendError, ServiceDir, Subscription, Waited, Waiter, act, act_all,
    status_view::{StateName, observe},
    wait,
};
use gatevisor_wire::{
    control::{Control, ControlSignal},
    event::ServiceEvent,
    files,
    name::ServiceName,
    scan::ScanCommand,
};
use rustix::process::Signal;
use std::{fs, path::Path, time::Instant};

const FOREVER: &str = "exec tail -f /dev/null";
const KILL: Control = Control::Signal(ControlSignal::Kill);

fn nothing(_: &Path) {}

fn down(dir: &Path) {
    fs::write(dir.join(files::DOWN), "").unwrap();
}

fn readiness(dir: &Path) {
    fs::write(dir.join(files::NOTIFICATION_FD), "3\n").unwrap();
}

#[test]
fn a_running_scandir_names_its_supervisor_and_its_services() {
    let s6 = Scan::start();
    let scan = ScanDir::new(s6.dir.path());
    assert!(scan.running().unwrap());
    assert_eq!(scan.program().as_deref(), Some("s6-svscan"));
    assert_eq!(scan.holder().map(|pid| pid.get().cast_unsigned()), Some(s6.pid()));

    s6.add("b", FOREVER, down);
    s6.add("a", FOREVER, down);
    fs::create_dir(s6.dir.path().join(".hidden")).unwrap();
    fs::write(s6.dir.path().join("file"), "").unwrap();
    let names: Vec<String> = scan.services().unwrap().into_iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["a", "b"]);
    let a = scan.service(&ServiceName::new(b"a").unwrap());
    assert!(a.supervised().unwrap());
    assert_eq!(a.normally_up(), Some(false));
}

#[test]
fn a_service_goes_up_and_down_as_told_and_the_answer_comes_after_the_fact() {
    let s6 = Scan::start();
    let dir = s6.add("service", FOREVER, down);
    assert_eq!(observe(&dir).state, StateName::Down);

    assert_eq!(act(&dir, &[Control::Up], Condition::Up, soon()).unwrap(), Waited::Reached);
    let status = dir.status().unwrap();
    assert!(status.is_up() && status.want_up);
    assert_eq!(observe(&dir).state, StateName::Up);
    assert_eq!(wait(&dir, Condition::Up, soon()).unwrap(), Waited::Reached);

    assert_eq!(act(&dir, &[Control::Down], Condition::Finished, soon()).unwrap(), Waited::Reached);
    let status = dir.status().unwrap();
    assert!(status.pid.is_none() && !status.want_up);
    assert_eq!(status.last.signal(), Some(15));
    assert_eq!(observe(&dir).state, StateName::Down);

    // A state that holds already is reached at once.
    assert_eq!(act(&dir, &[Control::Down], Condition::Finished, soon()).unwrap(), Waited::Reached);
    assert_eq!(wait(&dir, Condition::Finished, soon()).unwrap(), Waited::Reached);
}

#[test]
fn every_death_is_in_the_tally() {
    let s6 = Scan::start();
    let dir = s6.add("service", "exit 3", down);
    assert_eq!(dir.deaths(), []);
    for _ in 0..2 {
        let mut subscription = Subscription::subscribe(&dir).unwrap();
        dir.send(&[Control::Once]).unwrap();
        until_event(&mut subscription, ServiceEvent::Finished);
    }
    let deaths = dir.deaths();
    assert_eq!(deaths.len(), 2);
    assert!(deaths.iter().all(|death| (death.exit_code, death.signal) == (3, 0)));
    assert_eq!(dir.policy(), None);
}

#[test]
fn readiness_is_waited_for() {
    let s6 = Scan::start();
    let dir = s6.add("service", "read line <go\necho >&3\nexec tail -f /dev/null 3>&-", |dir| {
        readiness(dir);
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            dir.join("go"),
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        )
        .unwrap();
    });
    assert_eq!(wait(&dir, Condition::Up, soon()).unwrap(), Waited::Reached);
    assert_eq!(observe(&dir).state, StateName::Starting);
    assert!(dir.has_readiness());
    assert_eq!(wait(&dir, Condition::Ready, Some(Instant::now())).unwrap(), Waited::TimedOut);

    let mut waiter = Waiter::subscribe(&dir).unwrap();
    // Opening a FIFO for writing waits for its reader.
    fs::write(dir.path().join("go"), "\n").unwrap();
    assert_eq!(waiter.reach(Condition::Ready, soon()).unwrap(), Waited::Reached);
    assert_eq!(observe(&dir).state, StateName::Ready);
}

#[test]
fn a_permanent_failure_ends_waiting_for_readiness() {
    let s6 = Scan::start();
    let dir = s6.add("service", "exit 1", |dir| {
        down(dir);
        readiness(dir);
        script(&dir.join(files::FINISH), "exit 125");
    });
    assert_eq!(act(&dir, &[Control::Up], Condition::Ready, soon()).unwrap(), Waited::Failed);
    assert_eq!(wait(&dir, Condition::Finished, soon()).unwrap(), Waited::Reached);
}

#[test]
fn a_service_that_dies_again_and_again_is_down_only_once_it_is_wanted_down() {
    let s6 = Scan::start();
    let dir = s6.add("service", "exit 1", nothing);
    let mut subscription = Subscription::subscribe(&dir).unwrap();
    until_event(&mut subscription, ServiceEvent::Finished);
    // Between two deaths s6 waits a second, and no event answers the command.
    assert_eq!(act(&dir, &[Control::Down], Condition::Finished, soon()).unwrap(), Waited::Reached);
    let status = dir.status().unwrap();
    assert!(status.pid.is_none() && !status.want_up);
    assert_eq!(observe(&dir).state, StateName::Down);
}

#[test]
fn what_a_service_is_doing_has_a_name() {
    let s6 = Scan::start();
    let dying = s6.add("dying", "exit 1", nothing);
    until(&dying, |status| status.pid.is_none() && status.want_up);
    // s6 starts it again any moment, so it may be up for an instant.
    let state = observe(&dying).state;
    assert!(
        matches!(state, StateName::BackingOff { until_unix_ms: None } | StateName::Up | StateName::Finishing),
        "{state}"
    );

    let broken =
        s6.add("broken", "echo 'executing: no such file (errno 2)' >data/start-error\nexit 127", |dir| {
            down(dir);
            fs::create_dir(dir.join("data")).unwrap();
        });
    let mut subscription = Subscription::subscribe(&broken).unwrap();
    broken.send(&[Control::Once]).unwrap();
    until_event(&mut subscription, ServiceEvent::Finished);
    let seen = observe(&broken);
    assert_eq!(seen.start_error.as_deref(), Some("executing: no such file (errno 2)"));
    // It is wanted down, so it is not started again.
    assert_eq!(seen.state, StateName::Down);

    let stubborn = s6.add("stubborn", "trap '' TERM\necho >&3\nexec tail -f /dev/null 3>&-", readiness);
    assert_eq!(wait(&stubborn, Condition::Ready, soon()).unwrap(), Waited::Reached);
    stubborn.send(&[Control::Signal(ControlSignal::Stop)]).unwrap();
    until(&stubborn, |status| status.paused);
    // The kernel stops a process when that runs next.
    polled("the stop of the process", || observe(&stubborn).state == StateName::Paused);
    stubborn.send(&[Control::Down]).unwrap();
    until(&stubborn, |status| !status.want_up && !status.paused);
    assert_eq!(observe(&stubborn).state, StateName::Stopping);
    assert_eq!(act(&stubborn, &[KILL], Condition::Finished, soon()).unwrap(), Waited::Reached);

    let finishing = s6.add("finishing", "exit 0", |dir| {
        script(&dir.join(files::FINISH), "exec tail -f /dev/null");
        fs::write(dir.join(files::TIMEOUT_FINISH), "9000\n").unwrap();
        down(dir);
    });
    let mut subscription = Subscription::subscribe(&finishing).unwrap();
    finishing.send(&[Control::Once]).unwrap();
    until_event(&mut subscription, ServiceEvent::Died);
    let seen = observe(&finishing);
    assert_eq!(seen.state, StateName::Finishing);
    let script = seen.status.unwrap().pid.unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(script.get()).unwrap(), Signal::KILL)
        .unwrap();
    until_event(&mut subscription, ServiceEvent::Finished);
}

#[test]
fn a_supervisor_that_was_killed_is_noticed_without_an_event() {
    let mut s6 = Supervised::start(FOREVER, down);
    let mut waiter = Waiter::subscribe(&s6.dir).unwrap();
    end(&mut s6.child, Signal::KILL);
    assert_eq!(waiter.reach(Condition::Up, soon()).unwrap(), Waited::SupervisorGone);
    assert_eq!(wait(&s6.dir, Condition::Up, soon()).unwrap(), Waited::SupervisorGone);
    assert_eq!(wait(&s6.dir, Condition::Down, soon()).unwrap(), Waited::SupervisorGone);
    assert_eq!(observe(&s6.dir).state, StateName::NotSupervised);
    assert!(observe(&s6.dir).status.is_some());
    assert!(matches!(s6.dir.send(&[Control::Up]), Err(SendError::NotSupervised { .. })));
}

#[test]
fn a_supervisor_that_is_told_to_exit_lets_go() {
    let s6 = Supervised::start(FOREVER, nothing);
    assert_eq!(wait(&s6.dir, Condition::Up, soon()).unwrap(), Waited::Reached);
    let mut waiter = Waiter::subscribe(&s6.dir).unwrap();
    s6.dir.send(&[Control::Down, Control::Exit]).unwrap();
    assert_eq!(waiter.reach(Condition::Finished, soon()).unwrap(), Waited::Reached);
    assert_eq!(waiter.released(soon()).unwrap(), Waited::Reached);
    assert!(!s6.dir.supervised().unwrap());
}

#[test]
fn waiting_for_up_ends_when_supervision_does() {
    let s6 = Supervised::start(FOREVER, down);
    assert_eq!(act(&s6.dir, &[Control::Exit], Condition::Up, soon()).unwrap(), Waited::SupervisorGone);
}

#[test]
fn a_directory_that_is_renamed_into_the_scandir_is_waited_for_until_it_is_supervised() {
    let s6 = Scan::start();
    // `add` subscribes in the staged directory, renames it, and waits.
    let dir = s6.add("service", FOREVER, nothing);
    assert_eq!(wait(&dir, Condition::Up, soon()).unwrap(), Waited::Reached);
    assert_eq!(common::subscriptions(&dir.event_path()), [] as [std::path::PathBuf; 0]);
}

#[test]
fn a_directory_that_is_removed_is_waited_for_until_its_supervisor_has_let_go() {
    let s6 = Scan::start();
    let dir = s6.add("service", FOREVER, nothing);
    assert_eq!(wait(&dir, Condition::Up, soon()).unwrap(), Waited::Reached);
    let mut waiter = Waiter::subscribe(&dir).unwrap();
    assert_eq!(act(&dir, &[Control::Down], Condition::Finished, soon()).unwrap(), Waited::Reached);

    let hidden = ServiceDir::new(s6.dir.path().join(".gone"));
    fs::rename(dir.path(), hidden.path()).unwrap();
    waiter.moved(&hidden);
    ScanDir::new(s6.dir.path()).send(&[ScanCommand::Hangup]).unwrap();
    assert_eq!(waiter.released(soon()).unwrap(), Waited::Reached);
    assert!(!hidden.supervised().unwrap());
    drop(waiter);
    assert_eq!(common::subscriptions(&hidden.event_path()), [] as [std::path::PathBuf; 0]);
}

#[test]
fn many_services_are_told_and_waited_for_at_once() {
    let s6 = Scan::start();
    let mut dirs: Vec<ServiceDir> = (0..20).map(|n| s6.add(&format!("s{n}"), FOREVER, down)).collect();
    dirs.push(common::service(&s6.dir.path().join(".unsupervised"), FOREVER));
    dirs.push(ServiceDir::new(s6.dir.path().join("missing")));

    let mut told = Vec::new();
    let mut progress = |index: usize, waited: Waited| told.push((index, waited));
    let outcomes = act_all(&dirs, &[Control::Up], Condition::Up, soon(), &mut progress);
    assert_eq!(outcomes.len(), 22);
    assert!(outcomes.iter().take(20).all(|outcome| matches!(outcome, Ok(Waited::Reached))), "{outcomes:?}");
    let errors: Vec<String> =
        outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).map(ToString::to_string).collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    told.sort_by_key(|(index, _)| *index);
    assert_eq!(told, (0..20).map(|index| (index, Waited::Reached)).collect::<Vec<_>>());

    dirs.truncate(20);
    let outcomes = act_all(&dirs, &[Control::Down], Condition::Finished, soon(), &mut |_, _| ());
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(Waited::Reached))), "{outcomes:?}");
}
