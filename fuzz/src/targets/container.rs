//! The boot of a container: account files, and the environment on disk.

use std::cell::RefCell;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use gatevisor_boot::accounts::{with_group, with_member, with_user};
use gatevisor_boot::environment::{Variable, dump};
use tempfile::TempDir;

const USER: &str = "hermes";

/// A change of an account file changes exactly what was requested. A second change changes nothing.
pub fn account_files(bytes: &[u8]) {
    let foreign = |text: &[u8]| -> Vec<Vec<u8>> {
        let lines = text.split_inclusive(|byte| *byte == b'\n');
        let of_user = |line: &[u8]| {
            line.split(|byte| *byte == b':')
                .next()
                .is_some_and(|name| name.trim_ascii_end() == USER.as_bytes())
        };
        lines.filter(|line| !of_user(line)).map(<[u8]>::to_vec).collect()
    };
    if let Some(changed) = with_user(bytes, USER, 99, 100) {
        assert_eq!(foreign(&changed), foreign(bytes));
        assert_eq!(with_user(&changed, USER, 99, 100), None);
    }
    if let Some(changed) = with_group(bytes, USER, 100) {
        assert_eq!(foreign(&changed), foreign(bytes));
        assert_eq!(with_group(&changed, USER, 100), None);
    }
    if let Some(changed) = with_member(bytes, USER, 998, "hostdocker") {
        // A line that has the number and no list of members is left unchanged.
        assert!(changed.len() > bytes.len());
        assert_eq!(with_member(&changed, USER, 998, "hostdocker"), None);
    }
}

thread_local! {
    static HOME: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

/// An environment is the same after it was written to files and read back, except for variables
/// that cannot be files.
pub fn environment_dump(bytes: &[u8]) {
    let mut parts = bytes.split(|byte| *byte == 0);
    let mut variables: Vec<Variable> = Vec::new();
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        let name: Vec<u8> = name.iter().copied().filter(|byte| *byte != b'=').collect();
        variables.push((OsString::from_vec(name), OsString::from_vec(value.to_vec())));
    }
    HOME.with_borrow_mut(|home| {
        let home =
            home.get_or_insert_with(|| TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap());
        let directory = home.path().join("environment");
        let left_out =
            dump(&directory, &variables, None).expect("no environment keeps a container from booting");
        let read = gatevisor_applets::container_environment(&directory).expect("what we wrote can be read");
        let mut expected: Vec<Variable> = Vec::new();
        for (name, value) in variables {
            if !left_out.contains(&name) && !expected.iter().any(|(known, _)| *known == name) {
                expected.push((name, value));
            }
        }
        expected.sort();
        assert_eq!(read, expected);
    });
}
