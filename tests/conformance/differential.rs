//! Random lives: the same sequence of steps on s6 and on us must look the same.
//!
//! A small model of s6-supervise chooses steps that make sense and says which letters and which status follow. Both
//! supervisors must do as it says, so they do the same; what ran, the tally and the `down` file are compared at the
//! end. A step waits for its letters and its status, never for time. `make differential N=…` gives any number.

use std::fmt::Write as _;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gatevisor_client::ScanDir;
use gatevisor_wire::scan::ScanCommand::{NukeGone, Rescan};

use crate::bed::{Bed, Maker, Pairing, until_state};
use crate::support::processes::Held;
use crate::support::service::Service;

/// How many sequences a run has where nothing else is said.
const SEQUENCES: u32 = 400;
/// Lives at one time: most of each is s6's second of rest.
const AT_A_TIME: usize = 96;
/// Steps of a sequence.
const STEPS: usize = 14;
/// How long a failing sequence is tried with fewer steps: each that fails too waits for a letter that never comes.
const SHRINKING: Duration = Duration::from_secs(40);

/// Sequences that once went differently, kept under the name of what they showed.
const KEPT: &[(&str, &str)] = &[
    ("a wish is recorded while supervision ends with the service", "plain U x O u exit-3"),
    ("a wish is recorded while the last finish script runs", "gated U x exit-3 d u d finish-0"),
    ("a service that was never started is not paused", "plain D x O u"),
    ("a pause and a wish end with a kill", "told U p o u k"),
    ("a permanent failure while supervision ends", "gated U x exit-1 u finish-125"),
];

/// Every step there is.
const ALL: [&str; 31] = [
    "u",
    "d",
    "o",
    "O",
    "U",
    "D",
    "Q",
    "x",
    "p",
    "c",
    "k",
    "t",
    "i",
    "h",
    "q",
    "a",
    "1",
    "2",
    "b",
    "r",
    "y",
    "ready",
    "exit-0",
    "exit-3",
    "exit-255",
    "finish-0",
    "finish-1",
    "finish-125",
    "rescan",
    "vanish",
    "down-signal",
];

/// What a service has for a finish script: none, one that tells its arguments, one that waits besides.
const FINISHES: [&str; 3] = ["plain", "told", "gated"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Down,
    Up,
    Finishing,
}

/// What s6-supervise 2.11 does, as far as it can be seen.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of s6's own, and all mixtures occur")]
#[derive(Debug)]
struct Model<'a> {
    finish: &'a str,
    phase: Phase,
    wanted: bool,
    last: bool,
    paused: bool,
    ready: bool,
    down_file: bool,
    down_signal: u8,
    /// How the last life ended, as the status says it.
    after: String,
    /// Lines in the file `ran`.
    ran: usize,
}

impl<'a> Model<'a> {
    fn new(finish: &'a str) -> Self {
        Self {
            finish,
            phase: Phase::Down,
            wanted: false,
            last: false,
            paused: false,
            ready: false,
            down_file: true,
            down_signal: 15,
            after: String::new(),
            ran: 0,
        }
    }

    fn state(&self) -> String {
        let mut words = match self.phase {
            Phase::Down => "down",
            Phase::Up => "up",
            Phase::Finishing => "finishing",
        }
        .to_owned();
        words.push_str(&self.after);
        for (flag, word) in [
            (self.paused, "paused"),
            (self.wanted, "wanted"),
            (self.ready || self.phase == Phase::Down, "ready"),
        ] {
            if flag {
                write!(words, ", {word}").unwrap();
            }
        }
        words
    }

    fn start(&mut self) -> String {
        self.phase = Phase::Up;
        self.ran += 1;
        "u".to_owned()
    }

    fn begin_anew(&mut self) -> String {
        self.last = false;
        self.after = String::new();
        self.wanted = !self.down_file;
        self.phase = Phase::Down;
        if self.wanted { "s".to_owned() + &self.start() } else { "s".to_owned() }
    }

    fn die(&mut self, after: String) -> String {
        self.after = after;
        self.paused = false;
        self.ready = false;
        self.ran += usize::from(self.finish != "plain");
        if self.finish == "gated" {
            self.phase = Phase::Finishing;
            return "d".to_owned();
        }
        "d".to_owned() + &self.finished("D")
    }

    fn killed(&mut self, signal: u8) -> String {
        self.die(format!(" after signal {signal:x}"))
    }

    fn finished(&mut self, letters: &str) -> String {
        self.phase = Phase::Down;
        let next = if self.last {
            "x".to_owned() + &self.begin_anew()
        } else if self.wanted {
            self.start()
        } else {
            String::new()
        };
        letters.to_owned() + &next
    }

    fn wish(&mut self, step: &str) -> String {
        match step {
            "U" => self.down_file = false,
            "D" | "Q" => self.down_file = true,
            _ => {}
        }
        self.wanted = matches!(step, "u" | "U");
        match (self.phase, step) {
            (Phase::Down, "u" | "U" | "o") => self.start(),
            (Phase::Up, "d" | "D") => self.killed(self.down_signal),
            _ => String::new(),
        }
    }

    /// Returns the letters that follow a step, or `None` where it makes no sense now.
    fn step(&mut self, step: &str) -> Option<String> {
        let up = self.phase == Phase::Up;
        let awake = up && !self.paused;
        let signal = match step {
            "h" => 1,
            "i" => 2,
            "q" => 3,
            "b" => 6,
            "k" => 9,
            "1" => 10,
            "2" => 12,
            "a" => 14,
            "t" => 15,
            "r" => self.down_signal,
            _ => 0,
        };
        Some(match step {
            "u" | "d" | "o" | "O" | "U" | "D" | "Q" => self.wish(step),
            "x" if self.phase == Phase::Down => "x".to_owned() + &self.begin_anew(),
            "x" => {
                self.last = true;
                String::new()
            }
            "p" | "c" => {
                self.paused = up && step == "p";
                String::new()
            }
            "k" if up => self.killed(9),
            "h" | "i" | "q" | "b" | "1" | "2" | "a" | "t" | "r" if awake => self.killed(signal),
            _ if signal > 0 && up => return None,
            "ready" if awake && !self.ready => {
                self.ready = true;
                "U".to_owned()
            }
            "exit-0" if awake => self.die(String::new()),
            "exit-3" if awake => self.die(" after 3".to_owned()),
            "exit-255" if awake => self.die(" after 255".to_owned()),
            "finish-0" | "finish-1" if self.phase == Phase::Finishing => self.finished("D"),
            "finish-125" if self.phase == Phase::Finishing => {
                self.wanted = false;
                self.finished("OD")
            }
            "vanish" if self.finish != "gated" && !self.last => {
                let mut letters = String::new();
                if up {
                    self.last = true;
                    letters.push_str("dD");
                    self.paused = false;
                    self.ready = false;
                    self.ran += usize::from(self.finish != "plain");
                }
                letters + "x" + &self.begin_anew()
            }
            "down-signal" => {
                self.down_signal = if self.down_signal == 15 { 10 } else { 15 };
                String::new()
            }
            "y" | "rescan" => String::new(),
            _ if signal > 0 => String::new(),
            _ => return None,
        })
    }
}

/// Both supervisors, each on a scandir of its own.
struct Both([Bed; 2]);

impl Both {
    fn started() -> Self {
        Self([Maker::S6, Maker::Ours].map(|supervisor| Pairing { supervisor, tools: Maker::S6 }.started()))
    }

    /// Ends everything without a check: after a failure nothing is in a state to be ended well.
    fn abandon(self) {
        for bed in self.0 {
            for held in bed.processes().into_iter().filter_map(Held::of) {
                held.kill();
            }
            let _ = fs::remove_dir_all(bed.root());
            std::mem::forget(bed);
        }
    }
}

fn place(bed: &Bed, name: &str, finish: &str) -> Service {
    let run = "echo run \"$*\" >> ran
        while read word < go; do
            case $word in ready) echo >&3 ;; *) exit \"${word#exit-}\" ;; esac
        done";
    let tells = "echo finish \"$1 $2 $3\" >> ran";
    let mut builder = bed.service(name).run(run).gate("go").gate("end").file("notification-fd", "3\n").down();
    builder = builder.file("timeout-finish", "0\n");
    builder = match finish {
        "plain" => builder,
        "told" => builder.finish(tells),
        _ => builder.finish(&format!("{tells}\n[ -p end ] && read code < end; exit $code")),
    };
    let mut service = builder.place();
    service.hear("s");
    service
}

fn scan(bed: &Bed, nuke: bool) {
    let commands = if nuke { &[Rescan, NukeGone][..] } else { &[Rescan] };
    ScanDir::new(bed.scandir()).send(commands).unwrap();
}

/// Performs one step, as `model` has already done.
fn perform(bed: &Bed, service: &mut Service, step: &str, letters: &str, model: &Model<'_>) {
    match step {
        "ready" | "exit-0" | "exit-3" | "exit-255" => service.pass("go", step),
        "finish-0" | "finish-1" | "finish-125" => service.pass("end", &step["finish-".len()..]),
        "rescan" => scan(bed, false),
        "vanish" => {
            let hidden = service.hide();
            scan(bed, true);
            let (before, after) = letters.split_at(letters.find('x').unwrap() + 1);
            service.hear(before);
            fs::rename(hidden, service.dir.path()).unwrap();
            scan(bed, false);
            service.hear(after);
        }
        "down-signal" => {
            let name = if model.down_signal == 10 { "USR1\n" } else { "TERM\n" };
            fs::write(service.path("down-signal"), name).unwrap();
        }
        // The status is written anew for each wish, also for one that changes nothing.
        "u" | "d" | "o" | "O" | "U" | "D" | "Q" => {
            service.send_and_see(step);
        }
        byte => service.send(byte),
    }
    if step != "vanish" {
        service.hear(letters);
    }
    until_state(service, &model.state());
    if model.ran > 0 {
        // A process that is killed before it has told that it runs would leave a line out.
        service.until_lines("ran", model.ran);
    }
}

/// Returns what is left to see of a service when it rests.
fn remains(service: &mut Service) -> (String, String, Vec<(u8, u8)>, bool) {
    let ran = fs::read_to_string(service.path("ran")).unwrap_or_default();
    let tally = fs::read(service.path("supervise/death_tally")).unwrap();
    let tally = tally.chunks(14).map(|death| (death[12], death[13])).collect();
    (service.unheard(), ran, tally, service.path("down").exists())
}

/// Ends a service whatever it does, and removes its directory.
fn remove(bed: &Bed, service: &mut Service) {
    let end = service.path("end");
    let hidden = service.hide();
    service.pass("end", "0");
    fs::remove_file(hidden.join(end.file_name().unwrap())).unwrap();
    scan(bed, true);
    service.hear_until('x');
    fs::remove_dir_all(hidden).unwrap();
}

/// Gives a sequence to both; panics where they differ from the model or from each other.
fn live(both: &Both, sequence: &[&str]) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let (finish, steps) = sequence.split_first().expect("a sequence names its finish script");
    let name = format!("life{number}");
    let mut services = both.0.each_ref().map(|bed| place(bed, &name, finish));
    let mut model = Model::new(finish);
    for step in steps {
        // In a shrunk sequence a step may have lost its sense.
        let Some(letters) = model.step(step) else { continue };
        for (bed, service) in both.0.iter().zip(&mut services) {
            perform(bed, service, step, &letters, &model);
        }
    }
    let [of_s6, of_ours] = services.each_mut().map(remains);
    assert_eq!(of_s6, of_ours, "what is left of s6's and of ours");
    for (bed, service) in both.0.iter().zip(&mut services) {
        remove(bed, service);
    }
}

/// A few random numbers; nothing depends on their quality.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

fn random_sequence(seed: u64) -> Vec<&'static str> {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..8 {
        dice.below(2);
    }
    let finish = FINISHES[dice.below(FINISHES.len())];
    let mut sequence = vec![finish];
    let mut model = Model::new(finish);
    while sequence.len() <= STEPS {
        // Half of all lives begin as most do; the wish to be up is as frequent as all deaths together.
        let step = if dice.below(3) == 0 { "u" } else { ALL[dice.below(ALL.len())] };
        if model.step(step).is_some() {
            sequence.push(step);
        }
    }
    sequence
}

/// Returns the words of a panic.
fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&words| words.to_owned())).unwrap_or_default()
}

/// Leaves steps out as long as the sequence still fails and there is time, and returns it with what it showed.
fn shrunk(mut sequence: Vec<&'static str>, mut why: String) -> String {
    let both = Both::started();
    let until = Instant::now() + SHRINKING;
    let mut size = sequence.len() / 2;
    while size > 0 && Instant::now() < until {
        let mut at = 1;
        while at + size <= sequence.len() && Instant::now() < until {
            let mut fewer = sequence.clone();
            fewer.drain(at..at + size);
            match catch_unwind(AssertUnwindSafe(|| live(&both, &fewer))) {
                Ok(()) => at += size,
                Err(panic) => {
                    why = words_of(&*panic);
                    sequence = fewer;
                }
            }
        }
        size /= 2;
    }
    both.abandon();
    format!("(\"…\", \"{}\"),  // {why}", sequence.join(" "))
}

/// Gives all sequences to both supervisors, many at a time, and returns the first that failed.
fn run(sequences: Vec<Vec<&'static str>>) -> Option<(Vec<&'static str>, String)> {
    let both = Both::started();
    let left = Mutex::new(sequences);
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while failed.lock().unwrap().is_none() {
                    let Some(sequence) = left.lock().unwrap().pop() else { return };
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| live(&both, &sequence))) {
                        failed.lock().unwrap().get_or_insert((sequence, words_of(&*panic)));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    if failed.is_some() {
        both.abandon();
    }
    failed
}

#[test]
fn random_lives_look_the_same_on_s6_and_on_us() {
    let count = std::env::var("GATEVISOR_DIFFERENTIAL_SEQUENCES").ok();
    let count = count.map_or(SEQUENCES, |count| count.parse().expect("a number of sequences"));
    let seed = std::env::var("GATEVISOR_DIFFERENTIAL_SEED").ok();
    let seed: u64 = seed.map_or_else(|| u64::from(std::process::id()), |seed| seed.parse().expect("a seed"));
    println!("{count} sequences from GATEVISOR_DIFFERENTIAL_SEED={seed}");
    let sequences = (0..count).map(|n| random_sequence((seed << 20) + u64::from(n))).collect();
    if let Some((sequence, why)) = run(sequences) {
        println!("`{}` failed: {why}\nleaving out steps…", sequence.join(" "));
        panic!("they differ; keep this, under a name, in `KEPT`:\n    {}", shrunk(sequence, why));
    }
}

#[test]
fn lives_that_once_differed_look_the_same() {
    let sequences = KEPT.iter().map(|(_, words)| words.split(' ').collect()).collect();
    if let Some((sequence, why)) = run(sequences) {
        panic!("`{}` failed: {why}", sequence.join(" "));
    }
}
