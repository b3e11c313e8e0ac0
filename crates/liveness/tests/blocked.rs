//! A gateway whose event loop is blocked: it beats no more, its API server takes requests and never
//! answers, and it does not obey SIGTERM. With the settings that are shipped, it works again within
//! two minutes, whenever it is blocked.
#![expect(clippy::unwrap_used, reason = "a panic in a test says what is wrong")]

use gatevisor_liveness::{
    Attended, BeatAge, BeatMark, EvidenceKind, Fleet, Life, LiveEffect, LiveFinding, LivePolicy,
    LiveSettings, Liveness, SupervisorSays,
};

/// Milliseconds after which a beat is too old, and between two beats, as in the definition of
/// Hermes.
const MAX_AGE_MS: u64 = 45_000;
const BEAT_MS: u64 = 30_000;
/// Milliseconds after which a question is given up.
const ANSWER_MS: u64 = 5_000;
/// The longest time in milliseconds for collecting the evidence.
const COLLECT_MS: u64 = 10_000;
/// Milliseconds that the next process takes until it works.
const START_MS: u64 = 5_000;
const STEP_MS: u64 = 50;
const NAME: &str = "gateway-coder";
const WANTED: SupervisorSays = SupervisorSays { wanted: true, ready: false };

/// What becomes of a gateway that is blocked, with the moments of what happens in milliseconds.
struct Scene {
    fleet: Fleet,
    blocked: u64,
    /// How often the watcher is away for a moment.
    lapses_every: Option<u64>,
    asked: Option<u64>,
    collected: Option<u64>,
    looks: Vec<u64>,
    found: Option<u64>,
    killed: Option<u64>,
}

impl Scene {
    /// Lets the time pass until the gateway is killed.
    fn until_killed(blocked_at: u64, first_look: u64, sources: &[EvidenceKind]) -> Self {
        Self::with_lapses(blocked_at, first_look, sources, None)
    }

    fn with_lapses(
        blocked_at: u64,
        first_look: u64,
        sources: &[EvidenceKind],
        lapses_every: Option<u64>,
    ) -> Self {
        let mut one = Self {
            fleet: Fleet::new(2),
            blocked: blocked_at,
            lapses_every,
            asked: None,
            collected: None,
            looks: Vec::new(),
            found: None,
            killed: None,
        };
        let settings = LiveSettings { policy: LivePolicy::Restart, ..LiveSettings::default() };
        let life = Life { pid: 70, start_ticks: 1 };
        let mut now = first_look;
        one.fleet.follow(NAME, life, settings, true, Attended(now), &mut Vec::new());
        while one.killed.is_none() {
            one.wake(now, sources);
            now += STEP_MS;
            assert!(now < blocked_at + 1_500_000, "it is never killed");
        }
        one
    }

    fn wake(&mut self, now: u64, sources: &[EvidenceKind]) {
        let mut out = Vec::new();
        if self.lapses_every.is_some_and(|every| now.is_multiple_of(every)) {
            self.asked = None;
            self.fleet.lapse(Attended(now));
        }
        if self.collected.is_some_and(|at| at <= now) {
            self.collected = None;
            self.fleet.collected(NAME, Attended(now), &mut out);
        }
        if self.asked.is_some_and(|at| now >= at + ANSWER_MS) {
            self.asked = None;
            let ages = [(EvidenceKind::Heartbeat, Some(self.age(now)))];
            let ages = if sources.contains(&EvidenceKind::Heartbeat) { &ages[..] } else { &[] };
            self.found(now, missing(EvidenceKind::Http).unanswered(ages), &mut out);
        }
        let is_due = self.fleet.due().is_some_and(|due| due <= Attended(now));
        if is_due && self.asked.is_none() && self.fleet.service(NAME).unwrap().due() <= Attended(now) {
            self.look(now, sources, &mut out);
        }
        self.fleet.decide(Attended(now), &mut out);
        for effect in out {
            match effect {
                LiveEffect::Collect(_) => self.collected = Some(now + COLLECT_MS),
                LiveEffect::Kill(_) => self.killed = Some(now),
                LiveEffect::Publish(_) | LiveEffect::Terminate(_) | LiveEffect::Machine { .. } => {}
            }
        }
    }

    fn age(&mut self, now: u64) -> BeatAge {
        let beats = now.min(self.blocked) / BEAT_MS;
        let service = self.fleet.service_mut(NAME).unwrap();
        let mark = BeatMark { changed: (0, beats * BEAT_MS), inode: beats, size: 1 };
        service.beat.seen(mark, true, Attended(now));
        service.beat.age_of(MAX_AGE_MS, Attended(now))
    }

    fn look(&mut self, now: u64, sources: &[EvidenceKind], out: &mut Vec<LiveEffect>) {
        self.looks.push(now);
        let age = self.age(now);
        let answers = now < self.blocked;
        let beats = sources.contains(&EvidenceKind::Heartbeat);
        if beats && age == BeatAge::Fresh {
            self.found(now, LiveFinding::Alive(EvidenceKind::Heartbeat), out);
        } else if answers {
            self.found(now, LiveFinding::Alive(EvidenceKind::Http), out);
        } else if sources.contains(&EvidenceKind::Http) {
            self.fleet.ask(NAME, Attended(now));
            self.asked = Some(now);
        } else if beats && age == BeatAge::Early {
            self.found(now, LiveFinding::Early, out);
        } else {
            self.found(now, missing(EvidenceKind::Heartbeat), out);
        }
    }

    fn found(&mut self, now: u64, finding: LiveFinding, out: &mut Vec<LiveEffect>) {
        self.fleet.look(NAME, Attended(now), WANTED, finding, out);
        if self.fleet.service(NAME).unwrap().state() == Liveness::Unresponsive {
            self.found.get_or_insert(now);
        }
    }
}

fn missing(kind: EvidenceKind) -> LiveFinding {
    LiveFinding::Missing { kind, why: String::new(), hindered: None, stopped: false }
}

#[test]
fn a_gateway_whose_loop_is_blocked_works_again_within_two_minutes_whatever_its_sources_are() {
    let both = [EvidenceKind::Heartbeat, EvidenceKind::Http];
    for sources in [&both[..], &both[..1], &both[1..]] {
        for second in (0..40).step_by(3) {
            for first_look in [0, 3_300, 6_700] {
                let blocked_at = 60_000 + second * 1_000;
                let one = Scene::until_killed(blocked_at, first_look, sources);
                let found = one.found.unwrap() - blocked_at;
                assert!(found <= 95_000, "{sources:?} {second}: found after {found} ms");
                let works = one.killed.unwrap() + START_MS - blocked_at;
                assert!(works <= 120_000, "{sources:?} {second}: it works again after {works} ms");
            }
        }
    }
}

#[test]
fn a_watcher_that_is_away_for_a_moment_again_and_again_finds_it_nevertheless() {
    let both = [EvidenceKind::Heartbeat, EvidenceKind::Http];
    for sources in [&both[..], &both[..1], &both[1..]] {
        // One that is away all the time sees the last beat late, and that is a sign of life.
        for (lapses_every, limit) in
            [(8_000, 1_300_000), (30_000, 780_000), (60_000, 780_000), (75_000, 780_000), (90_000, 780_000)]
        {
            let one = Scene::with_lapses(61_000, 0, sources, Some(lapses_every));
            let found = one.found.unwrap() - 61_000;
            assert!(found <= limit, "{sources:?} {lapses_every}: found after {found} ms");
        }
    }
}

#[test]
fn the_time_between_two_looks_does_not_depend_on_how_long_an_answer_takes() {
    let one = Scene::until_killed(300_000, 0, &[EvidenceKind::Http]);
    assert!(one.looks.is_sorted_by_key(|at| *at));
    for pair in one.looks.windows(2) {
        let &[before, after] = pair else { panic!("two looks") };
        assert_eq!(after - before, 10_000, "after the look at {before}");
    }
}

#[test]
fn nothing_is_due_while_a_gateway_is_being_asked_and_an_answer_later_than_the_interval_ends_the_wait() {
    let mut fleet = Fleet::new(2);
    let (life, mut out) = (Life { pid: 70, start_ticks: 1 }, Vec::new());
    fleet.follow(NAME, life, LiveSettings::default(), true, Attended(0), &mut out);
    fleet.ask(NAME, Attended(0));
    assert_eq!(fleet.due(), None, "or the watcher would not sleep until the answer");
    // The second question of the same look.
    fleet.ask(NAME, Attended(5_000));
    fleet.look(NAME, Attended(12_000), WANTED, missing(EvidenceKind::Tcp), &mut out);
    assert_eq!(fleet.due(), Some(Attended(12_000)));
    fleet.ask(NAME, Attended(12_000));
    fleet.lapse(Attended(60_000));
    assert_eq!(fleet.due(), Some(Attended(70_000)), "the answer does not come any more");
    fleet.look(NAME, Attended(71_000), WANTED, missing(EvidenceKind::Tcp), &mut out);
    assert!(fleet.due() > Some(Attended(71_000)));
}

#[test]
fn a_gateway_that_was_out_of_sight_for_a_while_is_looked_at_again() {
    let mut fleet = Fleet::new(2);
    let (life, mut out) = (Life { pid: 70, start_ticks: 1 }, Vec::new());
    fleet.follow(NAME, life, LiveSettings::default(), true, Attended(0), &mut out);
    fleet.gone(NAME);
    assert_eq!(fleet.due(), None);
    fleet.follow(NAME, life, LiveSettings::default(), true, Attended(20_000), &mut out);
    assert_eq!(fleet.due(), Some(Attended(30_000)), "after an interval, as after a pause");
}
