//! *Lives here:* looking at a gateway: first the evidence that needs no question, then the
//! questions, one after another.
//!
//! *Does not live here:* when a look is due, and the decision that follows from it
//! (`gatevisor-liveness`).

use gatevisor_client::status_view;
use gatevisor_liveness::{Attended, EvidenceKind, LiveEffect, LiveFinding};
use gatevisor_sys::clock::monotonic_ms;
use gatevisor_sys::proc::is_stopped_by_signal;

use super::super::asking::Asking;
use super::super::probe::{ProbeAnswer, Question};
use super::super::process;
use super::super::slot::{FollowedGateway, by_itself};
use super::parts::{LiveWatcher, profile_of};

impl LiveWatcher {
    /// Looks at the gateways that are due.
    pub(super) fn look(&mut self, now: Attended, out: &mut Vec<LiveEffect>) {
        let due = |service: &&str| {
            let known = self.fleet.service(service);
            !self.asking.contains_key(*service)
                && known.is_some_and(|known| known.is_running() && known.due() <= now)
        };
        let names: Vec<String> = self.fleet.names().filter(due).map(str::to_owned).collect();
        for name in names {
            match self.glance(&name, now) {
                // A process that a signal has stopped answers nothing, so nobody waits for that.
                Ok(finding) if self.is_stopped(&name) => self.found(&name, now, finding, out),
                Err((rest, why)) if self.is_stopped(&name) => self.unasked(&name, &rest, why, now, out),
                Ok(LiveFinding::Alive(kind)) => self.alive(&name, kind, now, out),
                Ok(finding) => self.found(&name, now, finding, out),
                Err((rest, why)) => self.ask(&name, rest, why, now, out),
            }
        }
    }

    fn is_stopped(&self, name: &str) -> bool {
        self.followed.get(name).is_some_and(|followed| is_stopped_by_signal(followed.life.pid))
    }

    /// Notes that nothing shows that a gateway works, without the questions that are left.
    fn unasked(
        &mut self,
        name: &str,
        rest: &[Question],
        mut why: Vec<String>,
        now: Attended,
        out: &mut Vec<LiveEffect>,
    ) {
        why.extend(rest.first().map(|question| format!("{}: not asked", question.kind())));
        self.without(name, rest.first().map(Question::kind), &why, now, out);
    }

    /// Looks for evidence that needs no question. If that is not enough, returns the questions, and
    /// why they are needed.
    fn glance(&mut self, name: &str, now: Attended) -> Result<LiveFinding, (Vec<Question>, Vec<String>)> {
        let Some(followed) = self.followed.get_mut(name) else { return Ok(LiveFinding::Early) };
        if let Ok(status) = followed.dir.status() {
            followed.status = status;
        }
        if followed.status.pid.map(gatevisor_wire::Pid::get) != Some(followed.life.pid) {
            // The next scan finds out the new state.
            self.scan = now;
            return Ok(LiveFinding::Early);
        }
        if status_view::is_paused(&followed.status) {
            return Ok(LiveFinding::Paused);
        }
        let Some(service) = self.fleet.service_mut(name) else { return Ok(LiveFinding::Early) };
        if let Some(startup) = followed.startup().filter(|_| !service.has_shown()) {
            return Err((vec![startup], Vec::new()));
        }
        let profile = profile_of(name);
        let directory = profile.map(|name| self.manager.home().profile_dir(&name)).unwrap_or_default();
        by_itself(&followed.beats(service, now), followed.questions(directory))
    }

    /// Asks the next question, if there is one.
    fn ask(
        &mut self,
        name: &str,
        mut rest: Vec<Question>,
        why: Vec<String>,
        now: Attended,
        out: &mut Vec<LiveEffect>,
    ) {
        if rest.is_empty() {
            return self.without(name, None, &why, now, out);
        }
        let asking = Asking::new(rest.remove(0), rest, why, monotonic_ms());
        self.fleet.ask(name, now);
        self.asking.insert(name.to_owned(), asking);
    }

    /// Notes that no question shows that a gateway works; a beat may have come meanwhile. `kind` is
    /// the evidence that was looked for last, if any question could be asked.
    fn without(
        &mut self,
        name: &str,
        kind: Option<EvidenceKind>,
        why: &[String],
        now: Attended,
        out: &mut Vec<LiveEffect>,
    ) {
        match self.nothing(name, kind, why, now) {
            LiveFinding::Alive(kind) => self.alive(name, kind, now, out),
            finding => self.found(name, now, finding, out),
        }
    }

    /// Notes that a gateway works. If its settings have a question for that, it is first asked
    /// which parts of it do not work.
    fn alive(&mut self, name: &str, kind: EvidenceKind, now: Attended, out: &mut Vec<LiveEffect>) {
        let Some(health) = self.followed.get(name).and_then(FollowedGateway::health) else {
            return self.found(name, now, LiveFinding::Alive(kind), out);
        };
        self.fleet.ask(name, now);
        self.asking.insert(name.to_owned(), Asking::of_live(health, kind, monotonic_ms()));
    }

    /// Handles the answers that have come.
    pub(super) fn take_answers(&mut self, now: Attended, out: &mut Vec<LiveEffect>) {
        let now_ms = monotonic_ms();
        let answered = self.asking.iter_mut();
        let answers: Vec<(String, ProbeAnswer)> =
            answered.filter_map(|(name, asking)| Some((name.clone(), asking.step(now_ms)?))).collect();
        for (name, answer) in answers {
            let Some(asking) = self.asking.remove(&name) else { continue };
            let (kind, address) = (asking.shown_by.unwrap_or(asking.kind()), asking.address());
            let Asking { rest, mut why, shown_by, .. } = asking;
            let answer = match self.followed.get_mut(&name) {
                Some(followed) => followed.counted(answer, address),
                None => answer,
            };
            self.tally.add(&name, &answer);
            match answer {
                // It works, even if the question about its parts got no answer.
                ProbeAnswer::Alive | ProbeAnswer::None(_) if shown_by.is_some() => {
                    self.found(&name, now, LiveFinding::Alive(kind), out);
                }
                ProbeAnswer::Alive => self.alive(&name, kind, now, out),
                ProbeAnswer::Degraded(reason) => {
                    self.found(&name, now, LiveFinding::Degraded(kind, reason), out);
                }
                ProbeAnswer::None(reason) => {
                    why.push(reason);
                    if rest.is_empty() {
                        self.without(&name, Some(kind), &why, now, out);
                    } else {
                        self.ask(&name, rest, why, now, out);
                    }
                }
            }
        }
    }

    /// Returns the finding if nobody has answered: what the kernel reports about the process, and
    /// whether its beats excuse it.
    fn nothing(
        &mut self,
        name: &str,
        kind: Option<EvidenceKind>,
        why: &[String],
        now: Attended,
    ) -> LiveFinding {
        let Some(followed) = self.followed.get_mut(name) else { return LiveFinding::Early };
        let unasked = if followed.only_notifies() { EvidenceKind::Notify } else { EvidenceKind::Heartbeat };
        let seen = process::look(followed.life.pid, &mut followed.waits, monotonic_ms());
        let finding = seen.finding(kind.unwrap_or(unasked), why);
        match self.fleet.service_mut(name) {
            // Without a question, the beats were read a moment ago.
            _ if kind.is_none() => finding,
            // Its beats count only after it has answered once.
            Some(service) if followed.startup().is_none() || service.has_shown() => {
                finding.unanswered(&followed.beats(service, now))
            }
            _ => finding,
        }
    }

    fn found(&mut self, name: &str, now: Attended, finding: LiveFinding, out: &mut Vec<LiveEffect>) {
        let Some(followed) = self.followed.get(name) else { return };
        self.fleet.look(name, now, followed.supervisor_says(), followed.as_it_is(finding), out);
    }
}
