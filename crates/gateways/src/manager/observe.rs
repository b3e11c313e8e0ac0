//! *Lives here:* observing one service directory.
//!
//! *Does not live here:* what the states mean (`gatevisor-client`); reports of them (`crate::inspect`).

use std::path::Path;

use gatevisor_client::status_view::StateName;
use gatevisor_client::{ExecProgress, ServiceDir, status_view};
use rustix::fs::OFlags;

use super::Observed;
use crate::files::read_opened;
use crate::profile::ProfileName;
use crate::slots::{DATA_FAIL_CODES, DATA_RESTART_CODES};

/// Bytes of a file with exit codes.
const CODES_BYTES: usize = 1024;

/// Returns what can be seen of one service directory, leaving out why its supervisor refuses it.
pub fn observe_directory(dir: &Path, service: String, profile: Option<ProfileName>) -> Observed {
    observed(&ServiceDir::new(dir), service, profile, || None)
}

/// Returns the exit codes that a file of a service directory lists.
pub(super) fn exit_codes(dir: &ServiceDir, file: &'static str) -> Vec<u8> {
    let opened = dir.open(file, OFlags::RDONLY);
    let bytes = opened.ok().and_then(|file| read_opened(file, CODES_BYTES).ok()).unwrap_or_default();
    let words = bytes.split(u8::is_ascii_whitespace);
    words.filter_map(|word| u8::try_from(gatevisor_wire::number::parse(word)?).ok()).collect()
}

/// Returns what can be seen of one service directory.
pub(super) fn observed(
    dir: &ServiceDir,
    service: String,
    profile: Option<ProfileName>,
    refusal: impl FnOnce() -> Option<String>,
) -> Observed {
    // A held directory is found once instead of at each read. Where it cannot be held, each read says why.
    let dir = &dir.held().unwrap_or_else(|_| dir.clone());
    let view = status_view::observe(dir);
    // A supervisor's refusal says more than what could not be read because of it.
    let refused = if view.state == StateName::NotSupervised { refusal() } else { None };
    let codes = |file: &'static str| exit_codes(dir, file);
    Observed {
        service,
        profile,
        state: view.state,
        status: view.status,
        executed: matches!(view.progress, ExecProgress::Command(_)),
        policy: view.policy,
        normally_up: view.normally_up,
        deaths: dir.deaths(),
        start_error: view.start_error,
        not_ready: dir.not_ready(),
        problem: refused.or(view.problem),
        fail_codes: codes(DATA_FAIL_CODES),
        restart_codes: codes(DATA_RESTART_CODES),
    }
}
