//! A table in columns.
//!
//! *Lives here:* the widths of columns, counted in shown characters.
//! *Does not live here:* their contents.

use super::{BOLD, Text};

/// Blanks between two columns.
const GAP: usize = 2;

/// Rows below a head.
#[derive(Debug)]
pub struct TextTable {
    rows: Vec<Vec<Text>>,
}

impl TextTable {
    /// Returns a table with this head and no rows.
    pub fn new<'a>(head: impl IntoIterator<Item = &'a str>) -> Self {
        Self { rows: vec![head.into_iter().map(|word| Text::default().styled(BOLD, word)).collect()] }
    }

    /// Adds a row, with as many cells as the head.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Text>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Makes the table fit: first leaves out dispensable columns, in this order; then shortens
    /// those that may be shortened, each to its smallest width at most.
    pub fn fit(&mut self, columns: usize, dispensable: &[usize], shortened: &[(usize, usize)]) {
        let mut left_out = Vec::new();
        for &column in dispensable {
            if self.width(&left_out) <= columns {
                break;
            }
            left_out.push(column);
        }
        for &(column, least) in shortened {
            let excess = self.width(&left_out).saturating_sub(columns);
            let Some(&width) = self.widths().get(column).filter(|_| excess > 0) else { continue };
            let room = width.saturating_sub(excess).max(least);
            for cell in self.rows.iter_mut().filter_map(|row| row.get_mut(column)) {
                cell.shorten(room);
            }
        }
        for row in &mut self.rows {
            let cells = std::mem::take(row).into_iter().enumerate();
            row.extend(cells.filter(|(column, _)| !left_out.contains(column)).map(|(_, cell)| cell));
        }
    }

    /// Returns its width without some of its columns.
    fn width(&self, left_out: &[usize]) -> usize {
        let kept = self.widths().into_iter().enumerate().filter(|(column, _)| !left_out.contains(column));
        kept.map(|(_, width)| width.saturating_add(GAP)).sum::<usize>().saturating_sub(GAP)
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for row in &self.rows {
            widths.resize(row.len().max(widths.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        widths
    }

    /// Returns its lines.
    pub fn lines(self) -> Vec<Text> {
        let widths = self.widths();
        let line = |row: Vec<Text>| {
            // Blanks are written before a cell, so that no line ends with blanks.
            let mut owed: usize = 0;
            row.into_iter().zip(&widths).fold(Text::default(), |line, (cell, width)| {
                let (spaces, used) = (owed, cell.width());
                owed = width.saturating_sub(used).saturating_add(GAP);
                line.and(" ".repeat(spaces)).then(cell)
            })
        };
        self.rows.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_whatever_is_in_them() {
        let mut table = TextTable::new(["NAME", "STATE", "LAST"]);
        table.row([Text::from("漢字x"), Text::from("a\nb"), Text::from("x")]);
        table.row([Text::from("b"), Text::from("\u{1b}"), Text::from("y")]);
        let widths: Vec<usize> = table.lines().iter().map(Text::width).collect();
        assert_eq!(widths, [5 + 2 + 6 + 2 + 4, 5 + 2 + 6 + 2 + 1, 5 + 2 + 6 + 2 + 1]);
    }

    #[test]
    fn a_table_is_made_to_fit_by_its_longest_column_and_no_further_than_can_be_read() {
        let widest = |columns| {
            let mut table = TextTable::new(["NAME", "STATE", "LAST"]);
            let red = super::super::colour(anstyle::AnsiColor::Red);
            table.row([
                Text::from("a"),
                Text::from("failed: ").styled(red, "漢字漢字 and so on"),
                Text::from("x"),
            ]);
            table.fit(columns, &[], &[(1, 8)]);
            table.lines().iter().map(Text::width).max().unwrap()
        };
        // A wide character is shown completely or not at all.
        assert_eq!([100, 38, 30, 25, 5].map(widest), [38, 38, 30, 25, 4 + 2 + 8 + 2 + 4]);
    }

    #[test]
    fn columns_that_a_narrow_table_can_do_without_are_left_out_before_anything_is_shortened() {
        let head = |columns| {
            let mut table = TextTable::new(["NAME", "STATE", "PID", "LAST"]);
            table.row(["a", "failed", "12345", "x"].map(Text::from));
            table.fit(columns, &[3, 2], &[(0, 2)]);
            table.lines().iter().map(Text::width).max().unwrap()
        };
        assert_eq!([30, 25, 24, 20, 19, 18, 12, 11, 1].map(head), [25, 25, 19, 19, 19, 12, 12, 11, 10]);
    }
}
