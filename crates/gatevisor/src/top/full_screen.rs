//! The terminal in full-screen mode.
//!
//! *Lives here:* entering that mode and leaving it, however the view ends; keys and size.
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

/// Returns whether standard input and standard output are terminals.
pub fn is_possible() -> bool {
    stream::stdout_is_terminal() && io::stdin().is_terminal()
}

/// Returns the descriptor that can be read after a key was typed.
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

/// Returns the keys that were typed since the last call.
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

/// A terminal in full-screen mode. Dropping this leaves the mode.
pub struct FullScreen {
    terminal: Terminal<CrosstermBackend<Output>>,
}

impl FullScreen {
    /// Enters full-screen mode.
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

    /// Returns the columns and rows. The next drawing draws everything.
    pub fn resized(&mut self) -> (u16, u16) {
        let screen = Screen::of_stdout();
        let columns = screen.and_then(|screen| u16::try_from(screen.columns()).ok()).unwrap_or(80);
        let rows = screen.and_then(|screen| u16::try_from(screen.rows()).ok()).unwrap_or(24);
        let _ = self.terminal.resize(Rect::new(0, 0, columns, rows));
        (columns, rows)
    }

    /// Enters full-screen mode after another program may have changed the terminal.
    pub fn enter_again(&mut self) {
        let _ = disable_raw_mode();
        let _ = take();
        let _ = self.terminal.clear();
    }

    /// Leaves full-screen mode, and stops this process until somebody continues it.
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

/// Returns a copy of standard output, to draw on.
#[expect(clippy::disallowed_methods, reason = "whatever is foreign in a view was escaped before")]
fn output() -> io::Result<File> {
    stream::own_stdout().map(File::from)
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    let taken = output().and_then(|mut output| execute!(output, EnterAlternateScreen, Hide));
    taken.inspect_err(|_| give_back())
}

/// Leaves full-screen mode.
fn give_back() {
    if let Ok(mut output) = output() {
        let _ = queue!(output, LeaveAlternateScreen, Show).and_then(|()| output.flush());
    }
    let _ = disable_raw_mode();
}

/// Makes a panic leave full-screen mode before it is reported.
fn give_back_at_a_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        give_back();
        report(panic);
    }));
}
