//! *Lives here:* a line that is being typed. *Does not live here:* its purpose.

use crate::keys::TopKey;

/// The most characters that can be typed.
const LONGEST: usize = 200;

/// What a key did to the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edited {
    Changed,
    Done,
    Cancelled,
}

/// Changes a line as a key says.
pub(crate) fn press(text: &mut String, key: TopKey) -> Edited {
    match key {
        TopKey::Enter => Edited::Done,
        TopKey::Escape | TopKey::Ctrl('c') => Edited::Cancelled,
        TopKey::Backspace | TopKey::Ctrl('h') => {
            text.pop();
            Edited::Changed
        }
        TopKey::Ctrl('u') => {
            text.clear();
            Edited::Changed
        }
        TopKey::Char(character) if !character.is_control() && text.chars().count() < LONGEST => {
            text.push(character);
            Edited::Changed
        }
        _ => Edited::Changed,
    }
}
