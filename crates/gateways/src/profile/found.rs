//! *Lives here:* the built-in agent whose profiles are in a directory, if nobody names an agent.
//!
//! *Does not live here:* the agent that was named before (`agent::remember`).

use gatevisor_client::look;

use super::home::Home;
use super::store::{ListProfilesError, scan};
use crate::agent::AgentDefinition;
use crate::agent::built_in::BUILT_INS;

/// Returns the name of the built-in definition whose profiles are in a home in which there are none
/// of the usual agent.
///
/// # Errors
/// The home or its profiles may not be looked at.
pub fn found_in(home: &Home, usual: &AgentDefinition) -> Result<Option<&'static str>, ListProfilesError> {
    if has_profiles(home, usual)? {
        return Ok(None);
    }
    for (name, text) in BUILT_INS.into_iter().filter(|(name, _)| *name != usual.name) {
        let Ok(agent) = AgentDefinition::parse(text, name) else { continue };
        if has_profiles(home, &agent)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn has_profiles(home: &Home, agent: &AgentDefinition) -> Result<bool, ListProfilesError> {
    // It is the home that cannot be looked at, so it is unknown whether it has the file of this
    // agent.
    let unseen = |source| ListProfilesError { path: home.root().to_owned(), source };
    let is_marked = look::exists(&home.root().join(&agent.profile.marker)).map_err(unseen)?;
    Ok(is_marked || !scan(home, agent)?.is_empty())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_home_is_of_the_agent_whose_profiles_are_in_it_and_of_the_usual_one_if_both_have_some() {
        let place = tempfile::tempdir().unwrap();
        let home = Home::new(place.path()).unwrap();
        let usual = AgentDefinition::built_in().unwrap();
        assert_eq!(found_in(&home, &usual).unwrap(), None);
        let coder = home.root().join("profiles/coder");
        fs::create_dir_all(&coder).unwrap();
        assert_eq!(found_in(&home, &usual).unwrap(), None);
        fs::write(coder.join("openclaw.json"), "{}").unwrap();
        assert_eq!(found_in(&home, &usual).unwrap(), Some("openclaw"));
        fs::write(home.root().join("SOUL.md"), "").unwrap();
        assert_eq!(found_in(&home, &usual).unwrap(), None);
    }

    #[test]
    fn the_state_directory_of_an_agent_is_a_home_with_one_profile() {
        let place = tempfile::tempdir().unwrap();
        let home = Home::new(place.path()).unwrap();
        fs::write(home.root().join("openclaw.json"), "{}").unwrap();
        assert_eq!(found_in(&home, &AgentDefinition::built_in().unwrap()).unwrap(), Some("openclaw"));
    }
}
