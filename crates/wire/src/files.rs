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
/// Present where the service is down by default.
pub const DOWN: &str = "down";
/// The service directory of the logger.
pub const LOG: &str = "log";
/// Says, by being there, that the service's standard error is a stream of its own; ours alone.
pub const LOG_STDERR: &str = "log/stderr";
/// Number of the descriptor on which the service says that it is ready.
pub const NOTIFICATION_FD: &str = "notification-fd";
/// Milliseconds from wanting down to SIGKILL.
pub const TIMEOUT_KILL: &str = "timeout-kill";
/// Milliseconds until the finish script is killed.
pub const TIMEOUT_FINISH: &str = "timeout-finish";
/// The signal that brings the service down.
pub const DOWN_SIGNAL: &str = "down-signal";
/// The signal that makes the service read its configuration again.
pub const RELOAD_SIGNAL: &str = "reload-signal";
/// How many deaths are remembered.
pub const MAX_DEATH_TALLY: &str = "max-death-tally";
/// Present where SIGKILL at `timeout-kill` goes to the process group.
pub const FLAG_TIMEOUT_KILLPG: &str = "flag-timeout-killpg";
/// Present where the service asks for a pid namespace of its own.
pub const FLAG_NEWPIDNS: &str = "flag-newpidns";
/// Number of the descriptor that is locked against a second instance.
pub const LOCK_FD: &str = "lock-fd";
/// The event fifodir.
pub const EVENT: &str = "event";
/// Mode of the event fifodir: its group may make listeners, nobody else may list them.
pub const EVENT_MODE: u32 = 0o3730;
/// Directory of the supervisor's own files.
pub const SUPERVISE: &str = "supervise";
/// The control FIFO of a service.
pub const CONTROL: &str = "supervise/control";
/// The lock that a supervisor of the service holds.
pub const LOCK: &str = "supervise/lock";
/// The status file.
pub const STATUS: &str = "supervise/status";
/// The death tally.
pub const DEATH_TALLY: &str = "supervise/death_tally";
/// What the restart policy is doing; ours alone.
pub const POLICY: &str = "supervise/policy";
/// Directory of numbers that say how much the service as a whole may use; ours alone.
pub const CGROUP: &str = "cgroup";
/// Present where the service is not started without what `cgroup/` asks for.
pub const CGROUP_STRICT: &str = "cgroup/strict";
/// Files that no supervisor touches.
pub const DATA: &str = "data";
/// Says, by being there, that what the service's process leaves behind is ended before the next
/// start; ours alone.
pub const KILL_SURVIVORS: &str = "data/kill-survivors";
/// Processes that asked for what is done to the service they belong to: they are not ended with it;
/// ours alone.
pub const ASKED_BY: &str = "data/asked-by";
/// Why the last start failed before the service's command was reached; ours alone.
pub const START_ERROR: &str = "data/start-error";
/// Why a service that is probed is not ready although something answers, or although nothing does
/// any more; ours alone.
pub const NOT_READY: &str = "data/not-ready";
/// File in which our interpreter of `run` writes its process number when it is about to become the
/// command, and which it keeps locked until it has, or has said in `data/start-error` why not.
pub const STARTED: &str = "data/started";
/// Directory of the files of a scandir's supervisor.
pub const SVSCAN: &str = ".s6-svscan";
/// The control FIFO of a scandir.
pub const SVSCAN_CONTROL: &str = ".s6-svscan/control";
/// The lock that a supervisor of the scandir holds.
pub const SVSCAN_LOCK: &str = ".s6-svscan/lock";
/// The lock that our supervisor holds and no other program does, whatever it is called; ours alone.
pub const SVSCAN_OURS: &str = ".s6-svscan/gatevisor";
/// Directory in which our supervisor says what is wrong with a user's log daemon, while something
/// is: a file called as the number of the user; ours alone.
pub const SVSCAN_LOGGING: &str = ".s6-svscan/logging";
/// There from the beginning of our supervision of a scandir to its end in order; ours alone.
pub const SVSCAN_UNFINISHED: &str = ".s6-svscan/unfinished";
/// Directory in which our supervisor says why it does not supervise an entry: a file of the entry's
/// name.
pub const SVSCAN_REFUSED: &str = ".s6-svscan/refused";
/// Name, below [`SVSCAN`], of the file in which the boot of a container says which file it holds as
/// the lock of the home.
pub const SVSCAN_HOME_LOCK: &str = "home-lock";
/// File of a scandir in which a service of the container says that it holds the lock of the home.
pub const HOME_LOCK: &str = ".home-lock";
