//! *Lives here:* the setting `after`, and waiting until other services have started.
//!
//! *Does not live here:* whether another service has started, which the caller finds out.
//!
//! It orders starts and is no requirement: a service that is not wanted, has failed or does not
//! exist is not waited for. Which services wait is decided by whoever writes `run`; if two were
//! told to wait for each other, both would start after the limit.

use std::path::Path;

use gatevisor_sys::clock::monotonic_ms;
use gatevisor_sys::proc::Process;
use gatevisor_wire::name::ServiceName;
use rustix::io::Errno;

use super::{AwaitedStart, PermitDirectory, file, own_place, pause, process, read};

/// Milliseconds for which a start waits for others at the most.
pub const AFTER_LIMIT_MS: u64 = 300_000;
/// Milliseconds for which it waits for one of which nobody has told anything yet.
const UNTOLD_MS: u64 = 5_000;
/// The most services that can be named.
pub const MOST_AFTER: usize = 100;
/// Milliseconds between two looks, at the beginning and at the most.
const LOOK_MS: u64 = 25;
const LONGEST_LOOK_MS: u64 = 250;

/// Returns an error if these cannot be names of services to wait for.
///
/// # Errors
/// Tells what would be right.
pub fn check_after(services: &[String]) -> Result<(), String> {
    if services.len() > MOST_AFTER {
        return Err(format!("names more than {MOST_AFTER} services"));
    }
    for service in services {
        let is_name = ServiceName::new(service.as_bytes()).is_ok();
        // The file with the list separates names by spaces.
        if !is_name || service.contains(char::is_whitespace) {
            return Err(format!("`{service}` is not the name of a service"));
        }
    }
    Ok(())
}

/// What a start that waits for others tells.
pub(crate) enum AwaitNotice<'a> {
    /// It waits for this one.
    Waits(&'a str),
    /// It has waited long enough for this one, so many milliseconds, and goes on.
    GivesUp(&'a str, u64),
}

/// Returns when none of these services is starting or about to start, and whether that took any
/// time. The working directory is the service directory of `service`.
pub(crate) fn wait_for(
    service: &str,
    others: &[String],
    see: fn(&Path) -> AwaitedStart,
    tell: &mut dyn FnMut(&AwaitNotice<'_>),
) -> bool {
    let here = std::env::current_dir().ok();
    let Some(scandir) = here.as_deref().and_then(Path::parent) else { return false };
    let began_ms = monotonic_ms();
    let (mut has_waited, mut look_ms) = (false, LOOK_MS);
    let mut note = AwaitNote::new(service);
    for other in others.iter().filter(|other| *other != service) {
        let directory = scandir.join(other);
        let mut untold_since = None;
        loop {
            let (seen, now_ms) = (see(&directory), monotonic_ms());
            let waited_ms = now_ms.saturating_sub(began_ms);
            untold_since = (seen == AwaitedStart::Untold).then(|| untold_since.unwrap_or(now_ms));
            let untold_ms = untold_since.map_or(0, |since| now_ms.saturating_sub(since));
            if !must_wait(seen, waited_ms, untold_ms) {
                if seen != AwaitedStart::Over && has_waited {
                    tell(&AwaitNotice::GivesUp(other, waited_ms));
                }
                break;
            }
            if !std::mem::replace(&mut has_waited, true) {
                tell(&AwaitNotice::Waits(other));
            }
            note.awaits(other);
            pause(look_ms);
            look_ms = look_ms.saturating_mul(2).min(LONGEST_LOOK_MS);
        }
    }
    note.remove();
    has_waited
}

/// The note in the list of starts about what a start waits for. It is only for reports: a start
/// waits even if the list cannot be written.
struct AwaitNote<'a> {
    service: &'a str,
    place: Option<(Process, PermitDirectory)>,
    noted: Option<String>,
}

impl<'a> AwaitNote<'a> {
    fn new(service: &'a str) -> Self {
        Self { service, place: own_place(), noted: None }
    }

    /// Notes that it waits for this service. If another process is writing, the next call does.
    fn awaits(&mut self, other: &str) {
        let Some((own, place)) = &self.place else { return };
        let is_new = self.noted.as_deref() != Some(other);
        if is_new && place.note_awaited(self.service, own, Some(other)) == Ok(true) {
            self.noted = Some(other.to_owned());
        }
    }

    /// Notes that it waits for no service any more.
    fn remove(self) {
        let Some((own, place)) = self.place.filter(|_| self.noted.is_some()) else { return };
        let until_ms = monotonic_ms().saturating_add(super::STUCK_MS);
        while monotonic_ms() < until_ms && place.note_awaited(self.service, &own, None) == Ok(false) {
            pause(LOOK_MS);
        }
    }
}

/// Returns whether to go on waiting after so many milliseconds in all, in the last of which nobody
/// has told anything.
const fn must_wait(seen: AwaitedStart, waited_ms: u64, untold_ms: u64) -> bool {
    match seen {
        AwaitedStart::Over => false,
        AwaitedStart::NotYet => waited_ms < AFTER_LIMIT_MS,
        AwaitedStart::Untold => waited_ms < AFTER_LIMIT_MS && untold_ms < UNTOLD_MS,
    }
}

impl PermitDirectory {
    /// Notes in the list which service the start of this process waits for. Returns false if
    /// another process is just changing the list.
    fn note_awaited(&self, service: &str, own: &Process, awaited: Option<&str>) -> Result<bool, Errno> {
        let Some(_lock) = file::lock(&self.directory, super::LOCK)? else { return Ok(false) };
        let Some(written) = read(&self.directory) else { return Ok(true) };
        let mut permits = written.clone();
        // Where there is no limit, nobody else removes those that were killed while they waited.
        permits.0.retain(|permit| permit.awaits.is_none() || process(permit).is_some());
        permits.note_awaited(own.pid, own.began, service, awaited);
        self.publish(&written, &permits)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_waits_for_others_for_a_limited_time() {
        for (seen, waited_ms, untold_ms, expected) in [
            (AwaitedStart::Over, 0, 0, false),
            (AwaitedStart::NotYet, 0, 0, true),
            (AwaitedStart::NotYet, AFTER_LIMIT_MS - 1, 0, true),
            (AwaitedStart::NotYet, AFTER_LIMIT_MS, 0, false),
            (AwaitedStart::Untold, UNTOLD_MS - 1, UNTOLD_MS - 1, true),
            (AwaitedStart::Untold, UNTOLD_MS, UNTOLD_MS, false),
            // Another one was waited for before.
            (AwaitedStart::Untold, UNTOLD_MS, 0, true),
            (AwaitedStart::Untold, AFTER_LIMIT_MS, 0, false),
        ] {
            assert_eq!(must_wait(seen, waited_ms, untold_ms), expected, "{seen:?} after {waited_ms} ms");
        }
    }

    #[test]
    fn only_names_of_services_can_be_waited_for() {
        let names = |names: &[&str]| names.iter().copied().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(check_after(&names(&["gateway-default", "other"])), Ok(()));
        for wrong in ["", ".", "..", ".hidden", "a/b", "two words", "line\n"] {
            assert!(check_after(&names(&[wrong])).is_err(), "{wrong}");
        }
        assert!(check_after(&vec!["x".to_owned(); MOST_AFTER + 1]).is_err());
    }
}
