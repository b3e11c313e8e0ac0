//! Busyness that lasts for hundreds of gateway-hours, on a machine that is simulated: not one false
//! restart, and one that is really frozen is still found.
//!
//! Each gateway sleeps for 30 seconds, works while it gets a processor, and beats. The machine has
//! too little processor time, stalls its disk, is suspended, has its clock set, or freezes the
//! watcher or everything. A gateway blocks its own loop for a while, and is started anew. Every
//! second gateway has an API server as well, which is asked where the heartbeat is missing: the
//! answer needs the same loop, and the question is given up after five seconds.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic in a test says what is wrong")]

use gatevisor_liveness::{
    Attended, Attention, BeatAge, BeatMark, ClockReading, EvidenceKind, Fleet, Hindrance, Life, LiveEffect,
    LiveFinding, LivePolicy, LiveSettings, SupervisorSays,
};

const HOUR: u64 = 3_600_000;
/// Milliseconds after which a beat is too old, as in the definition of Hermes.
const MAX_AGE: u64 = 45_000;
/// Milliseconds of processor time between waking up and beating. Other iterations of the loop come
/// first.
const WORK: u64 = 2_000;
/// How many gateways may be restarted at the same time, as in the program.
const PARALLEL: usize = 2;
/// Milliseconds after which a question is given up.
const ANSWER: u64 = 5_000;

/// Returns the settings that are in force where a definition says only `restart`.
fn settings() -> LiveSettings {
    LiveSettings { policy: LivePolicy::Restart, ..LiveSettings::default() }
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll() % (high - low + 1)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.roll() % 100 < chance
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MachineState {
    Calm,
    /// A process that runs gets this percentage of what it needs, and the watcher is late.
    Starved(u64),
    /// Nobody can write.
    DiskStalls,
}

/// A question to the API server of a gateway.
struct Question {
    /// When it is given up, by the monotonic clock.
    until: u64,
    /// How much processor time the loop has had for it, in milliseconds.
    work_ms: u64,
    is_answered: bool,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and all combinations occur")]
struct Gateway {
    name: String,
    life: Life,
    asleep_until: u64,
    work_ms: u64,
    written: BeatMark,
    held_until: u64,
    /// Whether the kernel tells what hinders it.
    tells: bool,
    frozen: bool,
    /// Whether it writes its beats. It cannot on a full disk, and works all the same.
    writes: bool,
    /// Whether it has an API server.
    serves: bool,
    /// Whether the server listens. That is so once the gateway has beaten for the first time.
    listens: bool,
    question: Option<Question>,
}

impl Gateway {
    /// Lets it run for this long, with this percentage of a processor.
    fn pass(&mut self, ms: u64, share: u64, can_write: bool, at: (i64, u64)) {
        if self.frozen || self.held_until > at.1 {
            return;
        }
        let is_awake = self.asleep_until <= at.1;
        if is_awake {
            self.work_ms += ms * share / 100;
        }
        if is_awake && self.work_ms >= WORK {
            if !can_write {
                // The loop waits for the disk, and nobody is answered meanwhile.
                return;
            }
            self.work_ms = 0;
            self.asleep_until = at.1 + 30_000;
            if self.writes {
                self.written.changed = at;
                self.written.inode += 1;
            }
            self.listens = true;
        }
        if let Some(question) = &mut self.question {
            question.work_ms += ms * share / 100;
            question.is_answered |= question.work_ms >= WORK;
        }
    }

    fn is_answered(&self) -> bool {
        self.question.as_ref().is_some_and(|question| question.is_answered)
    }
}

struct World {
    dice: Dice,
    monotonic: u64,
    suspended: u64,
    wall_offset: i64,
    state: MachineState,
    until: u64,
    gateways: Vec<Gateway>,
    fleet: Fleet,
    attention: Attention,
    restarts: Vec<(u64, String)>,
    machine: u64,
    /// Questions that got their answer, and that were given up.
    answers: (u64, u64),
}

impl World {
    fn new(seed: u64, gateways: usize) -> Self {
        let mut dice = Dice(seed);
        let gateway = |index: usize| Gateway {
            name: format!("g{index}"),
            life: Life { pid: 100 + i32::try_from(index).unwrap(), start_ticks: 1 },
            asleep_until: 0,
            work_ms: 0,
            written: BeatMark { changed: (0, 0), inode: 1, size: 127 },
            held_until: 0,
            tells: dice.percent(80),
            frozen: false,
            writes: true,
            serves: index.is_multiple_of(2),
            listens: false,
            question: None,
        };
        let gateways = (0..gateways).map(gateway).collect();
        Self {
            dice,
            monotonic: 1_000,
            suspended: 0,
            wall_offset: 0,
            state: MachineState::Calm,
            until: 600_000,
            gateways,
            fleet: Fleet::new(PARALLEL),
            attention: Attention::default(),
            restarts: Vec::new(),
            machine: 0,
            answers: (0, 0),
        }
    }

    /// Lets the gateways run for this long.
    fn pass(&mut self, ms: u64) {
        self.monotonic += ms;
        let wall = i64::try_from((self.monotonic + self.suspended) / 1000).unwrap() + self.wall_offset;
        let share = if let MachineState::Starved(share) = self.state { share } else { 100 };
        let can_write = self.state != MachineState::DiskStalls;
        for gateway in &mut self.gateways {
            gateway.pass(ms, share, can_write, (wall, self.monotonic));
        }
    }

    /// Changes what hinders the machine now and then.
    fn disturb(&mut self) {
        if self.monotonic < self.until {
            return;
        }
        let (calm, spell) = (self.dice.between(120_000, 1_200_000), self.dice.between(30_000, 420_000));
        self.state = match (self.state, self.dice.between(0, 6)) {
            (MachineState::Calm, 0..3) => MachineState::Starved(self.dice.between(2, 80)),
            (MachineState::Calm, 3) => MachineState::DiskStalls,
            (MachineState::Calm, 4) => {
                // Suspended, and the clock is set afterwards.
                self.suspended += self.dice.between(10_000, 8 * HOUR);
                self.wall_offset -= 7_200;
                MachineState::Calm
            }
            (MachineState::Calm, 5) => {
                // The container is frozen, the gateways with the watcher.
                self.monotonic += self.dice.between(5_000, HOUR);
                MachineState::Calm
            }
            (MachineState::Calm, _) => {
                // Only the watcher is frozen.
                let away = self.dice.between(5_000, HOUR / 2);
                (0..away / 1000).for_each(|_| self.pass(1000));
                MachineState::Calm
            }
            _ => MachineState::Calm,
        };
        self.until = self.monotonic + if self.state == MachineState::Calm { calm } else { spell };
        let victim = usize::try_from(self.dice.between(0, 1000)).unwrap() % self.gateways.len();
        if self.dice.percent(60) {
            // A tool blocks the loop.
            self.gateways[victim].held_until = self.monotonic + self.dice.between(1_000, 30_000);
        } else {
            let gateway = &mut self.gateways[victim];
            gateway.life.start_ticks = self.monotonic;
            gateway.asleep_until = 0;
            (gateway.listens, gateway.question) = (false, None);
        }
    }

    /// Returns how long the watcher means to sleep.
    fn planned(&self) -> u64 {
        let now = self.attention.now();
        let look = self.fleet.due().map_or(u64::MAX, |due| due.since(now));
        let questions = self.gateways.iter().filter_map(|gateway| gateway.question.as_ref());
        let given_up = questions.map(|question| question.until.saturating_sub(self.monotonic)).min();
        look.min(given_up.unwrap_or(u64::MAX)).min(10_000)
    }

    /// Lets the time pass in which the watcher sleeps. An answer wakes it, but not if it is late.
    fn sleep(&mut self, planned: u64, late: u64) {
        let mut left = planned;
        while left > 0 && !self.gateways.iter().any(Gateway::is_answered) {
            let step = left.min(1000);
            self.pass(step);
            left -= step;
        }
        (0..late / 1000).for_each(|_| self.pass(1000));
        self.pass(late % 1000);
    }

    /// Sleeps until there is something to do, and does it.
    fn wake(&mut self) {
        let planned = self.planned();
        let late = match self.state {
            MachineState::Starved(share) => self.dice.between(0, 300_u64.saturating_sub(share * 5) * 20 + 1),
            _ => self.dice.between(0, 40),
        };
        self.sleep(planned, late);
        self.disturb();
        let at = ClockReading { monotonic_ms: self.monotonic, boottime_ms: self.monotonic + self.suspended };
        let wake = self.attention.wake(at, planned);
        let mut out = Vec::new();
        if wake.lapse {
            self.gateways.iter_mut().for_each(|gateway| gateway.question = None);
            self.fleet.lapse(wake.now);
        }
        for index in 0..self.gateways.len() {
            let gateway = &self.gateways[index];
            self.fleet.follow(&gateway.name, gateway.life, settings(), true, wake.now, &mut out);
            self.take_answer(index, wake.now, &mut out);
            self.look(index, wake.now, &mut out);
        }
        self.fleet.decide(wake.now, &mut out);
        for effect in out {
            match effect {
                LiveEffect::Collect(name) => self.restarts.push((self.monotonic, name)),
                LiveEffect::Machine { .. } => self.machine += 1,
                _ => {}
            }
        }
    }

    /// Handles the answer to a question, or that none came in time.
    fn take_answer(&mut self, index: usize, now: Attended, out: &mut Vec<LiveEffect>) {
        let over = |question: &mut Question| question.is_answered || self.monotonic >= question.until;
        let Some(question) = self.gateways[index].question.take_if(over) else { return };
        if question.is_answered {
            self.answers.0 += 1;
            self.found(index, LiveFinding::Alive(EvidenceKind::Http), now, out);
        } else {
            self.answers.1 += 1;
            let beat = (EvidenceKind::Heartbeat, Some(self.age(index, now)));
            self.found(index, self.missing(index, EvidenceKind::Http).unanswered(&[beat]), now, out);
        }
    }

    fn look(&mut self, index: usize, now: Attended, out: &mut Vec<LiveEffect>) {
        let gateway = &self.gateways[index];
        let service = self.fleet.service(&gateway.name).unwrap();
        if gateway.question.is_some() || service.due() > now {
            return;
        }
        let age = self.age(index, now);
        let gateway = &mut self.gateways[index];
        let finding = match age {
            BeatAge::Fresh => LiveFinding::Alive(EvidenceKind::Heartbeat),
            // Nobody blames it, but the server may show that it works.
            BeatAge::Early if !gateway.serves => LiveFinding::Early,
            _ if gateway.listens && gateway.serves => {
                let until = self.monotonic + ANSWER;
                gateway.question = Some(Question { until, work_ms: 0, is_answered: false });
                return self.fleet.ask(&gateway.name, now);
            }
            // The connection is refused, if it has a server.
            _ => self.missing(index, EvidenceKind::Heartbeat),
        };
        self.found(index, finding, now, out);
    }

    fn age(&mut self, index: usize, now: Attended) -> BeatAge {
        let gateway = &self.gateways[index];
        let service = self.fleet.service_mut(&gateway.name).unwrap();
        service.beat.seen(gateway.written, true, now);
        service.beat.age_of(MAX_AGE, now)
    }

    fn missing(&self, index: usize, kind: EvidenceKind) -> LiveFinding {
        let tells = self.gateways[index].tells;
        let hindered = match self.state {
            MachineState::Starved(share) if share < 75 && tells => Some(Hindrance::Processor),
            MachineState::DiskStalls if tells => Some(Hindrance::Disk),
            _ => None,
        };
        LiveFinding::Missing { kind, why: String::new(), hindered, stopped: false }
    }

    fn found(&mut self, index: usize, finding: LiveFinding, now: Attended, out: &mut Vec<LiveEffect>) {
        let said = SupervisorSays { wanted: true, ready: false };
        self.fleet.look(&self.gateways[index].name, now, said, finding, out);
    }
}

#[test]
fn in_five_hundred_gateway_hours_of_busyness_nothing_is_ended_that_works() {
    let (mut machine, mut answers) = (0, (0, 0));
    for seed in 1..=10 {
        let mut world = World::new(seed * 7_919, 10);
        while world.monotonic < 5 * HOUR {
            world.wake();
        }
        assert_eq!(world.restarts, [], "seed {seed}");
        machine += world.machine;
        answers = (answers.0 + world.answers.0, answers.1 + world.answers.1);
    }
    assert!(machine > 0, "the machine was to blame now and then, or this shows nothing");
    assert!(answers.0 > 50 && answers.1 > 1_000, "questions are answered and given up: {answers:?}");
}

#[test]
fn a_gateway_that_is_alone_on_its_machine_is_not_ended_for_the_machine_s_busyness() {
    for seed in 1..=20 {
        let mut world = World::new(seed * 104_729, 1);
        // No other gateway's silence tells that the machine is busy, so the kernel must.
        world.gateways[0].tells = true;
        world.gateways[0].serves = seed.is_multiple_of(2);
        while world.monotonic < 10 * HOUR {
            world.wake();
        }
        assert_eq!(world.restarts, [], "seed {seed}");
    }
}

#[test]
fn a_tool_that_blocks_the_loop_after_the_disk_has_stalled_is_no_reason_to_end_a_gateway() {
    for serves in [false, true] {
        let mut world = World::new(1, 1);
        (world.gateways[0].tells, world.gateways[0].serves) = (true, serves);
        world.until = u64::MAX;
        while world.monotonic < 300_000 {
            world.wake();
        }
        world.state = MachineState::DiskStalls;
        while world.monotonic < 600_000 {
            world.wake();
        }
        world.state = MachineState::Calm;
        // The tool has nearly the time of the misses, which begins after the stall.
        world.gateways[0].held_until = world.monotonic + 40_000;
        while world.monotonic < 900_000 {
            world.wake();
        }
        assert_eq!(world.restarts, [], "it serves: {serves}");
    }
}

#[test]
fn a_disk_that_stalls_ends_no_gateway_although_those_with_a_server_still_answer() {
    for phase in 0..32 {
        let mut world = World::new(phase + 1, 10);
        world.until = u64::MAX;
        // The kernel tells of no gateway what it waits for.
        world.gateways.iter_mut().for_each(|gateway| gateway.tells = false);
        // The first one without a server is the next to beat when the stall begins.
        world.gateways.iter_mut().for_each(|gateway| gateway.asleep_until = 28_000 + phase * 1_000);
        world.gateways[1].asleep_until = phase * 1_000;
        while world.monotonic < 300_000 {
            world.wake();
        }
        world.state = MachineState::DiskStalls;
        while world.monotonic < 600_000 {
            world.wake();
        }
        world.state = MachineState::Calm;
        while world.monotonic < 900_000 {
            world.wake();
        }
        assert_eq!(world.restarts, [], "phase {phase}");
    }
}

#[test]
fn gateways_that_freeze_together_are_found_although_the_others_can_write_no_beats() {
    let mut world = World::new(1, 10);
    world.until = u64::MAX;
    world.gateways.iter_mut().for_each(|gateway| gateway.serves = true);
    while world.monotonic < 300_000 {
        world.wake();
    }
    world.gateways.iter_mut().for_each(|gateway| gateway.writes = false);
    while world.monotonic < 600_000 {
        world.wake();
    }
    assert_eq!(world.restarts, [], "their servers answer");
    let froze = world.monotonic;
    (world.gateways[2].frozen, world.gateways[3].frozen) = (true, true);
    while world.monotonic < froze + 95_000 {
        world.wake();
    }
    let ended: Vec<&str> = world.restarts.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(ended, ["g2", "g3"]);
}

#[test]
fn a_gateway_that_starts_while_the_disk_stalls_has_time_to_show_that_it_works_afterwards() {
    let start_ms = settings().start_deadline_ms;
    for (began, ended) in (0..10).flat_map(|began| (0..5).map(move |ended| (began, ended))) {
        let mut world = World::new(1, 6);
        world.until = u64::MAX;
        let until = |world: &mut World, monotonic| {
            while world.monotonic < monotonic {
                world.wake();
            }
        };
        until(&mut world, 300_000);
        world.state = MachineState::DiskStalls;
        until(&mut world, 500_000);
        world.pass(began * 1_000);
        // It is started anew, and the stall ends just before the time of a start is over.
        let (gateway, at) = (&mut world.gateways[5], world.monotonic);
        (gateway.tells, gateway.life.start_ticks, gateway.asleep_until) = (false, at, 0);
        until(&mut world, at + start_ms - ended * 1_000);
        world.state = MachineState::Calm;
        // Its start goes on for some seconds.
        world.gateways[5].held_until = world.monotonic + 8_000;
        until(&mut world, 900_000);
        assert_eq!(world.restarts, [], "{began} {ended}");
    }
}

#[test]
fn a_frozen_gateway_is_found_within_ninety_seconds_whenever_it_freezes() {
    for second in 0..40 {
        let mut world = World::new(second + 1, 5);
        world.until = u64::MAX;
        while world.monotonic < 300_000 + second * 1_000 {
            world.wake();
        }
        let froze = world.monotonic;
        world.gateways[2].serves = second.is_multiple_of(2);
        world.gateways[2].frozen = true;
        while world.restarts.is_empty() {
            world.wake();
            assert!(world.monotonic < froze + HOUR, "it was never found");
        }
        let (at, name) = &world.restarts[0];
        assert_eq!(name, "g2");
        assert!(at - froze <= 90_000, "found after {} ms", at - froze);
    }
}
