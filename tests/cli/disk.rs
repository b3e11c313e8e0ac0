//! A disk of our own, as small as we like, that can be filled and made read-only.
//!
//! It is a tmpfs in a mount namespace of its own, seen through `/proc`, so nothing of it shows anywhere else. Root mounts
//! it as it is, and anybody else as the root of a user namespace.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::home::Home;
use crate::support::{soon, waiting};

pub struct Disk {
    holder: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    mount: PathBuf,
}

impl Disk {
    /// Mounts a disk of this size, as mount(8) takes it.
    pub fn mounted(home: &Home, size: &str) -> Self {
        let mount = home.beside("disk");
        fs::create_dir(&mount).unwrap();
        let order = format!("mount -t tmpfs -o mode=0755,size={size} none {}", mount.display());
        let plain = Self::in_namespace(&["--mount"], &mount);
        let mut refusals = Vec::new();
        for mut disk in [plain, Self::in_namespace(&["--user", "--map-root-user", "--mount"], &mount)] {
            match disk.order(&order) {
                Ok(()) => return disk,
                Err(refusal) => refusals.push(refusal),
            }
        }
        panic!(
            "no disk can be mounted here, so this test can say nothing: run it as root with CAP_SYS_ADMIN, or allow \
             user namespaces: {refusals:?}"
        );
    }

    fn in_namespace(kind: &[&str], mount: &Path) -> Self {
        let mut command = Command::new("unshare");
        command.args(kind).args(["/bin/sh", "-c"]);
        // Each order is one line, and so is each answer.
        command.arg(
            "while read -r order; do said=$(eval \"$order\" 2>&1) && echo done || echo \"no: $said\"; done",
        );
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut holder = command.spawn().expect("unshare(1) is there");
        let orders = holder.stdin.take().unwrap();
        let answers = BufReader::new(holder.stdout.take().unwrap());
        Self { holder, orders, answers, mount: mount.to_owned() }
    }

    fn order(&mut self, order: &str) -> Result<(), String> {
        let mut answer = String::new();
        if writeln!(self.orders, "{order}").is_ok() {
            assert!(waiting::readable(self.answers.get_ref(), soon()), "no answer to `{order}`");
            self.answers.read_line(&mut answer).unwrap();
        }
        if answer == "done\n" { Ok(()) } else { Err(answer) }
    }

    /// Returns the path of the disk, for everybody.
    pub fn view(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.mount.strip_prefix("/").unwrap())
    }

    pub fn read_only(&mut self) {
        let order = format!("mount -o remount,bind,ro {}", self.mount.display());
        self.order(&order).unwrap();
    }

    /// Fills the disk to its last byte.
    pub fn fill(&self) {
        let mut ballast = File::create(self.view().join("ballast")).unwrap();
        let error = std::io::copy(&mut std::io::repeat(0).take(1 << 30), &mut ballast).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    }

    /// Makes room again.
    pub fn relieve(&self) {
        fs::remove_file(self.view().join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
