//! *Lives here:* all gateways of a home: whether one that does not respond is ended now, or the machine is to blame, or
//! others come first.
//!
//! *Does not live here:* what one gateway's looks make of it ([`crate::service`]).

use std::collections::BTreeMap;

use crate::clock::Attended;
use crate::evidence::LiveFinding;
use crate::service::{EndingStage, FollowedService, Life, Liveness};
use crate::settings::LiveSettings;

/// Gateways that must be silent together before the machine may be to blame: one alone is that one.
const TOGETHER: usize = 2;

/// What the watcher does next, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveEffect {
    /// What is known of this gateway is published.
    Publish(String),
    /// What can be found out about this gateway is written down, and then [`Fleet::collected`] is called.
    Collect(String),
    /// This gateway is asked to end.
    Terminate(String),
    /// This gateway is killed.
    Kill(String),
    /// More than half of the gateways are silent together: it is said, and none is ended.
    Machine {
        /// How many are silent.
        missing: usize,
        /// Of how many.
        followed: usize,
    },
}

/// All gateways of a home.
#[derive(Debug, Clone)]
pub struct Fleet {
    services: BTreeMap<String, FollowedService>,
    parallel: usize,
    machine: bool,
}

impl Fleet {
    /// Returns a fleet of which so many are ended and started at a time.
    pub fn new(parallel: usize) -> Self {
        Self { services: BTreeMap::new(), parallel: parallel.max(1), machine: false }
    }

    /// Takes in that a gateway runs; `proven` is whether an earlier watcher has seen it work.
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
            Some(service) if service.life() == life => return service.adjust(settings),
            Some(service) => service.reborn(settings, life, now),
            None => {
                drop(
                    self.services.insert(name.to_owned(), FollowedService::new(settings, life, proven, now)),
                );
            }
        }
        out.push(LiveEffect::Publish(name.to_owned()));
    }

    /// Takes in that a gateway does not run.
    pub fn gone(&mut self, name: &str) {
        if let Some(service) = self.services.get_mut(name) {
            service.leave();
        }
    }

    /// Forgets a gateway that is followed no longer.
    pub fn forget(&mut self, name: &str) {
        self.services.remove(name);
    }

    /// Returns what is known of a gateway.
    pub fn service(&self, name: &str) -> Option<&FollowedService> {
        self.services.get(name)
    }

    /// Returns a gateway whose beats are to be noted.
    pub fn service_mut(&mut self, name: &str) -> Option<&mut FollowedService> {
        self.services.get_mut(name)
    }

    /// Returns all names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.services.keys().map(String::as_str)
    }

    /// Returns whether the machine is to blame for the silence of many.
    pub const fn is_machine(&self) -> bool {
        self.machine
    }

    /// Takes in what a look at a gateway has found, and whether its supervisor wants it up.
    pub fn look(
        &mut self,
        name: &str,
        now: Attended,
        wanted: bool,
        finding: LiveFinding,
        out: &mut Vec<LiveEffect>,
    ) {
        let Some(service) = self.services.get_mut(name) else { return };
        let before = service.clone();
        service.want(wanted);
        service.look(now, finding);
        if service.state() != Liveness::Unresponsive && service.ending == Some(EndingStage::Collecting) {
            service.ending = None;
        }
        if service.shown() != before.shown() {
            out.push(LiveEffect::Publish(name.to_owned()));
        }
    }

    /// Takes in that a gateway is being asked, so that a look at it is not due before its usual time.
    pub fn defer(&mut self, name: &str, now: Attended) {
        if let Some(service) = self.services.get_mut(name) {
            service.put_off(now.plus(service.settings().interval_ms));
        }
    }

    /// Takes in that the watcher was away: what it found since says nothing.
    pub fn lapse(&mut self, now: Attended) {
        for service in self.services.values_mut() {
            service.excuse(now);
            service.put_off(now.plus(service.settings().interval_ms));
            service.spared_until = now.plus(service.misses_ms());
        }
    }

    /// Takes in that what could be found out about a gateway is written down, or could not be.
    pub fn collected(&mut self, name: &str, now: Attended, out: &mut Vec<LiveEffect>) {
        let Some(service) = self.services.get_mut(name) else { return };
        if service.ending == Some(EndingStage::Collecting) && service.is_running() {
            service.ending = Some(EndingStage::Asked(now));
            out.push(LiveEffect::Terminate(name.to_owned()));
        }
    }

    /// Decides what is to be done now, after the looks of this wake-up.
    pub fn turn(&mut self, now: Attended, out: &mut Vec<LiveEffect>) {
        self.judge(now, out);
        self.press(now, out);
        let mut in_flight = self.services.values().filter(|service| service.is_in_flight()).count();
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

    /// Returns whether a gateway that is to be ended waits for others.
    pub fn is_queued(&self, name: &str, now: Attended) -> bool {
        let in_flight = self.services.values().filter(|service| service.is_in_flight()).count();
        in_flight >= self.parallel && self.services.get(name).is_some_and(|service| service.is_to_end(now))
    }

    /// Returns when there is something to look at or to decide.
    pub fn due(&self) -> Option<Attended> {
        let running = self.services.values().filter(|service| service.is_running());
        running
            .flat_map(|service| {
                let kill = match service.ending {
                    Some(EndingStage::Asked(at)) => Some(at.plus(service.settings().grace_ms)),
                    _ => None,
                };
                std::iter::once(service.due()).chain(kill)
            })
            .min()
    }

    /// Finds out whether so many are silent together that it is the machine.
    fn judge(&mut self, now: Attended, out: &mut Vec<LiveEffect>) {
        let telling = || self.services.values().filter(|service| service.is_telling(now));
        let (followed, missing) =
            (telling().count(), telling().filter(|service| service.is_missing()).count());
        let is_machine = missing >= TOGETHER && missing.saturating_mul(2) > followed;
        if is_machine && !self.machine {
            out.push(LiveEffect::Machine { missing, followed });
        }
        self.machine = is_machine;
        for service in self.services.values_mut().filter(|service| service.is_missing()) {
            if is_machine {
                service.blameless = true;
                service.spared_until = now.plus(service.misses_ms());
            } else if now >= service.spared_until {
                service.blameless = false;
            }
        }
    }

    /// Kills what was asked to end and has not in its grace.
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
