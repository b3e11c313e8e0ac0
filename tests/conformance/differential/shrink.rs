//! Leaves out of a failing sequence everything that the failure does not need.
//!
//! *Lives here:* which shorter and simpler sequences are tried, and in which order. *Does not live
//! here:* trying one.

use std::time::Instant;

use super::model::FINISHES;

/// A finish script and steps.
pub type Sequence = Vec<String>;

/// Returns the shortest sequence that was found to fail in the given time, or the given one if
/// nothing can be left out.
///
/// `first_failing` tries candidates and returns the first of them that fails.
pub fn shrunk(
    whole: Sequence,
    until: Instant,
    mut first_failing: impl FnMut(Vec<Sequence>) -> Option<Sequence>,
) -> Sequence {
    let mut least = whole;
    loop {
        // First half of the steps, in the end single steps.
        let mut size = least.len() / 2;
        while size > 0 && Instant::now() < until {
            let without = |at: usize| {
                let mut fewer = least.clone();
                fewer.drain(at..at + size);
                fewer
            };
            match first_failing((1..=least.len() - size).map(without).collect()) {
                Some(fewer) => {
                    least = fewer;
                    size = size.min(least.len() - 1);
                }
                None => size /= 2,
            }
        }
        // With a simpler finish script, more steps may make no sense any more.
        let simpler = FINISHES.iter().take_while(|&&finish| finish != least[0]);
        let with = |finish: &&str| {
            let mut other = vec![(*finish).to_owned()];
            other.extend_from_slice(&least[1..]);
            other
        };
        match first_failing(simpler.map(with).collect()) {
            Some(other) if Instant::now() < until => least = other,
            _ => return least,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Sequence, shrunk};
    use crate::support::soon;

    fn sequence(words: &str) -> Sequence {
        words.split(' ').map(str::to_owned).collect()
    }

    /// Shrinks a sequence. `fails` tells whether a sequence still fails.
    fn check(whole: &str, fails: impl Fn(&Sequence) -> bool, least: &str) {
        let first_failing = |candidates: Vec<Sequence>| candidates.into_iter().find(&fails);
        assert_eq!(shrunk(sequence(whole), soon(), first_failing), sequence(least));
    }

    /// Returns whether the steps of `wanted` are among those of a sequence, in this order.
    fn has(sequence: &Sequence, wanted: &str) -> bool {
        let mut steps = sequence.iter().skip(1);
        wanted.split(' ').all(|step| steps.any(|other| other == step))
    }

    #[test]
    fn only_the_steps_that_matter_are_left() {
        let whole = "gated u d u 2 x finish-0 c d ready u k p c exit-3";
        check(whole, |sequence| has(sequence, "2"), "plain 2");
        check(whole, |sequence| has(sequence, "u x ready exit-3"), "plain u x ready exit-3");
        check(whole, |sequence| has(sequence, "u") && sequence.len() > 4, "plain d ready u exit-3");
        check(whole, |_| true, "plain");
    }

    #[test]
    fn a_finish_script_that_matters_stays() {
        let told = |sequence: &Sequence| sequence[0] != "plain" && has(sequence, "u k");
        check("gated u d ready u k", told, "told u k");
        let gated = |sequence: &Sequence| sequence[0] == "gated" && has(sequence, "finish-1");
        check("gated u k finish-1 u", gated, "gated finish-1");
    }

    #[test]
    fn what_a_simpler_finish_script_makes_needless_is_left_out_too() {
        let fails = |sequence: &Sequence| match &*sequence[0] {
            "gated" => has(sequence, "u k finish-0 d"),
            _ => has(sequence, "u d"),
        };
        check("gated o u k t finish-0 d", fails, "plain u d");
    }

    #[test]
    fn what_fails_only_as_a_whole_stays_whole() {
        let whole = "told u d u d";
        check(whole, |other| *other == sequence(whole), whole);
    }

    #[test]
    fn no_more_is_tried_when_the_time_is_over() {
        let whole = sequence("plain u d u d");
        let over = std::time::Instant::now();
        assert_eq!(shrunk(whole.clone(), over, |_| Some(sequence("plain"))), whole);
    }
}
