//! `gatevisor top` on the screen of a real terminal, which tmux is here.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::home::{Home, MARK};
use crate::support::{processes, waiting};

/// A terminal in which a shell runs `top`, and then shows its exit code and waits for a line.
pub struct Tmux {
    /// The place of its socket and of what the shell notes.
    directory: TempDir,
}

impl Tmux {
    /// Opens a terminal of this size.
    pub fn open(home: &Home, size: (u16, u16), arguments: &[&str]) -> Self {
        Self::run(&home.command(["top"].iter().chain(arguments)), size)
    }

    /// Opens a terminal that may outlive the supervisor, so what runs in it is not counted among
    /// the processes of this home.
    fn open_uncounted(home: &Home) -> Self {
        Self::run(home.command(["top"]).env_remove(MARK), (80, 24))
    }

    fn run(ours: &Command, size: (u16, u16)) -> Self {
        let directory = TempDir::new().unwrap();
        let mut words = vec![ours.get_program().to_owned()];
        words.extend(ours.get_args().map(ToOwned::to_owned));
        let line: Vec<String> = words.iter().map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let place = directory.path().display();
        let script = format!(
            "stty -g >{place}/before; echo it was so before\n\
             sh -c 'echo $$ >{place}/pid; exec \"$@\"' sh {}\n\
             echo \"after $?\"; stty -g >{place}/after.new; mv {place}/after.new {place}/after; read line\n",
            line.join(" ")
        );
        fs::write(directory.path().join("script"), script).unwrap();
        let tmux = Self { directory };
        let (columns, rows) = (size.0.to_string(), size.1.to_string());
        let mut command = tmux.command();
        for (variable, value) in ours.get_envs() {
            match value {
                Some(value) => command.env(variable, value),
                None => command.env_remove(variable),
            };
        }
        command.env("LC_ALL", "C.UTF-8").env_remove("TMUX");
        command.args(["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &rows, "sh"]);
        let began = command.arg(tmux.directory.path().join("script")).status();
        let why = "it is not installed, and the full screen cannot be tested: apt-get install tmux";
        assert!(began.is_ok_and(|status| status.success()), "tmux does not run; perhaps {why}");
        tmux
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.directory.path().join("socket")).stdin(Stdio::null());
        command
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).output().unwrap();
        assert!(output.status.success(), "tmux {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Types these characters.
    fn types(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// Presses a key with a name.
    fn presses(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Waits until the screen is as expected, and returns it.
    #[track_caller]
    fn until(&self, what: &str, expected: impl Fn(&str) -> bool) -> String {
        let mut seen = String::new();
        let found = waiting::found_often(|| {
            seen = self.tmux(&["capture-pane", "-p"]);
            expected(&seen).then_some(())
        });
        assert!(found.is_some(), "waited for {what}, and saw:\n{seen}");
        seen
    }

    /// Waits until the row of a gateway contains a word.
    #[track_caller]
    pub fn until_row(&self, gateway: &str, word: &str) -> String {
        self.until(&format!("{gateway} {word}"), |screen| has_row(screen, gateway, word))
    }

    /// Returns the process of `top`.
    fn pid(&self) -> i32 {
        fs::read_to_string(self.path("pid")).unwrap().trim().parse().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits until `top` has ended with this code, and checks that the terminal is as before.
    #[track_caller]
    pub fn ends(&self, code: i32) {
        let screen = self.until("the shell", |screen| screen.contains("after "));
        assert!(screen.contains(&format!("after {code}\n")), "{screen}");
        assert!(screen.contains("it was so before\n") && !screen.contains("NAME"), "{screen}");
        waiting::until(self.directory.path(), "the modes", || self.path("after").exists().then_some(()));
        let [before, after] = ["before", "after"].map(|name| fs::read_to_string(self.path(name)).unwrap());
        assert_eq!(before, after, "the modes of the terminal");
        let modes = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(modes, "0 1\n", "the other screen, and the cursor");
    }
}

/// Returns whether the row of a gateway contains a word.
fn has_row(screen: &str, gateway: &str, word: &str) -> bool {
    let row = screen.lines().find(|line| line.split_whitespace().next() == Some(gateway));
    row.is_some_and(|row| row.split_whitespace().any(|found| found == word))
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // Its server ends with its only session, and so does what runs in it.
        let _ = self.command().arg("kill-server").stderr(Stdio::null()).status();
    }
}

/// Returns a home with two gateways that run.
fn home() -> Home {
    let mut home = Home::with_script("echo \"i am $1\"; exec sleep 1000", &[]);
    for name in ["coder", "writer"] {
        home.plant(name);
        home.want_running(name);
    }
    home.up();
    home
}

#[test]
fn a_start_whose_end_no_event_tells_is_over_in_the_table_too() {
    let script = "until [ -e \"$2/go\" ]; do sleep 0.1; done; \
                  while :; do date >\"$2/beat.new\" && mv \"$2/beat.new\" \"$2/beat\"; sleep 0.1; done";
    let live = "[gateway.live]\ninterval-ms = 300\n\
                heartbeat = { file = \"{profile-home}/beat\", max-age-ms = 3000 }\n\n[gateway.exit-meanings]";
    let mut home = Home::with_script(script, &[("[gateway.exit-meanings]", live)]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    home.until_supervised("coder");
    let tmux = Tmux::open(&home, (80, 24), &[]);
    tmux.until_row("coder", "starting");
    fs::write(home.profile_dir("coder").join("go"), "").unwrap();
    tmux.until_row("coder", "up");
    tmux.types("q");
    tmux.ends(0);
}

/// Opens `top` on this home and ends it.
pub fn opens_and_ends(home: &Home) {
    let tmux = Tmux::open(home, (80, 24), &[]);
    tmux.until("the table", |screen| screen.contains("NAME") && screen.contains("coder"));
    tmux.types("q");
    tmux.ends(0);
}

#[test]
fn a_gateway_that_goes_down_is_shown_on_small_and_large_screens_and_the_terminal_is_given_back() {
    let home = home();
    for size in [(80, 24), (200, 60)] {
        home.says("start coder").ok();
        let tmux = Tmux::open(&home, size, &[]);
        let summary = "3 gateways: 2 up, 1 down";
        tmux.until("both gateways up", |screen| {
            let both = ["coder", "writer"].iter().all(|name| has_row(screen, name, "up"));
            let lines: Vec<&str> = screen.lines().collect();
            let is_whole = lines.iter().rposition(|line| !line.is_empty()) == Some(usize::from(size.1) - 1);
            both && is_whole && lines.get(1).is_some_and(|line| line.starts_with(summary))
        });
        home.says("stop coder").ok();
        tmux.until("one gateway down", |screen| {
            has_row(screen, "coder", "down") && screen.contains("3 gateways: 2 down, 1 up")
        });
        tmux.types("q");
        tmux.ends(0);
    }
}

#[test]
fn a_gateway_is_found_by_the_filter_its_log_is_shown_and_it_is_stopped_after_a_question() {
    let home = home();
    home.until_logged("coder", "i am coder");
    let tmux = Tmux::open(&home, (80, 24), &[]);
    tmux.until_row("writer", "up");
    tmux.types("/cod");
    tmux.until("the filter", |screen| screen.contains("filter: cod") && !screen.contains("writer"));
    tmux.presses("Enter");
    tmux.types("l");
    tmux.until("the log", |screen| screen.contains("log coder") && screen.contains("i am coder"));
    tmux.types("x");
    tmux.until("the question", |screen| screen.contains("stop coder: it ends now"));
    tmux.types("n");
    tmux.until("no question", |screen| !screen.contains("stop coder"));
    assert_eq!(home.state("coder")["desired_state"], "running");
    tmux.types("x");
    tmux.until("the question", |screen| screen.contains("stop coder: it ends now"));
    tmux.types("y");
    tmux.until_row("coder", "down");
    tmux.until("the result", |screen| screen.contains("coder: down"));
    assert_eq!(home.state("coder")["desired_state"], "stopped");
    tmux.presses("Escape");
    tmux.until("no log", |screen| !screen.contains("log coder"));
    tmux.types("q");
    tmux.ends(0);
}

#[test]
fn a_signal_ends_it_or_suspends_it_and_the_terminal_is_given_back() {
    let home = home();
    let tmux = Tmux::open(&home, (80, 24), &["coder"]);
    let screen = tmux.until_row("coder", "up");
    assert!(!screen.contains("writer"), "{screen}");
    processes::signal(tmux.pid(), Signal::TSTP);
    processes::until_state(tmux.pid(), "T");
    tmux.until("the screen before", |screen| screen.contains("it was so") && !screen.contains("NAME"));
    processes::signal(tmux.pid(), Signal::CONT);
    tmux.until_row("coder", "up");
    tmux.tmux(&["resize-window", "-x", "100", "-y", "30"]);
    tmux.until("the new size", |screen| screen.lines().next().is_some_and(|line| line.len() == 100));
    processes::signal(tmux.pid(), Signal::TERM);
    tmux.ends(143);
}

/// Returns the subscriptions of a process.
fn subscriptions(pid: i32) -> Vec<String> {
    processes::descriptors(pid).into_iter().filter(|fd| fd.contains("ftrig1")).collect()
}

#[test]
fn as_long_as_the_supervisor_is_the_same_nobody_subscribes_again() {
    let home = home();
    let tmux = Tmux::open(&home, (80, 24), &["coder"]);
    tmux.until_row("coder", "up");
    let before = subscriptions(tmux.pid());
    assert!(!before.is_empty());
    // It looks for the supervisor every two seconds.
    let uptime = |screen: &str| -> Option<u64> {
        let row = screen.lines().find(|line| line.starts_with("coder"))?;
        row.split_whitespace().find_map(|word| word.strip_suffix('s')?.parse().ok())
    };
    let first = uptime(&tmux.until("an uptime", |screen| uptime(screen).is_some())).unwrap();
    tmux.until("a later time", |screen| uptime(screen).is_none_or(|seconds| seconds > first + 6));
    assert_eq!(subscriptions(tmux.pid()), before);
    tmux.types("q");
    tmux.ends(0);
}

#[test]
fn a_supervisor_that_goes_and_comes_back_is_followed_again() {
    let mut home = home();
    let tmux = Tmux::open_uncounted(&home);
    tmux.until_row("coder", "up");
    home.down().ok();
    tmux.until("no supervisor", |screen| screen.contains("no supervisor is running; `gatevisor up`"));
    home.up();
    tmux.until_row("coder", "up");
    home.says("stop writer").ok();
    tmux.until_row("writer", "down");
    tmux.types("q");
    tmux.ends(0);
}

#[test]
fn without_a_terminal_it_says_what_to_use_instead() {
    let home = Home::with_script("exec sleep 1000", &[]);
    let error = home.says("top").refused(100);
    assert!(error.contains("`top` needs a terminal; `gatevisor status` prints the table"), "{error}");
    let error = home.says("top --json").refused(100);
    assert!(error.contains("`gatevisor events`"), "{error}");
}
