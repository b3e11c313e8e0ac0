//! *Lives here:* the meaning of the death of a gateway for a command that waits for it.
//!
//! *Does not live here:* all other events (`follower`).

use std::time::Instant;

use gatevisor_client::status_view::StateName;
use gatevisor_wire::exit::COMMAND_NOT_REACHED;
use gatevisor_wire::policy::{PublishedPolicy, RestartPhase};
use gatevisor_wire::status::Status;
use gatevisor_wire::wait::WaitStatus;

use super::aim::{Aim, FollowEnd, GatewayEnd};
use super::followed::{Follower, LOOK_AGAIN};
use crate::manager::observe::{fail_codes, restart_codes};

impl Follower {
    /// Handles the event that it died.
    pub(super) fn take_death(&mut self, aim: Aim) -> Option<FollowEnd> {
        let (was_up, since) = (std::mem::take(&mut self.was_announced), self.up_since.take());
        let is_old = self.again && !std::mem::replace(&mut self.died, true);
        // The first process does not count if it dies of what the command told it.
        if aim == Aim::Supervised || (is_old && !was_up) || (!was_up && since.is_none()) {
            return None;
        }
        // The gateway may have been started again already, so the tally says how it died.
        let how = self.dir.deaths().last().map(|death| death.how());
        // The signal may have reached a new attempt before that became the command.
        if since.is_none()
            && self.signalled.take().is_some_and(|sent| how.and_then(WaitStatus::signal) == Some(sent))
        {
            return None;
        }
        let code = how.and_then(WaitStatus::exit_code);
        if since.is_none() && code.is_some_and(|code| COMMAND_NOT_REACHED.contains(&code)) {
            // The next attempt may have removed the text already.
            return Some(FollowEnd::FailedToStart(self.dir.start_error().or_else(|| code.map(never_ran))));
        }
        // A gateway whose command was executed was up, even if it died at once.
        if aim == Aim::Up && code.is_some() {
            return Some(FollowEnd::Up(None));
        }
        let fail_codes = fail_codes(&self.dir);
        let fail_code = code.and_then(|code| fail_codes.iter().find(|one| one.code == code));
        match self.state() {
            StateName::Failed { reason } => return Some(FollowEnd::Failed(reason)),
            _ if fail_code.is_some_and(|one| one.is_at_once()) => {
                let failed = FollowEnd::Failed(how.map(|how| how.to_string()));
                self.failing = Some((failed, Instant::now()));
                return self.failure_for_good();
            }
            _ => {}
        }
        // Somebody stopped the gateway or the supervisor, which is no failure of the gateway.
        if self.dir.status().is_ok_and(|status| !status.want_up) {
            return None;
        }
        // Another command has ended it with its own signal, so the next process is waited for.
        let is_another = || self.meanwhile.as_ref().is_some_and(|meanwhile| (meanwhile.is_another)());
        if how.is_some_and(|how| how.signal().is_some()) && is_another() {
            return None;
        }
        // A refusal that may be temporary is not the end either.
        let should_run =
            fail_code.is_some() || code.is_some_and(|code| restart_codes(&self.dir).contains(&code));
        let end = match aim {
            // It is unknown whether its command was executed.
            Aim::Up => FollowEnd::Ended(GatewayEnd { after: None, how }),
            Aim::Started(_) | Aim::Ready(_) if !should_run => {
                FollowEnd::Ended(GatewayEnd { after: since.map(|(_, since)| since.elapsed()), how })
            }
            Aim::Supervised | Aim::Started(_) | Aim::Ready(_) | Aim::UpAtLast | Aim::ReadyAtLast => {
                return None;
            }
        };
        self.unless_asked_for(end)
    }

    /// Returns the end of a gateway that has failed for good, once everybody sees that: the finish
    /// script, which reports the failure, may still run, but it may also last long.
    pub(super) fn failure_for_good(&mut self) -> Option<FollowEnd> {
        let until = self.failing.as_ref()?.1.checked_add(LOOK_AGAIN)?;
        let is_ending = matches!(self.state(), StateName::Finishing | StateName::Waiting { .. });
        if is_ending && Instant::now() < until {
            self.due = Some(until);
            return None;
        }
        self.failing.take().map(|(end, _)| end)
    }

    /// Returns this end, unless another command may have caused it, which only the next start
    /// shows.
    fn unless_asked_for(&mut self, end: FollowEnd) -> Option<FollowEnd> {
        if self.meanwhile.as_ref().is_some_and(|meanwhile| meanwhile.is_ours) {
            self.unclear = Some(end);
            return None;
        }
        Some(end)
    }

    /// Returns the end, if nobody had asked for the last death.
    pub(super) fn unclear_death(&mut self, status: &Status) -> Option<FollowEnd> {
        self.unclear.as_ref()?;
        // No policy is published before there is something to report.
        let policy = self.dir.policy().unwrap_or_default();
        match is_asked_for(status, &policy) {
            Some(true) => self.unclear = None,
            // It has failed too often to be tried again.
            Some(false) if matches!(self.state(), StateName::Failed { .. }) => {
                return Some(FollowEnd::Failed(self.reason()));
            }
            Some(false) => return self.unclear.take(),
            None => self.due = Instant::now().checked_add(LOOK_AGAIN),
        }
        None
    }
}

/// Returns whether somebody had asked for the last death; `None` if that is not known yet. A
/// supervisor publishes it with the next start. It waits before a start only after a death that
/// nobody had asked for.
fn is_asked_for(status: &Status, policy: &PublishedPolicy) -> Option<bool> {
    if status.is_up() {
        return Some(policy.asked.newest_first().next() == Some(true));
    }
    match policy.phase {
        RestartPhase::Backoff
        | RestartPhase::Failed
        | RestartPhase::FailedToStart
        | RestartPhase::Refused
        | RestartPhase::Asking => Some(false),
        RestartPhase::Running | RestartPhase::Clearing => None,
    }
}

/// Returns the meaning of an exit code of our interpreter that has left no text. A command may end
/// with the same code at once.
fn never_ran(code: u8) -> String {
    let what = match code {
        127 => "the command does not exist, or has ended so itself",
        126 => "the command cannot be executed, or has ended so itself",
        100 => "its slot's `run` says something that cannot be meant",
        _ => "a step before the command failed, or the command has ended so itself",
    };
    format!("exit {code}: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatevisor_wire::Pid;
    use gatevisor_wire::policy::AskedFor;
    use gatevisor_wire::tai::Tai64n;

    #[test]
    fn whether_a_death_was_asked_for_is_known_when_the_next_start_or_a_pause_before_it_is() {
        let status = |pid| Status {
            changed: Tai64n::EPOCH,
            ready_at: Tai64n::EPOCH,
            pid,
            last: WaitStatus::exited(0),
            paused: false,
            finishing: false,
            want_up: true,
            ready: false,
        };
        let (up, down) = (status(Pid::new(7)), status(None));
        let finishing = Status { finishing: true, ..up };
        let policy = |phase, deaths: &[bool]| {
            let mut asked = AskedFor::default();
            for death in deaths {
                asked.push(*death);
            }
            PublishedPolicy { phase, asked, ..PublishedPolicy::default() }
        };
        let ask = |status: &Status, phase, deaths: &[bool]| is_asked_for(status, &policy(phase, deaths));
        assert_eq!(ask(&up, RestartPhase::Running, &[false, true]), Some(true));
        assert_eq!(ask(&up, RestartPhase::Running, &[true, false]), Some(false));
        assert_eq!(ask(&up, RestartPhase::Running, &[]), Some(false));
        for status in [&down, &finishing] {
            assert_eq!(ask(status, RestartPhase::Running, &[true]), None, "of an earlier death");
            assert_eq!(ask(status, RestartPhase::Clearing, &[true]), None);
            assert_eq!(ask(status, RestartPhase::Backoff, &[true]), Some(false));
            assert_eq!(ask(status, RestartPhase::Failed, &[]), Some(false));
        }
    }
}
