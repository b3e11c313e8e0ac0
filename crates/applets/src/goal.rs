//! *Lives here:* the goals of `s6-svwait` and `s6-svc -w`, and the exit codes for the result.
//!
//! *Does not live here:* waiting (`gatevisor_client`), and sending commands.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use gatevisor_client::{Condition, Quantifier, ServiceDir, WaitError, WaitedTogether, Waiter, wait_together};
use gatevisor_wire::exit::Exit;

use crate::{AppletOutcome, Fatal};

/// A goal to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WaitGoal {
    pub(crate) cond: Condition,
    /// Whether it must be down and finished first.
    again: bool,
}

impl WaitGoal {
    /// Up, the default of `s6-svwait`.
    pub(crate) const UP: Self = Self { cond: Condition::Up, again: false };

    /// Returns the goal for the letter of an option of `s6-svwait`.
    pub(crate) const fn of(option: u8) -> Option<Self> {
        let (cond, again) = match option {
            b'u' => (Condition::Up, false),
            b'U' => (Condition::Ready, false),
            b'd' => (Condition::Down, false),
            b'D' => (Condition::Finished, false),
            b'r' => (Condition::Up, true),
            b'R' => (Condition::Ready, true),
            _ => return None,
        };
        Some(Self { cond, again })
    }

    /// Returns the goal for the argument of `-w`; only its first letter counts.
    pub(crate) fn named(what: &OsStr) -> Option<Self> {
        what.as_bytes().first().and_then(|option| Self::of(*option))
    }

    /// Returns the goal without readiness, for a service that never announces its readiness.
    pub(crate) fn without_readiness(self) -> Self {
        let cond = if self.cond == Condition::Ready { Condition::Up } else { self.cond };
        Self { cond, ..self }
    }
}

/// Returns the deadline in this many milliseconds; 0 means none.
pub(crate) fn deadline(ms: u32) -> Option<Instant> {
    if ms == 0 { None } else { Instant::now().checked_add(Duration::from_millis(ms.into())) }
}

/// Subscribes to the events of services, each of which must be supervised.
pub(crate) fn subscribe(dirs: &[ServiceDir]) -> Result<Vec<Waiter>, Fatal> {
    let subscribe = |dir: &ServiceDir| match Waiter::subscribe_supervised(dir) {
        Ok(Some(waiter)) => Ok(waiter),
        Ok(None) => {
            let path = dir.path().display();
            let message =
                format!("no supervisor holds `{path}`; is the scandir running, and is this service in it?");
            Err(Fatal::new(Exit::NotSupervised, message))
        }
        Err(error) => Err(impossible(&error)),
    };
    dirs.iter().map(subscribe).collect()
}

/// Waits until all of the services, or any of them, are in the requested state at one moment.
///
/// The exit code is 0, or the number of services that failed for good. **Source:**
/// <https://skarnet.org/software/s6/s6-svwait.html>
pub(crate) fn wait(
    dirs: &[ServiceDir],
    waiters: &mut [Waiter],
    goal: WaitGoal,
    quantifier: Quantifier,
    deadline: Option<Instant>,
) -> AppletOutcome {
    let conditions = [goal.again.then_some(Condition::Finished), Some(goal.cond)];
    for cond in conditions.into_iter().flatten() {
        let path =
            |index: usize| format!("`{}`", dirs.get(index).map_or("".as_ref(), ServiceDir::path).display());
        match wait_together(waiters, cond, quantifier, deadline).map_err(|error| impossible(&error))? {
            WaitedTogether::Settled(failed) if failed.is_empty() => {}
            WaitedTogether::Settled(failed) => {
                let code = u8::try_from(failed.len())
                    .unwrap_or(u8::MAX)
                    .min(Exit::TimedOut.code().saturating_sub(1));
                let names: Vec<String> = failed.into_iter().map(path).collect();
                let message = format!("failed for good and will not come up by itself: {}", names.join(", "));
                return Err(Fatal::new(code, message));
            }
            WaitedTogether::SupervisorGone(index) => {
                return Err(Fatal::new(
                    Exit::NotSupervised,
                    format!("the supervisor of {} has gone", path(index)),
                ));
            }
            WaitedTogether::TimedOut => return Err(Fatal::new(Exit::TimedOut, "timed out")),
        }
    }
    Ok(0)
}

fn impossible(error: &WaitError) -> Fatal {
    Fatal::of(Exit::System, error, error.hint())
}
