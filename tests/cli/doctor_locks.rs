//! `gatevisor doctor` and processes that should not exist: they hold a lock, or a file names the
//! wrong process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::doctor::{finding, findings, fix, fixes, gone, matching, sleeping, text};
use crate::home::Home;
use crate::support::processes::Held;
use crate::support::waiting;

/// A process that holds a lock until it is killed.
struct Holder(Child);

impl Holder {
    fn new(program: &str, words: &[&str]) -> Self {
        let mut child = Command::new(program).args(words).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Self(child)
    }

    /// Waits for its end, which another process caused.
    #[track_caller]
    fn until_killed(&mut self) {
        use std::os::unix::process::ExitStatusExt;
        let held = Held::of(i32::try_from(self.0.id()).unwrap());
        held.inspect(|held| held.until_gone("the holder of the lock"));
        assert_eq!(self.0.wait().unwrap().signal(), Some(Signal::TERM.as_raw()));
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_lock_that_keeps_desired_states_from_being_recorded_is_let_go() {
    let home = Home::new();
    home.profile("coder");
    let lock = home.profile_dir("coder").join(".gateway_state.json.lock");
    let script = "exec 9>\"$1\"; flock 9; echo held; exec sleep 1000";
    let mut holder = Holder::new("bash", &["-c", script, "-", lock.to_str().unwrap()]);
    let comm = format!("/proc/{}/comm", holder.0.id());
    waiting::polled("its last command", || fs::read(&comm).ok().filter(|comm| comm == b"sleep\n"));
    let all = findings(&home);
    let found = matching(&all, "lock", Some("coder")).unwrap_or_else(|| panic!("{all:#?}"));
    assert_eq!((&found["severity"], &found["path"]), (&"error".into(), &lock.to_str().unwrap().into()));
    assert!(text(&found, "what").contains("(`sleep`)"), "{found}");
    fix(&home, &found);
    holder.until_killed();
    gone(&home, "lock", Some("coder"));
    assert!(lock.exists(), "the file alone is no problem, and others may wait at it");
}

#[test]
fn a_log_directory_that_another_program_locks_is_let_go() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    home.profile("coder");
    let directory = home.log_file("coder").parent().unwrap().to_owned();
    fs::create_dir_all(&directory).unwrap();
    let script = "import fcntl, signal, sys\nf = open(sys.argv[1], 'w')\nfcntl.lockf(f, fcntl.LOCK_EX)\n\
                  print('held', flush=True)\nsignal.pause()";
    let lock = directory.join("lock");
    let mut holder = Holder::new("/usr/bin/env", &["python3", "-c", script, lock.to_str().unwrap()]);
    home.up_quietly();
    let found = finding(&home, "lock", Some("coder"));
    assert!(text(&found, "what").ends_with("which is no log daemon"), "{found}");
    fix(&home, &found);
    holder.until_killed();
    gone(&home, "lock", Some("coder"));
}

#[test]
fn a_file_that_names_a_process_that_is_gone_or_another_is_removed() {
    let home = sleeping();
    let file = home.profile_dir("coder").join("gateway.pid");
    let default = home.path().join("gateway.pid");
    // The slot of the root profile is down, so no process writes that file.
    let mut ended = Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    fs::write(&default, ended.id().to_string()).unwrap();
    let found = fixes(&home, "pid-file", Some("default"), "warning");
    assert!(text(&found, "what").contains("which is gone"), "{found}");
    assert!(!default.exists());
    let other = serde_json::json!({ "pid": std::process::id(), "start_time": 1 });
    fs::write(&default, other.to_string()).unwrap();
    let found = fixes(&home, "pid-file", Some("default"), "warning");
    assert!(text(&found, "what").contains("another program now"), "{found}");
    fs::write(&file, home.pid("coder").to_string()).unwrap();
    gone(&home, "pid-file", Some("coder"));
    let mut strange = Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(&default, strange.id().to_string()).unwrap();
    let found = finding(&home, "pid-file", Some("default"));
    assert!(!text(&found, "fix").contains("kill"), "a number alone shows nothing: {found}");
    let stat = fs::read_to_string(format!("/proc/{}/stat", strange.id())).unwrap();
    let started: u64 =
        stat.rsplit(')').next().unwrap().split_ascii_whitespace().nth(19).unwrap().parse().unwrap();
    let dated = serde_json::json!({ "pid": strange.id(), "start_time": started });
    fs::write(&default, dated.to_string()).unwrap();
    let found = finding(&home, "pid-file", Some("default"));
    assert!(text(&found, "what").contains("beside its slot"), "{found}");
    fix(&home, &found);
    strange.wait().unwrap();
}
