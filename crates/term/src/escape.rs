//! Writes out characters that must not reach a reader as they are.
//!
//! *Lives here:* which characters these are, and their written form: `\n`, `\r`, `\t`, `\u{1b}` for
//! a character, `\x9b` for a byte that is not part of a text.
//! *Does not live here:* writing the result anywhere.
//!
//! A backslash in the text stays as it is: the written form is for people. Programs read JSON.
//!
//! **Source:** Unicode 17, general categories Cc, Cf, Zl and Zp, and the property
//! `Default_Ignorable_Code_Point`.

use std::borrow::Cow;

/// Characters beyond ASCII that control a terminal, change the order of others, or are invisible.
///
/// Besides those of the source: blanks that do not count as spaces, and code points that are not
/// characters.
const HIDDEN: &[(char, char)] = &[
    ('\u{80}', '\u{9f}'),
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fdd0}', '\u{fdef}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{fffe}', '\u{ffff}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d159}', '\u{1d159}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
    ('\u{10fffe}', '\u{10ffff}'),
];

/// The treatment of a tab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tab {
    /// It stays, because lines of a log are shown with their alignment.
    Kept,
    /// It is written out, because it would move a column.
    Escaped,
}

/// Returns whether a character is always written out.
pub fn is_hidden(c: char) -> bool {
    if c < '\u{7f}' {
        return c < ' ';
    }
    if c == '\u{7f}' {
        return true;
    }
    // Most text beyond ASCII lies before the first ranges, so the search is short.
    let after = HIDDEN.partition_point(|(first, _)| *first <= c);
    after.checked_sub(1).and_then(|index| HIDDEN.get(index)).is_some_and(|(_, last)| c <= *last)
}

/// Returns whether a character selects how the character before it looks, as an emoji or as text.
fn selects_presentation(c: char) -> bool {
    matches!(c, '\u{fe0e}' | '\u{fe0f}')
}

/// Appends `bytes` to `out` and writes out everything that must not reach a reader.
///
/// A selector of an emoji's look stays, once, after a character beyond ASCII, because logs are full
/// of them.
pub fn append(bytes: &[u8], tab: Tab, out: &mut Vec<u8>) {
    if is_plain(bytes, tab) {
        return out.extend_from_slice(bytes);
    }
    for chunk in bytes.utf8_chunks() {
        append_text(chunk.valid(), tab, out);
        for byte in chunk.invalid() {
            append_formatted(out, format_args!("\\x{byte:02x}"));
        }
    }
}

fn append_text(text: &str, tab: Tab, out: &mut Vec<u8>) {
    // Whether a selector may follow the previous character.
    let mut is_selectable = false;
    let mut shown_to: usize = 0;
    for (at, c) in text.char_indices() {
        let stays = (c == '\t' && tab == Tab::Kept) || (is_selectable && selects_presentation(c));
        let is_shown = stays || !is_hidden(c);
        is_selectable = is_shown && !c.is_ascii() && !selects_presentation(c);
        if !is_shown {
            out.extend_from_slice(text.as_bytes().get(shown_to..at).unwrap_or_default());
            append_formatted(out, format_args!("{}", c.escape_default()));
            shown_to = at.saturating_add(c.len_utf8());
        }
    }
    out.extend_from_slice(text.as_bytes().get(shown_to..).unwrap_or_default());
}

/// Returns whether `bytes` hold only what every terminal shows: printable ASCII.
fn is_plain(bytes: &[u8], tab: Tab) -> bool {
    let also = if tab == Tab::Kept { b'\t' } else { b' ' };
    let is_shown = |byte: u8| (b' '..0x7f).contains(&byte) || byte == also;
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().all(|word| is_printable(*word) || word.iter().all(|byte| is_shown(*byte)))
        && rest.iter().all(|byte| is_shown(*byte))
}

/// Returns whether each of eight bytes is printable ASCII; it tests all of them at once.
fn is_printable(word: [u8; 8]) -> bool {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let bytes = u64::from_ne_bytes(word);
    // The highest bit of a byte gets set for bytes from DEL on by the addition, and for bytes
    // before the blank by the subtraction. A byte that carries into or borrows from its neighbour
    // has set its own bit.
    let beyond = bytes | bytes.wrapping_add(EACH);
    let before = bytes.wrapping_sub(EACH.wrapping_mul(0x20)) & !bytes;
    (beyond | before) & EACH.wrapping_mul(0x80) == 0
}

/// Returns a text on one line without hidden characters or terminal commands.
pub fn line(text: &str) -> Cow<'_, str> {
    if is_plain(text.as_bytes(), Tab::Escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len().saturating_add(16));
    append_text(text, Tab::Escaped, &mut out);
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// Rewrites a JSON text, which begins at `start`, so that its meaning stays and it has no hidden
/// characters or terminal commands.
///
/// It must be valid and have no blanks between its parts. Then every hidden character is in a
/// string.
pub fn json(out: &mut Vec<u8>, start: usize) {
    let json = out.get(start..).unwrap_or_default();
    if is_plain(json, Tab::Escaped) {
        return;
    }
    let json = String::from_utf8_lossy(json).into_owned();
    out.truncate(start);
    for c in json.chars() {
        if is_hidden(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                append_formatted(out, format_args!("\\u{unit:04x}"));
            }
        } else {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

fn append_formatted(out: &mut Vec<u8>, what: std::fmt::Arguments<'_>) {
    // Writing to a vector cannot fail.
    let _ = std::io::Write::write_fmt(out, what);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(bytes: &[u8], tab: Tab) -> String {
        let mut out = Vec::new();
        append(bytes, tab, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn characters_that_control_a_terminal_are_written_out() {
        for (text, expected) in [
            ("plain, Grüße, 漢字, 🦀", "plain, Grüße, 漢字, 🦀"),
            ("\u{1b}[31mred\u{1b}[0m\r\u{7}", r"\u{1b}[31mred\u{1b}[0m\r\u{7}"),
            ("\u{1b}]52;c;cm0gLXJm\u{7}", r"\u{1b}]52;c;cm0gLXJm\u{7}"),
            ("two\nlines\u{b}\u{c}", r"two\nlines\u{b}\u{c}"),
            ("\u{9b}2J\u{85}\u{7f}\0", r"\u{9b}2J\u{85}\u{7f}\u{0}"),
            ("C:\\new", r"C:\new"),
        ] {
            assert_eq!(shown(text.as_bytes(), Tab::Escaped), expected);
            assert_eq!(line(text), expected);
        }
        assert_eq!(shown(b"\x9b31m \xff \xc3", Tab::Kept), r"\x9b31m \xff \xc3");
        assert_eq!(shown(b"a\tb", Tab::Kept), "a\tb");
        assert_eq!(shown(b"a\tb", Tab::Escaped), r"a\tb");
    }

    #[test]
    fn invisible_characters_and_those_that_change_the_order_are_written_out() {
        for c in [
            '\u{ad}',
            '\u{34f}',
            '\u{600}',
            '\u{61c}',
            '\u{115f}',
            '\u{1160}',
            '\u{17b4}',
            '\u{180b}',
            '\u{180e}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{202e}',
            '\u{2028}',
            '\u{2029}',
            '\u{2060}',
            '\u{2066}',
            '\u{2069}',
            '\u{206f}',
            '\u{2800}',
            '\u{3164}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fff9}',
            '\u{fe00}',
            '\u{110bd}',
            '\u{13430}',
            '\u{1bca0}',
            '\u{1d173}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{e0100}',
        ] {
            assert_eq!(line(&format!("a{c}b")), format!("a{}b", c.escape_default()));
        }
        for c in ['\u{a0}', 'é', 'ß', 'ا', 'ש', 'ก', '\u{301}', '\u{3000}', '가', '\u{fffd}', '\u{e000}']
        {
            assert_eq!(line(&format!("a{c}b")), format!("a{c}b"), "{c:?}");
        }
    }

    #[test]
    fn one_selector_behind_what_it_selects_stays() {
        assert_eq!(line("⚠\u{fe0f} low"), "⚠\u{fe0f} low");
        assert_eq!(line("⚠\u{fe0f}\u{fe0f}"), "⚠\u{fe0f}\\u{fe0f}");
        assert_eq!(line("a\u{fe0f}b"), r"a\u{fe0f}b");
        assert_eq!(line("\u{200b}\u{fe0f}"), r"\u{200b}\u{fe0f}");
    }

    #[test]
    fn the_ranges_are_in_order_so_that_they_can_be_searched() {
        assert!(HIDDEN.iter().all(|(first, last)| first <= last));
        assert!(HIDDEN.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }

    fn escaped(value: &serde_json::Value) -> String {
        let mut out = b"before\x1b".to_vec();
        let start = out.len();
        out.extend_from_slice(value.to_string().as_bytes());
        json(&mut out, start);
        String::from_utf8(out.split_off(start)).unwrap()
    }

    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({ "na\u{202e}me": "\u{1b}[1m\u{7f}\u{9b}\u{e0041}\"\\\n ü 🦀" });
        let text = escaped(&value);
        assert!(
            text.contains(r"na\u202eme") && text.contains(r"\u001b[1m\u007f\u009b\udb40\udc41"),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn each_byte_is_told_from_each_other_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for at in 0..20 {
                for around in [b' ', b'~', b'a'] {
                    let mut bytes = [around; 20];
                    bytes[at] = byte;
                    let shown = (b' '..=b'~').contains(&byte);
                    assert_eq!(is_plain(&bytes, Tab::Escaped), shown, "{byte} at {at}");
                    assert_eq!(is_plain(&bytes, Tab::Kept), shown || byte == b'\t', "{byte} at {at}");
                }
            }
        }
    }

    /// An independent definition of the characters that no output may hold.
    fn is_harmful(c: char) -> bool {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange_for_a_line(bytes in any::<Vec<u8>>(), tail in any::<String>()) {
            let bytes = [bytes.as_slice(), tail.as_bytes()].concat();
            prop_assert!(!shown(&bytes, Tab::Escaped).contains(is_harmful));
            prop_assert!(!shown(&bytes, Tab::Kept).chars().any(|c| c != '\t' && is_harmful(c)));
        }

        #[test]
        fn no_text_is_too_strange_for_json(text in any::<String>()) {
            let value = serde_json::Value::from(text);
            let shown = escaped(&value);
            let is_hidden = shown.contains(is_harmful) || shown.contains('\u{fe0f}');
            prop_assert!(!is_hidden);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }
    }
}
