//! Random lives: the same sequence of steps must look the same on s6 and on us.
//!
//! A small model of s6-supervise chooses steps that make sense, and says which events and which
//! status follow. Both supervisors must match the model, and so each other. At the end, what ran,
//! the tally and the `down` file are compared. A step waits for its events and its status, never
//! for time. `make differential N=…` runs any number of lives.
//!
//! A sequence that fails is shrunk and becomes a file in `lives/`. From then on, it is tried first.

mod kept;
mod life;
mod model;
mod shrink;

use std::time::{SystemTime, UNIX_EPOCH};

use model::{ALL, FINISHES, Model};

/// The default number of sequences of each test below.
const SEQUENCES: u32 = 250;
/// Steps of a sequence.
const STEPS: usize = 14;

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

fn random_sequence(seed: u64) -> Vec<String> {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..8 {
        dice.below(2);
    }
    let finish = FINISHES[dice.below(FINISHES.len())];
    let mut sequence = vec![finish.to_owned()];
    let mut model = Model::new(finish);
    while sequence.len() <= STEPS {
        // Half of all lives begin in the usual way. The request to be up is as frequent as all
        // deaths together.
        let step = if dice.below(3) == 0 { "u" } else { ALL[dice.below(ALL.len())] };
        if model.step(step).is_some() {
            sequence.push(step.to_owned());
        }
    }
    sequence
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is a number, not `{value}`")))
}

/// Runs this number of sequences. The same seed gives the same sequences.
#[expect(clippy::print_stdout, reason = "what is shown of a test that failed")]
fn check(seed: u64, count: u64) {
    println!("{count} sequences; again: make differential N={count} SEED={seed}");
    kept::check((0..count).map(|n| random_sequence((seed << 20) + n)).collect());
}

macro_rules! fixed_seeds {
    ($($name:ident $seed:literal)+) => { $(
        #[test]
        fn $name() {
            check($seed, SEQUENCES.into());
        }
    )+ };
}

// Several tests, so that none needs much of a test's time limit.
fixed_seeds! {
    random_lives_of_seed_1_look_the_same_on_s6_and_on_us 1
    random_lives_of_seed_2_look_the_same_on_s6_and_on_us 2
    random_lives_of_seed_3_look_the_same_on_s6_and_on_us 3
    random_lives_of_seed_4_look_the_same_on_s6_and_on_us 4
    random_lives_of_seed_5_look_the_same_on_s6_and_on_us 5
    random_lives_of_seed_6_look_the_same_on_s6_and_on_us 6
    random_lives_of_seed_7_look_the_same_on_s6_and_on_us 7
    random_lives_of_seed_8_look_the_same_on_s6_and_on_us 8
}

/// Runs other sequences every day, or as many as `make differential` asks for.
#[test]
fn random_lives_of_this_day_look_the_same_on_s6_and_on_us() {
    let count = number("GATEVISOR_DIFFERENTIAL_SEQUENCES").unwrap_or_else(|| SEQUENCES.into());
    let seed = number("GATEVISOR_DIFFERENTIAL_SEED")
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400);
    check(seed, count);
}

#[test]
fn lives_that_once_differed_look_the_same() {
    kept::check(kept::all());
}
