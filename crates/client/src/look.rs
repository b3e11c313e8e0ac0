//! *Lives here:* whether something exists, with "unknown" as a possible answer.
//!
//! *Does not live here:* the consequences.
//!
//! `Path::exists` and `Path::is_dir` answer no if the kernel forbids the look. Code that reports or
//! acts on missing files asks here instead.

use gatevisor_paths::by_path;
use std::{io, path::Path};

/// Returns whether there is a directory at a path. Links that may be followed are followed.
///
/// # Errors
/// The answer is unknown, for example because permission is denied.
pub fn is_directory(path: &Path) -> io::Result<bool> {
    there(by_path::look(path)).map(|found| found.is_some_and(|found| found.is_directory()))
}

/// Returns whether there is anything at a path. Links that may be followed are followed.
///
/// # Errors
/// The answer is unknown, for example because permission is denied.
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
    fn whether_a_file_exists_has_three_answers_yes_no_and_unknown() {
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
