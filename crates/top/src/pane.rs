//! *Lives here:* the lines of a pane, which of them are shown, and searching in them.
//!
//! *Does not live here:* where the lines come from.

use std::collections::VecDeque;

use unicode_width::UnicodeWidthChar;

/// The most lines that a pane keeps. If there are more, the oldest are dropped.
const KEPT: usize = 5000;

/// The contents that a pane can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaneKind {
    /// The log of a gateway, followed.
    Log,
    /// Why a gateway is in its state.
    Explain,
    /// The incidents of a gateway.
    Incidents,
    /// The help about the keys.
    Help,
}

impl PaneKind {
    /// Returns the arguments of the command that prints it, without the name of the gateway.
    pub const fn command(self) -> &'static [&'static str] {
        match self {
            Self::Log => &["logs", "-f", "-n", "500"],
            Self::Explain => &["explain"],
            Self::Incidents => &["incidents"],
            Self::Help => &[],
        }
    }

    /// Returns whether it is printed once, and again when the gateway's state changes.
    pub const fn is_report(self) -> bool {
        matches!(self, Self::Explain | Self::Incidents)
    }

    /// Returns whether it is about one gateway.
    pub(crate) const fn is_of_gateway(self) -> bool {
        !matches!(self, Self::Help)
    }

    /// Returns its name.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Explain => "explain",
            Self::Incidents => "incidents",
            Self::Help => "keys",
        }
    }
}

/// The position of a pane in its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the last lines, and it follows new ones.
    End,
    /// At the line with this number, counted from the first line that the pane ever had.
    At(usize),
}

/// One row of the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PaneRow {
    pub text: String,
    /// Whether its line has the searched text.
    pub is_found: bool,
}

/// The rows and columns of a pane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PaneSize {
    pub columns: usize,
    pub rows: usize,
}

/// The lines of a pane.
#[derive(Debug, Clone)]
pub(crate) struct Pane {
    pub kind: PaneKind,
    /// The gateway's name.
    pub name: String,
    /// Whether the command that prints its report still runs.
    pub is_loading: bool,
    /// Whether the gateway has changed since that command was started.
    pub is_outdated: bool,
    lines: VecDeque<String>,
    /// How many lines were dropped.
    forgotten: usize,
    place: Place,
    searched: String,
}

impl Pane {
    pub fn new(kind: PaneKind, name: String) -> Self {
        let place = if kind == PaneKind::Log { Place::End } else { Place::At(0) };
        let (lines, searched) = (VecDeque::new(), String::new());
        let is_loading = kind.is_report();
        Self { kind, name, is_loading, is_outdated: false, lines, forgotten: 0, place, searched }
    }

    pub fn add(&mut self, lines: Vec<String>) {
        self.lines.extend(lines);
        while self.lines.len() > KEPT {
            self.lines.pop_front();
            self.forgotten = self.forgotten.saturating_add(1);
        }
    }

    /// Replaces all lines.
    pub fn replace(&mut self, lines: Vec<String>) {
        self.lines.clear();
        self.forgotten = 0;
        self.add(lines);
    }

    pub fn is_paused(&self) -> bool {
        self.kind == PaneKind::Log && self.place != Place::End
    }

    pub fn searched(&self) -> &str {
        &self.searched
    }

    /// Stops following, or follows the last lines again.
    pub fn pause(&mut self, size: PaneSize) {
        self.place = match self.place {
            Place::End => Place::At(self.top(size)),
            Place::At(_) if self.kind == PaneKind::Log => Place::End,
            at @ Place::At(_) => at,
        };
    }

    /// Scrolls by lines; negative is up.
    pub fn scroll(&mut self, by: isize, size: PaneSize) {
        let top = self.top(size);
        if by > 0 && self.place == Place::End {
            return;
        }
        self.go(top.saturating_add_signed(by), size);
    }

    pub fn first(&mut self, size: PaneSize) {
        self.go(0, size);
    }

    pub fn last(&mut self, size: PaneSize) {
        self.place = Place::End;
        if self.kind != PaneKind::Log {
            self.place = Place::At(self.top(size));
        }
    }

    /// Searches for a text. Shows the last line that has it in a log, and the first one in a
    /// report. Returns whether a line has it.
    pub fn search(&mut self, text: String) -> bool {
        self.searched = text;
        if self.kind == PaneKind::Log { self.find_before(self.end()) } else { self.find_from(0) }
    }

    /// Shows the next line with the searched text. Returns whether there is one.
    pub fn next(&mut self, size: PaneSize) -> bool {
        self.find_from(self.top(size).saturating_add(1))
    }

    /// Shows the previous line with the searched text.
    pub fn previous(&mut self, size: PaneSize) -> bool {
        self.find_before(self.top(size))
    }

    fn find_from(&mut self, from: usize) -> bool {
        let skipped = from.saturating_sub(self.forgotten);
        let found = self.lines.iter().skip(skipped).position(|line| self.is_found(line));
        found.is_some_and(|place| {
            // The line is the first one shown, even if that leaves rows empty.
            self.place = Place::At(place.saturating_add(skipped).saturating_add(self.forgotten));
            true
        })
    }

    fn find_before(&mut self, before: usize) -> bool {
        let taken = before.saturating_sub(self.forgotten).min(self.lines.len());
        let found = self.lines.iter().take(taken).rposition(|line| self.is_found(line));
        found.is_some_and(|place| {
            self.place = Place::At(place.saturating_add(self.forgotten));
            true
        })
    }

    fn is_found(&self, line: &str) -> bool {
        !self.searched.is_empty() && line.to_lowercase().contains(&self.searched.to_lowercase())
    }

    /// Shows the lines from this one on. If these do not fill the pane, the last lines are shown,
    /// and a log is followed.
    fn go(&mut self, at: usize, size: PaneSize) {
        let last_top = self.last_top(size);
        self.place = match self.kind {
            PaneKind::Log if at >= last_top => Place::End,
            _ => Place::At(at.min(last_top)),
        };
    }

    /// Returns the first shown line.
    fn top(&self, size: PaneSize) -> usize {
        match self.place {
            Place::At(at) => at.clamp(self.forgotten, self.end()),
            Place::End => self.last_top(size),
        }
    }

    /// Returns the first of the last lines that fit. A line that is longer than the pane is shown
    /// in part.
    fn last_top(&self, size: PaneSize) -> usize {
        let mut rows = 0_usize;
        let fits = self.lines.iter().rev().take_while(|line| {
            rows = rows.saturating_add(wrapped(line, size.columns).len());
            rows <= size.rows
        });
        self.end().saturating_sub(fits.count().max(usize::from(!self.lines.is_empty())))
    }

    /// Returns how many lines the pane has ever had.
    fn end(&self) -> usize {
        self.forgotten.saturating_add(self.lines.len())
    }

    /// Returns the rows that are shown.
    pub fn rows(&self, size: PaneSize) -> Vec<PaneRow> {
        let skipped = self.top(size).saturating_sub(self.forgotten);
        let mut rows = Vec::new();
        for line in self.lines.iter().skip(skipped) {
            if rows.len() >= size.rows {
                break;
            }
            let is_found = self.is_found(line);
            rows.extend(wrapped(line, size.columns).into_iter().map(|text| PaneRow { text, is_found }));
        }
        rows.truncate(size.rows);
        rows
    }
}

/// Returns a line as rows that are no wider than this, divided between words where that is
/// possible.
fn wrapped(line: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(2);
    let (mut rows, mut rest) = (Vec::new(), line);
    loop {
        let end = end_of_row(rest, columns);
        let (row, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        rows.push(row.to_owned());
        if after.is_empty() {
            return rows;
        }
        rest = after;
    }
}

/// Returns where the first row of a line ends.
fn end_of_row(line: &str, columns: usize) -> usize {
    let (mut used, mut after_space) = (0_usize, None);
    for (at, character) in line.char_indices() {
        used = used.saturating_add(character.width().unwrap_or(0));
        if used > columns {
            return after_space.unwrap_or(at);
        }
        if character == ' ' && !line.get(..at).unwrap_or_default().trim().is_empty() {
            after_space = Some(at.saturating_add(1));
        }
    }
    line.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: PaneSize = PaneSize { columns: 10, rows: 3 };

    fn log(count: usize) -> Pane {
        let mut pane = Pane::new(PaneKind::Log, "coder".to_owned());
        pane.add((0..count).map(|number| format!("line {number}")).collect());
        pane
    }

    fn shown(pane: &Pane) -> Vec<String> {
        pane.rows(SIZE).into_iter().map(|row| row.text).collect()
    }

    #[test]
    fn a_log_shows_its_last_lines_until_it_is_paused() {
        let mut pane = log(5);
        assert_eq!(shown(&pane), ["line 2", "line 3", "line 4"]);
        pane.pause(SIZE);
        pane.add(vec!["more".to_owned()]);
        assert_eq!((shown(&pane)[2].as_str(), pane.is_paused()), ("line 4", true));
        pane.pause(SIZE);
        assert_eq!((shown(&pane)[2].as_str(), pane.is_paused()), ("more", false));
    }

    #[test]
    fn scrolling_up_pauses_and_scrolling_to_the_end_follows_again() {
        let mut pane = log(5);
        pane.scroll(-1, SIZE);
        assert_eq!((shown(&pane)[0].as_str(), pane.is_paused()), ("line 1", true));
        pane.scroll(-10, SIZE);
        assert_eq!(shown(&pane)[0], "line 0");
        pane.scroll(2, SIZE);
        assert!(!pane.is_paused());
        pane.first(SIZE);
        assert_eq!(shown(&pane)[0], "line 0");
        pane.last(SIZE);
        assert!(!pane.is_paused());
    }

    #[test]
    fn a_paused_log_stays_where_it_is_while_old_lines_are_forgotten() {
        let mut pane = log(KEPT);
        pane.scroll(-10, SIZE);
        let before = shown(&pane);
        pane.add((0..100).map(|number| format!("new {number}")).collect());
        assert_eq!(shown(&pane), before);
        pane.add((0..2 * KEPT).map(|number| format!("newer {number}")).collect());
        assert_eq!(shown(&pane)[0], format!("newer {KEPT}"));
    }

    #[test]
    fn a_search_goes_back_through_a_log_and_forward_again() {
        let mut pane = log(30);
        assert!(pane.search("LINE 1".to_owned()));
        assert_eq!(shown(&pane)[0], "line 19");
        assert!(pane.previous(SIZE));
        assert_eq!(shown(&pane)[0], "line 18");
        assert!(pane.next(SIZE) && !pane.next(SIZE));
        assert_eq!(shown(&pane)[0], "line 19");
        assert!(pane.rows(SIZE)[0].is_found && !pane.rows(SIZE)[1].is_found);
        assert!(!pane.search("nothing".to_owned()));
    }

    #[test]
    fn a_report_begins_at_its_first_line_and_does_not_scroll_past_its_end() {
        let mut pane = Pane::new(PaneKind::Explain, "coder".to_owned());
        pane.replace((0..5).map(|number| format!("line {number}")).collect());
        assert_eq!(shown(&pane)[0], "line 0");
        pane.scroll(50, SIZE);
        assert_eq!(shown(&pane)[0], "line 2");
        pane.replace(vec!["short".to_owned()]);
        pane.scroll(-1, SIZE);
        assert_eq!(shown(&pane), ["short"]);
    }

    #[test]
    fn long_lines_take_several_rows() {
        let mut pane = log(0);
        pane.add(vec!["0123456789abc".to_owned(), "x".to_owned()]);
        assert_eq!(shown(&pane), ["0123456789", "abc", "x"]);
        assert_eq!(wrapped("日本語", 4), ["日本", "語"]);
        assert_eq!(wrapped("is       three words", 16), ["is       three ", "words"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}
