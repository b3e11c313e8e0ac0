//! What is held back while a service has many commands to obey, and the room for its effects.
//!
//! *Lives here:* for which service publications are held back.
//! *Does not live here:* which of them count (`gatevisor_core::Coalesced`), and making them
//! (`publish`).

use gatevisor_core::{Coalesced, Coalescing, ServiceEffect, ServiceEffects};

use crate::id::Id;

/// The effects of services that are not performed yet.
#[derive(Debug)]
pub(crate) struct Publications {
    /// The room for the effects of one step, so that a step allocates nothing.
    room: ServiceEffects,
    held: Option<(Id, Coalesced)>,
}

impl Publications {
    pub(crate) fn new() -> Self {
        Self { room: ServiceEffects::new(), held: None }
    }

    /// Returns the room for the effects of a step.
    pub(crate) fn lend_room(&mut self) -> ServiceEffects {
        std::mem::take(&mut self.room)
    }

    /// Takes the room back, which is empty again.
    pub(crate) fn take_room_back(&mut self, room: ServiceEffects) {
        self.room = room;
    }

    /// Holds back publications of a service until [`Self::take_held`], and keeps only the last of
    /// each kind.
    pub(crate) fn hold_for(&mut self, id: Id) {
        self.held = Some((id, Coalesced::default()));
    }

    /// Returns what is held back, in the order in which to publish it, and holds back nothing more.
    pub(crate) fn take_held(&mut self) -> Option<(Id, impl Iterator<Item = ServiceEffect> + use<>)> {
        self.held.take().map(|(id, mut held)| (id, held.drain()))
    }

    /// Holds back an effect, or returns what to do with it.
    pub(crate) fn sort(&mut self, id: Id, effect: ServiceEffect) -> Coalescing {
        match &mut self.held {
            Some((of, held)) if *of == id => held.add(effect),
            Some(_) | None => Coalescing::Perform(effect),
        }
    }
}
