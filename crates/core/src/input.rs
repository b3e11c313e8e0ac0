//! The inputs of a service's machine.
//!
//! *Lives here:* the inputs; facts from disk travel inside them.
//! *Does not live here:* the meaning of an input in each phase ([`crate::machine`]).

use gatevisor_wire::Pid;
use gatevisor_wire::control::Control;
use gatevisor_wire::wait::WaitStatus;

/// Something that happened. Facts from disk that the machine needs travel inside the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceInput {
    /// A byte came through the control FIFO.
    Control(Control),
    /// A process was forked for `run`; it has not reached its program yet.
    Forked(Pid),
    /// An earlier process of the service still runs and holds its lock. The started process waits
    /// for the lock.
    Blocked,
    /// The process reached its program.
    Spawned,
    /// No process was made, or it did not reach its program. The text names the step and the
    /// reason.
    SpawnFailed(String),
    /// The down signal was sent. `SIGKILL` is due after this many milliseconds; 0 means never.
    Terminating(u64),
    /// A process was forked for `finish`. It may take this many milliseconds; 0 means no limit.
    FinishForked(Pid, u64),
    /// There is no `finish`, or it cannot be executed.
    FinishAbsent,
    /// A process was forked that ends leftover processes. It may take this many milliseconds.
    ClearForked(Pid, u64),
    /// No such process was made, or it did not reach its program. The text is the reason.
    ClearFailed(String),
    /// A process was forked that asks whether the service wants to be started again. It may take
    /// this many milliseconds.
    AskForked(Pid, u64),
    /// No such process was made, or it did not reach its program. The text is the reason.
    AskFailed(String),
    /// The kernel killed the service's process because memory ran out. Its end is the next input.
    OutOfMemory,
    /// The process of the current phase ended.
    Exited(WaitStatus),
    /// The service wrote a newline to its notification descriptor.
    Ready,
    /// The time returned by [`crate::Machine::deadline`] has come.
    Deadline,
    /// The supervisor is shutting down: stop the service, then end.
    Shutdown,
    /// The service directory is gone: stop the service, kill it after this many milliseconds, then
    /// end.
    Withdraw(u64),
    /// Nobody will write to its input any more: let it reach the end of its input, stop it after
    /// this many milliseconds if it does not, then end.
    Drain(u64),
    /// Kill whatever runs, now.
    KillNow,
}
