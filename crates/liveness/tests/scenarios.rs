//! What the watcher makes of what it finds, with time as a column.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic in a test says what is wrong")]

use gatevisor_liveness::{
    Attended, EvidenceKind, Fleet, Hindrance, Life, LiveEffect, LiveFinding, LivePolicy, LiveSettings,
    Liveness, SupervisorSays,
};

const SETTINGS: LiveSettings = LiveSettings {
    policy: LivePolicy::Restart,
    start_deadline_ms: 60_000,
    interval_ms: 10_000,
    misses: 3,
    grace_ms: 10_000,
};

const WANTED: SupervisorSays = SupervisorSays { wanted: true, ready: false };

struct Scene {
    fleet: Fleet,
    settings: LiveSettings,
    proven: bool,
}

impl Scene {
    fn new() -> Self {
        Self { fleet: Fleet::new(2), settings: SETTINGS, proven: false }
    }

    fn with(settings: LiveSettings) -> Self {
        Self { settings, ..Self::new() }
    }

    /// Each line: seconds, what happens to whom, and after `=>` what follows.
    fn check(&mut self, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (left, expected) = line.split_once("=>").unwrap_or((line, ""));
            let words: Vec<&str> = left.split_whitespace().collect();
            let (seconds, words) = words.split_first().unwrap();
            let now = Attended(seconds.parse::<u64>().unwrap() * 1000);
            let mut out = Vec::new();
            for name in words[0].split(',') {
                self.happen(now, name, words[1], words.get(2).copied(), &mut out);
            }
            self.fleet.decide(now, &mut out);
            let said: Vec<String> = out.iter().map(|effect| self.said(effect)).collect();
            assert_eq!(said.join(", "), expected.trim(), "{line}");
        }
    }

    fn happen(
        &mut self,
        now: Attended,
        name: &str,
        what: &str,
        more: Option<&str>,
        out: &mut Vec<LiveEffect>,
    ) {
        let missing = |hindered, stopped| LiveFinding::Missing {
            kind: EvidenceKind::Heartbeat,
            why: "old".into(),
            hindered,
            stopped,
        };
        let finding = match what {
            "up" => {
                let life = Life { pid: more.unwrap().parse().unwrap(), start_ticks: now.0 };
                return self.fleet.follow(name, life, self.settings, self.proven, now, out);
            }
            "gone" => return self.fleet.gone(name),
            "lapse" => return self.fleet.lapse(now),
            "collected" => return self.fleet.collected(name, now, out),
            "turn" => return,
            "alive" => LiveFinding::Alive(EvidenceKind::Heartbeat),
            "degraded" => LiveFinding::Degraded(EvidenceKind::Http, "no model".into()),
            "miss" => missing(None, false),
            "stopped" => missing(None, true),
            "disk" => missing(Some(Hindrance::Disk), false),
            "starved" => missing(Some(Hindrance::Processor), false),
            "paused" => LiveFinding::Paused,
            "traced" => LiveFinding::Traced,
            "nothing" => LiveFinding::Nothing,
            other => panic!("{other}"),
        };
        let said = SupervisorSays { wanted: more != Some("unwanted"), ready: more == Some("ready") };
        self.fleet.look(name, now, said, finding, out);
    }

    fn said(&self, effect: &LiveEffect) -> String {
        match effect {
            LiveEffect::Publish(name) => {
                let service = self.fleet.service(name).unwrap();
                match (service.state(), service.misses()) {
                    (state, 0) => format!("{name} {}", state.word()),
                    (state, misses) => format!("{name} {}/{misses}", state.word()),
                }
            }
            LiveEffect::Collect(name) => format!("collect {name}"),
            LiveEffect::Terminate(name) => format!("term {name}"),
            LiveEffect::Kill(name) => format!("kill {name}"),
            LiveEffect::Machine { missing, followed } => format!("machine {missing} of {followed}"),
        }
    }
}

fn check(lines: &str) {
    Scene::new().check(lines);
}

#[test]
fn a_gateway_that_falls_silent_is_unresponsive_after_its_misses_and_ended_after_evidence() {
    check(
        "  0 a up 70     => a starting
           5 a alive     => a live
          15 a miss      => a live/1
          25 a miss      => a live/2
          35 a miss      => a unresponsive/3, collect a
          36 a collected => term a
          45 a turn
          46 a turn      => kill a
          47 a gone
          48 a up 71     => a starting
          52 a alive     => a live",
    );
}

#[test]
fn a_gateway_that_ends_when_it_is_asked_to_is_not_killed() {
    check(
        "  0 a up 70     => a starting
           5 a alive     => a live
          15 a miss      => a live/1
          25 a miss      => a live/2
          35 a miss      => a unresponsive/3, collect a
          36 a collected => term a
          40 a gone
          41 a up 71     => a starting
          60 a turn",
    );
}

#[test]
fn one_answer_in_time_forgets_all_misses() {
    check(
        "  0 a up 70 => a starting
           5 a alive => a live
          15 a miss  => a live/1
          25 a miss  => a live/2
          35 a alive => a live
          45 a miss  => a live/1",
    );
}

#[test]
fn a_gateway_that_works_again_while_evidence_is_collected_is_left_alone() {
    check(
        "  0 a up 70     => a starting
           5 a alive     => a live
          15 a miss      => a live/1
          25 a miss      => a live/2
          35 a miss      => a unresponsive/3, collect a
          40 a alive     => a live
          41 a collected
          90 a turn",
    );
}

#[test]
fn a_gateway_that_shows_nothing_by_its_start_deadline_is_unresponsive_and_not_ended_if_none_ever_worked() {
    let mut scene = Scene::new();
    scene.check(
        "   0 a up 70 => a starting
           30 a miss
           50 a miss
           60 a miss  => a unresponsive/3
          600 a miss  => a unresponsive/4
          700 a gone
          701 a up 71 => a starting
          800 a miss  => a starting/1
          810 a miss  => a starting/2
          820 a miss  => a unresponsive/3",
    );
    assert!(scene.fleet.service("a").unwrap().is_left_alone());
    scene.check("830 a alive => a live");
    assert!(!scene.fleet.service("a").unwrap().is_left_alone());
}

#[test]
fn a_gateway_that_was_ready_and_shows_nothing_afterwards_is_unresponsive_after_its_misses() {
    check(
        "  0 a up 70       => a starting
           5 a miss ready  => a starting/1
          15 a miss        => a starting/2
          25 a miss        => a unresponsive/3, collect a
          26 a collected   => term a
          27 a gone
          28 a up 71       => a starting
          38 a miss
          48 a stopped ready => a starting/1
          58 a stopped ready => a starting/2
          68 a stopped ready => a unresponsive/3, collect a",
    );
}

#[test]
fn a_gateway_that_was_ready_is_not_looked_at_more_often_than_others_that_work() {
    let mut scene = Scene::new();
    scene.check("0 a up 70 => a starting\n 5 a miss ready => a starting/1");
    assert_eq!(scene.fleet.service("a").unwrap().due(), Attended(15_000));
}

#[test]
fn gateways_none_of_which_ever_worked_do_not_make_the_machine_blamed() {
    check(
        "  0 a,b,c up 70 => a starting, b starting, c starting
           5 c alive     => c live
          60 a,b miss    => a starting/1, b starting/1
          70 a,b miss    => a starting/2, b starting/2
          71 c miss      => c live/1
          80 a,b miss    => a unresponsive/3, b unresponsive/3
          81 c miss      => c live/2
          91 c miss      => c unresponsive/3, collect c",
    );
}

#[test]
fn a_gateway_that_showed_evidence_in_an_earlier_life_must_do_so_by_its_start_deadline() {
    let mut scene = Scene { proven: true, ..Scene::new() };
    scene.check(
        "  0 a up 70 => a starting
          30 a miss
          50 a miss
          60 a miss  => a unresponsive/3, collect a",
    );
}

#[test]
fn a_start_that_shows_nothing_is_unresponsive_since_its_deadline_and_a_stopped_one_since_its_first_miss() {
    let since = |scene: &Scene| scene.fleet.service("a").unwrap().since();
    let mut scene = Scene::new();
    scene.check("0 a up 70 => a starting\n 1 a miss\n 50 a miss\n 61 a miss => a unresponsive/3");
    assert_eq!(since(&scene), Attended(60_000), "nothing was due before");
    let mut scene = Scene::new();
    scene.check(
        " 0 a up 70   => a starting
         20 a stopped => a starting/1
         30 a stopped => a starting/2
         40 a stopped => a unresponsive/3",
    );
    assert_eq!(since(&scene), Attended(20_000));
}

#[test]
fn the_looks_at_a_start_count_only_since_it_could_have_shown_something() {
    let mut scene = Scene { proven: true, ..Scene::new() };
    scene.check(
        "  0 a up 70 => a starting
           1 a miss
          45 a lapse
          50 a miss
          60 a miss  => a starting/2
          70 a miss  => a unresponsive/3
          80 a miss  => a unresponsive/4, collect a",
    );
}

#[test]
fn a_start_that_ends_in_time_takes_no_misses_along() {
    check(
        "  0 a up 70       => a starting
           1 a miss
          50 a miss
          59 a miss ready  => a starting/1
          69 a miss        => a starting/2
          79 a miss        => a unresponsive/3, collect a",
    );
}

#[test]
fn a_start_that_a_signal_has_stopped_is_not_waited_for_until_its_deadline() {
    let mut scene = Scene { proven: true, ..Scene::new() };
    scene.check(
        "  0 a up 70     => a starting
           1 a miss
          20 a stopped   => a starting/1
          30 a stopped   => a starting/2
          40 a stopped   => a unresponsive/3, collect a
          41 a collected => term a
          42 a gone
          43 a up 71     => a starting
          44 a alive     => a live",
    );
}

#[test]
fn a_start_that_a_signal_has_stopped_is_looked_at_as_often_as_one_whose_misses_count() {
    let mut scene = Scene::new();
    scene.check("0 a up 70 => a starting\n 5 a stopped => a starting/1");
    assert_eq!(scene.fleet.service("a").unwrap().due(), Attended(15_000));
}

#[test]
fn a_start_that_was_stopped_and_goes_on_has_its_full_time() {
    let mut scene = Scene { proven: true, ..Scene::new() };
    scene.check(
        "  0 a up 70     => a starting
          20 a stopped   => a starting/1
          30 a stopped   => a starting/2
          35 a miss      => a starting
          65 a miss
          94 a miss
          95 a miss      => a unresponsive/3, collect a",
    );
}

#[test]
fn a_gateway_that_never_works_again_is_ended_three_times_and_then_left_alone() {
    let mut scene = Scene { proven: true, ..Scene::new() };
    for life in 0..3_u64 {
        let at = |second: u64| life * 200 + second;
        scene.check(&format!(
            "{} a up {} => a starting
             {} a miss  => a starting/1
             {} a miss  => a starting/2
             {} a miss  => a unresponsive/3, collect a
             {} a collected => term a
             {} a gone",
            at(0),
            70 + life,
            at(60),
            at(70),
            at(80),
            at(81),
            at(82)
        ));
    }
    scene.check(
        "600 a up 80 => a starting
         660 a miss  => a starting/1
         670 a miss  => a starting/2
         680 a miss  => a unresponsive/3
         900 a miss  => a unresponsive/4",
    );
    assert!(scene.fleet.service("a").unwrap().is_given_up());
}

#[test]
fn a_gateway_that_reports_that_it_is_degraded_works() {
    check(
        "  0 a up 70    => a starting
           5 a degraded => a degraded
          15 a degraded
          25 a alive    => a live",
    );
}

#[test]
fn a_gateway_without_any_evidence_is_up() {
    check(
        "  0 a up 70   => a starting
           0 a nothing => a up",
    );
}

#[test]
fn a_policy_of_warning_ends_nothing() {
    let mut scene = Scene::with(LiveSettings { policy: LivePolicy::Warn, ..SETTINGS });
    scene.check(
        "  0 a up 70 => a starting
           5 a alive => a live
          15 a miss  => a live/1
          25 a miss  => a live/2
          35 a miss  => a unresponsive/3
          45 a miss  => a unresponsive/4",
    );
}

#[test]
fn a_paused_gateway_is_never_unresponsive_and_gets_its_time_again_afterwards() {
    check(
        "  0 a up 70  => a starting
           5 a alive  => a live
          15 a miss   => a live/1
          25 a paused => a paused
         900 a paused
         910 a miss   => a live
         920 a miss   => a live/1
         930 a alive  => a live",
    );
}

#[test]
fn a_gateway_that_a_debugger_holds_is_traced_and_is_not_ended() {
    check(
        "  0 a up 70  => a starting
           5 a alive  => a live
          15 a miss   => a live/1
          25 a miss   => a live/2
          35 a traced => a traced
         900 a traced
         910 a alive  => a live",
    );
}

#[test]
fn a_debugger_that_comes_after_the_request_to_end_keeps_it_from_being_killed() {
    check(
        "  0 a up 70     => a starting
           5 a alive     => a live
          15 a miss      => a live/1
          25 a miss      => a live/2
          35 a miss      => a unresponsive/3, collect a
          36 a collected => term a
          40 a traced    => a traced
         100 a turn",
    );
}

#[test]
fn a_gateway_that_nobody_wants_up_is_not_ended_because_nobody_would_start_it_again() {
    check(
        "  0 a up 70 => a starting
           5 a alive => a live
          15 a miss  unwanted => a live/1
          25 a miss  unwanted => a live/2
          35 a miss  unwanted => a unresponsive/3
          45 a miss  unwanted => a unresponsive/4",
    );
}

#[test]
fn a_stop_signal_that_nobody_announced_is_no_pause() {
    check(
        "  0 a up 70   => a starting
           5 a alive   => a live
          15 a stopped => a live/1
          25 a stopped => a live/2
          35 a stopped => a unresponsive/3, collect a",
    );
}

#[test]
fn if_more_than_half_are_silent_together_the_machine_is_blamed_and_none_is_ended() {
    check(
        "  0 a,b,c up 70   => a starting, b starting, c starting
           5 a,b,c alive   => a live, b live, c live
          15 a,b miss      => a live/1, b live/1, machine 2 of 3
          15 c alive
          25 a,b miss      => a live/2, b live/2
          35 a,b miss      => a unresponsive/3, b unresponsive/3
         600 a,b miss      => a unresponsive/4, b unresponsive/4
         610 b alive       => b live
         620 a miss        => a unresponsive/5
         630 a miss        => a unresponsive/6, collect a",
    );
}

#[test]
fn if_half_or_less_are_silent_the_machine_is_not_blamed() {
    check(
        "  0 a,b,c,d up 70   => a starting, b starting, c starting, d starting
           5 a,b,c,d alive   => a live, b live, c live, d live
          15 a,b miss        => a live/1, b live/1
          25 a,b miss        => a live/2, b live/2
          35 a,b miss        => a unresponsive/3, b unresponsive/3, collect a, collect b",
    );
}

#[test]
fn a_gateway_that_is_alone_can_be_ended() {
    check(
        "  0 a up 70 => a starting
           5 a alive => a live
          15 a miss  => a live/1
          25 a miss  => a live/2
          35 a miss  => a unresponsive/3, collect a",
    );
}

#[test]
fn gateways_that_a_signal_has_stopped_do_not_make_the_machine_blamed() {
    check(
        "  0 a,b up 70    => a starting, b starting
           5 a,b alive    => a live, b live
          15 a,b stopped  => a live/1, b live/1
          25 a,b stopped  => a live/2, b live/2
          35 a,b stopped  => a unresponsive/3, b unresponsive/3, collect a, collect b",
    );
}

#[test]
fn a_gateway_that_a_signal_has_stopped_is_not_said_to_be_spared_with_those_that_are() {
    let mut scene = Scene::new();
    scene.check(
        "  0 a,b,c up 70  => a starting, b starting, c starting
           5 a,b,c alive  => a live, b live, c live
          15 a,b miss     => a live/1, b live/1, machine 2 of 3
          15 c stopped    => c live/1
          25 a,b miss     => a live/2, b live/2
          25 c stopped    => c live/2
          35 a,b miss     => a unresponsive/3, b unresponsive/3
          35 c stopped    => c unresponsive/3, collect c",
    );
    let why = |name| scene.fleet.why_not_ended(name, Attended(35_000));
    assert_eq!(why("a"), "; so are most others, so it is the machine, and none is ended");
    assert_eq!(why("c"), "");
}

#[test]
fn a_gateway_that_has_been_silent_for_long_does_not_make_the_machine_blamed_for_the_next_one() {
    let mut scene = Scene::with(LiveSettings { policy: LivePolicy::Warn, ..SETTINGS });
    scene.check(
        "  0 a,b up 70 => a starting, b starting
           5 a,b alive => a live, b live
          15 a miss    => a live/1
          25 a miss    => a live/2
          35 a miss    => a unresponsive/3
          95 b miss    => b live/1",
    );
}

#[test]
fn only_so_many_are_ended_and_started_at_a_time_and_the_others_wait() {
    let mut scene = Scene { fleet: Fleet::new(1), ..Scene::new() };
    scene.check(
        "  0 a,b,c,d up 70   => a starting, b starting, c starting, d starting
           5 a,b,c,d alive   => a live, b live, c live, d live
          15 a,b stopped     => a live/1, b live/1
          25 a,b stopped     => a live/2, b live/2
          35 a,b stopped     => a unresponsive/3, b unresponsive/3, collect a",
    );
    assert!(scene.fleet.is_queued("b", Attended(35_000)));
    scene.check(
        " 36 a collected => term a
          37 a gone      => collect b
          38 a up 71     => a starting
          39 a alive     => a live
          40 b collected => term b",
    );
}

#[test]
fn a_gateway_that_waits_for_a_disk_or_a_processor_is_unresponsive_and_not_ended_for_ten_minutes() {
    check(
        "  0 a up 70   => a starting
           5 a alive   => a live
          15 a disk    => a live/1
          25 a starved => a live/2
          35 a starved => a unresponsive/3
         300 a disk    => a unresponsive/4
         614 a disk    => a unresponsive/5
         615 a disk    => a unresponsive/6
         625 a disk    => a unresponsive/7
         635 a disk    => a unresponsive/8, collect a",
    );
}

#[test]
fn a_gateway_is_ended_only_after_as_many_looks_at_which_nothing_hindered_it() {
    check(
        "  0 a up 70   => a starting
           5 a alive   => a live
          15 a miss    => a live/1
          25 a starved => a live/2
          35 a miss    => a unresponsive/3
          45 a starved => a unresponsive/4
          55 a miss    => a unresponsive/5
          65 a miss    => a unresponsive/6
          75 a starved => a unresponsive/7
          85 a miss    => a unresponsive/8
          95 a miss    => a unresponsive/9
         105 a miss    => a unresponsive/10, collect a",
    );
}

#[test]
fn a_start_that_waits_for_a_processor_is_unresponsive_at_its_deadline_and_not_ended() {
    let mut scene = Scene { proven: true, ..Scene::new() };
    scene.check(
        "  0 a up 70   => a starting
          30 a starved
          59 a starved
          60 a starved => a unresponsive/3
         300 a starved => a unresponsive/4
         310 a alive   => a live",
    );
}

#[test]
fn one_that_never_worked_and_waits_for_a_processor_is_unresponsive_too() {
    check(
        "  0 a up 70   => a starting
          30 a starved
          60 a starved => a unresponsive/3
         700 a starved => a unresponsive/4",
    );
}

#[test]
fn the_words_for_one_that_is_hindered_say_by_what_and_that_it_is_not_ended() {
    let mut scene = Scene::new();
    scene.check(
        "  0 a up 70   => a starting
           5 a alive   => a live
          15 a starved => a live/1
          25 a starved => a live/2
          35 a starved => a unresponsive/3",
    );
    let service = scene.fleet.service("a").unwrap();
    assert_eq!(service.reason(), Some("old, but it waits for a contended processor"));
    let why = scene.fleet.why_not_ended("a", Attended(35_000));
    assert_eq!(why, "; while that lasts, it is not ended, for at most ten minutes");
}

#[test]
fn many_that_wait_for_a_processor_together_are_unresponsive_and_the_machine_is_blamed() {
    check(
        "  0 a,b,c up 70   => a starting, b starting, c starting
           5 a,b,c alive   => a live, b live, c live
          15 a,b starved   => a live/1, b live/1, machine 2 of 3
          25 a,b starved   => a live/2, b live/2
          35 a,b starved   => a unresponsive/3, b unresponsive/3
         700 a,b starved   => a unresponsive/4, b unresponsive/4",
    );
}

#[test]
fn findings_while_the_watcher_was_away_do_not_count() {
    check(
        "  0 a up 70 => a starting
           5 a alive => a live
          15 a miss  => a live/1
          25 a miss  => a live/2
          26 a lapse
          36 a miss  => a live/1
          46 a alive => a live",
    );
}

#[test]
fn one_that_was_silent_before_the_watcher_was_away_is_ended_only_if_it_still_is_after_as_many_looks() {
    let mut scene = Scene { fleet: Fleet::new(1), ..Scene::new() };
    scene.settings.policy = LivePolicy::Warn;
    scene.check(
        "  0 a up 70 => a starting
           5 a alive => a live
          15 a miss  => a live/1
          25 a miss  => a live/2
          35 a miss  => a unresponsive/3
          36 a lapse",
    );
    scene.settings.policy = LivePolicy::Restart;
    let life = scene.fleet.service("a").unwrap().life();
    scene.fleet.follow("a", life, scene.settings, false, Attended(36_000), &mut Vec::new());
    scene.check(
        " 46 a miss => a unresponsive/4
          56 a miss => a unresponsive/5
          66 a miss => a unresponsive/6, collect a",
    );
}

#[test]
fn every_state_has_a_word_of_its_own() {
    for state in Liveness::ALL {
        assert_eq!(Liveness::of_word(state.word()), Some(state));
    }
    for policy in LivePolicy::ALL {
        assert_eq!(LivePolicy::of_word(policy.word()), Some(policy));
    }
}

#[test]
fn the_watcher_wakes_when_a_look_or_a_kill_is_due_and_not_for_what_is_gone() {
    let mut scene = Scene::new();
    assert_eq!(scene.fleet.due(), None);
    scene.check("0 a up 70 => a starting\n 5 a alive => a live");
    assert_eq!(scene.fleet.due(), Some(Attended(15_000)));
    scene.check("15 a gone");
    assert_eq!(scene.fleet.due(), None);
}

#[test]
fn a_gateway_that_is_being_started_is_looked_at_each_second_because_others_may_wait_for_it() {
    let mut scene = Scene::new();
    scene.check("0 a up 70 => a starting");
    let starting = LiveFinding::Early;
    scene.fleet.look("a", Attended(0), WANTED, starting, &mut Vec::new());
    assert_eq!(scene.fleet.service("a").unwrap().due(), Attended(1_000));
    // Once its silence counts as a miss, it is looked at as often as usual.
    let late = Attended(SETTINGS.start_deadline_ms);
    scene.fleet.look("a", late, WANTED, LiveFinding::Early, &mut Vec::new());
    assert_eq!(scene.fleet.service("a").unwrap().due(), late.plus(SETTINGS.interval_ms));
}
