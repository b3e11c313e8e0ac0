//! A small disk for one test, which can be filled and made read-only.
//!
//! The disk is a tmpfs in a mount namespace of its own, so it is invisible elsewhere. All processes
//! that use it, including the test, are in that namespace, because our programs do not follow links
//! of `/proc`. Root makes only the mount namespace. Other users also make a user namespace, in
//! which they are root.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::home::Home;

/// This variable is set in a test that has mounts of its own.
const OWN_MOUNTS: &str = "GATEVISOR_TEST_OWN_MOUNTS";

/// Runs this test a second time, with mounts of its own, and returns whether it did. In that second
/// run, it returns false.
pub fn was_run_in_own_mounts() -> bool {
    if std::env::var_os(OWN_MOUNTS).is_some() {
        return false;
    }
    let kinds: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    let Some(kind) = kinds.into_iter().find(|kind| can_mount(kind)) else {
        panic!(
            "no disk can be mounted here, so this test can say nothing: run it as root with CAP_SYS_ADMIN, or allow \
             user namespaces"
        );
    };
    let thread = std::thread::current();
    let mut again = Command::new("unshare");
    again.args(kind).arg(gatevisor_sys::process::own_program().unwrap());
    again.args(["--exact", thread.name().expect("a test's thread has its name"), "--nocapture"]);
    let Output { status, stdout, stderr } =
        again.env(OWN_MOUNTS, "").stdin(Stdio::null()).output().expect("unshare(1) is there");
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success() && out.contains("1 passed"), "{status}\n{out}\n{err}");
    true
}

fn can_mount(kind: &[&str]) -> bool {
    let mut command = Command::new("unshare");
    command.args(kind).args(["mount", "-t", "tmpfs", "none", "/tmp"]).stderr(Stdio::null());
    command.status().expect("unshare(1) is there").success()
}

pub struct Disk {
    mount: PathBuf,
}

impl Disk {
    /// Mounts a disk of this size (as mount(8) takes it), in the second run of a test.
    pub fn mounted(home: &Home, size: &str) -> Self {
        assert!(std::env::var_os(OWN_MOUNTS).is_some(), "it would show everywhere");
        let mount = home.beside("disk");
        fs::create_dir(&mount).unwrap();
        let disk = Self { mount };
        disk.run("mount", &["-t", "tmpfs", "-o", &format!("mode=0755,size={size}"), "none"]);
        disk
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let status = Command::new(program).args(arguments).arg(&self.mount).status().unwrap();
        assert!(status.success(), "{program} {arguments:?}: {status}");
    }

    pub fn path(&self) -> &Path {
        &self.mount
    }

    pub fn read_only(&self) {
        self.run("mount", &["-o", "remount,bind,ro"]);
    }

    /// Fills the disk to its last byte.
    pub fn fill(&self) {
        let mut ballast = File::create(self.path().join("ballast")).unwrap();
        let error = std::io::copy(&mut std::io::repeat(0).take(1 << 30), &mut ballast).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    }

    /// Frees space again.
    pub fn relieve(&self) {
        fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Processes that still use the disk keep it, but the temporary directory below it can be
        // removed.
        let _ = Command::new("umount").arg("-l").arg(&self.mount).status();
    }
}
