//! A table in columns.
//!
//! *Lives here:* how wide columns are, counted in what is shown. *Does not live here:* what is in them.

use super::{BOLD, Text};

/// Blanks between two columns.
const GAP: usize = 2;

/// Rows below a head.
#[derive(Debug)]
pub struct Table<const COLUMNS: usize> {
    rows: Vec<[Text; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// Returns a table without rows below these words.
    pub fn new(head: [&str; COLUMNS]) -> Self {
        Self { rows: vec![head.map(|word| Text::default().styled(BOLD, word))] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: [Text; COLUMNS]) {
        self.rows.push(cells);
    }

    /// Returns its lines.
    pub fn lines(self) -> Vec<Text> {
        let mut widths = [0; COLUMNS];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        let line = |row: [Text; COLUMNS]| {
            // Blanks go before a cell, so that none end a line.
            let mut owed: usize = 0;
            row.into_iter().zip(widths).fold(Text::default(), |line, (cell, width)| {
                let (blanks, used) = (owed, cell.width());
                owed = width.saturating_sub(used).saturating_add(GAP);
                line.and(" ".repeat(blanks)).then(cell)
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
        let mut table = Table::new(["NAME", "STATE", "LAST"]);
        table.row([Text::from("漢字x"), Text::from("a\nb"), Text::from("x")]);
        table.row([Text::from("b"), Text::from("\u{1b}"), Text::from("y")]);
        let widths: Vec<usize> = table.lines().iter().map(Text::width).collect();
        assert_eq!(widths, [5 + 2 + 6 + 2 + 4, 5 + 2 + 6 + 2 + 1, 5 + 2 + 6 + 2 + 1]);
    }
}
