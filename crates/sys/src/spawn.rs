//! Starts a service's process without waiting for it.
//!
//! The child is cloned, and a pipe that closes on exec tells whether it reached its program. If the
//! child has the same user, it gains nothing by reaching into our memory, so it shares the memory
//! until exec. Then no page table is copied, which makes starting five hundred services cheap. A
//! child that changes its user gets a copy.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::io::{Errno, read};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::descriptor_pool::{DescriptorPool, PooledDescriptors};
use crate::raw::{self, ChildMemory, ChildPlan, step};
use crate::user::User;

pub use crate::raw::Environment;

/// Descriptors besides the standard ones, each with its number in the program.
pub type Extras<'a> = [Option<(BorrowedFd<'a>, i32)>; EXTRAS];

/// The most descriptors besides the standard ones that a program can be given.
pub const EXTRAS: usize = raw::EXTRAS;

/// A program to start, with all that it gets.
#[derive(Debug)]
pub struct ProcessSpec<'a> {
    /// The directory in which it starts and to which `program` is relative.
    pub directory: BorrowedFd<'a>,
    /// The program's path, relative to `directory`.
    pub program: &'a CStr,
    /// All arguments, the program's name first.
    pub argv: Vec<CString>,
    /// The environment of the program.
    pub environment: Rc<Environment>,
    /// The descriptor that becomes standard input.
    pub stdin: BorrowedFd<'a>,
    /// The descriptor that becomes standard output; ours if `None`.
    pub stdout: Option<BorrowedFd<'a>>,
    /// The descriptor that becomes standard error; ours if `None`.
    pub stderr: Option<BorrowedFd<'a>>,
    /// More descriptors, each with its number in the program. If two have the same number, the
    /// later one counts.
    pub extras: Extras<'a>,
    /// The user that the process becomes; ours if `None`.
    pub user: Option<&'a User>,
    /// The settings that we changed for ourselves and the process gets back.
    pub given_back: GivenBack,
    /// The pool from which it may start. [`Starting::report`] must be called for the pooled range
    /// to become free again.
    pub pool: Option<&'a DescriptorPool>,
}

/// Settings that a process has changed for itself and restores for its children; `None` for those
/// that it did not change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GivenBack {
    /// The limit of open files, soft and hard.
    pub open_files: Option<(u64, u64)>,
    /// The limit of the size of a core file, soft and hard.
    pub core: Option<(u64, u64)>,
    /// The adjustment of the kernel's choice when memory is short.
    pub oom_score_adj: Option<i32>,
}

/// How a process is isolated from its siblings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Isolation {
    /// The number of a descriptor of `supervise/service-lock`. The file is made if it is missing,
    /// and locked before the program is executed. While another process holds that lock, the
    /// started process waits.
    pub lock: Option<i32>,
    /// Whether it becomes the first process of a PID namespace.
    pub pid_namespace: bool,
}

/// The step before the program's first instruction that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartStep {
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
    /// The lock of the service could not be taken.
    Lock,
    /// The PID namespace could not be made.
    Namespace,
    /// The program could not be executed.
    Exec,
}

impl StartStep {
    fn from_number(number: u32) -> Self {
        match number {
            step::LIMITS => Self::Limits,
            step::GROUPS | step::GROUP | step::USER => Self::User,
            step::DIRECTORY => Self::Directory,
            step::DESCRIPTORS => Self::Descriptors,
            step::LOCK => Self::Lock,
            _ => Self::Exec,
        }
    }

    /// Returns the words for the step in a message.
    pub fn words(self) -> &'static str {
        match self {
            Self::Fork => "forking",
            Self::Limits => "setting limits",
            Self::User => "setting user",
            Self::Directory => "changing directory",
            Self::Descriptors => "passing descriptors",
            Self::Lock => "locking",
            Self::Namespace => "making a PID namespace for",
            Self::Exec => "executing",
        }
    }
}

/// Why a process did not become its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartFailure {
    /// What the child was doing.
    pub step: StartStep,
    /// The kernel's error.
    pub errno: Errno,
}

/// A process that has not reached its program yet.
#[derive(Debug)]
pub struct Starting {
    pid: i32,
    report: OwnedFd,
    /// The pooled range, held until the child has its own table of descriptors.
    pooled: Option<PooledDescriptors>,
    ended: bool,
    /// Whether it is waiting for the lock.
    waits: bool,
    /// Whether it ever had to wait for the lock.
    has_waited: bool,
    /// The memory that the child uses; freed only when the report says that the child no longer
    /// does.
    child: Box<ChildMemory>,
    /// The pool that takes the stack back then.
    pool: Option<DescriptorPool>,
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.keep(std::mem::take(&mut self.child.stack));
        }
    }
}

/// What is known about a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartReport {
    /// Nothing is known yet.
    Pending,
    /// Another process holds the lock, so this one waits. Reported once.
    Blocked,
    /// The program has been executed, or the child died before it could say anything.
    Executed,
    /// It failed, and the process is ending.
    Failed(StartFailure),
}

impl Starting {
    /// Returns the process number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns what is known now, without waiting. Drop this value after any answer but `Pending`
    /// and `Blocked`.
    pub fn report(&mut self) -> StartReport {
        let mut bytes = [0_u8; raw::REPORT_LEN + 3];
        loop {
            let said: &[u8] = match read(&self.report, &mut bytes) {
                // A process that has ended can report nothing more, even if another child still
                // holds its end of the pipe for an instant.
                Err(Errno::AGAIN | Errno::INTR) if self.ended => return self.last_word(),
                Err(Errno::AGAIN | Errno::INTR) => return StartReport::Pending,
                Ok(length) => bytes.get(..length).unwrap_or_default(),
                Err(_) => &[],
            };
            let mut record = said;
            // A record begins with the number of a step, which differs from all of these bytes.
            while let Some((word, rest)) = record.split_first() {
                match *word {
                    // Our copy of the pipe's write end goes with the pooled range; after that, the
                    // exec can be seen.
                    raw::UNSHARED => self.pooled = None,
                    raw::BLOCKED => self.waits = true,
                    raw::LOCKED => self.waits = false,
                    _ => break,
                }
                record = rest;
            }
            if record.is_empty() && !said.is_empty() {
                if self.waits && !self.has_waited {
                    self.has_waited = true;
                    return StartReport::Blocked;
                }
                continue;
            }
            let Ok(record) = <[u8; raw::REPORT_LEN]>::try_from(record) else { return self.last_word() };
            let record = u64::from_le_bytes(record);
            let step = StartStep::from_number(u32::try_from(record & 0xffff_ffff).unwrap_or(0));
            let errno = Errno::from_raw_os_error(i32::try_from(record >> 32).unwrap_or(libc::EIO));
            return StartReport::Failed(StartFailure { step, errno });
        }
    }

    /// Interprets the end of the report: exec has closed it, or the death of the process.
    fn last_word(&self) -> StartReport {
        if self.waits {
            StartReport::Failed(StartFailure { step: StartStep::Lock, errno: Errno::INTR })
        } else {
            StartReport::Executed
        }
    }

    /// Returns whether [`StartReport::Blocked`] was reported.
    pub fn has_waited(&self) -> bool {
        self.has_waited
    }

    /// Notes that the process has ended. After this, [`Starting::report`] is never `Pending`.
    pub fn ended(&mut self) {
        self.ended = true;
        self.pooled = None;
    }
}

impl AsFd for Starting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}

/// Starts `command` in a new session, with an empty signal mask, and returns at once.
///
/// The caller must have blocked all signals (see [`crate::signal::block_all`]). The descriptors
/// named in `command` are needed until this returns: the child has its own table of descriptors, or
/// finds them in its range of the pool.
///
/// # Errors
/// Only failures of the `Fork` step; everything later comes through [`Starting::report`].
pub fn start(command: ProcessSpec<'_>) -> Result<Starting, StartFailure> {
    start_isolated(command, Isolation::default())
}

/// Does the same as [`start`], and isolates the process.
///
/// A process that may wait for a lock needs a pooled range: without one it would keep its parent's
/// other descriptors open meanwhile. So it fails with `EAGAIN` instead.
///
/// # Errors
/// Only failures of the `Fork` and `Namespace` steps; everything later comes through
/// [`Starting::report`].
pub fn start_isolated(command: ProcessSpec<'_>, isolation: Isolation) -> Result<Starting, StartFailure> {
    let fork_failed = |errno| StartFailure { step: StartStep::Fork, errno };
    let (report, report_writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(fork_failed)?;
    let share_memory = may_share_memory(&command, isolation);
    let argv_pointers = raw::null_terminated(&command.argv);
    // Without a free range, the child gets a copy of all descriptors, which takes longer and works
    // as well.
    let mut pooled = command.pool.and_then(DescriptorPool::take);
    let mut place = |fd: BorrowedFd<'_>| match &mut pooled {
        Some(pooled) => pooled.hold(fd).map_err(fork_failed),
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
    let plan = ChildPlan {
        new_session: true,
        pooled: pooled.as_ref().map(PooledDescriptors::bounds),
        credentials: command.user.map(|u| (u.uid, u.gid, u.groups.clone())),
        directory,
        stdin,
        stdout,
        stderr,
        extras,
        lock: isolation.lock,
        pid_namespace: isolation.pid_namespace,
        report: report_number,
        open_files: command.given_back.open_files,
        core: command.given_back.core,
        oom_score_adj: command.given_back.oom_score_adj.map(|number| number.to_string().into_bytes()),
        program: command.program.to_owned(),
        argv: command.argv,
        argv_pointers,
        environment: command.environment,
    };
    let stack = command.pool.map_or_else(raw::stack, DescriptorPool::stack);
    let mut child = Box::new(ChildMemory::new(stack, plan));
    let step = if isolation.pid_namespace { StartStep::Namespace } else { StartStep::Fork };
    let pid = child.launch(share_memory).map_err(|errno| StartFailure { step, errno })?;
    Ok(Starting {
        pid,
        report,
        pooled,
        ended: false,
        waits: false,
        has_waited: false,
        child,
        pool: command.pool.cloned(),
    })
}

/// Returns whether a child may run in our memory until exec.
///
/// A waiting child may be sent a signal that dumps core; before Linux 5.16 that ends all processes
/// that share the memory. The kernel sets the OOM adjustment for all processes that share the
/// memory, so a child that gets its own adjustment back needs its own memory. (If we gave it back
/// after exec, that would be too late for processes which the program has started by then.)
fn may_share_memory(command: &ProcessSpec<'_>, isolation: Isolation) -> bool {
    command.user.is_none() && isolation == Isolation::default() && command.given_back.oom_score_adj.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::pipe::pipe;
    use std::io::{Read, Write};

    /// Starts a shell that reads three descriptors and prints one line of each.
    fn said_with(numbers: &str, extras: Extras<'_>) -> String {
        let root = std::fs::File::open("/").unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let (said, stdout) = pipe().unwrap();
        let script =
            format!("for fd in {numbers}; do read -r line </proc/self/fd/$fd && echo $fd $line; done");
        let script = CString::new(script).unwrap();
        let mut starting = start(ProcessSpec {
            directory: root.as_fd(),
            program: c"/bin/sh",
            argv: [c"sh", c"-c", &script].map(CStr::to_owned).to_vec(),
            environment: Rc::new(Environment::new(Vec::new())),
            stdin: null.as_fd(),
            stdout: Some(stdout.as_fd()),
            stderr: None,
            extras,
            user: None,
            given_back: GivenBack::default(),
            pool: None,
        })
        .unwrap();
        drop(stdout);
        let mut text = String::new();
        std::fs::File::from(said).read_to_string(&mut text).unwrap();
        let pid = rustix::process::Pid::from_raw(starting.pid()).unwrap();
        let ended = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        assert!(ended.is_ok_and(|ended| ended.is_some()));
        poll(&mut [PollFd::new(&starting, PollFlags::IN)], None).unwrap();
        assert_eq!(starting.report(), StartReport::Executed);
        text
    }

    /// Moves a pipe with this text to a certain number of this process.
    fn at(number: i32, text: &str) -> OwnedFd {
        let (reader, writer) = pipe().unwrap();
        std::fs::File::from(writer).write_all(text.as_bytes()).unwrap();
        let moved = rustix::io::fcntl_dupfd_cloexec(&reader, number).unwrap();
        assert_eq!(moved.as_raw_fd(), number, "the number was free");
        moved
    }

    #[test]
    fn extra_descriptors_that_are_in_each_others_places_get_there() {
        // High numbers, which no other test in this process uses.
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

    #[test]
    fn a_child_gets_back_what_its_parent_has_changed_and_the_parent_keeps_its_own() {
        let score = || std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
        let before = score();
        let (said, stdout) = pipe().unwrap();
        let (root, null) = (std::fs::File::open("/").unwrap(), std::fs::File::open("/dev/null").unwrap());
        let mut starting = start(ProcessSpec {
            directory: root.as_fd(),
            program: c"/bin/sh",
            argv: [c"sh", c"-c", c"echo $(ulimit -Sn) $(ulimit -Sc) $(cat /proc/self/oom_score_adj)"]
                .map(CStr::to_owned)
                .to_vec(),
            environment: Rc::new(Environment::new(vec![c"PATH=/bin:/usr/bin".to_owned()])),
            stdin: null.as_fd(),
            stdout: Some(stdout.as_fd()),
            stderr: None,
            extras: [None; EXTRAS],
            user: None,
            // A process without the right to lower the adjustment may raise it, and no process has
            // a higher one.
            given_back: GivenBack {
                open_files: Some((77, 77)),
                core: Some((0, 0)),
                oom_score_adj: Some(1000),
            },
            pool: None,
        })
        .unwrap();
        drop(stdout);
        let mut text = String::new();
        std::fs::File::from(said).read_to_string(&mut text).unwrap();
        assert_eq!(text, "77 0 1000\n");
        assert_eq!(next(&mut starting), StartReport::Executed);
        assert_eq!(reap(&starting), Some(0));
        assert_eq!(score(), before);
    }

    /// A directory with a `supervise/` whose lock this thread holds.
    struct Held {
        root: std::path::PathBuf,
        lock: Option<OwnedFd>,
        null: std::fs::File,
        /// `None` on an older kernel.
        pool: Option<DescriptorPool>,
    }

    impl Held {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("gatevisor-{name}-{}", std::process::id()));
            std::fs::create_dir_all(root.join("supervise")).unwrap();
            let null = std::fs::File::open("/dev/null").unwrap();
            // This comes first: it gives this thread of the test its own table of descriptors, to
            // which its locks then belong.
            let pool = DescriptorPool::new(&null, 1).ok();
            let lock =
                crate::file::lock(std::fs::File::open(root.join("supervise")).unwrap(), "service-lock")
                    .unwrap();
            Self { root, lock, null, pool }
        }

        /// Starts a program that ends at once if its descriptor 9 is the lock.
        fn start(&self, pool: Option<&DescriptorPool>) -> Starting {
            let directory = std::fs::File::open(&self.root).unwrap();
            let command = ProcessSpec {
                directory: directory.as_fd(),
                program: c"/bin/sh",
                argv: [c"sh", c"-c", c"test /proc/self/fd/9 -ef supervise/service-lock"]
                    .map(CStr::to_owned)
                    .to_vec(),
                environment: Rc::new(Environment::new(Vec::new())),
                stdin: self.null.as_fd(),
                stdout: None,
                stderr: None,
                extras: [None; EXTRAS],
                user: None,
                given_back: GivenBack::default(),
                pool,
            };
            start_isolated(command, Isolation { lock: Some(9), pid_namespace: false }).unwrap()
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.root);
        }
    }

    fn next(starting: &mut Starting) -> StartReport {
        loop {
            match starting.report() {
                StartReport::Pending => poll(&mut [PollFd::new(starting, PollFlags::IN)], None).unwrap(),
                report => return report,
            };
        }
    }

    fn reap(starting: &Starting) -> Option<i32> {
        let pid = rustix::process::Pid::from_raw(starting.pid());
        let ended = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
        ended.unwrap().unwrap().1.exit_status()
    }

    #[test]
    fn a_process_waits_for_the_lock_and_says_so_once() {
        let mut held = Held::new("waits");
        let Some(pool) = held.pool.take() else { return };
        let mut starting = held.start(Some(&pool));
        assert_eq!(next(&mut starting), StartReport::Blocked);
        assert!(starting.has_waited() && pool.has_free());
        assert_eq!(starting.report(), StartReport::Pending);
        held.lock = None;
        assert_eq!(next(&mut starting), StartReport::Executed);
        assert_eq!(reap(&starting), Some(0));
    }

    #[test]
    fn where_the_system_refuses_a_common_memory_and_table_a_process_starts_with_copies() {
        raw::copy_everything();
        let [a, b, c] = [(920, "a\n"), (921, "b\n"), (922, "c\n")].map(|(number, text)| at(number, text));
        let round = [Some((a.as_fd(), 921)), Some((b.as_fd(), 922)), Some((c.as_fd(), 920))];
        assert_eq!(said_with("920 921 922", round), "920 c\n921 a\n922 b\n");
        let mut held = Held::new("copies");
        let Some(pool) = held.pool.take() else { return };
        let mut starting = held.start(Some(&pool));
        assert_eq!(next(&mut starting), StartReport::Blocked);
        assert!(pool.has_free(), "its range of the pool was given back before its exec");
        held.lock = None;
        assert_eq!(next(&mut starting), StartReport::Executed);
        assert_eq!(reap(&starting), Some(0));
    }

    #[test]
    fn a_process_that_ends_while_it_waits_for_the_lock_never_ran() {
        let mut held = Held::new("ends");
        let Some(pool) = held.pool.take() else { return };
        let mut starting = held.start(Some(&pool));
        assert_eq!(next(&mut starting), StartReport::Blocked);
        let pid = rustix::process::Pid::from_raw(starting.pid()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let failure = StartFailure { step: StartStep::Lock, errno: Errno::INTR };
        assert_eq!(next(&mut starting), StartReport::Failed(failure));
        assert_eq!(reap(&starting), None);
    }

    #[test]
    fn without_pooled_descriptors_a_process_does_not_wait_for_the_lock() {
        let mut held = Held::new("poolless");
        let mut starting = held.start(None);
        let failure = StartFailure { step: StartStep::Lock, errno: Errno::AGAIN };
        assert_eq!(next(&mut starting), StartReport::Failed(failure));
        assert_eq!(reap(&starting), Some(127));
        held.lock = None;
        let mut starting = held.start(None);
        assert_eq!(next(&mut starting), StartReport::Executed);
        assert_eq!(reap(&starting), Some(0));
    }

    #[test]
    fn a_process_with_a_lock_ends_if_nobody_listens_when_it_gets_it() {
        let mut held = Held::new("further_events");
        let Some(pool) = held.pool.take() else { return };
        let mut starting = held.start(Some(&pool));
        assert_eq!(next(&mut starting), StartReport::Blocked);
        let pid = rustix::process::Pid::from_raw(starting.pid());
        drop(starting);
        held.lock = None;
        let ended = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap().unwrap().1;
        // It ends by the signal of a broken pipe, or by itself if that signal is ignored.
        assert_ne!(ended.exit_status(), Some(0));
    }
}
