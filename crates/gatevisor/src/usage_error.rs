//! An invalid command line, and what was probably meant.
//!
//! *Lives here:* the words of similar programs, and which of the parser's own guesses are near
//! enough.
//! *Does not live here:* the command line (`args`).

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue};
use gatevisor_gateways::misspelling::is_near;

/// Verbs of other programs, with ours for the same.
const VERBS: [(&[&str], &str); 16] = [
    (&["kill", "quit"], "stop"),
    (&["launch", "begin", "on"], "start"),
    (&["bounce", "reboot", "respawn"], "restart"),
    (&["register", "enable", "add"], "gateway register"),
    (&["unregister", "disable"], "gateway unregister"),
    (&["create", "new"], "profile create"),
    (&["delete", "remove", "rm", "del"], "profile delete"),
    (&["list", "show", "info", "jlist", "prettylist"], "status"),
    (&["monit", "monitor", "htop", "dash"], "top"),
    (&["watch"], "status --watch"),
    (&["log", "tail", "journal", "journalctl", "maintail", "attach"], "logs -f"),
    (&["check", "diagnose"], "doctor"),
    (&["why", "describe", "reason", "inspect"], "explain"),
    (&["run", "serve", "daemon"], "up"),
    (&["shutdown", "halt", "poweroff"], "down"),
    (&["update", "reread", "daemon-reload"], "reload"),
];

/// Options of other programs, with ours for the same.
const OPTIONS: [(&[&str], &str); 4] = [
    (&["--tail", "--num", "--nlines"], "-n"),
    (&["--filter", "--search"], "--grep"),
    (&["--after", "--from"], "--since"),
    (&["--before", "--to"], "--until"),
];

/// Returns the parser's error with what was probably meant, and without guesses that are far from
/// it.
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
    // The tip that it could be a value after `--` is misleading, because none of our names begins
    // with a dash.
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

/// Makes control characters in the repeated words visible.
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

/// Returns the invalid word, and whether it should be a verb or an option.
fn word(error: &clap::Error) -> Option<(String, ContextKind)> {
    [ContextKind::InvalidSubcommand, ContextKind::InvalidArg].into_iter().find_map(|kind| {
        match error.get(kind) {
            // If the option is known, the error is about something else.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::Parser;

    /// Returns the tips for a command line.
    fn tips(line: &str) -> Vec<String> {
        let words = std::iter::once("gatevisor").chain(line.split(' '));
        let text = explained(Cli::try_parse_from(words).unwrap_err()).to_string();
        text.lines().filter_map(|line| Some(line.trim().strip_prefix("tip: ")?.to_owned())).collect()
    }

    #[test]
    fn what_other_programs_call_it_leads_to_what_it_is_called_here() {
        assert_eq!(tips("monit"), ["it is called `top` here"]);
        assert_eq!(tips("watch"), ["it is called `status --watch` here"]);
        assert_eq!(tips("list"), ["it is called `status` here"]);
        assert_eq!(tips("kill coder"), ["it is called `stop` here"]);
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
        assert_eq!(tips("status --verbose"), Vec::<String>::new());
    }
}
