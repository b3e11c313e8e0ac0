//! The meaning of a container's arguments.
//!
//! *Lives here:* the rule, without any I/O. *Does not live here:* finding programs, and becoming
//! one.
//!
//! **Source:** PID-2, WR-2, WR-4, L-15, TINI-1, PID-11.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use gatevisor_gateways::agent::AgentDefinition;

/// Options of tini that take an argument.
const TINI_VALUED: [&str; 2] = ["-p", "-e"];

/// Returns the command that the arguments mean; none for a container that only runs services.
///
/// The agent's own words come before programs. So a program with the name of an agent's command
/// does not take its place.
pub fn route(
    agent: &AgentDefinition,
    words: &[OsString],
    is_program: impl Fn(&OsStr) -> bool,
) -> Vec<OsString> {
    let own = &agent.container.default_command;
    let Some(first) = words.first() else { return own.iter().map(OsString::from).collect() };
    let is_subcommand = agent.container.subcommands.iter().any(|known| first == known.as_str());
    let is_path = first.as_bytes().contains(&b'/');
    if own.is_empty() || is_path || (!is_subcommand && is_program(first)) {
        return words.to_vec();
    }
    own.iter().map(OsString::from).chain(words.iter().cloned()).collect()
}

/// Returns the arguments without tini's own options.
///
/// **Source:** tini(1).
pub fn without_tini_options(words: &[OsString]) -> &[OsString] {
    let mut rest = words;
    while let [first, after @ ..] = rest {
        if first == "--" {
            return after;
        }
        if !first.as_bytes().starts_with(b"-") || first == "-" {
            break;
        }
        let valued = TINI_VALUED.iter().any(|option| first == option);
        rest = if valued { after.get(1..).unwrap_or_default() } else { after };
    }
    rest
}

/// Returns whether a path is the image's command wrapper.
pub fn is_wrapper(agent: &AgentDefinition, path: &OsStr) -> bool {
    let wrapper = agent.container.wrapper.as_deref().filter(|name| !name.is_empty());
    wrapper.is_some_and(|name| path.as_bytes().ends_with(name.as_bytes()))
}

/// Returns the command as our own command line shows it: the wrapper, and the command without the
/// agent's name. With that name, this process would look like a gateway of the agent.
pub fn shown<'a>(agent: &'a AgentDefinition, wrapper: &'a OsStr, words: &'a [OsString]) -> Vec<&'a OsStr> {
    let words = match words {
        [first, rest @ ..] if first == agent.name.as_str() => rest,
        all => all,
    };
    std::iter::once(wrapper).chain(words.iter().map(OsString::as_os_str)).collect()
}

#[cfg(test)]
mod tests {
    use super::{is_wrapper, route, shown, without_tini_options};
    use gatevisor_gateways::agent::AgentDefinition;
    use std::ffi::{OsStr, OsString};

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn arguments_mean_a_program_or_a_command_of_the_agent() {
        let agent = AgentDefinition::built_in().unwrap();
        let programs = ["bash", "sh", "sleep", "hermes", "login", "mcp"];
        for (line, expected) in [
            ("", "hermes"),
            ("chat -q hello", "hermes chat -q hello"),
            ("sleep infinity", "sleep infinity"),
            ("bash", "bash"),
            ("--tui", "hermes --tui"),
            ("--version", "hermes --version"),
            ("hermes gateway run", "hermes gateway run"),
            ("gateway run", "hermes gateway run"),
            ("login", "hermes login"),
            ("mcp --help", "hermes mcp --help"),
            ("/usr/bin/login x", "/usr/bin/login x"),
            ("./login", "./login"),
            ("unknown word", "hermes unknown word"),
        ] {
            let routed = route(&agent, &words(line), |name| programs.iter().any(|p| name == *p));
            assert_eq!(routed, words(expected), "{line}");
        }
    }

    #[test]
    fn an_agent_without_a_command_of_its_own_runs_what_it_is_given() {
        let mut agent = AgentDefinition::built_in().unwrap();
        agent.container.default_command.clear();
        assert!(route(&agent, &[], |_| false).is_empty());
        assert_eq!(route(&agent, &words("chat x"), |_| false), words("chat x"));
    }

    #[test]
    fn tinis_options_are_dropped_up_to_the_command() {
        for (line, expected) in [
            ("-g -- --help", "--help"),
            ("-s -w -vvv -p SIGTERM -e 143 sleep 1", "sleep 1"),
            ("--unknown sh -c x", "sh -c x"),
            ("-g", ""),
            ("", ""),
            ("sleep -- 1", "sleep -- 1"),
        ] {
            assert_eq!(without_tini_options(&words(line)), words(expected), "{line}");
        }
    }

    #[test]
    fn our_command_line_shows_the_wrapper_and_no_gateway() {
        let agent = AgentDefinition::built_in().unwrap();
        let wrapper = OsStr::new("/x/main-wrapper.sh");
        assert!(is_wrapper(&agent, wrapper));
        assert!(!is_wrapper(&agent, OsStr::new("/bin/sh")));
        assert_eq!(
            shown(&agent, wrapper, &words("hermes gateway run")),
            ["/x/main-wrapper.sh", "gateway", "run"]
        );
        assert_eq!(shown(&agent, wrapper, &words("sleep 1")), ["/x/main-wrapper.sh", "sleep", "1"]);
    }
}
