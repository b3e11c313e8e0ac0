//! *Lives here:* the ports that gateways want, according to the definition and their variables, and
//! a free port for a new profile.
//!
//! *Does not live here:* which process has a port now ([`crate::ports`]); whether two profiles want
//! the same one (`gatevisor-doctor`).

use std::ffi::OsString;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gatevisor_slot::expand::{expand, is_truthy};
use gatevisor_slot::{dotenv, http};

use super::home::Home;
use super::name::ProfileName;
use crate::agent::{AgentDefinition, Placeholders, PortDefinition, fill};
use crate::files::{ReadFileError, read_bounded};

/// Values that switch something off.
const NO: [&str; 5] = ["", "0", "false", "no", "off"];
/// The first port that may be chosen if the definition has no default.
const FIRST_PORT: u16 = 8700;
/// The first port that the kernel gives to outgoing connections.
const EPHEMERAL: u16 = 32_768;
/// Places at which homes begin to look for a free port, at the most.
const PLACES: usize = 512;
/// The most bytes of a file of variables that are read.
const ENVIRONMENT_BYTES: usize = 1 << 20;

/// Returns the port of a gateway with these variables according to a definition, if there is one.
pub fn of_definition(definition: &PortDefinition, lookup: &dyn Fn(&str) -> Option<OsString>) -> Option<u16> {
    let says_yes = |name: &String| {
        lookup(name).is_some_and(|value| {
            let word = value.to_string_lossy().trim().to_ascii_lowercase();
            !NO.contains(&&*word)
        })
    };
    if !definition.when.is_empty() && !definition.when.iter().any(says_yes) {
        return None;
    }
    match lookup(&definition.variable) {
        Some(value) if !value.is_empty() => value.to_str()?.trim().parse().ok().filter(|port| *port != 0),
        _ => definition.default,
    }
}

/// Returns the files of variables with which a profile's gateway is started.
pub(crate) fn environment_files(home: &Home, agent: &AgentDefinition, name: &ProfileName) -> Vec<PathBuf> {
    let templates = agent.gateway.environment_files.iter();
    templates.filter_map(|template| expanded(home, agent, name, template)).map(PathBuf::from).collect()
}

/// Returns a text of the agent definition, with every placeholder filled in that is known before a
/// start.
pub(crate) fn expanded(
    home: &Home,
    agent: &AgentDefinition,
    name: &ProfileName,
    template: &str,
) -> Option<OsString> {
    let variable = agent.home_variable();
    let filled = fill(template, &Placeholders::new(name, &variable)).ok()?;
    expand(&filled, &|name| (name == variable).then(|| home.root().into())).ok()
}

/// Returns the variables in the files of a profile, in their order. The last one of a name counts.
/// Files that cannot be read have none.
pub(crate) fn variables(home: &Home, agent: &AgentDefinition, name: &ProfileName) -> Vec<(String, OsString)> {
    variables_seen(home, agent, name).0
}

/// Returns these variables, and whether there may be more because a look at a file was refused.
fn variables_seen(
    home: &Home,
    agent: &AgentDefinition,
    name: &ProfileName,
) -> (Vec<(String, OsString)>, bool) {
    let (mut variables, mut is_refused) = (Vec::new(), false);
    for file in environment_files(home, agent, name) {
        match read_bounded(&file, ENVIRONMENT_BYTES) {
            Ok(bytes) => variables.extend(dotenv::parse(&bytes.unwrap_or_default())),
            Err(ReadFileError::Io(error)) => is_refused |= error.kind() == ErrorKind::PermissionDenied,
            Err(_) => {}
        }
    }
    (variables, is_refused)
}

/// Returns every port that a profile's gateway wants.
pub(crate) fn wanted(home: &Home, agent: &AgentDefinition, name: &ProfileName) -> Vec<u16> {
    wanted_with(home, agent, name, &[]).into_iter().map(|wanted| wanted.port).collect()
}

/// A port that a gateway wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedPort {
    /// Its number.
    pub port: u16,
    /// The address that is asked whether the gateway works, if that is on this port.
    pub address: Option<SocketAddr>,
}

/// Returns every port that the gateway of a profile wants. `more` are the variables of its process.
/// If neither these nor its files may be read, its ports are unknown and none is returned, because
/// it may not want the default ones.
pub(crate) fn wanted_with(
    home: &Home,
    agent: &AgentDefinition,
    name: &ProfileName,
    more: &[(String, OsString)],
) -> Vec<WantedPort> {
    let (own, is_refused) = variables_seen(home, agent, name);
    if is_refused && more.is_empty() {
        return Vec::new();
    }
    let values = || own.iter().rev().chain(more);
    let lookup = |name: &str| values().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let defined = agent.doctor.ports.iter().filter_map(|definition| of_definition(definition, &lookup));
    let defined = defined.map(|port| WantedPort { port, address: None });
    let asked = asked(agent).filter_map(|(url, when)| address_of(url, when, &lookup));
    defined.chain(asked.map(|address| WantedPort { port: address.port(), address: Some(address) })).collect()
}

/// Returns whether a definition names any port that a gateway could want.
pub(crate) fn names_any(agent: &AgentDefinition) -> bool {
    !agent.doctor.ports.is_empty() || asked(agent).next().is_some()
}

/// Returns the addresses that are asked whether a gateway is ready or works, with the condition of
/// each.
fn asked(agent: &AgentDefinition) -> impl Iterator<Item = (&str, Option<&str>)> {
    let ready = agent.gateway.ready.as_ref().map(|ready| (&*ready.http, ready.when.as_deref()));
    let live = agent.gateway.live.as_ref();
    let addresses = live.into_iter().flat_map(|live| [&live.startup, &live.http, &live.tcp]).flatten();
    let health = live.and_then(|live| live.health.as_ref());
    let addresses = addresses.map(|address| (&*address.url, address.when.as_deref()));
    ready.into_iter().chain(addresses).chain(health.map(|health| (&*health.url, health.when.as_deref())))
}

fn address_of(
    url: &str,
    when: Option<&str>,
    lookup: &dyn Fn(&str) -> Option<OsString>,
) -> Option<SocketAddr> {
    if let Some(when) = when
        && !is_truthy(&expand(when, lookup).ok()?)
    {
        return None;
    }
    let url = expand(url, lookup).ok()?;
    http::parse_url(url.to_str()?).ok()?.addresses.first().copied()
}

/// Returns a port for one more profile of this home: one that none of these wants and nobody
/// listens on.
///
/// The default stays free for a gateway that was given none. So do the ports from which the kernel
/// makes outgoing connections, unless the default is one of them. Nobody knows the other homes of a
/// machine, whose gateways may be down; so each home begins to look at a place of its own.
pub(super) fn free(definition: &PortDefinition, taken: &[u16], home: &Path) -> Option<u16> {
    let first = definition.default.unwrap_or(FIRST_PORT);
    let end = if first < EPHEMERAL { EPHEMERAL - 1 } else { u16::MAX };
    let step = definition.step.max(1);
    // A gateway may use all ports up to that of the next gateway.
    let is_far_enough = |port: u16| taken.iter().all(|other| other.abs_diff(port) >= step);
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let all = || (first..=end).step_by(usize::from(step)).skip(1);
    let before = place(home, all().count().min(PLACES));
    let mut ports = all().skip(before).chain(all().take(before));
    ports.find(|port| is_far_enough(*port) && is_free(*port))
}

/// Returns the place of a home among so many, which is always the same: FNV-1a of its path.
fn place(home: &Path, places: usize) -> usize {
    let bytes = home.as_os_str().as_bytes().iter();
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let places = u64::try_from(places).unwrap_or(u64::MAX);
    usize::try_from(hash.checked_rem(places).unwrap_or(0)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn definition(default: u16, step: u16) -> PortDefinition {
        PortDefinition { variable: "PORT".to_owned(), default: Some(default), when: Vec::new(), step }
    }

    #[test]
    fn a_free_port_is_as_far_from_every_taken_one_as_the_definition_says() {
        let home = Path::new("/home/you/claws");
        let first = free(&definition(18_789, 20), &[], home).unwrap();
        let taken = [first, first + 26];
        let port = free(&definition(18_789, 20), &taken, home).unwrap();
        assert!(port > 18_789 && (port - 18_789).is_multiple_of(20), "{port}");
        assert!(taken.iter().all(|taken| taken.abs_diff(port) >= 20), "{port}");
    }

    #[test]
    fn homes_begin_to_look_for_a_free_port_at_places_of_their_own_and_find_every_one() {
        let homes = (0..50).map(|number| PathBuf::from(format!("/home/user{number}/claws")));
        let places: BTreeSet<usize> = homes.map(|home| place(&home, PLACES)).collect();
        assert!(places.len() > 40 && places.iter().all(|place| *place < PLACES), "{places:?}");
        // It goes on at the beginning, and the last one is found, too.
        let (home, definition) = (Path::new("/home/you/claws"), definition(32_700, 1));
        let mut taken = Vec::new();
        while let Some(port) = free(&definition, &taken, home) {
            taken.push(port);
        }
        assert!(taken.len() > 50, "{taken:?}");
        let before = taken.iter().filter(|port| **port < taken[0]).count();
        assert!(before > 0, "it does not go on at the beginning: {taken:?}");
    }

    #[test]
    fn no_port_is_one_that_the_kernel_gives_to_outgoing_connections() {
        let taken: Vec<u16> = (32_700..EPHEMERAL).collect();
        let home = Path::new("/home/you/claws");
        assert_eq!(free(&definition(32_700, 1), &taken, home), None);
        assert!(free(&definition(40_000, 1), &[], home).is_some_and(|port| port > 40_000));
    }
}
