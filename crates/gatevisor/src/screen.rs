//! What fits on a terminal that shows something again and again.
//!
//! *Lives here:* how large the terminal is, and leaving out what it has no room for. *Does not live here:* what is shown.

use gatevisor_term::stream;

/// A terminal's rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    rows: usize,
    columns: usize,
}

impl Screen {
    /// Returns the terminal that standard output is, if it is one and knows how large it is.
    pub fn of_stdout() -> Option<Self> {
        let (rows, columns) = stream::stdout_size()?;
        let screen = Self { rows: rows.into(), columns: columns.into() };
        (screen.rows > 0 && screen.columns > 0).then_some(screen)
    }

    /// Returns how many columns it has.
    pub const fn columns(self) -> usize {
        self.columns
    }

    /// Returns the first of these lines, as many as leave `kept` rows free, and how many are left out; `width` tells how
    /// many columns a line takes.
    ///
    /// Where some are left out, one row more is left free to say so.
    pub fn fit<T>(self, lines: &[T], kept: usize, width: impl Fn(&T) -> usize) -> (&[T], usize) {
        let room = self.rows.saturating_sub(kept);
        let rows: Vec<usize> = lines.iter().map(|line| self.rows_of(width(line))).collect();
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

    /// Returns how many rows a line of this width takes.
    fn rows_of(self, width: usize) -> usize {
        width.div_ceil(self.columns).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(rows: usize, columns: usize, lines: &[&str], kept: usize) -> (String, usize) {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let (shown, omitted) = Screen { rows, columns }.fit(&lines, kept, String::len);
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
    }
}
