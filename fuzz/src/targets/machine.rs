//! Control streams for the pure machine of a service, in a model of a kernel.

use std::collections::HashSet;

use gatevisor_core::entry::{DirectoryIdentity, EntryAction, EntryMachine, ServiceRole};
use gatevisor_core::restart::{RestartPolicy, Rules};
use gatevisor_core::{Machine, Now, ServiceEffect, ServiceEffects, ServiceInput, Tick};
use gatevisor_wire::Pid;
use gatevisor_wire::control::Control;
use gatevisor_wire::event::ServiceEvent;
use gatevisor_wire::scan::ScanCommand;
use gatevisor_wire::tai::Tai64n;
use gatevisor_wire::wait::WaitStatus;

fn at(ms: u64) -> Now {
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    Now { tick: Tick(ms), wall: Tai64n::from_unix(seconds, 0) }
}

/// The living processes, and what must never happen to them.
struct World {
    machine: Machine,
    alive: HashSet<Pid>,
    current: Option<Pid>,
    is_run: bool,
    forked: i32,
    now: u64,
    ended: bool,
    published: Option<Pid>,
}

impl World {
    fn fork(&mut self, is_run: bool) -> Pid {
        self.forked += 1;
        let pid = Pid::new(self.forked).expect("a pid");
        assert!(self.alive.insert(pid));
        self.current = Some(pid);
        self.is_run = is_run;
        pid
    }

    fn step(&mut self, event: ServiceInput, luck: u8) {
        let mut effects = ServiceEffects::new();
        let policy = RestartPolicy {
            kill_survivors: luck & 1 == 0,
            handoff_codes: if luck & 2 == 0 { vec![0] } else { Vec::new() },
            ..RestartPolicy::default()
        };
        self.machine.step(at(self.now), event, &policy, &mut effects);
        let mut answers = Vec::new();
        for effect in effects.drain().collect::<Vec<_>>() {
            assert!(!self.ended, "nothing happens after the end");
            match effect {
                ServiceEffect::SpawnRun => {
                    assert!(self.alive.is_empty(), "at most one runs");
                    answers.push(match luck % 4 {
                        0 => ServiceInput::SpawnFailed("luck".to_owned()),
                        _ => ServiceInput::Forked(self.fork(true)),
                    });
                }
                ServiceEffect::SpawnFinish(..) => answers.push(match luck % 3 {
                    0 => ServiceInput::FinishAbsent,
                    _ => ServiceInput::FinishForked(self.fork(false), 5000),
                }),
                ServiceEffect::Clear(_) => {
                    assert!(self.alive.is_empty(), "nothing runs while survivors are ended");
                    answers.push(match luck % 5 {
                        0 => ServiceInput::ClearFailed("luck".to_owned()),
                        _ => ServiceInput::ClearForked(self.fork(false), 5000),
                    });
                }
                ServiceEffect::AskHandoff(..) => {
                    assert!(self.alive.is_empty(), "nothing runs while it is asked");
                    answers.push(match luck % 5 {
                        0 => ServiceInput::AskFailed("luck".to_owned()),
                        _ => ServiceInput::AskForked(self.fork(false), 5000),
                    });
                }
                ServiceEffect::Signal(pid, _)
                | ServiceEffect::SignalGroup(pid, _)
                | ServiceEffect::DownSignal(pid)
                | ServiceEffect::ReloadSignal(pid)
                | ServiceEffect::KillOverdue(pid) => {
                    assert!(self.alive.contains(&pid), "no signal goes to the dead");
                }
                ServiceEffect::Terminate(pid) => {
                    assert!(self.alive.contains(&pid), "no signal goes to the dead");
                    answers.push(ServiceInput::Terminating(u64::from(luck) * 10));
                }
                ServiceEffect::PublishStatus(status) => self.published = status.pid,
                ServiceEffect::Broadcast(events) => {
                    if events.contains(&ServiceEvent::Up) {
                        assert_eq!(self.published, self.current, "the status is published before the event");
                    }
                    if events.contains(&ServiceEvent::Finished) {
                        assert_eq!(self.published, None, "the status is published before the event");
                    }
                }
                ServiceEffect::End => {
                    assert!(self.alive.is_empty(), "supervision does not end before the process");
                    self.ended = true;
                }
                ServiceEffect::CloseReadiness
                | ServiceEffect::RecordDeath(_)
                | ServiceEffect::PublishPolicy(_)
                | ServiceEffect::CreateDownFile
                | ServiceEffect::RemoveDownFile => {}
            }
        }
        for answer in answers {
            self.step(answer, luck);
        }
        assert_eq!(self.machine.ended(), self.ended);
    }

    fn die(&mut self, how: WaitStatus, luck: u8) {
        if let Some(pid) = self.current.take() {
            self.alive.remove(&pid);
            self.step(ServiceInput::Exited(how), luck);
        }
    }

    /// A byte of the control FIFO is a command. A byte that is no command causes another event, or
    /// lets time pass.
    fn act(&mut self, byte: u8, luck: u8) {
        if let Some(control) = Control::from_byte(byte) {
            return self.step(ServiceInput::Control(control), luck);
        }
        match byte % 16 {
            0..=2 => {
                if self.is_run && self.current.is_some() {
                    self.step(ServiceInput::Spawned, luck);
                }
            }
            3 => self.die(WaitStatus::exited(luck), luck),
            4 => self.die(WaitStatus::exited(125), luck),
            5 => self.die(WaitStatus::exited(75), luck),
            6 => self.die(WaitStatus::exited(78), luck),
            7 => self.die(WaitStatus::killed(luck % 30 + 1).expect("a signal"), luck),
            8 => self.step(ServiceInput::Ready, luck),
            9 => {
                self.now += u64::from(luck) * 200;
                self.step(ServiceInput::Deadline, luck);
            }
            10 => self.step(ServiceInput::Shutdown, luck),
            11 => self.step(ServiceInput::Withdraw(5000), luck),
            12 => self.step(ServiceInput::Drain(5000), luck),
            13 => self.step(ServiceInput::KillNow, luck),
            _ => {
                if let Some(deadline) = self.machine.deadline() {
                    self.now = self.now.max(deadline.0);
                    self.step(ServiceInput::Deadline, luck);
                }
            }
        }
    }
}

pub fn service_control(bytes: &[u8]) {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let rules = if first & 1 == 0 { Rules::Native } else { Rules::S6 };
    let machine = Machine::new(at(0), rules, first & 2 == 0, u64::from(first), &mut ServiceEffects::new());
    let mut world = World {
        machine,
        alive: HashSet::new(),
        current: None,
        is_run: false,
        forked: 0,
        now: 0,
        ended: false,
        published: None,
    };
    for pair in bytes.chunks(2) {
        let (byte, luck) = (pair[0], pair.get(1).copied().unwrap_or(1));
        world.act(byte, luck);
    }
    // Whatever happened before, it is over five deaths after this request.
    world.step(ServiceInput::Shutdown, 1);
    for _ in 0..5 {
        world.die(WaitStatus::exited(0), 1);
    }
    assert!(world.ended, "a shutdown always ends");
}

/// An entry of a scandir, all of whose halves end as soon as they are told to.
struct Supervised {
    machine: EntryMachine<ServiceRole>,
    identity: DirectoryIdentity,
}

/// Carries out what follows for one name; `odd` entries have a logger or a log daemon.
fn act(
    entry: &mut Option<Supervised>,
    there: Option<DirectoryIdentity>,
    odd: u8,
    action: EntryAction<ServiceRole>,
) {
    let next = match (action, entry.as_mut()) {
        (EntryAction::Nothing | EntryAction::ForgetRefusal | EntryAction::Recheck, _) => return,
        (EntryAction::Adopt, Some(_)) => panic!("it is supervised already"),
        (EntryAction::Adopt, None) => {
            let identity = there.expect("only what is there is adopted");
            let logger = (odd & 1 != 0).then_some(ServiceRole::Logger);
            let machine = EntryMachine::new(identity, Some(ServiceRole::Main), logger, odd & 2 != 0);
            *entry = Some(Supervised { machine, identity });
            return;
        }
        (_, None) => panic!("nothing is supervised"),
        (EntryAction::Tell(role, _), Some(entry)) => entry.machine.ended(role, || there, true),
        (EntryAction::Revive(role), Some(entry)) => entry.machine.revived(role, Some(role), true),
        (EntryAction::ReleaseLog, Some(entry)) => entry.machine.log_is_released(true),
        (EntryAction::Free { look_again }, Some(_)) => {
            assert!(look_again, "its directory is gone");
            *entry = None;
            EntryMachine::look(None, there, true)
        }
    };
    act(entry, there, odd, next);
}

/// A scandir of eight names. A byte is a command, changes an entry, or ends a half of one.
pub fn scandir_changes(bytes: &[u8]) {
    let mut there = [None; 8];
    let mut supervised: [Option<Supervised>; 8] = Default::default();
    for (inode, &byte) in (1..).zip(bytes) {
        let name = usize::from(byte % 8);
        match ScanCommand::from_byte(byte) {
            Some(ScanCommand::Rescan | ScanCommand::Hangup) => {
                for (odd, (entry, there)) in (0..).zip(supervised.iter_mut().zip(there)) {
                    let look = EntryMachine::look(entry.as_mut().map(|it| &mut it.machine), there, true);
                    act(entry, there, odd, look);
                    assert_eq!(entry.as_ref().map(|it| it.identity), there, "what is there is supervised");
                }
            }
            Some(_) => {}
            None if byte & 16 != 0 => {
                if let Some(entry) = &mut supervised[name] {
                    // One half ends by itself.
                    let role = if byte & 8 == 0 { ServiceRole::Main } else { ServiceRole::Logger };
                    let next = entry.machine.ended(role, || there[name], true);
                    act(&mut supervised[name], there[name], byte % 8, next);
                }
            }
            None => there[name] = (byte & 8 != 0).then_some(DirectoryIdentity { device: 1, inode }),
        }
    }
}
