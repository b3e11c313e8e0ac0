//! `s6-svscanctl`: sends commands to the supervisor of a scandir.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use gatevisor_client::{RefusalWatch, ScanDir, ScanSendError, ServiceDir, wait_supervised};
use gatevisor_wire::exit::Exit;
use gatevisor_wire::scan::ScanCommand;

use crate::arguments::Arguments;
use crate::fatal::warn;
use crate::{AppletOutcome, Fatal};

pub(crate) const USAGE: &str = "s6-svscanctl [ -zabhitqnN ] svscandir";

/// The most commands in one call, as in s6.
const MAX_COMMANDS: usize = 62;
/// How long a rescan may take. The known callers give up after 5 s, and should be told the reason.
const SUPERVISED_WITHIN: Duration = Duration::from_secs(4);

/// Sends the commands. After a rescan, returns when every service that existed at the call is
/// supervised or refused.
///
/// **Source:** <https://skarnet.org/software/s6/s6-svscanctl.html>
pub(crate) fn run(words: &[OsString]) -> AppletOutcome {
    let arguments = Arguments::parse(words, &ScanCommand::ALL.map(ScanCommand::byte), b"")?;
    let options = arguments.options.iter().map(|(option, _)| *option);
    let commands: Vec<ScanCommand> = options.filter_map(ScanCommand::from_byte).collect();
    if commands.len() > MAX_COMMANDS {
        return Err(Fatal::new(Exit::Usage, "too many commands"));
    }
    let scandir = ScanDir::new(arguments.first()?);
    let deadline = Instant::now().checked_add(SUPERVISED_WITHIN);
    // The services that exist at the call; later ones belong to another call.
    let services = if rescans(&commands) { services(&scandir) } else { Ok(Vec::new()) };
    let refusals = RefusalWatch::listen(&scandir).ok();
    scandir.send(&commands).map_err(|error| not_sent(&error))?;
    let left = wait_supervised(&scandir, services?, refusals.as_ref(), deadline)
        .map_err(|errno| Fatal::new(Exit::System, format!("cannot wait for the rescan: {errno}")))?;
    for (dir, reason) in &left.refused {
        // The requested rescan is done, so this is no failure, as with s6-svscan.
        warn("s6-svscanctl", &format!("`{}` is not supervised: {reason}", dir.path().display()));
    }
    for dir in &left.others {
        // Its owner may have removed the files that would show it.
        let path = dir.path().display();
        warn("s6-svscanctl", &format!("`{path}`, which is another user's, does not look supervised"));
    }
    if left.late.is_empty() {
        return Ok(0);
    }
    let names: Vec<String> = left.late.iter().map(|dir| format!("`{}`", dir.path().display())).collect();
    Err(Fatal::new(
        Exit::System,
        format!(
            "the rescan was asked for, but not supervised after {} s: {}; the supervisor's own messages say why",
            SUPERVISED_WITHIN.as_secs(),
            names.join(", ")
        ),
    ))
}

/// Returns whether the commands request a rescan, and do not also end the supervisor.
fn rescans(commands: &[ScanCommand]) -> bool {
    let (mut rescans, mut ends) = (false, false);
    for command in commands {
        match command {
            ScanCommand::Rescan | ScanCommand::Hangup => rescans = true,
            ScanCommand::Abort | ScanCommand::Terminate | ScanCommand::Interrupt | ScanCommand::Quit => {
                ends = true;
            }
            ScanCommand::Reap | ScanCommand::NukeGone | ScanCommand::NukeGoneAndLoggers => {}
        }
    }
    rescans && !ends
}

fn services(scandir: &ScanDir) -> Result<Vec<ServiceDir>, Fatal> {
    match scandir.services() {
        Ok(services) => Ok(services.into_iter().map(|(_, path)| ServiceDir::new(path)).collect()),
        Err(error) => Err(Fatal::new(
            Exit::System,
            format!("cannot read scandir `{}`: {error}", scandir.path().display()),
        )),
    }
}

fn not_sent(error: &ScanSendError) -> Fatal {
    let code = match error {
        ScanSendError::NotRunning { .. } => Exit::Usage,
        ScanSendError::Missing { .. } | ScanSendError::Write { .. } => Exit::System,
    };
    Fatal::of(code, error, error.hint())
}
