//! `s6-svwait`: waits until services are up or down.

use std::ffi::OsString;

use gatevisor_client::{Quantifier, ServiceDir, room_for};

use crate::arguments::{Arguments, number};
use crate::goal::{self, WaitGoal};
use crate::{AppletOutcome, Fatal};

pub(crate) const USAGE: &str =
    "s6-svwait [ -U | -u | -d | -D | -r | -R ] [ -a | -o ] [ -t timeout ] servicedir...";

/// Waits until all services, or any with `-o`, are in the requested state; `-u` is the default.
///
/// **Source:** <https://skarnet.org/software/s6/s6-svwait.html>
pub(crate) fn run(words: &[OsString]) -> AppletOutcome {
    let arguments = Arguments::parse(words, b"UudDrRao", b"t")?;
    let mut goal = WaitGoal::UP;
    let mut quantifier = Quantifier::All;
    let mut timeout_ms = 0;
    for (option, value) in &arguments.options {
        match option {
            b'a' => quantifier = Quantifier::All,
            b'o' => quantifier = Quantifier::Any,
            b't' => timeout_ms = number(*value)?,
            option => goal = WaitGoal::of(*option).ok_or(Fatal::Usage)?,
        }
    }
    arguments.first()?;
    let dirs: Vec<ServiceDir> = arguments.operands.iter().map(ServiceDir::new).collect();
    let _limit = room_for(dirs.len());
    let deadline = goal::deadline(timeout_ms);
    goal::wait(&dirs, &mut goal::subscribe(&dirs)?, goal, quantifier, deadline)
}
