//! Publishes the state of a service in files: status, policy, deaths, and the `down` file.
//!
//! *Lives here:* writing them.
//! *Does not live here:* their content (the machine).

use std::os::fd::AsFd;

use gatevisor_sys::{Errno, file};
use gatevisor_wire::files;
use gatevisor_wire::policy::PublishedPolicy;
use gatevisor_wire::status::Status;
use gatevisor_wire::tally::{self, Death};
use rustix::fs::{AtFlags, Mode, OFlags, fstat, openat, unlinkat};

use crate::service::SupervisedService;
use crate::settings;
use crate::status_file::put_status;
use crate::stderr_log::say;

/// Replaces the status; reports a failure.
pub(crate) fn status(service: &SupervisedService, status: &Status) {
    if let Err(errno) = put_status(service.supervise(), status, false)
        && !is_removed(service.dir(), errno)
    {
        say!("warning: {}: cannot write its status: {errno}", service.name());
    }
}

/// Replaces the policy.
pub(crate) fn policy(service: &SupervisedService, policy: &PublishedPolicy) {
    let mode = Mode::from_raw_mode(0o644);
    let result = file::publish(service.supervise(), "policy", "policy.new", &policy.encode(), mode);
    if let Err(errno) = result
        && !is_removed(service.dir(), errno)
    {
        say!("warning: {}: cannot write its policy: {errno}", service.name());
    }
}

/// Adds a death to the tally.
pub(crate) fn death(service: &SupervisedService, death: Death) {
    let keep = settings::max_death_tally(service);
    if let Err(errno) = record_death(service.supervise(), death, keep)
        && !is_removed(service.dir(), errno)
    {
        say!("warning: {}: cannot record its death: {errno}", service.name());
    }
}

/// Makes or removes the `down` file.
pub(crate) fn down_file(service: &SupervisedService, is_down: bool) {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let (doing, result) = if is_down {
        // Whatever exists under that name means that the service is down, so it is not even opened.
        ("make", openat(service.dir(), files::DOWN, flags, Mode::from_raw_mode(0o644)).map(drop))
    } else {
        ("remove", unlinkat(service.dir(), files::DOWN, AtFlags::empty()))
    };
    match result {
        Ok(()) | Err(Errno::EXIST | Errno::NOENT) => {}
        Err(errno) => say!("warning: {}: cannot {doing} its `down` file: {errno}", service.name()),
    }
}

/// Returns whether a write failed because the whole service directory was removed while it was
/// open. Nobody can read its files any more.
fn is_removed(dir: impl AsFd, errno: Errno) -> bool {
    errno == Errno::NOENT && fstat(dir).is_ok_and(|stat| stat.st_nlink == 0)
}

fn record_death(supervise: impl AsFd, death: Death, keep: usize) -> Result<(), Errno> {
    if keep == 0 {
        return Ok(());
    }
    let supervise = supervise.as_fd();
    let mut buffer = vec![0; tally::MAX.saturating_mul(tally::SIZE)];
    let mut deaths = match file::read_small(supervise, "death_tally", &mut buffer) {
        // A tally that cannot be decoded is started anew.
        Ok(bytes) => tally::decode_all(bytes).unwrap_or_default(),
        // So is one that is somebody else's file.
        Err(Errno::NOENT | Errno::MLINK) => Vec::new(),
        Err(errno) => return Err(errno),
    };
    deaths.push(death);
    let first = deaths.len().saturating_sub(keep);
    let kept = deaths.get(first..).unwrap_or_default();
    file::publish(
        supervise,
        "death_tally",
        "death_tally.new",
        &tally::encode_all(kept),
        Mode::from_raw_mode(0o644),
    )
}
