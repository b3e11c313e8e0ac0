//! *Lives here:* drawing the view. *Does not live here:* what is shown (`view`).

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use crate::row::{Row, Tone};
use crate::table::{Columns, Order};
use crate::view::{InputMode, View};

/// The hint at the bottom.
const HINT: &str = "? keys, / filter, o sort, l log, e explain, i incidents, s x r d act, q quit";
/// The hint while the pane has the keys.
const PANE_HINT: &str = "escape close, / search, n N next and previous, space pause, tab table, q quit";

/// Draws the view.
pub fn draw(view: &View, frame: &mut Frame<'_>) {
    let area = frame.area();
    let mut pen = Pen { frame, area, view };
    pen.title();
    pen.summary();
    pen.table();
    let below = 3_u16.saturating_add(view.table_rows());
    pen.pane(below);
    let bottom = area.height.saturating_sub(2);
    if view.pane.as_ref().is_none_or(|pane| pane.kind.is_of_gateway()) {
        pen.selected(bottom);
    }
    pen.last_line(bottom.saturating_add(1));
}

/// Puts lines on the screen.
struct Pen<'a, 'b> {
    frame: &'a mut Frame<'b>,
    area: Rect,
    view: &'a View,
}

impl Pen<'_, '_> {
    fn width(&self) -> usize {
        self.area.width.into()
    }

    fn line(&mut self, row: u16, line: &Line<'_>) {
        if row < self.area.height {
            self.frame.buffer_mut().set_line(0, row, line, self.area.width);
        }
    }

    /// Fills a row of the screen with a style.
    fn paint(&mut self, row: u16, style: Style) {
        if row < self.area.height {
            self.frame.buffer_mut().set_style(Rect { y: row, height: 1, ..self.area }, style);
        }
    }

    fn tone(&self, tone: Tone) -> Style {
        let style = Style::default();
        match (self.view.look.colours, tone) {
            (true, Tone::Good) => style.fg(Color::Green),
            (true, Tone::Changing) => style.fg(Color::Yellow),
            (true, Tone::Bad) => style.fg(Color::Red),
            (true, Tone::Quiet) => style.fg(Color::DarkGray),
            (false, Tone::Bad) => style.add_modifier(Modifier::BOLD),
            (false, _) => style,
        }
    }

    fn title(&mut self) {
        let view = self.view;
        let mut left = format!("gatevisor top  {}", view.title);
        if !view.filter.is_empty() && !matches!(view.mode, InputMode::Filter(_)) {
            left = format!("{left}  with `{}`: {} of {}", view.filter, view.shown.len(), view.count());
        }
        let reversed = if view.is_reversed { ", reversed" } else { "" };
        let right = format!("by {}{reversed}", view.order.word());
        let room = self.width().saturating_sub(right.width()).saturating_sub(1);
        let text = format!("{} {right}", fitted(&left, room));
        self.line(0, &Line::styled(text, Style::default().add_modifier(Modifier::BOLD)));
    }

    fn summary(&mut self) {
        let view = self.view;
        let line = match (&view.problem, &view.summary) {
            (Some(problem), _) => Line::styled(problem.clone(), self.tone(Tone::Bad)),
            (None, Some(summary)) => Line::raw(summary.clone()),
            (None, None) => Line::styled("no gateways", self.tone(Tone::Quiet)),
        };
        self.line(1, &line);
    }

    fn table(&mut self) {
        let view = self.view;
        let longest = view.shown.iter().map(|name| name.width()).max().unwrap_or(0);
        let columns = Columns::of(self.width(), longest);
        let head = head(view, columns);
        let style = Style::default().add_modifier(Modifier::BOLD | Modifier::UNDERLINED);
        self.line(2, &Line::styled(fitted(&head, self.width()), style));
        let visible = view.visible().iter().zip(3_u16..).zip(view.top..);
        for ((name, row), index) in visible {
            let Some(gateway) = view.row(name) else { continue };
            let line = self.gateway(gateway, columns);
            self.line(row, &line);
            if index == view.selected {
                let style = Style::default().add_modifier(Modifier::REVERSED);
                self.paint(row, style);
            }
        }
    }

    fn gateway(&self, row: &Row, columns: Columns) -> Line<'static> {
        let view = self.view;
        let none = || "-".to_owned();
        // A gateway that is not up uses nothing now. The sparklines show what it used before.
        let used = row.up_for_s.map(|_| view.sample(&row.name)).unwrap_or_default();
        let state = Span::styled(fitted(&row.state, columns.state), self.tone(row.tone));
        let rest = [
            fitted(&row.desired, columns.desired),
            right(&row.up_for(view.now_s).map_or_else(none, view.look.span), columns.uptime),
            right(&row.restarts.map_or_else(none, |count| count.to_string()), columns.restarts),
            right(&used.cpu_tenths.map_or_else(none, percent), columns.cpu),
            right(&used.memory_bytes.map_or_else(none, view.look.size), columns.memory),
        ];
        let mut spans =
            vec![Span::raw(fitted(&row.name, columns.name)), Span::raw(" "), state, Span::raw(" ")];
        spans.push(Span::raw(rest.join(" ")));
        if let Some(history) = view.history(&row.name).filter(|_| columns.line > 0) {
            let cpu = history.cpu_line(columns.line, view.look.unicode);
            let memory = history.memory_line(columns.line, view.look.unicode);
            let lines = format!(" {} {memory}", fitted(&cpu, columns.line));
            spans.push(Span::raw(lines));
        }
        Line::from(spans)
    }

    fn pane(&mut self, top: u16) {
        let view = self.view;
        let Some(pane) = view.pane.as_ref().filter(|_| view.pane_rows() > 0) else { return };
        let paused = if pane.is_paused() { "  paused" } else { "" };
        let loading = if pane.is_loading { "  …" } else { "" };
        let found = pane.searched();
        let found = if found.is_empty() { String::new() } else { format!("  with `{found}`") };
        let name = if pane.name.is_empty() { String::new() } else { format!(" {}", pane.name) };
        let title = format!("{}{name}{paused}{found}{loading}", pane.kind.word());
        let mut style = Style::default().add_modifier(Modifier::UNDERLINED);
        if view.is_in_pane {
            style = style.add_modifier(Modifier::BOLD);
        }
        self.line(top, &Line::styled(fitted(&title, self.width()), style));
        for (row, place) in pane.rows(view.pane_size()).into_iter().zip(top.saturating_add(1)..) {
            let mut style = Style::default();
            if row.is_found {
                style = style.add_modifier(Modifier::REVERSED);
            }
            self.line(place, &Line::styled(row.text, style));
        }
    }

    /// Draws what does not fit into the row of the selected gateway.
    fn selected(&mut self, row: u16) {
        let view = self.view;
        let Some(gateway) = view.selected() else { return };
        let mut parts = Vec::new();
        let width = (self.width() / 5).min(30);
        if let Some(history) = view.history(&gateway.name).filter(|_| self.width() < 130) {
            let cpu = history.cpu_line(width, view.look.unicode);
            let memory = history.memory_line(width, view.look.unicode);
            if !memory.trim().is_empty() {
                parts.push(format!("cpu {cpu} mem {memory}"));
            }
        }
        parts.extend(gateway.note.clone());
        if !parts.is_empty() {
            let text = format!("{}: {}", gateway.name, parts.join("  "));
            self.line(row, &Line::styled(text, self.tone(Tone::Quiet)));
        }
    }

    fn last_line(&mut self, row: u16) {
        let view = self.view;
        let (text, style, has_cursor) = match &view.mode {
            InputMode::Filter(_) => (format!("filter: {}", view.filter), Style::default(), true),
            InputMode::Search(text) => (format!("search: {text}"), Style::default(), true),
            InputMode::Confirm(action, name) => {
                let style = self.tone(Tone::Changing).add_modifier(Modifier::BOLD);
                (action.question(name), style, false)
            }
            InputMode::Keys => {
                let hint = if view.is_in_pane { PANE_HINT } else { HINT };
                let message = view.message.as_ref();
                let (tone, words) =
                    message.map_or((Tone::Quiet, hint), |(tone, words)| (*tone, words.as_str()));
                (words.to_owned(), self.tone(tone), false)
            }
        };
        let end = u16::try_from(text.width()).unwrap_or(u16::MAX).min(self.area.width.saturating_sub(1));
        self.line(row, &Line::styled(text, style));
        if has_cursor && row < self.area.height {
            self.frame.set_cursor_position(Position { x: end, y: row });
        }
    }
}

fn head(view: &View, columns: Columns) -> String {
    let mark = |order: Order, name: &str| {
        if order != view.order {
            return name.to_owned();
        }
        let (down, up) = if view.look.unicode { ("▾", "▴") } else { ("v", "^") };
        format!("{name}{}", if view.is_reversed { up } else { down })
    };
    let mut head = format!(
        "{} {} {} {} {} {} {}",
        fitted(&mark(Order::Name, "NAME"), columns.name),
        fitted(&mark(Order::State, "STATE"), columns.state),
        fitted("DESIRED", columns.desired),
        right(&mark(Order::Uptime, "UPTIME"), columns.uptime),
        right(&mark(Order::Restarts, "RESTARTS"), columns.restarts),
        right(&mark(Order::Cpu, "CPU%"), columns.cpu),
        right(&mark(Order::Memory, "MEM"), columns.memory),
    );
    if columns.line > 0 {
        head = format!("{head} {} {}", fitted("CPU", columns.line), fitted("MEM", columns.line));
    }
    head
}

/// Returns tenths of a percent as text.
fn percent(tenths: u64) -> String {
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// Returns a text that is exactly this wide: cut, or with spaces after it.
fn fitted(text: &str, width: usize) -> String {
    let mut fitted = cut(text, width);
    let missing = width.saturating_sub(fitted.width());
    fitted.extend(std::iter::repeat_n(' ', missing));
    fitted
}

/// Returns a text that is at least this wide, with spaces before it.
fn right(text: &str, width: usize) -> String {
    let text = cut(text, width);
    format!("{}{text}", " ".repeat(width.saturating_sub(text.width())))
}

/// Returns a text that is no wider than this. A text that was cut ends with dots.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    for character in text.chars() {
        let mut longer = kept.clone();
        longer.push(character);
        if longer.width() > width.saturating_sub(2) {
            break;
        }
        kept = longer;
    }
    let dots = "..".get(..width.min(2)).unwrap_or_default();
    format!("{kept}{dots}")
}
