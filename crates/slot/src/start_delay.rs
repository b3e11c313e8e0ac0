//! *Lives here:* the waits of a start before the interpreter of `run` goes on, and the messages
//! about them.
//!
//! *Does not live here:* the waiting itself (`start_permits`).

use gatevisor_wire::exit::Exit;

use crate::failure::FailedStart;
use crate::file::ServiceFile;
use crate::live::Number;
use crate::lookups::{Lookups, expanded};
use crate::os;
use crate::start_permits::{self, AwaitNotice, PermitRules, StartSight};

/// Returns when a service may start, and whether it had to wait for that: first for the services
/// that it starts after, then for a permit.
pub(crate) fn wait(
    file: &ServiceFile,
    name: &str,
    sight: StartSight,
    lookups: &Lookups,
) -> Result<bool, FailedStart> {
    let has_waited = wait_for_others(file, name, sight);
    Ok(wait_for_permit(file, name, sight, lookups)? || has_waited)
}

/// Returns when the services that this one starts after have started, and whether that took any
/// time.
fn wait_for_others(file: &ServiceFile, name: &str, sight: StartSight) -> bool {
    !file.after.is_empty()
        && start_permits::wait_for(name, &file.after, sight.awaited, &mut |told| match told {
            AwaitNotice::Waits(other) => {
                os::say(&format!("gatevisor: {name}: waits for the start of {other}"));
            }
            AwaitNotice::GivesUp(other, waited_ms) => {
                let seconds = waited_ms / 1000;
                os::say(&format!(
                    "gatevisor: {name}: {other} has not started within {seconds} s; starts without it"
                ));
            }
        })
}

/// Returns when this service may start beside others that are starting, and whether it had to wait
/// for that.
///
/// A gateway that shows no evidence neither waits nor is waited for. The same holds for one with
/// wrong settings; the error is reported when the settings are used.
fn wait_for_permit(
    file: &ServiceFile,
    name: &str,
    sight: StartSight,
    lookups: &Lookups,
) -> Result<bool, FailedStart> {
    let Some(setting) = &file.start_parallel else { return Ok(false) };
    let limit = match setting {
        Number::Plain(number) => number.to_string(),
        Number::Text(text) => {
            expanded("start-parallel", text, &|name| lookups.get(name))?.to_string_lossy().into_owned()
        }
    };
    let Some(limit) = start_permits::limit(&limit) else {
        let (stage, message) =
            ("expanding start-parallel".to_owned(), format!("`{limit}`: {}", start_permits::wrong()));
        return Err(FailedStart { stage, message, errno: None, exit: Exit::Usage });
    };
    let Some((unwatched_ms, longest_ms)) = lookups.start_span(file).filter(|_| limit > 0) else {
        return Ok(false);
    };
    let rules = PermitRules { limit, unwatched_ms, longest_ms, see: sight.start };
    Ok(start_permits::take(name, &rules, &mut |before| {
        os::say(&format!("gatevisor: {name}: queued, {before} before it: others are being started"));
    }))
}
