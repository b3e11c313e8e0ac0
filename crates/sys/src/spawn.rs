//! Starting a service's process without waiting for it.
//!
//! The child is cloned; whether it reached its program is told by a pipe that closes on exec. While it
//! shares our memory (same user, so nothing can be gained by reaching into it) no page table is
//! copied, which is what makes starting five hundred services cheap. A child that changes its user
//! gets a copy of its own.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::io::{Errno, read};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::berth::{Berth, Berths};
use crate::raw::{self, Plan, Stage, step};
use crate::user::User;

pub use crate::raw::Environment;

/// Descriptors besides the standard ones, each with the number it has in the program.
pub type Extras<'a> = [Option<(BorrowedFd<'a>, i32)>; EXTRAS];

/// How many descriptors besides the standard ones a program can be given.
pub const EXTRAS: usize = raw::EXTRAS;

/// What to start, and with what.
#[derive(Debug)]
pub struct Command<'a> {
    /// The directory in which it starts and to which `program` is relative.
    pub directory: BorrowedFd<'a>,
    /// The program.
    pub program: &'a CStr,
    /// All arguments, the program's name first.
    pub argv: Vec<CString>,
    /// The environment.
    pub environment: Rc<Environment>,
    /// Standard input.
    pub stdin: BorrowedFd<'a>,
    /// Standard output; ours when `None`.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Standard error; ours when `None`.
    pub stderr: Option<BorrowedFd<'a>>,
    /// More descriptors, each with the number it has in the program. Where two have the same the later one counts.
    pub extras: Extras<'a>,
    /// The user to become; ours when `None`.
    pub user: Option<&'a User>,
    /// Limit of open files (soft, hard) to give back.
    pub open_files: Option<(u64, u64)>,
    /// Where it may start from. [`Starting::report`] has to be asked for it to be free again.
    pub berths: Option<&'a Berths>,
}

/// Which step before the program's first instruction failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The pipe or the process could not be made.
    Fork,
    /// The limits could not be set.
    Limits,
    /// The groups or the user could not be set.
    User,
    /// The directory could not be entered.
    Directory,
    /// The descriptors could not be put in place.
    Descriptors,
    /// The program could not be executed.
    Exec,
}

impl Step {
    fn from_number(number: u32) -> Self {
        match number {
            step::LIMITS => Self::Limits,
            step::GROUPS | step::GROUP | step::USER => Self::User,
            step::DIRECTORY => Self::Directory,
            step::DESCRIPTORS => Self::Descriptors,
            _ => Self::Exec,
        }
    }

    /// Returns the words for it in a message.
    pub fn words(self) -> &'static str {
        match self {
            Self::Fork => "forking",
            Self::Limits => "setting limits",
            Self::User => "setting user",
            Self::Directory => "changing directory",
            Self::Descriptors => "passing descriptors",
            Self::Exec => "executing",
        }
    }
}

/// Why a process did not become its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartFailure {
    /// Where it stopped.
    pub step: Step,
    /// What the kernel said.
    pub errno: Errno,
}

/// A process on its way to its program.
#[derive(Debug)]
pub struct Starting {
    pid: i32,
    report: OwnedFd,
    /// Held until the child has a table of its own.
    berth: Option<Berth>,
    ended: bool,
    /// The memory the child uses; freed only when the report says that it no longer does.
    _stage: Box<Stage>,
}

/// What the report pipe says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// Nothing yet.
    Pending,
    /// The program has been executed, or the child died before it could say anything.
    Executed,
    /// It failed, and the process is ending.
    Failed(StartFailure),
}

impl Starting {
    /// Returns the process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns what is known now, without waiting. After anything but `Pending` drop this value.
    pub fn report(&mut self) -> Report {
        let mut bytes = [0_u8; raw::REPORT_LEN + 1];
        loop {
            let said: &[u8] = match read(&self.report, &mut bytes) {
                // What has ended can say nothing more, even where another child has its end of the pipe for an instant.
                Err(Errno::AGAIN | Errno::INTR) if self.ended => return Report::Executed,
                Err(Errno::AGAIN | Errno::INTR) => return Report::Pending,
                Ok(length) => bytes.get(..length).unwrap_or_default(),
                Err(_) => &[],
            };
            let record = match said.split_first() {
                Some((&raw::UNSHARED, record)) => {
                    // Our own number for its end of the pipe goes with the berth, and then its exec can be seen.
                    self.berth = None;
                    if record.is_empty() {
                        continue;
                    }
                    record
                }
                _ => said,
            };
            let Ok(record) = <[u8; raw::REPORT_LEN]>::try_from(record) else { return Report::Executed };
            let record = u64::from_le_bytes(record);
            let step = Step::from_number(u32::try_from(record & 0xffff_ffff).unwrap_or(0));
            let errno = Errno::from_raw_os_error(i32::try_from(record >> 32).unwrap_or(libc::EIO));
            return Report::Failed(StartFailure { step, errno });
        }
    }

    /// Takes in that the process has ended, after which [`Starting::report`] is never `Pending`.
    pub fn ended(&mut self) {
        self.ended = true;
        self.berth = None;
    }
}

impl AsFd for Starting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}

/// Starts `command` in a new session, with an empty signal mask, and returns at once.
///
/// The caller must have blocked all signals (see [`crate::signal::block_all`]). The descriptors named in `command` are
/// needed until this returns: the child has its own table of descriptors, or finds them in its berth.
///
/// # Errors
/// The `Fork` step only; everything later comes through [`Starting::report`].
pub fn start(command: Command<'_>) -> Result<Starting, StartFailure> {
    let fork_failed = |errno| StartFailure { step: Step::Fork, errno };
    let (report, report_writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(fork_failed)?;
    let share_memory = command.user.is_none();
    let argv_pointers = raw::null_terminated(&command.argv);
    // Without a free one the child gets a copy of all descriptors, which takes longer and is as good.
    let mut berth = command.berths.and_then(Berths::take);
    let mut place = |fd: BorrowedFd<'_>| match &mut berth {
        Some(berth) => berth.hold(fd).map_err(fork_failed),
        None => Ok(fd.as_raw_fd()),
    };
    let report_number = place(report_writer.as_fd())?;
    let directory = place(command.directory)?;
    let stdin = place(command.stdin)?;
    let stdout = command.stdout.map(&mut place).transpose()?;
    let stderr = command.stderr.map(&mut place).transpose()?;
    let mut extras = [None; EXTRAS];
    for (to, (fd, number)) in extras.iter_mut().zip(command.extras.into_iter().flatten()) {
        *to = Some((place(fd)?, number));
    }
    let plan = Plan {
        new_session: true,
        berth: berth.as_ref().map(Berth::bounds),
        credentials: command.user.map(|u| (u.uid, u.gid, u.groups.clone())),
        directory,
        stdin,
        stdout,
        stderr,
        extras,
        report: report_number,
        open_files: command.open_files,
        program: command.program.to_owned(),
        argv: command.argv,
        argv_pointers,
        environment: command.environment,
    };
    let mut stage = Box::new(Stage::new(plan));
    let pid = stage.launch(share_memory).map_err(fork_failed)?;
    Ok(Starting { pid, report, berth, ended: false, _stage: stage })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::pipe::pipe;
    use std::io::{Read, Write};

    /// Starts a shell that says what it reads on three descriptors, one line each.
    fn said_with(numbers: &str, extras: Extras<'_>) -> String {
        let root = std::fs::File::open("/").unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let (said, stdout) = pipe().unwrap();
        let script =
            format!("for fd in {numbers}; do read -r line </proc/self/fd/$fd && echo $fd $line; done");
        let script = CString::new(script).unwrap();
        let mut starting = start(Command {
            directory: root.as_fd(),
            program: c"/bin/sh",
            argv: [c"sh", c"-c", &script].map(CStr::to_owned).to_vec(),
            environment: Rc::new(Environment::new(Vec::new())),
            stdin: null.as_fd(),
            stdout: Some(stdout.as_fd()),
            stderr: None,
            extras,
            user: None,
            open_files: None,
            berths: None,
        })
        .unwrap();
        drop(stdout);
        let mut text = String::new();
        std::fs::File::from(said).read_to_string(&mut text).unwrap();
        let pid = rustix::process::Pid::from_raw(starting.pid()).unwrap();
        let ended = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        assert!(ended.is_ok_and(|ended| ended.is_some()));
        poll(&mut [PollFd::new(&starting, PollFlags::IN)], None).unwrap();
        assert_eq!(starting.report(), Report::Executed);
        text
    }

    /// Moves what it is given to a certain number of this process.
    fn at(number: i32, text: &str) -> OwnedFd {
        let (reader, writer) = pipe().unwrap();
        std::fs::File::from(writer).write_all(text.as_bytes()).unwrap();
        let moved = rustix::io::fcntl_dupfd_cloexec(&reader, number).unwrap();
        assert_eq!(moved.as_raw_fd(), number, "the number was free");
        moved
    }

    #[test]
    fn extra_descriptors_that_are_in_each_others_places_get_there() {
        // High numbers, which no other test of this process has.
        let [a, b, c] = [(900, "a\n"), (901, "b\n"), (902, "c\n")].map(|(number, text)| at(number, text));
        let round = [Some((a.as_fd(), 901)), Some((b.as_fd(), 902)), Some((c.as_fd(), 900))];
        assert_eq!(said_with("900 901 902", round), "900 c\n901 a\n902 b\n");
    }

    #[test]
    fn extra_descriptors_may_be_in_place_already() {
        let [a, b, c] = [(910, "a\n"), (911, "b\n"), (912, "c\n")].map(|(number, text)| at(number, text));
        let as_they_are = [Some((a.as_fd(), 910)), Some((b.as_fd(), 911)), Some((c.as_fd(), 912))];
        assert_eq!(said_with("910 911 912", as_they_are), "910 a\n911 b\n912 c\n");
    }
}
