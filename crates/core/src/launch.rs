//! How the programs of a service are started.
//!
//! *Lives here:* what the small files of a service directory mean together for the start of `run`,
//! and how leftover processes are ended.
//! *Does not live here:* reading these files, and starting processes.

use gatevisor_wire::Pid;

use crate::effect::Leftover;
use crate::entry::ServiceRole;

/// Milliseconds from `SIGTERM` to `SIGKILL` for the process of an earlier supervisor, if its
/// service directory names no time.
const ORPHAN_GRACE_MS: u64 = 10_000;
/// The same for the survivors of a process.
const SURVIVOR_GRACE_MS: u64 = 2000;
/// Milliseconds for which the logger of an earlier supervisor may read on.
const READER_GRACE_MS: u64 = 15_000;
/// Milliseconds besides, for finding processes and for killing those that ignore `SIGTERM`.
const LOOKING_MS: u64 = 6000;

/// Why a service with `lock-fd` has no control group.
const LOCK_AND_GROUP: &str =
    "lock-fd and cgroup/ cannot both be had for a service of another user; remove one";

/// Returns why `run` cannot be given both of these descriptors.
pub fn descriptor_conflict(notification: Option<i32>, lock: Option<i32>) -> Option<&'static str> {
    (lock.is_some() && lock == notification)
        .then_some("passing descriptors to ./run: notification-fd and lock-fd are the same; change one")
}

/// Whether `run` is started in a control group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupDecision {
    /// None is requested.
    None,
    /// It is started in one.
    Enter,
    /// It runs without the requested group, for this reason.
    Without(&'static str),
    /// It is not started, for this reason.
    Refuse(String),
}

/// The facts for the decision about a control group.
#[derive(Debug, Clone, Copy)]
pub struct GroupRequest {
    /// Whether it is a service of the scandir or its logger.
    pub role: ServiceRole,
    /// Whether its programs run as a user other than the supervisor's.
    pub is_of_other_user: bool,
    /// Whether it holds a lock.
    pub has_lock: bool,
}

/// Decides whether `run` is started in a control group. The closures tell whether the directory
/// requests one, and whether strictly; they are called only if it matters.
pub fn group(
    request: GroupRequest,
    asks: impl FnOnce() -> bool,
    is_strict: impl FnOnce() -> bool,
) -> GroupDecision {
    if request.role != ServiceRole::Main || !asks() {
        GroupDecision::None
    } else if !(request.has_lock && request.is_of_other_user) {
        GroupDecision::Enter
    } else if is_strict() {
        GroupDecision::Refuse(format!("making a control group for ./run: {LOCK_AND_GROUP}"))
    } else {
        // The supervisor would have to open a file of the owner's with its own rights.
        GroupDecision::Without(LOCK_AND_GROUP)
    }
}

/// How leftover processes are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPlan {
    /// The word for them in the call of the program that ends them.
    pub word: &'static str,
    /// The process that left them, if it is known.
    pub pid: Option<Pid>,
    /// Milliseconds from `SIGTERM` to `SIGKILL`.
    pub grace_ms: u64,
    /// Milliseconds that the whole operation may take.
    pub limit_ms: u64,
    /// Whether messages about it go to the service's log.
    pub is_logged: bool,
}

/// Decides how leftover processes are ended. `own_grace_ms` is the directory's time before a kill,
/// or 0.
pub fn cleanup(
    whose: Leftover,
    role: ServiceRole,
    is_of_other_user: bool,
    own_grace_ms: impl FnOnce() -> u64,
) -> CleanupPlan {
    let (word, pid, grace_ms) = match (whose, role) {
        (Leftover::OfProcess(pid), _) => ("survivors", Some(pid), SURVIVOR_GRACE_MS),
        (Leftover::OfSupervision(pid), ServiceRole::Main) => {
            let own = own_grace_ms();
            ("orphan", pid, if own == 0 { ORPHAN_GRACE_MS } else { own })
        }
        // The logger ends by itself when its input has ended.
        (Leftover::OfSupervision(pid), ServiceRole::Logger) => ("reader", pid, READER_GRACE_MS),
    };
    // A process's user can look into the process, so a process of another user gets no output
    // descriptor of the supervisor's.
    let is_logged =
        role == ServiceRole::Main && (is_of_other_user || matches!(whose, Leftover::OfProcess(_)));
    CleanupPlan { word, pid, grace_ms, limit_ms: grace_ms.saturating_add(LOOKING_MS), is_logged }
}
