//! What the container tests share: containers of their own, and ways to ask and to wait.
//!
//! *Lives here:* [`Container`], which is removed with its volumes when it is dropped, and every
//! call of `docker`, each with a time limit. *Does not live here:* any expectation about what a
//! container does.
//!
//! Nothing here sleeps: the output of a container is followed as it comes, and files are followed
//! by their changes.
#![expect(clippy::print_stderr, reason = "what a container said is gone when somebody looks at the failure")]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::{self, soon, waiting};

/// The time limit in seconds of each call of `docker`, after which the call is ended.
const BOUND_S: &str = "90";
const BOUND_REACHED: i32 = 124;

/// What the command of a test's container prints when the boot is over.
const BOOTED: &str = "the command runs";

/// Returns the name of the image with Hermes.
pub fn image() -> String {
    std::env::var("GATEVISOR_IMAGE").unwrap_or_else(|_| "gatevisor:latest".into())
}

/// Returns the name of the image with nothing but the binary.
pub fn minimal_image() -> String {
    image() + "-minimal"
}

/// Returns whether container tests are to be skipped on this machine, and prints that.
pub fn skipped() -> bool {
    let skip = std::env::var_os("GATEVISOR_SKIP_DOCKER").is_some_and(|value| value == "1");
    if skip {
        eprintln!("SKIPPED, AND NOTHING WAS TESTED: GATEVISOR_SKIP_DOCKER=1");
    }
    skip
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Answer {
    /// Returns standard output without the last line end. The command must have succeeded.
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "{self:#?}");
        self.out.trim_end_matches('\n')
    }

    /// Returns both outputs. The command must have ended with `code`.
    pub fn fails(&self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:#?}");
        format!("{}{}", self.out, self.err)
    }

    pub fn last_line(&self) -> &str {
        self.out.lines().last().unwrap_or_default()
    }
}

fn bounded(words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", BOUND_S, "docker"]).args(words);
    command
}

fn shows(seen: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(seen).contains(text)
}

/// Runs `docker` with these words.
pub fn docker(words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Answer {
    let mut command = bounded(words);
    let output = support::output(&mut command).expect("`timeout` and `docker` are installed");
    let code = output.status.code().unwrap_or(-1);
    let answer = Answer {
        code,
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert_ne!(code, BOUND_REACHED, "{command:?} did not end within {BOUND_S} s: {answer:#?}");
    let hint = "run scripts/docker.sh start and make image, or set GATEVISOR_SKIP_DOCKER=1";
    assert!(!answer.err.contains("Cannot connect to the Docker daemon"), "no Docker engine answers; {hint}");
    assert!(!answer.err.contains("Unable to find image"), "an image is missing; {hint}");
    answer
}

/// Returns a name that nothing else has, on this machine and in this run.
pub fn unique() -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("gatevisor-test-{}-{time:x}-{number}", std::process::id())
}

/// A volume of a test, which is removed when it is dropped. Its containers must be gone by then, so
/// it is made before them.
pub struct Volume(String);

impl Volume {
    pub fn new() -> Self {
        let volume = Self(unique());
        docker(["volume", "create", &volume.0]).ok();
        volume
    }

    /// Has a container find it as the home of Hermes.
    pub fn home_of(&self, start: Start) -> Start {
        start.with(&format!("--volume {}:/opt/data", self.0))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        removed(&["volume", "rm", "--force", &self.0]);
    }
}

/// Removes something at the end of a test, which may have failed. A second failure would hide that.
pub fn removed(words: &[&str]) {
    let mut command = bounded(words);
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// How a container shall be started.
pub struct Start {
    options: Vec<String>,
    image: String,
    command: Vec<String>,
}

/// Begins a container of the image with Hermes.
pub fn container() -> Start {
    Start { options: Vec::new(), image: image(), command: Vec::new() }
}

/// Begins a container of the minimal image.
pub fn minimal() -> Start {
    Start { options: Vec::new(), image: minimal_image(), command: Vec::new() }
}

impl Start {
    /// Adds options of `docker run`, a word each.
    pub fn with(mut self, options: &str) -> Self {
        self.options.extend(options.split_whitespace().map(Into::into));
        self
    }

    /// Uses another image.
    pub fn of(mut self, image: &str) -> Self {
        image.clone_into(&mut self.image);
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.options.extend(["--env".into(), format!("{name}={value}")]);
        self
    }

    fn words(&self, first: &[&str], name: &str) -> Vec<String> {
        let mut words: Vec<String> = first.iter().map(|&word| word.into()).collect();
        words.extend(["--name".into(), name.into()]);
        words.extend(self.options.iter().cloned());
        words.push(self.image.clone());
        words.extend(self.command.iter().cloned());
        words
    }

    /// Runs a command as the container's own, in the foreground, and removes the container.
    pub fn run(mut self, command: &[&str]) -> Answer {
        self.command = command.iter().map(|&word| word.into()).collect();
        let gone = Container { name: unique() };
        docker(self.words(&["run", "--rm"], &gone.name))
    }

    /// As `run`, with a terminal; returns the exit code and what the terminal showed.
    ///
    /// For each pair of `dialogue` in turn, the second text is typed when the first one appears.
    pub fn run_on_a_terminal(mut self, command: &[&str], dialogue: &[(&str, &[u8])]) -> (i32, String) {
        self.command = command.iter().map(|&word| word.into()).collect();
        let gone = Container { name: unique() };
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let window = rustix::termios::Winsize { ws_row: 40, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&terminal, window).unwrap();
        let side = {
            use std::os::unix::fs::OpenOptionsExt;
            let flags = i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).unwrap();
            File::options().read(true).write(true).custom_flags(flags).open(&name).unwrap()
        };
        // Otherwise `timeout` would put the command into the background, where it may not read a
        // terminal.
        let mut client = Command::new("docker");
        client.args(self.words(&["run", "--rm", "-it"], &gone.name));
        client.stdin(side.try_clone().unwrap()).stdout(side.try_clone().unwrap()).stderr(side);
        let mut child = support::spawn(&mut client).unwrap();
        drop(client);
        let mut terminal = File::from(terminal);
        let (mut seen, mut buffer, mut dialogue) = (Vec::new(), [0; 4096], dialogue.iter());
        let mut next = dialogue.next();
        let deadline = soon() + std::time::Duration::from_secs(40);
        loop {
            assert!(waiting::readable(&terminal, deadline), "{}", String::from_utf8_lossy(&seen));
            // EIO means that no process has the other side any more.
            let Ok(length) = terminal.read(&mut buffer) else { break };
            seen.extend(buffer.iter().take(length));
            while let Some((_, answer)) = next.filter(|(prompt, _)| shows(&seen, prompt)) {
                std::io::Write::write_all(&mut terminal, answer).unwrap();
                next = dialogue.next();
            }
        }
        (child.wait().unwrap().code().unwrap(), String::from_utf8_lossy(&seen).into_owned())
    }

    /// Starts it with a command that waits, and returns when that command runs, which is after the
    /// boot.
    pub fn started(self) -> Container {
        let say = format!("echo '{BOOTED}'; exec sleep infinity");
        let container = self.started_as(&["sh", "-c", &say]);
        container.says(BOOTED);
        container
    }

    /// Starts it with this command.
    pub fn started_as(mut self, command: &[&str]) -> Container {
        self.command = command.iter().map(|&word| word.into()).collect();
        let container = Container { name: unique() };
        docker(self.words(&["run", "--detach"], &container.name)).ok();
        container
    }
}

/// A container, removed with its volumes when it is dropped.
pub struct Container {
    name: String,
}

/// The agent's user, as `docker exec --user` takes it.
pub const HERMES: &str = "10000:10000";
pub const ROOT: &str = "0:0";

impl Container {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs words in the container as `user`.
    pub fn exec_as(&self, user: &str, words: &[&str]) -> Answer {
        let mut all = vec!["exec", "--user", user, &self.name];
        all.extend(words);
        docker(all)
    }

    /// Runs words in the container as uid 10000.
    pub fn exec(&self, words: &[&str]) -> Answer {
        self.exec_as(HERMES, words)
    }

    /// Runs a script of bash as uid 10000, which must succeed, and returns what it printed.
    pub fn sh(&self, script: &str) -> String {
        self.exec(&["bash", "-c", script]).ok().into()
    }

    /// Runs a shell command as root, and returns what it prints.
    pub fn root_sh(&self, script: &str) -> String {
        self.exec_as(ROOT, &["bash", "-c", script]).ok().into()
    }

    /// Runs the unmodified command of Hermes, as uid 10000.
    pub fn hermes(&self, words: &str) -> Answer {
        let mut all = vec!["hermes"];
        all.extend(words.split_whitespace());
        self.exec(&all)
    }

    /// Follows the container's output from its beginning until a line contains `text`. Returns that
    /// line.
    pub fn says(&self, text: &str) -> String {
        let mut client = bounded(["logs", "--follow", &self.name]);
        let (reader, writer) = std::io::pipe().unwrap();
        client.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
        let mut child = support::spawn(&mut client).unwrap();
        drop(client);
        let mut found = None;
        for line in BufReader::new(reader).lines() {
            let line = line.unwrap();
            if line.contains(text) {
                found = Some(line);
                break;
            }
        }
        let id = rustix::process::Pid::from_child(&child);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        child.wait().unwrap();
        found.unwrap_or_else(|| panic!("it ended without saying {text:?}; it said: {}", self.said()))
    }

    /// Follows a file in the container until a line contains `text`.
    pub fn file_says(&self, path: &str, text: &str) {
        let script =
            "timeout 45 grep -qm1 -F -e \"$2\" < <(exec tail -n +1 -F -- \"$1\" 2>/dev/null) || exit 9";
        let answer = self.exec(&["bash", "-c", script, "-", path, text]);
        assert_eq!(answer.code, 0, "{path} does not say {text:?}; the container said: {}", self.said());
    }

    /// Returns everything that it printed on both outputs.
    pub fn said(&self) -> String {
        let answer = docker(["logs", &self.name]);
        answer.out + &answer.err
    }

    /// Stops it within the engine's usual ten seconds, and returns its exit code.
    pub fn stop_as_usual(&self) -> i32 {
        docker(["stop", &self.name]).ok();
        self.ended()
    }

    /// Stops it and returns its exit code. The engine waits a minute, because this machine may be
    /// busy, before it kills what is left itself.
    pub fn stop(&self) -> i32 {
        docker(["stop", "--time", "60", &self.name]).ok();
        self.ended()
    }

    /// Sends the command's container a signal.
    pub fn kill(&self, signal: &str) {
        docker(["kill", "--signal", signal, &self.name]).ok();
    }

    /// Waits for its end and returns its exit code.
    pub fn ended(&self) -> i32 {
        docker(["wait", &self.name]).ok().parse().unwrap()
    }

    /// Restarts it, and returns when its command runs again.
    pub fn restart(&self) {
        let before = self.said().matches(BOOTED).count();
        assert!(before > 0, "only a container of `started` can be restarted");
        docker(["stop", &self.name]).ok();
        docker(["start", &self.name]).ok();
        // The output is followed from its beginning, so the old lines come again.
        let started = docker(["inspect", "--format", "{{.State.StartedAt}}", &self.name]).ok().to_owned();
        self.says_since(&started, BOOTED);
    }

    fn says_since(&self, moment: &str, text: &str) {
        let script =
            "timeout 60 grep -qm1 -F -e \"$3\" < <(exec docker logs --follow --since \"$2\" \"$1\" 2>&1)";
        let mut command = Command::new("bash");
        command.args(["-c", script, "-", &self.name, moment, text]);
        let output = support::output(&mut command).unwrap();
        assert!(output.status.success(), "it does not say {text:?} again; it said: {}", self.said());
    }

    /// Waits until a service has the state that `how` asks of `s6-svwait`.
    pub fn waits(&self, how: &str, service: &str) {
        let service = format!("/run/service/{service}");
        let answer = self.exec(&["/command/s6-svwait", how, "-t", "45000", &service]);
        assert_eq!(answer.code, 0, "{service} {how}: {answer:?}; the container said: {}", self.said());
    }

    /// Returns what `s6-svstat` prints about a service.
    pub fn state(&self, service: &str) -> String {
        self.exec(&["/command/s6-svstat", &format!("/run/service/{service}")]).ok().into()
    }

    /// Returns the process of a service.
    pub fn pid(&self, service: &str) -> i32 {
        let state = self.exec(&["/command/s6-svstat", "-o", "pid", &format!("/run/service/{service}")]);
        state.ok().trim().parse().unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} said: {}", self.name, self.said());
        }
        removed(&["rm", "--force", "--volumes", &self.name]);
    }
}
