//! Units that each run one gateway of the home without our supervisor, as `hermes gateway install`
//! makes them.
//!
//! *Lives here:* recognizing them, stopping them, and putting them back. *Does not live here:* the
//! unit that takes their place.
//!
//! **Source:** `generate_systemd_unit` in `hermes_cli/gateway.py` of Hermes 0.19 and 0.22.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gatevisor_gateways::profile::{Home, ProfileName};
use gatevisor_paths::by_path;
use rustix::fs::OFlags;

use super::systemctl;
use super::unit::{HostScope, MARK, MAX_UNIT};
use crate::exit::CommandError;
use crate::out;

/// A unit that runs the gateway of a profile.
#[derive(Debug)]
pub struct FormerUnit {
    pub name: String,
    pub profile: ProfileName,
}

/// A former unit that is active, or enabled for the next boot.
#[derive(Debug)]
pub struct UsedUnit {
    pub unit: FormerUnit,
    pub is_active: bool,
    is_enabled: bool,
}

/// Returns the units in this directory that run gateways of the home. A unit names the home in the
/// agent's variable. Hermes writes it there without symbolic links, whatever its user calls it.
///
/// # Errors
/// The directory or a unit in it cannot be read. A unit that cannot be read may be one
/// that runs a gateway.
pub fn find(directory: &Path, home: &Home, variable: &str) -> io::Result<Vec<FormerUnit>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let linked = Home::new(&without_links(home.root())).ok().filter(|linked| linked.root() != home.root());
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let is_small = entry.metadata().is_ok_and(|it| it.is_file() && it.len() <= MAX_UNIT);
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !is_small || !name.ends_with(".service") {
            continue;
        }
        let text = match fs::read_to_string(entry.path()) {
            // The unit was removed meanwhile, or is not text.
            Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::InvalidData].contains(&error.kind()) => {
                continue;
            }
            text => text?,
        };
        let homes = [Some(home), linked.as_ref()];
        let profile = homes.into_iter().flatten().find_map(|home| profile(&text, home, variable));
        found.extend(profile.map(|profile| FormerUnit { name, profile }));
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// Returns the path of a directory without symbolic links, as far as we may follow them.
fn without_links(directory: &Path) -> PathBuf {
    let opened = by_path::open(directory, OFlags::PATH | OFlags::DIRECTORY).map_err(io::Error::from);
    opened.and_then(by_path::path_of).unwrap_or_else(|_| directory.to_owned())
}

/// Returns the names of the units of the system and of a user that run gateways of the home. Those
/// that cannot be read are left out.
pub fn units_beside(home: &Home, variable: &str, user_home: &Path) -> Vec<String> {
    let places = [PathBuf::from("/etc/systemd/system"), user_home.join(".config/systemd/user")];
    let all = places.iter().flat_map(|place| find(place, home, variable).unwrap_or_default());
    all.map(|unit| unit.name).collect()
}

/// Returns the profile whose gateway a unit runs.
fn profile(text: &str, home: &Home, variable: &str) -> Option<ProfileName> {
    if text.lines().next() == Some(MARK) {
        return None;
    }
    let assignments = text.lines().filter_map(|line| line.trim().strip_prefix("Environment="));
    let mut values = assignments.filter_map(|word| {
        let word = word.trim();
        let inner = word.strip_prefix('"').and_then(|word| word.strip_suffix('"')).unwrap_or(word);
        inner.strip_prefix(variable)?.strip_prefix('=')
    });
    let place = Path::new(values.next_back()?);
    if place == home.root() {
        return Some(ProfileName::root());
    }
    let name = place.strip_prefix(home.profiles_dir()).ok()?;
    ProfileName::from_os(name.as_os_str()).ok()
}

/// Returns the units that are active, or enabled for the next boot.
pub fn in_use(scope: HostScope, found: Vec<FormerUnit>) -> Result<Vec<UsedUnit>, CommandError> {
    let mut used = Vec::new();
    for unit in found {
        let state = systemctl::properties(scope, &unit.name, &["ActiveState", "UnitFileState"])?;
        let is = |name: &str, words: &[&str]| state.get(name).is_some_and(|it| words.contains(&it.as_str()));
        let is_active = is("ActiveState", &["active", "activating", "reloading"]);
        let is_enabled = is("UnitFileState", &["enabled", "enabled-runtime"]);
        if is_active || is_enabled {
            used.push(UsedUnit { unit, is_active, is_enabled });
        }
    }
    Ok(used)
}

/// Stops and disables all these units. If that fails for one, the ones before it are put back.
pub fn stop(scope: HostScope, used: &[UsedUnit]) -> Result<(), CommandError> {
    for (at, former) in used.iter().enumerate() {
        let name = &former.unit.name;
        out::say(format_args!("stopping and disabling `{name}`"));
        if let Err(error) = systemctl::call(scope, &["disable", "--now", "--", name]) {
            put_back(scope, used.get(..=at).unwrap_or_default());
            return Err(error);
        }
    }
    Ok(())
}

/// Enables and starts the units again as they were before [`stop`].
pub fn put_back(scope: HostScope, used: &[UsedUnit]) {
    for former in used {
        let name = former.unit.name.as_str();
        let verbs = [(former.is_enabled, "enable"), (former.is_active, "start")];
        for (_, verb) in verbs.into_iter().filter(|(was, _)| *was) {
            if let Err(error) = systemctl::call(scope, &[verb, "--", name]) {
                out::warn(&error.message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FormerUnit, find, profile};
    use crate::host_service::unit::MARK;
    use gatevisor_gateways::profile::{Home, ProfileName};
    use std::path::Path;

    /// What Hermes 0.19.0 writes, without what is not looked at.
    const OF_HERMES: &str = "[Unit]
Description=Hermes Agent Gateway - Messaging Platform Integration

[Service]
Type=simple
ExecStart=/opt/hermes/bin/python -m hermes_cli.main gateway run
WorkingDirectory=/home/alice/.hermes
Environment=\"PATH=/opt/hermes/bin:/usr/bin:/bin\"
Environment=\"HERMES_HOME=/home/alice/.hermes\"
Restart=always

[Install]
WantedBy=default.target
";

    /// What Hermes 0.22.2 writes for a user, with another directory of the program.
    const OF_HERMES_022: &str = include_str!("testdata/hermes-0.22.service");

    fn whose(text: &str) -> Option<String> {
        let home = Home::new(Path::new("/home/alice/.hermes")).unwrap();
        profile(text, &home, "HERMES_HOME").map(|name| name.as_str().to_owned())
    }

    #[test]
    fn a_unit_that_names_the_home_runs_the_gateway_of_the_profile_whose_directory_it_names() {
        let of = |place: &str| OF_HERMES.replace("HOME=/home/alice/.hermes", &format!("HOME={place}"));
        assert_eq!(whose(OF_HERMES), Some(ProfileName::root().as_str().to_owned()));
        assert_eq!(whose(&of("/home/alice/.hermes/profiles/coder")), Some("coder".to_owned()));
        for other in ["/home/alice/.hermes2", "/home/bob/.hermes", "/home/alice/.hermes/profiles/a/b", ""] {
            assert_eq!(whose(&of(other)), None, "{other}");
        }
        assert_eq!(whose(&format!("{MARK}\n{OF_HERMES}")), None, "a unit of ours is no former one");
        assert_eq!(whose(&OF_HERMES.replace("HERMES_HOME", "OTHER_HERMES_HOME")), None);
        let of_ours =
            OF_HERMES.replace("\"HERMES_HOME=/home/alice/.hermes\"", "HERMES_HOME=/home/alice/.hermes");
        assert!(whose(&of_ours).is_some(), "quotes are not needed");
    }

    #[test]
    fn a_unit_of_hermes_022_names_the_home_beside_the_homes_in_its_commands() {
        assert_eq!(whose(OF_HERMES_022), Some(ProfileName::root().as_str().to_owned()));
        let of_coder = OF_HERMES_022.replace("/home/alice/.hermes", "/home/alice/.hermes/profiles/coder");
        assert_eq!(whose(&of_coder), Some("coder".to_owned()));
        let of_bob = OF_HERMES_022.replace("/home/alice/.hermes", "/home/bob/.hermes");
        assert_eq!(whose(&of_bob), None);
    }

    #[test]
    fn a_home_behind_a_link_is_that_which_a_unit_names_without_it() {
        let place = tempfile::tempdir().unwrap();
        let real = place.path().canonicalize().unwrap().join("real");
        let (units, link) = (place.path().join("units"), place.path().join("link"));
        for directory in [&units, &real.join("profiles/coder")] {
            std::fs::create_dir_all(directory).unwrap();
        }
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let text = OF_HERMES_022.replace("/home/alice/.hermes", real.to_str().unwrap());
        std::fs::write(units.join("hermes-gateway.service"), text).unwrap();
        let coder =
            OF_HERMES_022.replace("/home/alice/.hermes", real.join("profiles/coder").to_str().unwrap());
        std::fs::write(units.join("hermes-gateway-coder.service"), coder).unwrap();
        for home in [&link, &real] {
            let found = find(&units, &Home::new(home).unwrap(), "HERMES_HOME").unwrap();
            let profiles: Vec<&str> = found.iter().map(|unit| unit.profile.as_str()).collect();
            assert_eq!(profiles, ["coder", "default"], "{}", home.display());
        }
    }

    #[test]
    fn only_files_of_services_are_looked_at_and_a_missing_directory_has_none() {
        let place = tempfile::tempdir().unwrap();
        let home = Home::new(Path::new("/home/alice/.hermes")).unwrap();
        for name in ["hermes-gateway.service", "hermes-gateway.timer", "z.service.d"] {
            std::fs::write(place.path().join(name), OF_HERMES).unwrap();
        }
        std::os::unix::fs::symlink("hermes-gateway.service", place.path().join("alias.service")).unwrap();
        let found = find(place.path(), &home, "HERMES_HOME").unwrap();
        let names: Vec<&str> = found.iter().map(|FormerUnit { name, .. }| name.as_str()).collect();
        assert_eq!(names, ["hermes-gateway.service"]);
        assert!(find(&place.path().join("none"), &home, "HERMES_HOME").unwrap().is_empty());
    }
}
