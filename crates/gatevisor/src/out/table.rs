//! A table in columns.
//!
//! *Lives here:* how wide columns are, counted in what is shown. *Does not live here:* what is in them.

use super::{BOLD, Text};

/// Blanks between two columns.
const GAP: usize = 2;

/// Rows below a head.
#[derive(Debug)]
pub struct TextTable<const COLUMNS: usize> {
    rows: Vec<[Text; COLUMNS]>,
}

impl<const COLUMNS: usize> TextTable<COLUMNS> {
    /// Returns a table without rows below these words.
    pub fn new(head: [&str; COLUMNS]) -> Self {
        Self { rows: vec![head.map(|word| Text::default().styled(BOLD, word))] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: [Text; COLUMNS]) {
        self.rows.push(cells);
    }

    /// Shortens the cells of a column as far as the table needs it to be no wider than this; to a head's width at the least.
    pub fn fit(&mut self, columns: usize, column: usize, least: usize) {
        let widths = self.widths();
        let all = widths.iter().sum::<usize>().saturating_add(GAP.saturating_mul(COLUMNS.saturating_sub(1)));
        let Some(width) = widths.get(column) else { return };
        let room = width.saturating_sub(all.saturating_sub(columns)).max(least);
        for cell in self.rows.iter_mut().filter_map(|row| row.get_mut(column)) {
            cell.shorten(room);
        }
    }

    fn widths(&self) -> [usize; COLUMNS] {
        let mut widths = [0; COLUMNS];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        widths
    }

    /// Returns its lines.
    pub fn lines(self) -> Vec<Text> {
        let widths = self.widths();
        let line = |row: [Text; COLUMNS]| {
            // Blanks go before a cell, so that none end a line.
            let mut owed: usize = 0;
            row.into_iter().zip(widths).fold(Text::default(), |line, (cell, width)| {
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
            table.fit(columns, 1, 8);
            table.lines().iter().map(Text::width).max().unwrap()
        };
        // A wide character is shown whole or not at all.
        assert_eq!([100, 38, 30, 25, 5].map(widest), [38, 38, 30, 25, 4 + 2 + 8 + 2 + 4]);
    }
}
