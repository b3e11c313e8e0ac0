//! *Lives here:* whether something is there, as an answer that can also be that it cannot be told.
//!
//! *Does not live here:* what follows from it.
//!
//! `Path::exists` and `Path::is_dir` say no where the kernel said that one may not look. Whoever reports or acts on what is
//! not there asks here.

use gatevisor_paths::by_path;
use std::{io, path::Path};

/// Returns whether there is a directory at a path; links are followed that may be.
///
/// # Errors
/// It cannot be told: permission denied, say.
pub fn is_directory(path: &Path) -> io::Result<bool> {
    there(by_path::look(path)).map(|found| found.is_some_and(|found| found.is_directory()))
}

/// Returns whether there is anything at a path; links are followed that may be.
///
/// # Errors
/// It cannot be told: permission denied, say.
pub fn exists(path: &Path) -> io::Result<bool> {
    there(by_path::look(path)).map(|found| found.is_some())
}

fn there<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::{exists, is_directory};
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn what_is_there_what_is_not_and_what_cannot_be_told_are_three_answers() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(is_directory(dir.path()).unwrap() && exists(&file).unwrap());
        assert!(!is_directory(&file).unwrap() && !exists(&dir.path().join("missing")).unwrap());
        assert!(!exists(&file.join("below")).unwrap());
        // Root may look everywhere, but not through a link that leads to itself.
        let circle = dir.path().join("circle");
        symlink(&circle, &circle).unwrap();
        assert!(is_directory(&circle).is_err() && exists(&circle.join("below")).is_err());
    }
}
