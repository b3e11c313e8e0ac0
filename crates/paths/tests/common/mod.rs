//! What these tests share: root, and a name space in which they may mount.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it cannot show"
)]
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::lchown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

/// Tells the second run of a test that it may mount.
const INSIDE: &str = "GATEVISOR_TEST_MAY_MOUNT";

/// Returns whether this process is root. Most of these tests need root.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("not shown: only root can give files away and mount");
    }
    root
}

/// Runs the calling test, which has this full name, once more in a mount namespace of its own.
/// Returns whether this is that second run.
pub fn may_mount(test: &str) -> bool {
    if !is_root() {
        return false;
    }
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let ended = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(gatevisor_sys::process::own_program().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    if String::from_utf8_lossy(&ended.stderr).contains("unshare failed") {
        println!("not shown: no mount name space can be made");
        return false;
    }
    assert!(ended.status.success(), "{said}{}", String::from_utf8_lossy(&ended.stderr));
    assert!(said.contains("1 passed"), "there is no test `{test}`: {said}");
    false
}

/// Runs the calling test, which has this full name, once more as a user without rights. Returns
/// whether this is that second run.
pub fn is_ordinary(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let again = Command::new(gatevisor_sys::process::own_program().unwrap())
        .args(["--exact", test, "--nocapture"])
        .uid(12_345)
        .output();
    match again {
        Ok(ended) => {
            let said = String::from_utf8_lossy(&ended.stdout);
            assert!(said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&ended.stderr));
        }
        Err(error) => println!("not shown: no other user may execute this test: {error}"),
    }
    false
}

/// A temporary directory with a file system of its own. Mounts in it go with it.
pub struct Bed(tempfile::TempDir);

impl Bed {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        tmpfs(dir.path());
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

pub fn bind(what: &Path, on: &Path) {
    mount_bind(what, on).unwrap();
}

pub fn tmpfs(on: &Path) {
    mount("tmpfs", on, "tmpfs", MountFlags::empty(), None).unwrap();
}

/// Mounts a file system whose program, a user's, never answers. It ends with the returned value.
pub fn mute(on: &Path, uid: u32, options: &str) -> Option<File> {
    let device = File::options().read(true).write(true).open("/dev/fuse").ok()?;
    let number = device.as_raw_fd();
    let data =
        CString::new(format!("fd={number},rootmode=40000,user_id={uid},group_id={uid}{options}")).unwrap();
    mount("mute", on, "fuse", MountFlags::NOSUID, &*data).ok()?;
    Some(device)
}

pub fn directory(path: &Path) -> OwnedFd {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

pub fn give(path: &Path, uid: u32) {
    lchown(path, Some(uid), Some(uid)).unwrap();
}

pub fn link(target: impl AsRef<Path>, path: &Path, uid: u32) {
    std::os::unix::fs::symlink(target, path).unwrap();
    if rustix::process::geteuid().is_root() {
        give(path, uid);
    }
}

pub fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

pub fn c(name: &str) -> CString {
    CString::new(Path::new(name).as_os_str().as_bytes()).unwrap()
}
