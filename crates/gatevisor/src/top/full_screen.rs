//! The terminal while it shows a full-screen view.
//!
//! *Lives here:* taking it and giving it back, however the view ends; its keys and its size.
//! *Does not live here:* what is drawn (`gatevisor_top`).

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Stdin, Write};
use std::time::Duration;

use gatevisor_term::stream;
use gatevisor_top::{TopKey, View, draw};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{execute, queue};
use ratatui::layout::Rect;
use rustix::process::{Signal, getpid, kill_process};

use crate::screen::Screen;

/// The most keys that are taken at once.
const KEYS_AT_ONCE: usize = 256;

/// Returns whether there is a terminal to draw on, and one to type on.
pub fn is_possible() -> bool {
    stream::stdout_is_terminal() && io::stdin().is_terminal()
}

/// Returns the descriptor that can be read when a key was typed.
pub fn keyboard() -> Stdin {
    io::stdin()
}

/// Returns whether the locale says that the terminal shows more than ASCII.
pub fn shows_unicode() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter();
    let locale = locale.filter_map(std::env::var_os).find(|value| !value.is_empty());
    locale.is_some_and(|locale| {
        let locale = locale.to_string_lossy().to_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// Returns the keys since the last call.
pub fn keys() -> Vec<TopKey> {
    let mut keys = Vec::new();
    while keys.len() < KEYS_AT_ONCE && event::poll(Duration::ZERO).unwrap_or(false) {
        match event::read() {
            Ok(Event::Key(key)) => keys.extend(TopKey::of(&key)),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    keys
}

type Output = BufWriter<File>;

/// A terminal that shows a full-screen view. It is given back when this is dropped.
pub struct FullScreen {
    terminal: Terminal<CrosstermBackend<Output>>,
}

impl FullScreen {
    /// Takes the terminal.
    pub fn open() -> io::Result<Self> {
        give_back_at_a_panic();
        take()?;
        let terminal = Terminal::new(CrosstermBackend::new(BufWriter::new(output()?)));
        let terminal = terminal.inspect_err(|_| give_back())?;
        Ok(Self { terminal })
    }

    /// Draws the view.
    pub fn draw(&mut self, view: &View) -> io::Result<()> {
        self.terminal.draw(|frame| draw(view, frame)).map(drop)
    }

    /// Returns the columns and rows, and draws everything anew the next time.
    pub fn resized(&mut self) -> (u16, u16) {
        let screen = Screen::of_stdout();
        let columns = screen.and_then(|screen| u16::try_from(screen.columns()).ok()).unwrap_or(80);
        let rows = screen.and_then(|screen| u16::try_from(screen.rows()).ok()).unwrap_or(24);
        let _ = self.terminal.resize(Rect::new(0, 0, columns, rows));
        (columns, rows)
    }

    /// Takes the terminal after somebody else may have changed it.
    pub fn enter_again(&mut self) {
        let _ = disable_raw_mode();
        let _ = take();
        let _ = self.terminal.clear();
    }

    /// Gives the terminal back, and stops this process until somebody continues it.
    pub fn suspend(&mut self) {
        give_back();
        let _ = kill_process(getpid(), Signal::STOP);
        self.enter_again();
    }
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Returns a copy of standard output that the view is drawn on.
#[expect(clippy::disallowed_methods, reason = "whatever is foreign in a view was escaped before")]
fn output() -> io::Result<File> {
    stream::own_stdout().map(File::from)
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    let taken = output().and_then(|mut output| execute!(output, EnterAlternateScreen, Hide));
    taken.inspect_err(|_| give_back())
}

/// Gives the terminal back as it was.
fn give_back() {
    if let Ok(mut output) = output() {
        let _ = queue!(output, LeaveAlternateScreen, Show).and_then(|()| output.flush());
    }
    let _ = disable_raw_mode();
}

/// Makes a panic give the terminal back before it is reported.
fn give_back_at_a_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        give_back();
        report(panic);
    }));
}
