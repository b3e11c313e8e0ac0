//! A line of text with its styles.
//!
//! *Lives here:* the type that keeps text and styles apart until they are printed, so that no text
//! can bring a style of its own.
//! *Does not live here:* the streams.

use std::fmt::{Arguments, Display};
use std::io::Write as _;

use anstyle::{AnsiColor, Style};
use gatevisor_term::escape::{self, Tab};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::Paint;

/// Stands for a part that was cut off.
const ELLIPSIS: &str = "…";

/// How headings and names stand out.
pub const BOLD: Style = Style::new().bold();
/// How less important text is shown.
pub const DIM: Style = Style::new().dimmed();

/// Returns the style of a colour.
pub fn colour(colour: AnsiColor) -> Style {
    Style::new().fg_color(Some(colour.into()))
}

/// A line of text. All of it is foreign, and parts may have a style.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Text {
    parts: Vec<(Style, String)>,
}

impl Text {
    /// Returns it with more text at its end.
    #[must_use]
    pub fn and(self, text: impl Display) -> Self {
        self.styled(Style::new(), text)
    }

    /// Returns it with more text in this style at its end.
    #[must_use]
    pub fn styled(mut self, style: Style, text: impl Display) -> Self {
        self.parts.push((style, text.to_string()));
        self
    }

    /// Returns it with another text at its end.
    #[must_use]
    pub fn then(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self
    }

    /// Returns its width in columns of a terminal, escaped.
    pub fn width(&self) -> usize {
        self.parts.iter().map(|(_, text)| escape::line(text).width()).sum()
    }

    /// Returns it without the part beyond this many columns.
    #[must_use]
    pub fn shortened(mut self, columns: usize) -> Self {
        self.shorten(columns);
        self
    }

    /// Cuts off the part beyond this many columns, and marks that.
    pub fn shorten(&mut self, columns: usize) {
        if self.width() <= columns {
            return;
        }
        let mut left = columns.saturating_sub(ELLIPSIS.width());
        for (_, text) in &mut self.parts {
            let shown = escape::line(text).into_owned();
            let kept = shown.chars().take_while(|c| {
                let rest = left.checked_sub(c.width().unwrap_or(0));
                rest.is_some_and(|rest| {
                    left = rest;
                    true
                })
            });
            let kept: String = kept.collect();
            if kept.len() < shown.len() {
                left = 0;
            }
            *text = kept;
        }
        self.parts.push((Style::new(), ELLIPSIS.to_owned()));
    }

    /// Returns it, escaped, without its styles.
    pub fn plain(&self) -> String {
        let mut bytes = Vec::new();
        self.render(Paint(false), &mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Appends it, escaped, with its styles if they are wanted.
    pub(super) fn render(&self, paint: Paint, out: &mut Vec<u8>) {
        for (style, text) in &self.parts {
            let style = if paint.0 && !text.is_empty() { *style } else { Style::new() };
            // Writing to a vector cannot fail.
            let _ = write!(out, "{style}");
            escape::append(text.as_bytes(), Tab::Escaped, out);
            let _ = write!(out, "{style:#}");
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::default().and(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self { parts: vec![(Style::new(), text)] }
    }
}

impl From<Arguments<'_>> for Text {
    fn from(text: Arguments<'_>) -> Self {
        text.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &Text, paint: bool) -> String {
        let mut out = Vec::new();
        text.render(Paint(paint), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_the_printer_gives_a_text_its_style() {
        let text = Text::from("web: ").styled(colour(AnsiColor::Red), "\u{1b}[32mfine\n").and("\u{202e}");
        assert_eq!(rendered(&text, false), r"web: \u{1b}[32mfine\n\u{202e}");
        assert_eq!(rendered(&text, true), "web: \u{1b}[31m\\u{1b}[32mfine\\n\u{1b}[0m\\u{202e}");
    }

    #[test]
    fn the_width_is_that_of_what_is_shown() {
        assert_eq!(Text::from("a\u{1b}b").styled(BOLD, "漢").width(), "a\\u{1b}b".len() + 2);
    }
}
