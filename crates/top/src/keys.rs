//! *Lives here:* the keys, the meaning of each, and the help about them.
//!
//! *Does not live here:* carrying out what they mean (`view`).

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// A key, as the view knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopKey {
    /// A printable character.
    Char(char),
    /// A character with Ctrl.
    Ctrl(char),
    /// The arrow up.
    Up,
    /// The arrow down.
    Down,
    /// The key that goes up by a page.
    PageUp,
    /// The key that goes down by a page.
    PageDown,
    /// The key that goes to the beginning.
    Home,
    /// The key that goes to the end.
    End,
    /// The key that ends a line.
    Enter,
    /// The key that cancels.
    Escape,
    /// The key that removes the last character.
    Backspace,
    /// The key that goes to the other part of the screen.
    Tab,
}

impl TopKey {
    /// Returns the known keys in an event of a terminal. If another key follows escape at once, a
    /// terminal reports that key with Alt, so such an event counts as both.
    pub fn of(event: &KeyEvent) -> impl Iterator<Item = Self> {
        let is_down = event.kind != KeyEventKind::Release;
        let escape = event.modifiers.contains(KeyModifiers::ALT).then_some(Self::Escape);
        [escape, Self::of_code(event)].into_iter().flatten().filter(move |_| is_down)
    }

    fn of_code(event: &KeyEvent) -> Option<Self> {
        let is_ctrl = event.modifiers.contains(KeyModifiers::CONTROL);
        match event.code {
            KeyCode::Char(character) if is_ctrl => Some(Self::Ctrl(character.to_ascii_lowercase())),
            KeyCode::Char(character) => Some(Self::Char(character)),
            KeyCode::Up => Some(Self::Up),
            KeyCode::Down => Some(Self::Down),
            KeyCode::PageUp => Some(Self::PageUp),
            KeyCode::PageDown => Some(Self::PageDown),
            KeyCode::Home => Some(Self::Home),
            KeyCode::End => Some(Self::End),
            KeyCode::Enter => Some(Self::Enter),
            KeyCode::Esc => Some(Self::Escape),
            KeyCode::Backspace => Some(Self::Backspace),
            KeyCode::Tab => Some(Self::Tab),
            _ => None,
        }
    }
}

/// The meaning of a key while the table or a pane has the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Find,
    NextOrder,
    Reverse,
    Log,
    Explain,
    Incidents,
    Start,
    Stop,
    Restart,
    Drain,
    OtherPart,
    Pause,
    NextFound,
    PreviousFound,
    Back,
    Help,
    Redraw,
    Suspend,
    Quit,
}

/// Some keys, and what they do.
#[derive(Debug, Clone, Copy)]
pub struct KeyHelp {
    /// The names of the keys.
    pub names: &'static str,
    /// What they do.
    pub does: &'static str,
    meanings: &'static [(TopKey, Meaning)],
}

const fn help(names: &'static str, does: &'static str, meanings: &'static [(TopKey, Meaning)]) -> KeyHelp {
    KeyHelp { names, does, meanings }
}

/// All keys, in the order of the help.
pub const KEYS: [KeyHelp; 18] = [
    help(
        "up, down, k, j",
        "select the gateway above or below; in a pane, scroll",
        &[
            (TopKey::Up, Meaning::Up),
            (TopKey::Char('k'), Meaning::Up),
            (TopKey::Down, Meaning::Down),
            (TopKey::Char('j'), Meaning::Down),
        ],
    ),
    help(
        "page up, page down",
        "the same by a page",
        &[(TopKey::PageUp, Meaning::PageUp), (TopKey::PageDown, Meaning::PageDown)],
    ),
    help(
        "home, end, g, G",
        "the first or the last; in a log, `end` follows it again",
        &[
            (TopKey::Home, Meaning::First),
            (TopKey::Char('g'), Meaning::First),
            (TopKey::End, Meaning::Last),
            (TopKey::Char('G'), Meaning::Last),
        ],
    ),
    help(
        "/",
        "filter by a text in names and states; in a pane, search it",
        &[(TopKey::Char('/'), Meaning::Find)],
    ),
    help(
        "n, N",
        "in a pane, the next and the previous line with that text",
        &[(TopKey::Char('n'), Meaning::NextFound), (TopKey::Char('N'), Meaning::PreviousFound)],
    ),
    help(
        "o, O",
        "sort by the next column; reverse the order",
        &[(TopKey::Char('o'), Meaning::NextOrder), (TopKey::Char('O'), Meaning::Reverse)],
    ),
    help(
        "l, enter",
        "follow the log of the selected gateway",
        &[(TopKey::Char('l'), Meaning::Log), (TopKey::Enter, Meaning::Log)],
    ),
    help("e", "explain why it is in its state", &[(TopKey::Char('e'), Meaning::Explain)]),
    help("i", "list its incidents", &[(TopKey::Char('i'), Meaning::Incidents)]),
    help("space", "in a log, pause, or follow it again", &[(TopKey::Char(' '), Meaning::Pause)]),
    help("tab", "go from the table to the pane, or back", &[(TopKey::Tab, Meaning::OtherPart)]),
    help("s", "start the gateway; this and the next three ask first", &[(TopKey::Char('s'), Meaning::Start)]),
    help("x", "stop it", &[(TopKey::Char('x'), Meaning::Stop)]),
    help("r", "restart it", &[(TopKey::Char('r'), Meaning::Restart)]),
    help("d", "drain it, and stop it once it is idle", &[(TopKey::Char('d'), Meaning::Drain)]),
    help("escape", "close the pane, or end the filter", &[(TopKey::Escape, Meaning::Back)]),
    help(
        "ctrl-l, ctrl-z",
        "draw the screen anew; suspend",
        &[(TopKey::Ctrl('l'), Meaning::Redraw), (TopKey::Ctrl('z'), Meaning::Suspend)],
    ),
    help(
        "?, q, ctrl-c",
        "show these keys; quit",
        &[
            (TopKey::Char('?'), Meaning::Help),
            (TopKey::Char('q'), Meaning::Quit),
            (TopKey::Ctrl('c'), Meaning::Quit),
        ],
    ),
];

/// Returns what a key means.
pub(crate) fn meaning(key: TopKey) -> Option<Meaning> {
    let mut all = KEYS.iter().flat_map(|help| help.meanings);
    all.find(|(known, _)| *known == key).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_soon_after_escape_is_both() {
        let keys = |modifiers| -> Vec<TopKey> {
            TopKey::of(&KeyEvent::new(KeyCode::Char('q'), modifiers)).collect()
        };
        assert_eq!(keys(KeyModifiers::ALT), [TopKey::Escape, TopKey::Char('q')]);
        assert_eq!(keys(KeyModifiers::NONE), [TopKey::Char('q')]);
        assert_eq!(keys(KeyModifiers::CONTROL), [TopKey::Ctrl('q')]);
    }

    #[test]
    fn no_key_has_two_meanings() {
        let all: Vec<TopKey> = KEYS.iter().flat_map(|help| help.meanings).map(|(key, _)| *key).collect();
        for (index, key) in all.iter().enumerate() {
            assert!(!all[..index].contains(key), "{key:?}");
        }
    }

    #[test]
    fn the_documentation_has_exactly_these_keys() {
        let page = include_str!("../../../docs/guides/top.md");
        let rows = page.lines().skip_while(|line| *line != "| key | does |").skip(2);
        let rows: Vec<&str> = rows.take_while(|line| line.starts_with('|')).collect();
        let known: Vec<String> =
            KEYS.iter().map(|help| format!("| {} | {} |", help.names, help.does)).collect();
        assert_eq!(rows, known);
    }
}
