//! *Lives here:* all gateways of a home: whether an unresponsive one is ended now, or waits for
//! others, or the machine is to blame.
//!
//! *Does not live here:* the state of one gateway after its looks ([`crate::service`]).

use std::collections::BTreeMap;

use crate::clock::Attended;
use crate::evidence::LiveFinding;
use crate::service::{EndingStage, FollowedService};
use crate::settings::LiveSettings;
use crate::state::{Life, Liveness, SupervisorSays};

/// The number of gateways that must be silent together before the machine may be blamed. The
/// silence of one gateway is its own.
const TOGETHER: usize = 2;

/// The watcher's next actions, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveEffect {
    /// Publish the state of this gateway.
    Publish(String),
    /// Collect the evidence about this gateway, and then call [`Fleet::collected`].
    Collect(String),
    /// Ask this gateway to end.
    Terminate(String),
    /// Kill this gateway.
    Kill(String),
    /// More than half of the gateways are silent together. Report that, and end none.
    Machine {
        /// The number of silent gateways.
        missing: usize,
        /// The number of followed gateways.
        followed: usize,
    },
}

/// All gateways of a home.
#[derive(Debug, Clone)]
pub struct Fleet {
    services: BTreeMap<String, FollowedService>,
    parallel: usize,
    machine: bool,
    disk: bool,
}

impl Fleet {
    /// Returns a fleet in which at most `parallel` gateways are ended and started at the same time.
    pub fn new(parallel: usize) -> Self {
        Self { services: BTreeMap::new(), parallel: parallel.max(1), machine: false, disk: false }
    }

    /// Notes that a gateway runs. `proven` tells whether an earlier watcher has seen it work.
    pub fn follow(
        &mut self,
        name: &str,
        life: Life,
        settings: LiveSettings,
        proven: bool,
        now: Attended,
        out: &mut Vec<LiveEffect>,
    ) {
        match self.services.get_mut(name) {
            Some(service) if service.life() == life => return service.adjust(settings, now),
            Some(service) => service.reborn(settings, life, now),
            None => {
                drop(
                    self.services.insert(name.to_owned(), FollowedService::new(settings, life, proven, now)),
                );
            }
        }
        out.push(LiveEffect::Publish(name.to_owned()));
    }

    /// Notes that a gateway does not run.
    pub fn gone(&mut self, name: &str) {
        if let Some(service) = self.services.get_mut(name) {
            service.leave();
        }
    }

    /// Forgets a gateway that is no longer followed.
    pub fn forget(&mut self, name: &str) {
        self.services.remove(name);
    }

    /// Returns the state of a gateway.
    pub fn service(&self, name: &str) -> Option<&FollowedService> {
        self.services.get(name)
    }

    /// Returns the state of a gateway, for noting its beats.
    pub fn service_mut(&mut self, name: &str) -> Option<&mut FollowedService> {
        self.services.get_mut(name)
    }

    /// Returns all names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.services.keys().map(String::as_str)
    }

    /// Handles the finding of a look at a gateway.
    pub fn look(
        &mut self,
        name: &str,
        now: Attended,
        said: SupervisorSays,
        finding: LiveFinding,
        out: &mut Vec<LiveEffect>,
    ) {
        let Some(service) = self.services.get_mut(name) else { return };
        let before = service.clone();
        service.told(said);
        service.look(now, finding);
        if service.state() != Liveness::Unresponsive && service.ending == Some(EndingStage::Collecting) {
            service.ending = None;
        }
        if service.shown() != before.shown() {
            out.push(LiveEffect::Publish(name.to_owned()));
        }
    }

    /// Notes that a gateway is being asked. The time until the next look begins with the first
    /// question of a look.
    pub fn ask(&mut self, name: &str, now: Attended) {
        if let Some(service) = self.services.get_mut(name) {
            service.ask(now);
        }
    }

    /// Notes that the watcher was away, so that its findings since then prove nothing.
    pub fn lapse(&mut self, now: Attended) {
        for service in self.services.values_mut() {
            service.lapse(now);
        }
    }

    /// Notes that the evidence about a gateway was written down, or could not be.
    pub fn collected(&mut self, name: &str, now: Attended, out: &mut Vec<LiveEffect>) {
        let Some(service) = self.services.get_mut(name) else { return };
        if service.ending == Some(EndingStage::Collecting) && service.is_running() {
            service.ending = Some(EndingStage::Asked(now));
            out.push(LiveEffect::Terminate(name.to_owned()));
        }
    }

    /// Decides the next actions, after the looks of this wake-up.
    pub fn decide(&mut self, now: Attended, out: &mut Vec<LiveEffect>) {
        self.judge(now, out);
        self.press(now, out);
        let mut in_flight = self.in_flight();
        let mut to_end: Vec<(&String, &mut FollowedService)> =
            self.services.iter_mut().filter(|(_, service)| service.is_to_end(now)).collect();
        to_end.sort_by_key(|(_, service)| service.since());
        for (name, service) in to_end {
            if in_flight >= self.parallel {
                break;
            }
            in_flight = in_flight.saturating_add(1);
            service.ending = Some(EndingStage::Collecting);
            out.push(LiveEffect::Collect(name.clone()));
        }
    }

    /// Returns how many gateways are being ended, or are starting because they were ended.
    fn in_flight(&self) -> usize {
        self.services.values().filter(|service| service.is_in_flight()).count()
    }

    /// Returns whether a gateway that must be ended waits for others.
    pub fn is_queued(&self, name: &str, now: Attended) -> bool {
        self.in_flight() >= self.parallel
            && self.services.get(name).is_some_and(|service| service.is_to_end(now))
    }

    /// Returns why an unresponsive gateway is not ended, as the end of a sentence; empty if it is
    /// ended.
    pub fn why_not_ended(&self, name: &str, now: Attended) -> &'static str {
        match self.services.get(name) {
            Some(service) if !service.is_proven() => {
                "; it has never shown that it works, so it is left alone"
            }
            Some(service) if service.is_given_up() => {
                "; starting it again has not helped, so it is left alone"
            }
            Some(service) if service.is_excused() => {
                "; while that lasts, it is not ended, for at most ten minutes"
            }
            // A gateway that a signal has stopped is ended all the same.
            Some(service) if self.machine && service.blameless => {
                "; so are most others, so it is the machine, and none is ended"
            }
            Some(service) if self.disk && service.blameless => {
                "; so are others, and no heartbeat is written, so it may be the disk, and it is not ended"
            }
            _ if self.is_queued(name, now) => "; others are being started, so it waits",
            _ => "",
        }
    }

    /// Returns when the next look or decision is due. Nobody looks at what is being asked.
    pub fn due(&self) -> Option<Attended> {
        let running = self.services.values().filter(|service| service.is_running());
        running
            .flat_map(|service| {
                let kill = match service.ending {
                    Some(EndingStage::Asked(at)) => Some(at.plus(service.settings().grace_ms)),
                    _ => None,
                };
                let look = service.asked.is_none().then(|| service.due());
                look.into_iter().chain(kill)
            })
            .min()
    }

    /// Decides whether the machine is to blame, because many gateways are silent together, or its
    /// disk, because many of those are that have no answer of another kind.
    fn judge(&mut self, now: Attended, out: &mut Vec<LiveEffect>) {
        let telling = || self.services.values().filter(|service| service.is_telling(now));
        let missing = telling().filter(|service| service.is_missing()).count();
        let is_most = |followed: usize| missing >= TOGETHER && missing.saturating_mul(2) > followed;
        let followed = telling().count();
        let (is_machine, is_disk) =
            (is_most(followed), is_most(telling().filter(|service| !service.lacks_a_beat()).count()));
        if is_machine && !self.machine {
            out.push(LiveEffect::Machine { missing, followed });
        }
        (self.machine, self.disk) = (is_machine, is_disk);
        if is_machine || is_disk {
            // What hinders the others hinders a start, too, which owes nothing as yet.
            for service in self.services.values_mut().filter(|service| service.is_silent_start()) {
                service.spared_until = now.plus(service.misses_ms());
            }
        }
        for service in self.services.values_mut().filter(|service| service.is_missing()) {
            if is_machine || (is_disk && service.has_only_a_beat()) {
                service.blameless = true;
                service.spared_until = now.plus(service.misses_ms());
            } else if now >= service.spared_until {
                service.blameless = false;
            }
        }
    }

    /// Kills gateways that were asked to end and have not ended within their grace.
    fn press(&mut self, now: Attended, out: &mut Vec<LiveEffect>) {
        for (name, service) in &mut self.services {
            let held =
                matches!(service.state(), Liveness::Paused | Liveness::Traced) || !service.is_running();
            match service.ending {
                Some(EndingStage::Asked(at)) if !held && now.since(at) >= service.settings().grace_ms => {
                    service.ending = Some(EndingStage::Killed);
                    out.push(LiveEffect::Kill(name.clone()));
                }
                _ => {}
            }
        }
    }
}
