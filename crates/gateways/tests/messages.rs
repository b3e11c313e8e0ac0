//! Every message of a manager, so that a change of one is seen.

mod common;

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use common::name;
use gatevisor_client::ScanSendError;
use gatevisor_gateways::ReadFileError;
use gatevisor_gateways::agent::TemplateError;
use gatevisor_gateways::desired::{Desired, ReadStateError, RecordError};
use gatevisor_gateways::lifecycle::RemoveProfileError;
use gatevisor_gateways::manager::{
    ControlError, GatewayVerb, GatewayWaitError, ListServicesError, RegisterError, UnregisterError,
};
use gatevisor_gateways::profile::{CreateError, HomePathError};
use gatevisor_gateways::slots::{ForeignScandir, PublishError, RenderSlotError};
use gatevisor_paths::home::{Untrusted, UntrustedReason};
use gatevisor_slot::home_lock::Standing;
use gatevisor_wire::exit::ExitError as _;
use insta::assert_snapshot;

fn scandir() -> PathBuf {
    "/run/service".into()
}

fn home() -> PathBuf {
    "/opt/data/profiles".into()
}

fn denied() -> io::Error {
    io::Error::from_raw_os_error(13)
}

fn full() -> RecordError {
    let source = io::Error::from_raw_os_error(28);
    RecordError::Write { path: "/opt/data/gateway_state.json".into(), source }
}

fn timed_out(verb: GatewayVerb) -> ControlError {
    ControlError::TimedOut {
        verb,
        name: name("coder"),
        after: Duration::from_secs(40),
        state: "stopping".to_owned(),
    }
}

fn elsewhere() -> Standing {
    Standing::NeverHeld { file: home().join(".gatevisor.lock") }
}

/// Shows an error with its causes and its exit code, and checks that none repeats the one below it.
fn show(code: u8, error: &dyn Error) -> String {
    let mut text = format!("{code} {error}");
    let mut above = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let below = error.to_string();
        assert!(!above.contains(&below), "`{above}` repeats its source");
        text = format!("{text}\n    {below}");
        above = below;
        cause = error.source();
    }
    text
}

#[test]
fn commands_that_fail_say_what_failed_why_and_what_to_do() {
    let (name, verb) = (name("coder"), GatewayVerb::Start);
    let missing_slot =
        RegisterError::NotTaken { name: name.clone(), scandir: scandir(), after: Duration::from_secs(10) };
    let all = [
        ControlError::NoProfile { name: name.clone(), path: home() },
        ControlError::NoGateway { name: name.clone() },
        ControlError::NotRegistered { name: name.clone(), scandir: scandir() },
        ControlError::NoSupervisor { name: name.clone(), scandir: scandir(), desired: Desired::Stopped },
        ControlError::Elsewhere { verb, name: name.clone(), standing: elsewhere() },
        ControlError::Record { verb, name: name.clone(), source: full() },
        ControlError::StoppedForNow { name: name.clone(), source: full() },
        ControlError::NeitherStoppedNorKept {
            name: name.clone(),
            stop: Box::new(timed_out(GatewayVerb::Stop)),
            source: full(),
        },
        ControlError::Register { name: name.clone(), source: Box::new(missing_slot) },
        ControlError::System { verb, name: name.clone(), source: denied() },
        timed_out(GatewayVerb::Stop),
        timed_out(GatewayVerb::Restart),
        ControlError::FailedToStart {
            name: name.clone(),
            reason: "executing: `hermes`: not found (errno 2)".to_owned(),
        },
        ControlError::Failed { name: name.clone(), reason: "exit 78: configuration error".to_owned() },
        ControlError::Refused { name: name.clone(), reason: "others may write to it".into() },
        ControlError::SupervisorGone { name: name.clone() },
        ControlError::Stopped { verb: GatewayVerb::Restart, name: name.clone(), by: "BY".into() },
        ControlError::Started { name: name.clone(), by: "BY".into() },
        ControlError::SupervisorStopped {
            verb: GatewayVerb::Stop,
            name,
            pid: gatevisor_wire::Pid::new(77).unwrap(),
            state: "up".into(),
        },
    ];
    assert_snapshot!(all.iter().map(|e| show(e.exit_code(), e)).collect::<Vec<_>>().join("\n"), @r"
        1 there is no profile `coder` in `/opt/data/profiles`; `gatevisor profile create coder` makes one
        1 profile `coder` has no gateway with this agent; name another profile with -p
        1 the gateway of `coder` is not registered in `/run/service`; `gatevisor -p coder gateway start` registers and starts it
        102 no supervisor is running for `coder` (`/run/service`); the desired state, stopped, is recorded and takes effect at the next `gatevisor up`
        1 cannot start the gateway of `coder` here, so nothing was done: this container does not hold `/opt/data/profiles/.gatevisor.lock`, so it runs no gateways of this home: the container or the `gatevisor up` that holds it does
        111 cannot start the gateway of `coder`: its desired state is not recorded, so nothing was done
            cannot record the desired state in `/opt/data/gateway_state.json`; it is as it was
            No space left on device (os error 28)
        111 the gateway of `coder` is stopped, but its desired state cannot be kept, so it comes back with the next start of its supervisor; fix what follows and stop it again
            cannot record the desired state in `/opt/data/gateway_state.json`; it is as it was
            No space left on device (os error 28)
        99 the gateway of `coder` is not stopped (it is stopping after 40 s), and its desired state cannot be kept
            cannot record the desired state in `/opt/data/gateway_state.json`; it is as it was
            No space left on device (os error 28)
        99 cannot start the gateway of `coder`, which had no slot
            the supervisor of `/run/service` did not take the slot of `coder` within 10 s, so it is withdrawn
        111 cannot start the gateway of `coder`; the desired state is recorded
            Permission denied (os error 13)
        99 gave up waiting for the stop of `coder` after 40 s; it is stopping, and the supervisor goes on trying
        99 gave up waiting for the restart of `coder` after 40 s; it is stopping, and the supervisor goes on trying
        1 the gateway of `coder` failed to start: executing: `hermes`: not found (errno 2); it is tried again with growing pauses
        1 the gateway of `coder` failed for good: exit 78: configuration error; fix that, then start it again
        111 the supervisor refuses the slot of `coder`: others may write to it; the desired state is recorded
        102 the supervisor of `coder` went away; the desired state is recorded and takes effect at the next `gatevisor up`
        1 the restart of `coder` was given up, because the gateway was stopped meanwhile: BY
        1 the stop of `coder` was given up, because the gateway was started meanwhile: BY
        99 gave up waiting for the stop of `coder`, because a signal has stopped the supervisor (process 77): it carries the request out when it goes on; `kill -CONT 77` continues it (the last that it said of the gateway: up)
        ");
}

#[test]
fn registrations_that_fail_say_what_remains() {
    let name = name("coder");
    let path = || scandir().join("gateway-coder");
    let all = [
        RegisterError::NoProfile { name: name.clone(), path: home() },
        RegisterError::NoGateway { name: name.clone() },
        RegisterError::Elsewhere { name: name.clone(), standing: elsewhere() },
        RegisterError::AlreadyRegistered { name: name.clone(), scandir: scandir() },
        RegisterError::NoSupervisor { name: name.clone(), scandir: scandir() },
        RegisterError::Record { name: name.clone(), source: full() },
        RegisterError::Publish {
            name: name.clone(),
            source: PublishError::Write { path: path(), source: denied() },
        },
        RegisterError::Publish { name: name.clone(), source: PublishError::Exists { path: path() } },
        RegisterError::Tell {
            name: name.clone(),
            source: ScanSendError::Write { fifo: "F".into(), source: denied() },
        },
        RegisterError::Follow { name: name.clone(), source: denied() },
        RegisterError::NotTaken { name: name.clone(), scandir: scandir(), after: Duration::from_secs(10) },
        RegisterError::Refused {
            name: name.clone(),
            scandir: scandir(),
            reason: "others may write to it".into(),
        },
        RegisterError::Start { name, source: Box::new(timed_out(GatewayVerb::Start)) },
    ];
    assert_snapshot!(all.iter().map(|e| show(e.exit_code(), e)).collect::<Vec<_>>().join("\n"), @r"
        1 there is no profile `coder` in `/opt/data/profiles`; `gatevisor profile create coder` makes one
        1 profile `coder` has no gateway with this agent; name another profile with -p
        1 the gateway of `coder` is not registered, as it cannot be started here: this container does not hold `/opt/data/profiles/.gatevisor.lock`, so it runs no gateways of this home: the container or the `gatevisor up` that holds it does
        1 the gateway of `coder` is already registered in `/run/service`
        102 no supervisor is running on `/run/service`, so `coder` is not registered; `gatevisor up` starts one and registers every profile
        111 the gateway of `coder` is not registered: its desired state is not recorded
            cannot record the desired state in `/opt/data/gateway_state.json`; it is as it was
            No space left on device (os error 28)
        111 the gateway of `coder` is not registered
            cannot make the slot `/run/service/gateway-coder`; nothing of it remains
            Permission denied (os error 13)
        111 the gateway of `coder` is not registered
            `/run/service/gateway-coder` exists already
        111 the gateway of `coder` is not registered: its supervisor cannot be told
            cannot write to control FIFO `F`
            Permission denied (os error 13)
        111 the gateway of `coder` is registered, but cannot be followed
            Permission denied (os error 13)
        99 the supervisor of `/run/service` did not take the slot of `coder` within 10 s, so it is withdrawn
        111 the supervisor of `/run/service` refuses the slot of `coder`, so it is withdrawn: others may write to it
        99 the gateway of `coder` is registered, but did not come up
            gave up waiting for the start of `coder` after 40 s; it is stopping, and the supervisor goes on trying
        ");
}

#[test]
fn unregistrations_that_fail_say_what_is_left() {
    let name = name("coder");
    let left = || scandir().join(".gone-1");
    let follow = || gatevisor_client::WaitError::Subscribe { dir: "D".into(), source: denied() };
    let after = Duration::from_secs(45);
    let pid = gatevisor_wire::Pid::new(77);
    let all = [
        UnregisterError::Withdraw { name: name.clone(), source: denied() },
        UnregisterError::Follow { name: name.clone(), source: follow() },
        UnregisterError::StillRunning { name: name.clone(), after, pid, left: left() },
        UnregisterError::StillRunning { name: name.clone(), after, pid: None, left: left() },
        UnregisterError::Remove { name: name.clone(), left: left(), source: denied() },
    ];
    let mut lines: Vec<_> = all.iter().map(|e| show(e.exit_code(), e)).collect();
    let source = UnregisterError::Withdraw { name: name.clone(), source: denied() };
    let remove = RemoveProfileError::Gateway { name, source };
    lines.push(show(remove.exit_code(), &remove));
    assert_snapshot!(lines.join("\n"), @r#"
        111 cannot withdraw the slot of `coder`; it is as it was
            Permission denied (os error 13)
        111 cannot follow the gateway of `coder`; its slot is as it was
            cannot listen for events in `D`
            Permission denied (os error 13)
        99 the gateway of `coder` is unregistered, but has not ended after 45 s (pid 77); its slot is `/run/service/.gone-1` now
        99 the gateway of `coder` is unregistered, but has not ended after 45 s; its slot is `/run/service/.gone-1` now
        111 the gateway of `coder` is unregistered, but files of its slot are left; remove `/run/service/.gone-1` by hand
            Permission denied (os error 13)
        111 profile `coder` is not deleted, because its gateway is still there
            cannot withdraw the slot of `coder`; it is as it was
            Permission denied (os error 13)
        "#);
}

#[test]
fn all_other_errors_say_what_failed_why_and_what_to_do() {
    let name = name("coder");
    let wait = || gatevisor_client::WaitError::Poll { source: denied() };
    let waits = [
        GatewayWaitError::NotRegistered { name: name.clone(), scandir: scandir() },
        GatewayWaitError::NotSupervised { name: name.clone(), scandir: scandir() },
        GatewayWaitError::System { name: name.clone(), source: wait() },
    ];
    let mut lines: Vec<_> = waits.iter().map(|e| show(e.exit_code(), e)).collect();
    let list = ListServicesError { scandir: scandir(), source: denied() };
    lines.push(show(list.exit_code(), &list));
    let profiles = gatevisor_gateways::profile::ListProfilesError { path: home(), source: denied() };
    lines.push(show(profiles.exit_code(), &profiles));
    let create = CreateError::Write { name, path: home(), source: denied() };
    lines.push(show(create.exit_code(), &create));
    lines.push(show(full().exit_code(), &full()));
    let home = HomePathError::Path { path: "".into(), source: denied() };
    lines.push(show(home.exit_code(), &home));
    let template = RenderSlotError::Template(TemplateError::Unknown("profil".to_owned()));
    lines.push(show(template.exit_code(), &template));
    let read =
        ReadStateError::Read { path: "/opt/data/state.json".into(), source: ReadFileError::Io(denied()) };
    lines.push(show(read.exit_code(), &read));
    let record = RecordError::Read(read);
    lines.push(show(record.exit_code(), &record));
    assert_snapshot!(lines.join("\n"), @r#"
        1 the gateway of `coder` is not registered in `/run/service`; `gatevisor -p coder gateway start` registers and starts it
        102 no supervisor is running for `coder` (`/run/service`); `gatevisor up` starts one
        111 cannot wait for the gateway of `coder`
            cannot wait for events
            Permission denied (os error 13)
        111 cannot read the scandir `/run/service`
            Permission denied (os error 13)
        111 cannot read the profiles in `/opt/data/profiles`
            Permission denied (os error 13)
        111 cannot make profile `coder` in `/opt/data/profiles`; nothing of it remains
            Permission denied (os error 13)
        111 cannot record the desired state in `/opt/data/gateway_state.json`; it is as it was
            No space left on device (os error 28)
        100 `` cannot be a home
            Permission denied (os error 13)
        100 the agent definition has a text that cannot be filled in
            `{profil}` is not known here; {profile} and {profile-home} are, and ${NAME} at run time
        111 `/opt/data/state.json` cannot be read
            Permission denied (os error 13)
        111 cannot record the desired state without knowing what else is in the file
            `/opt/data/state.json` cannot be read
            Permission denied (os error 13)
        "#);
}

#[test]
fn root_is_told_why_it_makes_no_slots_in_somebody_elses_scandir_and_what_to_do() {
    let step = Untrusted { path: "/run".into(), uid: 1000, why: UntrustedReason::Open, is_sticky: false };
    let errors = [
        ForeignScandir::Owned { scandir: scandir(), uid: 1000 },
        ForeignScandir::Open { scandir: scandir(), step },
    ];
    let lines = errors.map(|error| show(111, &PublishError::from(error)));
    assert_snapshot!(lines.join("\n"), @r"
    111 root does not make slots in `/run/service`: uid 1000 controls it, and a slot's content would run as root; use --home with one of that user's homes, or run this as that user
    111 root does not make slots in `/run/service`: others than its owner may write to `/run`, and a slot's content would run as root; remove that right with `chmod go-w`
    ");
}
