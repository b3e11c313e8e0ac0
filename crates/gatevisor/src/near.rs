//! A command line that means nothing, and what was probably meant.
//!
//! *Lives here:* the words of other programs of this kind, and which of the parser's own guesses are near enough.
//! *Does not live here:* the command line (`args`).

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue};

/// Verbs that other programs have, and ours for the same.
const VERBS: [(&[&str], &str); 15] = [
    (&["start"], "gateway start"),
    (&["stop", "kill"], "gateway stop"),
    (&["restart"], "gateway restart"),
    (&["register", "enable", "add"], "gateway register"),
    (&["unregister", "disable"], "gateway unregister"),
    (&["create", "new"], "profile create"),
    (&["delete", "remove", "rm"], "profile delete"),
    (&["ls", "list", "ps"], "status"),
    (&["monit", "monitor", "top", "watch"], "status --watch"),
    (&["log", "tail", "journal"], "logs -f"),
    (&["health", "check", "diagnose"], "doctor"),
    (&["why", "describe", "reason"], "explain"),
    (&["run", "serve", "daemon"], "up"),
    (&["down", "shutdown", "halt"], "gateway stop --all"),
    (&["help"], "--help"),
];

/// Options that other programs have, and ours for the same.
const OPTIONS: [(&[&str], &str); 4] = [
    (&["--tail", "--num", "--nlines"], "-n"),
    (&["--filter", "--search"], "--grep"),
    (&["--after", "--from"], "--since"),
    (&["--before", "--to"], "--until"),
];

/// Returns the parser's complaint with what was probably meant, and without guesses that are far from it.
pub fn explained(mut error: clap::Error) -> clap::Error {
    escape(&mut error);
    let (word, guesses, table) = match word(&error) {
        Some((word, ContextKind::InvalidSubcommand)) => (word, ContextKind::SuggestedSubcommand, &VERBS[..]),
        Some((word, _)) => (word, ContextKind::SuggestedArg, &OPTIONS[..]),
        None => return error,
    };
    let near: Vec<String> =
        guessed(&error, guesses).into_iter().filter(|guess| is_near(&word, guess)).collect();
    error.remove(guesses);
    // That it could be a value after `--` leads astray: no name of ours begins with a dash.
    error.remove(ContextKind::Suggested);
    let meant = table.iter().find(|(words, _)| words.contains(&&*word)).map(|(_, ours)| *ours);
    if let Some(ours) = meant {
        let tip = StyledStr::from(format!("it is called `{ours}` here"));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    } else if let Some(guess) = near.into_iter().next() {
        error.insert(guesses, ContextValue::String(guess));
    }
    error
}

/// Makes control characters of the words that are complained of visible.
fn escape(error: &mut clap::Error) {
    let kinds = [
        ContextKind::InvalidSubcommand,
        ContextKind::InvalidArg,
        ContextKind::InvalidValue,
        ContextKind::SuggestedValue,
        ContextKind::Suggested,
    ];
    for kind in kinds {
        let Some(ContextValue::String(word)) = error.get(kind) else { continue };
        let visible: String = word
            .chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
            .collect();
        error.insert(kind, ContextValue::String(visible));
    }
}

/// Returns the word that is no verb or no option, and which of these it was to be.
fn word(error: &clap::Error) -> Option<(String, ContextKind)> {
    [ContextKind::InvalidSubcommand, ContextKind::InvalidArg].into_iter().find_map(|kind| {
        match error.get(kind) {
            // Of a known option the complaint is about something else.
            Some(ContextValue::String(word)) if is_unknown(error) => Some((word.clone(), kind)),
            _ => None,
        }
    })
}

fn is_unknown(error: &clap::Error) -> bool {
    use clap::error::ErrorKind::{InvalidSubcommand, UnknownArgument};
    matches!(error.kind(), InvalidSubcommand | UnknownArgument)
}

fn guessed(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(guess)) => vec![guess.clone()],
        Some(ContextValue::Strings(guesses)) => guesses.clone(),
        _ => Vec::new(),
    }
}

/// Returns whether one word is the other one mistyped: one slip in a short word, two in a longer one.
pub fn is_near(word: &str, guess: &str) -> bool {
    let slips = if word.trim_start_matches('-').len() < 6 { 1 } else { 2 };
    distance(word.as_bytes(), guess.as_bytes()) <= slips
}

/// Returns the number of letters that are to be added, left out, changed or swapped with their neighbour.
///
/// **Source:** optimal string alignment distance.
fn distance(one: &[u8], two: &[u8]) -> usize {
    let mut rows: Vec<Vec<usize>> = vec![(0..=two.len()).collect()];
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i.saturating_add(1)];
        for (j, b) in two.iter().enumerate() {
            let at = |up: usize, left: usize| {
                let line = (i + 1).checked_sub(up).and_then(|index| rows.get(index));
                line.and_then(|line| line.get((j + 1).checked_sub(left)?)).copied()
            };
            let change = at(1, 1).map(|cost| cost + usize::from(a != b));
            let add = at(1, 0).map(|cost| cost + 1);
            let leave_out = row.last().map(|cost| cost + 1);
            let is_swapped = i > 0 && j > 0 && one.get(i - 1) == Some(b) && two.get(j - 1) == Some(a);
            let swap = at(2, 2).filter(|_| is_swapped).map(|cost| cost + 1);
            row.push([change, add, leave_out, swap].into_iter().flatten().min().unwrap_or(0));
        }
        rows.push(row);
    }
    rows.last().and_then(|row| row.last()).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::Parser;

    /// Returns the tips that a command line gets.
    fn tips(line: &str) -> Vec<String> {
        let words = std::iter::once("gatevisor").chain(line.split(' '));
        let text = explained(Cli::try_parse_from(words).unwrap_err()).to_string();
        text.lines().filter_map(|line| Some(line.trim().strip_prefix("tip: ")?.to_owned())).collect()
    }

    #[test]
    fn a_slip_is_a_letter_too_many_too_few_another_or_two_in_the_wrong_order() {
        for (one, two, slips) in [
            ("status", "status", 0),
            ("statu", "status", 1),
            ("sttaus", "status", 1),
            ("stutis", "status", 2),
            ("monit", "init", 2),
            ("", "up", 2),
        ] {
            assert_eq!(distance(one.as_bytes(), two.as_bytes()), slips, "{one} {two}");
        }
    }

    #[test]
    fn what_other_programs_call_it_leads_to_what_it_is_called_here() {
        assert_eq!(tips("monit"), ["it is called `status --watch` here"]);
        assert_eq!(tips("ls"), ["it is called `status` here"]);
        assert_eq!(tips("help"), ["it is called `--help` here"]);
        assert_eq!(tips("logs coder --tail 5"), ["it is called `-n` here"]);
    }

    #[test]
    fn what_is_not_understood_is_shown_without_control_characters() {
        for line in ["status\r", "\x1b[31mx", "--co\x07lour", "logs --since\r=1", "completions kl\x1bingon"] {
            let words = std::iter::once("gatevisor").chain(line.split(' '));
            let text = explained(Cli::try_parse_from(words).unwrap_err()).to_string();
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        }
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        assert_eq!(tips("statsu"), ["a similar subcommand exists: 'status'"]);
        assert_eq!(tips("gateway strat"), ["a similar subcommand exists: 'start'"]);
        assert_eq!(tips("fly"), Vec::<String>::new());
        assert_eq!(tips("inito"), ["a similar subcommand exists: 'init'"]);
        assert_eq!(tips("logs --folow"), ["a similar argument exists: '--follow'"]);
        assert_eq!(tips("status --wide"), Vec::<String>::new());
    }
}
