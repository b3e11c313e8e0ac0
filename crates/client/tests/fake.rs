//! The client against supervisors that do exactly what a test tells them, and against broken
//! directories.
#![expect(clippy::unwrap_used, reason = "a panic in a test says what is wrong")]

mod common;

use common::{DOWN, Fake, notify, service, soon, subscriptions, up};
use gatevisor_client::{
    Condition, Quantifier, ScanDir, ScanSendError, SendError, ServiceDir, StatusError, Subscription,
    WaitError, Waited, WaitedTogether, Waiter, act,
    status_view::{StateName, observe},
    wait, wait_together,
};
use gatevisor_wire::{
    control::{Control, ControlSignal},
    event::{ServiceEvent, is_subscriber_name},
    files,
    policy::{AskedFor, PublishedPolicy, RestartPhase},
    scan::ScanCommand,
    status::Status,
    tai::Tai64n,
    wait::WaitStatus,
};
use std::{
    error::Error,
    fs,
    os::unix::{ffi::OsStrExt, fs::FileTypeExt, fs::symlink},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

fn fake(status: &Status) -> (TempDir, Fake) {
    let parent = TempDir::new().unwrap();
    let fake = Fake::start(&parent.path().join("service"), status);
    (parent, fake)
}

/// The message, its causes, and what to do.
fn said(error: &dyn Error, hint: Option<&str>) -> String {
    let text = gatevisor_wire::exit::error_chain(error);
    hint.map_or(text.clone(), |hint| format!("{text} ({hint})"))
}

fn subscription(event: &std::path::Path) -> std::io::Result<Subscription> {
    Subscription::in_fifodir(gatevisor_paths::by_path::directory(event)?)
}

#[test]
fn a_subscriber_is_a_fifo_that_notifiers_find_and_is_gone_when_dropped() {
    let dir = TempDir::new().unwrap();
    let mut subscription = subscription(dir.path()).unwrap();
    let made = subscriptions(dir.path());
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].file_name(), Some(subscription.name()));
    assert!(is_subscriber_name(subscription.name().as_bytes()));
    assert!(made[0].metadata().unwrap().file_type().is_fifo());

    assert_eq!(subscription.try_next().unwrap(), None);
    assert_eq!(subscription.next(Some(Instant::now())).unwrap(), None);
    // What is no event is skipped.
    assert_eq!(notify(dir.path(), b"s?u\0U"), 1);
    assert_eq!(subscription.next(soon()).unwrap(), Some(ServiceEvent::SupervisionStarted));
    assert_eq!(subscription.try_next().unwrap(), Some(ServiceEvent::Up));
    assert_eq!(subscription.try_next().unwrap(), Some(ServiceEvent::Ready));
    // The notifier has closed its end, and that is no end of file.
    assert_eq!(subscription.try_next().unwrap(), None);

    drop(subscription);
    assert_eq!(subscriptions(dir.path()).len(), 0);
}

#[test]
fn a_subscriber_waits_for_its_event() {
    let dir = TempDir::new().unwrap();
    let mut subscription = subscription(dir.path()).unwrap();
    let event = dir.path().to_owned();
    let notifier = thread::spawn(move || notify(&event, b"D"));
    assert_eq!(subscription.next(soon()).unwrap(), Some(ServiceEvent::Finished));
    assert_eq!(notifier.join().unwrap(), 1);
}

#[test]
fn a_subscriber_is_removed_from_a_directory_that_was_renamed() {
    let parent = TempDir::new().unwrap();
    let (before, after) = (parent.path().join("before"), parent.path().join("after"));
    fs::create_dir(&before).unwrap();
    let mut subscription = subscription(&before).unwrap();
    fs::rename(&before, &after).unwrap();
    assert_eq!(notify(&after, b"s"), 1);
    assert_eq!(subscription.next(soon()).unwrap(), Some(ServiceEvent::SupervisionStarted));
    drop(subscription);
    assert_eq!(subscriptions(&after).len(), 0);
}

#[test]
fn two_subscribers_each_receive_every_event() {
    let dir = TempDir::new().unwrap();
    let mut both = [subscription(dir.path()).unwrap(), subscription(dir.path()).unwrap()];
    assert_eq!(notify(dir.path(), b"dD"), 2);
    for subscription in &mut both {
        assert_eq!(subscription.next(soon()).unwrap(), Some(ServiceEvent::Died));
        assert_eq!(subscription.next(soon()).unwrap(), Some(ServiceEvent::Finished));
    }
}

#[test]
fn commands_arrive_in_order_and_in_one_piece() {
    let (_parent, fake) = fake(&DOWN);
    fake.dir.send(&[Control::Down, Control::Signal(ControlSignal::Kill), Control::Exit]).unwrap();
    assert_eq!(fake.commands(), b"dkx");
    fake.dir.send(&Control::ALL).unwrap();
    assert_eq!(fake.commands(), b"udoUDxOQabqhkti12pcyrlPCK");
}

#[test]
fn a_failed_service_does_not_come_up_and_a_new_request_waits_for_events() {
    let (_parent, fake) = fake(&DOWN);
    let policy = PublishedPolicy {
        phase: RestartPhase::Failed,
        reason: Some("exitcode 78".into()),
        ..PublishedPolicy::default()
    };
    fake.write(files::POLICY, &policy.encode());
    assert_eq!(wait(&fake.dir, Condition::Up, soon()).unwrap(), Waited::Failed);
    assert_eq!(wait(&fake.dir, Condition::Down, soon()).unwrap(), Waited::Reached);
    assert_eq!(observe(&fake.dir).state, StateName::Failed { reason: Some("exitcode 78".into()) });
    assert_eq!(fake.dir.policy(), Some(policy));

    // The policy file is older than the command.
    thread::scope(|scope| {
        let waiting = scope.spawn(|| act(&fake.dir, &[Control::Up], Condition::Up, soon()));
        assert_eq!(fake.commands(), b"u");
        fake.publish(&up());
        fake.tell(&[ServiceEvent::Up]);
        assert_eq!(waiting.join().unwrap().unwrap(), Waited::Reached);
    });
}

#[test]
fn a_death_that_no_command_caused_does_not_count_as_the_answer_to_one() {
    let (_parent, fake) = fake(&up());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| act(&fake.dir, &[Control::Down], Condition::Finished, soon()));
        assert_eq!(fake.commands(), b"d");
        // It dies by itself, and is started again before the command is obeyed.
        fake.publish(&Status { want_up: true, ..DOWN });
        fake.tell(&[ServiceEvent::Died, ServiceEvent::Finished]);
        fake.publish(&up());
        fake.tell(&[ServiceEvent::Up]);
        // Now the command is obeyed.
        fake.publish(&Status { want_up: false, ..up() });
        fake.publish(&DOWN);
        fake.tell(&[ServiceEvent::Died, ServiceEvent::Finished]);
        assert_eq!(waiting.join().unwrap().unwrap(), Waited::Reached);
    });
    let status = fake.dir.status().unwrap();
    assert_eq!(status, DOWN);
}

#[test]
fn a_request_that_changes_nothing_is_obeyed_without_an_event() {
    let (_parent, fake) = fake(&Status { want_up: true, ..DOWN });
    thread::scope(|scope| {
        let waiting = scope.spawn(|| act(&fake.dir, &[Control::Down], Condition::Finished, soon()));
        assert_eq!(fake.commands(), b"d");
        fake.publish(&DOWN);
        assert_eq!(waiting.join().unwrap().unwrap(), Waited::Reached);
    });
}

#[test]
fn events_after_the_one_that_decides_are_kept() {
    let (_parent, fake) = fake(&up());
    let mut waiter = Waiter::subscribe(&fake.dir).unwrap();
    fake.tell(&[ServiceEvent::Died, ServiceEvent::Finished, ServiceEvent::Up]);
    assert_eq!(waiter.reach(Condition::Down, soon()).unwrap(), Waited::Reached);
    assert_eq!(waiter.reach(Condition::Up, soon()).unwrap(), Waited::Reached);
    assert_eq!(waiter.reach(Condition::Ready, Some(Instant::now())).unwrap(), Waited::TimedOut);
}

#[test]
fn several_services_are_waited_for_until_all_are_in_the_state_at_once_or_any_is() {
    let (_first_parent, first) = fake(&up());
    let (_second_parent, second) = fake(&DOWN);
    let subscribe = || [&first, &second].map(|fake| Waiter::subscribe(&fake.dir).unwrap());
    let at_once = || Some(Instant::now());

    let any = wait_together(&mut subscribe(), Condition::Up, Quantifier::Any, at_once()).unwrap();
    assert_eq!(any, WaitedTogether::Settled(Vec::new()));
    let mut both = subscribe();
    // Each has been up, but never both at one moment.
    first.tell(&[ServiceEvent::Died, ServiceEvent::Finished]);
    second.tell(&[ServiceEvent::Up]);
    let all = wait_together(&mut both, Condition::Up, Quantifier::All, at_once()).unwrap();
    assert_eq!(all, WaitedTogether::TimedOut);
    first.tell(&[ServiceEvent::Up]);
    let all = wait_together(&mut both, Condition::Up, Quantifier::All, soon()).unwrap();
    assert_eq!(all, WaitedTogether::Settled(Vec::new()));
    second.tell(&[ServiceEvent::Died, ServiceEvent::PermanentFailure, ServiceEvent::Finished]);
    let all = wait_together(&mut both, Condition::Ready, Quantifier::Any, soon()).unwrap();
    assert_eq!(all, WaitedTogether::Settled(vec![1]));
    second.tell(&[ServiceEvent::SupervisionEnded]);
    let all = wait_together(&mut both, Condition::Down, Quantifier::All, at_once()).unwrap();
    assert_eq!(all, WaitedTogether::TimedOut);
    first.tell(&[ServiceEvent::SupervisionEnded]);
    let all = wait_together(&mut both, Condition::Down, Quantifier::All, soon()).unwrap();
    assert_eq!(all, WaitedTogether::SupervisorGone(0));
}

#[test]
fn a_supervisor_that_vanishes_without_an_event_is_noticed() {
    let (_parent, mut fake) = fake(&up());
    let mut waiters = [Waiter::subscribe(&fake.dir).unwrap(), Waiter::subscribe(&fake.dir).unwrap()];
    fake.vanish();
    let [first, second] = &mut waiters;
    assert_eq!(first.reach(Condition::Down, soon()).unwrap(), Waited::SupervisorGone);
    assert_eq!(second.released(soon()).unwrap(), Waited::Reached);
}

#[test]
fn a_supervisor_that_vanishes_during_a_wait_is_noticed() {
    let (_parent, mut fake) = fake(&DOWN);
    let dir = fake.dir.clone();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| act(&dir, &[Control::Up], Condition::Up, soon()));
        assert_eq!(fake.commands(), b"u");
        fake.vanish();
        assert_eq!(waiting.join().unwrap().unwrap(), Waited::SupervisorGone);
    });
}

#[test]
fn the_end_of_supervision_leaves_a_service_down_or_not() {
    let (_parent, fake) = fake(&up());
    let mut waiter = Waiter::subscribe(&fake.dir).unwrap();
    fake.tell(&[ServiceEvent::SupervisionEnded]);
    assert_eq!(waiter.reach(Condition::Finished, soon()).unwrap(), Waited::SupervisorGone);
    fake.publish(&DOWN);
    fake.tell(&[ServiceEvent::SupervisionEnded]);
    assert_eq!(waiter.reach(Condition::Finished, soon()).unwrap(), Waited::Reached);
    fake.tell(&[ServiceEvent::SupervisionEnded]);
    assert_eq!(waiter.reach(Condition::Ready, soon()).unwrap(), Waited::SupervisorGone);
}

#[test]
fn the_deadline_ends_waiting() {
    let (_parent, fake) = fake(&DOWN);
    let soon = Instant::now() + Duration::from_millis(20);
    assert_eq!(wait(&fake.dir, Condition::Up, Some(soon)).unwrap(), Waited::TimedOut);
    assert!(Instant::now() >= soon);
    let mut waiter = Waiter::subscribe(&fake.dir).unwrap();
    assert_eq!(waiter.released(Some(Instant::now())).unwrap(), Waited::TimedOut);
}

#[test]
fn a_wait_that_is_over_leaves_no_subscriber() {
    let (_parent, fake) = fake(&DOWN);
    assert_eq!(wait(&fake.dir, Condition::Down, soon()).unwrap(), Waited::Reached);
    assert_eq!(wait(&fake.dir, Condition::Up, Some(Instant::now())).unwrap(), Waited::TimedOut);
    assert_eq!(subscriptions(&fake.dir.event_path()).len(), 0);
}

#[test]
fn what_cannot_be_sent_says_why_and_what_to_do() {
    let parent = TempDir::new().unwrap();
    let root = parent.path().display();
    let missing = ServiceDir::new(parent.path().join("missing"));
    let error = missing.send(&[Control::Up]).unwrap_err();
    assert_eq!(
        said(&error, error.hint()),
        format!(
            "there is no service directory `{root}/missing` (is the name right, and is the service registered?)"
        )
    );
    assert!(!missing.supervised().unwrap());

    let dir = service(&parent.path().join("idle"), "exit 0");
    let error = dir.send(&[Control::Up]).unwrap_err();
    assert!(matches!(error, SendError::NotSupervised { .. }));
    assert_eq!(
        said(&error, error.hint()),
        format!(
            "no supervisor is reading `{root}/idle/supervise/control` (is the scandir running, and is this service in it?)"
        )
    );

    // Neither a file nor a link is written to.
    fs::create_dir(dir.path().join(files::SUPERVISE)).unwrap();
    fs::write(dir.control_path(), "precious").unwrap();
    let error = dir.send(&[Control::Up]).unwrap_err();
    assert_eq!(
        said(&error, error.hint()),
        format!("cannot write to control FIFO `{root}/idle/supervise/control`: it is not a FIFO")
    );
    assert!(dir.supervised().is_err());
    assert_eq!(fs::read(dir.control_path()).unwrap(), b"precious");
    fs::remove_file(dir.control_path()).unwrap();
    symlink("/dev/null", dir.control_path()).unwrap();
    assert!(matches!(dir.send(&[Control::Up]), Err(SendError::Write { .. })));
}

#[test]
fn what_cannot_be_sent_to_a_scandir_says_why_and_what_to_do() {
    let parent = TempDir::new().unwrap();
    let root = parent.path().display();
    let scan = ScanDir::new(parent.path());
    assert!(!scan.running().unwrap());
    assert_eq!((scan.holder(), scan.program()), (None, None));
    let error = scan.send(&[ScanCommand::Rescan]).unwrap_err();
    assert!(matches!(error, ScanSendError::NotRunning { .. }));
    assert_eq!(
        said(&error, error.hint()),
        format!(
            "no supervisor is reading `{root}/.s6-svscan/control` (is the supervisor of this scandir running?)"
        )
    );
    let gone = ScanDir::new(parent.path().join("gone"));
    let error = gone.send(&[ScanCommand::Rescan]).unwrap_err();
    assert_eq!(
        said(&error, error.hint()),
        format!(
            "there is no scandir `{root}/gone` (is the path right, and has its supervisor ever been started?)"
        )
    );
    assert!(gone.services().is_err());
}

#[test]
fn a_file_that_is_no_status_is_an_error() {
    let parent = TempDir::new().unwrap();
    let root = parent.path().display();
    let missing = ServiceDir::new(parent.path().join("missing"));
    let error = missing.status().unwrap_err();
    assert_eq!(
        said(&error, error.hint()),
        format!(
            "there is no service directory `{root}/missing` (is the name right, and is the service registered?)"
        )
    );

    let dir = service(&parent.path().join("s"), "exit 0");
    let error = dir.status().unwrap_err();
    assert!(matches!(error, StatusError::NeverSupervised { .. }));
    assert_eq!(
        said(&error, error.hint()),
        format!("`{root}/s` has never been supervised (is the scandir running, and is this service in it?)")
    );

    let status = dir.path().join(files::STATUS);
    fs::create_dir(dir.path().join(files::SUPERVISE)).unwrap();
    for (bytes, text) in [
        (&b""[..], "holds something else: a status is 35 bytes long, or 43 from s6 2.13, and this is 0"),
        (&[0; 36], "holds something else: a status is 35 bytes long, or 43 from s6 2.13, and this is 36"),
        (&[0xff; 35], "holds something else: the status holds 0xffffffffffffffff as a process id"),
        (&[0; 64], "is too long to be one"),
        (&vec![0; 100_000], "is too long to be one"),
    ] {
        fs::write(&status, bytes).unwrap();
        let error = dir.status().unwrap_err();
        assert_eq!(said(&error, error.hint()), format!("status file `{root}/s/supervise/status` {text}"));
    }
    fs::remove_file(&status).unwrap();
    fs::create_dir(&status).unwrap();
    assert!(matches!(dir.status(), Err(StatusError::Read { .. })));
}

#[test]
fn what_cannot_be_waited_for_says_why() {
    let parent = TempDir::new().unwrap();
    let root = parent.path().display();
    let missing = ServiceDir::new(parent.path().join("missing"));
    let error = wait(&missing, Condition::Up, soon()).unwrap_err();
    assert!(matches!(error, WaitError::Missing { .. }));
    assert_eq!(
        said(&error, error.hint()),
        format!(
            "there is no service directory `{root}/missing` (is the name right, and is the service registered?)"
        )
    );

    // A directory that no supervisor has ever seen.
    let bare = ServiceDir::new(parent.path().join("bare"));
    fs::create_dir(bare.path()).unwrap();
    assert_eq!(wait(&bare, Condition::Up, soon()).unwrap(), Waited::SupervisorGone);
    let error = Waiter::subscribe(&bare).unwrap().supervised(soon()).unwrap_err();
    assert_eq!(
        said(&error, error.hint()),
        format!("cannot listen for events in `{root}/bare/event`: No such file or directory")
    );

    let (_parent, fake) = fake(&DOWN);
    fs::remove_dir(fake.dir.event_path()).unwrap();
    fs::write(fake.dir.event_path(), "").unwrap();
    let error = wait(&fake.dir, Condition::Up, soon()).unwrap_err();
    assert!(matches!(error, WaitError::Subscribe { .. }));

    let error =
        act(&service(&parent.path().join("idle"), ""), &[Control::Up], Condition::Up, soon()).unwrap_err();
    assert!(matches!(error, WaitError::Send(SendError::NotSupervised { .. })));
    assert_eq!(
        said(&error, error.hint()),
        format!(
            "no supervisor is reading `{root}/idle/supervise/control` (is the scandir running, and is this service in it?)"
        )
    );
}

#[test]
fn a_damaged_status_ends_a_wait_with_the_reason() {
    let (_parent, fake) = fake(&DOWN);
    fake.write(files::STATUS, b"rubbish");
    let error = wait(&fake.dir, Condition::Up, soon()).unwrap_err();
    assert!(matches!(error, WaitError::Status(StatusError::Decode { .. })));
    let seen = observe(&fake.dir);
    assert_eq!((seen.state, seen.supervised, seen.status), (StateName::NotSupervised, true, None));
    let problem = seen.problem.unwrap();
    assert!(problem.ends_with("and this is 7"), "{problem}");
}

#[test]
fn a_service_is_observed_with_everything_that_its_directory_says() {
    let failing = Status { want_up: true, last: WaitStatus::exited(127), ..DOWN };
    let (_parent, fake) = fake(&failing);
    let policy = PublishedPolicy {
        phase: RestartPhase::Backoff,
        restarts: 4,
        commanded: 0,
        failures: 5,
        asked: AskedFor::default(),
        ran_ms: None,
        until: Some(Tai64n::from_unix(1_800_000_000, 500_000_000)),
        reason: Some("exitcode 127".into()),
    };
    fake.write(files::POLICY, &policy.encode());
    fs::create_dir(fake.dir.path().join(files::DATA)).unwrap();
    fs::write(
        fake.dir.path().join(files::START_ERROR),
        "executing `x`: No such file or directory (errno 2)\n",
    )
    .unwrap();
    fs::write(fake.dir.path().join(files::DOWN), "").unwrap();
    let seen = observe(&fake.dir);
    let reason = Some("executing `x`: No such file or directory (errno 2)".to_owned());
    assert_eq!(seen.start_error, reason);
    assert_eq!(seen.state, StateName::FailedToStart { reason, until_unix_ms: Some(1_800_000_000_500) });
    assert_eq!((seen.supervised, seen.status, seen.policy), (true, Some(failing), Some(policy)));
    assert_eq!((seen.normally_up, seen.problem), (Some(false), None));

    // Hostile files are bounded, and their text stays on one line.
    fs::write(fake.dir.path().join(files::START_ERROR), "a\u{1b}[31m\nb\n").unwrap();
    assert_eq!(fake.dir.start_error().as_deref(), Some(r"a\u{1b}[31m\nb"));
    fs::write(fake.dir.path().join(files::START_ERROR), vec![b'x'; 100_000]).unwrap();
    assert_eq!(fake.dir.start_error(), None);
    fake.write(files::POLICY, &[b'x'; 513]);
    assert_eq!(fake.dir.policy(), None);
    fake.write(files::DEATH_TALLY, b"x");
    assert_eq!(fake.dir.deaths(), []);
}
