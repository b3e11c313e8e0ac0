//! The output of `gatevisor up` while the gateways start: progress, then the table, then what to
//! type next.
//!
//! It runs beside the supervisor, as an ordinary client of it.

use std::time::{Duration, Instant};

use gatevisor_client::{Waited, Waiter};
use gatevisor_gateways::manager::FollowedStart;
use gatevisor_gateways::profile::ProfileName;

use crate::context::CommandContext;
use crate::exit::{CommandError, Exit};
use crate::out::{self, BOLD, Text};
use crate::status;

/// How long a new supervisor may take to supervise the slots.
const SUPERVISED_WITHIN: Duration = Duration::from_secs(30);

/// How the user can end the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It is in the foreground.
    CtrlC,
    /// It is in the background.
    Down,
}

/// Waits for the wanted gateways and shows the results; returns an exit code.
///
/// `others` are gateways that have a slot and stay down.
pub fn run(context: &CommandContext, wanted: &[ProfileName], others: &[ProfileName], ending: Ending) -> i32 {
    match show(context, wanted, others, ending) {
        Ok(()) => 0,
        Err(failure) => i32::from(out::fail(&failure)),
    }
}

fn show(
    context: &CommandContext,
    wanted: &[ProfileName],
    others: &[ProfileName],
    ending: Ending,
) -> Result<(), CommandError> {
    let deadline = Instant::now().checked_add(SUPERVISED_WITHIN);
    // The table shows a supervised scandir, even if no gateway is wanted.
    for name in wanted.iter().chain(others) {
        let reached = Waiter::subscribe(&context.manager.slot(name))
            .and_then(|mut waiter| waiter.supervised(deadline))
            .map_err(|error| CommandError::of(Exit::System, &error))?;
        if reached != Waited::Reached {
            out::warn(&format!("{name} is not supervised; the lines above may say why"));
        }
    }
    if !wanted.is_empty() {
        let names: Vec<&str> = wanted.iter().map(ProfileName::as_str).collect();
        out::say(format_args!("waiting for {} of {}", count(wanted.len()), names.join(", ")));
    }
    let began = Instant::now();
    let mut gone: usize = 0;
    context.manager.follow_starts(wanted, &mut |name, start| {
        gone = gone.saturating_add(usize::from(start == FollowedStart::NotSupervised));
        let seconds = began.elapsed().as_secs_f64();
        match start {
            FollowedStart::Up => out::say(format_args!("{name} is up after {seconds:.1} s")),
            FollowedStart::Live => out::say(format_args!("{name} is live after {seconds:.1} s")),
            FollowedStart::Ready => out::say(format_args!("{name} is ready after {seconds:.1} s")),
            FollowedStart::Failed { reason } => {
                let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
                out::warn(&format!(
                    "{name} failed to start{reason}; `gatevisor gateway status {name}` says more"
                ));
            }
            FollowedStart::NotSupervised => out::warn(&format!("{name} is not supervised")),
            FollowedStart::Late { state } => out::warn(&format!("{name} is {state} after {seconds:.0} s")),
        }
    });
    if gone > 0 && gone == wanted.len() {
        // The supervisor is being stopped already, and reports that itself.
        return Ok(());
    }
    out::empty_line()?;
    status::table(context)?;
    hints(context, wanted, ending)
}

fn count(number: usize) -> String {
    if number == 1 { "the gateway".to_owned() } else { format!("the {number} gateways") }
}

fn hints(context: &CommandContext, wanted: &[ProfileName], ending: Ending) -> Result<(), CommandError> {
    let program = context.program.display();
    let options = context.options();
    let example = wanted.first().map_or("NAME", ProfileName::as_str);
    let command =
        |rest: &str| out::line(Text::from("  ").styled(BOLD, format_args!("{program} {options} {rest}")));
    out::empty_line()?;
    out::line(if ending == Ending::CtrlC { "In another terminal:" } else { "Next:" })?;
    command("status --watch")?;
    command(&format!("logs -f {example}"))?;
    command(&format!("gateway restart {example}"))?;
    let comes_back = "what is wanted comes back at the next start.";
    match ending {
        Ending::CtrlC => out::line(format_args!("Here: Ctrl-C stops everything in order; {comes_back}"))?,
        Ending::Down => {
            command("down")?;
            out::line(format_args!("The last one stops everything in order; {comes_back}"))?;
        }
    }
    out::empty_line()
}
