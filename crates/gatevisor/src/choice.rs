//! Chooses the gateways for a command: by names, patterns, all, or by state.
//!
//! *Lives here:* the meaning of an operator's words; every verb that takes names uses this.
//! *Does not live here:* the work on the chosen gateways (`each`).

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;

use gatevisor_gateways::inspect::{self, ServiceState};
use gatevisor_gateways::manager::ServiceManager;
use gatevisor_gateways::profile::{self, ProfileName};
use regex::Regex;

use crate::args::Choice;
use crate::context::CommandContext;
use crate::exit::{CommandError, Exit};

/// The names among which patterns and states choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameScope {
    /// Gateways that have a slot.
    Slots,
    /// All profiles, and gateways that have a slot without a profile.
    Known,
    /// Profiles with directories of their own: all but the default one.
    Removable,
}

/// Which gateways are meant if no word chooses any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unnamed {
    /// The selected profile, or the default one if none is selected.
    Selected,
    /// The selected profile, or the whole scope if none is selected.
    SelectedElseAll,
}

impl Choice {
    /// Returns whether no word chooses a gateway.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.all && !self.is_by_state()
    }

    /// Returns whether all are meant: by a word, or because none is named or selected.
    pub fn is_of_everybody(&self, context: &CommandContext) -> bool {
        self.all || (self.is_empty() && !context.is_selected)
    }

    fn is_by_state(&self) -> bool {
        self.failed || self.unresponsive
    }

    fn wants(&self, state: ServiceState) -> bool {
        (self.failed && state.fails()) || (self.unresponsive && state == ServiceState::Unresponsive)
    }
}

/// Returns the profiles that a command means, each once, in the order of their names on the command
/// line.
pub fn chosen(
    context: &CommandContext,
    choice: &Choice,
    scope: NameScope,
    unnamed: Unnamed,
) -> Result<Vec<ProfileName>, CommandError> {
    if choice.is_by_state() {
        return in_state(context, choice, scope);
    }
    let may_be_everybody = choice.all || unnamed == Unnamed::SelectedElseAll;
    if may_be_everybody && choice.is_of_everybody(context) {
        return everybody(context, scope);
    }
    if choice.names.is_empty() {
        return Ok(vec![context.named(None)?]);
    }
    let mut all = Vec::new();
    for word in &choice.names {
        for name in meant(context, word, scope)? {
            if !all.contains(&name) {
                all.push(name);
            }
        }
    }
    Ok(all)
}

/// Returns the profiles that one word means. They can be several only if it is a pattern, which no
/// name can be.
fn meant(context: &CommandContext, word: &OsStr, scope: NameScope) -> Result<Vec<ProfileName>, CommandError> {
    let Some(pattern) = word.to_str().filter(|word| word.contains(['*', '?', '['])) else {
        return Ok(vec![context.named(Some(word))?]);
    };
    let expression = expression(pattern).ok_or_else(|| {
        let hint = "`*` stands for any characters, `?` for one, `[a-c]` for one of these";
        CommandError::new(Exit::Usage, format!("`{pattern}` is no pattern of names: {hint}"))
    })?;
    // A gateway without a slot can also be told to start.
    let scope = if scope == NameScope::Slots { NameScope::Known } else { scope };
    let mut names = members(context, scope)?;
    names.retain(|name| expression.is_match(name.as_str()));
    if names.is_empty() {
        return Err(context.absent(format!("no profile is called like `{pattern}`")));
    }
    Ok(names)
}

/// Returns all members of a scope; it is an error if there are none.
fn everybody(context: &CommandContext, scope: NameScope) -> Result<Vec<ProfileName>, CommandError> {
    let names = members(context, scope)?;
    if names.is_empty() {
        let message = match scope {
            NameScope::Slots => "no gateway has a slot; `gatevisor up` makes them",
            NameScope::Known | NameScope::Removable => {
                "there is no profile; `gatevisor profile create` makes one"
            }
        };
        return Err(context.absent(message));
    }
    Ok(names)
}

/// Returns the members of a scope, sorted.
pub fn members(context: &CommandContext, scope: NameScope) -> Result<Vec<ProfileName>, CommandError> {
    let manager = &context.manager;
    let mut names = if scope == NameScope::Removable { Vec::new() } else { manager.list()? };
    if scope != NameScope::Slots {
        let has_gateway = |name: &ProfileName| !name.is_root() || manager.agent().default_profile.gateway;
        let profiles = profile::list(manager.home(), manager.agent())?;
        names.extend(profiles.into_iter().map(|found| found.name).filter(has_gateway));
        names.retain(|name| scope != NameScope::Removable || !name.is_root());
    }
    names.sort();
    names.dedup();
    Ok(names)
}

fn in_state(
    context: &CommandContext,
    choice: &Choice,
    scope: NameScope,
) -> Result<Vec<ProfileName>, CommandError> {
    let known = members(context, scope)?;
    let reports = inspect::survey(&context.manager)?;
    let wanted = reports.into_iter().filter(|report| choice.wants(report.state));
    let names: Vec<ProfileName> =
        wanted.filter_map(|report| report.profile).filter(|name| known.contains(name)).collect();
    if names.is_empty() {
        let message = match (choice.failed, choice.unresponsive) {
            (true, false) => "no gateway has failed",
            (false, _) => "no gateway is unresponsive",
            (true, true) => "no gateway has failed, and none is unresponsive",
        };
        return Err(context.absent(message));
    }
    Ok(names)
}

/// Returns the regular expression of a pattern.
fn expression(pattern: &str) -> Option<Regex> {
    let mut expression = String::from("^(?s:");
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match c {
            '*' => expression.push_str(".*"),
            '?' => expression.push('.'),
            '[' => {
                let (set, after) = rest.as_str().split_once(']')?;
                let (not, set) = match set.strip_prefix(['!', '^']) {
                    Some(others) => ("^", others),
                    None => ("", set),
                };
                // Other characters of a class occur in no name, and mean something else.
                let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
                if set.is_empty() || !set.chars().all(is_plain) {
                    return None;
                }
                let _ = write!(expression, "[{not}{set}]");
                rest = after.chars();
            }
            other => expression.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    Regex::new(&(expression + ")$")).ok()
}

/// Returns a command as the record of a request names it.
pub fn command(verb: &str, choice: &Choice) -> String {
    let names: Vec<_> = choice.names.iter().map(|name: &OsString| name.to_string_lossy()).collect();
    let mut words = vec![verb];
    words.extend(
        [(choice.all, "--all"), (choice.failed, "--failed"), (choice.unresponsive, "--unresponsive")]
            .into_iter()
            .filter_map(|(is_given, option)| is_given.then_some(option)),
    );
    if names.len() > 1 {
        words.extend(names.iter().map(|name| &**name));
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::expression;

    #[test]
    fn a_star_stands_for_anything_a_question_mark_for_one_and_a_class_for_one_of_its_characters() {
        for (pattern, name, expected) in [
            ("*", "coder", true),
            ("co*", "coder", true),
            ("*er", "coder", true),
            ("c?der", "coder", true),
            ("c*d*r", "coder", true),
            ("c?r", "coder", false),
            ("co", "coder", false),
            ("coder?", "coder", false),
            ("**", "", true),
            ("?", "", false),
            ("test-[ab]", "test-b", true),
            ("test-[ab]", "test-c", false),
            ("test-[!ab]", "test-c", true),
            ("test-[0-9]*", "test-12", true),
            ("a.*", "abc", false),
        ] {
            let is_match = expression(pattern).unwrap().is_match(name);
            assert_eq!(is_match, expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_class_without_an_end_or_with_more_than_characters_of_names_is_no_pattern() {
        for pattern in ["[", "a[]", "[a", "[z-a]", "[[:alpha:]]", "[a&&b]"] {
            assert!(expression(pattern).is_none(), "{pattern}");
        }
    }
}
