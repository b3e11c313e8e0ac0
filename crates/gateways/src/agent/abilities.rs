//! *Lives here:* what can be done with the gateways of an agent, according to its definition.
//!
//! *Does not live here:* doing it.

use gatevisor_slot::live::Live;

use super::AgentDefinition;

/// Something that can be done with gateways or found out about them, if the definition says how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ability {
    /// They report when they are ready.
    Ready,
    /// They show that they work.
    Live,
    /// They finish their work before they are stopped or restarted.
    Drain,
    /// They are asked whether they want to be started again.
    Handoff,
    /// One may serve several profiles.
    Topology,
}

impl Ability {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Ready, Self::Live, Self::Drain, Self::Handoff, Self::Topology];

    /// Returns the word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Live => "live",
            Self::Drain => "drain",
            Self::Handoff => "handoff",
            Self::Topology => "topology",
        }
    }

    fn is_of(self, agent: &AgentDefinition) -> bool {
        let gateway = &agent.gateway;
        let live = gateway.live.as_ref();
        match self {
            Self::Ready => gateway.ready.is_some() || live.is_some_and(|live| live.notify),
            Self::Live => live.is_some_and(shows_work),
            Self::Drain => gateway.drain.is_some(),
            Self::Handoff => gateway.handoff.is_some(),
            Self::Topology => !agent.topology.rules.is_empty(),
        }
    }
}

fn shows_work(live: &Live) -> bool {
    live.notify
        || live.command.is_some()
        || live.heartbeat.is_some()
        || live.socket.is_some()
        || live.http.is_some()
        || live.tcp.is_some()
}

impl AgentDefinition {
    /// Returns the abilities of its gateways.
    pub fn abilities(&self) -> Vec<Ability> {
        Ability::ALL.into_iter().filter(|ability| ability.is_of(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::SMALL;

    #[test]
    fn a_definition_says_what_can_be_done_with_its_gateways() {
        let words = |text: &str| {
            let agent: AgentDefinition = text.parse().unwrap();
            agent.abilities().into_iter().map(Ability::word).collect::<Vec<_>>()
        };
        assert_eq!(words(crate::agent::BUILT_IN), ["ready", "live", "drain", "topology"]);
        assert_eq!(words(SMALL), [""; 0]);
        assert_eq!(words(&format!("{SMALL}[gateway.live]\nnotify = true\n")), ["ready", "live"]);
        for ability in Ability::ALL {
            assert_eq!(serde_json::to_value(ability).unwrap(), ability.word());
        }
    }
}
