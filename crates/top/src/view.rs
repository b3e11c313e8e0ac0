//! *Lives here:* the state of the view, and how inputs change it.
//!
//! *Does not live here:* drawing (`draw`), and carrying out the effects.

use std::collections::BTreeMap;

use crate::action::Action;
use crate::history::{Sample, UsageHistory};
use crate::keys::{KEYS, Meaning, TopKey, meaning};
use crate::pane::{Pane, PaneKind, PaneSize};
use crate::row::{Row, Tone};
use crate::table::Order;
use crate::typing::{self, Edited};

/// How the terminal is drawn on, and how numbers are written.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Whether colours are used.
    pub colours: bool,
    /// Whether the terminal shows other characters than ASCII.
    pub unicode: bool,
    /// Returns a number of seconds as text.
    pub span: fn(u64) -> String,
    /// Returns a number of bytes as text.
    pub size: fn(u64) -> String,
}

/// An input of the view.
#[derive(Debug, Clone)]
pub enum Input {
    /// A key was typed.
    Key(TopKey),
    /// The screen has this size.
    Resized {
        /// Its width in columns.
        columns: u16,
        /// Its height in rows.
        rows: u16,
    },
    /// The clock shows this many seconds since a fixed moment.
    Tick(u64),
    /// All gateways, with the summary of their states.
    All(Vec<Row>, Option<String>),
    /// Gateways whose rows have changed, with the new summary.
    Changed(Vec<Row>, Option<String>),
    /// Gateways whose state has a new text because the text contains a time.
    Aged(Vec<(String, String)>),
    /// What gateways use now.
    Samples(Vec<(String, Sample)>),
    /// `None` if a supervisor runs, or else why there is nothing to see.
    Supervisor(Option<String>),
    /// Lines that the command of the pane has printed. A report is passed as a whole.
    PaneLines(Vec<String>),
    /// The command of the pane has ended.
    PaneEnded,
    /// An action has ended, with this message.
    Acted(Tone, String),
}

/// What the binary must do after an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// End the program.
    Quit,
    /// Stop this process until somebody continues it.
    Suspend,
    /// Draw the whole screen anew.
    Redraw,
    /// Run the command of a pane about this gateway, instead of the present one.
    Open(PaneKind, String),
    /// End the command of the pane.
    ClosePane,
    /// Carry out this action on this gateway.
    Act(Action, String),
}

/// What receives the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InputMode {
    Keys,
    /// The filter that is being typed; this is the text that it had before.
    Filter(String),
    Search(String),
    Confirm(Action, String),
}

/// The state of the view.
#[derive(Debug, Clone)]
pub struct View {
    pub(crate) look: Look,
    pub(crate) title: String,
    pub(crate) columns: u16,
    pub(crate) rows: u16,
    pub(crate) now_s: u64,
    gateways: BTreeMap<String, Row>,
    histories: BTreeMap<String, UsageHistory>,
    pub(crate) summary: Option<String>,
    pub(crate) problem: Option<String>,
    pub(crate) message: Option<(Tone, String)>,
    pub(crate) order: Order,
    pub(crate) is_reversed: bool,
    pub(crate) filter: String,
    pub(crate) mode: InputMode,
    /// The names of the gateways in the table, from top to bottom.
    pub(crate) shown: Vec<String>,
    pub(crate) selected: usize,
    /// The index of the first row of the table that is on the screen.
    pub(crate) top: usize,
    pub(crate) pane: Option<Pane>,
    pub(crate) is_in_pane: bool,
}

/// Rows of the screen for other things than the table and the pane: the title, the summary, the
/// head, the selected gateway, and the last line.
const ROWS_KEPT: u16 = 5;
/// The fewest rows that the table has beside a pane.
const LEAST_ROWS: u16 = 4;

impl View {
    /// Returns the view of a home, before any gateway is known.
    pub fn new(title: String, look: Look) -> Self {
        Self {
            look,
            title,
            columns: 80,
            rows: 24,
            now_s: 0,
            gateways: BTreeMap::new(),
            histories: BTreeMap::new(),
            summary: None,
            problem: None,
            message: None,
            order: Order::default(),
            is_reversed: false,
            filter: String::new(),
            mode: InputMode::Keys,
            shown: Vec::new(),
            selected: 0,
            top: 0,
            pane: None,
            is_in_pane: false,
        }
    }

    /// Takes an input, and returns the effects.
    pub fn handle(&mut self, input: Input) -> Vec<Effect> {
        let effects = match input {
            Input::Key(key) => self.key(key),
            Input::Resized { columns, rows } => {
                (self.columns, self.rows) = (columns, rows);
                Vec::new()
            }
            // The order of the rows does not depend on the clock.
            Input::Tick(now_s) => {
                self.now_s = now_s;
                return Vec::new();
            }
            Input::All(rows, summary) => {
                let state = |row: Option<&Row>| row.map(|row| row.state.clone());
                let is_same = state(self.pane_row()) == state(self.pane_row_of(&rows));
                self.gateways = rows.into_iter().map(|row| (row.name.clone(), row)).collect();
                self.histories.retain(|name, _| self.gateways.contains_key(name));
                self.summary = summary;
                if is_same { Vec::new() } else { self.renew_report() }
            }
            Input::Changed(rows, summary) => {
                let is_of_pane = self.pane_row_of(&rows).is_some();
                self.gateways.extend(rows.into_iter().map(|row| (row.name.clone(), row)));
                self.summary = summary;
                if is_of_pane { self.renew_report() } else { Vec::new() }
            }
            Input::Aged(states) => {
                for (name, state) in states {
                    self.gateways.entry(name).and_modify(|row| row.state = state);
                }
                Vec::new()
            }
            Input::Samples(samples) => {
                for (name, sample) in samples {
                    self.histories.entry(name).or_default().add(sample);
                }
                Vec::new()
            }
            Input::Supervisor(problem) => {
                self.problem = problem;
                Vec::new()
            }
            Input::PaneLines(lines) => {
                if let Some(pane) = &mut self.pane {
                    if pane.kind.is_report() { pane.replace(lines) } else { pane.add(lines) }
                }
                Vec::new()
            }
            Input::PaneEnded => self.pane_ended(),
            Input::Acted(tone, words) => {
                self.message = Some((tone, words));
                Vec::new()
            }
        };
        self.arrange();
        effects
    }

    /// Returns the names of the gateways on the screen.
    pub fn visible(&self) -> &[String] {
        let end = self.top.saturating_add(usize::from(self.table_rows())).min(self.shown.len());
        self.shown.get(self.top..end).unwrap_or_default()
    }

    pub(crate) fn row(&self, name: &str) -> Option<&Row> {
        self.gateways.get(name)
    }

    pub(crate) fn count(&self) -> usize {
        self.gateways.len()
    }

    pub(crate) fn history(&self, name: &str) -> Option<&UsageHistory> {
        self.histories.get(name)
    }

    pub(crate) fn sample(&self, name: &str) -> Sample {
        self.history(name).map(UsageHistory::last).unwrap_or_default()
    }

    pub(crate) fn selected(&self) -> Option<&Row> {
        self.row(self.shown.get(self.selected)?)
    }

    /// Returns the number of rows of the pane, with its title.
    pub(crate) fn pane_rows(&self) -> u16 {
        let room = self.rows.saturating_sub(ROWS_KEPT);
        match &self.pane {
            None => 0,
            Some(pane) if pane.kind == PaneKind::Help => room,
            Some(_) => (room.saturating_mul(3) / 5).min(room.saturating_sub(LEAST_ROWS)),
        }
    }

    pub(crate) fn table_rows(&self) -> u16 {
        self.rows.saturating_sub(ROWS_KEPT).saturating_sub(self.pane_rows())
    }

    pub(crate) fn pane_size(&self) -> PaneSize {
        PaneSize { columns: self.columns.into(), rows: self.pane_rows().saturating_sub(1).into() }
    }

    fn pane_row(&self) -> Option<&Row> {
        self.row(&self.pane.as_ref()?.name)
    }

    fn pane_row_of<'a>(&self, rows: &'a [Row]) -> Option<&'a Row> {
        let pane = self.pane.as_ref()?;
        rows.iter().find(|row| row.name == pane.name)
    }

    /// Requests the report in the pane again, if the pane has a report.
    fn renew_report(&mut self) -> Vec<Effect> {
        let Some(pane) = self.pane.as_mut().filter(|pane| pane.kind.is_report()) else {
            return Vec::new();
        };
        if pane.is_loading {
            pane.is_outdated = true;
            return Vec::new();
        }
        pane.is_loading = true;
        vec![Effect::Open(pane.kind, pane.name.clone())]
    }

    fn pane_ended(&mut self) -> Vec<Effect> {
        let Some(pane) = &mut self.pane else { return Vec::new() };
        pane.is_loading = false;
        if std::mem::take(&mut pane.is_outdated) { self.renew_report() } else { Vec::new() }
    }

    /// Chooses and sorts the rows, and keeps the selected one selected and on the screen.
    fn arrange(&mut self) {
        let selected = self.shown.get(self.selected).cloned();
        let mut rows: Vec<(&Row, Sample)> = self
            .gateways
            .values()
            .filter(|row| self.filter.is_empty() || row.contains(&self.filter))
            .map(|row| (row, self.sample(&row.name)))
            .collect();
        rows.sort_by(|a, b| self.order.compare(*a, *b));
        if self.is_reversed {
            rows.reverse();
        }
        self.shown = rows.into_iter().map(|(row, _)| row.name.clone()).collect();
        // If the first row was selected, the first row stays selected, so that a user who has not
        // moved sees the worst gateway.
        let place = selected.filter(|_| self.selected > 0);
        let place = place.and_then(|name| self.shown.iter().position(|shown| *shown == name));
        self.selected = place.unwrap_or(self.selected).min(self.shown.len().saturating_sub(1));
        let height = usize::from(self.table_rows()).max(1);
        let lowest = self.selected.saturating_add(1).saturating_sub(height);
        self.top = self.top.clamp(lowest, self.selected.max(lowest));
        self.top = self.top.min(self.shown.len().saturating_sub(height).max(lowest));
    }

    fn key(&mut self, key: TopKey) -> Vec<Effect> {
        self.message = None;
        match std::mem::replace(&mut self.mode, InputMode::Keys) {
            InputMode::Keys => meaning(key).map_or_else(Vec::new, |meaning| self.means(meaning)),
            InputMode::Confirm(action, name) => {
                if matches!(key, TopKey::Char('y' | 'Y')) {
                    self.message = Some((Tone::Changing, format!("{} {name} …", action.word())));
                    vec![Effect::Act(action, name)]
                } else {
                    Vec::new()
                }
            }
            InputMode::Filter(before) => {
                match typing::press(&mut self.filter, key) {
                    Edited::Changed => self.mode = InputMode::Filter(before),
                    Edited::Done => {}
                    Edited::Cancelled => self.filter = before,
                }
                Vec::new()
            }
            InputMode::Search(mut text) => {
                match typing::press(&mut text, key) {
                    Edited::Changed => self.mode = InputMode::Search(text),
                    Edited::Done => self.found(|pane, _| pane.search(text)),
                    Edited::Cancelled => {}
                }
                Vec::new()
            }
        }
    }

    /// Searches in the pane, and says so if nothing is found.
    fn found(&mut self, search: impl FnOnce(&mut Pane, PaneSize) -> bool) {
        let size = self.pane_size();
        let Some(pane) = &mut self.pane else { return };
        if !search(pane, size) {
            self.message = Some((Tone::Changing, format!("no further line with `{}`", pane.searched())));
        }
    }

    fn means(&mut self, meaning: Meaning) -> Vec<Effect> {
        match meaning {
            Meaning::Quit => return vec![Effect::Quit],
            Meaning::Suspend => return vec![Effect::Suspend],
            Meaning::Redraw => return vec![Effect::Redraw],
            Meaning::Start => self.ask(Action::Start),
            Meaning::Stop => self.ask(Action::Stop),
            Meaning::Restart => self.ask(Action::Restart),
            Meaning::Drain => self.ask(Action::Drain),
            Meaning::Log => return self.open(PaneKind::Log),
            Meaning::Explain => return self.open(PaneKind::Explain),
            Meaning::Incidents => return self.open(PaneKind::Incidents),
            Meaning::Help => return self.help(),
            Meaning::Back => return self.back(),
            Meaning::OtherPart => self.is_in_pane = self.pane.is_some() && !self.is_in_pane,
            Meaning::Find if self.is_in_pane => self.mode = InputMode::Search(String::new()),
            Meaning::Find => self.mode = InputMode::Filter(std::mem::take(&mut self.filter)),
            Meaning::NextFound => self.found(Pane::next),
            Meaning::PreviousFound => self.found(Pane::previous),
            Meaning::NextOrder => self.order = self.order.next(),
            Meaning::Reverse => self.is_reversed = !self.is_reversed,
            Meaning::Pause => {
                let size = self.pane_size();
                if let Some(pane) = &mut self.pane {
                    pane.pause(size);
                }
            }
            Meaning::Up
            | Meaning::Down
            | Meaning::PageUp
            | Meaning::PageDown
            | Meaning::First
            | Meaning::Last => self.go(meaning),
        }
        Vec::new()
    }

    fn go(&mut self, meaning: Meaning) {
        let size = self.pane_size();
        let page = if self.is_in_pane { size.rows } else { usize::from(self.table_rows()) };
        let page = isize::try_from(page.saturating_sub(1).max(1)).unwrap_or(1);
        let by = match meaning {
            Meaning::Up => -1,
            Meaning::Down => 1,
            Meaning::PageUp => page.saturating_neg(),
            Meaning::PageDown => page,
            Meaning::First => isize::MIN,
            _ => isize::MAX,
        };
        if let Some(pane) = self.pane.as_mut().filter(|_| self.is_in_pane) {
            match meaning {
                Meaning::First => pane.first(size),
                Meaning::Last => pane.last(size),
                _ => pane.scroll(by, size),
            }
        } else {
            let last = self.shown.len().saturating_sub(1);
            self.selected = self.selected.saturating_add_signed(by).min(last);
        }
    }

    fn ask(&mut self, action: Action) {
        if let Some(name) = self.selected().map(|row| row.name.clone()) {
            self.mode = InputMode::Confirm(action, name);
        }
    }

    fn open(&mut self, kind: PaneKind) -> Vec<Effect> {
        let Some(name) = self.selected().map(|row| row.name.clone()) else { return Vec::new() };
        self.pane = Some(Pane::new(kind, name.clone()));
        self.is_in_pane = true;
        vec![Effect::Open(kind, name)]
    }

    fn help(&mut self) -> Vec<Effect> {
        let mut pane = Pane::new(PaneKind::Help, String::new());
        let width = KEYS.iter().map(|help| help.names.len()).max().unwrap_or(0);
        pane.add(KEYS.iter().map(|help| format!("{:width$}  {}", help.names, help.does)).collect());
        self.pane = Some(pane);
        self.is_in_pane = true;
        vec![Effect::ClosePane]
    }

    fn back(&mut self) -> Vec<Effect> {
        self.is_in_pane = false;
        if self.pane.take().is_some() {
            return vec![Effect::ClosePane];
        }
        self.filter.clear();
        Vec::new()
    }
}
