//! The container's environment on disk, one file for each variable, for `with-contenv` and for
//! hooks that add to it.
//!
//! *Lives here:* writing it. *Does not live here:* reading it (`with-contenv`).
//!
//! **Source:** ENV-1 to ENV-4, L-27.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use gatevisor_paths::{Errno, OpenHome, Resolver, Walker};
pub use gatevisor_sys::environment::{Variable, get, set};
use gatevisor_sys::file;
use rustix::fs::{Gid, Mode, OFlags, fchmod, fchown, mkdirat, openat};

/// Bytes that the name of a file may have.
const LONGEST_NAME: usize = 255;

/// Returns whether a variable can be a file.
fn is_plain(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let fits = (1..=LONGEST_NAME).contains(&name.len());
    fits && !name.starts_with(b".") && !name.contains(&b'/') && !name.contains(&b'=')
}

/// Makes the directory anew with the variables in it, readable by us and the group. Returns the
/// names of the variables that cannot be files.
///
/// The variables are often secrets, so nobody else may read them. If a name occurs several times,
/// the first value is written, which is the one that getenv(3) finds.
pub fn dump(directory: &Path, variables: &[Variable], group: Option<u32>) -> io::Result<Vec<OsString>> {
    let fd = made_anew(directory)?;
    share(&fd, group, if group.is_some() { 0o750 } else { 0o700 })?;
    let mut left_out = Vec::new();
    for (name, value) in variables {
        if !is_plain(name) {
            left_out.push(name.clone());
            continue;
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = match openat(&fd, name.as_os_str(), flags, Mode::from_raw_mode(0o600)) {
            Err(Errno::EXIST) => continue,
            made => made?,
        };
        share(&made, group, if group.is_some() { 0o640 } else { 0o600 })?;
        file::write_all(&made, &[value.as_bytes(), b"\n"].concat())?;
    }
    Ok(left_out)
}

/// Makes an empty directory in the place of whatever is there.
fn made_anew(directory: &Path) -> io::Result<OwnedFd> {
    let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
        return Err(Errno::INVAL.into());
    };
    let parent = OpenHome::open_or_make(parent, Mode::from_raw_mode(0o755)).map_err(io::Error::other)?;
    let report = Walker::new(&mut |_| true).remove(&parent, &CString::new(name.as_bytes())?)?;
    if let Some(problem) = report.problems.into_iter().next() {
        return Err(io::Error::other(problem));
    }
    mkdirat(&parent, name, Mode::RWXU)?;
    Ok(Resolver::STRICT.directory(&parent, name)?)
}

fn share(fd: impl AsFd, group: Option<u32>, mode: u32) -> io::Result<()> {
    if let Some(gid) = group {
        fchown(&fd, None, Some(Gid::from_raw(gid)))?;
    }
    Ok(fchmod(fd, Mode::from_raw_mode(mode))?)
}

/// Puts a directory at the beginning of `PATH`, unless it is there.
pub fn prepend_path(variables: &mut Vec<Variable>, directory: &str, otherwise: &str) {
    let path =
        get(variables, "PATH").filter(|path| !path.is_empty()).unwrap_or(OsStr::new(otherwise)).to_owned();
    if path.as_bytes().split(|&b| b == b':').next() != Some(directory.as_bytes()) {
        let mut longer = OsString::from(directory);
        longer.push(":");
        longer.push(path);
        set(variables, "PATH", longer);
    }
}

#[cfg(test)]
mod tests {
    use super::{dump, get, prepend_path, set};
    use std::ffi::OsString;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_value_is_in_its_file_byte_for_byte_with_a_newline_after_it() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("s6/env");
        let variables: Vec<(OsString, OsString)> =
            [("A", "1"), ("EMPTY", ""), ("LINES", " a\nb \n"), ("../x", "no"), (".hidden", "no")]
                .map(|(name, value)| (name.into(), value.into()))
                .to_vec();
        dump(&dir, &variables, None).unwrap();
        fs::write(dir.join("OLD"), "x").unwrap();
        dump(&dir, &variables, None).unwrap();
        let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["A", "EMPTY", "LINES"]);
        assert_eq!(fs::read(dir.join("EMPTY")).unwrap(), b"\n");
        assert_eq!(fs::read(dir.join("LINES")).unwrap(), b" a\nb \n\n");
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(dir.join("A")).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_variable_that_cannot_be_a_file_is_left_out_and_named() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("env");
        let long = "X".repeat(256);
        let variables: Vec<(OsString, OsString)> =
            [("A", "first"), ("A", "second"), (&long, "no"), ("a/b", "no")]
                .map(|(name, value)| (name.into(), value.into()))
                .to_vec();
        assert_eq!(dump(&dir, &variables, None).unwrap(), [long.as_str(), "a/b"]);
        assert_eq!(fs::read(dir.join("A")).unwrap(), b"first\n");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    }

    #[test]
    fn the_group_may_read_the_environment_if_there_is_a_group() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("env");
        let gid = rustix::process::getegid().as_raw();
        dump(&dir, &[("A".into(), "1".into())], Some(gid)).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o750);
        assert_eq!(fs::metadata(dir.join("A")).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_directory_is_prepended_once() {
        let mut variables = vec![("PATH".into(), "/usr/bin".into())];
        prepend_path(&mut variables, "/command", "/bin");
        prepend_path(&mut variables, "/command", "/bin");
        assert_eq!(get(&variables, "PATH").unwrap(), "/command:/usr/bin");
        set(&mut variables, "PATH", "");
        prepend_path(&mut variables, "/command", "/bin");
        assert_eq!(get(&variables, "PATH").unwrap(), "/command:/bin");
    }
}
