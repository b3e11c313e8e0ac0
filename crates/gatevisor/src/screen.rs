//! What fits on a terminal that shows something again and again.
//!
//! *Lives here:* how large the terminal is, and leaving out what it has no room for. *Does not live here:* what is shown.

use std::io::IsTerminal;

/// Moves to the upper left corner and clears from there to the end: no flicker.
pub const CLEAR: &[u8] = b"\x1b[H\x1b[J";

/// A terminal's rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    rows: usize,
    columns: usize,
}

impl Screen {
    /// Returns the terminal that standard output is, if it is one and knows how large it is.
    pub fn of_stdout() -> Option<Self> {
        let stdout = std::io::stdout();
        let size = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok())??;
        let screen = Self { rows: usize::from(size.ws_row), columns: usize::from(size.ws_col) };
        (screen.rows > 0 && screen.columns > 0).then_some(screen)
    }

    /// Returns the first of these lines, as many as leave `kept` rows free, and how many are left out.
    ///
    /// Where some are left out, one row more is left free to say so.
    pub fn fit(self, lines: &[String], kept: usize) -> (&[String], usize) {
        let room = self.rows.saturating_sub(kept);
        let rows: Vec<usize> = lines.iter().map(|line| self.rows_of(line)).collect();
        if rows.iter().sum::<usize>() <= room {
            return (lines, 0);
        }
        let mut left = room.saturating_sub(1);
        let fitting = rows.iter().take_while(|rows| {
            left.checked_sub(**rows).is_some_and(|rest| {
                left = rest;
                true
            })
        });
        // The head of a table is shown on the smallest screen.
        let (shown, omitted) = lines.split_at(fitting.count().max(1).min(lines.len()));
        (shown, omitted.len())
    }

    /// Returns how many rows a line takes.
    fn rows_of(self, line: &str) -> usize {
        width(line).div_ceil(self.columns).max(1)
    }
}

/// Returns how many characters of a line are seen: those of colour codes are not.
fn width(line: &str) -> usize {
    let mut is_code = false;
    let seen = line.chars().filter(|character| {
        let was_code = is_code;
        is_code = match character {
            '\x1b' => true,
            other => is_code && !other.is_ascii_alphabetic(),
        };
        !was_code && !is_code
    });
    seen.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(rows: usize, columns: usize, lines: &[&str], kept: usize) -> (String, usize) {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let (shown, omitted) = Screen { rows, columns }.fit(&lines, kept);
        (shown.join("|"), omitted)
    }

    #[test]
    fn what_a_screen_has_no_room_for_is_left_out_at_the_end() {
        let table = ["HEAD", "one", "two", "three"];
        assert_eq!(shown(5, 80, &table, 1), ("HEAD|one|two|three".to_owned(), 0));
        assert_eq!(shown(4, 80, &table, 1), ("HEAD|one".to_owned(), 2));
        assert_eq!(shown(1, 80, &table, 1), ("HEAD".to_owned(), 3));
        assert_eq!(shown(1, 80, &[], 1), (String::new(), 0));
    }

    #[test]
    fn a_line_that_is_wider_than_the_screen_takes_several_rows() {
        assert_eq!(shown(6, 4, &["HEAD", "eight ch", "x"], 1), ("HEAD|eight ch|x".to_owned(), 0));
        assert_eq!(shown(4, 4, &["HEAD", "eight ch", "x"], 1), ("HEAD".to_owned(), 2));
        assert_eq!(width("\x1b[31mred\x1b[0m, \x1b[1mbold\x1b[0m"), "red, bold".len());
    }
}
