//! Lines that are collected and printed together.
//!
//! *Lives here:* a buffer whose methods escape everything, unless their names say otherwise.
//! *Does not live here:* when it is printed.

use gatevisor_term::escape::{self, Tab};
use gatevisor_term::stream;

use super::{DIM, Paint, Text, written};
use crate::exit::{CommandError, Exit};

/// Lines for standard output.
#[derive(Debug)]
pub struct Page {
    paint: Paint,
    bytes: Vec<u8>,
}

impl Page {
    /// Returns an empty one.
    pub fn new() -> Self {
        Self { paint: Paint::stdout(), bytes: Vec::new() }
    }

    /// Returns how many bytes it holds.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds text to the line.
    pub fn text(&mut self, text: &Text) {
        text.render(self.paint, &mut self.bytes);
    }

    /// Adds bytes to the line, escaped, tabs excepted.
    pub fn escaped(&mut self, bytes: &[u8]) {
        escape::append(bytes, Tab::Kept, &mut self.bytes);
    }

    /// Adds bytes to the line, one part after another, escaped and dimmed.
    pub fn dimmed(&mut self, parts: &[&[u8]]) {
        let is_painted = self.paint.0 && parts.iter().any(|part| !part.is_empty());
        if is_painted {
            self.bytes.extend_from_slice(DIM.render().to_string().as_bytes());
        }
        for part in parts {
            self.escaped(part);
        }
        if is_painted {
            self.bytes.extend_from_slice(DIM.render_reset().to_string().as_bytes());
        }
    }

    /// Adds bytes to the line unchanged, because the reader asked for that.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds an object to the line.
    pub fn json(&mut self, value: &impl serde::Serialize) -> Result<(), CommandError> {
        let start = self.bytes.len();
        serde_json::to_writer(&mut self.bytes, value)
            .map_err(|error| CommandError::new(Exit::System, format!("cannot write JSON: {error}")))?;
        escape::json(&mut self.bytes, start);
        Ok(())
    }

    /// Adds a line of ours, which keeps its colours; everything else is escaped.
    pub(super) fn ours_with_colours(&mut self, line: &str) {
        let mut rest = line;
        while let Some(at) = rest.find('\u{1b}') {
            let (before, after) = rest.split_at(at);
            self.escaped(before.as_bytes());
            let length = colour_sequence(after).unwrap_or(0);
            let (sequence, after) = after.split_at(length);
            self.bytes.extend_from_slice(sequence.as_bytes());
            if length == 0 {
                return self.escaped(after.as_bytes());
            }
            rest = after;
        }
        self.escaped(rest.as_bytes());
    }

    /// Adds the newline that ends what was written so far.
    pub fn end_line(&mut self) {
        self.bytes.push(b'\n');
    }

    /// Prints the collected lines, and empties the page.
    pub fn print(&mut self) -> Result<(), CommandError> {
        let result = if self.bytes.is_empty() { Ok(()) } else { written(&self.bytes) };
        self.bytes.clear();
        result
    }

    /// Writes the collected lines to standard error.
    #[expect(clippy::disallowed_methods, reason = "what was collected is escaped")]
    pub(super) fn say(&self) {
        stream::unescaped_stderr(&self.bytes);
    }
}

/// Returns the length of the sequence at the beginning of `text`, if it sets only colours.
fn colour_sequence(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    parameters.get(end..)?.starts_with('m').then(|| end.saturating_add("\u{1b}[m".len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_of_our_own_lines_reach_the_terminal_unescaped() {
        let shown = |line: &str| {
            let mut page = Page::new();
            page.ours_with_colours(line);
            String::from_utf8(page.bytes).unwrap()
        };
        assert_eq!(shown("\u{1b}[1;31merror\u{1b}[0m: x"), "\u{1b}[1;31merror\u{1b}[0m: x");
        assert_eq!(shown("a\u{1b}[2Jb\u{1b}[31m"), "a\\u{1b}[2Jb\\u{1b}[31m");
        assert_eq!(shown("\u{1b}]0;t\u{7}"), "\\u{1b}]0;t\\u{7}");
    }
}
