//! *Lives here:* the links that give the applets their names.
//!
//! *Does not live here:* the command line for them.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use gatevisor_wire::exit::{Exit, ExitError};

use crate::APPLETS;

/// The result for one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installed {
    /// The link was made.
    Made,
    /// The link was there already.
    Kept,
}

/// Why a link was not made.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum LinkError {
    /// The directory cannot be used.
    #[error("cannot use directory `{}`", dir.display())]
    Directory {
        dir: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The name belongs to something else.
    #[error("`{}` is there already and is not ours; --force replaces it", path.display())]
    InTheWay {
        /// The path of what is in the way.
        path: PathBuf,
    },
    /// The link cannot be made.
    #[error("cannot make link `{}`", path.display())]
    Make {
        /// The path of the link.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl ExitError for LinkError {
    fn exit(&self) -> Exit {
        match self {
            Self::InTheWay { .. } => Exit::No,
            Self::Directory { .. } | Self::Make { .. } => Exit::System,
        }
    }
}

/// Makes a link to `program` in `dir` for every applet, and returns the names with the results.
///
/// The directory is made if it is missing. All names are checked before the first link is made;
/// with `force`, existing files are replaced, but not directories. With `relative`, the links lead
/// from `dir` to the program, so that both can be moved together; then both paths must be absolute,
/// as `canonicalize` returns them.
pub fn install(
    dir: &Path,
    program: &Path,
    relative: bool,
    force: bool,
) -> Result<Vec<(&'static str, Installed)>, LinkError> {
    let unusable = |source| LinkError::Directory { dir: dir.into(), source };
    fs::create_dir_all(dir).map_err(unusable)?;
    let target = if relative {
        path_between(&dir.canonicalize().map_err(unusable)?, program)
    } else {
        program.to_owned()
    };
    let mut plan = Vec::new();
    for applet in APPLETS {
        let path = dir.join(applet.name);
        let there = path.symlink_metadata().is_ok();
        if there && fs::read_link(&path).is_ok_and(|leads_to| leads_to == target) {
            plan.push((applet.name, path, Installed::Kept));
        } else if there && (!force || (path.is_dir() && !path.is_symlink())) {
            return Err(LinkError::InTheWay { path });
        } else {
            plan.push((applet.name, path, Installed::Made));
        }
    }
    plan.into_iter()
        .map(|(name, path, what)| {
            if what == Installed::Made {
                replace(&path, &target).map_err(|source| LinkError::Make { path, source })?;
            }
            Ok((name, what))
        })
        .collect()
}

/// Puts a link in place of an existing file, so that the name never vanishes.
fn replace(path: &Path, target: &Path) -> io::Result<()> {
    let mut unfinished = OsString::from(".");
    unfinished.push(path.file_name().unwrap_or_default());
    unfinished.push(format!(".{}", std::process::id()));
    let unfinished = path.with_file_name(unfinished);
    symlink(target, &unfinished)?;
    fs::rename(&unfinished, path).inspect_err(|_| {
        let _ = fs::remove_file(&unfinished);
    })
}

/// Returns the relative path from a directory to a file, both absolute and without links.
fn path_between(dir: &Path, file: &Path) -> PathBuf {
    let shared = dir.components().zip(file.components()).take_while(|(a, b)| a == b).count();
    let up = dir.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(file.components().skip(shared)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Installed, LinkError, install, path_between};
    use crate::APPLETS;
    use std::fs;
    use std::path::Path;

    #[test]
    fn the_way_from_a_directory_to_the_program() {
        for (dir, file, way) in [
            ("/command", "/usr/bin/gatevisor", "../usr/bin/gatevisor"),
            ("/opt/g/command", "/opt/g/bin/gatevisor", "../bin/gatevisor"),
            ("/opt/g", "/opt/g/gatevisor", "gatevisor"),
            ("/", "/gatevisor", "gatevisor"),
        ] {
            assert_eq!(path_between(Path::new(dir), Path::new(file)), Path::new(way), "{dir}");
        }
    }

    #[test]
    fn every_applet_gets_a_link_once() {
        let root = tempfile::tempdir().unwrap();
        let (dir, program) = (root.path().join("command"), root.path().join("gatevisor"));
        fs::write(&program, "").unwrap();
        let program = program.canonicalize().unwrap();
        for expected in [Installed::Made, Installed::Kept] {
            let done = install(&dir, &program, false, false).unwrap();
            assert_eq!(done, APPLETS.map(|applet| (applet.name, expected)));
        }
        assert_eq!(fs::read_link(dir.join("s6-svc")).unwrap(), program);
        assert!(matches!(install(&dir, &program, true, false), Err(LinkError::InTheWay { .. })));
        install(&dir, &program, true, true).unwrap();
        assert_eq!(fs::read_link(dir.join("s6-svc")).unwrap(), Path::new("../gatevisor"));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), APPLETS.len());
    }

    #[test]
    fn an_existing_file_is_kept_without_force_and_a_directory_even_with_it() {
        let root = tempfile::tempdir().unwrap();
        let program = Path::new("/bin/true");
        fs::write(root.path().join("with-contenv"), "precious").unwrap();
        let refused = install(root.path(), program, false, false).unwrap_err().to_string();
        assert!(refused.ends_with("with-contenv` is there already and is not ours; --force replaces it"));
        assert_eq!(
            fs::read_dir(root.path()).unwrap().count(),
            1,
            "nothing was made before all was looked at"
        );
        fs::create_dir(root.path().join("s6-svc")).unwrap();
        assert!(install(root.path(), program, false, true).is_err());
        fs::remove_dir(root.path().join("s6-svc")).unwrap();
        install(root.path(), program, false, true).unwrap();
        assert!(root.path().join("with-contenv").is_symlink());
    }
}
