//! `s6-svc`: sends commands to a service.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use gatevisor_client::{Condition, Quantifier, SendError, ServiceDir};
use gatevisor_wire::control::{Control, ControlSignal};
use gatevisor_wire::exit::Exit;
use gatevisor_wire::signal;

use crate::arguments::{Arguments, number};
use crate::fatal::warn;
use crate::goal::{self, WaitGoal};
use crate::requested::SentRequest;
use crate::{AppletOutcome, Fatal};

pub(crate) const USAGE: &str = "s6-svc [ -wu | -wU | -wd | -wD | -wr | -wR ] [ -T timeout ] \
                                [ -s signal | -abqhkti12pcy ] [ -roduDUxOQlPCK ] servicedir";

const NAME: &str = "s6-svc";
/// The most commands in one call, as in s6.
const MAX_COMMANDS: usize = 62;
/// How long a request may take to appear in the status. The known callers give up after 5 s.
const RECORDED_WITHIN: Duration = Duration::from_secs(4);

/// Sends the commands, and waits for their effect or until they are recorded.
///
/// **Source:** <https://skarnet.org/software/s6/s6-svc.html>
pub(crate) fn run(words: &[OsString]) -> AppletOutcome {
    let flags = Control::ALL.map(Control::byte);
    let arguments = Arguments::parse(words, &flags, b"sTw")?;
    let mut commands = Vec::new();
    let mut timeout_ms = 0;
    let mut goal = None;
    for (option, value) in &arguments.options {
        match (option, value) {
            (b's', Some(name)) => commands.push(by_signal(name)?),
            (b'T', value) => timeout_ms = number(*value)?,
            (_, Some(what)) => goal = Some(WaitGoal::named(what).ok_or(Fatal::Usage)?),
            (option, None) => commands.extend(Control::from_byte(*option)),
        }
    }
    let path = arguments.first()?;
    if commands.len() > MAX_COMMANDS {
        return Err(Fatal::new(Exit::Usage, "too many commands"));
    }
    if arguments.operands.len() > 1 {
        warn(NAME, "ignoring extra arguments");
    }
    if path.is_empty() {
        return Err(Fatal::new(Exit::Usage, "invalid service path"));
    }
    let dir = ServiceDir::new(path);
    let deadline = goal::deadline(timeout_ms);
    match goal {
        None => send(&dir, &commands),
        Some(goal) => {
            let goal = possible(&dir, goal);
            if commands.is_empty() {
                let dirs = [dir];
                goal::wait(&dirs, &mut goal::subscribe(&dirs)?, goal, Quantifier::All, deadline)
            } else {
                act(&dir, &commands, goal, deadline)
            }
        }
    }
}

/// Returns the command that sends a signal.
fn by_signal(name: &OsStr) -> Result<Control, Fatal> {
    let Some(number) = signal::parse(name.as_bytes()) else {
        return Err(Fatal::new(Exit::Usage, format!("invalid signal: {}", name.display())));
    };
    let known = ControlSignal::ALL.into_iter().find(|signal| signal.number() == number);
    known.map(Control::Signal).ok_or_else(|| {
        let message =
            format!("no command sends the signal {}: only -abqhkti12pcy are commands", name.display());
        Fatal::new(Exit::Usage, message)
    })
}

/// Leaves readiness out, with a warning, if the service never announces its readiness.
fn possible(dir: &ServiceDir, goal: WaitGoal) -> WaitGoal {
    if goal.cond != Condition::Ready || dir.has_readiness() {
        return goal;
    }
    let message = format!(
        "`{}` has no notification-fd: waiting until it is up, not until it is ready",
        dir.path().display()
    );
    warn(NAME, &message);
    goal.without_readiness()
}

/// Sends the commands, and returns when a request among them is recorded, so that every later look
/// shows it.
fn send(dir: &ServiceDir, commands: &[Control]) -> AppletOutcome {
    let within = Instant::now().checked_add(RECORDED_WITHIN);
    if SentRequest::send(dir, commands).map_err(|error| not_sent(&error))?.shown(dir, within) {
        return Ok(0);
    }
    let message = format!(
        "the command was sent, but the supervisor of `{}` has not recorded it within {} s; is it stopped?",
        dir.path().display(),
        RECORDED_WITHIN.as_secs()
    );
    Err(Fatal::new(Exit::TimedOut, message))
}

fn not_sent(error: &SendError) -> Fatal {
    let code = match error {
        SendError::NotSupervised { .. } => Exit::NotSupervised,
        SendError::Missing { .. } | SendError::Write { .. } => Exit::System,
    };
    Fatal::of(code, error, error.hint())
}

/// Sends the commands, and waits for the goal.
fn act(dir: &ServiceDir, commands: &[Control], goal: WaitGoal, deadline: Option<Instant>) -> AppletOutcome {
    let dirs = std::slice::from_ref(dir);
    let mut waiters = goal::subscribe(dirs)?;
    // A failure before the commands is not their result.
    for waiter in &mut waiters {
        waiter.forget_failure();
    }
    let request = SentRequest::send(dir, commands).map_err(|error| not_sent(&error))?;
    goal::wait(dirs, &mut waiters, goal, Quantifier::All, deadline)?;
    // The goal may have been reached before anybody read the commands. Then the result of the
    // request is certain, but a later look at the service must show the request as well.
    let recorded_by = [deadline, Instant::now().checked_add(RECORDED_WITHIN)].into_iter().flatten().min();
    request.shown(dir, recorded_by);
    if request.is_down() && !goal.cond.wants_up() {
        for waiter in &mut waiters {
            waiter.look_if_wanted_down();
        }
        goal::wait(dirs, &mut waiters, goal, Quantifier::All, deadline)?;
    }
    Ok(0)
}
