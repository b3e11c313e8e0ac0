//! Root's terminal: what root runs as the agent has one of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::engine::{Container, container, skipped};
use crate::support::{self, soon, waiting};

/// Root's interactive shell in a container, as `docker exec -it` gives it.
struct Shell {
    terminal: File,
    client: Child,
    seen: String,
}

impl Shell {
    fn open(container: &Container) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let side = File::from(rustix::fs::open(&name, flags, rustix::fs::Mode::empty()).unwrap());
        let mut client = Command::new("docker");
        client.args(["exec", "-it", "--user", "0:0", "--env", "PS1=ready> ", container.name()]);
        client.args(["bash", "--norc", "--noprofile", "-i"]);
        client.stdin(side.try_clone().unwrap()).stdout(side.try_clone().unwrap()).stderr(side);
        let client = support::spawn(&mut client).unwrap();
        let mut shell = Self { terminal: File::from(terminal), client, seen: String::new() };
        shell.sees("ready> ");
        shell.runs("set -b; bind 'set enable-bracketed-paste off'");
        shell
    }

    fn types(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).unwrap();
    }

    fn resize(&self, ws_row: u16, ws_col: u16) {
        tcsetwinsize(&self.terminal, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let client = rustix::process::Pid::from_child(&self.client);
        rustix::process::kill_process(client, rustix::process::Signal::WINCH).unwrap();
    }

    /// Waits until the terminal shows a text. Returns what it showed before.
    #[track_caller]
    fn sees(&mut self, text: &str) -> String {
        let deadline = soon();
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            assert!(waiting::readable(self.terminal.as_fd(), deadline), "no {text:?} in {:?}", self.seen);
            let length = self.terminal.read(&mut buffer).unwrap();
            let fresh = buffer.get(..length).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(fresh));
        }
    }

    /// Runs a line. Returns what the terminal showed until the end, and the exit code.
    #[track_caller]
    fn runs(&mut self, line: &str) -> (String, String) {
        self.types(&format!("{line}; e=$?; d=do; echo ${{d}}ne=$e=\n"));
        let shown = self.sees("done=");
        let code = self.sees("=").trim_end_matches('=').to_owned();
        self.sees("ready> ");
        (shown, code)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

const ENTER: &str = "/opt/hermes/docker/main-wrapper.sh";

#[test]
fn roots_session_keeps_its_terminal_from_what_it_runs_as_the_agent() {
    if skipped() {
        return;
    }
    let container = container().started();
    let mut shell = Shell::open(&container);
    let ours = shell.runs("tty").0;
    let ours = ours.lines().find(|line| line.starts_with("/dev/pts/")).unwrap().trim().to_owned();
    let (theirs, code) =
        shell.runs(&format!("{ENTER} bash -c 'id -u; tty; ls -l /proc/self/fd; exit 7' 5</dev/tty"));
    assert!(code == "7" && theirs.contains("10000") && theirs.contains("/dev/pts/"), "{theirs}");
    assert!(!theirs.contains(&format!("{ours}\r")), "{theirs}");
    // Hermes itself, through the shim, with its own exit codes.
    let (version, code) = shell.runs("hermes --version");
    assert!(version.contains("Hermes Agent") && code == "0", "{version}");
    assert_ne!(shell.runs("hermes no-such-command-at-all").1, "0");
    // A pipe stays a pipe.
    let (piped, _) = shell.runs(&format!("{ENTER} bash -c 'test -t 1 || echo piped' | tr a-z A-Z"));
    assert!(piped.contains("PIPED"), "{piped}");
    assert_eq!(shell.runs(&format!("{ENTER} sh -c 'kill -KILL $$'")).1, "137");
    assert_eq!(shell.runs(&format!("{ENTER} /no/such/program")).1, "127");
    // Nothing of the relay is left at the end.
    let (left, _) = shell.runs(
        "grep -s 'State:.Z' /proc/[0-9]*/status; grep -sal 'main-wrapper.sh.bash' /proc/[0-9]*/cmdline",
    );
    assert!(!left.contains("zombie") && !left.contains("/cmdline\r"), "{left}");
}

#[test]
fn an_agent_types_nothing_into_roots_shell_and_reads_nothing_that_root_types() {
    if skipped() {
        return;
    }
    let container = container().started();
    let attack = r#"
import fcntl, os, signal, termios
r, w = os.pipe()
if os.fork() == 0:
    for s in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU): signal.signal(s, signal.SIG_IGN)
    os.close(w)
    os.read(r, 1)
    said = []
    def tried(what, act):
        try: act(); said.append(what)
        except OSError: pass
    def types(fd):
        for c in "touch /tmp/typed\n": fcntl.ioctl(fd, termios.TIOCSTI, c.encode())
    for fd in (0, 1, 2):
        tried(f"typed {fd}", lambda: types(fd))
        tried(f"read {fd}", lambda: os.read(fd, 1) or (_ for _ in ()).throw(OSError()))
    for name in ["/dev/tty"] + ["/dev/pts/" + n for n in os.listdir("/dev/pts") if n.isdigit()]:
        tried("opened " + name, lambda: types(os.open(name, os.O_RDWR | os.O_NOCTTY)))
    open("/opt/data/tried.new", "w").write("tried " + " ".join(said) + "\n")
    os.rename("/opt/data/tried.new", "/opt/data/tried")
    os._exit(0)
os.close(r)
parent, relay = os.pidfd_open(os.getpid()), os.pidfd_open(os.getppid())
with open(f"/proc/{os.getppid()}/cmdline") as line: assert "main-wrapper.sh" in line.read()
if os.fork() == 0:
    # Holds the other end until the relay has ended: while that lives, the command's own terminal
    # does, and what is typed there reaches nobody.
    os.setsid()
    import select
    for held in (parent, relay):
        select.select([held], [], [])
    os._exit(0)
"#;
    container.sh(&format!("cat > /opt/data/attack.py <<'EOF'\n{attack}\nEOF"));
    let mut shell = Shell::open(&container);
    let (_, code) = shell.runs(&format!("{ENTER} python3 /opt/data/attack.py"));
    assert_eq!(code, "0");
    container.file_says("/opt/data/tried", "tried");
    assert_eq!(container.sh("cat /opt/data/tried").trim_end(), "tried");
    shell.runs("true");
    assert_eq!(
        container.root_sh("ls /tmp/typed 2>&1 || true"),
        "ls: cannot access '/tmp/typed': No such file or directory"
    );
}

#[test]
fn keys_sizes_and_jobs_work_as_on_roots_own_terminal() {
    if skipped() {
        return;
    }
    let container = container().started();
    let mut shell = Shell::open(&container);
    shell.resize(40, 132);
    let program = "trap \"stty size\" WINCH; echo st$((1))art; while :; do read -t 100 line && break; done; echo got-$line; exit 5";
    shell.types(&format!("{ENTER} bash -c '{program}'\n"));
    shell.sees("st1art");
    shell.resize(25, 81);
    shell.sees("25 81");
    shell.types("\x1a");
    shell.sees("Stopped");
    shell.sees("ready> ");
    assert!(shell.runs("jobs").0.contains("Stopped"));
    shell.types("fg; e=$?; d=co; echo ${d}de=$e=\n");
    shell.types("word\n");
    shell.sees("got-word");
    shell.sees("code=5=");
    shell.sees("ready> ");
    shell.types(&format!("{ENTER} bash -c 'echo sl$((1))eeps; sleep 1000'\n"));
    shell.sees("sl1eeps");
    shell.types("\x03");
    shell.sees("ready> ");
    assert_eq!(shell.runs("(exit $?)").1, "130");
    let modes = shell.runs("stty -a").0;
    for mode in ["icanon", "echo", "isig", "opost"] {
        assert!(modes.split_whitespace().any(|word| word == mode), "{mode}: {modes}");
    }
}
