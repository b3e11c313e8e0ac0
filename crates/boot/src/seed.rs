//! What a home holds from its first boot on: directories, files, modes.
//!
//! *Lives here:* making what is missing. *Does not live here:* the owners (`repair`).
//!
//! All of this is done as the agent's user, and never through a link below the home.
//!
//! **Source:** STG-12, STG-15 to STG-20.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use gatevisor_gateways::agent::{ContainerDefinition, Seed};
use gatevisor_paths::{OpenHome, Resolver};
use gatevisor_sys::file;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fchmod, mkdirat, statat, unlinkat};
use rustix::io::Errno;

/// The most bytes of a file that is read or copied.
const MAX_BYTES: usize = 1 << 20;

/// Makes what is missing in the home. Returns what was refused or failed.
pub fn seed<'v>(
    container: &ContainerDefinition,
    home: &OpenHome,
    variable: &dyn Fn(&str) -> Option<&'v OsStr>,
) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut tried = |path: &str, what: &str, result: Result<(), Errno>| match result {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(Errno::LOOP | Errno::NOTDIR) => complaints.push(format!(
            "refusing to {what} `{}`: a symbolic link or a file is in the way",
            home.path().join(path).display()
        )),
        Err(errno) => {
            complaints.push(format!("cannot {what} `{}`: {errno}", home.path().join(path).display()));
        }
    };
    for path in &container.directories {
        tried(path, "make", directory(home, path));
    }
    for stale in &container.stale {
        tried(&stale.path, "remove", remove(home, &stale.path, &stale.content));
    }
    for item in &container.seeds {
        tried(&item.path, "make", plant(home, item, variable));
    }
    for (path, mode) in container.mode_bits() {
        tried(path, "set the mode of", set_mode(home, path, mode));
    }
    complaints
}

/// Opens the directory that holds the last part of `path`, through no link. The agent does this
/// with its own rights, so volumes that the operator mounted below the home may be entered.
fn parent<'p>(root: &OpenHome, path: &'p str) -> Result<(OwnedFd, &'p str), Errno> {
    let (parent, name) = Resolver::READING.parent(root, path)?;
    Ok((parent, name.to_str().ok_or(Errno::INVAL)?))
}

fn directory(root: &OpenHome, path: &str) -> Result<(), Errno> {
    let (parent, name) = parent(root, path)?;
    match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) => Ok(Resolver::READING.directory(&parent, name).map(drop)?),
        other => other,
    }
}

fn remove(root: &OpenHome, path: &str, content: &str) -> Result<(), Errno> {
    let (parent, name) = parent(root, path)?;
    let mut buffer = vec![0; MAX_BYTES];
    let found = file::read_small(&parent, name, &mut buffer)?;
    if found.trim_ascii() == content.as_bytes() {
        unlinkat(&parent, name, AtFlags::empty())?;
    }
    Ok(())
}

fn plant<'v>(
    root: &OpenHome,
    item: &Seed,
    variable: &dyn Fn(&str) -> Option<&'v OsStr>,
) -> Result<(), Errno> {
    let value = match &item.variable {
        Some(name) => match variable(name).filter(|value| !value.is_empty()) {
            Some(value) if item.equals.as_ref().is_none_or(|wanted| value == wanted.as_str()) => Some(value),
            _ => return Ok(()),
        },
        None => None,
    };
    let bytes = match (&item.content, &item.from, value) {
        (Some(content), _, _) => content.trim_start_matches('\n').as_bytes().to_vec(),
        (None, Some(from), _) => match fs::read(from) {
            Ok(bytes) if bytes.len() <= MAX_BYTES => bytes,
            Ok(_) => return Err(Errno::FBIG),
            Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        },
        (None, None, Some(value)) => value.as_bytes().to_vec(),
        (None, None, None) => return Ok(()),
    };
    let (parent, name) = parent(root, &item.path)?;
    match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => {}
        Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_symlink() => return Err(Errno::LOOP),
        Ok(_) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    let mode = Mode::from_raw_mode(item.mode_bits().unwrap_or(0o600));
    // The file appears as a whole or not at all. A partial file would never be completed.
    file::replace(&parent, name, &format!(".{name}.seed"), &bytes, Mode::RUSR | Mode::WUSR)?;
    fchmod(open_file(&parent, name)?, mode)
}

fn set_mode(root: &OpenHome, path: &str, mode: u32) -> Result<(), Errno> {
    let (parent, name) = parent(root, path)?;
    fchmod(open_file(&parent, name)?, Mode::from_raw_mode(mode))
}

fn open_file(parent: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    Ok(Resolver::READING.open(parent, name, OFlags::RDONLY)?)
}

#[cfg(test)]
mod tests {
    use super::seed;
    use gatevisor_gateways::agent::{AgentDefinition, ContainerDefinition};
    use gatevisor_paths::OpenHome;
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn container() -> ContainerDefinition {
        AgentDefinition::built_in().unwrap().container
    }

    fn seeded(home: &Path, set: &[(&str, &'static str)]) -> Vec<String> {
        let lookup =
            |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| OsStr::new(*value));
        seed(&container(), &OpenHome::open(home).unwrap(), &lookup)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_first_boot_makes_what_is_missing_and_a_second_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path();
        let set =
            [("HERMES_AUTH_JSON_BOOTSTRAP", "{\"a\":1}"), ("HERMES_GATEWAY_BOOTSTRAP_STATE", "running")];
        assert_eq!(seeded(home, &set), [""; 0]);
        assert!(home.join("platforms/pairing").is_dir() && home.join("logs/gateways").is_dir());
        assert_eq!(fs::read_to_string(home.join("auth.json")).unwrap(), "{\"a\":1}");
        assert_eq!(mode(&home.join("auth.json")), 0o600);
        let state = home.join("gateway_state.json");
        assert_eq!(fs::read_to_string(&state).unwrap(), "{\"gateway_state\": \"running\"}\n");
        assert_eq!(mode(&state), 0o644);
        fs::write(&state, "mine").unwrap();
        assert_eq!(seeded(home, &[("HERMES_AUTH_JSON_BOOTSTRAP", "other"), set[1]]), [""; 0]);
        assert_eq!(fs::read_to_string(&state).unwrap(), "mine");
        assert_eq!(fs::read_to_string(home.join("auth.json")).unwrap(), "{\"a\":1}");
    }

    #[test]
    fn a_variable_that_says_something_else_makes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let set = [("HERMES_AUTH_JSON_BOOTSTRAP", ""), ("HERMES_GATEWAY_BOOTSTRAP_STATE", "stopped")];
        assert_eq!(seeded(dir.path(), &set), [""; 0]);
        assert!(!dir.path().join("auth.json").exists() && !dir.path().join("gateway_state.json").exists());
    }

    #[test]
    fn secrets_get_their_mode_and_the_old_stamp_goes() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path();
        for (name, content) in [(".env", "A=1"), ("config.yaml", "a: 1"), (".install_method", " docker\n")] {
            fs::write(home.join(name), content).unwrap();
            fs::set_permissions(home.join(name), fs::Permissions::from_mode(0o644)).unwrap();
        }
        assert_eq!(seeded(home, &[]), [""; 0]);
        assert_eq!((mode(&home.join(".env")), mode(&home.join("config.yaml"))), (0o600, 0o640));
        assert!(!home.join(".install_method").exists());
        fs::write(home.join(".install_method"), "docker-like").unwrap();
        assert_eq!(seeded(home, &[]), [""; 0]);
        assert!(home.join(".install_method").exists());
    }

    #[test]
    fn nothing_is_made_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (home, outside) = (dir.path().join("home"), dir.path().join("outside"));
        fs::create_dir(&home).unwrap();
        fs::create_dir(&outside).unwrap();
        symlink(&outside, home.join("platforms")).unwrap();
        symlink(outside.join("state"), home.join("gateway_state.json")).unwrap();
        let complaints = seeded(&home, &[("HERMES_GATEWAY_BOOTSTRAP_STATE", "running")]);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        let refused = complaints.iter().filter(|line| line.starts_with("refusing to make `")).count();
        assert_eq!((refused, complaints.len()), (3, 3), "{complaints:?}");
    }
}
