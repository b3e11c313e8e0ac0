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

use crate::raw::{self, Plan, Stage, step};
use crate::user::User;

pub use crate::raw::Environment;

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
    /// One more descriptor and the number it has in the program.
    pub extra: Option<(BorrowedFd<'a>, i32)>,
    /// The user to become; ours when `None`.
    pub user: Option<&'a User>,
    /// Limit of open files (soft, hard) to give back.
    pub open_files: Option<(u64, u64)>,
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
    pub fn report(&self) -> Report {
        let mut record = [0_u8; raw::REPORT_LEN];
        match read(&self.report, &mut record) {
            Err(Errno::AGAIN | Errno::INTR) => Report::Pending,
            Ok(length) if length == record.len() => {
                let record = u64::from_le_bytes(record);
                let step = Step::from_number(u32::try_from(record & 0xffff_ffff).unwrap_or(0));
                let errno = Errno::from_raw_os_error(i32::try_from(record >> 32).unwrap_or(libc::EIO));
                Report::Failed(StartFailure { step, errno })
            }
            Ok(_) | Err(_) => Report::Executed,
        }
    }
}

impl AsFd for Starting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}

/// Starts `command` in a new session, with an empty signal mask, and returns at once.
///
/// The caller must have blocked all signals (see [`crate::signal::block_all`]) and must keep the
/// descriptors named in `command` open until the next call into this module at least: the child has
/// its own table of descriptors from the start.
///
/// # Errors
/// The `Fork` step only; everything later comes through [`Starting::report`].
pub fn start(command: Command<'_>) -> Result<Starting, StartFailure> {
    let fork_failed = |errno| StartFailure { step: Step::Fork, errno };
    let (report, report_writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(fork_failed)?;
    let share_memory = command.user.is_none();
    let argv_pointers = raw::null_terminated(&command.argv);
    let plan = Plan {
        new_session: true,
        credentials: command.user.map(|u| (u.uid, u.gid, u.groups.clone())),
        directory: command.directory.as_raw_fd(),
        stdin: command.stdin.as_raw_fd(),
        stdout: command.stdout.map(|fd| fd.as_raw_fd()),
        stderr: command.stderr.map(|fd| fd.as_raw_fd()),
        extra: command.extra.map(|(fd, number)| (fd.as_raw_fd(), number)),
        report: report_writer.as_raw_fd(),
        open_files: command.open_files,
        program: command.program.to_owned(),
        argv: command.argv,
        argv_pointers,
        environment: command.environment,
    };
    let mut stage = Box::new(Stage::new(plan));
    let pid = stage.launch(share_memory).map_err(fork_failed)?;
    Ok(Starting { pid, report, _stage: stage })
}
