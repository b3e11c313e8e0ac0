//! *Lives here:* names of the entries of service directories and scandirs.
//!
//! *Does not live here:* opening them.
//!
//! **Source:** <https://skarnet.org/software/s6/servicedir.html>,
//! <https://skarnet.org/software/s6/scandir.html>

/// The program of the service.
pub const RUN: &str = "run";
/// The program that is run after each death.
pub const FINISH: &str = "finish";
/// Present if the service is down by default.
pub const DOWN: &str = "down";
/// The service directory of the logger.
pub const LOG: &str = "log";
/// Present if the service's standard error is a stream of its own; ours alone.
pub const LOG_STDERR: &str = "log/stderr";
/// The number of the descriptor on which the service announces its readiness.
pub const NOTIFICATION_FD: &str = "notification-fd";
/// Milliseconds from wanting the service down to SIGKILL.
pub const TIMEOUT_KILL: &str = "timeout-kill";
/// Milliseconds until the finish script is killed.
pub const TIMEOUT_FINISH: &str = "timeout-finish";
/// The signal that brings the service down.
pub const DOWN_SIGNAL: &str = "down-signal";
/// The signal that makes the service read its configuration again.
pub const RELOAD_SIGNAL: &str = "reload-signal";
/// The number of deaths that are remembered.
pub const MAX_DEATH_TALLY: &str = "max-death-tally";
/// Present if SIGKILL at `timeout-kill` goes to the process group.
pub const FLAG_TIMEOUT_KILLPG: &str = "flag-timeout-killpg";
/// Present if the service asks for a PID namespace of its own.
pub const FLAG_NEWPIDNS: &str = "flag-newpidns";
/// Number of the descriptor that is locked against a second instance.
pub const LOCK_FD: &str = "lock-fd";
/// The event fifodir.
pub const EVENT: &str = "event";
/// Mode of the event fifodir: its group may make subscribers, nobody else may list them.
pub const EVENT_MODE: u32 = 0o3730;
/// Directory of the supervisor's own files.
pub const SUPERVISE: &str = "supervise";
/// The control FIFO of a service.
pub const CONTROL: &str = "supervise/control";
/// The lock that a supervisor of the service holds.
pub const LOCK: &str = "supervise/lock";
/// The status file.
pub const STATUS: &str = "supervise/status";
/// The moments and results of the last deaths.
pub const DEATH_TALLY: &str = "supervise/death_tally";
/// What the restart policy is doing; ours alone.
pub const POLICY: &str = "supervise/policy";
/// Directory of numbers that limit what the service as a whole may use; ours alone.
pub const CGROUP: &str = "cgroup";
/// Present if the service must not be started without the limits in `cgroup/`.
pub const CGROUP_STRICT: &str = "cgroup/strict";
/// Files that no supervisor touches.
pub const DATA: &str = "data";
/// Present if the survivors of the service's process are ended before the next start; ours alone.
pub const KILL_SURVIVORS: &str = "data/kill-survivors";
/// Processes that asked for a command to their own service. They are not ended with it; ours alone.
pub const ASKED_BY: &str = "data/asked-by";
/// Why the last start failed before the service's command was reached; ours alone.
pub const START_ERROR: &str = "data/start-error";
/// Why a probed service is not ready although a program answers, or although it was ready before;
/// ours alone.
pub const NOT_READY: &str = "data/not-ready";
/// File in which our interpreter of `run` writes its process number before it becomes the command.
/// It keeps the file locked until it has become the command, or has written the reason why not to
/// `data/start-error`.
pub const STARTED: &str = "data/started";
/// Directory of the files of a scandir's supervisor.
pub const SVSCAN: &str = ".s6-svscan";
/// The control FIFO of a scandir.
pub const SVSCAN_CONTROL: &str = ".s6-svscan/control";
/// The lock that a supervisor of the scandir holds.
pub const SVSCAN_LOCK: &str = ".s6-svscan/lock";
/// The lock that only our supervisor holds, whatever the name of its process is; ours alone.
pub const SVSCAN_OURS: &str = ".s6-svscan/gatevisor";
/// Directory in `.s6-svscan` in which our supervisor reports problems of a user's log daemon while
/// they last. The file's name is the user's number; ours alone.
pub const LOGGING: &str = "logging";
/// Exists from the beginning of our supervision of a scandir to its orderly end; ours alone.
pub const SVSCAN_UNFINISHED: &str = ".s6-svscan/unfinished";
/// Directory in which our supervisor reports why it does not supervise an entry. The file's name is
/// the entry's.
pub const SVSCAN_REFUSED: &str = ".s6-svscan/refused";
/// Name, below [`SVSCAN`], of the file in which the boot of a container records which file it holds
/// as the lock of the home.
pub const SVSCAN_HOME_LOCK: &str = "home-lock";
/// File of a scandir in which a service of the container records that it holds the lock of the
/// home.
pub const HOME_LOCK: &str = ".home-lock";
