//! The size of a terminal that shows something repeatedly.
//!
//! *Lives here:* the size of the terminal, and dividing lines into pages.
//! *Does not live here:* the shown contents.

use std::ops::Range;

use gatevisor_term::stream;

use crate::out::Text;

/// A terminal's rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    rows: usize,
    columns: usize,
}

impl Screen {
    /// Returns the terminal on standard output, if it is one and knows its size.
    pub fn of_stdout() -> Option<Self> {
        let (rows, columns) = stream::stdout_size()?;
        let screen = Self { rows: rows.into(), columns: columns.into() };
        (screen.rows > 0 && screen.columns > 0).then_some(screen)
    }

    /// Returns how many rows it has.
    pub const fn rows(self) -> usize {
        self.rows
    }

    /// Returns how many columns it has.
    pub const fn columns(self) -> usize {
        self.columns
    }

    /// Returns which of these blocks each page shows; `kept` rows of each page stay free for other
    /// lines. A block is never divided, and each page shows at least one.
    pub fn pages(self, blocks: &[Vec<Text>], kept: usize) -> Vec<Range<usize>> {
        let room = self.rows.saturating_sub(kept);
        let mut pages = Vec::new();
        let (mut first, mut used) = (0, 0_usize);
        for (index, block) in blocks.iter().enumerate() {
            let rows = block.iter().map(|line| self.rows_of(line.width())).sum::<usize>();
            if used.saturating_add(rows) > room && index > first {
                pages.push(first..index);
                (first, used) = (index, 0);
            }
            used = used.saturating_add(rows);
        }
        pages.push(first..blocks.len());
        pages
    }

    /// Returns how many rows a line of this width takes.
    fn rows_of(self, width: usize) -> usize {
        width.div_ceil(self.columns).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the first block of each page, and the end of the last page.
    fn pages(rows: usize, columns: usize, blocks: &[&[&str]], kept: usize) -> Vec<(usize, usize)> {
        let blocks: Vec<Vec<Text>> =
            blocks.iter().map(|block| block.iter().map(|line| Text::from(*line)).collect()).collect();
        let pages = Screen { rows, columns }.pages(&blocks, kept);
        pages.into_iter().map(|page| (page.start, page.end)).collect()
    }

    #[test]
    fn lines_that_do_not_fit_on_the_screen_are_on_the_next_page() {
        let blocks: [&[&str]; 4] = [&["one"], &["two", "why"], &["three"], &["four"]];
        assert_eq!(pages(9, 80, &blocks, 2), [(0, 4)]);
        assert_eq!(pages(5, 80, &blocks, 2), [(0, 2), (2, 4)]);
        assert_eq!(pages(4, 80, &blocks, 2), [(0, 1), (1, 2), (2, 4)]);
        assert_eq!(pages(1, 80, &blocks, 2), [(0, 1), (1, 2), (2, 3), (3, 4)]);
        assert_eq!(pages(5, 80, &[], 2), [(0, 0)]);
    }

    #[test]
    fn a_line_that_is_wider_than_the_screen_takes_several_rows() {
        assert_eq!(pages(4, 4, &[&["eight ch"], &["x"], &["y"]], 1), [(0, 2), (2, 3)]);
    }
}
