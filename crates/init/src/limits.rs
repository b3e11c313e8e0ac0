//! The limits that the supervisor changes for itself, and their restoration for its children.
//!
//! *Lives here:* the limit of open files, which is raised; the limit of core files, because a core
//! would hold the environment of every service; the adjustment that makes the kernel choose another
//! process when memory is short.
//! *Does not live here:* restoring them between clone and exec (`gatevisor_sys::spawn`).
//!
//! **Source:** setrlimit(2); core(5); proc(5), `oom_score_adj`.

use std::fs;
use std::io::Write;

use gatevisor_sys::spawn::GivenBack;
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};

/// The adjustment of a process that the kernel never chooses.
const NEVER_CHOSEN: i32 = -1000;
/// The file with this process's adjustment.
const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";
/// The limit that prevents every core file, even one that is piped to a program; with 0, a program
/// is still started.
const NO_CORE: u64 = 1;

/// Changes all of them, as far as permitted, and returns the former values.
pub(crate) fn change() -> GivenBack {
    GivenBack { open_files: raise_open_files(), core: forbid_core(), oom_score_adj: be_the_last() }
}

/// Restores the former values, because this process becomes another program.
pub(crate) fn give_back(before: &GivenBack) {
    for (resource, limit) in [(Resource::Nofile, before.open_files), (Resource::Core, before.core)] {
        if let Some((current, maximum)) = limit {
            let _ = setrlimit(resource, Rlimit { current: Some(current), maximum: Some(maximum) });
        }
    }
    if let Some(number) = before.oom_score_adj {
        let _ = set_oom_score_adj(number);
    }
}

/// Returns a limit in the kernel's form.
fn plain(limit: &Rlimit) -> (u64, u64) {
    (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX))
}

fn raise_open_files() -> Option<(u64, u64)> {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    if before.current == before.maximum || setrlimit(Resource::Nofile, raised).is_err() {
        return None;
    }
    Some(plain(&before))
}

fn forbid_core() -> Option<(u64, u64)> {
    let before = getrlimit(Resource::Core);
    if before.current == Some(NO_CORE) || before.maximum.is_some_and(|most| most < NO_CORE) {
        return None;
    }
    setrlimit(Resource::Core, Rlimit { current: Some(NO_CORE), maximum: before.maximum }).ok()?;
    Some(plain(&before))
}

/// Makes the kernel kill any other process before this one, if root may do so. In a container, root
/// usually may not. Then the supervisor's small size protects it.
fn be_the_last() -> Option<i32> {
    let before: i32 = fs::read_to_string(OOM_SCORE_ADJ).ok()?.trim().parse().ok()?;
    if !geteuid().is_root() || before == NEVER_CHOSEN {
        return None;
    }
    set_oom_score_adj(NEVER_CHOSEN).ok()?;
    Some(before)
}

fn set_oom_score_adj(number: i32) -> std::io::Result<()> {
    // The kernel requires a single write.
    fs::OpenOptions::new().write(true).open(OOM_SCORE_ADJ)?.write_all(number.to_string().as_bytes())
}
