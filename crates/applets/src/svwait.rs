//! `s6-svwait`: waits until services are up or down.

use std::ffi::OsString;

use gatevisor_client::ServiceDir;

use crate::arguments::{Arguments, number};
use crate::listen::{self, Goal};
use crate::{Fatal, Outcome};

pub(crate) const USAGE: &str =
    "s6-svwait [ -U | -u | -d | -D | -r | -R ] [ -a | -o ] [ -t timeout ] servicedir...";

/// Waits until all services, or any with `-o`, are as requested; `-u` if nothing is said.
///
/// **Source:** <https://skarnet.org/software/s6/s6-svwait.html>
pub(crate) fn run(words: &[OsString]) -> Outcome {
    let arguments = Arguments::parse(words, b"UudDrRao", b"t")?;
    let mut goal = Goal { up: true, ready: false, again: false };
    let mut any = false;
    let mut timeout_ms = 0;
    for (option, value) in &arguments.options {
        match option {
            b'a' => any = false,
            b'o' => any = true,
            b't' => timeout_ms = number(*value)?,
            option => goal = Goal::of(*option).ok_or(Fatal::Usage)?,
        }
    }
    arguments.first()?;
    let dirs: Vec<ServiceDir> = arguments.operands.iter().map(ServiceDir::new).collect();
    listen::until(&dirs, goal, any, listen::deadline(timeout_ms))
}
