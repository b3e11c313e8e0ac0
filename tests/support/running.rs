//! A command that runs, with what it prints in files, and how it ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::processes::{self, Held};
use super::waiting;

/// How a command ended, and what it printed.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Returns its output if it ended with 0.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "it failed: {self:?}");
        self.out
    }

    /// Returns its message, if it ended with this code, printed one line of messages, and no
    /// output.
    #[track_caller]
    pub fn refused(self, code: i32) -> String {
        assert_eq!((self.code, &*self.out), (Some(code), ""), "another end was expected: {self:?}");
        let one_line = self.err.ends_with('\n') && self.err.matches('\n').count() == 1;
        assert!(one_line, "one line was expected: {self:?}");
        self.err.trim_end().to_owned()
    }
}

/// A command that runs.
pub struct Running {
    pub child: Child,
    pub out: PathBuf,
    pub err: PathBuf,
}

impl Running {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn out(&self) -> String {
        text(&self.out)
    }

    pub fn err(&self) -> String {
        text(&self.err)
    }

    /// Waits until its output satisfies the condition.
    #[track_caller]
    pub fn until_out<T>(&self, what: &str, mut expected: impl FnMut(&str) -> Option<T>) -> T {
        waiting::until(&self.out, what, || expected(&self.out()))
    }

    /// Waits until its messages contain these words.
    #[track_caller]
    pub fn until_warns(&self, words: &str) -> String {
        waiting::until(&self.err, words, || Some(self.err()).filter(|err| err.contains(words)))
    }

    /// Waits until its output contains these words.
    #[track_caller]
    pub fn until_says(&self, words: &str) -> String {
        self.until_out(words, |out| out.contains(words).then(|| out.to_owned()))
    }

    pub fn signal(&self, signal: Signal) {
        processes::signal(self.pid(), signal);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ended(mut self, within: Duration) -> Ran {
        let held = Held::of(self.pid()).expect("it is our child");
        let in_time = held.gone_by(Instant::now() + within);
        if !in_time {
            held.kill();
        }
        let status = self.child.wait().unwrap();
        let ran = Ran { code: status.code(), out: self.out(), err: self.err() };
        assert!(in_time, "it did not end within {within:?}: {ran:?}");
        ran
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Returns the content of a file, or an empty text if there is no file.
pub fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
