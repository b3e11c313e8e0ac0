//! *Lives here:* what the command of a container says about its role.
//!
//! *Does not live here:* finding that command out.
//!
//! **Source:** REC-2, REC-11.

use std::path::Path;

use crate::agent::AgentDefinition;

/// The purpose of a container, as far as gateways are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ContainerRole {
    /// It runs the gateways whose desired state is running.
    #[default]
    Gateways,
    /// It runs none, because its command is another long-lived program of the agent.
    NoGateways,
    /// Its command used to be the gateway itself, so it requests a gateway.
    FormerGateway,
}

/// Returns the role that a container's command gives it. Without a command, it runs gateways.
pub fn role(agent: &AgentDefinition, argv: &[String]) -> ContainerRole {
    let container = &agent.container;
    let words = command(agent, argv);
    let first = words.first();
    if first.is_some() && first == container.no_gateways_command.as_ref() {
        return ContainerRole::NoGateways;
    }
    let declined = container.decline_flag.as_ref().is_some_and(|flag| words.contains(flag));
    let is_former =
        !container.former_gateway_command.is_empty() && words.starts_with(&container.former_gateway_command);
    if is_former && !declined { ContainerRole::FormerGateway } else { ContainerRole::Gateways }
}

/// Returns the command itself: what follows the wrapper, or a leading `init`, and then the agent's
/// own name.
fn command<'a>(agent: &AgentDefinition, argv: &'a [String]) -> &'a [String] {
    let named = |word: &String, name: &str| Path::new(word).file_name().is_some_and(|file| file == name);
    let is_wrapper =
        |word: &String| agent.container.wrapper.as_deref().is_some_and(|wrapper| word.ends_with(wrapper));
    let wrapper = argv.iter().position(is_wrapper).and_then(|at| argv.get(at.saturating_add(1)..));
    let rest = match (wrapper, argv) {
        (Some(rest), _) => rest,
        (None, [first, rest @ ..]) if named(first, "init") => rest,
        (None, all) => all,
    };
    match rest {
        [first, rest @ ..] if named(first, &agent.name) => rest,
        all => all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: ContainerRole) {
        let argv: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        assert_eq!(role(&AgentDefinition::built_in().unwrap(), &argv), expected, "{line}");
    }

    #[test]
    fn a_dashboard_container_has_no_gateways() {
        check("/init /opt/hermes/docker/main-wrapper.sh dashboard --port 1", ContainerRole::NoGateways);
        check(
            "/bin/sh -e /run/s6/basedir/scripts/rc.init top /x/main-wrapper.sh hermes dashboard",
            ContainerRole::NoGateways,
        );
        check("/init dashboard", ContainerRole::NoGateways);
        check("hermes dashboard", ContainerRole::NoGateways);
        check("/opt/hermes/bin/hermes dashboard", ContainerRole::NoGateways);
        check("dashboard", ContainerRole::NoGateways);
    }

    #[test]
    fn other_commands_have_gateways() {
        check("", ContainerRole::Gateways);
        check("/init", ContainerRole::Gateways);
        check("chat", ContainerRole::Gateways);
        check("hermes chat dashboard", ContainerRole::Gateways);
        check("gateway", ContainerRole::Gateways);
        check("gateway start", ContainerRole::Gateways);
        check("/x/main-wrapper.sh gateway run --no-supervise", ContainerRole::Gateways);
    }

    #[test]
    fn a_command_that_was_the_gateway_itself_requests_one() {
        check("gateway run", ContainerRole::FormerGateway);
        check("gateway run -p dashboard", ContainerRole::FormerGateway);
        check(
            "/init /opt/hermes/docker/main-wrapper.sh hermes gateway run --replace",
            ContainerRole::FormerGateway,
        );
    }

    #[test]
    fn an_agent_without_such_commands_always_has_gateways() {
        let agent: AgentDefinition = crate::agent::SMALL.parse().unwrap();
        assert_eq!(role(&agent, &["dashboard".to_owned()]), ContainerRole::Gateways);
        assert_eq!(role(&agent, &[]), ContainerRole::Gateways);
    }
}
