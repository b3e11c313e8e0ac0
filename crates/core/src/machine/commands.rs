//! What each byte of `supervise/control` means in each phase.
//!
//! *Lives here:* requests and signals. *Does not live here:* the alphabet, which is `gatevisor-wire`'s.
//!
//! **Source:** <https://skarnet.org/software/s6/s6-svc.html>

use gatevisor_wire::control::{Control, ControlSignal};
use gatevisor_wire::{policy, signal};

use super::{Machine, Phase};
use crate::effect::{Effect, Effects};
use crate::restart::Rules;
use crate::time::Moment;

impl Machine {
    pub(super) fn control(&mut self, now: Moment, control: Control, out: &mut Effects) {
        if self.phase == Phase::Ended {
            return;
        }
        match control {
            Control::UpAndEnable => {
                out.add(Effect::RemoveDownFile);
                self.want_up(now, out);
            }
            Control::DownAndDisable => {
                out.add(Effect::CreateDownFile);
                self.want_down(out);
            }
            Control::NoRestartAndDisable => {
                out.add(Effect::CreateDownFile);
                self.want_no_restart(out);
            }
            Control::Up => self.want_up(now, out),
            Control::Down => self.want_down(out),
            Control::Once => {
                self.set_want(false, out);
                if let Phase::Down { .. } = self.phase {
                    self.start(out);
                }
            }
            Control::NoRestart => self.want_no_restart(out),
            Control::Exit => {
                if let Phase::Down { .. } | Phase::Waiting { .. } = self.phase {
                    self.end(out);
                } else {
                    self.last = true;
                }
            }
            Control::Signal(wanted) => self.signal(wanted, out),
            Control::DownSignal
            | Control::Reload
            | Control::StopGroup
            | Control::ContinueGroup
            | Control::KillGroup => {
                self.special_signal(control, out);
            }
        }
    }

    /// Records the request and publishes it, unless supervision is ending and the request comes too late; s6 2.11 records
    /// it even then.
    pub(super) fn set_want(&mut self, up: bool, out: &mut Effects) {
        if self.rules == Rules::Native
            && self.last
            && (up || matches!(self.phase, Phase::Finishing { .. } | Phase::Clearing(_)))
        {
            return;
        }
        self.status.want_up = up;
        out.add(Effect::PublishStatus(self.status));
    }

    fn want_up(&mut self, now: Moment, out: &mut Effects) {
        if self.rules == Rules::Native && !self.last {
            // Somebody asks: whatever went wrong before, this start is not a retry.
            self.history.forget();
            self.not_before = now.tick;
            self.failure = None;
        }
        self.set_want(true, out);
        if let Phase::Down { .. } = self.phase {
            self.start(out);
        }
    }

    pub(super) fn want_down(&mut self, out: &mut Effects) {
        match self.phase {
            Phase::Up { pid, .. } => {
                // Even if somebody wants it up again before it dies.
                self.starts.is_asked_for = true;
                self.status.want_up = false;
                self.status.paused = false;
                out.add(Effect::Terminate(pid));
                out.add(Effect::PublishStatus(self.status));
            }
            Phase::Starting { pid: Some(pid), .. } => {
                // Not published yet: without a pid it would read as if it were down already. The status follows
                // within the instant that the process needs to reach its program, or to die on its way.
                self.status.want_up = false;
                self.asked_to_die = true;
                out.add(Effect::Terminate(pid));
            }
            Phase::Waiting { pid } => self.give_up_waiting(pid, out),
            Phase::Starting { pid: None, .. } => {
                self.phase = Phase::Down { start_at: None };
                self.set_want(false, out);
            }
            Phase::Down { .. } => {
                self.phase = Phase::Down { start_at: None };
                self.failure = None;
                self.publish_policy(policy::Phase::Running, None, out);
                self.set_want(false, out);
            }
            Phase::Finishing { .. } | Phase::Clearing(_) => self.set_want(false, out),
            Phase::Ended => {}
        }
    }

    fn want_no_restart(&mut self, out: &mut Effects) {
        if let Phase::Down { start_at: Some(_) } = self.phase {
            // The start that is due would be a restart.
            self.phase = Phase::Down { start_at: None };
            self.publish_policy(policy::Phase::Running, None, out);
        }
        self.set_want(false, out);
    }

    fn signal(&mut self, wanted: ControlSignal, out: &mut Effects) {
        let (Phase::Up { pid, .. } | Phase::Starting { pid: Some(pid), .. }) = self.phase else { return };
        if wanted == ControlSignal::Stop && !self.is_up() {
            // A process paused before it reached its program would never tell whether it does.
            return;
        }
        self.starts.sent = Some(wanted.number());
        out.add(Effect::Signal(pid, wanted.number()));
        match wanted {
            ControlSignal::Stop => self.set_paused(true, out),
            ControlSignal::Continue => self.set_paused(false, out),
            ControlSignal::Kill | ControlSignal::Terminate | ControlSignal::Interrupt => {
                self.asked_to_die = true;
            }
            ControlSignal::Alarm
            | ControlSignal::Abort
            | ControlSignal::Quit
            | ControlSignal::Hangup
            | ControlSignal::User1
            | ControlSignal::User2
            | ControlSignal::WindowChange => {}
        }
    }

    fn special_signal(&mut self, control: Control, out: &mut Effects) {
        let (Phase::Up { pid, .. } | Phase::Starting { pid: Some(pid), .. }) = self.phase else { return };
        match control {
            Control::DownSignal => {
                self.asked_to_die = true;
                out.add(Effect::DownSignal(pid));
            }
            Control::Reload => out.add(Effect::ReloadSignal(pid)),
            Control::KillGroup => {
                self.asked_to_die = true;
                out.add(Effect::SignalGroup(pid, signal::KILL));
            }
            // As for `p`.
            Control::StopGroup if !self.is_up() => {}
            Control::StopGroup => {
                out.add(Effect::SignalGroup(pid, signal::STOP));
                self.set_paused(true, out);
            }
            Control::ContinueGroup => {
                out.add(Effect::SignalGroup(pid, signal::CONT));
                self.set_paused(false, out);
            }
            Control::Up
            | Control::Down
            | Control::Once
            | Control::UpAndEnable
            | Control::DownAndDisable
            | Control::Exit
            | Control::NoRestart
            | Control::NoRestartAndDisable
            | Control::Signal(_) => {}
        }
    }

    fn set_paused(&mut self, paused: bool, out: &mut Effects) {
        if self.is_up() {
            self.status.paused = paused;
            out.add(Effect::PublishStatus(self.status));
        }
    }
}
