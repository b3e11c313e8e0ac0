//! Control streams for the pure machine of a service, in a model of a kernel.

use std::collections::HashSet;

use gatevisor_core::restart::{RestartPolicy, Rules};
use gatevisor_core::scan::{DirectoryIdentity, ScanChange, compare};
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
        let policy = RestartPolicy { kill_survivors: luck & 1 == 0, ..RestartPolicy::default() };
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
                        assert_eq!(self.published, self.current, "the status is published before the letter");
                    }
                    if events.contains(&ServiceEvent::Finished) {
                        assert_eq!(self.published, None, "the status is published before the letter");
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
    // Whatever happened before, it is over four deaths after this request.
    world.step(ServiceInput::Shutdown, 1);
    for _ in 0..4 {
        world.die(WaitStatus::exited(0), 1);
    }
    assert!(world.ended, "a shutdown always ends");
}

/// A scandir of eight names. A byte is a command, or changes an entry.
pub fn scandir_changes(bytes: &[u8]) {
    let mut there = [None; 8];
    let mut supervised = [None; 8];
    for (inode, &byte) in (1..).zip(bytes) {
        match ScanCommand::from_byte(byte) {
            Some(ScanCommand::Rescan | ScanCommand::Hangup) => {
                for (supervised, there) in supervised.iter_mut().zip(&there) {
                    // A replacement takes two looks: the first lets go, and the second adopts.
                    for _ in 0..2 {
                        match compare(*supervised, *there) {
                            ScanChange::Nothing => assert_eq!(supervised, there),
                            ScanChange::Adopt => {
                                assert_eq!(*supervised, None);
                                *supervised = *there;
                            }
                            ScanChange::Withdraw | ScanChange::Replace => *supervised = None,
                        }
                    }
                    assert_eq!(supervised, there, "after a rescan what is there is supervised");
                }
            }
            Some(_) => {}
            None => {
                let name = &mut there[usize::from(byte % 8)];
                *name = (byte & 8 != 0).then_some(DirectoryIdentity { device: 1, inode });
            }
        }
    }
}
