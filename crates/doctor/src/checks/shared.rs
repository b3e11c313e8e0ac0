//! *Lives here:* the checks whether two gateways share a port or a token.
//!
//! *Does not live here:* which variables hold them (the agent definition); reading the files.
//!
//! No value is printed here, nor anything computed from a value: only the owner of the value, and
//! its variable.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::commands::quote;
use crate::facts::{EnvironmentFile, Facts, ProfileFact, Secret};
use crate::finding::{Check, Finding, Severity};
use gatevisor_gateways::agent::PortDefinition;
use gatevisor_gateways::ports::of_definition;

/// The first port that is tried when a free one is needed and the agent has no default.
const FIRST_PORT: u16 = 8700;

/// A port that a gateway listens on.
struct PortUser<'a> {
    profile: &'a ProfileFact,
    definition: &'a PortDefinition,
}

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    ports(facts, found);
    for variable in &facts.definition.exclusive {
        token(facts, variable, found);
    }
}

/// Returns the value of a variable that counts: the last one of its name, in the last file that has
/// it.
fn lookup<'a>(profile: &'a ProfileFact, name: &str) -> Option<(&'a EnvironmentFile, &'a Secret)> {
    let mut files = profile.environment.iter().rev();
    let in_file = |file: &'a EnvironmentFile| {
        file.values.iter().rev().find(|(variable, _)| variable == name).map(|(_, value)| (file, value))
    };
    files.find_map(in_file)
}

/// Returns the profiles whose variables are known. What a user without rights may not read may give
/// a profile another port or token.
fn known(facts: &Facts) -> impl Iterator<Item = &ProfileFact> {
    let is_hidden = |profile: &ProfileFact| profile.environment.iter().any(EnvironmentFile::is_refused);
    facts.profiles.iter().filter(move |profile| !(facts.is_strange() && is_hidden(profile)))
}

/// Returns the port on which a gateway listens according to a definition, if it does.
fn port(profile: &ProfileFact, definition: &PortDefinition) -> Option<u16> {
    of_definition(definition, &|name| lookup(profile, name).map(|(_, Secret(value))| value.clone()))
}

fn ports(facts: &Facts, found: &mut Vec<Finding>) {
    let mut listeners: BTreeMap<u16, Vec<PortUser<'_>>> = BTreeMap::new();
    for profile in known(facts) {
        for definition in &facts.definition.ports {
            if let Some(port) = port(profile, definition) {
                listeners.entry(port).or_default().push(PortUser { profile, definition });
            }
        }
    }
    let mut taken: Vec<u16> = listeners.keys().copied().collect();
    for sharing in listeners.values() {
        let Some((first, others)) = sharing.split_first() else { continue };
        for other in others {
            found.push(shared_port(facts, first, other, &mut taken));
        }
    }
}

fn shared_port(facts: &Facts, first: &PortUser<'_>, other: &PortUser<'_>, taken: &mut Vec<u16>) -> Finding {
    let name = &other.profile.name;
    let (one, two) = (&first.definition.variable, &other.definition.variable);
    let what = if first.profile.name == *name {
        format!("profile {name} listens on one port twice: {one} and {two}")
    } else {
        format!("profiles {} and {name} listen on the same port: {one} and {two}", first.profile.name)
    };
    let is_default = |at: &PortUser<'_>| lookup(at.profile, &at.definition.variable).is_none();
    let why = if is_default(first) || is_default(other) {
        "only one of them can have it; where the variable is not set, it is the agent's default"
    } else {
        "only one of them can have it"
    };
    let finding =
        Finding::new(Check::Port, severity(facts, [first.profile, other.profile]), &what, why).of(name);
    let Some(path) = &other.profile.environment_path else { return finding };
    let start = other.definition.default.unwrap_or(FIRST_PORT);
    // The free port reveals no more than the one that the agent chooses by itself.
    let free = (start..=u16::MAX).find(|port| !taken.contains(port)).unwrap_or(start);
    taken.push(free);
    // A file that does not exist yet will hold secrets later.
    let is_new = other.profile.environment.iter().all(|file| file.path != *path);
    let umask = if is_new { "umask 077; " } else { "" };
    let mut fix = format!("({umask}printf '\\n%s\\n' {two}={free} >> {})", quote(path));
    fix.push_str(&restarted(facts, other.profile));
    finding.at(path).fix(fix)
}

fn token(facts: &Facts, variable: &str, found: &mut Vec<Finding>) {
    let mut holders: Vec<(&ProfileFact, &EnvironmentFile, &Secret)> = Vec::new();
    for profile in known(facts) {
        let Some((file, value)) = lookup(profile, variable).filter(|(_, value)| !value.0.is_empty()) else {
            continue;
        };
        match holders.iter().find(|(_, _, known)| *known == value) {
            Some((first, _, _)) => found.push(shared_token(facts, variable, first, (profile, file, value))),
            None => holders.push((profile, file, value)),
        }
    }
}

fn shared_token(
    facts: &Facts,
    variable: &str,
    first: &ProfileFact,
    (profile, file, value): (&ProfileFact, &EnvironmentFile, &Secret),
) -> Finding {
    let what = format!("profiles {} and {} have the same {variable}", first.name, profile.name);
    let why = "only one of them can be who it stands for: messages go to one or the other, or the second does not start";
    let finding = Finding::new(Check::Token, severity(facts, [first, profile]), &what, why);
    let path = quote(&file.path);
    // The value stays in the other file, so nothing is lost. A value of several lines is left to an
    // editor.
    let fix = if value.0.as_bytes().contains(&b'\n') {
        format!("\"${{EDITOR:-vi}}\" {path}")
    } else {
        let line = format!("/^[[:space:]]*(export[[:space:]]+)?{variable}[[:space:]]*=/d");
        // The mark may be just before this line.
        let mark = if file.has_mark { "-e '1s/^\\xEF\\xBB\\xBF//' -e " } else { "" };
        format!("sed -i -E {mark}{} {path}", quote(OsStr::new(&line)))
    };
    finding.of(&profile.name).at(&file.path).fix(fix + &restarted(facts, profile))
}

/// Two running gateways disturb each other now; others will do so later.
fn severity(facts: &Facts, both: [&ProfileFact; 2]) -> Severity {
    if both.iter().all(|profile| facts.is_wanted(profile)) { Severity::Error } else { Severity::Warning }
}

/// Returns the rest of a command, which makes a running gateway read its file again.
fn restarted(facts: &Facts, profile: &ProfileFact) -> String {
    let should_run = facts.supervision.is_supervised() && profile.should_run();
    let restart = || format!(" && {}", facts.caller.about(&["gateway", "restart"], &profile.name));
    if should_run { restart() } else { String::new() }
}
