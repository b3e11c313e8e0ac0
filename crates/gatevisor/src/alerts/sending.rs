//! *Lives here:* the program that sends one message: its start, its end, and the meaning of its
//! exit code.
//!
//! *Does not live here:* its arguments (`gatevisor_alerts`), and when it is called (`watch`).

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use gatevisor_alerts::{AlertDestination, AlertMessage, Origin, SendRequest};
use gatevisor_gateways::manager::ScandirManager;
use gatevisor_paths::by_path;
use gatevisor_sys::clock::{monotonic_ms, timespec};
use gatevisor_sys::environment::{self, GATEWAY_PATH, ProgramEnvironment};
use gatevisor_sys::process::fork_beside;
use gatevisor_sys::{file, program};
use gatevisor_wire::exit::{Exit, ExitError};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, OFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process_group, pidfd_open, setsid, waitpid,
};

use super::file::address_in;

/// The most milliseconds of a program that sends a message.
const LIMIT_MS: u64 = 30_000;
/// The room for what a program prints. A status code has three bytes.
const PRINTED: [u8; 16] = [0; 16];
/// Why nothing is sent if there is no curl.
pub const NO_CURL: &str = "`curl` is not installed, which sends it";

/// Returns the program that sends a message to a destination. `name` is the name of the home.
pub fn request(
    manager: &ScandirManager,
    destination: &AlertDestination,
    message: &AlertMessage,
    name: &str,
) -> Result<SendRequest, String> {
    let url = destination.url_file.as_deref().map(|file| address_in(manager.home(), file)).transpose()?;
    let (home, at) = (manager.home().root().to_string_lossy(), Timestamp::now().to_string());
    let origin = Origin { name, home: &home, at: &at };
    gatevisor_alerts::request(destination, message, origin, url.as_deref())
}

/// Returns whether `PATH` has a program of this name.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_else(|| GATEWAY_PATH.into());
    std::env::split_paths(&path).any(|directory| by_path::look(directory.join(name)).is_ok())
}

/// A program that sends a message.
pub struct Sending {
    pid: Pid,
    ended: OwnedFd,
    /// The file that its standard output goes to, if the output is needed.
    output: Option<OwnedFd>,
    until_ms: u64,
    is_over: bool,
}

impl Sending {
    /// Starts the program in a directory, in a session of its own, so that all its processes can be
    /// ended.
    pub fn begin(request: &SendRequest, directory: &Path, now_ms: u64) -> Result<Self, String> {
        Self::start(request, directory, now_ms).map_err(|errno| format!("it cannot be started: {errno}"))
    }

    fn start(request: &SendRequest, directory: &Path, now_ms: u64) -> Result<Self, Errno> {
        // Input and output are files in memory, so that neither side waits for a full or empty
        // pipe.
        let input = memfd_create("alert", MemfdFlags::CLOEXEC)?;
        file::write_all(&input, &request.input)?;
        rustix::fs::seek(&input, rustix::fs::SeekFrom::Start(0))?;
        let output = request.prints_code.then(short_file).transpose()?;
        let pid = fork_beside(|| become_sender(request, directory, &input, output.as_ref()))?;
        let ended = pidfd_open(pid, PidfdFlags::empty())?;
        let until_ms = now_ms.saturating_add(LIMIT_MS);
        Ok(Self { pid, ended, output, until_ms, is_over: false })
    }

    /// Returns a descriptor that can be read when the program has ended.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    /// Returns the time at which the program is ended.
    pub const fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// Returns the result, once it is known.
    pub fn step(&mut self, now_ms: u64) -> Option<Result<(), String>> {
        match waitpid(Some(self.pid), WaitOptions::NOHANG) {
            Ok(None) if now_ms < self.until_ms => None,
            Ok(None) => Some(Err(format!("it did not end within {} s", LIMIT_MS / 1000))),
            Ok(Some((_, status))) => {
                self.is_over = true;
                Some(self.meaning(status))
            }
            Err(errno) => Some(Err(errno.to_string())),
        }
    }

    /// Waits for the result.
    pub fn wait(mut self) -> Result<(), String> {
        loop {
            let now_ms = monotonic_ms();
            if let Some(result) = self.step(now_ms) {
                return result;
            }
            let left = timespec(self.until_ms.saturating_sub(now_ms).max(1));
            let _ = poll(&mut [PollFd::new(&self.ended, PollFlags::IN)], Some(&left));
        }
    }

    fn meaning(&self, status: WaitStatus) -> Result<(), String> {
        match (status.exit_status(), &self.output) {
            (None, _) => Err(format!("ended by signal {}", status.terminating_signal().unwrap_or_default())),
            (Some(code), Some(output)) => said_by_curl(code, &printed(output)),
            (Some(0), None) => Ok(()),
            (Some(code), None) => Err(format!("exit {code}")),
        }
    }
}

/// Returns a file in memory whose size cannot grow.
fn short_file() -> Result<OwnedFd, Errno> {
    let file = memfd_create("alert-output", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::io::pwrite(&file, &PRINTED, 0)?;
    fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK)?;
    Ok(file)
}

/// Returns the text in such a file.
fn printed(file: &OwnedFd) -> String {
    let mut bytes = PRINTED;
    let length = rustix::io::pread(file, &mut bytes, 0).unwrap_or_default();
    let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default());
    text.trim_end_matches('\0').to_owned()
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.is_over {
            let _ = kill_process_group(self.pid, Signal::KILL);
            let _ = rustix::process::pidfd_send_signal(&self.ended, Signal::KILL);
            let _ = waitpid(Some(self.pid), WaitOptions::empty());
        }
    }
}

/// Becomes the program. Returns an exit code if that fails.
fn become_sender(request: &SendRequest, directory: &Path, input: &OwnedFd, output: Option<&OwnedFd>) -> i32 {
    let _ = setsid();
    let place = by_path::open(directory, OFlags::RDONLY | OFlags::DIRECTORY);
    let prints_there = match output {
        Some(output) => rustix::stdio::dup2_stdout(output),
        None => by_path::open("/dev/null", OFlags::WRONLY).and_then(rustix::stdio::dup2_stdout),
    };
    let joined = rustix::stdio::dup2_stdin(input)
        .and(prints_there)
        .and_then(|()| place.and_then(rustix::process::fchdir));
    if joined.is_err() {
        return Exit::NotExecutable.status();
    }
    gatevisor_sys::signal::unblock_all();
    let mut variables = environment::inherited(std::env::vars_os().collect());
    for (name, value) in &request.variables {
        environment::set(&mut variables, name, value.replace('\0', " "));
    }
    let argv: Vec<OsString> = request.argv.iter().map(OsString::from).collect();
    match ProgramEnvironment::exactly(variables, GATEWAY_PATH) {
        Ok(environment) => program::become_program(&argv, &environment).exit().status(),
        Err(_) => Exit::NotExecutable.status(),
    }
}

/// Returns the meaning of an exit code of curl and the printed status code. The messages of curl
/// are not used, because they may contain the address. Curl counts a redirect that it does not
/// follow as a success; we do not.
///
/// **Source:** curl(1), *EXIT CODES*; RFC 9110, section 15.
fn said_by_curl(exit: i32, printed: &str) -> Result<(), String> {
    let is_answer =
        printed.len() == 3 && printed != "000" && printed.bytes().all(|byte| byte.is_ascii_digit());
    let meaning = match exit {
        0 if is_answer && printed.starts_with('2') => return Ok(()),
        _ if is_answer && printed.starts_with('3') => {
            return Err(format!("the answer is HTTP {printed}, a redirect, and none is followed"));
        }
        _ if is_answer => return Err(format!("the answer is HTTP {printed}")),
        0 => "the program `curl` printed no code of an answer",
        6 => "the host is not known",
        7 => "nobody answers there",
        28 => "no answer came in time",
        35 | 58 | 60 | 77 | 80 | 83 | 90 | 91 => "TLS cannot be had, or the certificate is not trusted",
        127 => NO_CURL,
        _ => return Err(format!("curl ended with {exit}")),
    };
    Err(meaning.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str) -> Result<(), String> {
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        let variables = vec![("GATEVISOR_ALERT_TITLE", "nas: a title".to_owned())];
        let request = SendRequest { argv, input: b"{\"a\": 1}".to_vec(), variables, prints_code: false };
        Sending::begin(&request, Path::new("/"), monotonic_ms())?.wait()
    }

    #[test]
    fn a_program_reads_the_message_and_finds_its_heading() {
        assert_eq!(
            run(r#"[ "$(cat)" = '{"a": 1}' ] && [ "$GATEVISOR_ALERT_TITLE" = 'nas: a title' ]"#),
            Ok(())
        );
        assert_eq!(run("exit 7"), Err("exit 7".to_owned()));
        assert_eq!(run("kill -9 $$"), Err("ended by signal 9".to_owned()));
    }

    #[test]
    fn a_program_that_does_not_end_is_given_up_and_killed() {
        let argv = ["sleep", "1000"].map(str::to_owned).to_vec();
        let request = SendRequest { argv, input: Vec::new(), variables: Vec::new(), prints_code: false };
        let mut sending = Sending::begin(&request, Path::new("/"), 0).unwrap();
        assert_eq!(sending.step(LIMIT_MS - 1), None);
        assert!(sending.step(LIMIT_MS).unwrap().unwrap_err().contains("30 s"));
        let fd = sending.ended.try_clone().unwrap();
        drop(sending);
        let minute = timespec(60_000);
        assert_eq!(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&minute)), Ok(1));
    }

    #[test]
    fn what_curl_ended_with_is_said_in_words() {
        let why = |exit: i32, printed: &str| said_by_curl(exit, printed).unwrap_err();
        assert_eq!(why(22, "404"), "the answer is HTTP 404");
        assert_eq!(why(7, "000"), "nobody answers there");
        assert_eq!(why(99, "https://secret"), "curl ended with 99");
    }

    #[test]
    fn only_an_answer_that_says_so_means_that_a_message_arrived() {
        assert_eq!(said_by_curl(0, "200"), Ok(()));
        assert_eq!(said_by_curl(0, "204"), Ok(()));
        for printed in ["301", "302", "307", "100", "404", "000", ""] {
            assert!(said_by_curl(0, printed).is_err(), "{printed}");
        }
        assert!(said_by_curl(18, "200").is_err(), "the answer broke off");
    }

    #[test]
    fn what_a_program_prints_takes_no_memory() {
        assert_eq!(run("[ \"$(readlink /proc/$$/fd/1)\" = /dev/null ]"), Ok(()));
        let argv = ["sh", "-c", "printf 200; head -c 1000000 /dev/zero"].map(str::to_owned).to_vec();
        let request = SendRequest { argv, input: Vec::new(), variables: Vec::new(), prints_code: true };
        let sending = Sending::begin(&request, Path::new("/"), monotonic_ms()).unwrap();
        let output = sending.output.as_ref().unwrap().try_clone().unwrap();
        assert!(sending.wait().is_err(), "it cannot write that much");
        assert_eq!(rustix::fs::fstat(output).unwrap().st_size, 16);
    }
}
