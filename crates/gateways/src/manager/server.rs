//! *Lives here:* which gateway serves a profile, as its manager knows it.
//!
//! *Does not live here:* deciding that (see [`crate::topology`]), and what is asked of a gateway
//! that serves others (`served`).

use super::ScandirManager;
use crate::agent::ServedFrom;
use crate::inspect::ServerState;
use crate::profile::ProfileName;
use crate::topology::{KnownTopology, TopologyReader};

impl ScandirManager {
    /// Returns the reader that decides which gateway serves which profile.
    pub fn topology(&self) -> TopologyReader<'_> {
        TopologyReader::new(&self.agent, &self.home)
    }

    /// Returns which gateway serves a profile. For a new profile, the answer is kept for the case
    /// that the settings cannot be read later.
    pub(super) fn learned_gateway(&self, name: &ProfileName) -> ServedFrom {
        let decided = self.topology().decide(name);
        if decided.last.is_some() || name.is_root() || self.agent.topology.rules.is_empty() {
            return decided.from;
        }
        let is_guessed = decided.problem.is_some();
        let from = if is_guessed && self.serves(name) { ServedFrom::Server } else { decided.from };
        if !is_guessed || from != decided.from {
            // It is needed only if the settings cannot be read later.
            let _ = KnownTopology::note(self.home.root(), name, Some(from));
        }
        from
    }

    /// Returns which gateway a request for a profile means. If the profile's own gateway runs
    /// although another one should serve it, the own one is meant.
    pub(super) fn meant_gateway(&self, name: &ProfileName) -> ServedFrom {
        let from = self.learned_gateway(name);
        let runs = from != ServedFrom::Own && self.slot(name).status().is_ok_and(|status| status.is_up());
        if runs { ServedFrom::Own } else { from }
    }

    pub(super) fn serves(&self, name: &ProfileName) -> bool {
        self.is_served_by(ServerState::read(self).as_ref(), name)
    }

    pub(super) fn is_served_by(&self, server: Option<&ServerState>, name: &ProfileName) -> bool {
        server.and_then(|server| server.serves(&self.agent.topology, name)).unwrap_or(false)
    }

    pub(super) fn alone_reason(&self) -> Option<String> {
        ServerState::read(self)?.alone_reason(&self.agent.topology)
    }
}
