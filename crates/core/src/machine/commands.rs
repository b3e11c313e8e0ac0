//! The meaning of each byte of `supervise/control` in each phase.
//!
//! *Lives here:* requests and signals. *Does not live here:* the alphabet, which is
//! `gatevisor-wire`'s.
//!
//! **Source:** <https://skarnet.org/software/s6/s6-svc.html>

use gatevisor_wire::control::{Control, ControlSignal};
use gatevisor_wire::{policy, signal};

use super::phase::ServicePhase;
use super::state::Machine;
use crate::effect::{ServiceEffect, ServiceEffects};
use crate::restart::Rules;
use crate::time::Now;

impl Machine {
    pub(super) fn control(&mut self, now: Now, control: Control, out: &mut ServiceEffects) {
        if self.phase == ServicePhase::Ended {
            return;
        }
        match control {
            Control::UpAndEnable => {
                out.add(ServiceEffect::RemoveDownFile);
                self.want_up(now, out);
            }
            Control::DownAndDisable => {
                out.add(ServiceEffect::CreateDownFile);
                self.want_down(out);
            }
            Control::NoRestartAndDisable => {
                out.add(ServiceEffect::CreateDownFile);
                self.want_no_restart(out);
            }
            Control::Up => self.want_up(now, out),
            Control::Down => self.want_down(out),
            Control::Once => {
                self.drop_question(out);
                self.set_want(false, out);
                if let ServicePhase::Down { .. } = self.phase {
                    self.start(out);
                }
            }
            Control::NoRestart => self.want_no_restart(out),
            Control::Exit => {
                if let ServicePhase::Down { .. } | ServicePhase::Waiting { .. } = self.phase {
                    self.end(out);
                } else {
                    self.last = true;
                    self.drop_question(out);
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

    fn want_up(&mut self, now: Now, out: &mut ServiceEffects) {
        if self.rules == Rules::Native && !self.last {
            // Somebody asks for the start, so it is not a retry, whatever went wrong before.
            self.history.forget();
            self.not_before = now.tick;
            self.failure = None;
            self.drop_question(out);
        }
        self.set_want(true, out);
        if let ServicePhase::Down { .. } = self.phase {
            self.start(out);
        }
    }

    pub(super) fn want_down(&mut self, out: &mut ServiceEffects) {
        self.drop_question(out);
        match self.phase {
            ServicePhase::Up { pid, .. } => {
                // This holds even if somebody wants it up again before it dies.
                self.starts.is_asked_for = true;
                self.status.want_up = false;
                self.status.paused = false;
                out.add(ServiceEffect::Terminate(pid));
                out.add(ServiceEffect::PublishStatus(self.status));
            }
            ServicePhase::Starting { pid: Some(pid), .. } => {
                // The status is not published yet: without a pid it would mean that the service is
                // down already. It is published as soon as the process has reached its program or
                // has died before that.
                self.status.want_up = false;
                self.asked_to_die = true;
                out.add(ServiceEffect::Terminate(pid));
            }
            ServicePhase::Waiting { pid } => self.give_up_waiting(pid, out),
            ServicePhase::Starting { pid: None, .. } => {
                self.phase = ServicePhase::Down { start_at: None };
                self.set_want(false, out);
            }
            ServicePhase::Down { .. } => {
                self.phase = ServicePhase::Down { start_at: None };
                self.failure = None;
                self.publish_policy(policy::RestartPhase::Running, None, out);
                self.set_want(false, out);
            }
            ServicePhase::Finishing { .. } | ServicePhase::Clearing(_) | ServicePhase::Asking(_) => {
                self.set_want(false, out);
            }
            ServicePhase::Ended => {}
        }
    }

    fn want_no_restart(&mut self, out: &mut ServiceEffects) {
        self.drop_question(out);
        if let ServicePhase::Down { start_at: Some(_) } = self.phase {
            // The pending start would be a restart.
            self.phase = ServicePhase::Down { start_at: None };
            self.publish_policy(policy::RestartPhase::Running, None, out);
        }
        self.set_want(false, out);
    }

    fn signal(&mut self, wanted: ControlSignal, out: &mut ServiceEffects) {
        let (ServicePhase::Up { pid, .. } | ServicePhase::Starting { pid: Some(pid), .. }) = self.phase
        else {
            return;
        };
        if wanted == ControlSignal::Stop && !self.is_up() {
            // A process that was paused before it reached its program would never report whether it
            // reaches it.
            return;
        }
        self.starts.sent = Some(wanted.number());
        self.starts.is_signalled = true;
        out.add(ServiceEffect::Signal(pid, wanted.number()));
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

    fn special_signal(&mut self, control: Control, out: &mut ServiceEffects) {
        let (ServicePhase::Up { pid, .. } | ServicePhase::Starting { pid: Some(pid), .. }) = self.phase
        else {
            return;
        };
        // For the same reason, and then nothing is sent.
        if control == Control::StopGroup && !self.is_up() {
            return;
        }
        self.starts.is_signalled = true;
        match control {
            Control::DownSignal => {
                self.asked_to_die = true;
                out.add(ServiceEffect::DownSignal(pid));
            }
            Control::Reload => out.add(ServiceEffect::ReloadSignal(pid)),
            Control::KillGroup => {
                self.asked_to_die = true;
                out.add(ServiceEffect::SignalGroup(pid, signal::KILL));
            }
            Control::StopGroup => {
                out.add(ServiceEffect::SignalGroup(pid, signal::STOP));
                self.set_paused(true, out);
            }
            Control::ContinueGroup => {
                out.add(ServiceEffect::SignalGroup(pid, signal::CONT));
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

    fn set_paused(&mut self, paused: bool, out: &mut ServiceEffects) {
        if self.is_up() {
            self.status.paused = paused;
            out.add(ServiceEffect::PublishStatus(self.status));
        }
    }
}
