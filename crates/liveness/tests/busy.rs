//! Busyness that lasts for hundreds of gateway-hours, on a machine that is simulated: not one false
//! restart, and one that is really frozen is still found.
//!
//! Each gateway sleeps for 30 seconds, works while it gets a processor, and beats. The machine has
//! too little processor time, stalls its disk, is suspended, has its clock set, or freezes the
//! watcher or everything. A gateway blocks its own loop for a while, and is started anew.
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
        }
    }

    /// Lets the gateways run for this long.
    fn pass(&mut self, ms: u64) {
        self.monotonic += ms;
        let wall = i64::try_from((self.monotonic + self.suspended) / 1000).unwrap() + self.wall_offset;
        for gateway in &mut self.gateways {
            if gateway.frozen || gateway.held_until > self.monotonic {
                continue;
            }
            if gateway.asleep_until > self.monotonic {
                continue;
            }
            let share = if let MachineState::Starved(share) = self.state { share } else { 100 };
            gateway.work_ms += ms * share / 100;
            if gateway.work_ms >= WORK && self.state != MachineState::DiskStalls {
                gateway.work_ms = 0;
                gateway.asleep_until = self.monotonic + 30_000;
                gateway.written.changed = (wall, self.monotonic);
                gateway.written.inode += 1;
            }
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
        }
    }

    /// Sleeps until there is something to do, and does it.
    fn wake(&mut self) {
        let planned = self.fleet.due().map_or(0, |due| due.since(self.attention.now())).min(10_000);
        let late = match self.state {
            MachineState::Starved(share) => self.dice.between(0, 300_u64.saturating_sub(share * 5) * 20 + 1),
            _ => self.dice.between(0, 40),
        };
        for _ in 0..(planned + late) / 1000 {
            self.pass(1000);
        }
        self.pass((planned + late) % 1000);
        self.disturb();
        let at = ClockReading { monotonic_ms: self.monotonic, boottime_ms: self.monotonic + self.suspended };
        let wake = self.attention.wake(at, planned);
        let mut out = Vec::new();
        if wake.lapse {
            self.fleet.lapse(wake.now);
        }
        for index in 0..self.gateways.len() {
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

    fn look(&mut self, index: usize, now: Attended, out: &mut Vec<LiveEffect>) {
        let gateway = &self.gateways[index];
        self.fleet.follow(&gateway.name, gateway.life, settings(), true, now, out);
        let service = self.fleet.service_mut(&gateway.name).unwrap();
        if service.due() > now {
            return;
        }
        service.beat.seen(gateway.written, true, now);
        let age = service.beat.age_of(MAX_AGE, now);
        let hindered = match self.state {
            MachineState::Starved(share) if share < 75 && gateway.tells => Some(Hindrance::Processor),
            MachineState::DiskStalls if gateway.tells => Some(Hindrance::Disk),
            _ => None,
        };
        let finding = match age {
            BeatAge::Fresh => LiveFinding::Alive(EvidenceKind::Heartbeat),
            BeatAge::Early => LiveFinding::Early,
            BeatAge::None | BeatAge::Old(_) => LiveFinding::Missing {
                kind: EvidenceKind::Heartbeat,
                why: String::new(),
                hindered,
                stopped: false,
            },
        };
        let said = SupervisorSays { wanted: true, ready: false };
        self.fleet.look(&gateway.name, now, said, finding, out);
    }
}

#[test]
fn in_five_hundred_gateway_hours_of_busyness_nothing_is_ended_that_works() {
    let mut machine = 0;
    for seed in 1..=10 {
        let mut world = World::new(seed * 7_919, 10);
        while world.monotonic < 5 * HOUR {
            world.wake();
        }
        assert_eq!(world.restarts, [], "seed {seed}");
        machine += world.machine;
    }
    assert!(machine > 0, "the machine was to blame now and then, or this shows nothing");
}

#[test]
fn a_gateway_that_is_alone_on_its_machine_is_not_ended_for_the_machine_s_busyness() {
    for seed in 1..=10 {
        let mut world = World::new(seed * 104_729, 1);
        // No other gateway's silence tells that the machine is busy, so the kernel must.
        world.gateways[0].tells = true;
        while world.monotonic < 10 * HOUR {
            world.wake();
        }
        assert_eq!(world.restarts, [], "seed {seed}");
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
