//! *Lives here:* observing one service directory.
//!
//! *Does not live here:* what the states mean (`gatevisor-client`); reports of them
//! (`crate::inspect`).

use std::path::Path;

use gatevisor_client::status_view::StateName;
use gatevisor_client::{ExecProgress, ServiceDir, status_view};
use gatevisor_slot::start_permits::{self, StartDelay};
use gatevisor_wire::fail_code::FailCode;
use rustix::fs::OFlags;

use super::Observed;
use crate::files::read_opened;
use crate::profile::ProfileName;
use crate::slots::{DATA_FAIL_CODES, DATA_RESTART_CODES};

/// The most bytes that a file with exit codes may have.
const CODES_BYTES: usize = 1024;

/// Returns what can be seen of a service directory, except why its supervisor may refuse it.
pub fn observe_directory(dir: &Path, service: String, profile: Option<ProfileName>) -> Observed {
    observed(&ServiceDir::new(dir), service, profile, || None)
}

/// Returns the exit codes that ask for a restart.
pub(super) fn restart_codes(dir: &ServiceDir) -> Vec<u8> {
    words(dir, DATA_RESTART_CODES, |word| u8::try_from(gatevisor_wire::number::parse(word)?).ok())
}

/// Returns the exit codes after which a restart cannot help.
pub(super) fn fail_codes(dir: &ServiceDir) -> Vec<FailCode> {
    words(dir, DATA_FAIL_CODES, FailCode::parse)
}

fn words<T>(dir: &ServiceDir, file: &'static str, parse: impl Fn(&[u8]) -> Option<T>) -> Vec<T> {
    let opened = dir.open(file, OFlags::RDONLY);
    let bytes = opened.ok().and_then(|file| read_opened(file, CODES_BYTES).ok()).unwrap_or_default();
    bytes.split(u8::is_ascii_whitespace).filter_map(parse).collect()
}

/// Returns what the start of a service waits for, before its command is executed.
pub(super) fn delay(dir: &ServiceDir) -> Option<StartDelay> {
    start_permits::delay(dir.path().parent()?, dir.status().ok()?.pid?.get())
}

/// Returns what can be seen of one service directory.
pub(super) fn observed(
    dir: &ServiceDir,
    service: String,
    profile: Option<ProfileName>,
    refusal: impl FnOnce() -> Option<String>,
) -> Observed {
    // The directory is opened, so that its path is looked up once and not for each file. If that
    // fails, each read reports why.
    let whole = dir;
    let dir = &dir.held().unwrap_or_else(|_| dir.clone());
    let view = status_view::observe(dir);
    // The refusal of the supervisor says more than the error of a file that could not be read
    // because of it.
    let refused = if view.state == StateName::NotSupervised { refusal() } else { None };
    let executed = matches!(view.progress, ExecProgress::Command(_));
    let starts = view.state == StateName::Starting;
    let is_before_command = starts && !executed;
    let deaths = dir.deaths();
    // An exit code needs an explanation only after an end.
    let has_ended = !deaths.is_empty() || view.status.is_none_or(|status| !status.is_up());
    Observed {
        service,
        profile,
        state: view.state,
        status: view.status,
        executed,
        policy: view.policy,
        normally_up: view.normally_up,
        deaths,
        start_error: view.start_error,
        not_ready: if starts { dir.not_ready() } else { None },
        delay: is_before_command.then(|| delay(whole)).flatten(),
        problem: refused.or(view.problem),
        fail_codes: if has_ended { fail_codes(dir) } else { Vec::new() },
        restart_codes: if has_ended { restart_codes(dir) } else { Vec::new() },
    }
}
