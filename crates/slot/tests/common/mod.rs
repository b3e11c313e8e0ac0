//! A service directory, and the interpreter as the kernel starts it there.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

pub fn interpreter() -> PathBuf {
    let test = gatevisor_sys::process::own_program().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples/slot-interpreter");
    assert!(path.exists(), "{} is built with the tests", path.display());
    path
}

pub struct Slot {
    pub dir: TempDir,
}

impl Slot {
    pub fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Other users must be able to enter when a test drops privileges.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("run"), format!("#!/x service\n{text}")).unwrap();
        Self { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(interpreter());
        command.args(["service", "./run", "gateway-coder"]).current_dir(self.path()).stdin(Stdio::null());
        command
    }

    pub fn run(&self) -> Output {
        self.command().output().unwrap()
    }

    pub fn start_error(&self) -> Option<String> {
        fs::read_to_string(self.path().join("data/start-error")).ok()
    }

    /// Checks a failed start: the exit code, and the same line on standard error and in
    /// `data/start-error`.
    pub fn check_failure(&self, exit: i32, line: &str) {
        let output = self.run();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // With `stderr = "log"` the line of a late stage goes where the log goes.
        let said = if said.is_empty() { String::from_utf8_lossy(&output.stdout).into_owned() } else { said };
        let left = self.start_error().unwrap_or_default();
        assert_eq!(output.status.code(), Some(exit), "{said}");
        assert!(left.starts_with(line), "{left:?} should begin with {line:?}");
        assert_eq!(said, format!("gatevisor: gateway-coder: {left}"));
        assert_eq!(left.matches('\n').count(), 1, "{left:?} is one line");
    }
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
