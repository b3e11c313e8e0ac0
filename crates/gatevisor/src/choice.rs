//! Which gateways a command is for: names, patterns, all, or those that failed.
//!
//! *Lives here:* what an operator's words choose. *Does not live here:* what is done with what they choose.

use std::ffi::{OsStr, OsString};

use gatevisor_gateways::inspect::{self, ServiceState};
use gatevisor_gateways::manager::ServiceManager;
use gatevisor_gateways::profile::ProfileName;

use crate::args::Choice;
use crate::context::CommandContext;
use crate::exit::{CommandError, Exit};

/// Returns the profiles that a command means, each once, in the order in which they were named.
pub fn chosen(context: &CommandContext, choice: &Choice) -> Result<Vec<ProfileName>, CommandError> {
    if choice.failed {
        return failed(context);
    }
    if choice.all {
        return registered(context);
    }
    if choice.names.is_empty() {
        return Ok(vec![context.named(None)?]);
    }
    let mut all = Vec::new();
    for name in &choice.names {
        for name in meant(context, name)? {
            if !all.contains(&name) {
                all.push(name);
            }
        }
    }
    Ok(all)
}

/// Returns the profiles that one word means: more than one only where it is a pattern, which no name can be.
fn meant(context: &CommandContext, word: &OsStr) -> Result<Vec<ProfileName>, CommandError> {
    let Some(pattern) = word.to_str().filter(|word| word.contains(['*', '?'])) else {
        return Ok(vec![context.named(Some(word))?]);
    };
    let mut names = registered(context)?;
    names.retain(|name| matches(pattern.as_bytes(), name.as_str().as_bytes()));
    if names.is_empty() {
        return Err(CommandError::new(
            Exit::No,
            format!("no gateway that has a slot is called like `{pattern}`"),
        ));
    }
    Ok(names)
}

fn registered(context: &CommandContext) -> Result<Vec<ProfileName>, CommandError> {
    let names = context.manager.list()?;
    if names.is_empty() {
        return Err(CommandError::new(Exit::No, "no gateway has a slot; `gatevisor up` makes them"));
    }
    Ok(names)
}

fn failed(context: &CommandContext) -> Result<Vec<ProfileName>, CommandError> {
    let reports = inspect::survey(&context.manager)?;
    let fails = |state| {
        matches!(state, ServiceState::Failed | ServiceState::FailedToStart | ServiceState::BackingOff)
    };
    let names: Vec<ProfileName> = reports
        .into_iter()
        .filter(|report| fails(report.state))
        .filter_map(|report| report.profile)
        .collect();
    if names.is_empty() {
        return Err(CommandError::new(Exit::No, "no gateway has failed"));
    }
    Ok(names)
}

/// Returns whether a name is like a pattern, in which `*` stands for any letters and `?` for one.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // Rests of the pattern to which what was read of the name can lead.
    let mut rests: Vec<&[u8]> = beyond_stars(pattern);
    for byte in name {
        let mut next: Vec<&[u8]> = Vec::new();
        for rest in rests {
            let more = match rest.split_first() {
                Some((b'*', _)) => vec![rest],
                Some((one, after)) if one == byte || *one == b'?' => beyond_stars(after),
                _ => Vec::new(),
            };
            next.extend(more);
        }
        next.sort_unstable_by_key(|rest| rest.len());
        next.dedup_by_key(|rest| rest.len());
        rests = next.into_iter().flat_map(beyond_stars).collect();
    }
    rests.iter().any(|rest| rest.is_empty())
}

/// Returns a rest of a pattern, and those to which stars at its beginning lead that stand for nothing.
fn beyond_stars(pattern: &[u8]) -> Vec<&[u8]> {
    let stars = pattern.iter().take_while(|&&byte| byte == b'*').count();
    (0..=stars).filter_map(|skipped| pattern.get(skipped..)).collect()
}

/// Returns the words with which whoever ordered something is recorded.
pub fn command(verb: &str, choice: &Choice) -> String {
    let words = if choice.failed {
        "--failed".to_owned()
    } else if choice.all {
        "--all".to_owned()
    } else if let [_, _, ..] = choice.names.as_slice() {
        let names: Vec<_> = choice.names.iter().map(|name: &OsString| name.to_string_lossy()).collect();
        names.join(" ")
    } else {
        return verb.to_owned();
    };
    format!("{verb} {words}")
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_letters_and_a_question_mark_for_one() {
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
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
