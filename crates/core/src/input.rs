//! What happens to a service.
//!
//! *Lives here:* the inputs of its machine; facts that it needs from disk travel inside them. *Does
//! not live here:* what an input means in each phase ([`crate::machine`]).

use gatevisor_wire::Pid;
use gatevisor_wire::control::Control;
use gatevisor_wire::wait::WaitStatus;

/// What happened. Facts that the machine needs from disk travel inside the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceInput {
    /// A byte came through the control FIFO.
    Control(Control),
    /// A process was forked for `run`; it has not reached its program yet.
    Forked(Pid),
    /// An earlier process of the service lives on and holds its lock; the one that was started
    /// waits for that.
    Blocked,
    /// The process reached its program.
    Spawned,
    /// No process was made, or it did not reach its program; the text says at which step and why.
    SpawnFailed(String),
    /// The down signal was sent; `SIGKILL` is due after so many milliseconds, 0: never.
    Terminating(u64),
    /// A process was forked for `finish`, which may take so many milliseconds, 0: for ever.
    FinishForked(Pid, u64),
    /// There is no `finish` to run, or it cannot be.
    FinishAbsent,
    /// A process was forked that ends what was left behind, which may take so many milliseconds.
    ClearForked(Pid, u64),
    /// No process was made for that, or it did not reach its program; the text says why.
    ClearFailed(String),
    /// The kernel killed the service's process for want of memory; its end comes next.
    OutOfMemory,
    /// The process of the current phase ended.
    Exited(WaitStatus),
    /// The service wrote a newline to its notification descriptor.
    Ready,
    /// The time returned by [`crate::Machine::deadline`] has come.
    Deadline,
    /// The supervisor is going down: bring the service down, then end.
    Shutdown,
    /// The service directory is gone: bring the service down, kill it after so many milliseconds,
    /// end.
    Withdraw(u64),
    /// Nothing more will be written for it to read: let it come to the end of its input by itself,
    /// bring it down after so many milliseconds if it does not, then end.
    Drain(u64),
    /// Everything is killed now: kill what runs.
    KillNow,
}
