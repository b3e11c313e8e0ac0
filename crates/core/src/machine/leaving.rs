//! The end of a service's supervision: in a shutdown, or because its directory is gone.
//!
//! *Lives here:* what ends at once, and what may run to its end.
//! *Does not live here:* the end of its process (`ending`).

use super::phase::ServicePhase;
use super::state::Machine;
use crate::effect::ServiceEffects;
use crate::time::Now;

impl Machine {
    pub(super) fn withdraw(&mut self, now: Now, ms: u64, out: &mut ServiceEffects) {
        self.kill_within_ms = Some(ms);
        let cap = now.tick.after(ms);
        match &mut self.phase {
            ServicePhase::Finishing { pid: Some(_), kill_at } => {
                *kill_at = Some(kill_at.map_or(cap, |at| at.min(cap)));
            }
            ServicePhase::Clearing(clearing) => clearing.end_by(cap),
            ServicePhase::Asking(inquiry) => inquiry.end_by(cap),
            ServicePhase::Down { .. }
            | ServicePhase::Starting { .. }
            | ServicePhase::Waiting { .. }
            | ServicePhase::Up { .. }
            | ServicePhase::Finishing { pid: None, .. }
            | ServicePhase::Ended => {}
        }
        self.shut_down(out);
    }

    pub(super) fn drain(&mut self, now: Now, ms: u64, out: &mut ServiceEffects) {
        self.kill_within_ms = Some(ms);
        match &mut self.phase {
            ServicePhase::Up { kill_at, .. }
            | ServicePhase::Starting { kill_at, .. }
            | ServicePhase::Finishing { kill_at, .. } => {
                let cap = now.tick.after(ms);
                *kill_at = Some(kill_at.map_or(cap, |at| at.min(cap)));
                self.last = true;
            }
            ServicePhase::Clearing(clearing) => {
                clearing.end_by(now.tick.after(ms));
                self.last = true;
            }
            ServicePhase::Asking(inquiry) => {
                inquiry.end_by(now.tick.after(ms));
                self.last = true;
                self.drop_question(out);
            }
            ServicePhase::Waiting { .. } | ServicePhase::Down { .. } => self.end(out),
            ServicePhase::Ended => {}
        }
    }

    pub(super) fn shut_down(&mut self, out: &mut ServiceEffects) {
        match self.phase {
            ServicePhase::Down { .. }
            | ServicePhase::Waiting { .. }
            | ServicePhase::Starting { pid: None, .. } => self.end(out),
            ServicePhase::Up { .. } | ServicePhase::Starting { pid: Some(_), .. } => {
                self.last = true;
                self.want_down(out);
            }
            ServicePhase::Finishing { .. } | ServicePhase::Clearing(_) => self.last = true,
            ServicePhase::Asking(_) => {
                self.last = true;
                self.drop_question(out);
            }
            ServicePhase::Ended => {}
        }
    }
}
