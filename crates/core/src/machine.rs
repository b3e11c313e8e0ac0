//! The life of one supervised service.
//!
//! *Lives here:* which input goes to which table of phases, and the meaning of a deadline in each
//! phase.
//! *Does not live here:* when a restart is due (see [`crate::restart`]) and everything that touches
//! the kernel.
//!
//! **Source:** s6-supervise(8) and its table of actions; the restart policy of
//! docs/reference/slot.md where the rules are native.
//!
//! These files call each other one way only, each those below it: this one; `leaving`, `ending`;
//! `commands`; `answers`; `settle`; `starting`; `asking` and `clearing`; `memory`; `state`.

mod answers;
mod asking;
mod clearing;
mod commands;
mod ending;
mod leaving;
pub mod memory;
mod phase;
mod settle;
mod starting;
mod starts;
mod state;

use gatevisor_wire::signal;

use crate::effect::{ServiceEffect, ServiceEffects};
use crate::input::ServiceInput;
use crate::restart::RestartPolicy;
use crate::time::Now;
use phase::{HandoffInquiry, KILL_AGAIN_MS, ServicePhase};
use starts::Killer;
pub use state::Machine;

impl Machine {
    /// Decides the meaning of `input` now. It is total: every input has a meaning in every phase,
    /// even if that meaning is "nothing".
    ///
    /// `policy` is the service's; it matters for [`ServiceInput::Exited`] and
    /// [`ServiceInput::SpawnFailed`] only.
    pub fn step(&mut self, now: Now, input: ServiceInput, policy: &RestartPolicy, out: &mut ServiceEffects) {
        match input {
            ServiceInput::Control(control) => self.control(now, control, out),
            ServiceInput::Forked(pid) => self.forked(pid, out),
            ServiceInput::Blocked => self.blocked(out),
            ServiceInput::Spawned => self.spawned(now, out),
            ServiceInput::SpawnFailed(why) => self.spawn_failed(now, &why, policy, out),
            ServiceInput::Terminating(ms) => self.terminating(now, ms),
            ServiceInput::FinishForked(pid, ms) => self.finish_forked(now, pid, ms, out),
            ServiceInput::FinishAbsent => self.finish_absent(now, out),
            ServiceInput::ClearForked(pid, ms) => self.clear_forked(now, pid, ms, out),
            ServiceInput::ClearFailed(why) => self.clear_failed(now, &why, policy, out),
            ServiceInput::AskForked(pid, ms) => self.ask_forked(now, pid, ms, out),
            ServiceInput::AskFailed(_) => self.ask_failed(now, policy, out),
            ServiceInput::OutOfMemory if self.runs_service() => self.starts.killer = Killer::Kernel,
            ServiceInput::OutOfMemory => {}
            ServiceInput::Exited(how) => self.exited(now, how, policy, out),
            ServiceInput::Ready => self.ready(now, out),
            ServiceInput::Deadline => self.due(now, out),
            ServiceInput::Shutdown => self.shut_down(out),
            ServiceInput::Withdraw(ms) => self.withdraw(now, ms, out),
            ServiceInput::Drain(ms) => self.drain(now, ms, out),
            ServiceInput::KillNow => match self.phase {
                ServicePhase::Up { pid, .. } | ServicePhase::Starting { pid: Some(pid), .. } => {
                    self.kill(pid, out);
                }
                ServicePhase::Finishing { pid: Some(pid), .. }
                | ServicePhase::Asking(HandoffInquiry { pid: Some(pid), .. }) => {
                    out.add(ServiceEffect::Signal(pid, signal::KILL));
                }
                ServicePhase::Clearing(_) => self.advance_cleanup(now, out),
                ServicePhase::Waiting { .. } => self.end(out),
                ServicePhase::Down { .. }
                | ServicePhase::Starting { pid: None, .. }
                | ServicePhase::Finishing { pid: None, .. }
                | ServicePhase::Asking(HandoffInquiry { pid: None, .. })
                | ServicePhase::Ended => {}
            },
        }
    }

    /// Handles a deadline of a service that is down.
    fn due_down(&mut self, out: &mut ServiceEffects) {
        if self.ask(false, out) {
            return;
        }
        if self.status.want_up {
            self.start(out);
        } else {
            self.phase = ServicePhase::Down { start_at: None };
        }
    }

    fn due(&mut self, now: Now, out: &mut ServiceEffects) {
        if self.deadline().is_none_or(|at| at > now.tick) {
            return;
        }
        match self.phase {
            ServicePhase::Down { .. } => self.due_down(out),
            // Nobody has asked it to end yet, because it had time to read the rest of its input.
            ServicePhase::Up { .. } if self.last && self.status.want_up => self.want_down(out),
            ServicePhase::Up { pid, since, .. } => {
                self.kill(pid, out);
                self.phase = ServicePhase::Up { pid, since, kill_at: Some(now.tick.after(KILL_AGAIN_MS)) };
            }
            ServicePhase::Finishing { pid: Some(pid), .. } => {
                out.add(ServiceEffect::Signal(pid, signal::CONT));
                out.add(ServiceEffect::Signal(pid, signal::KILL));
                let kill_at = Some(now.tick.after(KILL_AGAIN_MS));
                self.phase = ServicePhase::Finishing { pid: Some(pid), kill_at };
            }
            ServicePhase::Starting { pid: Some(pid), .. } => {
                self.kill(pid, out);
                let kill_at = Some(now.tick.after(KILL_AGAIN_MS));
                self.phase = ServicePhase::Starting { pid: Some(pid), kill_at };
            }
            ServicePhase::Asking(HandoffInquiry { pid: Some(pid), unannounced, .. }) => {
                out.add(ServiceEffect::Signal(pid, signal::CONT));
                out.add(ServiceEffect::Signal(pid, signal::KILL));
                let kill_at = Some(now.tick.after(KILL_AGAIN_MS));
                self.phase = ServicePhase::Asking(HandoffInquiry { pid: Some(pid), kill_at, unannounced });
            }
            ServicePhase::Clearing(_) => self.advance_cleanup(now, out),
            ServicePhase::Asking(HandoffInquiry { pid: None, .. })
            | ServicePhase::Finishing { pid: None, .. }
            | ServicePhase::Starting { pid: None, .. }
            | ServicePhase::Waiting { .. }
            | ServicePhase::Ended => {}
        }
    }
}
