//! What holds after any sequence of events, and that each event has a meaning in each phase.

use std::collections::HashSet;

use crate::scenario::{at, policy};
use gatevisor_core::restart::{RestartPolicy, Rules};
use gatevisor_core::{Machine, ServiceEffect, ServiceEffects, ServiceInput};
use gatevisor_wire::Pid;
use gatevisor_wire::control::Control;
use gatevisor_wire::event::ServiceEvent;
use gatevisor_wire::signal;
use gatevisor_wire::wait::WaitStatus;
use proptest::prelude::*;

/// A world that answers effects as a kernel would, and notes what must never happen.
#[derive(Debug)]
struct World {
    machine: Machine,
    alive: HashSet<i32>,
    current: Option<(i32, bool)>,
    /// Whether the current process waits for a lock.
    blocked: bool,
    next_pid: i32,
    now: u64,
    ended: bool,
    last_published_pid: Option<Pid>,
    events: Vec<ServiceEvent>,
    /// The process of an earlier supervision lives.
    orphan: bool,
    /// The process that ends it, or survivors.
    clearing: Option<i32>,
}

impl World {
    fn new(rules: Rules, want_up: bool) -> Self {
        let mut effects = ServiceEffects::new();
        let machine = Machine::new(at(0), rules, want_up, 9, &mut effects);
        Self::of(machine)
    }

    /// Returns a world whose earlier supervisor was killed. Its service's process still runs.
    fn inherited(want_up: bool) -> Self {
        let mut effects = ServiceEffects::new();
        let mut machine = Machine::new(at(0), Rules::Native, want_up, 9, &mut effects);
        effects.drain().for_each(drop);
        machine.inherit(Pid::new(50), &mut effects);
        let mut world = Self { orphan: true, ..Self::of(machine) };
        world.perform(effects.drain().collect(), 1);
        world
    }

    fn of(machine: Machine) -> Self {
        Self {
            machine,
            alive: HashSet::new(),
            current: None,
            blocked: false,
            next_pid: 100,
            now: 0,
            ended: false,
            last_published_pid: None,
            events: Vec::new(),
            orphan: false,
            clearing: None,
        }
    }

    fn fork(&mut self, is_run: bool) -> Pid {
        self.next_pid += 1;
        self.alive.insert(self.next_pid);
        self.current = Some((self.next_pid, is_run));
        Pid::new(self.next_pid).expect("positive")
    }

    fn step(&mut self, event: ServiceInput, luck: u8) {
        let mut effects = ServiceEffects::new();
        // Some slots have their survivors killed.
        let policy = RestartPolicy {
            kill_survivors: luck.is_multiple_of(2),
            handoff_codes: if luck.is_multiple_of(3) { Vec::new() } else { vec![0, 3] },
            ..policy()
        };
        self.machine.step(at(self.now), event, &policy, &mut effects);
        self.perform(effects.drain().collect(), luck);
    }

    fn perform(&mut self, effects: Vec<ServiceEffect>, luck: u8) {
        let mut answers = Vec::new();
        for effect in effects {
            assert!(!self.ended, "invariant_nothing_happens_after_the_end: {effect:?}");
            match effect {
                ServiceEffect::SpawnRun => {
                    assert!(self.alive.is_empty(), "invariant_at_most_one_instance_runs: {:?}", self.alive);
                    assert!(!self.orphan, "invariant_at_most_one_instance_runs: the orphan lives");
                    if luck.is_multiple_of(4) {
                        answers.push(ServiceInput::SpawnFailed("luck".into()));
                    } else {
                        let pid = self.fork(true);
                        answers.push(ServiceInput::Forked(pid));
                    }
                }
                ServiceEffect::SpawnFinish(..) => {
                    if luck.is_multiple_of(3) {
                        answers.push(ServiceInput::FinishAbsent);
                    } else {
                        let pid = self.fork(false);
                        answers.push(ServiceInput::FinishForked(pid, 5000));
                    }
                }
                ServiceEffect::Clear(_) => {
                    assert!(self.alive.is_empty(), "invariant_nothing_runs_while_survivors_are_ended");
                    if luck.is_multiple_of(5) {
                        answers.push(ServiceInput::ClearFailed("luck".into()));
                    } else {
                        let pid = self.fork(false);
                        self.clearing = Some(pid.get());
                        answers.push(ServiceInput::ClearForked(pid, 5000));
                    }
                }
                ServiceEffect::AskHandoff(..) => {
                    assert!(self.alive.is_empty(), "invariant_nothing_runs_while_it_is_asked");
                    assert!(!self.orphan, "invariant_an_orphan_is_never_asked");
                    if luck.is_multiple_of(5) {
                        answers.push(ServiceInput::AskFailed("luck".into()));
                    } else {
                        let pid = self.fork(false);
                        answers.push(ServiceInput::AskForked(pid, 5000));
                    }
                }
                ServiceEffect::Signal(pid, signal::KILL) if self.blocked => {
                    assert!(self.alive.remove(&pid.get()), "invariant_no_signal_goes_to_a_reaped_pid");
                    self.current = None;
                    self.blocked = false;
                }
                ServiceEffect::Signal(pid, _)
                | ServiceEffect::SignalGroup(pid, _)
                | ServiceEffect::DownSignal(pid)
                | ServiceEffect::ReloadSignal(pid)
                | ServiceEffect::KillOverdue(pid) => {
                    assert!(self.alive.contains(&pid.get()), "invariant_no_signal_goes_to_a_reaped_pid");
                }
                ServiceEffect::Terminate(pid) => {
                    assert!(self.alive.contains(&pid.get()), "invariant_no_signal_goes_to_a_reaped_pid");
                    answers.push(ServiceInput::Terminating(u64::from(luck) * 10));
                }
                ServiceEffect::PublishStatus(status) => self.last_published_pid = status.pid,
                ServiceEffect::Broadcast(events) => {
                    for &event in events {
                        match event {
                            ServiceEvent::Up => assert_eq!(
                                self.last_published_pid.map(Pid::get),
                                self.current.map(|(pid, _)| pid),
                                "invariant_the_status_is_published_before_the_letter"
                            ),
                            ServiceEvent::Finished => assert_eq!(
                                self.last_published_pid, None,
                                "invariant_the_status_is_published_before_the_letter"
                            ),
                            _ => {}
                        }
                        self.events.push(event);
                    }
                }
                ServiceEffect::End => {
                    assert!(self.alive.is_empty(), "invariant_supervision_does_not_end_before_the_process");
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

    fn act(&mut self, action: Action) {
        match action {
            Action::Control(control) => self.step(ServiceInput::Control(control), control.byte()),
            Action::Exec => {
                if let Some((_, true)) = self.current {
                    self.blocked = false;
                    self.step(ServiceInput::Spawned, 1);
                }
            }
            Action::Block => {
                if let Some((_, true)) = self.current
                    && !self.blocked
                    && self.last_published_pid.is_none()
                {
                    self.blocked = true;
                    self.step(ServiceInput::Blocked, 1);
                }
            }
            Action::Die(how, luck) => {
                if let Some((pid, _)) = self.current.take() {
                    self.alive.remove(&pid);
                    self.blocked = false;
                    if self.clearing.take() == Some(pid) && how.success() {
                        self.orphan = false;
                    }
                    self.step(ServiceInput::Exited(how), luck);
                }
            }
            Action::Ready => self.step(ServiceInput::Ready, 1),
            Action::Wait(ms, luck) => {
                self.now += ms;
                self.step(ServiceInput::Deadline, luck);
            }
            Action::UntilDeadline(luck) => {
                if let Some(deadline) = self.machine.deadline() {
                    self.now = self.now.max(deadline.0);
                    self.step(ServiceInput::Deadline, luck);
                }
            }
            Action::Shutdown => self.step(ServiceInput::Shutdown, 1),
            Action::Withdraw => self.step(ServiceInput::Withdraw(5000), 1),
            Action::Drain => self.step(ServiceInput::Drain(5000), 1),
            Action::KillNow => self.step(ServiceInput::KillNow, 1),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Control(Control),
    Exec,
    Block,
    Die(WaitStatus, u8),
    Ready,
    Wait(u64, u8),
    UntilDeadline(u8),
    Shutdown,
    Withdraw,
    Drain,
    KillNow,
}

fn action() -> impl Strategy<Value = Action> {
    let how = prop_oneof![
        any::<u8>().prop_map(WaitStatus::exited),
        Just(WaitStatus::exited(0)),
        Just(WaitStatus::exited(1)),
        Just(WaitStatus::exited(125)),
        Just(WaitStatus::exited(75)),
        Just(WaitStatus::exited(78)),
        (1_u8..31).prop_map(|signal| WaitStatus::killed(signal).expect("a signal")),
    ];
    prop_oneof![
        6 => (0..Control::ALL.len()).prop_map(|n| Action::Control(Control::ALL[n])),
        6 => Just(Action::Exec),
        3 => Just(Action::Block),
        6 => (how, any::<u8>()).prop_map(|(how, luck)| Action::Die(how, luck)),
        2 => Just(Action::Ready),
        2 => (0_u64..40_000, any::<u8>()).prop_map(|(ms, luck)| Action::Wait(ms, luck)),
        4 => any::<u8>().prop_map(Action::UntilDeadline),
        1 => Just(Action::Shutdown),
        1 => Just(Action::Withdraw),
        1 => Just(Action::Drain),
        1 => Just(Action::KillNow),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_invariant_holds_after_any_sequence(
        s6 in any::<bool>(),
        inherited in any::<bool>(),
        want_up in any::<bool>(),
        actions in prop::collection::vec(action(), 0..60),
    ) {
        let rules = if s6 { Rules::S6 } else { Rules::Native };
        let mut world = if inherited { World::inherited(want_up) } else { World::new(rules, want_up) };
        for action in actions {
            world.act(action);
        }
    }

    #[test]
    fn invariant_a_shutdown_always_ends(
        want_up in any::<bool>(),
        actions in prop::collection::vec(action(), 0..40),
    ) {
        let mut world = World::new(Rules::Native, want_up);
        for action in actions {
            world.act(action);
        }
        world.act(Action::Shutdown);
        // A process may be starting, then die, then its finish script may die, then what asks, then
        // what ends the survivors.
        for _ in 0..5 {
            world.act(Action::Die(WaitStatus::exited(0), 1));
        }
        prop_assert!(world.ended);
    }
}

/// Brings a machine into each of its phases.
fn phases() -> Vec<(&'static str, World)> {
    let mut all = Vec::new();
    for last in [false, true] {
        let down = World::new(Rules::Native, false);
        let mut up = World::new(Rules::Native, true);
        up.act(Action::UntilDeadline(1));
        up.act(Action::Exec);
        let mut starting = World::new(Rules::Native, true);
        starting.act(Action::UntilDeadline(1));
        let mut waiting = World::new(Rules::Native, true);
        waiting.act(Action::UntilDeadline(1));
        waiting.act(Action::Block);
        let mut finishing = World::new(Rules::Native, true);
        finishing.act(Action::UntilDeadline(1));
        finishing.act(Action::Exec);
        finishing.act(Action::Die(WaitStatus::exited(1), 1));
        let mut asking = World::new(Rules::Native, true);
        asking.act(Action::UntilDeadline(1));
        asking.act(Action::Exec);
        asking.act(Action::Die(WaitStatus::exited(0), 9));
        asking.act(Action::Die(WaitStatus::exited(0), 1));
        let clearing = World::inherited(true);
        let mut ended = World::new(Rules::Native, false);
        ended.act(Action::Shutdown);
        for (name, mut world) in [
            ("down", down),
            ("up", up),
            ("starting", starting),
            ("waiting", waiting),
            ("finishing", finishing),
            ("asking", asking),
            ("clearing", clearing),
            ("ended", ended),
        ] {
            if last {
                world.act(Action::Control(Control::Exit));
            }
            all.push((name, world));
        }
    }
    all
}

#[test]
fn every_event_has_a_meaning_in_every_phase() {
    let controls = Control::ALL.len();
    let pid = Pid::new(99_999).expect("positive");
    let others = [
        ServiceInput::Blocked,
        ServiceInput::Spawned,
        ServiceInput::SpawnFailed("why".into()),
        ServiceInput::Terminating(5),
        ServiceInput::FinishAbsent,
        ServiceInput::AskFailed("why".into()),
        ServiceInput::AskForked(pid, 1),
        ServiceInput::ClearFailed("why".into()),
        ServiceInput::ClearForked(pid, 1),
        ServiceInput::Exited(WaitStatus::exited(0)),
        ServiceInput::Ready,
        ServiceInput::Deadline,
        ServiceInput::Shutdown,
        ServiceInput::Withdraw(1),
        ServiceInput::Drain(1),
        ServiceInput::KillNow,
        ServiceInput::Forked(pid),
        ServiceInput::FinishForked(pid, 1),
    ];
    let phases_seen = phases().len();
    for n in 0..controls + others.len() {
        for (_, mut world) in phases() {
            let event = Control::ALL
                .get(n)
                .map_or_else(|| others[n - controls].clone(), |&c| ServiceInput::Control(c));
            let mut effects = ServiceEffects::new();
            world.machine.step(at(1), event, &policy(), &mut effects);
            assert!(effects.drain().count() <= ServiceEffects::MAX);
        }
    }
    assert_eq!(phases_seen, 16);
}
