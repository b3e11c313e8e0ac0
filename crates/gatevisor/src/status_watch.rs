//! `gatevisor status --watch`: shows the table again whenever something changes.
//!
//! *Lives here:* the lines that stay on the screen, its pages, and turning them.
//! *Does not live here:* the table (`status`).
//!
//! The terminal's modes are not changed: it delivers a line at a time. So Enter turns the page, and
//! nothing has to be restored however the command ends.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::Duration;

use gatevisor_gateways::profile::ProfileName;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::args::StatusOptions;
use crate::context::CommandContext;
use crate::event_subscriber::EventSubscriber;
use crate::exit::{CommandError, DONE, Outcome};
use crate::out::{self, DIM, Text};
use crate::screen::Screen;
use crate::status::{self, StatusTable};

/// The time between two displays of the table without a change, because uptimes and memory change.
const WATCH_EVERY: Duration = Duration::from_secs(2);

/// Rows of a screen for other lines: the summary, the head, the page's number, the cursor, and a
/// message about the supervisor.
const ROWS_KEPT: usize = 5;

/// What the user typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Typed {
    Nothing,
    NextPage,
    End,
    NoMore,
}

/// Shows the table until the user ends it.
pub fn run(context: &CommandContext, options: &StatusOptions) -> Outcome {
    let (only, is_wide) = (&*status::only(context, &options.choice)?, options.wide);
    status::say_program(context);
    let mut page = 0;
    show(context, only, is_wide, &mut page)?;
    let mut subscriber = EventSubscriber::open(context.manager.scandir(), only.to_vec())?;
    let mut turns = Screen::of_stdout().is_some() && io::stdin().is_terminal();
    if turns {
        subscriber.wake_on(io::stdin().as_fd().try_clone_to_owned().ok());
    }
    loop {
        subscriber.receive(Some(WATCH_EVERY), |_, _| Ok(()))?;
        match if turns { typed() } else { Typed::Nothing } {
            Typed::Nothing => {}
            Typed::NextPage => page = page.saturating_add(1),
            Typed::End => return DONE,
            Typed::NoMore => {
                turns = false;
                subscriber.wake_on(None);
            }
        }
        if !context.json {
            if Screen::of_stdout().is_some() { out::clear_screen()? } else { out::empty_line()? }
        }
        show(context, only, is_wide, &mut page)?;
    }
}

fn show(
    context: &CommandContext,
    only: &[ProfileName],
    is_wide: bool,
    page: &mut usize,
) -> Result<(), CommandError> {
    let (reports, _) = status::reports(context, only)?;
    if context.json {
        return reports.iter().try_for_each(out::json);
    }
    status::say_standing(context, context.supervisor_running()?);
    let screen = Screen::of_stdout();
    let table = StatusTable::new(reports, is_wide, screen);
    let Some(screen) = screen else {
        let mut lines = vec![table.head];
        lines.extend(table.blocks.into_iter().flatten());
        lines.extend(table.summary.map(Text::from));
        return out::lines(&lines);
    };
    // The summary and the head stay in place on every page.
    let mut lines: Vec<Text> = table.summary.map(Text::from).into_iter().collect();
    lines.push(table.head);
    let pages = screen.pages(&table.blocks, ROWS_KEPT);
    *page = page.checked_rem(pages.len()).unwrap_or(0);
    let shown = pages.get(*page).cloned().unwrap_or_default();
    let blocks = table.blocks.into_iter().skip(shown.start).take(shown.len());
    lines.extend(blocks.flatten());
    if pages.len() > 1 {
        let words = format!("page {} of {}; Enter shows the next", page.saturating_add(1), pages.len());
        lines.push(Text::default().styled(DIM, words));
    }
    out::lines(&lines)
}

/// Returns what was typed since the last call.
fn typed() -> Typed {
    let stdin = io::stdin();
    let now = Timespec::default();
    if !poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0) {
        return Typed::Nothing;
    }
    let mut bytes = [0; 256];
    match rustix::io::read(&stdin, &mut bytes) {
        Ok(length) if length > 0 => {
            let is_end = bytes.iter().take(length).any(|byte| byte.eq_ignore_ascii_case(&b'q'));
            if is_end { Typed::End } else { Typed::NextPage }
        }
        _ => Typed::NoMore,
    }
}
