//! Kernels, and filters of system calls, that do not have what newer ones have.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::home::Home;
use crate::support::{soon, waiting};

/// Executes a program for which `close_range` does not exist, as before Linux 5.9.
const WITHOUT_CLOSE_RANGE: &str = r#"
import ctypes, os, struct, sys
CLOSE_RANGE, ENOSYS = 436, 38
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7fff0000, 0x00050000
code = b"".join(struct.pack("=HBBI", *line) for line in [
    (LOAD, 0, 0, 0), (EQUAL, 0, 1, CLOSE_RANGE), (RETURN, 0, 0, ERRNO | ENOSYS), (RETURN, 0, 0, ALLOW)])
lines = ctypes.create_string_buffer(code, len(code))
program = struct.pack("@HP", len(code) // 8, ctypes.addressof(lines))
libc = ctypes.CDLL(None, use_errno=True)
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2
if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(SECCOMP, FILTER, program, 0, 0):
    sys.exit(f"no filter: errno {ctypes.get_errno()}")
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn without_close_range_a_command_leaves_no_process_that_holds_its_output() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_supervised("coder");
    for verb in ["stop", "start"] {
        let inner = home.command(["gateway", verb, "coder"]);
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", WITHOUT_CLOSE_RANGE]).arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut out, mut said) = (child.stdout.take().unwrap(), Vec::new());
        loop {
            let mut buffer = [0; 512];
            assert!(
                waiting::readable(&out, soon()),
                "its output has no end: {:?}",
                String::from_utf8_lossy(&said)
            );
            match out.read(&mut buffer).unwrap() {
                0 => break,
                length => said.extend_from_slice(&buffer[..length]),
            }
        }
        assert!(child.wait().unwrap().success(), "{}", String::from_utf8_lossy(&said));
    }
    home.down();
}
