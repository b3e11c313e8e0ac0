//! *Lives here:* whether a word is a misspelling of another word.
//!
//! *Does not live here:* which words there are.

/// Returns whether a word is a misspelling of another one: with one mistake in a short word, and up
/// to two in a longer one. A mistake is an additional, a missing or a wrong character, or two
/// characters in the wrong order.
pub fn is_near(word: &str, guess: &str) -> bool {
    let slips = if word.trim_start_matches('-').chars().count() < 6 { 1 } else { 2 };
    strsim::osa_distance(word, guess) <= slips
}

/// Returns the nearest of some words, if any of them is near.
pub fn nearest<'a>(word: &str, guesses: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = guesses.into_iter().filter(|guess| is_near(word, guess));
    near.min_by_key(|guess| strsim::osa_distance(word, guess))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_a_character_too_many_too_few_another_or_two_in_the_wrong_order() {
        for (word, guess, expected) in [
            ("status", "status", true),
            ("statu", "status", true),
            ("sttaus", "status", true),
            ("stutis", "status", true),
            ("statoos", "status", true),
            ("monit", "init", false),
            ("up", "ls", false),
        ] {
            assert_eq!(is_near(word, guess), expected, "{word} {guess}");
        }
        assert_eq!(nearest("comand", ["name", "commands", "command"]), Some("command"));
        assert_eq!(nearest("colour", ["name", "user"]), None);
    }
}
