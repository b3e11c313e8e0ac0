//! *Lives here:* the profiles: their desired states, their files of secrets, the directories of
//! their logs.
//!
//! *Does not live here:* comparing them.

use std::ffi::OsString;
use std::path::PathBuf;

use gatevisor_paths::by_path;
use gatevisor_slot::dotenv;
use gatevisor_wire::log_script::LogScript;

use super::home_paths;
use crate::facts::{EnvironmentFile, LogDirectory, ProfileFact, Secret};
use gatevisor_gateways::desired;
use gatevisor_gateways::manager::ScandirManager;
use gatevisor_gateways::ports::{environment_files, expanded};
use gatevisor_gateways::profile::{self, Candidate, Profile, ProfileName};
use gatevisor_gateways::{ReadFileError, read_bounded};

/// The most bytes of a file of secrets, and of `log/run`.
const ENVIRONMENT_BYTES: usize = 1 << 20;
const LOG_RUN_BYTES: usize = 64 << 10;
/// The permissions that a directory's owner needs.
const OPEN: u32 = 0o700;

/// Returns the profiles with a gateway, and those whose names are wrong.
pub(super) fn gather(
    manager: &ScandirManager,
    unread: &mut Vec<(PathBuf, String)>,
) -> (Vec<ProfileFact>, Vec<(String, String)>) {
    let candidates = profile::scan(manager.home(), manager.agent()).unwrap_or_else(|error| {
        unread.push((error.path, error.source.to_string()));
        Vec::new()
    });
    let mut misnamed = Vec::new();
    let mut profiles = Vec::new();
    if manager.agent().default_profile.gateway {
        let root = Profile { name: ProfileName::root(), path: manager.home().root().to_owned() };
        profiles.push(fact(manager, root));
    }
    for candidate in candidates {
        match candidate {
            Candidate::Profile(profile) => profiles.push(fact(manager, profile)),
            Candidate::Misnamed { shown, reason } => misnamed.push((shown, reason)),
        }
    }
    (profiles, misnamed)
}

fn fact(manager: &ScandirManager, profile: Profile) -> ProfileFact {
    let Profile { name, path: home } = profile;
    let file = &manager.agent().gateway.state_file;
    let desired_state = desired::read(&home, file)
        .map(|recorded| recorded.and_then(|recorded| recorded.prior.word().map(str::to_owned)))
        .map_err(|error| error.reason(file));
    let files = environment_files(manager, &name);
    ProfileFact {
        desired_state,
        state_file: home.join(file),
        refused: home_paths::refused(&home),
        environment_path: files.last().cloned(),
        environment: files.into_iter().filter_map(environment).collect(),
        log: log_directory(manager, &name).map(log),
        name,
        home,
    }
}

fn expanded_at_start(manager: &ScandirManager, text: &str) -> Option<OsString> {
    let variable = manager.agent().home_variable();
    let home = manager.home().root();
    gatevisor_slot::expand(text, &|name| (name == variable).then(|| home.into())).ok()
}

/// Returns a file of secrets; `None` if there is none, which is normal.
fn environment(path: PathBuf) -> Option<EnvironmentFile> {
    let (bytes, problem) = match read_bounded(&path, ENVIRONMENT_BYTES) {
        Ok(bytes) => (bytes?, None),
        Err(error) => {
            let is_something_else = !matches!(error, ReadFileError::Io(_));
            (Vec::new(), Some((error.to_string(), is_something_else)))
        }
    };
    let mode = by_path::look(&path).map_or(0, |found| found.mode & 0o777);
    let has_mark = bytes.starts_with(gatevisor_wire::script::BYTE_ORDER_MARK);
    let values = dotenv::parse(&bytes).into_iter().map(|(name, value)| (name, Secret(value))).collect();
    Some(EnvironmentFile {
        mode,
        is_reachable: home_paths::is_reachable(&path),
        problem,
        has_mark,
        values,
        path,
    })
}

/// Returns the directory of a gateway's log, according to its slot, or else according to the
/// definition.
fn log_directory(manager: &ScandirManager, name: &ProfileName) -> Option<PathBuf> {
    let log = manager.scandir().join(name.service_entry()).join(gatevisor_wire::files::LOG);
    let bytes = read_bounded(&log.join(gatevisor_wire::files::RUN), LOG_RUN_BYTES).ok().flatten();
    let said = |bytes: &[u8]| {
        let script = LogScript::from_file(bytes).map(|script| script.directory.to_owned());
        script.or_else(|| Some(gatevisor_slot::parse_log(bytes).ok()?.directory))
    };
    match bytes.as_deref().and_then(said).and_then(|directory| expanded_at_start(manager, &directory)) {
        Some(directory) => Some(log.join(directory)),
        None => expanded(manager, name, &manager.agent().gateway.log_directory).map(PathBuf::from),
    }
}

fn log(path: PathBuf) -> LogDirectory {
    let (is_open, is_directory) = match by_path::look_itself(&path) {
        Ok(found) => (Some(found.mode & OPEN == OPEN), found.is_directory()),
        Err(error) if home_paths::is_missing(&error) => (None, false),
        // Whoever may not look does not know of anything wrong.
        Err(_) => (Some(true), true),
    };
    LogDirectory { path, is_open, is_directory }
}
